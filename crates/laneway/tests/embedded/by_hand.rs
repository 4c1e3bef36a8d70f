//! Partitions that are assigned by hand, without a group.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use laneway::fetcher::FetchErrorKind;
use laneway::{
    Builder, Consumer, ErrorKind, Event, GiveUp, Handle, OffsetReset, Protocol, Record, Start, StartedFrom,
    StopReason, TopicPartition,
};
use laneway_testing::{ApiKey, Producer, unique, wait_until};

use crate::bench::{Bench, LONG};

fn builder(bench: &Bench, partitions: &[(i32, Start)]) -> Builder {
    let events = bench.events.clone();
    Consumer::builder()
        .brokers(bench.kafka.brokers())
        .assign(partitions.iter().map(|(number, start)| (bench.partition(*number), *start)))
        .on_event(move |event| events.lock().unwrap().push(event.clone()))
}

fn produce(bench: &Bench, partition: i32, records: usize) {
    let producer = Producer::new(bench.kafka.brokers(), &[]).expect("a producer");
    for _ in 0..records {
        producer.send(&bench.topic, partition, None, Some(b"x"), &[], None).expect("sent");
    }
    producer.flush().expect("delivered");
}

type Seen = Arc<Mutex<Vec<(i32, i64)>>>;

fn noting(seen: &Seen) -> impl Fn(Record) -> std::future::Ready<()> + Send + Sync + 'static {
    let seen = seen.clone();
    move |record: Record| {
        seen.lock().unwrap().push((record.partition(), record.offset()));
        std::future::ready(())
    }
}

fn seen_of(seen: &Seen, partition: i32) -> Vec<i64> {
    let seen = seen.lock().unwrap();
    seen.iter().filter(|(of, _)| *of == partition).map(|(_, offset)| *offset).collect()
}

fn wait_for_lanes(handle: &Handle, lanes: usize) {
    wait_until(LONG, "the lanes are open", || {
        let open = handle.status().lanes;
        open.len() == lanes && open.iter().all(|lane| lane.position.is_some())
    });
}

/// No group hears of it: nobody joins, nothing is committed, nothing committed is asked for.
#[test]
fn each_partition_begins_where_it_is_told_and_no_group_hears_of_it() {
    let bench = Bench::new(4);
    for partition in 0..4 {
        produce(&bench, partition, 10);
    }
    bench.kafka.start_counting_requests();
    let seen: Seen = Arc::default();
    let builder = builder(&bench, &[(0, Start::Beginning), (1, Start::Offset(4)), (2, Start::End)]);
    let running = bench.run(builder.commit_interval(Duration::from_millis(10)), noting(&seen));
    wait_for_lanes(&running.0, 3);
    produce(&bench, 2, 2);
    wait_until(LONG, "all is handled", || seen.lock().unwrap().len() == 18);
    assert_eq!(seen_of(&seen, 0), (0..10).collect::<Vec<_>>());
    assert_eq!(seen_of(&seen, 1), (4..10).collect::<Vec<_>>());
    assert_eq!(seen_of(&seen, 2), [10, 11]);
    let starts: Vec<_> = bench
        .events
        .lock()
        .unwrap()
        .iter()
        .flat_map(|event| match event {
            Event::Assigned { lanes } => {
                lanes.iter().map(|it| (it.lane.partition.partition, it.offset, it.from)).collect()
            }
            _ => Vec::new(),
        })
        .collect();
    let expected = [(0, 0, StartedFrom::Beginning), (1, 4, StartedFrom::Seek), (2, 10, StartedFrom::End)];
    assert_eq!(starts, expected);
    let status = running.0.status();
    assert_eq!((status.member_id.as_str(), status.last_commit, status.finished), ("", None, 18));
    wait_until(LONG, "all of it counts", || {
        let lanes = running.0.status().lanes;
        lanes.iter().all(|lane| lane.committed.is_none() && lane.lag == Some(0))
    });

    let handle = running.0.clone();
    bench.runtime.block_on(async {
        for error in [
            handle.commit_now().await.expect_err("nothing to commit to"),
            handle.committed(&[bench.partition(0)]).await.expect_err("nothing is committed"),
            handle.subscribe([&bench.topic]).await.expect_err("no subscription"),
            handle.group_metadata().await.expect_err("no group"),
        ] {
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(error.to_string().contains("no group"), "{error}");
        }
        let bounds = handle.watermarks(&[bench.partition(3)]).await.expect("bounds");
        assert_eq!(bounds[&bench.partition(3)], (0, 10));
        let paused = [bench.partition(1)];
        handle.pause(&paused).await.expect("paused");
        handle.seek(&paused[0], 7).await.expect("a lane elsewhere");
        assert_eq!(seen_of(&seen, 1).len(), 6);
        handle.resume(&paused).await.expect("resumed");
    });
    wait_until(LONG, "its end comes again", || seen_of(&seen, 1).ends_with(&[9, 7, 8, 9]));
    let summary = bench.end(running);
    assert_eq!((summary.reason, summary.unfinished, summary.uncommitted), (StopReason::Asked, 0, 0));
    for api in [
        ApiKey::JOIN_GROUP,
        ApiKey::CONSUMER_GROUP_HEARTBEAT,
        ApiKey::HEARTBEAT,
        ApiKey::OFFSET_COMMIT,
        ApiKey::OFFSET_FETCH,
        ApiKey::LEAVE_GROUP,
    ] {
        assert_eq!(bench.kafka.request_count(api), 0, "{api:?}");
    }
    let committed = |event: &Event| matches!(event, Event::Committed { .. } | Event::CommitFailed { .. });
    assert!(!bench.events.lock().unwrap().iter().any(committed));
}

/// A stop waits for what is in flight, and a failed record is tried again in its place: as in a group.
#[test]
fn a_stop_drains_and_a_failure_keeps_its_place() {
    let bench = Bench::new(1);
    let seen: Seen = Arc::default();
    let noted = seen.clone();
    let builder = builder(&bench, &[(0, Start::Offset(100))]).fetcher(bench.fetcher.clone());
    let tries = Arc::new(Mutex::new(0));
    let running = bench.run(
        builder.backoff(Duration::from_millis(1), Duration::from_millis(5)),
        move |record: Record| {
            let (seen, tries) = (noted.clone(), tries.clone());
            async move {
                if record.offset() == 101 {
                    *tries.lock().unwrap() += 1;
                    if *tries.lock().unwrap() < 4 {
                        return Err("not yet");
                    }
                }
                if record.offset() == 103 {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                seen.lock().unwrap().push((record.partition(), record.offset()));
                Ok(())
            }
        },
    );
    bench.fetcher.deliver(&bench.partition(0), 100..104, None);
    wait_until(LONG, "the last is in flight", || {
        seen_of(&seen, 0).len() == 3 && running.0.status().lanes.iter().any(|lane| lane.in_flight == 1)
    });
    let summary = bench.end(running);
    assert_eq!(seen_of(&seen, 0), [100, 101, 102, 103]);
    assert_eq!((summary.finished, summary.unfinished, summary.uncommitted), (4, 0, 0));
    assert_eq!(bench.fetcher.starts(), [(bench.partition(0), laneway::Position::at(100))]);
    assert_eq!(bench.fetcher.open_queues(), 0);
}

/// What fails is read again where the lane stands; beyond the log, the reset decides.
#[test]
fn a_lane_that_fails_is_read_again_and_one_beyond_its_log_goes_where_the_reset_says() {
    let bench = Bench::new(1);
    produce(&bench, 0, 10);
    let seen: Seen = Arc::default();
    let builder = builder(&bench, &[(0, Start::Offset(3))]).offset_reset(OffsetReset::Earliest);
    let running = bench.run(builder.fetcher(bench.fetcher.clone()), noting(&seen));
    let partition = bench.partition(0);
    bench.fetcher.deliver(&partition, 3..5, None);
    bench.fetcher.fail(&partition, FetchErrorKind::UnknownPartition);
    wait_until(LONG, "the lane is opened again", || bench.fetcher.starts().len() == 2);
    assert_eq!(bench.fetcher.starts()[1].1.offset, 5);
    bench.runtime.block_on(running.0.seek(&partition, 50)).expect("a lane elsewhere");
    wait_until(LONG, "it is opened there", || bench.fetcher.starts().len() == 3);
    bench.fetcher.fail(&partition, FetchErrorKind::OffsetOutOfRange);
    wait_until(LONG, "it is opened again", || bench.fetcher.starts().len() == 4);
    // Above its end the log was truncated.
    assert_eq!(bench.fetcher.starts()[3].1.offset, 10);
    bench.end(running);
    assert_eq!(seen_of(&seen, 0), [3, 4]);
}

#[test]
fn it_ends_at_the_end_or_after_a_count() {
    let bench = Bench::new(2);
    produce(&bench, 0, 10);
    produce(&bench, 1, 5);
    let seen: Seen = Arc::default();
    let whole = [(0, Start::Beginning), (1, Start::Offset(2))];
    let (_, running) = bench.run(builder(&bench, &whole).exit_at_end(true), noting(&seen));
    let summary = bench.runtime.block_on(running).unwrap().expect("an end without an error");
    assert_eq!((summary.reason, summary.finished), (StopReason::AtEnd, 13));
    assert_eq!((seen_of(&seen, 0).len(), seen_of(&seen, 1).len()), (10, 3));
    let (_, running) = bench.run(builder(&bench, &whole).count(4), noting(&seen));
    let summary = bench.runtime.block_on(running).unwrap().expect("an end without an error");
    assert_eq!((summary.reason, summary.finished), (StopReason::Count, 4));
}

#[test]
fn lanes_come_as_streams() {
    let bench = Bench::new(2);
    produce(&bench, 1, 3);
    let mut lanes = {
        let _on = bench.runtime.enter();
        let builder = builder(&bench, &[(1, Start::Beginning)]);
        builder.build().expect("a consumer").into_lanes().expect("lanes")
    };
    bench.runtime.block_on(async {
        let mut lane = tokio::time::timeout(LONG, lanes.next()).await.expect("in time").expect("a lane");
        for offset in 0..3 {
            let delivery = tokio::time::timeout(LONG, lane.next()).await.expect("in time").expect("a record");
            assert_eq!((delivery.record().partition(), delivery.record().offset()), (1, offset));
            delivery.ack().expect("in time");
        }
        let summary = lanes.finish().await.expect("an end");
        assert_eq!((summary.finished, summary.uncommitted), (3, 0));
    });
}

#[test]
fn partitions_that_do_not_exist_are_named_and_nothing_is_read() {
    let bench = Bench::new(2);
    let absent = unique("absent");
    let builder = Consumer::builder().brokers(bench.kafka.brokers()).assign([
        (bench.partition(1), Start::Beginning),
        (bench.partition(2), Start::Beginning),
        (TopicPartition::new(absent.as_str(), 0), Start::End),
    ]);
    let (_, running) = bench.run(builder, |_: Record| std::future::ready(()));
    let error = bench.runtime.block_on(running).unwrap().expect_err("no such partitions");
    assert_eq!(error.kind(), ErrorKind::MissingTopic);
    let text = error.to_string();
    assert!(text.contains(&format!("{} (the topic has 2 partitions)", bench.partition(2))), "{text}");
    assert!(text.contains(&format!("{absent}-0 (there is no such topic)")), "{text}");
    assert!(!text.contains(&bench.partition(1).to_string()), "{text}");
}

/// A dead letter tells of no group.
#[test]
fn a_record_that_is_given_up_is_a_dead_letter_without_a_group() {
    let bench = Bench::new(1);
    let letters = unique("letters");
    bench.kafka.create_topic(&letters, 1).expect("a topic");
    produce(&bench, 0, 1);
    let builder = builder(&bench, &[(0, Start::Beginning)])
        .exit_at_end(true)
        .attempts(1)
        .on_give_up(GiveUp::DeadLetter)
        .dead_letters(&letters);
    let (_, running) = bench.run(builder, |_: Record| std::future::ready(Err::<(), _>("never")));
    bench.runtime.block_on(running).unwrap().expect("an end without an error");
    let names: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = names.clone();
    let read = Consumer::builder()
        .brokers(bench.kafka.brokers())
        .assign([(TopicPartition::new(letters.as_str(), 0), Start::Beginning)])
        .exit_at_end(true);
    let (_, running) = bench.run(read, move |record: Record| {
        let names = record.headers().map(|header| String::from_utf8_lossy(header.name).into_owned());
        noted.lock().unwrap().extend(names);
        std::future::ready(())
    });
    bench.runtime.block_on(running).unwrap().expect("an end without an error");
    let names = names.lock().unwrap().clone();
    assert!(names.iter().any(|name| name == "laneway.offset"), "{names:?}");
    assert!(!names.iter().any(|name| name == "laneway.group"), "{names:?}");
}

#[test]
fn what_contradicts_an_assignment_by_hand_is_refused_by_name() {
    let with = |start: Start| {
        Consumer::builder().brokers("127.0.0.1:9092").assign([(TopicPartition::new("orders", 0), start)])
    };
    let refused = |builder: Builder| {
        let error = builder.build().expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        error.to_string()
    };
    assert!(with(Start::End).build().is_ok());
    // Long drains are nobody's business here.
    assert!(with(Start::End).drain_deadline(Duration::from_secs(3_600)).build().is_ok());
    assert!(refused(with(Start::End).group("g")).contains("a group is given"));
    assert!(refused(with(Start::End).topics(["orders"])).contains("topics are given"));
    assert!(refused(with(Start::End).instance_id("i")).contains("instance id"));
    assert!(refused(with(Start::End).property("session.timeout.ms", "9000")).contains("session.timeout.ms"));
    assert!(refused(with(Start::End).property("group.id", "g")).contains("group.id"));
    assert!(refused(with(Start::End).dead_letters("orders")).contains("orders"));
    assert!(refused(with(Start::Offset(-2))).contains("-2"));
    assert!(refused(with(Start::Time(-1))).contains("-1"));
    let twice = (TopicPartition::new("orders", 0), Start::End);
    assert!(
        refused(with(Start::End).assign([twice])).contains("orders-0 can't be assigned: it is given twice")
    );
    let below = (TopicPartition::new("orders", -1), Start::End);
    assert!(refused(with(Start::End).assign([below])).contains("orders--1"));
    let expression = (TopicPartition::new("^orders", 0), Start::End);
    assert!(refused(with(Start::End).assign([expression])).contains("^orders-0"));
    assert!(refused(Consumer::builder().brokers("127.0.0.1:9092").assign([])).contains("no partition"));
    assert!(refused(Consumer::builder().brokers("127.0.0.1:9092").topics(["t"])).contains("no group"));
    assert!(with(Start::End).protocol(Protocol::Eager).build().is_ok(), "a protocol changes nothing");
}
