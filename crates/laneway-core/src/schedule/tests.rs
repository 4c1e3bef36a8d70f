#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const ONE: BatchLimits =
    BatchLimits { records: 1, bytes: usize::MAX, linger: Duration::ZERO, one_key: false };

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn of_one_key_one_runs_at_a_time_and_two_keys_do_not_wait_for_each_other() {
    let mut schedule = Schedule::new(ONE);
    for (key, item) in [("a", 1), ("a", 2), ("b", 3)] {
        schedule.push(Some(key.as_bytes()), item, 1, at(0));
    }
    let (a, first) = schedule.take(1).unwrap();
    let (b, second) = schedule.take(1).unwrap();
    assert_eq!((first, second), (1, 3));
    assert!(schedule.take(1).is_none());
    assert_eq!((schedule.runnable(), schedule.blocked()), (0, (1, 1)));
    schedule.done(b, 2, at(1));
    schedule.done(a, 1, at(1));
    let (a, third) = schedule.take(1).unwrap();
    assert_eq!(third, 2);
    schedule.done(a, 1, at(2));
    assert_eq!((schedule.queues(), schedule.queues.len()), (0, 0));
}

#[test]
fn a_failed_record_keeps_its_place_and_delays_no_other_key() {
    let mut schedule = Schedule::new(ONE);
    schedule.push(Some(b"a"), 1, 1, at(0));
    schedule.push(Some(b"a"), 2, 1, at(0));
    let (place, item) = schedule.take(1).unwrap();
    schedule.retry(place, item, 1, at(50));
    assert!(schedule.take(1).is_none());
    schedule.push(Some(b"b"), 3, 1, at(1));
    assert_eq!(schedule.take(1).unwrap().1, 3);
    schedule.release(at(49));
    assert!(schedule.take(1).is_none());
    schedule.release(at(50));
    let (place, item) = schedule.take(1).unwrap();
    assert_eq!(item, 1);
    schedule.done(place, 1, at(51));
    assert_eq!(schedule.take(1).unwrap().1, 2);
}

#[test]
fn a_linger_and_a_wait_for_ever_are_longer_than_any_other() {
    for one_key in [false, true] {
        let limits = BatchLimits { records: 2, bytes: usize::MAX, linger: Duration::MAX, one_key };
        let mut schedule = Schedule::new(limits);
        schedule.push(Some(b"a"), 1, 1, at(5));
        assert!(schedule.take_batch(at(10)).is_none());
        assert_eq!(schedule.batch_due(), Some(Duration::MAX));
        schedule.push(Some(b"a"), 2, 1, at(11));
        let mut batch = schedule.take_batch(at(12)).unwrap();
        let (place, item) = batch.remove(0);
        schedule.retry(place, item, 1, Duration::MAX);
        schedule.done(batch.remove(0).0, 1, at(13));
        schedule.release(at(1_000_000));
        assert_eq!((schedule.due(), schedule.waiting()), (Some(Duration::MAX), 1));
    }
}

#[test]
fn a_batch_waits_for_its_size_its_bytes_or_its_linger() {
    let limits = BatchLimits { records: 3, bytes: 100, linger: at(10), one_key: false };
    let mut schedule = Schedule::new(limits);
    schedule.push(None, 1, 10, at(0));
    schedule.push(Some(b"a"), 2, 10, at(5));
    assert!(schedule.take_batch(at(9)).is_none());
    assert_eq!(schedule.batch_due(), Some(at(10)));
    assert_eq!(schedule.take_batch(at(10)).unwrap().len(), 2);
    for item in 3..7 {
        schedule.push(None, item, 10, at(11));
    }
    assert_eq!(schedule.take_batch(at(11)).unwrap().len(), 3);
    schedule.push(None, 8, 95, at(12));
    let sizes: Vec<usize> =
        [12, 12].iter().filter_map(|now| Some(schedule.take_batch(at(*now))?.len())).collect();
    assert_eq!(sizes, [1]);
}

#[test]
fn a_batch_of_one_key_has_only_that() {
    let limits = BatchLimits { records: 2, bytes: 100, linger: at(10), one_key: true };
    let mut schedule = Schedule::new(limits);
    for (key, item) in [("a", 1), ("b", 2), ("b", 3), ("b", 4)] {
        schedule.push(Some(key.as_bytes()), item, 1, at(0));
    }
    let batch = schedule.take_batch(at(0)).unwrap();
    assert_eq!(batch.iter().map(|(_, item)| *item).collect::<Vec<_>>(), [2, 3]);
    assert!(schedule.take_batch(at(9)).is_none());
    assert_eq!(schedule.take_batch(at(10)).unwrap()[0].1, 1);
    assert!(schedule.take_batch(at(10)).is_none());
    for (place, _) in batch {
        schedule.done(place, 2, at(10));
    }
    assert_eq!(schedule.take_batch(at(20)).unwrap()[0].1, 4);
}

/// The steps it takes, with so many that run at once, and the key that ran in each.
fn run_all(schedule: &mut Schedule<u32>, at_once: usize) -> (u64, Vec<u32>) {
    let (mut running, mut order, mut steps) = (Vec::new(), Vec::new(), 0);
    loop {
        while running.len() < at_once
            && let Some((place, key)) = schedule.take(at_once)
        {
            running.push(place);
            order.push(key);
        }
        if running.is_empty() {
            return (steps, order);
        }
        steps += 1;
        for place in running.drain(..) {
            schedule.done(place, at_once, at(steps));
        }
    }
}

#[test]
fn a_long_queue_does_not_wait_behind_others_and_they_run_beside_it() {
    // One key has a third of all records, and three run at once: all are through as soon as it is.
    let mut schedule = Schedule::new(ONE);
    for number in 0..300_u32 {
        let key = if number % 3 == 0 { 0 } else { number };
        schedule.push(Some(&key.to_be_bytes()), key, 1, at(0));
    }
    let (steps, order) = run_all(&mut schedule, 3);
    assert!(steps <= 102, "{steps} steps for a queue of 100");
    let others: Vec<u32> = order.iter().copied().filter(|key| *key > 0).collect();
    assert!(others.is_sorted(), "the others go on in their order");
    let shortest = order.chunks(9).take(30).map(|few| few.iter().filter(|key| **key > 0).count()).min();
    assert!(shortest >= Some(3), "the others waited: {order:?}");
}

#[test]
fn a_queue_that_goes_on_without_its_turn_leaves_nothing_behind() {
    let mut schedule = Schedule::new(ONE);
    let key = |number: u32| number.to_be_bytes();
    // One that waits for an hour, so that there is always a queue.
    schedule.push(Some(&key(1)), 0, 1, at(0));
    let (place, item) = schedule.take(1).unwrap();
    schedule.retry(place, item, 1, at(3_600_000));
    for others in [0, 3] {
        for number in 0..others {
            schedule.push(Some(&key(2 + number)), number, 1, at(0));
        }
        for number in 0..40 {
            schedule.push(Some(&key(9)), number, 1, at(0));
        }
        for number in 0..1_000 {
            let (place, _) = schedule.take(8).unwrap();
            schedule.push(Some(&key(9)), number, 1, at(1));
            schedule.done(place, 8, at(1));
            assert!(schedule.ready.len() <= 2 * (1 + others as usize), "{number}: {}", schedule.ready.len());
            assert!(schedule.side_by_side() <= 1 + others as usize);
        }
    }
}

#[test]
fn queues_that_are_equally_long_take_turns() {
    let mut schedule = Schedule::new(ONE);
    for number in 0..40_u32 {
        schedule.push(Some(&(number % 4).to_be_bytes()), number % 4, 1, at(0));
    }
    let (steps, order) = run_all(&mut schedule, 1);
    assert_eq!(steps, 40);
    for few in order.chunks(4) {
        assert_eq!(few.iter().collect::<BTreeSet<_>>().len(), 4, "{order:?}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push(u8),
    Take,
    Done(usize),
    Retry(usize, u8),
    Pass(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5u8).prop_map(Step::Push),
        4 => Just(Step::Take),
        3 => (0..16usize).prop_map(Step::Done),
        2 => ((0..16usize), (0..20u8)).prop_map(|(pick, after)| Step::Retry(pick, after)),
        2 => (0..20u8).prop_map(Step::Pass),
    ]
}

/// I5: whatever happens, of one key the records run one unit at a time and finish in their order, none is
/// lost, and nothing is left behind.
#[test]
fn order_holds_per_key_and_nothing_is_lost_or_left_behind() {
    proptest!(|(
        steps in proptest::collection::vec(step(), 0..300),
        records in 1..5usize, linger in 0..6u64, one_key: bool,
    )| {
        let limits = BatchLimits { records, bytes: usize::MAX, linger: at(linger), one_key };
        let mut schedule = Schedule::new(limits);
        let mut now = at(0);
        let mut pushed: BTreeMap<u8, Vec<u32>> = BTreeMap::new();
        let mut finished: BTreeMap<u8, Vec<u32>> = BTreeMap::new();
        let mut running: Vec<Vec<(Place, (u8, u32))>> = Vec::new();
        let mut number = 0;
        let take = |schedule: &mut Schedule<(u8, u32)>, now| match records {
            1 => schedule.take(2).map(|one| vec![one]),
            _ => schedule.take_batch(now),
        };
        for step in steps {
            match step {
                Step::Push(key) => {
                    number += 1;
                    pushed.entry(key).or_default().push(number);
                    // Key 0 stands for records without one.
                    let bytes = [key];
                    let of = (key > 0).then_some(&bytes[..]);
                    if records == 1 && schedule.is_idle(of) && number % 2 == 0 {
                        running.push(vec![(schedule.occupy(of), (key, number))]);
                    } else {
                        schedule.push(of, (key, number), 1, now);
                    }
                }
                Step::Take => {
                    schedule.release(now);
                    if let Some(unit) = take(&mut schedule, now) {
                        let keys: BTreeSet<u8> = unit.iter().map(|(_, (key, _))| *key).collect();
                        prop_assert!(!one_key || records == 1 || keys.len() == 1);
                        prop_assert!(unit.len() <= records);
                        let busy = |key: &u8| *key > 0 && running.iter().flatten().any(|(_, (of, _))| of == key);
                        prop_assert!(!keys.iter().any(busy));
                        running.push(unit);
                    }
                }
                Step::Done(pick) if !running.is_empty() => {
                    for (place, (key, number)) in running.remove(pick % running.len()) {
                        finished.entry(key).or_default().push(number);
                        schedule.done(place, running.len() + 1, now);
                    }
                }
                Step::Retry(pick, after) if !running.is_empty() => {
                    for (index, (place, (key, number))) in
                        running.remove(pick % running.len()).into_iter().enumerate()
                    {
                        if key == 0 && index % 2 == 0 {
                            finished.entry(key).or_default().push(number);
                            schedule.done(place, running.len() + 1, now);
                        } else {
                            let due = now + at(u64::from(after) * (5 - index as u64));
                            schedule.retry(place, (key, number), 1, due);
                        }
                    }
                }
                Step::Done(_) | Step::Retry(..) => {}
                Step::Pass(time) => now += at(u64::from(time)),
            }
        }
        for unit in running {
            for (place, (key, number)) in unit {
                finished.entry(key).or_default().push(number);
                schedule.done(place, 1, now);
            }
        }
        now += at(1_000);
        schedule.release(now);
        while let Some(unit) = take(&mut schedule, now) {
            for (place, (key, number)) in unit {
                finished.entry(key).or_default().push(number);
                schedule.done(place, 1, now);
            }
            now += at(1_000);
        }
        finished.entry(0).or_default().sort_unstable();
        pushed.entry(0).or_default();
        prop_assert_eq!(finished, pushed);
        prop_assert_eq!(
            (schedule.runnable(), schedule.runnable_bytes, schedule.blocked(), schedule.waiting()),
            (0, 0, (0, 0), 0)
        );
        prop_assert_eq!(
            (schedule.held_up(), schedule.ready.len(), schedule.side_by_side()),
            (0, 0, 0)
        );
        prop_assert_eq!((schedule.queues(), schedule.queues.len()), (0, 0));
    });
}
