//! Lanes with handlers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use laneway::fetcher::FetchErrorKind;
use laneway::{
    Batching, Consumer, ErrorKind, Event, Handle, Handler, LaneId, LaneState, MakeHandler, Outcome, Protocol,
    Record,
};
use laneway_testing::{ApiKey, EmbeddedOptions, Producer, code, unique, wait_until};
use tokio::sync::Notify;

use crate::bench::{Bench, LONG, Running};

/// I1: the log's end behind records that were not handled says nothing about them.
#[test]
fn a_drain_in_the_middle_of_a_batch_commits_only_what_was_finished() {
    let bench = Bench::new(1);
    let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (reached.clone(), go_on.clone());
    let running = bench.run(bench.builder().fetcher(bench.fetcher.clone()), move |record: Record| {
        let (tell, wait) = (tell.clone(), wait.clone());
        async move {
            if record.offset() == 4 {
                tell.notify_one();
                wait.notified().await;
            }
        }
    });
    bench.fetcher.deliver(&bench.partition(0), 0..10, Some(10));
    bench.runtime.block_on(reached.notified());
    running.0.stop();
    wait_until(LONG, "the fetch is stopped", || !bench.fetcher.stops().is_empty());
    go_on.notify_one();
    let summary = bench.end(running);
    assert_eq!((summary.finished, summary.unfinished), (5, 0));
    assert_eq!(bench.committed(0), 5);
}

#[test]
fn the_logs_end_behind_the_last_record_is_committed() {
    let bench = Bench::new(1);
    let running =
        bench.run(bench.builder().fetcher(bench.fetcher.clone()), |_: Record| std::future::ready(()));
    bench.fetcher.deliver(&bench.partition(0), [0, 3, 4], Some(9));
    wait_until(LONG, "the position is committed", || bench.committed(0) == 9);
    bench.end(running);
}

#[test]
fn a_queue_that_fails_is_read_again_from_where_the_lane_stands_and_no_record_is_skipped() {
    let bench = Bench::new(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let running = bench.run(bench.builder().fetcher(bench.fetcher.clone()), move |record: Record| {
        noted.lock().unwrap().push(record.offset());
        std::future::ready(())
    });
    let partition = bench.partition(0);
    bench.fetcher.deliver(&partition, 0..3, None);
    bench.fetcher.fail(&partition, FetchErrorKind::Damaged);
    wait_until(LONG, "the lane is opened again", || bench.fetcher.starts().len() == 2);
    assert_eq!(bench.fetcher.starts()[1].1.offset, 3);
    bench.fetcher.deliver(&partition, 1..6, None);
    wait_until(LONG, "the rest is committed", || bench.committed(0) == 6);
    bench.end(running);
    assert_eq!(*seen.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(bench.fetcher.open_queues(), 0);
    assert!(bench.errors().iter().any(|error| error.contains(&partition.to_string())));
}

#[test]
fn a_start_that_is_refused_is_tried_again() {
    let bench = Bench::new(1);
    bench.fetcher.refuse_starts(2);
    let running =
        bench.run(bench.builder().fetcher(bench.fetcher.clone()), |_: Record| std::future::ready(()));
    bench.fetcher.deliver(&bench.partition(0), 0..2, None);
    wait_until(LONG, "the records are committed", || bench.committed(0) == 2);
    bench.end(running);
}

/// I6: a stray is counted and fetched again.
#[test]
fn a_stray_is_counted_and_its_lane_is_read_again() {
    let bench = Bench::new(1);
    let running =
        bench.run(bench.builder().fetcher(bench.fetcher.clone()), |_: Record| std::future::ready(()));
    let partition = bench.partition(0);
    wait_until(LONG, "the lane is open", || bench.fetcher.starts().len() == 1);
    bench.fetcher.stray(&partition, 0);
    wait_until(LONG, "the lane is opened again", || bench.fetcher.starts().len() == 2);
    bench.fetcher.deliver(&partition, 0..2, None);
    wait_until(LONG, "the records are committed", || bench.committed(0) == 2);
    assert_eq!(running.0.status().strays, 1);
    bench.end(running);
}

/// I5: a record that fails is tried again before the next one is begun.
#[test]
fn a_record_that_fails_or_panics_keeps_its_place() {
    let bench = Bench::new(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let builder = bench.builder().backoff(Duration::from_millis(5), Duration::from_millis(10));
    let running = bench.run(builder.fetcher(bench.fetcher.clone()), move |record: Record| {
        let mut seen = noted.lock().unwrap();
        seen.push(record.offset());
        let tries = seen.iter().filter(|offset| **offset == record.offset()).count();
        drop(seen);
        async move {
            match (record.offset(), tries) {
                (1, 1 | 2) => Err("not yet"),
                (2, 1) => panic!("once"),
                _ => Ok(()),
            }
        }
    });
    bench.fetcher.deliver(&bench.partition(0), 0..4, None);
    wait_until(LONG, "all is committed", || bench.committed(0) == 4);
    bench.end(running);
    assert_eq!(*seen.lock().unwrap(), [0, 1, 1, 1, 2, 2, 3]);
    let errors = bench.errors().join("\n");
    assert!(errors.contains("not yet") && errors.contains("panicked: once"), "{errors}");
}

#[test]
fn a_record_that_is_abandoned_is_left_for_others_and_does_not_hold_up_the_stop() {
    let bench = Bench::new(1);
    let begun = Arc::new(AtomicBool::new(false));
    let noted = begun.clone();
    let running = bench.run(bench.builder().fetcher(bench.fetcher.clone()), move |record: Record| {
        let outcome = if record.offset() == 1 { Outcome::Abandon } else { Outcome::Done };
        noted.store(record.offset() == 1, Ordering::Release);
        std::future::ready(outcome)
    });
    bench.fetcher.deliver(&bench.partition(0), 0..3, None);
    wait_until(LONG, "it is abandoned", || begun.load(Ordering::Acquire));
    let began = Instant::now();
    let summary = bench.end(running);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!((summary.finished, summary.unfinished), (1, 0));
    assert_eq!(bench.committed(0), 1);
}

/// I2: a handler that blocks its thread is left behind, and nothing of it counts.
#[test]
fn a_handler_that_cannot_be_cancelled_is_left_behind_and_fenced() {
    let bench = Bench::new(1);
    let release = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
    let held = release.clone();
    let builder = bench.builder().drain_deadline(Duration::from_millis(200)).fetcher(bench.fetcher.clone());
    let running = bench.run(builder, move |record: Record| {
        let held = held.clone();
        async move {
            if record.offset() == 2 {
                let (released, change) = &*held;
                let waiting = released.lock().unwrap();
                drop(change.wait_while(waiting, |released| !*released).unwrap());
            }
        }
    });
    bench.fetcher.deliver(&bench.partition(0), 0..5, None);
    wait_until(LONG, "the handler blocks", || {
        running.0.status().lanes.iter().any(|lane| (lane.in_flight, lane.watermark) == (1, Some(2)))
    });
    let began = Instant::now();
    let summary = bench.end(running);
    assert!(began.elapsed() < Duration::from_millis(5_400), "{:?}", began.elapsed());
    assert_eq!(summary.detached, 1);
    assert_eq!(bench.committed(0), 2);
    *release.0.lock().unwrap() = true;
    release.1.notify_all();
    wait_until(LONG, "its queue is gone", || bench.fetcher.open_queues() == 0);
    assert_eq!(bench.committed(0), 2);
}

/// Membership sends no Fetch request: with a scripted fetcher there is nobody else who could.
#[test]
fn membership_never_fetches() {
    for protocol in [Protocol::Eager, Protocol::Cooperative, Protocol::Consumer] {
        let bench = Bench::new(4);
        let producer = Producer::new(bench.kafka.brokers(), &[]).expect("a producer");
        for partition in 0..4 {
            producer.send(&bench.topic, partition, None, Some(b"x"), &[], None).expect("sent");
        }
        producer.flush().expect("delivered");
        bench.kafka.start_counting_requests();
        let builder = bench.builder().protocol(protocol).fetcher(bench.fetcher.clone());
        let running = bench.run(builder, |_: Record| std::future::ready(()));
        wait_until(LONG, "all lanes are open", || bench.fetcher.starts().len() == 4);
        for partition in 0..4 {
            bench.fetcher.deliver(&bench.partition(partition), 0..1, None);
        }
        wait_until(LONG, "all is committed", || (0..4).all(|partition| bench.committed(partition) == 1));
        assert_eq!(bench.kafka.request_count(ApiKey::FETCH), 0, "{protocol}");
        assert!(bench.kafka.request_count(ApiKey::OFFSET_COMMIT) > 0);
        if protocol != Protocol::Eager {
            bench.end(running);
        }
    }
}

#[test]
fn exactly_as_many_records_as_wanted_are_handed_out_and_committed() {
    let bench = Bench::new(4);
    let producer = Producer::new(bench.kafka.brokers(), &[]).expect("a producer");
    for number in 0..400 {
        producer.send(&bench.topic, number % 4, None, Some(b"x"), &[], None).expect("sent");
    }
    producer.flush().expect("delivered");
    let handed = Arc::new(AtomicU64::new(0));
    let counted = handed.clone();
    let consumer = bench.builder().count(123).build().expect("a consumer");
    let summary = bench
        .runtime
        .block_on(consumer.run(move |_: Record| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { tokio::time::sleep(Duration::from_micros(200)).await }
        }))
        .expect("an end");
    assert_eq!(handed.load(Ordering::Relaxed), 123);
    assert_eq!((summary.finished, summary.reason), (123, laneway::StopReason::Count));
    let committed: i64 = (0..4).map(|number| bench.committed(number).max(0)).sum();
    assert_eq!(committed, 123);
}

#[test]
fn a_consumer_whose_future_is_dropped_leaves_the_group() {
    let bench = Bench::new(1);
    let (handle, running) =
        bench.run(bench.builder().fetcher(bench.fetcher.clone()), |_: Record| std::future::ready(()));
    bench.fetcher.deliver(&bench.partition(0), 0..3, None);
    wait_until(LONG, "the records are committed", || bench.committed(0) == 3);
    running.abort();
    bench.runtime.block_on(handle.drain());
    let events = bench.events.lock().unwrap();
    assert!(matches!(events.last(), Some(Event::Stopped { .. })), "{:?}", events.last());
}

#[test]
fn a_topic_that_is_missing_is_an_error_only_where_the_consumer_is_to_end_by_itself() {
    let bench = Bench::new(1);
    let missing = unique("missing");
    let consumer = Consumer::builder()
        .brokers(bench.kafka.brokers())
        .group("g")
        .topics([&missing])
        .exit_at_end(true)
        .build()
        .expect("a consumer");
    let error =
        bench.runtime.block_on(consumer.run(|_: Record| std::future::ready(()))).expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::MissingTopic);
    assert!(error.to_string().contains(&missing));
}

/// A member of a KIP-848 group that has committed three records, and never finishes the fourth.
fn stuck_at_its_fourth(bench: &Bench) -> (Handle, Running) {
    let builder = bench.builder().protocol(Protocol::Consumer).fetcher(bench.fetcher.clone());
    let member = bench.run(builder, |record: Record| async move {
        if record.offset() == 3 {
            std::future::pending::<()>().await;
        }
    });
    bench.fetcher.deliver(&bench.partition(0), 0..6, None);
    wait_until(LONG, "what is finished is committed", || bench.committed(0) == 3);
    member
}

/// What the client ends itself for is the end: what is in flight is cancelled, and nothing more is committed.
#[test]
fn an_error_that_the_client_ends_itself_for_ends_the_consumer_and_commits_nothing() {
    let bench = Bench::new(1);
    let (handle, running) = stuck_at_its_fourth(&bench);
    wait_until(LONG, "a record is in flight", || {
        handle.status().lanes.iter().any(|lane| lane.in_flight == 1)
    });
    bench.kafka.push_errors(ApiKey::CONSUMER_GROUP_HEARTBEAT, &[code::GROUP_MAX_SIZE_REACHED]);
    let error = bench.runtime.block_on(running).unwrap().expect_err("an end with an error");
    assert_eq!(error.kind(), ErrorKind::Fatal, "{error}");
    assert!(error.to_string().contains("maximum size"), "{error}");
    let events = bench.events.lock().unwrap();
    assert!(events.iter().any(|event| matches!(event, Event::Lost { .. })), "{events:?}");
    drop(events);
    assert_eq!(bench.committed(0), 3);
}

/// librdkafka can ask the group for what no broker gives, and end itself for it.
#[test]
fn a_client_of_the_group_that_ends_by_its_own_fault_is_followed_by_another() {
    // The group has the first one until its session is over.
    let consumer_session_timeout = Duration::from_secs(6);
    let bench = Bench::with(1, EmbeddedOptions { consumer_session_timeout, ..EmbeddedOptions::default() });
    let (handle, running) = stuck_at_its_fourth(&bench);
    bench.kafka.push_errors(ApiKey::CONSUMER_GROUP_HEARTBEAT, &[code::INVALID_REQUEST]);
    wait_until(LONG, "another client has joined", || {
        let lost = bench.events.lock().unwrap().iter().any(|event| matches!(event, Event::Lost { .. }));
        lost && handle.status().lanes.iter().any(|lane| lane.state == LaneState::Running)
    });
    let errors = bench.errors();
    let told = |error: &&String| error.contains("is at its end") && error.contains("Invalid request");
    assert_eq!(errors.iter().filter(told).count(), 1, "{errors:?}");
    bench.fetcher.deliver(&bench.partition(0), 3..6, None);
    wait_until(LONG, "it reads on", || handle.status().lanes.iter().any(|lane| lane.in_flight == 1));

    // None that comes is let in again.
    bench.kafka.push_errors(ApiKey::CONSUMER_GROUP_HEARTBEAT, &[code::INVALID_REQUEST; 20]);
    let error = bench.runtime.block_on(running).unwrap().expect_err("an end with an error");
    assert_eq!(error.kind(), ErrorKind::Fatal, "{error}");
    assert!(error.to_string().contains("Invalid request"), "{error}");
    assert_eq!(bench.committed(0), 3);
}

/// A partition that has more to read, of which nothing comes, and no error: it is fetched anew, by a client that knows
/// nothing of its topic, and told.
#[test]
fn a_lane_of_which_nothing_comes_is_fetched_anew() {
    let bench = Bench::new(2);
    let producer = Producer::new(bench.kafka.brokers(), &[]).unwrap();
    (0..3).for_each(|_| {
        producer.send(&bench.topic, 0, None, Some(b"x"), &[], None).unwrap();
    });
    producer.flush().unwrap();
    // There is no room for another call meanwhile: a lane that holds nothing reads without.
    let go_on = Arc::new(Notify::new());
    let stuck = go_on.clone();
    let builder = bench.builder().ordering(laneway::Ordering::Unordered).concurrency(1);
    let running = bench.run(builder.fetcher(bench.fetcher.clone()), move |record: Record| {
        let stuck = stuck.clone();
        async move {
            if (record.partition(), record.offset()) == (1, 1) {
                stuck.notified().await;
            }
        }
    });
    bench.fetcher.deliver(&bench.partition(1), 0..3, Some(3));
    // One that takes little is started again for that, before.
    let starts = |number| {
        let partition = bench.partition(number);
        bench.fetcher.starts().iter().filter(|(of, _)| *of == partition).count()
    };
    wait_until(LONG, "it is quiet", || starts(0) == 2);
    assert!(bench.fetcher.forgotten().is_empty());
    wait_until(Duration::from_secs(60), "it is told", || !bench.errors().is_empty());
    let errors = bench.errors();
    assert!(errors.len() == 1 && errors[0].starts_with("nothing came of"), "{errors:?}");
    assert!(
        errors[0].contains(&format!("{}-0@1", bench.topic)) && errors[0].contains("from offset 0 to 3"),
        "{errors:?}"
    );
    assert_eq!(bench.fetcher.forgotten(), [bench.topic.as_str()]);
    wait_until(LONG, "it is fetched anew, and what the same client fetches", || {
        starts(0) == 3 && starts(1) == 3
    });
    bench.fetcher.deliver(&bench.partition(0), 0..3, Some(3));
    go_on.notify_one();
    wait_until(LONG, "the records are committed", || bench.committed(0) == 3 && bench.committed(1) == 3);
    bench.end(running);
}

/// A client can lose its way to the brokers for good, while membership has its own.
#[test]
fn where_nothing_comes_of_what_is_asked_another_client_asks_it() {
    let bench = Bench::new(2);
    let unknown_server_error = -1;
    bench.kafka.push_errors(ApiKey::OFFSET_FETCH, &[unknown_server_error; 2_000]);
    let running =
        bench.run(bench.builder().protocol(Protocol::Cooperative), |_: Record| std::future::ready(()));
    let told = |what: &str| bench.errors().iter().filter(|error| error.contains(what)).count();
    wait_until(Duration::from_secs(90), "another client asks", || told("another client asks them") == 1);
    assert!(told("could not find where to start") > 10, "{:?}", bench.errors());
    bench.kafka.clear_errors(ApiKey::OFFSET_FETCH);
    let producer = Producer::new(bench.kafka.brokers(), &[]).unwrap();
    for number in 0..20 {
        producer.send(&bench.topic, number % 2, None, Some(b"x"), &[], None).unwrap();
    }
    producer.flush().unwrap();
    wait_until(LONG, "all is committed", || bench.committed(0) == 10 && bench.committed(1) == 10);
    let topics = running.0.clone();
    assert_eq!(bench.runtime.block_on(topics.committed(&[bench.partition(0)])).unwrap().len(), 1);
    bench.end(running);
    assert_eq!(told("another client asks them"), 1);
}

/// Whatever the broker says when a member joins is told, and tried again.
#[test]
fn a_join_that_is_refused_is_told_and_tried_again() {
    let bench = Bench::new(1);
    let unknown_to_laneway = 24; // INVALID_GROUP_ID
    bench.kafka.push_errors(ApiKey::JOIN_GROUP, &[unknown_to_laneway]);
    let builder = bench.builder().protocol(Protocol::Cooperative).fetcher(bench.fetcher.clone());
    let running = bench.run(builder, |_: Record| std::future::ready(()));
    bench.fetcher.deliver(&bench.partition(0), 0..2, None);
    wait_until(LONG, "the records are committed", || bench.committed(0) == 2);
    assert!(bench.errors().iter().any(|error| error.contains("JoinGroup failed")), "{:?}", bench.errors());
    bench.end(running);
}

/// Panics where nothing is made of a panic: when it is asked for its batches.
struct Unasked;

impl Handler for Unasked {
    async fn handle(&self, _: Record) -> Outcome {
        Outcome::Done
    }

    fn batching(&self) -> Batching {
        panic!("no batches")
    }
}

#[test]
fn a_lane_whose_task_panics_ends_the_consumer_and_is_not_told_as_a_runtime_that_was_shut_down() {
    let bench = Bench::new(1);
    let consumer = bench.builder().fetcher(bench.fetcher.clone()).build().expect("a consumer");
    let run = bench.runtime.spawn(consumer.run(Unasked));
    let error = bench.runtime.block_on(run).unwrap().expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::Fatal);
    let said = format!("{}", bench.partition(0));
    assert!(error.to_string().contains(&said) && error.to_string().contains("its task panicked"), "{error}");
}

#[test]
fn that_all_brokers_are_down_is_told_once_and_lanes_go_on_when_they_are_back() {
    let bench = Bench::with(1, EmbeddedOptions { brokers: 1, ..EmbeddedOptions::default() });
    let produce = || {
        let producer = Producer::new(bench.kafka.brokers(), &[]).unwrap();
        producer.send(&bench.topic, 0, None, Some(b"x"), &[], None).unwrap();
        producer.flush().unwrap();
    };
    produce();
    let running = bench.run(bench.builder(), |_: Record| std::future::ready(()));
    wait_until(LONG, "the first record is committed", || bench.committed(0) == 1);
    let told = || {
        let events = bench.events.lock().unwrap();
        events.iter().filter(|event| matches!(event, Event::BrokersDown { .. })).count()
    };
    assert_eq!(told(), 0);
    bench.kafka.broker_down(1).unwrap();
    wait_until(LONG, "it is told", || told() > 0);
    bench.kafka.broker_up(1).unwrap();
    produce();
    wait_until(LONG, "the next record is committed", || bench.committed(0) == 2);
    bench.end(running);
    assert_eq!(told(), 1);
}

/// Makes handlers, but for the first two, at which it panics.
struct Reluctant(Arc<AtomicU64>);

struct Made;

impl MakeHandler for Reluctant {
    type Handler = Made;

    fn make(&self, _: &LaneId) -> Made {
        assert!(self.0.fetch_add(1, Ordering::SeqCst) >= 2, "not yet");
        Made
    }
}

impl Handler for Made {
    async fn handle(&self, _: Record) -> Outcome {
        Outcome::Done
    }
}

#[test]
fn a_handler_whose_making_panics_is_made_again_and_no_record_flows_before() {
    let bench = Bench::new(1);
    let made = Arc::new(AtomicU64::new(0));
    let builder = bench.builder().backoff(Duration::from_millis(50), Duration::from_millis(50));
    let consumer = builder.fetcher(bench.fetcher.clone()).build().expect("a consumer");
    let handle = consumer.handle();
    let run = bench.runtime.spawn(consumer.run_lanes(Reluctant(made.clone())));
    bench.fetcher.deliver(&bench.partition(0), 0..10, None);
    wait_until(LONG, "all is committed", || bench.committed(0) == 10);
    assert_eq!(bench.end((handle, run)).finished, 10);
    assert_eq!(made.load(Ordering::SeqCst), 3);
    let told = bench.errors().iter().filter(|error| error.contains("could not be made: not yet")).count();
    assert_eq!(told, 2, "{:?}", bench.errors());
}
