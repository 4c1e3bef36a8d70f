//! The embedded Kafka: what is produced is there, faults come on request, requests are counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::thread;
use std::time::{Duration, Instant};

use laneway_core::TopicPartition;
use laneway_testing::history::{Recorder, What};
use laneway_testing::{
    Admin, ApiKey, EmbeddedKafka, EmbeddedOptions, Producer, Reader, code, unique, wait_until,
};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn what_is_produced_is_read_back_as_it_was() {
    let kafka = EmbeddedKafka::start().unwrap();
    kafka.create_topic("t", 2).unwrap();
    let producer = Producer::new(kafka.brokers(), &[]).unwrap();
    let headers: [(&[u8], Option<&[u8]>); 4] =
        [(b"a", Some(b"1")), (b"a", None), (b"empty", Some(b"")), (b"\xff", Some(b"\0\xfe"))];
    producer.send("t", 1, Some(b"key"), Some(b"payload"), &headers, Some(1_732_363_185_123)).unwrap();
    producer.send("t", 1, None, None, &[], None).unwrap();
    producer.send("t", 1, Some(b""), Some(b""), &[], None).unwrap();
    assert_eq!(producer.flush().unwrap(), 3);

    let records = Reader::read_all(kafka.brokers(), &TopicPartition::new("t", 1), SOON).unwrap();
    assert_eq!(records.iter().map(|r| r.offset).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(
        (records[0].key.as_deref(), records[0].payload.as_deref()),
        (Some(&b"key"[..]), Some(&b"payload"[..]))
    );
    assert_eq!(records[0].timestamp, Some(1_732_363_185_123));
    let wanted: Vec<_> = headers.iter().map(|(n, v)| (n.to_vec(), v.map(<[u8]>::to_vec))).collect();
    assert_eq!(records[0].headers, wanted);
    assert_eq!((records[1].key.as_deref(), records[1].payload.as_deref()), (None, None));
    assert_eq!((records[2].key.as_deref(), records[2].payload.as_deref()), (Some(&b""[..]), Some(&b""[..])));
    assert!(Reader::read_all(kafka.brokers(), &TopicPartition::new("t", 0), SOON).unwrap().is_empty());
}

#[test]
fn a_delivery_that_fails_is_an_error_of_flush() {
    let kafka = EmbeddedKafka::start().unwrap();
    kafka.create_topic("t", 1).unwrap();
    let producer = Producer::new(kafka.brokers(), &[("enable.idempotence", "false")]).unwrap();
    producer.send("t", 0, None, Some(b"arrives"), &[], None).unwrap();
    assert_eq!(producer.flush().unwrap(), 1);
    kafka.push_errors(ApiKey::PRODUCE, &[code::MESSAGE_TOO_LARGE]);
    producer.send("t", 0, None, Some(b"does not"), &[], None).unwrap();
    let error = producer.flush().unwrap_err();
    assert_eq!(error.code(), Some(code::MESSAGE_TOO_LARGE), "{error}");
    assert!(error.to_string().starts_with("1 records not delivered, 0 delivered; the first: "), "{error}");
    // And it is told once.
    assert_eq!(producer.flush().unwrap(), 0);
}

#[test]
fn records_that_are_delivered_are_recorded_as_produced() {
    let kafka = EmbeddedKafka::start().unwrap();
    kafka.create_topic("t", 1).unwrap();
    let recorder = Recorder::in_memory();
    let producer = Producer::new(kafka.brokers(), &[]).unwrap().recording(&recorder);
    for key in ["a", "b", "a"] {
        producer.send("t", 0, Some(key.as_bytes()), None, &[], None).unwrap();
    }
    producer.flush().unwrap();
    let keys: Vec<_> = (recorder.history().events().iter())
        .map(|event| match &event.what {
            What::Produced { partition, offset, key } => (partition.to_string(), *offset, key.unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        keys.iter().map(|(p, o, _)| (p.as_str(), *o)).collect::<Vec<_>>(),
        [("t-0", 0), ("t-0", 1), ("t-0", 2)]
    );
    assert!(keys[0].2 == keys[2].2 && keys[0].2 != keys[1].2, "{keys:?}");
}

#[test]
fn requests_are_counted_by_kind() {
    let kafka = EmbeddedKafka::start().unwrap();
    kafka.create_topic("t", 1).unwrap();
    let partition = TopicPartition::new("t", 0);
    kafka.start_counting_requests();
    let producer = Producer::new(kafka.brokers(), &[]).unwrap();
    producer.send("t", 0, None, Some(b"x"), &[], None).unwrap();
    producer.flush().unwrap();
    assert_eq!((kafka.request_count(ApiKey::PRODUCE), kafka.request_count(ApiKey::FETCH)), (1, 0));
    Reader::read_all(kafka.brokers(), &partition, SOON).unwrap();
    assert!(kafka.request_count(ApiKey::FETCH) > 0);
    let produce = kafka.requests().into_iter().find(|r| r.api_key == ApiKey::PRODUCE).unwrap();
    assert_eq!(produce.broker, 1);
    kafka.start_counting_requests();
    assert_eq!(kafka.request_count(ApiKey::PRODUCE), 0);
}

#[test]
fn commits_from_outside_come_back_with_their_metadata() {
    let kafka = EmbeddedKafka::start().unwrap();
    kafka.create_topic("t", 2).unwrap();
    let admin = Admin::new(kafka.brokers()).unwrap();
    let (zero, one) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
    assert!(admin.committed("g", &[zero.clone(), one.clone()]).unwrap().is_empty());
    let committed = laneway_testing::Committed { offset: 7, metadata: "a map: äß".into() };
    admin.set_committed_with_metadata("g", &[(zero.clone(), committed.clone())]).unwrap();
    let found = admin.committed("g", &[zero.clone(), one]).unwrap();
    assert_eq!((found.len(), &found[&zero]), (1, &committed));
}

#[test]
fn a_first_member_is_assigned_its_partitions_at_once() {
    let kafka = EmbeddedKafka::start().unwrap();
    kafka.create_topic("t", 4).unwrap();
    let begun = Instant::now();
    let member = Reader::subscribe(kafka.brokers(), "g", &["t"], &[]).unwrap();
    wait_until(SOON, "an assignment of 4 partitions", || {
        member.poll(Duration::from_millis(10)).unwrap();
        member.assignment().unwrap().len() == 4
    });
    assert!(
        begun.elapsed() < Duration::from_millis(2_500),
        "Kafka's own delay is 3 s; it took {:?}",
        begun.elapsed()
    );
}

#[test]
fn a_broker_goes_down_and_comes_back_and_answers_late() {
    let kafka = EmbeddedKafka::start_with(EmbeddedOptions { brokers: 2, ..Default::default() }).unwrap();
    assert_eq!(kafka.brokers().split(',').count(), 2);
    kafka.create_topic("t", 1).unwrap();
    kafka.set_leader("t", 0, 2).unwrap();
    let producer =
        Producer::new(kafka.brokers(), &[("message.timeout.ms", "500"), ("enable.idempotence", "false")])
            .unwrap();
    producer.send("t", 0, None, Some(b"x"), &[], None).unwrap();
    producer.flush().unwrap();
    kafka.broker_down(2).unwrap();
    producer.send("t", 0, None, Some(b"x"), &[], None).unwrap();
    producer.flush().unwrap_err();
    kafka.broker_up(2).unwrap();
    wait_until(SOON, "a delivery", || {
        producer.send("t", 0, None, Some(b"x"), &[], None).unwrap();
        producer.flush().is_ok()
    });
    kafka.set_rtt(2, Duration::from_millis(150)).unwrap();
    let begun = Instant::now();
    producer.send("t", 0, None, Some(b"x"), &[], None).unwrap();
    producer.flush().unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(140), "{:?}", begun.elapsed());
    kafka.set_rtt(2, Duration::ZERO).unwrap();
    kafka.push_answer(2, ApiKey::PRODUCE, 0, Duration::from_millis(150)).unwrap();
    let begun = Instant::now();
    producer.send("t", 0, None, Some(b"x"), &[], None).unwrap();
    producer.flush().unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(140), "{:?}", begun.elapsed());
    kafka.broker_down(7).unwrap_err();
}

#[test]
fn it_may_be_used_from_several_threads() {
    let kafka = EmbeddedKafka::start().unwrap();
    kafka.create_topic("shared", 4).unwrap();
    kafka.start_counting_requests();
    let producer = Producer::new(kafka.brokers(), &[]).unwrap();
    thread::scope(|scope| {
        for partition in 0..4 {
            let (kafka, producer) = (&kafka, &producer);
            scope.spawn(move || {
                for _ in 0..50 {
                    kafka.create_topic(&unique("t"), 1).unwrap();
                    kafka.push_errors(ApiKey::HEARTBEAT, &[0]);
                    kafka.requests();
                    producer.send("shared", partition, None, Some(b"x"), &[], None).unwrap();
                }
            });
        }
    });
    assert_eq!(producer.flush().unwrap(), 200);
    let all: Vec<_> = (0..4).map(|p| TopicPartition::new("shared", p)).collect();
    let ends = Admin::new(kafka.brokers()).unwrap().end_offsets(&all).unwrap();
    assert!(all.iter().all(|p| ends[p] == 50), "{ends:?}");
}

#[test]
fn bad_input_is_an_error_that_names_it() {
    let kafka = EmbeddedKafka::start().unwrap();
    kafka.create_topic("t", 1).unwrap();
    assert_eq!(kafka.create_topic("t", 1).unwrap_err().code(), Some(code::TOPIC_ALREADY_EXISTS));
    assert!(kafka.create_topic("none", 0).unwrap_err().to_string().contains("none"));
    assert!(kafka.create_topic("nu\0l", 1).unwrap_err().to_string().contains("NUL"));
    let error = Producer::new(kafka.brokers(), &[("no.such.property", "x")]).unwrap_err();
    assert!(error.to_string().contains("no.such.property"), "{error}");
}
