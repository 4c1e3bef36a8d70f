//! The long matrix, by key: a part of `cargo xtask prove`. Each test adds a line to the report.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use laneway::{Consumer, OffsetReset, Protocol, Record};
use laneway_testing::history::Invariant;
use laneway_testing::{unique, wait_until};

use crate::keyed::{keyed_moves, killed_with_unfinished};
use crate::moves::Rng;
use crate::prove::report;
use crate::support::{PROTOCOLS, Scene, runtime};

/// I3 and I5.
#[test]
#[ignore = "long: cargo xtask prove"]
fn prove_7_a_thousand_keys_through_moves() {
    for protocol in PROTOCOLS {
        let Some(moved) = keyed_moves(protocol, 1_000, 1_000, Duration::from_secs(2)) else { return };
        let counts = moved.report.counts;
        let order = moved.report.violations.iter().filter(|it| it.invariant == Invariant::I5).count();
        report(&format!(
            "\n1,000 keys of 1,000 records each ({protocol}), 64 in flight in each member, 0 to 20 ms each, every tenth try \
             failing, a member that joins or leaves every 2 s ({} of them in {:.0} s): {} records finished, {order} out of \
             the order of their key, {} lost, {} repeated; a commit forgot {} at most.",
            moved.moves,
            moved.took.as_secs_f64(),
            counts.finished,
            counts.losses,
            counts.duplicates,
            moved.forgotten
        ));
        moved.report.assert_ok();
        assert_eq!(counts.finished, 1_000_000);
    }
}

/// I4.
#[test]
#[ignore = "long: cargo xtask prove"]
fn prove_8_a_member_that_is_killed_with_much_unfinished() {
    let mut rng = Rng(u64::from(std::process::id()) << 20 | 1);
    for protocol in PROTOCOLS {
        for keys in [1, 10, 30] {
            let after = Duration::from_millis(rng.below(1_500));
            let Some(killed) = killed_with_unfinished(protocol, keys, after) else { return };
            let counts = killed.report.counts;
            report(&format!(
                "\nA member killed ({protocol}) with {} of {} records unfinished ({:.1} %), {} finished above them in its last \
                 commit: {} of those came again, {} records were lost.",
                killed.unfinished,
                killed.read,
                killed.unfinished as f64 * 100.0 / killed.read as f64,
                killed.ahead,
                killed.report.violations.len(),
                counts.losses
            ));
            killed.report.assert_ok();
        }
    }
}

/// Who is stuck, if anybody, and in what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stuck {
    /// One key of a thousand, by key, 64 in flight.
    Key,
    /// One lane of 32, one record in flight in each.
    Lane,
}

/// Records per second of all keys, or lanes, but the one that is stuck, or would be.
fn rate_of_the_others(scene: &Scene, stuck: Stuck, is_stuck: bool) -> f64 {
    let builder = Consumer::builder()
        .brokers(&scene.brokers)
        .group(unique("group"))
        .topics([&scene.topic])
        .protocol(Protocol::Consumer)
        .offset_reset(OffsetReset::Earliest)
        .drain_deadline(Duration::from_millis(100));
    let builder = match stuck {
        Stuck::Key => builder.ordering(laneway::Ordering::Key).concurrency(64),
        Stuck::Lane => builder,
    };
    let consumer = builder.build().expect("a consumer");
    let handle = consumer.handle();
    let (done, times): (Arc<AtomicU64>, Arc<[OnceLock<Instant>; 2]>) = Default::default();
    let (counted, noted) = (done.clone(), times.clone());
    let run = runtime().spawn(consumer.run(move |record: Record| {
        let (done, times) = (counted.clone(), noted.clone());
        async move {
            let is_the_one = match stuck {
                Stuck::Key => record.key() == Some(b"key-7"),
                Stuck::Lane => record.partition() == 7,
            };
            if is_the_one && is_stuck {
                return std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(8)).await;
            if !is_the_one {
                match done.fetch_add(1, Ordering::Relaxed) {
                    FROM => drop(times[0].set(Instant::now())),
                    TO => drop(times[1].set(Instant::now())),
                    _ => {}
                }
            }
        }
    }));
    wait_until(Duration::from_secs(120), "the others get on", || times[1].get().is_some());
    handle.stop();
    runtime().block_on(run).unwrap().expect("an end");
    let took = times[1].get().unwrap().duration_since(*times[0].get().unwrap());
    (TO - FROM) as f64 / took.as_secs_f64()
}

fn others_beside_a_stuck_one(stuck: Stuck, name: &str) {
    let Some(scene) = Scene::new("stuck", 32, Protocol::Consumer) else { return };
    // Of every key as many in a partition of its own choice.
    scene.produce_keyed(1_000, 24);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        without.push(rate_of_the_others(&scene, stuck, false));
        with.push(rate_of_the_others(&scene, stuck, true));
    }
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let (with, without) = (median(&mut with), median(&mut without));
    report(&format!(
        "\nOne stuck {name}: the others do {with:.0} records/s, and {without:.0} where it is not: {:.1} % (medians of 5 runs \
         of each, in turn; 8 ms a record).",
        with * 100.0 / without
    ));
}

/// I8.
#[test]
#[ignore = "long: cargo xtask prove"]
fn prove_9_others_beside_a_stuck_key() {
    others_beside_a_stuck_one(Stuck::Key, "key of 1,000, 64 records in flight");
}

/// I8.
#[test]
#[ignore = "long: cargo xtask prove"]
fn prove_9_others_beside_a_stuck_lane() {
    others_beside_a_stuck_one(Stuck::Lane, "lane of 32");
}

/// Records of the others between which the time is taken.
const FROM: u64 = 2_000;
const TO: u64 = 18_000;
