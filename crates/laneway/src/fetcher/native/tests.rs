#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use rdkafka_sys::rd_kafka_resp_err_t;

use super::*;
use crate::record::{OwnedRecord, Record, Timestamp};
use crate::sys::{MockCluster, Request, TestRecord, wait_for};

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("t", number)
}

fn fetcher(cluster: &MockCluster) -> NativeFetcher {
    NativeFetcher::new(cluster.client(&[]), Box::new(|| Err("no other one".into())), Reaper::default())
}

/// The client for what has much to read.
fn busy_client(fetcher: &NativeFetcher) -> &Arc<Client> {
    &fetcher.busy.native.as_ref().unwrap().client
}

/// Makes clients, and counts them.
fn maker(cluster: &MockCluster, clients: usize) -> (Arc<AtomicUsize>, MakeClient) {
    let made = Arc::new(AtomicUsize::new(0));
    let (count, clients) = (made.clone(), (0..clients).map(|_| cluster.client(&[])).collect::<Vec<_>>());
    let clients = std::sync::Mutex::new(clients);
    let make = move || {
        count.fetch_add(1, Ordering::SeqCst);
        clients.lock().unwrap().pop().ok_or_else(|| "no more clients".to_owned())
    };
    (made, Box::new(make))
}

fn start(fetcher: &mut NativeFetcher, partition: &TopicPartition, at: i64) -> Box<dyn PartitionQueue> {
    fetcher.start(partition, Position::at(at), Arc::new(|| {})).unwrap()
}

/// Counts wakes.
fn counter() -> (Arc<AtomicUsize>, Wake) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let wake = move || {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    (count, Arc::new(wake))
}

fn records(taken: &Taken) -> Vec<Record> {
    let batch = taken.batch.as_ref();
    batch.map_or(Vec::new(), |batch| (0..batch.len()).map(|i| batch.record(i).unwrap()).collect())
}

/// Takes until the end of the log or an error, and polls the main queue, where nothing may come.
fn take_to_end(fetcher: &mut NativeFetcher, queue: &mut dyn PartitionQueue) -> (Vec<Record>, Taken) {
    let mut all = Vec::new();
    let last = wait_for("the end of the log", || {
        let events = fetcher.poll();
        assert!(events.is_empty(), "{events:?}");
        let taken = queue.take(100);
        all.extend(records(&taken));
        (taken.end.is_some() || taken.error.is_some()).then_some(taken)
    });
    (all, last)
}

fn offsets(records: &[Record]) -> Vec<i64> {
    records.iter().map(Record::offset).collect()
}

/// What librdkafka puts first into the queue of a partition that is started, and delivers to nobody.
const BARRIER: usize = 1;

/// Waits until librdkafka has as many things for a partition, without taking any.
fn wait_for_waiting(fetcher: &NativeFetcher, partition: &TopicPartition, count: usize) {
    wait_for("a full queue", || (busy_client(fetcher).waiting(partition) >= count).then_some(()));
}

#[test]
fn records_come_as_they_were_produced() {
    let cluster = MockCluster::new("t", 1);
    let produced = [
        TestRecord { key: None, payload: Some(b"plain"), timestamp: 1_700_000_000_000, headers: vec![] },
        TestRecord { key: Some(b""), payload: Some(b""), timestamp: 5, headers: vec![] },
        TestRecord { key: Some(b"tombstone"), payload: None, timestamp: 6, headers: vec![] },
        TestRecord {
            key: Some(b"\xff\0"),
            payload: Some(b"\0\xfe"),
            timestamp: 7,
            headers: vec![
                (b"twice", Some(b"1")),
                (b"", Some(b"no name")),
                (b"not \xff utf-8", Some(b"\xfe")),
                (b"null", None),
                (b"twice", Some(b"2")),
                (b"zero \0 inside", Some(b"x")),
                (b"zero \0 and null", None),
                (b"empty", Some(b"")),
            ],
        },
    ];
    cluster.produce(&partition(0), &produced);

    let mut fetcher = fetcher(&cluster);
    let mut queue = start(&mut fetcher, &partition(0), 0);
    let (fetched, last) = take_to_end(&mut fetcher, queue.as_mut());
    assert_eq!(last.end, Some(4));
    assert_eq!(fetched.len(), produced.len());
    for (offset, (fetched, produced)) in fetched.iter().zip(&produced).enumerate() {
        let expected = OwnedRecord {
            topic: "t".into(),
            partition: 0,
            offset: offset as i64,
            leader_epoch: fetched.leader_epoch(),
            timestamp: Timestamp::Create(produced.timestamp),
            key: produced.key.map(<[u8]>::to_vec),
            payload: produced.payload.map(<[u8]>::to_vec),
            headers: produced.headers.iter().map(|(n, v)| (n.to_vec(), v.map(<[u8]>::to_vec))).collect(),
        };
        assert_eq!(fetched.to_owned_record(), expected);
        assert_eq!(fetched.headers().len(), produced.headers.len());
        assert_eq!(fetched.position().offset, offset as i64 + 1);
        assert_eq!(fetched.position().leader_epoch, Some(0));
    }
}

#[test]
fn each_partition_has_its_own_queue_and_the_main_one_stays_empty() {
    let cluster = MockCluster::new("t", 3);
    let mut fetcher = fetcher(&cluster);
    let mut queues = Vec::new();
    for number in 0..3 {
        cluster.produce_plain(&partition(number), &["a", "b"]);
        queues.push(start(&mut fetcher, &partition(number), i64::from(number == 1)));
    }
    for (number, queue) in queues.iter_mut().enumerate() {
        let (fetched, last) = take_to_end(&mut fetcher, queue.as_mut());
        assert_eq!(offsets(&fetched), if number == 1 { vec![1] } else { vec![0, 1] });
        assert!(fetched.iter().all(|record| record.partition() == number as i32));
        assert_eq!(last.end, Some(2));
    }
    let mut fetching = fetcher.fetching();
    fetching.sort();
    assert_eq!(fetching, [partition(0), partition(1), partition(2)]);
    fetcher.stop(&[partition(0), partition(2)]).unwrap();
    assert_eq!(fetcher.fetching(), [partition(1)]);
}

/// What a lane let go of before its partition was stopped was emptied too early.
#[test]
fn what_comes_into_a_queue_that_nobody_has_is_thrown_away_once_it_is_stopped() {
    let cluster = MockCluster::new("t", 1);
    cluster.produce_plain(&partition(0), &["a", "b", "c"]);
    let mut fetcher = fetcher(&cluster);
    drop(start(&mut fetcher, &partition(0), 0));
    cluster.produce_plain(&partition(0), &["d", "e", "f"]);
    wait_for_waiting(&fetcher, &partition(0), 3);
    fetcher.stop(&[partition(0)]).unwrap();
    wait_for("an empty queue", || {
        assert!(fetcher.poll().is_empty());
        (busy_client(&fetcher).waiting(&partition(0)) == 0).then_some(())
    });
    let mut queue = start(&mut fetcher, &partition(0), 4);
    assert_eq!(offsets(&take_to_end(&mut fetcher, queue.as_mut()).0), [4, 5]);
}

#[test]
fn what_is_quiet_is_fetched_by_a_client_of_its_own() {
    let cluster = MockCluster::new("t", 2);
    let (made, make) = maker(&cluster, 1);
    let mut fetcher = fetcher(&cluster).with_quiet(make);
    for number in 0..2 {
        cluster.produce_plain(&partition(number), &["a", "b", "c"]);
    }
    let mut busy = start(&mut fetcher, &partition(0), 0);
    assert_eq!(made.load(Ordering::SeqCst), 0, "made before it was needed");
    let quiet = |fetcher: &mut NativeFetcher, number, at| {
        let (partition, from) = (partition(number), Position::at(at));
        let start = FetchStart { partition, from, is_quiet: true, wake: Arc::new(|| {}) };
        fetcher.start_all(vec![start]).pop().unwrap().1.unwrap()
    };
    let mut other = quiet(&mut fetcher, 1, 1);
    assert_eq!(offsets(&take_to_end(&mut fetcher, busy.as_mut()).0), [0, 1, 2]);
    assert_eq!(offsets(&take_to_end(&mut fetcher, other.as_mut()).0), [1, 2]);
    assert_eq!(busy_client(&fetcher).assignment().unwrap(), [partition(0)]);
    assert_eq!(fetcher.fetching(), [partition(0), partition(1)]);

    // From one to the other, and back.
    for (at, is_quiet) in [(2, true), (1, false), (0, true)] {
        fetcher.stop(&[partition(0)]).unwrap();
        drop(busy);
        busy = if is_quiet { quiet(&mut fetcher, 0, at) } else { start(&mut fetcher, &partition(0), at) };
        assert_eq!(offsets(&take_to_end(&mut fetcher, busy.as_mut()).0), (at..3).collect::<Vec<_>>());
        assert_eq!(busy_client(&fetcher).assignment().unwrap().is_empty(), is_quiet);
    }
    fetcher.stop(&[partition(0), partition(1)]).unwrap();
    assert!(fetcher.fetching().is_empty());
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

#[test]
fn a_client_that_knows_a_topic_that_is_to_be_forgotten_is_replaced_and_let_go() {
    let cluster = MockCluster::new("t", 2);
    let (made, make) = maker(&cluster, 2);
    let named = |topic: &str| BTreeSet::from([topic.to_owned()]);
    let mut fetcher = NativeFetcher::new(cluster.client(&[]), make, Reaper::default());
    cluster.produce_plain(&partition(0), &["a"]);
    let mut queue = start(&mut fetcher, &partition(0), 0);
    let (mut held, _) = take_to_end(&mut fetcher, queue.as_mut());
    for round in 1..3 {
        let former = Arc::downgrade(busy_client(&fetcher));
        assert_eq!(fetcher.forget(&named("t")), BTreeSet::from([partition(0)]));
        assert!(fetcher.forget(&named("t")).is_empty());
        // What it fetches goes on until it is started again.
        cluster.produce_plain(&partition(0), &["b"]);
        let next = wait_for("a record", || {
            assert!(fetcher.poll().is_empty());
            records(&queue.take(1)).pop()
        });
        assert_eq!((fetcher.fetching(), next.offset()), (vec![partition(0)], round));
        fetcher.stop(&[partition(0)]).unwrap();
        drop((queue, next));
        queue = start(&mut fetcher, &partition(0), 0);
        assert_eq!(made.load(Ordering::SeqCst), round as usize);
        // As long as somebody has a record it is there.
        fetcher.poll();
        assert_eq!(fetcher.former.len(), 1);
        held = take_to_end(&mut fetcher, queue.as_mut()).0;
        fetcher.poll();
        assert!(fetcher.former.is_empty());
        wait_for("its end", || former.upgrade().is_none().then_some(()));
    }
    assert_eq!(offsets(&held), [0, 1, 2]);
    assert!(fetcher.forget(&named("u")).is_empty(), "it knows nothing of that one");
    assert_eq!(fetcher.fetching(), [partition(0)]);
    let none = fetcher.forget(&named("t")).len();
    let error = fetcher.start(&partition(1), Position::at(0), Arc::new(|| {})).err().unwrap();
    assert!(none == 1 && error.message.contains("no more clients"), "{error}");
}

#[test]
fn no_more_is_taken_than_asked_for_and_what_is_left_comes_next() {
    let cluster = MockCluster::new("t", 1);
    cluster.produce_plain(&partition(0), &["a", "b", "c"]);
    let mut fetcher = fetcher(&cluster);
    let mut queue = start(&mut fetcher, &partition(0), 0);
    wait_for_waiting(&fetcher, &partition(0), BARRIER + 4);
    assert!(queue.take(0).batch.is_none());
    assert_eq!(offsets(&records(&queue.take(2))), [0, 1]);
    let last = queue.take(2);
    assert_eq!((offsets(&records(&last)), last.end), (vec![2], Some(3)));
    let nothing = queue.take(2);
    assert!(nothing.batch.is_none() && nothing.end.is_none() && nothing.error.is_none());
}

#[test]
fn the_last_records_of_the_log_are_known_to_be_the_last_before_its_end_is_told() {
    let cluster = MockCluster::new("t", 1);
    cluster.produce_plain(&partition(0), &["a", "b", "c"]);
    let mut fetcher = fetcher(&cluster);
    let mut queue = start(&mut fetcher, &partition(0), 0);
    wait_for_waiting(&fetcher, &partition(0), BARRIER + 3);
    assert!(!queue.take(2).is_last, "more waits in the queue");
    let last = queue.take(2);
    assert_eq!((offsets(&records(&last)), last.is_last), (vec![2], true));
    wait_for("the end of the log", || queue.take(2).end);
    cluster.produce_plain(&partition(0), &["d"]);
    let next = wait_for("a record", || Some(queue.take(2)).filter(|taken| taken.batch.is_some()));
    assert_eq!((offsets(&records(&next)), next.is_last), (vec![3], true));
}

#[test]
fn records_may_follow_the_end_of_the_log() {
    let cluster = MockCluster::new("t", 1);
    let mut fetcher = fetcher(&cluster);
    let mut queue = start(&mut fetcher, &partition(0), 0);
    wait_for_waiting(&fetcher, &partition(0), BARRIER + 1);
    cluster.produce_plain(&partition(0), &["a"]);
    wait_for_waiting(&fetcher, &partition(0), BARRIER + 3);
    // Neither end takes the room of a record.
    let taken = queue.take(2);
    assert_eq!((offsets(&records(&taken)), taken.end), (vec![0], Some(1)));
}

#[test]
fn a_wake_comes_when_the_queue_is_no_longer_empty() {
    let cluster = MockCluster::new("t", 1);
    let mut fetcher = fetcher(&cluster);
    let (count, wake) = counter();
    let mut queue = fetcher.start(&partition(0), Position::at(0), wake).unwrap();
    let (fetched, last) = take_to_end(&mut fetcher, queue.as_mut());
    assert_eq!((fetched.len(), last.end), (0, Some(0)));
    for round in 1..4 {
        let before = count.load(Ordering::SeqCst);
        cluster.produce_plain(&partition(0), &["a"]);
        wait_for("a wake", || (count.load(Ordering::SeqCst) > before).then_some(()));
        let (fetched, _) = take_to_end(&mut fetcher, queue.as_mut());
        assert_eq!(offsets(&fetched), [round - 1]);
    }
}

#[test]
fn a_partition_that_is_started_again_delivers_from_there_and_nothing_stale() {
    let cluster = MockCluster::new("t", 1);
    cluster.produce_plain(&partition(0), &["a", "b", "c", "d", "e"]);
    let mut fetcher = fetcher(&cluster);
    for at in [0, 3, 1, 4, 5, 2] {
        let (count, wake) = counter();
        let mut queue = fetcher.start(&partition(0), Position::at(at), wake).unwrap();
        // Nobody takes what was fetched before: it must not keep the wake from coming.
        wait_for("a wake", || (count.load(Ordering::SeqCst) > 0).then_some(()));
        if at % 2 == 1 {
            let (fetched, last) = take_to_end(&mut fetcher, queue.as_mut());
            assert_eq!(offsets(&fetched), (at..5).collect::<Vec<_>>());
            assert_eq!(last.end, Some(5));
        } else {
            wait_for_waiting(&fetcher, &partition(0), BARRIER + 6 - at as usize);
        }
        fetcher.stop(&[partition(0)]).unwrap();
        drop(queue);
    }
}

#[test]
fn an_error_of_an_earlier_start_is_not_told_to_a_later_one() {
    let cluster = MockCluster::new("t", 1);
    cluster.produce_plain(&partition(0), &["a"]);
    let mut fetcher = fetcher(&cluster);
    let queue = start(&mut fetcher, &partition(0), 99);
    wait_for_waiting(&fetcher, &partition(0), BARRIER + 1);
    fetcher.stop(&[partition(0)]).unwrap();
    drop(queue);
    let mut queue = start(&mut fetcher, &partition(0), 0);
    let (fetched, last) = take_to_end(&mut fetcher, queue.as_mut());
    assert_eq!((offsets(&fetched), last.end), (vec![0], Some(1)));
    assert!(last.error.is_none(), "{:?}", last.error);
}

#[test]
fn an_offset_that_is_not_in_the_log_is_an_error_that_names_it() {
    let cluster = MockCluster::new("t", 1);
    cluster.produce_plain(&partition(0), &["a"]);
    let mut fetcher = fetcher(&cluster);
    let mut queue = start(&mut fetcher, &partition(0), 99);
    let (fetched, last) = take_to_end(&mut fetcher, queue.as_mut());
    assert!(fetched.is_empty());
    let error = last.error.unwrap();
    assert_eq!(error.kind, FetchErrorKind::OffsetOutOfRange);
    assert!(error.message.starts_with("t-0@99: "), "{error}");
    assert!(error.message.contains("_AUTO_OFFSET_RESET"), "{error}");
}

#[test]
fn nothing_is_taken_past_an_error() {
    let cluster = MockCluster::new("t", 1);
    cluster.produce_plain(&partition(0), &["a", "b"]);
    let mut fetcher = fetcher(&cluster);
    let mut queue = start(&mut fetcher, &partition(0), 0);
    wait_for_waiting(&fetcher, &partition(0), BARRIER + 3);
    cluster.fail_next(Request::Fetch, rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_INVALID_MSG);
    wait_for_waiting(&fetcher, &partition(0), BARRIER + 4);
    cluster.produce_plain(&partition(0), &["c", "d"]);
    wait_for_waiting(&fetcher, &partition(0), BARRIER + 6);

    let taken = queue.take(100);
    assert_eq!((offsets(&records(&taken)), taken.end), (vec![0, 1], Some(2)));
    let error = taken.error.unwrap();
    assert_eq!(error.kind, FetchErrorKind::Damaged);
    assert!(error.message.starts_with("t-0@2: "), "{error}");
    cluster.produce_plain(&partition(0), &["e"]);
    wait_for_waiting(&fetcher, &partition(0), 1);
    let nothing = queue.take(100);
    assert!(nothing.batch.is_none() && nothing.end.is_none() && nothing.error.is_none());
}

#[test]
fn what_was_left_behind_an_error_is_there_for_the_next_start() {
    let cluster = MockCluster::new("t", 1);
    cluster.produce_plain(&partition(0), &["a"]);
    let mut fetcher = fetcher(&cluster);
    let mut queue = start(&mut fetcher, &partition(0), 0);
    wait_for_waiting(&fetcher, &partition(0), BARRIER + 2);
    cluster.fail_next(Request::Fetch, rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_INVALID_MSG);
    let (fetched, last) = take_to_end(&mut fetcher, queue.as_mut());
    let error = last.error.unwrap_or_else(|| wait_for("an error", || queue.take(1).error));
    assert_eq!((offsets(&fetched), error.kind), (vec![0], FetchErrorKind::Damaged));
    cluster.produce_plain(&partition(0), &["b"]);
    fetcher.stop(&[partition(0)]).unwrap();
    drop(queue);
    let mut queue = start(&mut fetcher, &partition(0), 1);
    assert_eq!(offsets(&take_to_end(&mut fetcher, queue.as_mut()).0), [1]);
}

#[test]
fn records_outlive_their_queue_and_their_fetcher_and_may_be_read_side_by_side() {
    let cluster = MockCluster::new("t", 1);
    let value = "x".repeat(1_000);
    let headers = vec![(b"name".as_slice(), Some(b"value".as_slice()))];
    let record = TestRecord { payload: Some(value.as_bytes()), headers, ..TestRecord::default() };
    cluster.produce(&partition(0), &[record]);
    let mut fetcher = fetcher(&cluster);
    let mut queue = start(&mut fetcher, &partition(0), 0);
    let (fetched, _) = take_to_end(&mut fetcher, queue.as_mut());
    let client = Arc::downgrade(busy_client(&fetcher));
    drop((fetcher, queue, cluster));
    assert!(client.upgrade().is_some());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                assert_eq!(fetched[0].payload(), Some(value.as_bytes()));
                assert_eq!(fetched[0].headers().next().unwrap().value, Some(b"value".as_slice()));
            });
        }
    });
    std::thread::spawn(move || drop(fetched)).join().unwrap();
    assert!(client.upgrade().is_none());
}

#[test]
fn where_a_truncated_log_goes_on_is_read_out_of_what_is_said() {
    let said = |code, text: &str| fetch_error("t-0@9", &KafkaError::new(code, text)).kind;
    let truncated = "t [0]: Partition log truncation detected at offset 100 (leader epoch 3): broker end offset is 60 \
                     (offset leader epoch 2). Reset to INVALID.: Local: Partition log truncation detected (broker 2)";
    assert_eq!(said(codes::_AUTO_OFFSET_RESET, truncated), FetchErrorKind::Truncated(60));
    let other = "No epoch found less or equal to offset 100 (leader epoch 3): broker end offset is -1 (offset leader \
                 epoch -1). Reset using configured policy.: Local: Partition log truncation detected (broker 2)";
    assert_eq!(said(codes::_AUTO_OFFSET_RESET, other), FetchErrorKind::Truncated(0));
    let beyond =
        "fetch failed due to requested offset not available on the broker: Broker: Offset out of range";
    assert_eq!(said(codes::_AUTO_OFFSET_RESET, beyond), FetchErrorKind::OffsetOutOfRange);
    assert_eq!(said(codes::_BAD_MSG, truncated), FetchErrorKind::Damaged);
}

#[test]
fn a_start_that_is_refused_says_where_and_why() {
    let cluster = MockCluster::new("t", 1);
    let mut fetcher = fetcher(&cluster);
    let error = fetcher.start(&partition(0), Position::at(-1), Arc::new(|| {})).err().unwrap();
    assert!(error.message.contains("t-0") && error.message.contains("-1"), "{error}");
    let queue = start(&mut fetcher, &partition(0), 0);
    let error = fetcher.start(&partition(0), Position::at(0), Arc::new(|| {})).err().unwrap();
    assert!(error.message.starts_with("t-0: "), "{error}");
    drop(queue);
    fetcher.stop(&[partition(0)]).unwrap();
    let error = fetcher.stop(&[partition(0)]).unwrap_err();
    assert!(error.message.contains("t-0"), "{error}");
    assert!(fetcher.stop(&[]).is_ok());
}

fn start_all(
    fetcher: &mut NativeFetcher,
    starts: &[(i32, Position, bool)],
) -> BTreeMap<i32, super::super::Started> {
    let start = |(number, from, is_quiet): &(i32, Position, bool)| FetchStart {
        partition: partition(*number),
        from: *from,
        is_quiet: *is_quiet,
        wake: Arc::new(|| {}),
    };
    let started = fetcher.start_all(starts.iter().map(start).collect());
    started.into_iter().map(|(partition, started)| (partition.partition, started)).collect()
}

#[test]
fn several_start_at_once_and_one_that_is_refused_keeps_no_other_from_it() {
    let cluster = MockCluster::new("t", 6);
    for number in 0..6 {
        cluster.produce_plain(&partition(number), &["a", "b", "c"]);
    }
    let mut fetcher = fetcher(&cluster);
    let mut before = start(&mut fetcher, &partition(1), 0);
    let mut before_validated = start(&mut fetcher, &partition(4), 0);
    assert_eq!(take_to_end(&mut fetcher, before.as_mut()).0.len(), 3);
    assert_eq!(take_to_end(&mut fetcher, before_validated.as_mut()).0.len(), 3);
    // Those with an epoch are validated; 1 and 4 are fetched already, and an offset is not negative.
    let read = Position { offset: 1, leader_epoch: Some(0) };
    let starts = [
        (0, Position::at(1), false),
        (1, Position::at(1), false),
        (2, Position::at(-1), false),
        (3, read, false),
        (4, read, false),
        (5, read, false),
    ];
    let mut started = start_all(&mut fetcher, &starts);
    assert_eq!(started.len(), 6);
    for number in [1, 2, 4] {
        let error = started.remove(&number).unwrap().err().unwrap();
        assert!(error.message.starts_with(&format!("t-{number}: ")), "{error}");
    }
    for queue in started.values_mut() {
        let (fetched, last) = take_to_end(&mut fetcher, queue.as_mut().unwrap().as_mut());
        assert_eq!((offsets(&fetched), last.end), (vec![1, 2], Some(3)));
    }
    // What was fetched before goes on, or can be started again.
    cluster.produce_plain(&partition(1), &["d"]);
    assert_eq!(offsets(&take_to_end(&mut fetcher, before.as_mut()).0), [3]);
    fetcher.stop(&[partition(4)]).unwrap();
    drop(before_validated);
    let mut again = start_all(&mut fetcher, &[(4, Position::at(1), false)]).remove(&4).unwrap().unwrap();
    assert_eq!(offsets(&take_to_end(&mut fetcher, again.as_mut()).0), [1, 2]);
}

#[test]
fn several_stop_at_once_and_one_that_is_not_fetched_keeps_no_other_from_it() {
    let cluster = MockCluster::new("t", 4);
    let (_, make) = maker(&cluster, 1);
    let mut fetcher = fetcher(&cluster).with_quiet(make);
    let at = Position::at(0);
    let started = start_all(&mut fetcher, &[(0, at, false), (1, at, true), (2, at, false), (3, at, true)]);
    assert!(started.values().all(Result::is_ok));
    assert_eq!(busy_client(&fetcher).assignment().unwrap(), [partition(0), partition(2)]);
    fetcher.stop(&[partition(2)]).unwrap();
    let error = fetcher.stop(&[partition(0), partition(1), partition(2), partition(3)]).unwrap_err();
    assert!(error.message.starts_with("t-2: "), "{error}");
    assert!(fetcher.fetching().is_empty());
}

#[test]
fn a_debugged_record_shows_nothing_of_what_is_in_it() {
    let cluster = MockCluster::new("t", 1);
    let record = TestRecord { key: Some(b"secret"), payload: None, ..TestRecord::default() };
    cluster.produce(&partition(0), &[record]);
    let mut fetcher = fetcher(&cluster);
    let mut queue = start(&mut fetcher, &partition(0), 0);
    let (fetched, _) = take_to_end(&mut fetcher, queue.as_mut());
    assert_eq!(format!("{:?}", fetched[0]), "t-0@0 (key 6 B, no payload, 0 headers)");
}
