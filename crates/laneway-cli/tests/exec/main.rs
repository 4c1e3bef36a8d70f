//! The contract of `--exec`: the real command, real shells as workers, and the embedded Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod failures;
mod worker;
