//! Records beside each other: keys, batches, blocking handlers, and how many at once.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use laneway::{Batching, Keyless, Ordering, Outcome, OwnedRecord, Record, StuckHandlers};
use laneway_testing::wait_until;
use tokio::sync::Semaphore;

use crate::bench::{Bench, LONG};

/// Records with keys in turn; an empty one stands for none.
fn keyed(bench: &Bench, keys: &[&str], count: i64) -> Vec<OwnedRecord> {
    let key = |offset: i64| keys[usize::try_from(offset).unwrap() % keys.len()];
    let record = |offset| OwnedRecord {
        topic: bench.topic.clone(),
        offset,
        key: (!key(offset).is_empty()).then(|| key(offset).as_bytes().to_vec()),
        ..OwnedRecord::default()
    };
    (0..count).map(record).collect()
}

fn key_of(record: &Record) -> String {
    String::from_utf8_lossy(record.key().unwrap_or(b"none")).into_owned()
}

/// What was seen of the records: how many at once, in all and by key, and the order they ended in.
#[derive(Default)]
struct Seen {
    now: AtomicUsize,
    most: AtomicUsize,
    keys: Mutex<BTreeMap<String, OfKey>>,
}

/// Running now, at most, and what has ended.
type OfKey = (usize, usize, Vec<i64>);

impl Seen {
    fn begin(&self, record: &Record) {
        self.most.fetch_max(self.now.fetch_add(1, Atomic::SeqCst) + 1, Atomic::SeqCst);
        let mut keys = self.keys.lock().unwrap();
        let (now, most, _) = keys.entry(key_of(record)).or_default();
        *now += 1;
        *most = (*most).max(*now);
    }

    fn end(&self, record: &Record) {
        self.now.fetch_sub(1, Atomic::SeqCst);
        let mut keys = self.keys.lock().unwrap();
        let (now, _, ended) = keys.entry(key_of(record)).or_default();
        *now -= 1;
        ended.push(record.offset());
    }
}

/// I5: of one key one record at a time, in order; different keys beside each other, to the limit.
#[test]
fn keys_run_beside_each_other_and_each_in_its_order() {
    let bench = Bench::new(1);
    let seen = Arc::new(Seen::default());
    let noted = seen.clone();
    let builder = bench.builder().ordering(Ordering::Key).concurrency(4).fetcher(bench.fetcher.clone());
    let running = bench.run(builder, move |record: Record| {
        let seen = noted.clone();
        async move {
            seen.begin(&record);
            // Some finish at once, some wait, and for different times.
            if record.offset() % 3 > 0 {
                tokio::time::sleep(Duration::from_millis(record.offset().unsigned_abs() * 7 % 5)).await;
            }
            seen.end(&record);
        }
    });
    bench.fetcher.deliver_records(
        &bench.partition(0),
        keyed(&bench, &["a", "b", "c", "d", "e", "f", "g"], 700),
        None,
    );
    wait_until(LONG, "all is committed", || bench.committed(0) == 700);
    bench.end(running);
    assert_eq!(seen.most.load(Atomic::SeqCst), 4);
    let keys = seen.keys.lock().unwrap();
    assert_eq!(keys.len(), 7);
    for (key, (_, most, ended)) in keys.iter() {
        assert_eq!(*most, 1, "{key}");
        assert!(ended.is_sorted() && ended.len() == 100, "{key}: {ended:?}");
    }
}

#[test]
fn records_without_a_key_run_in_no_order_or_as_one_key() {
    for (keyless, most) in [(Keyless::Unordered, 5), (Keyless::OneKey, 1)] {
        let bench = Bench::new(1);
        let seen = Arc::new(Seen::default());
        let noted = seen.clone();
        let builder = bench.builder().ordering(Ordering::Key).keyless(keyless).fetcher(bench.fetcher.clone());
        let running = bench.run(builder.lane_concurrency(5), move |record: Record| {
            let seen = noted.clone();
            async move {
                seen.begin(&record);
                tokio::time::sleep(Duration::from_millis(2)).await;
                seen.end(&record);
            }
        });
        bench.fetcher.deliver_records(&bench.partition(0), keyed(&bench, &[""], 50), None);
        wait_until(LONG, "all is committed", || bench.committed(0) == 50);
        bench.end(running);
        assert_eq!(seen.keys.lock().unwrap()["none"].1, most, "{keyless:?}");
    }
}

#[test]
fn a_key_of_the_users_decides_the_order() {
    let bench = Bench::new(1);
    let seen = Arc::new(Seen::default());
    let noted = seen.clone();
    let builder = bench.builder().ordering(Ordering::Key).fetcher(bench.fetcher.clone());
    let builder = builder.key(|record| Some(record.key()?.split(|byte| *byte == b':').next()?.into()));
    let running = bench.run(builder, move |record: Record| {
        let seen = noted.clone();
        async move {
            seen.begin(&record);
            tokio::time::sleep(Duration::from_millis(1)).await;
            seen.end(&record);
        }
    });
    bench.fetcher.deliver_records(&bench.partition(0), keyed(&bench, &["a:1", "a:2"], 40), None);
    wait_until(LONG, "all is committed", || bench.committed(0) == 40);
    bench.end(running);
    assert_eq!(seen.most.load(Atomic::SeqCst), 1);
}

#[test]
fn a_key_function_that_panics_stops_its_lane_there_and_is_told() {
    let bench = Bench::new(1);
    let builder = bench.builder().ordering(Ordering::Key).fetcher(bench.fetcher.clone());
    let running = bench.run(
        builder.key(|record| if record.offset() == 3 { panic!("no such key") } else { None }),
        |_: Record| std::future::ready(()),
    );
    bench.fetcher.deliver_records(&bench.partition(0), keyed(&bench, &["a"], 6), None);
    wait_until(LONG, "it is told", || bench.errors().iter().any(|error| error.contains("no such key")));
    wait_until(LONG, "the lane is opened again", || bench.fetcher.starts().len() > 1);
    assert_eq!(bench.fetcher.starts()[1].1.offset, 3);
    bench.end(running);
    assert_eq!(bench.committed(0), 3);
}

/// I8: a key that fails keeps its place, and delays no other key.
#[test]
fn a_key_that_fails_is_tried_again_in_its_order_and_delays_no_other() {
    let bench = Bench::new(1);
    let ended: Arc<Mutex<Vec<i64>>> = Arc::default();
    let noted = ended.clone();
    let builder = bench.builder().ordering(Ordering::Key).fetcher(bench.fetcher.clone());
    let builder = builder.backoff(Duration::from_millis(1), Duration::from_millis(1));
    let fail = Arc::new(AtomicUsize::new(usize::MAX));
    let left = fail.clone();
    let running = bench.run(builder, move |record: Record| {
        let fails = record.offset() == 0 && left.fetch_sub(1, Atomic::SeqCst) > 0;
        let ended = noted.clone();
        async move {
            if fails {
                return Err("not yet");
            }
            ended.lock().unwrap().push(record.offset());
            Ok(())
        }
    });
    bench.fetcher.deliver_records(&bench.partition(0), keyed(&bench, &["a", "b"], 20), None);
    wait_until(LONG, "the other key is through", || ended.lock().unwrap().len() == 10);
    wait_until(LONG, "the failed record waits", || {
        running.0.status().lanes.iter().any(|lane| lane.waiting == 1)
    });
    fail.store(0, Atomic::SeqCst);
    wait_until(LONG, "all is committed", || bench.committed(0) == 20);
    bench.end(running);
    let ended = ended.lock().unwrap();
    assert!(ended[..10].iter().all(|offset| offset % 2 == 1), "{ended:?}");
    assert_eq!(ended[10..], [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
}

/// I8: a lane that has much to do does not keep the room of all for itself.
#[test]
fn a_lane_with_much_to_do_leaves_others_their_share_of_the_room() {
    let bench = Bench::new(2);
    let ended = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let counted = ended.clone();
    let builder = bench.builder().ordering(Ordering::Unordered).concurrency(2).fetcher(bench.fetcher.clone());
    let running = bench.run(builder, move |record: Record| {
        let counted = counted[usize::try_from(record.partition()).unwrap()].clone();
        async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            counted.fetch_add(1, Atomic::SeqCst);
        }
    });
    let records = |partition, count| {
        let of = |record| OwnedRecord { partition, ..record };
        keyed(&bench, &["a"], count).into_iter().map(of).collect::<Vec<_>>()
    };
    bench.fetcher.deliver_records(&bench.partition(0), records(0, 3_000), None);
    wait_until(LONG, "the first lane is busy", || ended[0].load(Atomic::SeqCst) > 10);
    bench.fetcher.deliver_records(&bench.partition(1), records(1, 20), None);
    wait_until(LONG, "the other lane is through", || ended[1].load(Atomic::SeqCst) == 20);
    let first = ended[0].load(Atomic::SeqCst);
    assert!(first < 1_000, "the first lane had {first} of its 3,000 records handled meanwhile");
    bench.end(running);
}

/// A key with as much to do as one place can do is not left for the end, where it would go on alone.
#[test]
fn the_busiest_key_goes_on_beside_all_others() {
    let bench = Bench::new(3);
    let ended = Arc::new(Mutex::new(Vec::new()));
    let noted = ended.clone();
    let builder = bench.builder().ordering(Ordering::Key).concurrency(4).fetcher(bench.fetcher.clone());
    let running = bench.run(builder, move |record: Record| {
        let noted = noted.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            noted.lock().unwrap().push(key_of(&record));
        }
    });
    let others: Vec<String> = (0..150).map(|number| number.to_string()).collect();
    let keys: Vec<&str> = others.iter().map(String::as_str).collect();
    let and_busy: Vec<&str> = keys.iter().flat_map(|key| [*key, "busy"]).collect();
    bench.fetcher.deliver_records(&bench.partition(0), keyed(&bench, &and_busy, 300), None);
    for partition in [1, 2] {
        let records = keyed(&bench, &keys, 150).into_iter();
        let records = records.map(|record| OwnedRecord { partition, ..record }).collect();
        bench.fetcher.deliver_records(&bench.partition(partition), records, None);
    }
    wait_until(LONG, "all is handled", || ended.lock().unwrap().len() == 600);
    bench.end(running);
    let ended = ended.lock().unwrap();
    let of_first_half = ended[..300].iter().filter(|key| *key == "busy").count();
    assert!(
        (50..=100).contains(&of_first_half),
        "{of_first_half} of the busy key's 150 were in the first half"
    );
}

#[test]
fn how_many_run_at_once_can_be_changed_while_they_do() {
    let bench = Bench::new(3);
    let now = Arc::new(AtomicUsize::new(0));
    let open = Arc::new(Semaphore::new(0));
    let (counted, gate) = (now.clone(), open.clone());
    let builder = bench.builder().ordering(Ordering::Unordered).concurrency(2).fetcher(bench.fetcher.clone());
    let running = bench.run(builder, move |_: Record| {
        let (now, gate) = (counted.clone(), gate.clone());
        async move {
            now.fetch_add(1, Atomic::SeqCst);
            gate.acquire().await.unwrap().forget();
            now.fetch_sub(1, Atomic::SeqCst);
        }
    });
    for number in 0..3 {
        bench.fetcher.deliver(&bench.partition(number), 0..30, None);
    }
    let is = |count: usize| now.load(Atomic::SeqCst) == count;
    wait_until(LONG, "two run", || is(2));
    running.0.set_concurrency(7);
    wait_until(LONG, "seven run", || is(7));
    running.0.set_concurrency(3);
    open.add_permits(7);
    wait_until(LONG, "three run", || is(3));
    running.0.set_lane_concurrency(10);
    running.0.set_concurrency(100);
    wait_until(LONG, "ten run in each lane", || is(30));
    open.add_permits(1_000);
    wait_until(LONG, "all is committed", || (0..3).all(|number| bench.committed(number) == 30));
    bench.end(running);
}

#[test]
fn batches_are_of_the_size_that_was_asked_for_and_linger() {
    let bench = Bench::new(1);
    let sizes: Arc<Mutex<Vec<Vec<i64>>>> = Arc::default();
    let noted = sizes.clone();
    let builder = bench.builder().fetcher(bench.fetcher.clone());
    let batching = Batching::of(4).linger(Duration::from_millis(300));
    let running = bench.run_batches(builder, batching, move |records: Vec<Record>| {
        noted.lock().unwrap().push(records.iter().map(Record::offset).collect());
        std::future::ready(())
    });
    let began = Instant::now();
    bench.fetcher.deliver(&bench.partition(0), 0..10, Some(10));
    wait_until(LONG, "all is committed", || bench.committed(0) == 10);
    assert!(began.elapsed() >= Duration::from_millis(300), "the last batch lingered");
    bench.end(running);
    assert_eq!(*sizes.lock().unwrap(), [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
}

/// I1: of a batch that failed in part, only what failed comes again, and nothing passes it.
#[test]
fn a_batch_may_fail_in_part() {
    let bench = Bench::new(1);
    let batches: Arc<Mutex<Vec<Vec<i64>>>> = Arc::default();
    let noted = batches.clone();
    let builder = bench.builder().backoff(Duration::from_millis(300), Duration::from_millis(300));
    let builder = builder.fetcher(bench.fetcher.clone());
    let running = bench.run_batches(builder, Batching::of(5), move |records: Vec<Record>| {
        let mut batches = noted.lock().unwrap();
        let is_first = batches.is_empty();
        batches.push(records.iter().map(Record::offset).collect());
        let outcome = |record: &Record| match record.offset() {
            1 | 3 if is_first => Outcome::Retry { error: "not yet".into(), after: None },
            _ => Outcome::Done,
        };
        let outcomes: Vec<Outcome> = records.iter().map(outcome).collect();
        std::future::ready(outcomes)
    });
    bench.fetcher.deliver(&bench.partition(0), 0..7, None);
    wait_until(LONG, "all is committed", || bench.committed(0) == 7);
    bench.end(running);
    let batches = batches.lock().unwrap();
    assert_eq!(batches[0], [0, 1, 2, 3, 4]);
    assert_eq!(batches[1..].concat(), [1, 3, 5, 6], "{batches:?}");
}

#[test]
fn a_handler_may_block_and_does_so_beside_others() {
    let bench = Bench::new(2);
    let barrier = Arc::new(std::sync::Barrier::new(2));
    let consumer = bench.builder().fetcher(bench.fetcher.clone()).build().expect("a consumer");
    let handle = consumer.handle();
    let panicked = AtomicUsize::new(0);
    let run = bench.runtime.spawn(consumer.run_blocking(move |record| {
        if record.offset() == 1 && panicked.fetch_add(1, Atomic::SeqCst) == 0 {
            panic!("once");
        }
        // Both lanes are in here at once, or neither gets on.
        barrier.wait();
        Ok::<(), String>(())
    }));
    for number in 0..2 {
        bench.fetcher.deliver(&bench.partition(number), 0..3, None);
    }
    wait_until(LONG, "all is committed", || (0..2).all(|number| bench.committed(number) == 3));
    bench.end((handle, run));
    assert!(bench.errors().iter().any(|error| error.contains("panicked: once")), "{:?}", bench.errors());
}

#[test]
fn spawned_calls_of_one_lane_compute_beside_each_other() {
    let bench = Bench::new(1);
    let barrier = Arc::new(std::sync::Barrier::new(2));
    let builder = bench.builder().ordering(Ordering::Unordered).fetcher(bench.fetcher.clone());
    let consumer = builder.build().expect("a consumer");
    let handle = consumer.handle();
    let run = bench.runtime.spawn(consumer.run_spawned(move |_: Record| {
        let barrier = barrier.clone();
        // Both threads of the runtime are in here at once, or neither gets on.
        async move {
            barrier.wait();
        }
    }));
    bench.fetcher.deliver(&bench.partition(0), 0..10, None);
    wait_until(LONG, "all is committed", || bench.committed(0) == 10);
    bench.end((handle, run));
}

/// I2: a call that blocks is not given up silently: its lane has not ended before it returned.
#[test]
fn a_call_that_blocks_for_too_long_is_left_behind_and_fenced() {
    let bench = Bench::new(1);
    let release = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
    let held = release.clone();
    let builder = bench.builder().drain_deadline(Duration::from_millis(200)).fetcher(bench.fetcher.clone());
    let consumer = builder.build().expect("a consumer");
    let handle = consumer.handle();
    let run = bench.runtime.spawn(consumer.run_blocking(move |record| {
        if record.offset() == 1 {
            let (released, change) = &*held;
            drop(change.wait_while(released.lock().unwrap(), |released| !*released).unwrap());
        }
    }));
    bench.fetcher.deliver(&bench.partition(0), 0..5, None);
    wait_until(LONG, "the call blocks", || {
        handle.status().lanes.iter().any(|lane| (lane.in_flight, lane.watermark) == (1, Some(1)))
    });
    let began = Instant::now();
    let summary = bench.end((handle, run));
    assert!(began.elapsed() < Duration::from_millis(5_400), "{:?}", began.elapsed());
    assert_eq!((summary.detached, summary.unfinished), (1, 1));
    *release.0.lock().unwrap() = true;
    release.1.notify_all();
    assert_eq!(bench.committed(0), 1);
}

#[test]
fn a_call_that_blocks_for_too_long_ends_the_process_where_that_was_chosen() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "ordering::process_with_a_stuck_handler", "--ignored", "--nocapture"]);
    let output = child.env(STUCK, "1").output().expect("a process");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("blocks its thread") && said.contains("ending the process"), "{said}");
}

#[test]
#[ignore = "a process of another test"]
fn process_with_a_stuck_handler() {
    if std::env::var_os(STUCK).is_none() {
        return;
    }
    let bench = Bench::new(1);
    let builder = bench.builder().drain_deadline(Duration::from_millis(100)).fetcher(bench.fetcher.clone());
    let builder = builder.stuck_handlers(StuckHandlers::ExitProcess).on_event(|event| println!("{event:?}"));
    let consumer = builder.build().expect("a consumer");
    let handle = consumer.handle();
    let run = bench.runtime.spawn(consumer.run_blocking(|_| std::thread::sleep(Duration::from_secs(600))));
    bench.fetcher.deliver(&bench.partition(0), 0..5, None);
    wait_until(LONG, "the call blocks", || handle.status().lanes.iter().any(|lane| lane.in_flight == 1));
    bench.end((handle, run));
}

const STUCK: &str = "LANEWAY_TEST_STUCK";

#[test]
fn as_much_is_read_ahead_as_a_batch_may_have() {
    for ordering in [Ordering::Key, Ordering::Unordered] {
        let bench = Bench::new(1);
        let sizes: Arc<Mutex<Vec<usize>>> = Arc::default();
        let noted = sizes.clone();
        let builder = bench.builder().fetcher(bench.fetcher.clone()).ordering(ordering);
        let batching = Batching::of(1_000).linger(Duration::from_secs(600));
        let running = bench.run_batches(builder, batching, move |records: Vec<Record>| {
            noted.lock().unwrap().push(records.len());
            std::future::ready(())
        });
        let record = |offset: i64| OwnedRecord {
            topic: bench.topic.clone(),
            offset,
            key: Some(format!("{}", offset % 300).into_bytes()),
            ..OwnedRecord::default()
        };
        // As fetches bring them, and not all at once.
        for first in (0..2_000).step_by(100) {
            let records = (first..first + 100).map(record).collect();
            bench.fetcher.deliver_records(&bench.partition(0), records, None);
        }
        wait_until(LONG, "all is committed", || bench.committed(0) == 2_000);
        bench.end(running);
        assert_eq!(*sizes.lock().unwrap(), [1_000, 1_000], "{ordering:?}");
    }
}
