//! What is finished ahead of the watermark is remembered with the commit, and not done again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use laneway::{Builder, Ordering, Protocol, Record, Summary};
use laneway_testing::{Admin, ApiKey, Committed, Producer, wait_until};

use crate::bench::{Bench, LONG};

/// Runs a consumer whose handler never ends at some offsets, until all others of `0..count` that it is given have
/// ended; then stops it, which cancels those. Answers what ended, and how the stop went.
fn run(
    bench: &Bench,
    builder: Builder,
    start: i64,
    count: i64,
    stuck: &'static [i64],
    finish: usize,
) -> (Vec<i64>, Summary) {
    let ended: Arc<Mutex<Vec<i64>>> = Arc::default();
    let noted = ended.clone();
    let starts = bench.fetcher.starts().len();
    let builder = builder.ordering(Ordering::Unordered).drain_deadline(Duration::from_millis(100));
    // Its classic groups wait a whole session when a member comes back.
    let builder = builder.protocol(Protocol::Consumer);
    let running = bench.run(builder.fetcher(bench.fetcher.clone()), move |record: Record| {
        let ended = noted.clone();
        async move {
            if stuck.contains(&record.offset()) {
                std::future::pending::<()>().await;
            }
            ended.lock().unwrap().push(record.offset());
        }
    });
    wait_until(LONG, "the lane is open", || bench.fetcher.starts().len() > starts);
    assert_eq!(bench.fetcher.starts().last().unwrap().1.offset, start);
    bench.fetcher.deliver(&bench.partition(0), start..count, None);
    wait_until(LONG, "the others have ended", || ended.lock().unwrap().len() == finish);
    let summary = bench.end(running);
    let mut ended = std::mem::take(&mut *ended.lock().unwrap());
    ended.sort_unstable();
    (ended, summary)
}

/// Has the log as long as what is delivered by the script: a map that ends above its log is of another one.
fn fill(bench: &Bench, count: i64) {
    let producer = Producer::new(bench.kafka.brokers(), &[]).expect("a producer");
    for _ in 0..count {
        producer.send(&bench.topic, 0, None, Some(b"x"), &[], None).expect("sent");
    }
    producer.flush().expect("delivered");
}

#[test]
fn a_map_that_ends_above_its_log_is_of_another_one() {
    let bench = Bench::new(1);
    fill(&bench, 10);
    run(&bench, bench.builder(), 0, 20, &[3], 19);
    let (ended, _) = run(&bench, bench.builder(), 3, 20, &[], 17);
    assert_eq!(ended, (3..20).collect::<Vec<_>>());
    assert!(bench.errors().iter().any(|error| error.contains("of another log")), "{:?}", bench.errors());
}

/// I4: exactly what was not finished comes again.
#[test]
fn only_what_was_not_finished_comes_again() {
    let bench = Bench::new(1);
    fill(&bench, 610);
    let (ended, summary) = run(&bench, bench.builder(), 0, 600, &[3, 5, 300], 597);
    assert_eq!((ended.len(), summary.unfinished), (597, 3));
    assert_eq!(bench.committed(0), 3);
    // Beside what is new: two of those that were not finished.
    let (ended, summary) = run(&bench, bench.builder(), 3, 610, &[300], 12);
    assert_eq!(ended, [vec![3, 5], (600..610).collect()].concat());
    assert_eq!((bench.committed(0), summary.unfinished), (300, 1));
    let (ended, _) = run(&bench, bench.builder(), 300, 610, &[], 1);
    assert_eq!(ended, [300]);
    assert_eq!(bench.committed(0), 610);
}

/// I3: what a member has been told to be finished it tells the next one, also where it has not read so far itself.
#[test]
fn what_is_finished_and_not_read_again_yet_is_remembered_by_the_next_commit() {
    let bench = Bench::new(1);
    fill(&bench, 610);
    run(&bench, bench.builder(), 0, 600, &[3, 5, 300], 597);
    let (ended, _) = run(&bench, bench.builder(), 3, 5, &[], 1);
    assert_eq!((ended, bench.committed(0)), (vec![3], 5));
    let (ended, _) = run(&bench, bench.builder(), 5, 610, &[], 12);
    assert_eq!(ended, [vec![5, 300], (600..610).collect()].concat());
}

#[test]
fn without_room_for_a_map_all_behind_the_first_unfinished_comes_again() {
    let bench = Bench::new(1);
    run(&bench, bench.builder().offset_map_limit(0), 0, 20, &[3], 19);
    let (ended, _) = run(&bench, bench.builder(), 3, 20, &[], 17);
    assert_eq!(ended, (3..20).collect::<Vec<_>>());
}

/// A lane that is read again because its queue failed does not do again what it knows to be finished.
#[test]
fn a_lane_that_is_opened_again_knows_what_it_has_finished() {
    let bench = Bench::new(1);
    let ended: Arc<Mutex<Vec<i64>>> = Arc::default();
    let noted = ended.clone();
    let builder = bench.builder().ordering(Ordering::Unordered).drain_deadline(Duration::from_millis(100));
    let running = bench.run(builder.fetcher(bench.fetcher.clone()), move |record: Record| {
        let ended = noted.clone();
        async move {
            let is_first = !ended.lock().unwrap().contains(&-1);
            if record.offset() == 2 && is_first {
                std::future::pending::<()>().await;
            }
            ended.lock().unwrap().push(record.offset());
        }
    });
    let partition = bench.partition(0);
    bench.fetcher.deliver(&partition, 0..10, None);
    wait_until(LONG, "the others have ended", || ended.lock().unwrap().len() == 9);
    ended.lock().unwrap().push(-1);
    bench.fetcher.fail(&partition, laneway::fetcher::FetchErrorKind::Damaged);
    wait_until(LONG, "the lane is opened again", || bench.fetcher.starts().len() == 2);
    assert_eq!(bench.fetcher.starts()[1].1.offset, 2);
    bench.fetcher.deliver(&partition, 2..12, None);
    wait_until(LONG, "all is committed", || bench.committed(0) == 12);
    bench.end(running);
    assert_eq!(ended.lock().unwrap()[9..], [-1, 2, 10, 11]);
}

#[test]
fn metadata_of_somebody_elses_is_void_and_told() {
    let bench = Bench::new(1);
    let theirs = Committed { offset: 4, metadata: b"who: me".to_vec() };
    let admin = Admin::new(bench.kafka.brokers()).expect("an admin client");
    admin.set_committed_with_metadata(&bench.group, &[(bench.partition(0), theirs)]).expect("committed");
    let (ended, _) = run(&bench, bench.builder(), 4, 8, &[], 4);
    assert_eq!(ended, [4, 5, 6, 7]);
    let said = format!("offset 4 of {} is not used", bench.partition(0));
    assert!(bench.errors().iter().any(|error| error.contains(&said)), "{:?}", bench.errors());
}

#[test]
fn a_broker_that_takes_less_metadata_gets_less_and_the_offset_is_committed_all_the_same() {
    let bench = Bench::new(1);
    let builder = bench.builder().ordering(Ordering::Unordered).drain_deadline(Duration::from_millis(100));
    let interval = Duration::from_secs(6);
    let builder = builder.commit_interval(interval);
    let running = bench.run(builder.fetcher(bench.fetcher.clone()), |record: Record| async move {
        if record.offset() == 3 {
            std::future::pending::<()>().await;
        }
    });
    wait_until(LONG, "the lane is open", || !bench.fetcher.starts().is_empty());
    let offset_metadata_too_large = 12;
    bench.kafka.push_errors(ApiKey::OFFSET_COMMIT, &[offset_metadata_too_large]);
    bench.fetcher.deliver(&bench.partition(0), 0..20, None);
    wait_until(LONG, "it is told", || {
        bench.errors().iter().any(|error| error.contains("at most 2048 characters from now on"))
    });
    // Without a map, and not at the next interval only.
    wait_until(interval / 2, "the offset is committed", || bench.committed(0) == 3);
    assert_eq!(running.0.status().lanes[0].forgotten, 16);
    bench.end(running);
}
