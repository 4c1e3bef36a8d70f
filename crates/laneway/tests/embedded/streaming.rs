//! Lanes as streams.

use std::time::Duration;

use laneway::{Ack, Event, Lane, LaneState, Lanes, Record};
use laneway_testing::wait_until;

use crate::bench::{Bench, LONG};

fn lanes(bench: &Bench) -> Lanes {
    let _on = bench.runtime.enter();
    let builder = bench.builder().fetcher(bench.fetcher.clone());
    builder.build().expect("a consumer").into_lanes().expect("lanes")
}

fn next_lane(bench: &Bench, lanes: &mut Lanes) -> Lane {
    bench
        .runtime
        .block_on(async { tokio::time::timeout(LONG, lanes.next()).await })
        .expect("in time")
        .expect("a lane")
}

fn next(bench: &Bench, lane: &mut Lane) -> Option<(Record, Ack)> {
    let next = bench.runtime.block_on(async { tokio::time::timeout(LONG, lane.next()).await });
    Some(next.expect("in time")?.into_parts())
}

fn draining(lanes: &Lanes) -> bool {
    lanes.handle().status().lanes.iter().any(|lane| lane.state == LaneState::Draining)
}

#[test]
fn records_come_in_order_and_what_is_acked_is_committed_up_to_the_first_gap() {
    let bench = Bench::new(1);
    let mut lanes = lanes(&bench);
    bench.fetcher.deliver(&bench.partition(0), 0..300, None);
    bench.fetcher.deliver(&bench.partition(0), [310, 320], Some(400));
    let mut lane = next_lane(&bench, &mut lanes);
    let (mut acks, mut offsets) = (Vec::new(), Vec::new());
    for _ in 0..302 {
        let (record, ack) = next(&bench, &mut lane).expect("a record");
        offsets.push(record.offset());
        acks.push(Some(ack));
    }
    assert_eq!(offsets, (0..300).chain([310, 320]).collect::<Vec<_>>());
    for index in (0..302).rev().filter(|index| *index != 299) {
        acks[index].take().unwrap().give().expect("in time");
    }
    wait_until(LONG, "what is below the gap is committed", || bench.committed(0) == 299);
    acks[299].take().unwrap().give().expect("in time");
    wait_until(LONG, "the log's end is committed", || bench.committed(0) == 400);
    assert_eq!(lanes.handle().status().finished, 302);
    let summary = bench.runtime.block_on(lanes.finish()).expect("an end");
    assert_eq!((summary.finished, summary.unfinished, summary.uncommitted), (302, 0, 0));
    assert!(next(&bench, &mut lane).is_none());
}

/// I3: a stop waits for the acks that are out, also where the stream is not read any more.
#[test]
fn a_stop_waits_for_the_acks_that_are_out() {
    let bench = Bench::new(1);
    let mut lanes = lanes(&bench);
    bench.fetcher.deliver(&bench.partition(0), 0..10, None);
    let mut lane = next_lane(&bench, &mut lanes);
    let taken: Vec<Ack> = (0..4).map(|_| next(&bench, &mut lane).expect("a record").1).collect();
    let handle = lanes.handle();
    let finish = bench.runtime.spawn(lanes.finish());
    wait_until(LONG, "the lane drains", || {
        handle.status().lanes.iter().any(|lane| lane.state == LaneState::Draining)
    });
    assert!(next(&bench, &mut lane).is_none(), "a lane that drains hands out nothing");
    assert!(!finish.is_finished());
    for ack in taken {
        ack.give().expect("in time");
    }
    let summary = bench.runtime.block_on(finish).unwrap().expect("an end");
    assert_eq!((summary.finished, summary.unfinished), (4, 0));
    assert_eq!(bench.committed(0), 4);
    assert_eq!(bench.fetcher.open_queues(), 0);
}

/// I2: what is acked behind the deadline does not count, and is told so.
#[test]
fn an_ack_behind_the_deadline_is_fenced() {
    let bench = Bench::new(1);
    let _on = bench.runtime.enter();
    let builder = bench.builder().fetcher(bench.fetcher.clone()).drain_deadline(Duration::from_millis(200));
    let mut lanes = builder.build().expect("a consumer").into_lanes().expect("lanes");
    bench.fetcher.deliver(&bench.partition(0), 0..10, None);
    let mut lane = next_lane(&bench, &mut lanes);
    let first = next(&bench, &mut lane).expect("a record").1;
    let second = next(&bench, &mut lane).expect("a record").1;
    first.give().expect("in time");
    let summary = bench.runtime.block_on(lanes.finish()).expect("an end");
    assert_eq!((summary.finished, summary.unfinished), (1, 1));
    bench.runtime.block_on(second.fenced());
    assert!(second.is_fenced());
    let error = second.give().expect_err("too late");
    assert_eq!((error.partition.clone(), error.offset), (bench.partition(0), 1));
    assert!(error.to_string().contains("fenced"), "{error}");
    assert_eq!(bench.committed(0), 1);
}

#[test]
fn a_lane_that_is_dropped_is_offered_again_from_the_first_record_without_an_ack() {
    let bench = Bench::new(1);
    let mut lanes = lanes(&bench);
    bench.fetcher.deliver(&bench.partition(0), 0..10, None);
    let mut lane = next_lane(&bench, &mut lanes);
    for _ in 0..3 {
        next(&bench, &mut lane).expect("a record").1.give().expect("in time");
    }
    drop(next(&bench, &mut lane).expect("a record"));
    let out = next(&bench, &mut lane).expect("a record").1;
    drop(lane);
    wait_until(LONG, "the lane waits for what is out", || draining(&lanes));
    out.give().expect("in time");
    let mut lane = next_lane(&bench, &mut lanes);
    assert_eq!(bench.fetcher.starts().last().unwrap().1.offset, 3);
    bench.fetcher.deliver(&bench.partition(0), 3..6, None);
    // The one behind it was acked, and is remembered.
    for expected in [3, 5] {
        let (record, ack) = next(&bench, &mut lane).expect("a record");
        assert_eq!(record.offset(), expected);
        ack.give().expect("in time");
    }
    bench.runtime.block_on(lanes.finish()).expect("an end");
    assert_eq!(bench.committed(0), 6);
    assert!(bench.errors().iter().any(|error| error.contains("offered again")), "{:?}", bench.errors());
}

#[test]
fn a_record_that_is_dropped_holds_the_watermark_and_is_told() {
    let bench = Bench::new(1);
    let mut lanes = lanes(&bench);
    bench.fetcher.deliver(&bench.partition(0), 0..4, Some(4));
    let mut lane = next_lane(&bench, &mut lanes);
    for number in 0..4 {
        let (_, ack) = next(&bench, &mut lane).expect("a record");
        if number != 2 {
            ack.give().expect("in time");
        }
    }
    wait_until(LONG, "it is told", || bench.errors().iter().any(|error| error.contains("offset 2")));
    bench.runtime.block_on(lanes.finish()).expect("an end");
    assert_eq!(bench.committed(0), 2);
}

#[test]
fn lanes_that_are_dropped_stop_the_consumer() {
    let bench = Bench::new(2);
    let mut lanes = lanes(&bench);
    let lane = next_lane(&bench, &mut lanes);
    let handle = lanes.handle();
    drop(lanes);
    bench.runtime.block_on(handle.drain());
    assert!(matches!(bench.events.lock().unwrap().last(), Some(Event::Stopped { .. })));
    drop(lane);
}
