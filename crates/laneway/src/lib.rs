//! Reads Kafka in parallel, one lane per partition, and finishes what it reads: correctly through every
//! rebalance.
//!
//! ```no_run
//! use laneway::{Consumer, OffsetReset, Record};
//!
//! # async fn example() -> Result<(), laneway::Error> {
//! let consumer = Consumer::builder()
//!     .brokers("localhost:9092")
//!     .group("billing")
//!     .topics(["orders"])
//!     .offset_reset(OffsetReset::Earliest)
//!     .build()?;
//! let summary = consumer
//!     .run(|record: Record| async move {
//!         println!("{}-{} at {}", record.topic(), record.partition(), record.offset());
//!         Ok::<_, std::io::Error>(())
//!     })
//!     .await?;
//! println!("{} records", summary.finished);
//! # Ok(())
//! # }
//! ```
//!
//! What is guaranteed, and what it costs, is in the [`manual`].
#![deny(unsafe_code)]

mod apart;
mod assign;
mod builder;
mod chain;
mod client;
mod config;
mod consumer;
mod dead_letters;
mod error;
mod event;
mod failures;
pub mod fetcher;
mod handle;
mod handler;
mod hooks;
mod lane;
pub mod manual;
mod oauth;
mod offsets;
mod ordering;
mod properties;
mod record;
mod retry_topics;
#[cfg(feature = "tower")]
mod service;
mod status;
mod streaming;
#[allow(unsafe_code)]
mod sys;
mod typed;

pub use apart::{Blocking, BlockingBatches, BlockingBatchesLane, BlockingLane, Spawned, SpawnedLane};
pub use assign::Start;
pub use builder::{Builder, StuckHandlers};
pub use chain::Chain;
pub use config::{OffsetReset, Protocol};
pub use consumer::{Consumer, StopReason, Summary};
pub use error::{Error, ErrorKind};
pub use event::{Event, LaneStart, NativeClient, StartedFrom};
pub use failures::{GiveUp, StallAction, StormGuard};
pub use handle::{GroupMetadata, Handle};
pub use handler::{
    BatchOutcome, Batches, Batching, Closing, Handler, IntoBatchOutcome, IntoOutcome, MakeHandler, Outcome,
};
pub use hooks::{HookError, LaneHooks};
pub use lane::MemoryStatus;
pub use laneway_core::{Epoch, LaneId, Position, TopicPartition};
pub use oauth::{Token, TokenProvider};
pub use offsets::{OffsetMap, PartitionOffsets};
pub use ordering::{Keyless, Ordering};
pub use record::{Batch, Header, Headers, OwnedRecord, Record, Timestamp};
#[cfg(feature = "tower")]
pub use service::ServiceHandler;
pub use status::{LaneState, LaneStatus, Status};
pub use streaming::{Ack, Delivery, Fenced, Lane, Lanes};
#[cfg(feature = "json")]
pub use typed::Json;
pub use typed::{Decode, Typed};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// So do those of failures.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/FAILURES.md")]
struct Failing;

/// So do those of the way from rdkafka.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/MIGRATION.md")]
struct Migration;
