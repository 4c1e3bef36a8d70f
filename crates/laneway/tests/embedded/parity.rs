//! What a handle does to a running consumer: commits at once, pauses, seeks, asks, changes the subscription.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use laneway::{Builder, ErrorKind, Event, Handle, LaneStatus, NativeClient, Ordering, Protocol, Record};
use laneway_testing::{Producer, unique, wait_until};
use tokio::sync::Semaphore;

use crate::bench::{Bench, LONG, Running};

/// Handled offsets by partition, in their order, with a gate: each record waits for a permit before it finishes.
struct Watched {
    seen: Arc<Mutex<Vec<(i32, i64)>>>,
    gate: Arc<Semaphore>,
    running: (Handle, Running),
}

impl Watched {
    fn start(bench: &Bench, builder: Builder, permits: usize) -> Self {
        let seen: Arc<Mutex<Vec<(i32, i64)>>> = Arc::default();
        let gate = Arc::new(Semaphore::new(permits));
        let (noted, passed) = (seen.clone(), gate.clone());
        let running = bench.run(builder, move |record: Record| {
            let (seen, gate) = (noted.clone(), passed.clone());
            async move {
                seen.lock().unwrap().push((record.partition(), record.offset()));
                gate.acquire().await.unwrap().forget();
            }
        });
        Self { seen, gate, running }
    }

    fn handle(&self) -> &Handle {
        &self.running.0
    }

    fn seen(&self, of: i32) -> Vec<i64> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(partition, _)| *partition == of).map(|(_, offset)| *offset).collect()
    }

    fn lane(&self, of: i32) -> LaneStatus {
        let lanes = self.handle().status().lanes;
        lanes.into_iter().find(|lane| lane.lane.partition.partition == of).expect("a lane")
    }

    fn wait_for_lanes(&self, bench: &Bench, lanes: usize) {
        wait_until(LONG, "the lanes are open", || {
            bench.fetcher.starts().len() == lanes && self.handle().status().lanes.len() == lanes
        });
    }
}

/// Never commits by its interval.
fn builder(bench: &Bench) -> Builder {
    bench.builder().commit_interval(Duration::from_secs(3_600)).fetcher(bench.fetcher.clone())
}

const MANY: usize = 1_000_000;

#[test]
fn commit_now_returns_when_what_is_finished_is_acknowledged() {
    let bench = Bench::new(1);
    let watched = Watched::start(&bench, builder(&bench), 5);
    watched.wait_for_lanes(&bench, 1);
    // The start is committed before the first record.
    wait_until(LONG, "the start is committed", || bench.committed(0) == 0);
    bench.fetcher.deliver(&bench.partition(0), 0..10, None);
    wait_until(LONG, "five are finished", || watched.lane(0).watermark == Some(5));
    assert_eq!(bench.committed(0), 0);
    bench.runtime.block_on(watched.handle().commit_now()).expect("a commit");
    assert_eq!(bench.committed(0), 5);
    // Again, with nothing to commit.
    bench.runtime.block_on(watched.handle().commit_now()).expect("no commit");
    watched.gate.add_permits(MANY);
    let handle = watched.handle().clone();
    bench.end(watched.running);
    let error = bench.runtime.block_on(handle.commit_now()).expect_err("nobody to commit");
    assert_eq!(error.kind(), ErrorKind::Ended);
}

#[test]
fn a_paused_lane_begins_nothing_and_others_go_on() {
    let bench = Bench::new(2);
    let watched = Watched::start(&bench, builder(&bench).concurrency(4), 0);
    watched.wait_for_lanes(&bench, 2);
    bench.fetcher.deliver(&bench.partition(0), 0..10, None);
    wait_until(LONG, "the first has begun", || watched.seen(0) == [0]);
    let paused = [bench.partition(0)];
    bench.runtime.block_on(watched.handle().pause(&paused)).expect("paused");
    assert_eq!((watched.lane(0).paused, watched.lane(1).paused), (true, false));
    watched.gate.add_permits(MANY);
    // What was in flight finishes.
    wait_until(LONG, "the first is finished", || watched.lane(0).watermark == Some(1));
    bench.fetcher.deliver(&bench.partition(1), 0..100, None);
    wait_until(LONG, "the other lane is through", || watched.lane(1).watermark == Some(100));
    assert_eq!(watched.seen(0), [0]);

    // It stays paused when it is opened again.
    bench.fetcher.fail(&bench.partition(0), laneway::fetcher::FetchErrorKind::Damaged);
    bench.runtime.block_on(watched.handle().resume(&paused)).expect("resumed");
    wait_until(LONG, "it is opened again", || bench.fetcher.starts().len() == 3);
    bench.runtime.block_on(watched.handle().pause(&paused)).expect("paused");
    let before = watched.seen(0);
    bench.runtime.block_on(watched.handle().seek(&paused[0], 20)).expect("a lane elsewhere");
    wait_until(LONG, "it is opened again", || bench.fetcher.starts().len() == 4);
    bench.fetcher.deliver(&bench.partition(0), 20..25, None);
    bench.fetcher.deliver(&bench.partition(1), 100..200, None);
    wait_until(LONG, "the other lane is through", || watched.lane(1).watermark == Some(200));
    assert!(watched.lane(0).paused);
    assert_eq!(watched.seen(0), before);
    bench.runtime.block_on(watched.handle().resume(&paused)).expect("resumed");
    wait_until(LONG, "it goes on", || watched.seen(0).ends_with(&[20, 21, 22, 23, 24]));
    let unknown = [bench.partition(1), bench.partition(7)];
    let error = bench.runtime.block_on(watched.handle().pause(&unknown)).expect_err("not assigned");
    assert_eq!(error.kind(), ErrorKind::NotAssigned);
    assert!(!watched.lane(1).paused);
    bench.end(watched.running);
}

#[test]
fn a_seek_goes_on_where_it_is_told_and_forgets_what_was_finished() {
    let bench = Bench::new(1);
    let partition = bench.partition(0);
    let watched = Watched::start(&bench, builder(&bench), MANY);
    watched.wait_for_lanes(&bench, 1);
    bench.fetcher.deliver(&partition, 0..10, None);
    wait_until(LONG, "all are finished", || watched.lane(0).watermark == Some(10));
    bench.runtime.block_on(watched.handle().commit_now()).expect("a commit");
    for (at, to) in [(4, 8), (100, 103), (100, 103), (0, 2)] {
        let starts = bench.fetcher.starts().len();
        bench.runtime.block_on(watched.handle().seek(&partition, at)).expect("a lane elsewhere");
        assert_eq!(bench.committed(0), at);
        wait_until(LONG, "it is opened again", || bench.fetcher.starts().len() == starts + 1);
        assert_eq!(bench.fetcher.starts()[starts].1.offset, at);
        watched.seen.lock().unwrap().clear();
        bench.fetcher.deliver(&partition, at..to, None);
        wait_until(LONG, "all are finished and committed", || {
            bench.runtime.block_on(watched.handle().commit_now()).expect("a commit");
            bench.committed(0) == to
        });
        assert_eq!(watched.seen(0), (at..to).collect::<Vec<_>>());
    }
    let seek = |partition, offset| {
        let handle = watched.handle().clone();
        bench
            .runtime
            .block_on(async move { handle.seek(&partition, offset).await.expect_err("refused").kind() })
    };
    assert_eq!(seek(bench.partition(9), 3), ErrorKind::NotAssigned);
    assert_eq!(seek(partition, -1), ErrorKind::Config);
    bench.end(watched.running);
}

/// What is in flight finishes first; what was finished ahead is void; a second seek takes the place of the first.
#[test]
fn a_seek_waits_for_what_is_in_flight() {
    let bench = Bench::new(1);
    let partition = bench.partition(0);
    let gate = Arc::new(Semaphore::new(0));
    let (waits, seen) = (gate.clone(), Arc::new(Mutex::new(Vec::new())));
    let noted = seen.clone();
    let builder = builder(&bench).ordering(Ordering::Unordered).protocol(Protocol::Consumer);
    let running = bench.run(builder, move |record: Record| {
        let (gate, seen) = (waits.clone(), noted.clone());
        async move {
            if record.offset() == 2 {
                gate.acquire().await.unwrap().forget();
            }
            seen.lock().unwrap().push(record.offset());
        }
    });
    wait_until(LONG, "the lane is open", || bench.fetcher.starts().len() == 1);
    wait_until(LONG, "it is shown", || running.0.status().lanes.len() == 1);
    bench.fetcher.deliver(&partition, 0..10, None);
    wait_until(LONG, "the others have ended", || seen.lock().unwrap().len() == 9);
    let handle = &running.0;
    let (first, second, ()) = bench.runtime.block_on(async {
        // They are asked for in this order.
        tokio::join!(handle.seek(&partition, 6), handle.seek(&partition, 2), async {
            handle.commit_now().await.expect("a commit");
            assert_eq!((bench.committed(0), bench.fetcher.starts().len()), (2, 1));
            gate.add_permits(1);
        })
    });
    assert_eq!(first.expect_err("another came").kind(), ErrorKind::NotAssigned);
    second.expect("a lane elsewhere");
    wait_until(LONG, "it is opened again", || bench.fetcher.starts().len() == 2);
    assert_eq!((bench.committed(0), bench.fetcher.starts()[1].1.offset), (2, 2));
    gate.add_permits(1);
    seen.lock().unwrap().clear();
    bench.fetcher.deliver(&partition, 2..12, None);
    // The map of what was finished ahead of 2 is void.
    wait_until(LONG, "all come again", || seen.lock().unwrap().len() == 10);
    bench.end(running);
    assert_eq!(bench.committed(0), 12);
}

#[test]
fn brokers_are_asked_for_offsets_and_bounds() {
    let bench = Bench::new(2);
    let producer = Producer::new(bench.kafka.brokers(), &[]).expect("a producer");
    for _ in 0..7 {
        producer.send(&bench.topic, 0, None, Some(b"x"), &[], None).expect("sent");
    }
    producer.flush().expect("delivered");
    let watched = Watched::start(&bench, builder(&bench), MANY);
    watched.wait_for_lanes(&bench, 2);
    let handle = watched.handle();
    let (full, empty) = (bench.partition(0), bench.partition(1));
    let both = [full.clone(), empty.clone()];
    bench.fetcher.deliver(&full, 0..3, None);
    wait_until(LONG, "all are finished", || watched.lane(0).watermark == Some(3));
    bench.runtime.block_on(async {
        handle.commit_now().await.expect("a commit");
        let committed = handle.committed(&both).await.expect("what is committed");
        assert_eq!(committed, BTreeMap::from([(full.clone(), Some(3)), (empty.clone(), Some(0))]));
        let bounds = handle.watermarks(&both).await.expect("bounds");
        assert_eq!(bounds, BTreeMap::from([(full.clone(), (0, 7)), (empty.clone(), (0, 0))]));
        assert!(handle.committed(&[]).await.expect("nothing").is_empty());
        let error = handle.offsets_for_times(&[(full.clone(), -1)]).await.expect_err("a time below 0");
        assert_eq!(error.kind(), ErrorKind::Config);
        let member = handle.group_metadata().await.expect("a member");
        assert_eq!((member.group, member.member_id), (bench.group.clone(), handle.status().member_id));
        assert!(member.generation >= 0 && member.instance_id.is_none());
    });
    bench.end(watched.running);
}

#[test]
fn the_subscription_is_changed_while_it_runs() {
    let bench = Bench::new(1);
    let other = unique("other");
    bench.kafka.create_topic(&other, 2).expect("a topic");
    let watched = Watched::start(&bench, builder(&bench).protocol(Protocol::Consumer), MANY);
    watched.wait_for_lanes(&bench, 1);
    bench.fetcher.deliver(&bench.partition(0), 0..10, None);
    wait_until(LONG, "all are finished", || watched.lane(0).watermark == Some(10));
    let subscribe = |topics: Vec<String>| bench.runtime.block_on(watched.handle().subscribe(topics));
    for wrong in [vec![], vec!["^a(".to_owned()]] {
        assert_eq!(subscribe(wrong).expect_err("refused").kind(), ErrorKind::Config);
    }
    subscribe(vec![format!("^{other}$")]).expect("taken");
    wait_until(LONG, "only the other topic is read", || {
        let lanes = watched.handle().status().lanes;
        lanes.len() == 2 && lanes.iter().all(|lane| *lane.lane.partition.topic == *other)
    });
    assert_eq!(bench.committed(0), 10);
    bench.end(watched.running);
}

#[test]
fn both_clients_tell_their_statistics() {
    let bench = Bench::new(1);
    // The scripted fetcher is no native client.
    let builder = bench.builder().property("statistics.interval.ms", "50");
    let watched = Watched::start(&bench, builder, MANY);
    let told = |wanted: NativeClient| {
        bench.events.lock().unwrap().iter().any(|event| match event {
            Event::Statistics { client, json } => {
                *client == wanted && json.starts_with('{') && json.contains(&bench.topic)
            }
            _ => false,
        })
    };
    for client in [NativeClient::Membership, NativeClient::Fetcher] {
        wait_until(LONG, "its statistics are told", || told(client));
    }
    bench.end(watched.running);
}
