//! Lanes on the embedded Kafka: its group is real, and what is fetched is scripted, or real, as a test wants.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod by_hand;
mod failures;
mod handlers;
mod hooks;
#[path = "../logged/mod.rs"]
mod logged;
mod maps;
mod memory;
mod ordering;
mod panics;
mod parity;
mod retry_topics;
mod stalls;
mod streaming;
