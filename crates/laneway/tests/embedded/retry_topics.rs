//! Records that fail, and wait in retry topics before they are tried again.

use std::sync::atomic::{AtomicUsize, Ordering as Atomic};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use laneway::{
    BatchOutcome, Batching, Builder, ErrorKind, GiveUp, OffsetReset, Ordering, Outcome, OwnedRecord,
    Protocol, Record,
};
use laneway_testing::{ApiKey, Producer, unique, wait_until};

use crate::bench::{Bench, LONG};
use crate::failures::read;

const HOUR: Duration = Duration::from_secs(3_600);

fn topic(bench: &Bench, name: &str) -> String {
    let topic = unique(name);
    bench.kafka.create_topic(&topic, 1).expect("a topic");
    topic
}

fn produce(bench: &Bench, topic: &str, payload: &str, headers: &[(&str, Option<&[u8]>)]) {
    let producer = Producer::new(bench.kafka.brokers(), &[]).expect("a producer");
    let headers: Vec<(&[u8], Option<&[u8]>)> =
        headers.iter().map(|(name, value)| (name.as_bytes(), *value)).collect();
    producer.send(topic, 0, Some(b"key"), Some(payload.as_bytes()), &headers, None).expect("sent");
    producer.flush().expect("delivered");
}

/// The text of a record's headers of this name, in their order.
fn texts(record: &OwnedRecord, name: &str) -> Vec<String> {
    let of_name = record.headers.iter().filter(|(found, _)| found == name.as_bytes());
    of_name.map(|(_, value)| String::from_utf8(value.clone().unwrap()).unwrap()).collect()
}

fn number(record: &OwnedRecord, name: &str) -> u64 {
    texts(record, name)[0].parse().expect("a number")
}

fn lag(handle: &laneway::Handle) -> i64 {
    handle.status().lanes.iter().map(|lane| lane.lag.unwrap_or(1)).sum()
}

type Calls = Arc<Mutex<Vec<(OwnedRecord, u128)>>>;

/// Fails for records that say so, and keeps what it was called with, and when.
fn keeping(calls: &Calls) -> impl Fn(Record) -> std::future::Ready<Outcome> + Send + Sync + 'static {
    let calls = calls.clone();
    move |record: Record| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let before = calls
            .lock()
            .unwrap()
            .iter()
            .filter(|(call, _)| call.payload.as_deref() == record.payload())
            .count();
        calls.lock().unwrap().push((record.to_owned_record(), now));
        std::future::ready(match record.payload() {
            Some(b"always") => Outcome::Retry { error: format!("failure {}", before + 1), after: None },
            Some(b"once") if before == 0 => Outcome::Retry { error: "not yet".into(), after: None },
            Some(b"long") if before == 0 => {
                Outcome::Retry { error: "not for long".into(), after: Some(Duration::from_millis(400)) }
            }
            Some(b"poison") => Outcome::DeadLetter { reason: "unreadable".into() },
            _ => Outcome::Done,
        })
    }
}

#[test]
fn a_record_that_fails_goes_from_topic_to_topic_when_it_has_waited_and_then_to_the_dead_letters() {
    for ordering in [Ordering::Partition, Ordering::Key, Ordering::Unordered] {
        let bench = Bench::new(1);
        let (first, second, dead) = (topic(&bench, "first"), topic(&bench, "second"), topic(&bench, "dead"));
        let delays = [(&first, Duration::from_millis(300)), (&second, Duration::from_millis(600))];
        let builder = bench.builder().ordering(ordering).retry_topics(delays).dead_letters(&dead);
        for payload in ["always", "once", "long", "poison", "good"] {
            produce(&bench, &bench.topic, payload, &[("a", Some(b"1")), ("a", None)]);
        }
        let calls = Calls::default();
        let running = bench.run(builder, keeping(&calls));
        wait_until(LONG, "all has been handled", || calls.lock().unwrap().len() == 3 + 2 + 2 + 1 + 1);
        let dead = read(&bench, &dead, 2);
        wait_until(LONG, "all is finished", || lag(&running.0) == 0);
        let summary = bench.end(running);
        assert_eq!((summary.unfinished, summary.uncommitted), (0, 0));

        let calls = calls.lock().unwrap();
        let of = |payload: &'static str| {
            calls.iter().filter(move |(call, _)| call.payload.as_deref() == Some(payload.as_bytes()))
        };
        let went =
            |payload: &'static str| of(payload).map(|(call, _)| call.topic.as_str()).collect::<Vec<_>>();
        assert_eq!(went("always"), [&bench.topic, &first, &second]);
        assert_eq!(went("once"), [&bench.topic, &first]);
        assert_eq!(went("long"), [&bench.topic, &second], "where it waits as long as it was asked to");
        assert_eq!(went("poison"), [&bench.topic], "what is given up is not tried again");
        for (call, at) in calls.iter().filter(|(call, _)| call.topic != bench.topic) {
            let delay = if call.topic == first { 300 } else { 600 };
            assert_eq!(number(call, "laneway.due"), number(call, "laneway.last-failure") + delay);
            assert!(*at >= u128::from(number(call, "laneway.due")), "handed out before it was due");
            assert_eq!(call.headers[..2], [(b"a".to_vec(), Some(b"1".to_vec())), (b"a".to_vec(), None)]);
            assert_eq!(call.key.as_deref(), Some(b"key".as_slice()));
        }
        let letter =
            dead.iter().find(|letter| letter.payload.as_deref() == Some(b"always")).expect("a dead letter");
        let original = &of("always").next().unwrap().0;
        assert_eq!(texts(letter, "laneway.topic"), [&*bench.topic]);
        assert_eq!(number(letter, "laneway.partition"), 0);
        assert_eq!(number(letter, "laneway.offset"), original.offset as u64);
        let laneway::Timestamp::Create(time) = original.timestamp else { panic!("{:?}", original.timestamp) };
        assert_eq!(number(letter, "laneway.timestamp"), time as u64);
        assert_eq!(number(letter, "laneway.attempts"), 3);
        assert_eq!(texts(letter, "laneway.error"), ["failure 1", "failure 2", "failure 3"]);
        assert!(number(letter, "laneway.first-failure") + 900 <= number(letter, "laneway.last-failure"));
        assert!(texts(letter, "laneway.due").is_empty());
        assert_eq!(letter.headers[..2], original.headers);
    }
}

#[test]
fn tries_in_place_come_first_in_each_topic_and_are_counted_together() {
    let bench = Bench::new(1);
    let (retry, dead) = (topic(&bench, "retry"), topic(&bench, "dead"));
    let builder = bench.builder().backoff(Duration::from_millis(1), Duration::from_millis(2)).attempts(3);
    let builder = builder.retry_topics([(&retry, Duration::from_millis(50))]).dead_letters(&dead);
    produce(&bench, &bench.topic, "always", &[]);
    let calls = Calls::default();
    let running = bench.run(builder, keeping(&calls));
    let letter = &read(&bench, &dead, 1)[0];
    wait_until(LONG, "all is finished", || lag(&running.0) == 0);
    bench.end(running);
    assert_eq!(calls.lock().unwrap().len(), 6);
    assert_eq!(number(letter, "laneway.attempts"), 6);
    assert_eq!(texts(letter, "laneway.error"), ["failure 3", "failure 6"]);
}

#[test]
fn records_that_are_not_due_are_shown_as_waiting_and_hold_up_no_stop() {
    let bench = Bench::new(1);
    let retry = topic(&bench, "retry");
    let builder = || {
        // Its classic groups wait a whole session when a member comes back.
        let builder = bench.builder().protocol(Protocol::Consumer).stall_after(Duration::from_millis(1));
        builder.retry_topics([(&retry, HOUR)])
    };
    produce(&bench, &bench.topic, "always", &[]);
    let calls = Calls::default();
    // What waits is there again after a restart.
    for _ in 0..2 {
        let (handle, run) = bench.run(builder(), keeping(&calls));
        let waits = || {
            let lanes = handle.status().lanes;
            let lane = lanes.iter().find(|lane| *lane.lane.partition.topic == *retry);
            lane.is_some_and(|lane| (lane.waiting, lane.in_flight, lane.lag) == (1, 0, Some(1)))
        };
        wait_until(LONG, "it is shown to wait", waits);
        handle.stop();
        let summary = bench.runtime.block_on(run).unwrap().expect("an end");
        assert_eq!((summary.unfinished, summary.uncommitted), (0, 0));
        assert!(summary.stop < Duration::from_secs(5), "{:?}", summary.stop);
    }
    assert_eq!(calls.lock().unwrap().len(), 1);
    assert!(!bench.errors().iter().any(|error| error.contains("has been at it")), "{:?}", bench.errors());
}

/// Whatever else has them say: members write to a retry topic before the one that reads it has begun.
#[test]
fn a_retry_topic_is_read_from_its_beginning_and_what_was_not_written_to_it_by_the_group_is_told() {
    let bench = Bench::new(1);
    let (retry, dead) = (topic(&bench, "retry"), topic(&bench, "dead"));
    let in_an_hour = (SystemTime::now() + HOUR).duration_since(UNIX_EPOCH).unwrap().as_millis().to_string();
    let failed = |group: &str, attempts: &str| -> Vec<(&str, Vec<u8>)> {
        let headers = [
            ("laneway.topic", "orders"),
            ("laneway.partition", "7"),
            ("laneway.offset", "3"),
            ("laneway.group", group),
            ("laneway.attempts", attempts),
            ("laneway.first-failure", "1"),
            ("laneway.last-failure", "2"),
            ("laneway.due", &in_an_hour),
            ("laneway.error", "down"),
        ];
        headers.into_iter().map(|(name, value)| (name, value.as_bytes().to_vec())).collect()
    };
    let put = |payload, headers: &[(&str, Vec<u8>)]| {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, Some(value.as_slice()))).collect();
        produce(&bench, &retry, payload, &headers);
    };
    put("bare", &[]);
    put("damaged", &failed(&bench.group, "two"));
    put("always", &failed("another", "2"));
    put("later", &failed(&bench.group, "2"));
    let builder = bench.builder().offset_reset(OffsetReset::Latest).dead_letters(&dead);
    let calls = Calls::default();
    let running = bench.run(builder.retry_topics([(&retry, HOUR)]), keeping(&calls));
    let letter = &read(&bench, &dead, 1)[0];
    wait_until(LONG, "the last one waits", || running.0.status().lanes.iter().any(|lane| lane.waiting == 1));
    bench.end(running);
    let payloads: Vec<_> =
        calls.lock().unwrap().iter().map(|(call, _)| call.payload.clone().unwrap()).collect();
    assert_eq!(payloads, [b"bare".to_vec(), b"damaged".to_vec(), b"always".to_vec()]);
    let errors = bench.errors().join("\n");
    for said in ["it has none", "laneway.attempts is \"two\"", "it is of group \"another\""] {
        assert!(errors.contains(said), "{said}: {errors}");
    }
    // It is as one that failed here first; what it said is left as it was.
    assert_eq!(texts(letter, "laneway.topic"), ["orders", &retry]);
    assert_eq!(texts(letter, "laneway.attempts"), ["2", "1"]);
}

#[test]
fn the_wait_is_no_longer_than_the_topics_whatever_a_header_says() {
    let bench = Bench::new(1);
    let retry = topic(&bench, "retry");
    let (group, far) = (bench.group.clone(), i64::MAX.to_string());
    let headers: Vec<(&str, Option<&[u8]>)> = [
        ("laneway.topic", "orders"),
        ("laneway.partition", "7"),
        ("laneway.offset", "3"),
        ("laneway.group", &group),
        ("laneway.attempts", "2"),
        ("laneway.first-failure", "1"),
        ("laneway.last-failure", "2"),
        ("laneway.due", &far),
        ("laneway.error", "down"),
    ]
    .map(|(name, value)| (name, Some(value.as_bytes())))
    .to_vec();
    produce(&bench, &retry, "good", &headers);
    let calls = Calls::default();
    let running =
        bench.run(bench.builder().retry_topics([(&retry, Duration::from_millis(200))]), keeping(&calls));
    wait_until(LONG, "it is handled", || calls.lock().unwrap().len() == 1);
    bench.end(running);
}

/// I1: while a retry topic can't be written its record is not finished.
#[test]
fn while_a_retry_topic_cannot_be_written_its_record_waits() {
    let bench = Bench::new(1);
    let retry = topic(&bench, "retry");
    for payload in ["good", "once", "good"] {
        produce(&bench, &bench.topic, payload, &[]);
    }
    // What is not retried by the producer itself.
    let topic_authorization_failed = 29;
    bench.kafka.push_errors(ApiKey::PRODUCE, &[topic_authorization_failed; 2]);
    let calls = Calls::default();
    let builder = bench.builder().retry_topics([(&retry, Duration::from_millis(1))]);
    let running = bench.run(builder, keeping(&calls));
    wait_until(LONG, "it is said", || {
        bench.errors().iter().any(|error| error.contains("could not be written") && error.contains(&retry))
    });
    wait_until(LONG, "what is before it is committed", || bench.committed(0) >= 1);
    wait_until(LONG, "all is committed", || bench.committed(0) == 3);
    wait_until(LONG, "it is tried again", || calls.lock().unwrap().len() == 4);
    bench.end(running);
}

#[test]
fn records_of_a_batch_fail_one_by_one() {
    let bench = Bench::new(1);
    let retry = topic(&bench, "retry");
    for number in 0..20 {
        produce(&bench, &bench.topic, &number.to_string(), &[]);
    }
    let done = Arc::new(AtomicUsize::new(0));
    let counted = done.clone();
    let builder =
        bench.builder().ordering(Ordering::Key).retry_topics([(&retry, Duration::from_millis(100))]);
    let consumer = builder.build().expect("a consumer");
    let handle = consumer.handle();
    let first = bench.topic.clone();
    let run = bench.runtime.spawn(consumer.run_batches(Batching::of(8), move |records: Vec<Record>| {
        let each = |record: &Record| {
            if record.offset() % 3 == 0 && record.topic() == first {
                return Outcome::Retry { error: "broken".into(), after: None };
            }
            counted.fetch_add(1, Atomic::SeqCst);
            Outcome::Done
        };
        std::future::ready(BatchOutcome::Each(records.iter().map(each).collect()))
    }));
    wait_until(LONG, "all are done", || done.load(Atomic::SeqCst) == 20 && lag(&handle) == 0);
    bench.end((handle, run));
    assert_eq!(done.load(Atomic::SeqCst), 20);
}

#[test]
fn retry_topics_must_exist_and_be_nothing_else() {
    let bench = Bench::new(1);
    let (missing, gone, retry) = (unique("missing"), unique("gone"), topic(&bench, "retry"));
    let topics = [&missing, &retry, &gone].map(|topic| (topic.as_str(), HOUR));
    let (_, run) = bench.run(bench.builder().retry_topics(topics), |_: Record| std::future::ready(()));
    let error = bench.runtime.block_on(run).unwrap().expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::MissingTopic);
    let text = error.to_string();
    assert!(text.contains(&missing) && text.contains(&gone) && !text.contains(&retry), "{text}");

    let refused = |builder: Builder| {
        let error = builder.build().expect_err("an error");
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    let with = |topic: &str, delay| bench.builder().retry_topics([(retry.as_str(), HOUR), (topic, delay)]);
    for (builder, said) in [
        (with("other", Duration::ZERO), "a delay of 0"),
        (with(&retry, HOUR), "more than once"),
        (with("no spaces", HOUR), "not a topic's name"),
        (with(&bench.topic, HOUR), "one of the topics that are read"),
        (with("other", HOUR).topics(["^oth.*"]), "one of the topics that are read"),
        (with("other", HOUR).dead_letters("other"), "can't be both"),
        (with("other", HOUR).on_give_up(GiveUp::DeadLetter), "no topic for them"),
    ] {
        let text = refused(builder);
        assert!(text.contains(said), "{text}");
    }
    let lanes = with("other", HOUR).build().expect("a consumer").into_lanes();
    assert_eq!(lanes.expect_err("an error").kind(), ErrorKind::Config);
}
