//! What tests of Kafka consumers use.
//!
//! - [`EmbeddedKafka`]: librdkafka's mock cluster, in this process, up in milliseconds. It serves real groups in
//!   all three protocols, and fails on request. What it cannot do is said there.
//! - [`RealKafka`]: one node of Apache Kafka, started on demand from Maven's jars, which dies with the test.
//! - [`Producer`], [`Admin`], [`Reader`]: small blocking clients, for what surrounds the consumer under test.
//! - [`history`]: what a consumer did, recorded, and checked against what it promised.
//! - [`ScriptedFetcher`]: takes the place of a consumer's fetcher, and delivers what a test wants.
//! - [`Process`], [`wait_until`]: children under control, and waiting for a condition instead of sleeping.
//!
//! Calls block; from async code use a thread of their own for them. Clients say nothing on standard error: what
//! goes wrong is an [`Error`], one sentence.

mod admin;
pub mod code;
mod embedded;
mod error;
mod guard;
pub mod history;
mod process;
mod producer;
mod reader;
mod real;
mod scripted;
mod sys;
mod wait;

pub use admin::{Admin, Committed, GroupDescription, GroupKind, Member, Operation, Permission, Resource};
pub use code::ApiKey;
pub use embedded::{EmbeddedKafka, EmbeddedOptions, Request};
pub use error::Error;
pub use process::Process;
pub use producer::{Header, Producer};
pub use reader::{ReadRecord, Reader};
pub use real::{RealKafka, RealOptions, real_kafka_or_skip};
pub use scripted::ScriptedFetcher;
pub use wait::{try_wait_until, unique, wait_until};
