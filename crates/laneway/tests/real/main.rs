//! Laneway against a real Apache Kafka: what must hold through every kind of rebalance, crash and stop, in
//! all three protocols. Skipped, with a line, where there is no Java or Maven; see `real_kafka_or_skip`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod by_hand;
mod crashes;
mod cycles;
mod deadlines;
mod endure;
mod hooks;
mod keyed;
mod keyed_prove;
mod lanes;
#[path = "../logged/mod.rs"]
mod logged;
mod made_again;
mod memory;
mod metadata;
mod moves;
mod parity;
mod protocols;
mod prove;
mod retries;
mod statics;
mod streams;
mod subscribe;
mod superseded;
mod support;
mod thrown_out;

#[test]
#[ignore = "a member process of other tests"]
fn member_process() {
    support::run_member_process();
}
