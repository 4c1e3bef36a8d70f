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

mod builder;
mod client;
mod config;
mod consumer;
mod error;
mod event;
pub mod fetcher;
mod handler;
mod lane;
pub mod manual;
mod oauth;
mod properties;
mod record;
mod status;
#[allow(unsafe_code)]
mod sys;

pub use builder::{Builder, StuckHandlers};
pub use config::{OffsetReset, Protocol};
pub use consumer::{Consumer, Handle, StopReason, Summary};
pub use error::{Error, ErrorKind};
pub use event::{Event, LaneStart, StartedFrom};
pub use handler::{Closing, Handler, IntoOutcome, MakeHandler, Outcome};
pub use laneway_core::{Epoch, LaneId, Position, TopicPartition};
pub use oauth::{Token, TokenProvider};
pub use record::{Batch, Header, Headers, OwnedRecord, Record, Timestamp};
pub use status::{LaneState, LaneStatus, Status};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
