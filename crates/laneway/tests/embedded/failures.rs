//! Records that fail, and what becomes of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use laneway::{
    Consumer, Decode, ErrorKind, Event, GiveUp, Json, OffsetReset, Ordering, Outcome, OwnedRecord, Record,
    ServiceHandler, StallAction, StormGuard, Timestamp, Typed,
};
use laneway_testing::{unique, wait_until};

use crate::bench::{Bench, LONG};

const WAIT: Duration = Duration::from_millis(50);

fn quick(bench: &Bench) -> laneway::Builder {
    let builder = bench.builder().fetcher(bench.fetcher.clone());
    builder.backoff(Duration::from_millis(1), Duration::from_millis(2))
}

#[test]
fn a_record_that_is_given_up_stops_the_consumer_with_all_before_it_committed() {
    let bench = Bench::new(2);
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let (_, run) = bench.run(quick(&bench).attempts(3), move |record: Record| {
        let fails = record.offset() == 4 && record.partition() == 1;
        if fails {
            counted.fetch_add(1, Atomic::SeqCst);
        }
        std::future::ready(if fails { Err("broken pipe") } else { Ok(()) })
    });
    for number in 0..2 {
        bench.fetcher.deliver(&bench.partition(number), 0..6, None);
    }
    let error = bench.runtime.block_on(run).unwrap().expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::GaveUp);
    let name = format!("{} at offset 4", bench.partition(1));
    assert!(error.to_string().contains(&name) && error.to_string().contains("broken pipe"), "{error}");
    assert_eq!(tries.load(Atomic::SeqCst), 3);
    assert_eq!(bench.committed(1), 4);
}

#[test]
fn a_record_that_is_skipped_counts_as_finished_and_is_told() {
    let bench = Bench::new(1);
    let running = bench.run(quick(&bench).attempts(2).on_give_up(GiveUp::Skip), |record: Record| {
        std::future::ready(match record.offset() {
            1 => Outcome::Retry { error: "broken".into(), after: None },
            3 => Outcome::Skip { reason: "of no use".into() },
            // Without a topic for dead letters: as is said for those that are given up.
            4 => Outcome::DeadLetter { reason: "unreadable".into() },
            _ => Outcome::Done,
        })
    });
    bench.fetcher.deliver(&bench.partition(0), 0..6, None);
    wait_until(LONG, "all is committed", || bench.committed(0) == 6);
    bench.end(running);
    let errors = bench.errors().join("\n");
    for said in
        ["offset 1: broken; it is skipped", "offset 3: of no use; it is skipped", "offset 4: unreadable"]
    {
        assert!(errors.contains(said), "{errors}");
    }
}

#[test]
fn where_the_group_has_no_offset_and_none_may_be_made_up_nothing_begins_and_it_says_so() {
    let bench = Bench::new(2);
    let (_, run) = bench.run(quick(&bench).offset_reset(OffsetReset::Error), |_: Record| async {});
    let error = bench.runtime.block_on(run).unwrap().expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::NoOffset);
    assert!(error.to_string().contains("no committed offset"), "{error}");
    assert_eq!(bench.errors(), Vec::<String>::new(), "it is not tried again");
    let events = bench.events.lock().unwrap();
    // Of what was never told to be assigned nothing is told to be revoked.
    assert!(matches!(events[..], [Event::Stopped { .. }]), "{events:?}");
}

#[test]
fn a_wait_that_the_handler_asks_for_goes_before_the_backoff() {
    let bench = Bench::new(1);
    let hour = Duration::from_secs(3_600);
    let tries: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let noted = tries.clone();
    let running =
        bench.run(bench.builder().fetcher(bench.fetcher.clone()).backoff(hour, hour), move |_: Record| {
            let mut tries = noted.lock().unwrap();
            tries.push(Instant::now());
            std::future::ready(match tries.len() {
                1 => Outcome::Retry { error: "not yet".into(), after: Some(WAIT) },
                2 => Outcome::Retry { error: "now".into(), after: Some(Duration::ZERO) },
                _ => Outcome::Done,
            })
        });
    bench.fetcher.deliver(&bench.partition(0), 0..1, None);
    wait_until(LONG, "it is committed", || bench.committed(0) == 1);
    bench.end(running);
    let tries = tries.lock().unwrap();
    assert!(tries.len() == 3 && tries[1] - tries[0] >= WAIT, "{tries:?}");
}

#[test]
fn a_time_for_ever_is_as_good_as_any_other_wherever_one_is_given() {
    let bench = Bench::new(1);
    let for_ever = Duration::MAX;
    let builder = quick(&bench).ordering(Ordering::Unordered).backoff(WAIT, for_ever).timeout(for_ever);
    let builder = builder.retry_for(for_ever).stall_after(for_ever).stall(for_ever, StallAction::Leave);
    let builder = builder.commit_interval(for_ever).drain_deadline(for_ever);
    let builder = builder.allow_drains_longer_than_the_rebalance_timeout();
    let (handle, run) = bench.run(builder, move |record: Record| {
        let retry = Outcome::Retry { error: "not now".into(), after: Some(for_ever) };
        std::future::ready(if record.offset() == 3 { retry } else { Outcome::Done })
    });
    bench.fetcher.deliver(&bench.partition(0), 0..6, None);
    wait_until(LONG, "the others are finished", || handle.status().finished == 5);
    bench.end((handle, run));
    assert_eq!(bench.committed(0), 3);
}

#[test]
fn a_try_that_takes_too_long_has_failed() {
    let bench = Bench::new(1);
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let running = bench.run(quick(&bench).timeout(Duration::from_millis(50)), move |_: Record| {
        let first = counted.fetch_add(1, Atomic::SeqCst) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
        }
    });
    bench.fetcher.deliver(&bench.partition(0), 0..1, None);
    wait_until(LONG, "it is committed", || bench.committed(0) == 1);
    bench.end(running);
    assert_eq!(tries.load(Atomic::SeqCst), 2);
    assert!(bench.errors().iter().any(|error| error.contains("within 50ms")), "{:?}", bench.errors());
}

#[test]
fn a_call_that_blocks_holds_the_place_of_its_record_until_it_has_returned_although_its_try_has_failed() {
    let bench = Bench::new(1);
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (running.clone(), most.clone());
    let builder = quick(&bench).timeout(Duration::from_millis(50)).attempts(2).on_give_up(GiveUp::Skip);
    let consumer = builder.fetcher(bench.fetcher.clone()).build().expect("a consumer");
    let handle = consumer.handle();
    let run = bench.runtime.spawn(consumer.run_blocking(move |_: Record| {
        peak.fetch_max(now.fetch_add(1, Atomic::SeqCst) + 1, Atomic::SeqCst);
        std::thread::sleep(Duration::from_millis(300));
        now.fetch_sub(1, Atomic::SeqCst);
    }));
    bench.fetcher.deliver(&bench.partition(0), 0..2, None);
    wait_until(LONG, "both were given up", || bench.committed(0) == 2);
    assert_eq!(running.load(Atomic::SeqCst), 0);
    bench.end((handle, run));
    assert_eq!(most.load(Atomic::SeqCst), 1);
    let late = bench.errors().iter().filter(|error| error.contains("within 50ms")).count();
    assert_eq!(late, 4, "{:?}", bench.errors());
}

#[test]
fn of_a_long_error_as_much_is_told_as_a_header_has() {
    let bench = Bench::new(1);
    let running =
        bench.run(quick(&bench).attempts(2).on_give_up(GiveUp::Skip), |record: Record| async move {
            let long = "ä".repeat(1_000_000);
            if record.offset() == 1 { panic!("{long}") } else { Err::<(), _>(long) }
        });
    bench.fetcher.deliver(&bench.partition(0), 0..2, None);
    wait_until(LONG, "all is committed", || bench.committed(0) == 2);
    bench.end(running);
    let errors = bench.errors();
    let long = errors.iter().filter(|error| error.contains("ää...")).map(String::len);
    let lengths: Vec<usize> = long.collect();
    assert_eq!(lengths.len(), 4, "{lengths:?}");
    assert!(lengths.iter().all(|length| (4_000..4_300).contains(length)), "{lengths:?}");
}

/// A handler's future that panics when it is dropped.
struct Falls;

impl Drop for Falls {
    fn drop(&mut self) {
        panic!("it falls");
    }
}

async fn hang_and_fall() {
    let _falls = Falls;
    std::future::pending::<()>().await;
}

#[test]
fn a_handler_that_panics_when_its_time_is_over_fails_that_try_and_nothing_else() {
    let bench = Bench::new(1);
    let builder = quick(&bench).timeout(Duration::from_millis(50)).attempts(2).on_give_up(GiveUp::Skip);
    let running = bench.run(builder, |record: Record| async move {
        if record.offset() == 1 {
            hang_and_fall().await;
        }
    });
    bench.fetcher.deliver(&bench.partition(0), 0..4, None);
    wait_until(LONG, "all is committed", || bench.committed(0) == 4);
    bench.end(running);
    let said = "within 50ms, and panicked when it was dropped: it falls";
    assert_eq!(bench.errors().iter().filter(|error| error.contains(said)).count(), 2, "{:?}", bench.errors());
}

#[test]
fn handlers_that_panic_when_they_are_cancelled_are_told_and_end_nothing() {
    let bench = Bench::new(1);
    let builder = quick(&bench).ordering(Ordering::Unordered).drain_deadline(Duration::from_millis(100));
    let (handle, run) = bench.run(builder, |_: Record| hang_and_fall());
    bench.fetcher.deliver(&bench.partition(0), 0..3, None);
    wait_until(LONG, "they hang", || handle.status().lanes.iter().any(|lane| lane.in_flight == 3));
    assert_eq!(bench.end((handle, run)).unfinished, 3);
    let errors = bench.errors().join("\n");
    for offset in 0..3 {
        let said = format!("offset {offset}: the handler panicked when it was cancelled: it falls");
        assert!(errors.contains(&said), "{errors}");
    }
}

#[test]
fn a_handler_that_takes_long_is_named_with_its_key() {
    let bench = Bench::new(1);
    let builder = bench.builder().fetcher(bench.fetcher.clone()).stall_after(Duration::from_millis(100));
    let builder = builder.drain_deadline(Duration::from_millis(100));
    let running = bench.run(builder, |_: Record| std::future::pending::<()>());
    let record =
        OwnedRecord { topic: bench.topic.clone(), key: Some(b"k\xff1".to_vec()), ..OwnedRecord::default() };
    bench.fetcher.deliver_records(&bench.partition(0), vec![record], None);
    let said = format!("{} at offset 0 (key \"k\\xff1\"): the handler has been at it", bench.partition(0));
    wait_until(LONG, "it is named", || bench.errors().iter().any(|error| error.contains(&said)));
    bench.end(running);
}

/// Reads all of a topic.
pub(crate) fn read(bench: &Bench, topic: &str, count: usize) -> Vec<OwnedRecord> {
    let records: Arc<Mutex<Vec<OwnedRecord>>> = Arc::default();
    let kept = records.clone();
    let consumer = Consumer::builder()
        .brokers(bench.kafka.brokers())
        .group(unique("reader"))
        .topics([topic])
        .offset_reset(OffsetReset::Earliest)
        .count(count as u64)
        .build()
        .expect("a consumer");
    bench
        .runtime
        .block_on(consumer.run(move |record: Record| {
            kept.lock().unwrap().push(record.to_owned_record());
            std::future::ready(())
        }))
        .expect("an end");
    std::mem::take(&mut *records.lock().unwrap())
}

#[test]
fn dead_letters_keep_the_record_and_say_where_it_came_from_and_why() {
    let bench = Bench::new(1);
    let letters = unique("dead");
    bench.kafka.create_topic(&letters, 1).expect("a topic");
    let builder = quick(&bench).ordering(Ordering::Key).attempts(2).dead_letters(&letters);
    let running = bench.run(builder, |record: Record| {
        std::future::ready(match record.offset() {
            2 => Outcome::Retry { error: "broken".into(), after: None },
            3 => Outcome::DeadLetter { reason: "unreadable".into() },
            _ => Outcome::Done,
        })
    });
    let record = |offset| OwnedRecord {
        topic: bench.topic.clone(),
        offset,
        timestamp: Timestamp::Create(1_700_000_000_000),
        key: Some(b"key".to_vec()),
        payload: (offset == 2).then(Vec::new),
        headers: vec![(b"a".to_vec(), Some(b"1".to_vec())), (b"a".to_vec(), None)],
        ..OwnedRecord::default()
    };
    bench.fetcher.deliver_records(&bench.partition(0), (0..5).map(record).collect(), None);
    wait_until(LONG, "all is committed", || bench.committed(0) == 5);
    bench.end(running);
    let dead = read(&bench, &letters, 2);
    for (letter, offset, attempts, why) in [(&dead[0], 2, "2", "broken"), (&dead[1], 3, "1", "unreadable")] {
        let original = record(offset);
        assert_eq!((&letter.key, &letter.payload), (&original.key, &original.payload));
        assert_eq!(letter.headers[..2], original.headers);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let added: BTreeMap<String, String> = letter.headers[2..]
            .iter()
            .map(|(name, value)| (text(name), text(value.as_deref().unwrap())))
            .collect();
        for (name, value) in [
            ("topic", bench.topic.as_str()),
            ("partition", "0"),
            ("offset", &offset.to_string()),
            ("timestamp", "1700000000000"),
            ("group", &bench.group),
            ("attempts", attempts),
            ("error", why),
        ] {
            assert_eq!(added[&format!("laneway.{name}")], value);
        }
        assert!(added["laneway.first-failure"] <= added["laneway.last-failure"]);
    }
}

#[test]
fn when_everything_fails_the_dead_letters_have_a_limit() {
    for waits in [false, true] {
        let bench = Bench::new(1);
        let letters = unique("dead");
        bench.kafka.create_topic(&letters, 1).expect("a topic");
        let guard = StormGuard::new(3).successes(2);
        let guard = if waits { guard.waits() } else { guard };
        let builder = quick(&bench).ordering(Ordering::Key).attempts(1).dead_letters(&letters);
        let (healthy, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (is_healthy, called) = (healthy.clone(), calls.clone());
        let (handle, run) = bench.run(builder.storm_guard(guard), move |_: Record| {
            called.fetch_add(1, Atomic::SeqCst);
            let healthy = is_healthy.load(Atomic::SeqCst) == 1;
            std::future::ready(if healthy { Ok(()) } else { Err("the database is down") })
        });
        bench.fetcher.deliver(&bench.partition(0), 0..1_000, None);
        if waits {
            let storms =
                || bench.errors().iter().filter(|error| error.contains("its lane begins nothing")).count();
            wait_until(LONG, "it is told, and one is tried again, and again", || storms() >= 3);
            // Three letters, and one call for each time that it was told.
            let calls = calls.load(Atomic::SeqCst);
            assert!(calls <= 4 + storms(), "{calls} calls while everything fails, and {} storms", storms());
            healthy.store(1, Atomic::SeqCst);
            wait_until(LONG, "all is committed", || bench.committed(0) == 1_000);
            bench.end((handle, run));
        } else {
            let error = bench.runtime.block_on(run).unwrap().expect_err("an error");
            assert_eq!(error.kind(), ErrorKind::GaveUp);
            assert!(error.to_string().contains("more than 3 records were given up"), "{error}");
        }
        assert_eq!(read(&bench, &letters, 3).len(), 3);
        let admin = laneway_testing::Admin::new(bench.kafka.brokers()).expect("an admin client");
        let partition = laneway::TopicPartition::new(letters.as_str(), 0);
        assert_eq!(
            admin.end_offsets(std::slice::from_ref(&partition)).expect("ends")[&partition],
            3,
            "waits: {waits}"
        );
    }
}

#[test]
fn what_the_storm_guard_holds_back_keeps_count_of_its_tries_and_its_first_failure() {
    let bench = Bench::new(1);
    let letters = unique("dead");
    bench.kafka.create_topic(&letters, 1).expect("a topic");
    let builder = quick(&bench).ordering(Ordering::Unordered).backoff(WAIT, WAIT).dead_letters(&letters);
    let builder = builder.storm_guard(StormGuard::new(1).successes(1).waits());
    let (tries, healthy) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
    let (counted, is_healthy) = (tries.clone(), healthy.clone());
    let running = bench.run(builder, move |record: Record| {
        let (counted, is_healthy) = (counted.clone(), is_healthy.clone());
        async move {
            match record.offset() {
                2 => is_healthy.notified().await,
                offset => {
                    counted.fetch_add(usize::try_from(offset).unwrap(), Atomic::SeqCst);
                    return Outcome::DeadLetter { reason: "unreadable".into() };
                }
            }
            Outcome::Done
        }
    });
    bench.fetcher.deliver(&bench.partition(0), 0..3, None);
    wait_until(LONG, "it is held back some times", || tries.load(Atomic::SeqCst) >= 4);
    healthy.notify_one();
    wait_until(LONG, "all is committed", || bench.committed(0) == 3);
    bench.end(running);
    let letter = read(&bench, &letters, 2).pop().unwrap();
    let number = |name: &[u8]| -> i64 {
        let (_, value) = letter.headers.iter().find(|(of, _)| of == name).unwrap();
        std::str::from_utf8(value.as_deref().unwrap()).unwrap().parse().unwrap()
    };
    assert_eq!(number(b"laneway.offset"), 1);
    assert_eq!(number(b"laneway.attempts"), i64::try_from(tries.load(Atomic::SeqCst)).unwrap());
    let waited = number(b"laneway.last-failure") - number(b"laneway.first-failure");
    assert!(waited >= 3 * 50 - 10, "{waited} ms");
}

/// I1: while the topic for dead letters can't be written its record is not finished.
#[test]
fn while_a_dead_letter_cannot_be_written_its_record_waits() {
    let bench = Bench::new(1);
    let letters = unique("dead");
    bench.kafka.create_topic(&letters, 1).expect("a topic");
    let builder = quick(&bench).ordering(Ordering::Key).dead_letters(&letters);
    let running = bench.run(builder, |record: Record| {
        let dead = Outcome::DeadLetter { reason: "unreadable".into() };
        std::future::ready(if record.offset() == 1 { dead } else { Outcome::Done })
    });
    // What is not retried by the producer itself.
    let topic_authorization_failed = 29;
    bench.kafka.push_errors(laneway_testing::ApiKey::PRODUCE, &[topic_authorization_failed; 2]);
    bench.fetcher.deliver(&bench.partition(0), 0..4, None);
    wait_until(LONG, "it is said", || {
        bench.errors().iter().any(|error| error.contains("could not be written") && error.contains(&letters))
    });
    wait_until(LONG, "what is before it is committed", || bench.committed(0) >= 1);
    wait_until(LONG, "all is committed", || bench.committed(0) == 4);
    bench.end(running);
    assert_eq!(read(&bench, &letters, 1).len(), 1);
}

#[test]
fn a_topic_for_dead_letters_must_exist_and_must_not_be_read() {
    let bench = Bench::new(1);
    let missing = unique("missing");
    let (_, run) = bench.run(quick(&bench).dead_letters(&missing), |_: Record| std::future::ready(()));
    let error = bench.runtime.block_on(run).unwrap().expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::MissingTopic);
    assert!(error.to_string().contains(&missing), "{error}");
    assert!(bench.fetcher.starts().is_empty(), "nothing was read");
    let error = quick(&bench).dead_letters(&bench.topic).build().expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::Config);
    for refused in [
        quick(&bench).attempts(0),
        quick(&bench).concurrency(0),
        quick(&bench).on_give_up(GiveUp::DeadLetter),
    ] {
        assert_eq!(refused.build().expect_err("an error").kind(), ErrorKind::Config);
    }
}

#[derive(serde::Deserialize)]
struct Order {
    total: u64,
}

#[test]
fn a_record_that_cannot_be_decoded_is_given_up_at_its_first_try() {
    let bench = Bench::new(1);
    let letters = unique("dead");
    bench.kafka.create_topic(&letters, 1).expect("a topic");
    let sum = Arc::new(AtomicUsize::new(0));
    let summed = sum.clone();
    let consumer = quick(&bench).dead_letters(&letters).build().expect("a consumer");
    let handle = consumer.handle();
    let run =
        bench.runtime.spawn(consumer.run(Typed::new(Json::new(), move |order: Option<Order>, _: Record| {
            let total = order.map_or(1_000, |order| order.total);
            summed.fetch_add(usize::try_from(total).unwrap(), Atomic::SeqCst);
            std::future::ready(())
        })));
    let payloads: [Option<&[u8]>; 4] =
        [Some(br#"{"total":3}"#), Some(b"{\"total\":"), None, Some(br#"{"total":4}"#)];
    let record = |(offset, payload): (usize, &Option<&[u8]>)| OwnedRecord {
        topic: bench.topic.clone(),
        offset: i64::try_from(offset).unwrap(),
        payload: payload.map(<[u8]>::to_vec),
        ..OwnedRecord::default()
    };
    bench.fetcher.deliver_records(
        &bench.partition(0),
        payloads.iter().enumerate().map(record).collect(),
        None,
    );
    wait_until(LONG, "all is committed", || bench.committed(0) == 4);
    bench.end((handle, run));
    assert_eq!(sum.load(Atomic::SeqCst), 1_007);
    let dead = read(&bench, &letters, 1);
    assert_eq!(dead[0].payload.as_deref(), payloads[1]);
}

/// Panics at a payload that is not text.
struct Text;

impl Decode for Text {
    type Value = usize;
    type Error = std::convert::Infallible;

    fn decode(&self, record: &Record) -> Result<usize, Self::Error> {
        Ok(std::str::from_utf8(record.payload().expect("a payload")).expect("text").len())
    }
}

#[test]
fn a_record_at_which_the_decoder_panics_is_one_that_cannot_be_decoded() {
    let bench = Bench::new(1);
    let letters = unique("dead");
    bench.kafka.create_topic(&letters, 1).expect("a topic");
    let consumer = quick(&bench).dead_letters(&letters).build().expect("a consumer");
    let handle = consumer.handle();
    let run = bench.runtime.spawn(consumer.run(Typed::new(Text, |_: usize, _: Record| async {})));
    let record = |(offset, payload): (i64, &[u8])| OwnedRecord {
        topic: bench.topic.clone(),
        offset,
        payload: Some(payload.to_vec()),
        ..OwnedRecord::default()
    };
    let records = (0..).zip([b"a", b"\xff" as &[u8], b"b"]).map(record).collect();
    bench.fetcher.deliver_records(&bench.partition(0), records, None);
    wait_until(LONG, "all is committed", || bench.committed(0) == 3);
    bench.end((handle, run));
    let dead = read(&bench, &letters, 1);
    let header = |name: &[u8]| dead[0].headers.iter().find(|(of, _)| of == name).unwrap().1.clone().unwrap();
    assert_eq!(
        (dead[0].payload.as_deref(), &*header(b"laneway.attempts")),
        (Some(b"\xff" as &[u8]), b"1" as &[u8])
    );
    let error = String::from_utf8(header(b"laneway.error")).unwrap();
    assert!(error.contains("it could not be decoded: the decoder panicked: text"), "{error}");
}

/// Ready at every second asking; adds up what it was called with.
#[derive(Clone)]
struct Sums(Arc<AtomicUsize>, bool);

impl tower_service::Service<Record> for Sums {
    type Response = ();
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<(), std::io::Error>>;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        if std::mem::replace(&mut self.1, true) {
            return std::task::Poll::Ready(Ok(()));
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    }

    fn call(&mut self, record: Record) -> Self::Future {
        assert!(self.1, "called before it was ready");
        let before = self.0.fetch_add(usize::try_from(record.offset()).unwrap(), Atomic::SeqCst);
        std::future::ready(if before == 0 { Err(std::io::Error::other("not yet")) } else { Ok(()) })
    }
}

#[test]
fn a_tower_service_is_a_handler() {
    let bench = Bench::new(1);
    let sum = Arc::new(AtomicUsize::new(0));
    let consumer = quick(&bench).build().expect("a consumer");
    let handle = consumer.handle();
    let run = bench.runtime.spawn(consumer.run(ServiceHandler::new(Sums(sum.clone(), false))));
    bench.fetcher.deliver(&bench.partition(0), 1..5, None);
    wait_until(LONG, "all is committed", || bench.committed(0) == 5);
    bench.end((handle, run));
    assert_eq!(sum.load(Atomic::SeqCst), 1 + 1 + 2 + 3 + 4);
    assert!(bench.errors().iter().any(|error| error.contains("not yet")));
}
