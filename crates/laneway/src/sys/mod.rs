//! librdkafka, wrapped: the only place with `unsafe` code.
//!
//! What crosses into C and back follows four rules. Everything that comes from a call is copied at once
//! into types of our own, but for messages, which a [`NativeBatch`] owns. Every native object has one Rust
//! owner that destroys it, and holds an `Arc` of the [`Client`] it belongs to, so that the client goes
//! last. What a callback points to is freed only after the callback was switched off. Error codes are
//! numbers: brokers know some that the bindings do not.

mod admin;
mod batch;
mod certificate;
mod client;
mod config;
mod counted;
mod error;
mod event;
mod groups;
mod headers;
mod list;
mod log;
#[cfg(test)]
mod mock;
mod native;
mod partition;
mod producer;
mod queue;
mod raw;
#[cfg(test)]
mod tests;
mod topics;

pub(crate) use admin::{Committed, OffsetSpec, TopicInfo};
pub(crate) use batch::NativeBatch;
pub(crate) use client::Client;
pub(crate) use config::Config;
pub(crate) use counted::{Counted, Lent};
pub(crate) use error::{KafkaError, codes};
pub(crate) use event::{GroupOffset, NativeEvent};
pub(crate) use groups::GroupInfo;
pub(crate) use headers::NativeHeaders;
#[cfg(test)]
pub(crate) use mock::{MockCluster, Request, TestRecord, wait_for};
pub(crate) use native::{Native, set_token};
pub(crate) use partition::{LeftQueue, PartitionHandle};
pub(crate) use producer::{Produced, Producer, topic_name};
pub(crate) use queue::Queue;
pub(crate) use topics::TopicId;
