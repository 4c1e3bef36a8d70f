//! The recorder: in memory from several threads, and in a file from several processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::thread;
use std::time::{Duration, Instant};

use laneway_core::{Epoch, LaneId, TopicPartition};
use laneway_testing::history::{Expect, History, Invariant, Order, Recorder, What, check};
use laneway_testing::unique;

fn tp() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn lane(epoch: u64) -> LaneId {
    LaneId { partition: tp(), epoch: Epoch(epoch) }
}

#[test]
fn events_of_several_recorders_come_together_in_one_file() {
    let path = std::env::temp_dir().join(unique("laneway-history"));
    let recorder = Recorder::to_file(&path).unwrap();
    for offset in 0..3 {
        recorder.produced(&tp(), offset, (offset > 0).then_some(b"key"));
    }
    // Each member has a recorder of its own, as if it were a process.
    let run = |name: &str, offsets: std::ops::Range<i64>| {
        let member = Recorder::to_file(&path).unwrap().member(name);
        member.assigned(&lane(3));
        for offset in offsets.clone() {
            member.begun(&lane(3), offset);
            member.cancelled(&lane(3), offset);
            member.begun(&lane(3), offset);
            member.finished(&lane(3), offset);
        }
        member.committed_with_map(&tp(), offsets.start, &offsets.clone().collect::<Vec<_>>());
        member.committed(&tp(), offsets.end);
        member.revoked(&lane(3));
    };
    thread::scope(|s| drop(s.spawn(|| run("first one", 0..2)).join()));
    run("second", 2..3);
    recorder.killed("third");
    recorder.member("third").lost(&lane(9));
    recorder.member("third").stray(&tp(), 1);

    let history = recorder.history();
    assert_eq!(history.events().len(), 3 + 2 * 4 + 4 * 3 + 3);
    let report = check(&history, &Expect::graceful());
    assert!(report.broken(Invariant::I6) && report.violation_counts.len() == 1, "{report}");
    assert_eq!((report.counts.lanes, report.counts.commits), (2, 4));
    let first_key = history.events().iter().find_map(|e| match e.what {
        What::Produced { offset: 0, key, .. } => Some(key),
        _ => None,
    });
    assert_eq!(first_key, Some(None));

    // Somebody was killed in the middle of a line; and one that is whole and wrong is told.
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(b"123\tbegun\tfirst");
    std::fs::write(&path, &text).unwrap();
    assert_eq!(History::read(&path).unwrap().events(), history.events());
    text.push(b'\n');
    std::fs::write(&path, &text).unwrap();
    let error = History::read(&path).unwrap_err().to_string();
    assert!(error.contains("line 27 is not an event"), "{error}");
    std::fs::write(&path, "123\tkilled\ta\tb\n").unwrap();
    History::read(&path).unwrap_err();
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn threads_record_into_one_history_in_order() {
    let recorder = Recorder::in_memory();
    thread::scope(|scope| {
        for member in 0..4 {
            let member = recorder.member(&format!("m{member}"));
            scope.spawn(move || (0..1_000).for_each(|offset| member.begun(&lane(1), offset)));
        }
    });
    let history = recorder.history();
    assert_eq!(history.events().len(), 4_000);
    assert!(history.events().is_sorted_by_key(|e| e.at));
}

#[test]
fn a_history_of_a_million_events_is_checked_in_seconds() {
    let recorder = Recorder::in_memory();
    let begun = Instant::now();
    let member = recorder.member("a");
    for offset in 0..250_000 {
        recorder.produced(&tp(), offset, Some(&(offset % 1_000).to_le_bytes()));
        member.begun(&lane(1), offset);
        member.finished(&lane(1), offset);
        member.committed(&tp(), offset + 1);
    }
    let recorded = begun.elapsed();
    check(&recorder.history(), &Expect::graceful().order(Order::Key)).assert_ok();
    eprintln!("recorded in {recorded:?}, checked after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(20));
}
