//! The client against a mock cluster: the group, commits, offsets, metadata.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use laneway_core::{Position, TopicPartition};

use super::mock::{MockCluster, Request, wait_for};
use super::{Client, NativeEvent, OffsetSpec, Queue, codes};

const TIMEOUT: Duration = Duration::from_secs(10);

fn next(queue: &Queue) -> NativeEvent {
    wait_for("an event", || queue.poll())
}

fn partitions(count: i32) -> Vec<TopicPartition> {
    (0..count).map(|partition| TopicPartition::new("t", partition)).collect()
}

fn rebalance(queue: &Queue) -> (bool, Vec<TopicPartition>) {
    wait_for("a rebalance", || match queue.poll()? {
        NativeEvent::Rebalance { assign, mut partitions } => {
            partitions.sort();
            Some((assign, partitions))
        }
        NativeEvent::Record(partition, offset) => panic!("a stray: {partition}@{offset}"),
        _ => None,
    })
}

#[test]
fn what_is_committed_is_found_again_with_its_leader_epoch() {
    let cluster = MockCluster::new("t", 2);
    let client = cluster.client(&[]);
    let queue = client.new_queue();
    let all = partitions(2);

    // The mock refuses an epoch that its leader has not reached, so this one arrives as it was given.
    let unreached = Position { offset: 7, leader_epoch: Some(3) };
    client.commit(&[(all[0].clone(), unreached, String::new())], &queue, 10).unwrap();
    let event = next(&queue);
    let NativeEvent::Commit { token: 10, error: Some(error), partitions } = event else {
        panic!("{event:?}")
    };
    assert_eq!(error.code, codes::UNKNOWN_LEADER_EPOCH);
    assert_eq!(partitions, [(all[0].clone(), 7, Some(error))]);

    let position = Position { offset: 7, leader_epoch: Some(0) };
    let metadata = "!map 地図 é".repeat(300);
    client.commit(&[(all[0].clone(), position, metadata.clone())], &queue, 11).unwrap();
    let event = next(&queue);
    let NativeEvent::Commit { token: 11, error: None, partitions } = event else { panic!("{event:?}") };
    assert_eq!(partitions, [(all[0].clone(), 7, None)]);

    let mut found = client.committed(&all, TIMEOUT).unwrap();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found[0], (all[0].clone(), Some((position, metadata)), None));
    assert_eq!(found[1], (all[1].clone(), None, None));
}

#[test]
fn a_coordinator_that_is_found_late_does_no_harm() {
    let cluster = MockCluster::new("t", 1);
    let all = partitions(1);
    let client = cluster.client(&[]);
    client.metadata_of("t", TIMEOUT).unwrap();
    cluster.slow(Duration::from_millis(1_500));
    let error = client.committed(&all, Duration::from_millis(300)).unwrap_err();
    assert_eq!(error.code, codes::_TIMED_OUT);
    assert_eq!(client.committed(&all, TIMEOUT).unwrap(), [(all[0].clone(), None, None)]);
}

#[test]
fn the_bounds_of_logs_are_listed() {
    let cluster = MockCluster::new("t", 2);
    let all = partitions(2);
    cluster.produce_plain(&all[0], &["a", "b", "c"]);
    let client = cluster.client(&[]);
    let queue = client.new_queue();

    for (spec, expected) in [(OffsetSpec::Earliest, [0, 0]), (OffsetSpec::Latest, [3, 0])] {
        let wanted: Vec<_> = all.iter().map(|partition| (partition.clone(), spec)).collect();
        client.list_offsets(&wanted, true, &queue, 5, TIMEOUT).unwrap();
        let NativeEvent::Offsets { token: 5, result } = next(&queue) else { panic!() };
        let mut found = result.unwrap();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let offsets: Vec<i64> = found.iter().map(|(_, position, _)| position.offset).collect();
        assert_eq!(offsets, expected, "{spec:?}");
        assert!(found.iter().all(|(_, _, error)| error.is_none()));
    }
}

#[test]
fn a_question_that_can_not_be_answered_is_an_error_with_its_token() {
    let cluster = MockCluster::new("t", 1);
    let client = cluster.client(&[]);
    let queue = client.new_queue();
    let unknown = [(TopicPartition::new("t", 9), OffsetSpec::Latest)];
    client.list_offsets(&unknown, false, &queue, 2, Duration::from_secs(1)).unwrap();
    let NativeEvent::Offsets { token: 2, result } = next(&queue) else { panic!() };
    assert!(result.is_err() || result.is_ok_and(|found| found.iter().all(|(_, _, e)| e.is_some())));
}

/// Not "no such record": librdkafka tells neither an offset nor an error of it.
#[test]
fn a_leader_that_does_not_answer_is_an_error_of_its_partition() {
    let cluster = MockCluster::new("t", 1);
    let partition = TopicPartition::new("t", 0);
    cluster.produce_plain(&partition, &["a"]);
    let client = cluster.client(&[]);
    let queue = client.new_queue();
    // Who leads is known from the first question on.
    let wanted = [(partition.clone(), OffsetSpec::AtTime(1))];
    client.list_offsets(&wanted, false, &queue, 2, TIMEOUT).unwrap();
    let NativeEvent::Offsets { token: 2, result: Ok(found) } = next(&queue) else { panic!() };
    assert!(found.iter().all(|(_, _, error)| error.is_none()), "{found:?}");
    cluster.slow(Duration::from_secs(3));
    client.list_offsets(&wanted, false, &queue, 3, Duration::from_millis(500)).unwrap();
    let NativeEvent::Offsets { token: 3, result: Ok(found) } = next(&queue) else { panic!() };
    let [(of, _, Some(error))] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((of, error.code), (&partition, codes::_TIMED_OUT));
}

#[test]
fn metadata_tells_topics_that_are_there_and_one_that_is_not() {
    let cluster = MockCluster::new("t", 3);
    let client = cluster.client(&[]);
    for _ in 0..2 {
        let info = client.metadata_of("t", TIMEOUT).unwrap();
        assert_eq!((info.name.as_str(), info.partitions), ("t", 3));
        assert_eq!(info.error, None);
    }
    assert_eq!(client.topics.lock().unwrap().len(), 1);
    let missing = client.metadata_of("missing", TIMEOUT).unwrap();
    assert_eq!(missing.error.unwrap().code, codes::UNKNOWN_TOPIC_OR_PART);
    assert!(client.metadata_all(TIMEOUT).unwrap().iter().any(|info| info.name == "t"));
    assert_eq!(client.metadata_of("a\0b", TIMEOUT).unwrap_err().code, codes::_INVALID_ARG);
}

#[test]
fn a_partition_must_be_known_before_it_is_paused() {
    let cluster = MockCluster::new("t", 1);
    let client = cluster.client(&[]);
    let all = partitions(1);
    let error = client.pause(&all).unwrap_err();
    assert_eq!(error.code, codes::_UNKNOWN_PARTITION);
    assert!(error.message.contains("t-0"), "{error}");
    client.ensure_partition(&all[0]).unwrap();
    client.pause(&all).unwrap();
}

fn join_and_assign_paused(client: &Arc<Client>, main: &Queue, cooperative: bool) {
    let all = partitions(2);
    client.subscribe(&["t".into()]).unwrap();
    assert_eq!(rebalance(main), (true, all.clone()));
    // Not answered yet.
    assert_eq!(client.assignment().unwrap(), []);
    for partition in &all {
        client.ensure_partition(partition).unwrap();
    }
    client.pause(&all).unwrap();
    let positions: Vec<_> = all.iter().map(|partition| (partition.clone(), Position::at(0))).collect();
    if cooperative {
        client.incremental_assign(&positions).unwrap();
    } else {
        client.assign(Some(&positions)).unwrap();
    }
    let mut assigned = client.assignment().unwrap();
    assigned.sort();
    assert_eq!(assigned, all);
}

#[test]
fn a_member_that_is_assigned_paused_fetches_nothing_and_leaves_in_order() {
    let cluster = MockCluster::new("t", 2);
    let all = partitions(2);
    cluster.produce_plain(&all[0], &["a", "b"]);
    for assignor in ["range", "cooperative-sticky"] {
        let cooperative = assignor == "cooperative-sticky";
        let client = cluster.client(&[
            ("group.id", assignor),
            ("partition.assignment.strategy", assignor),
            ("heartbeat.interval.ms", "50"),
            ("session.timeout.ms", "6000"),
        ]);
        let main = client.consumer_queue();
        cluster.count_requests();
        assert_eq!(client.member_id(), "");
        join_and_assign_paused(&client, &main, cooperative);
        assert_ne!(client.member_id(), "");
        assert!(client.generation() > 0);
        assert!(!client.assignment_lost());
        assert_eq!(client.fatal_error(), None);

        // A member that a commit succeeds for is steady.
        let answers = client.new_queue();
        client.commit(&[(all[0].clone(), Position::at(2), String::new())], &answers, 1).unwrap();
        wait_for("a commit", || {
            assert!(main.poll().is_none_or(|event| !matches!(event, NativeEvent::Record(..))));
            answers.poll()
        });

        client.unsubscribe().unwrap();
        assert_eq!(rebalance(&main), (false, all.clone()));
        if cooperative {
            client.incremental_unassign(&all).unwrap();
        } else {
            client.assign(None).unwrap();
        }
        wait_for("the leave", || {
            main.poll();
            client.member_id().is_empty().then_some(())
        });
        assert_eq!(cluster.requests(Request::Fetch), 0, "{assignor}");
        // Nor does it look for committed offsets by itself.
        assert_eq!(cluster.requests(Request::OffsetFetch), 0, "{assignor}");

        let closing = client.new_queue();
        client.close_queue(&closing).unwrap();
        wait_for("the close", || {
            closing.poll();
            client.closed().then_some(())
        });
    }
}

#[test]
fn a_queue_wakes_when_it_is_no_longer_empty_and_never_after_its_drop() {
    let cluster = MockCluster::new("t", 1);
    let client = cluster.client(&[]);
    let wakes = Arc::new(AtomicUsize::new(0));
    let queue = client.new_queue();
    for _ in 0..3 {
        // What is set last takes the place of what was set before.
        let counted = wakes.clone();
        queue.on_ready(Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        }));
    }
    assert_eq!(Arc::strong_count(&wakes), 2);
    client.commit(&[(TopicPartition::new("t", 0), Position::at(1), String::new())], &queue, 1).unwrap();
    wait_for("a wake", || (wakes.load(Ordering::SeqCst) > 0).then_some(()));
    assert_eq!(wakes.load(Ordering::SeqCst), 1);
    assert!(matches!(next(&queue), NativeEvent::Commit { token: 1, .. }));

    client.commit(&[(TopicPartition::new("t", 0), Position::at(2), String::new())], &queue, 2).unwrap();
    drop(queue);
    assert_eq!(Arc::strong_count(&wakes), 1);
}

#[test]
fn a_wake_that_panics_ends_nothing() {
    let cluster = MockCluster::new("t", 1);
    let client = cluster.client(&[]);
    let queue = client.new_queue();
    queue.on_ready(Arc::new(|| panic!("as a test")));
    client.commit(&[(TopicPartition::new("t", 0), Position::at(1), String::new())], &queue, 1).unwrap();
    assert!(matches!(next(&queue), NativeEvent::Commit { token: 1, .. }));
}

#[test]
fn a_client_that_can_not_be_made_says_why() {
    let config = super::Config::new();
    let reason = Client::new(config).unwrap_err();
    assert!(reason.contains("group"), "{reason}");
    let mut config = super::Config::new();
    config.set("group.id", "g").unwrap();
    config.set("session.timeout.ms", "600000").unwrap();
    let reason = Client::new(config).unwrap_err();
    assert!(reason.contains("max.poll.interval.ms"), "{reason}");
}

#[test]
fn a_client_without_a_broker_says_so() {
    let mut config = super::Config::new();
    config.set("group.id", "g").unwrap();
    config.set("bootstrap.servers", "127.0.0.1:1").unwrap();
    let client = Client::new(config).unwrap();
    let main = client.consumer_queue();
    let error = wait_for("an error", || match main.poll()? {
        NativeEvent::Error { error, fatal: false } if error.code == codes::_ALL_BROKERS_DOWN => Some(error),
        _ => None,
    });
    assert_eq!(error.name(), "_ALL_BROKERS_DOWN");
}
