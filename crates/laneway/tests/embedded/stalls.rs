//! Handlers that are at a record for longer than is allowed.

use std::sync::atomic::{AtomicBool, Ordering as Atomic};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use laneway::{ErrorKind, Event, Ordering, OwnedRecord, Record, StallAction};
use laneway_testing::wait_until;

use crate::bench::{Bench, LONG};

const LIMIT: Duration = Duration::from_millis(300);

/// Delivers records with keys of their own.
fn deliver(bench: &Bench, offsets: std::ops::Range<i64>) {
    let record = |offset: i64| OwnedRecord {
        topic: bench.topic.clone(),
        offset,
        key: Some(format!("key {offset}").into_bytes()),
        ..OwnedRecord::default()
    };
    bench.fetcher.deliver_records(&bench.partition(0), offsets.map(record).collect(), None);
}

/// What was told of stalls: offset, key, and whether the age is above the limit.
fn stalls(bench: &Bench) -> Vec<(i64, Option<String>, bool)> {
    let events = bench.events.lock().unwrap();
    let told = events.iter().filter_map(|event| match event {
        Event::Stalled { lane, offset, key, age } => {
            assert_eq!(lane.partition, bench.partition(0));
            let key = key.as_ref().map(|key| String::from_utf8(key.clone()).unwrap());
            Some((*offset, key, *age >= LIMIT))
        }
        _ => None,
    });
    told.collect()
}

#[test]
fn a_stall_is_told_once_shown_as_long_as_it_lasts_and_holds_up_no_other_key() {
    let bench = Bench::new(1);
    let builder = bench.builder().fetcher(bench.fetcher.clone()).ordering(Ordering::Key);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let waits = gate.clone();
    let (handle, run) = bench.run(builder.stall(LIMIT, StallAction::Report), move |record: Record| {
        let gate = waits.clone();
        async move {
            if record.offset() == 2 {
                gate.acquire().await.expect("an open gate").forget();
            }
        }
    });
    deliver(&bench, 0..4);
    let stalled = || handle.status().lanes.iter().map(|lane| lane.stalled).sum::<u64>();
    wait_until(LONG, "it is told", || !stalls(&bench).is_empty());
    wait_until(LONG, "it is shown", || stalled() == 1);
    deliver(&bench, 4..8);
    wait_until(LONG, "the others are done", || handle.status().finished == 7);
    let lane = &handle.status().lanes[0];
    assert_eq!((lane.watermark, lane.in_flight, lane.stalled), (Some(2), 1, 1));
    gate.add_permits(1);
    wait_until(LONG, "all is committed", || bench.committed(0) == 8);
    wait_until(LONG, "it is no longer shown", || stalled() == 0);
    bench.end((handle, run));
    assert_eq!(stalls(&bench), [(2, Some("key 2".into()), true)]);
}

#[test]
fn a_member_that_is_to_leave_for_a_stall_commits_what_is_finished_and_names_the_record() {
    let bench = Bench::new(1);
    let builder = bench.builder().fetcher(bench.fetcher.clone()).ordering(Ordering::Key);
    let builder = builder.drain_deadline(Duration::from_millis(200)).stall(LIMIT, StallAction::Leave);
    let cancelled = Arc::new(AtomicBool::new(false));
    let noted = cancelled.clone();
    let (_, run) = bench.run(builder, move |record: Record| {
        let noted = noted.clone();
        async move {
            if record.offset() == 2 {
                let _set = SetWhenDropped(noted);
                std::future::pending::<()>().await;
            }
        }
    });
    deliver(&bench, 0..4);
    let ended = bench.runtime.block_on(async { tokio::time::timeout(LONG, run).await });
    let error = ended.expect("an end in time").unwrap().expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::Stalled);
    let name = format!("{} at offset 2 (key \"key 2\")", bench.partition(0));
    assert!(error.to_string().contains(&name) && error.to_string().contains("0.3 s are allowed"), "{error}");
    assert_eq!(bench.committed(0), 2);
    assert!(cancelled.load(Atomic::SeqCst));
    let left = bench.events.lock().unwrap().iter().any(|event| matches!(event, Event::Revoked { .. }));
    assert!(left, "its partition was given back");
}

struct SetWhenDropped(Arc<AtomicBool>);

impl Drop for SetWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Atomic::SeqCst);
    }
}

#[test]
fn a_handler_that_blocks_its_lane_is_seen_from_outside() {
    let bench = Bench::new(2);
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let waits = gate.clone();
    let builder = bench.builder().fetcher(bench.fetcher.clone()).stall(LIMIT, StallAction::Report);
    let (handle, run) = bench.run(builder, move |record: Record| {
        if record.partition() == 0 && record.offset() == 1 {
            let open = waits.0.lock().unwrap();
            drop(waits.1.wait_while(open, |open| !*open).unwrap());
        }
        std::future::ready(())
    });
    for number in 0..2 {
        bench.fetcher.deliver(&bench.partition(number), 0..3, None);
    }
    wait_until(LONG, "it is told", || !stalls(&bench).is_empty());
    let shown = |lane: &laneway::LaneStatus| (lane.lane.partition.partition, lane.stalled);
    assert_eq!(handle.status().lanes.iter().map(shown).collect::<Vec<_>>(), [(0, 1), (1, 0)]);
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    wait_until(LONG, "all is committed", || bench.committed(0) == 3 && bench.committed(1) == 3);
    bench.end((handle, run));
    assert_eq!(stalls(&bench), [(1, None, true)]);
}

#[test]
fn a_limit_of_nothing_for_stalls_is_refused() {
    let bench = Bench::new(1);
    let refused = bench.builder().stall(Duration::ZERO, StallAction::Leave).build().expect_err("an error");
    assert_eq!(refused.kind(), ErrorKind::Config);
}
