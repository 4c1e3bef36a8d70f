//! Reads Kafka in parallel, one lane per partition, and finishes what it reads: correctly through every
//! rebalance.
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
pub use record::{Batch, Header, Headers, OwnedRecord, Record, Timestamp};
pub use status::{LaneState, LaneStatus, Status};
