//! The budget of memory: what waits is put aside, partitions take turns, and one record may be larger than all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering as Atomic};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use laneway::{Batching, Event, NativeClient, Ordering, Outcome, Record};
use laneway_testing::{Producer, wait_until};
use tokio::sync::Semaphore;

use crate::bench::{Bench, LONG};

fn produce(bench: &Bench, partition: i32, count: usize, keys: usize, size: usize) {
    let producer = Producer::new(bench.kafka.brokers(), &[]).unwrap();
    let payload = vec![b'x'; size];
    for number in 0..count {
        let key = (number % keys).to_string();
        producer.send(&bench.topic, partition, Some(key.as_bytes()), Some(&payload), &[], None).unwrap();
    }
    producer.flush().unwrap();
}

type Ended = Arc<Mutex<BTreeMap<String, Vec<i64>>>>;

fn note(ended: &Ended, record: &Record) {
    let key = String::from_utf8_lossy(record.key().unwrap()).into_owned();
    ended.lock().unwrap().entry(key).or_default().push(record.offset());
}

fn count(ended: &Ended) -> usize {
    ended.lock().unwrap().values().map(Vec::len).sum()
}

/// Two of ten keys are stuck, and what is behind them has several times the memory there is.
#[test]
fn what_is_behind_a_stuck_key_does_not_fill_the_memory_and_comes_in_its_order() {
    let bench = Bench::new(1);
    produce(&bench, 0, 4_000, 10, 1_000);
    let ended = Ended::default();
    let gates = [Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0))];
    let (noted, closed) = (ended.clone(), gates.clone());
    let builder = bench.builder().ordering(Ordering::Key).memory(4 << 20);
    let running = bench.run(builder, move |record: Record| {
        let (ended, gates) = (noted.clone(), closed.clone());
        async move {
            match record.key() {
                Some(b"0") => gates[0].acquire().await.unwrap().forget(),
                Some(b"1") => gates[1].acquire().await.unwrap().forget(),
                _ => {}
            }
            note(&ended, &record);
        }
    });
    wait_until(LONG, "all other keys are through", || count(&ended) == 3_200);
    let memory = running.0.status().memory;
    assert!(memory.held <= 700 << 10, "{memory:?}");
    // One after the other: the lane goes back for each.
    for (at, gate) in gates.iter().enumerate().rev() {
        gate.add_permits(1_000);
        wait_until(LONG, "a key is through", || {
            ended.lock().unwrap().get(&at.to_string()).is_some_and(|of| of.len() == 400)
        });
    }
    wait_until(LONG, "all is committed", || bench.committed(0) == 4_000);
    bench.end(running);
    for (key, offsets) in ended.lock().unwrap().iter() {
        let first: i64 = key.parse().unwrap();
        let expected: Vec<i64> = (first..4_000).step_by(10).collect();
        assert_eq!(*offsets, expected, "of key {key}, each once and in order");
    }
}

fn of_key(record: &Record) -> usize {
    std::str::from_utf8(record.key().unwrap()).unwrap().parse().unwrap()
}

/// The next of a row of numbers that look random.
fn next(row: &AtomicUsize) -> usize {
    let now = row.load(Atomic::Relaxed).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    row.store(now, Atomic::Relaxed);
    now >> 33
}

/// One of ten records fails, and all that do have more than may wait; then they succeed.
#[test]
fn what_waits_for_its_next_try_does_not_fill_the_memory_either() {
    for ordering in [Ordering::Key, Ordering::Unordered] {
        let bench = Bench::new(1);
        produce(&bench, 0, 1_000, 1_000, 4_000);
        let (ended, is_well) = (Ended::default(), Arc::new(AtomicBool::new(false)));
        let (noted, well) = (ended.clone(), is_well.clone());
        let builder = bench.builder().ordering(ordering).memory(1 << 20);
        let running = bench.run(builder, move |record: Record| {
            let fails = of_key(&record).is_multiple_of(10) && !well.load(Atomic::Acquire);
            if !fails {
                note(&noted, &record);
            }
            let after = Some(Duration::from_millis(500));
            let failed = || Outcome::Retry { error: "not yet".into(), after };
            std::future::ready(if fails { failed() } else { Outcome::Done })
        });
        wait_until(LONG, "all others are through", || count(&ended) == 900);
        let memory = running.0.status().memory;
        assert!(memory.held <= 512 << 10, "{memory:?}");
        is_well.store(true, Atomic::Release);
        wait_until(LONG, "all is committed", || bench.committed(0) == 1_000);
        bench.end(running);
        assert!(ended.lock().unwrap().values().all(|offsets| offsets.len() == 1), "each once");
    }
}

/// Every second record is of a key that fails, and is handled in batches.
#[test]
fn a_stuck_key_does_not_fill_the_memory_where_records_are_handled_in_batches_either() {
    for one_key in [false, true] {
        let bench = Bench::new(1);
        produce(&bench, 0, 2_000, 2, 2_000);
        let (ended, is_well) = (Ended::default(), Arc::new(AtomicBool::new(false)));
        let (noted, well) = (ended.clone(), is_well.clone());
        let builder = bench.builder().ordering(Ordering::Key).memory(4 << 20);
        let batching = if one_key { Batching::of(10).one_key() } else { Batching::of(10) };
        let running = bench.run_batches(builder, batching, move |records: Vec<Record>| {
            let outcomes = records.iter().map(|record| {
                if of_key(record) == 0 && !well.load(Atomic::Acquire) {
                    return Outcome::Retry { error: "not yet".into(), after: Some(Duration::from_secs(1)) };
                }
                note(&noted, record);
                Outcome::Done
            });
            std::future::ready(outcomes.collect::<Vec<_>>())
        });
        wait_until(LONG, "the other key is through", || count(&ended) == 1_000);
        is_well.store(true, Atomic::Release);
        wait_until(LONG, "all is committed", || bench.committed(0) == 2_000);
        bench.end(running);
        for (key, offsets) in ended.lock().unwrap().iter() {
            let first: i64 = key.parse().unwrap();
            assert_eq!(*offsets, (first..2_000).step_by(2).collect::<Vec<_>>(), "each once and in order");
        }
    }
}

/// Nothing succeeds, and what waits takes all the room that it may: what fails is tried again even so, and goes on when
/// it can.
#[test]
fn where_everything_fails_and_fills_the_memory_what_failed_is_tried_again() {
    for (batch, bytes) in [(1, None), (10, None), (1_000, None), (1_000, Some(20_000))] {
        let bench = Bench::new(1);
        produce(&bench, 0, 1_000, 3, 4_000);
        let (ended, is_well) = (Ended::default(), Arc::new(AtomicBool::new(false)));
        let (noted, well) = (ended.clone(), is_well.clone());
        let calls = Arc::new(AtomicUsize::new(0));
        let called = calls.clone();
        let builder = bench.builder().ordering(Ordering::Key).memory(1 << 20);
        let batching = bytes.map_or(Batching::of(batch), |bytes| Batching::of(batch).bytes(bytes));
        let running = bench.run_batches(builder, batching, move |records: Vec<Record>| {
            called.fetch_add(1, Atomic::SeqCst);
            let is_well = well.load(Atomic::Acquire);
            if is_well {
                records.iter().for_each(|record| note(&noted, record));
            }
            let after = Some(Duration::from_millis(200));
            let failed = Outcome::Retry { error: "not yet".into(), after };
            std::future::ready(if is_well { Outcome::Done } else { failed })
        });
        wait_until(LONG, "as much waits as may", || running.0.status().memory.waiting >= 100 << 10);
        let before = calls.load(Atomic::SeqCst);
        wait_until(LONG, "it is tried again, and again", || calls.load(Atomic::SeqCst) >= before + 9);
        is_well.store(true, Atomic::Release);
        wait_until(LONG, "all is committed", || bench.committed(0) == 1_000);
        bench.end(running);
        for (key, offsets) in ended.lock().unwrap().iter() {
            let first: i64 = key.parse().unwrap();
            assert_eq!(*offsets, (first..1_000).step_by(3).collect::<Vec<_>>(), "each once and in order");
        }
    }
}

/// Handlers of batches that take their time, and fail now and then, while what waits fills the memory again and again.
#[test]
fn batches_keep_the_order_of_each_key_while_records_are_put_aside_and_come_back() {
    for (seed, batching) in
        [Batching::of(10), Batching::of(10).one_key(), Batching::of(50).bytes(30_000)].into_iter().enumerate()
    {
        let bench = Bench::new(1);
        produce(&bench, 0, 1_000, 7, 4_000);
        let ended = Ended::default();
        // Keys that are at work, and how often one was begun while it was.
        let at_work: Arc<Mutex<(BTreeSet<usize>, usize)>> = Arc::default();
        let random = Arc::new(AtomicUsize::new(seed + 1));
        let (noted, works) = (ended.clone(), at_work.clone());
        let builder = bench.builder().ordering(Ordering::Key).memory(1 << 20).concurrency(8);
        let builder = builder.backoff(Duration::from_millis(5), Duration::from_millis(200));
        let running = bench.run_batches(builder, batching, move |records: Vec<Record>| {
            let (noted, works, random) = (noted.clone(), works.clone(), random.clone());
            let next = move |below: usize| {
                let now =
                    random.load(Atomic::Relaxed).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                random.store(now, Atomic::Relaxed);
                (now >> 33) % below
            };
            let keys: BTreeSet<usize> = records.iter().map(of_key).collect();
            {
                let mut works = works.lock().unwrap();
                let again = keys.iter().filter(|key| !works.0.insert(**key)).count();
                works.1 += again;
            }
            async move {
                tokio::time::sleep(Duration::from_micros(next(2_000) as u64)).await;
                let mut failed = BTreeSet::new();
                let outcomes = records.iter().map(|record| {
                    let key = of_key(record);
                    // Nothing of a key succeeds behind what failed.
                    if failed.contains(&key) || next(5) == 0 {
                        failed.insert(key);
                        return Outcome::Retry { error: "not yet".into(), after: None };
                    }
                    note(&noted, record);
                    Outcome::Done
                });
                let outcomes: Vec<Outcome> = outcomes.collect();
                works.lock().unwrap().0.retain(|key| !keys.contains(key));
                outcomes
            }
        });
        wait_until(LONG * 3, "all is committed", || bench.committed(0) == 1_000);
        bench.end(running);
        assert_eq!(at_work.lock().unwrap().1, 0, "a key was begun beside itself, {batching:?}");
        for (key, offsets) in ended.lock().unwrap().iter() {
            let first: i64 = key.parse().unwrap();
            let expected: Vec<i64> = (first..1_000).step_by(7).collect();
            assert_eq!(*offsets, expected, "of key {key}, each once and in order, {batching:?}");
        }
    }
}

/// Lanes that take turns at reading, and go back for what they had put aside, again and again.
#[test]
fn lanes_in_turns_read_again_what_they_had_put_aside_and_lose_nothing() {
    let bench = Bench::new(4);
    (0..4).for_each(|partition| produce(&bench, partition, 400, 5, 4_000));
    let ended: [Ended; 4] = Default::default();
    let (noted, random) = (ended.clone(), Arc::new(AtomicUsize::new(7)));
    let builder = bench.builder().ordering(Ordering::Key).memory(1 << 20);
    let builder = builder.backoff(Duration::from_millis(5), Duration::from_millis(300));
    let running = bench.run(builder, move |record: Record| {
        let ended = noted[usize::try_from(record.partition()).unwrap()].clone();
        let (wait, fails) = (next(&random) % 1_000, next(&random).is_multiple_of(4));
        async move {
            tokio::time::sleep(Duration::from_micros(wait as u64)).await;
            if fails {
                return Outcome::Retry { error: "not yet".into(), after: None };
            }
            note(&ended, &record);
            Outcome::Done
        }
    });
    wait_until(LONG * 3, "all is committed", || (0..4).all(|partition| bench.committed(partition) == 400));
    bench.end(running);
    for (key, offsets) in ended.iter().flat_map(|ended| ended.lock().unwrap().clone()) {
        let first: i64 = key.parse().unwrap();
        assert_eq!(
            offsets,
            (first..400).step_by(5).collect::<Vec<_>>(),
            "of key {key}, each once and in order"
        );
    }
}

/// A batch is handed over as it is where the memory has no room for what it still could get.
#[test]
fn a_batch_that_is_larger_than_the_memory_does_not_wait_for_what_it_can_not_get() {
    for ordering in [Ordering::Partition, Ordering::Key] {
        let bench = Bench::new(2);
        (0..2).for_each(|partition| produce(&bench, partition, 1_000, 10, 4_000));
        let builder = bench.builder().ordering(ordering).memory(2 << 20);
        let batching = Batching::of(100_000).bytes(8 << 20).linger(Duration::from_secs(3_600));
        let ended = Ended::default();
        let noted = ended.clone();
        let running = bench.run_batches(builder, batching, move |records: Vec<Record>| {
            records.iter().for_each(|record| note(&noted, record));
            std::future::ready(())
        });
        // Of the last records there is nothing to keep them from lingering.
        wait_until(LONG, "most of it is through", || count(&ended) >= 1_700);
        bench.end(running);
    }
}

/// Which of the clients that fetch has the partition in its assignment, by their last statistics.
fn fetched_by(bench: &Bench) -> Vec<String> {
    let mut last = BTreeMap::new();
    for event in bench.events.lock().unwrap().iter() {
        if let Event::Statistics { client: NativeClient::Fetcher, json } = event {
            let name = json.split("\"name\": \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            let fetches = json.contains("\"fetch_state\":\"active\"");
            last.insert(name.to_owned(), fetches);
        }
    }
    last.into_iter().filter(|(_, fetches)| *fetches).map(|(name, _)| name).collect()
}

#[test]
fn a_lane_that_is_quiet_changes_the_client_and_comes_back_for_much_and_nothing_is_missing() {
    let bench = Bench::new(1);
    produce(&bench, 0, 100, 1, 100);
    let ended = Ended::default();
    let noted = ended.clone();
    let builder = bench.builder().property("statistics.interval.ms", "100");
    let running = bench.run(builder, move |record: Record| {
        note(&noted, &record);
        async {}
    });
    wait_until(LONG, "the first ones are through", || count(&ended) == 100);
    wait_until(LONG, "a client fetches it", || !fetched_by(&bench).is_empty());
    let first = fetched_by(&bench);
    wait_until(LONG, "it is quiet, and another client fetches it", || {
        let now = fetched_by(&bench);
        now.len() == 1 && now != first
    });
    produce(&bench, 0, 10, 1, 100);
    wait_until(LONG, "what comes then is through", || count(&ended) == 110);
    let mut all = 110;
    wait_until(LONG, "it has much to read, and the first client fetches it", || {
        // Not more than the embedded Kafka keeps of what was not read: 5 MB.
        if i64::try_from(count(&ended)).unwrap() == all {
            produce(&bench, 0, 10_000, 1, 100);
            all += 10_000;
        }
        fetched_by(&bench) == first
    });
    wait_until(LONG, "all is through, and committed", || bench.committed(0) == all);
    bench.end(running);
    assert_eq!(ended.lock().unwrap()["0"], (0..all).collect::<Vec<_>>(), "each once and in order");
}

/// I8: a lane that is stuck leaves the others their room.
#[test]
fn lanes_that_are_stuck_do_not_fill_the_memory_of_others() {
    let bench = Bench::new(8);
    (0..8).for_each(|partition| produce(&bench, partition, 1_000, 10, 1_000));
    let ended = Ended::default();
    let noted = ended.clone();
    let running = bench.run(
        bench.builder().memory(1 << 20).drain_deadline(Duration::from_secs(1)),
        move |record: Record| {
            let ended = noted.clone();
            async move {
                if record.partition() < 6 {
                    std::future::pending::<()>().await;
                }
                note(&ended, &record);
            }
        },
    );
    wait_until(LONG, "the others are through", || count(&ended) == 2_000);
    bench.end(running);
}

#[test]
fn partitions_that_do_not_fit_at_once_take_turns_and_lose_nothing() {
    let bench = Bench::new(40);
    (0..40).for_each(|partition| produce(&bench, partition, 500, 10, 1_000));
    let ended = Ended::default();
    let noted = ended.clone();
    let running = bench.run(bench.builder().memory(1 << 20), move |record: Record| {
        note(&noted, &record);
        async {}
    });
    wait_until(Duration::from_secs(60), "all is read", || count(&ended) >= 20_000);
    wait_until(LONG, "all is committed", || (0..40).all(|partition| bench.committed(partition) == 500));
    bench.end(running);
    assert_eq!(count(&ended), 20_000);
    // What comes later is read by lanes that have had their turns.
    assert!(bench.errors().is_empty(), "{:?}", bench.errors());
}

#[test]
fn a_record_that_is_larger_than_the_memory_passes_and_is_told() {
    let bench = Bench::new(1);
    produce(&bench, 0, 1, 1, 900_000);
    produce(&bench, 0, 10, 1, 100);
    let running = bench.run(bench.builder().memory(1 << 20).count(11), |_: Record| async {});
    wait_until(LONG, "all is committed", || bench.committed(0) == 11);
    bench.end(running);
    let errors = bench.errors();
    assert!(errors.iter().any(|error| error.contains("900001 bytes")), "{errors:?}");
}
