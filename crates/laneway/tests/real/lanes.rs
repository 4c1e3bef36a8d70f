//! Lanes beside each other, and what they read.

use std::time::{Duration, Instant};

use laneway::Protocol;
use laneway_testing::history::{Expect, What, check};
use laneway_testing::{Producer, unique, wait_until};

use crate::support::{PROTOCOLS, Scene, Spec, Work, runtime};

#[test]
fn a_slow_lane_delays_no_other() {
    let Some(scene) = Scene::new("slow", 32, Protocol::Cooperative) else { return };
    scene.produce(3_200);
    let member =
        scene.member("only", &Spec { work: Work::SleepOn(7, Duration::from_secs(3)), ..Spec::default() });
    let began = Instant::now();
    let finished = || {
        let history = scene.recorder.history();
        let others =
            |what: &What| matches!(what, What::Finished { lane, .. } if lane.partition.partition != 7);
        history.events().iter().filter(|event| others(&event.what)).count()
    };
    wait_until(Duration::from_secs(30), "all the other lanes are through", || finished() == 3_100);
    assert!(began.elapsed() < Duration::from_secs(10), "they took {:?}", began.elapsed());
    member.leave();
}

#[test]
fn a_handler_slower_than_the_drain_deadline_is_cancelled_and_its_record_comes_again() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::new("overdue", 2, protocol) else { return };
        scene.produce(10);
        let stuck = Spec {
            work: Work::SleepOn(0, Duration::from_secs(600)),
            drain: Duration::from_millis(300),
            ..Spec::default()
        };
        let member = scene.member("first", &stuck);
        wait_until(Duration::from_secs(30), "only the stuck lane is left", || scene.unfinished() == 5);
        let began = Instant::now();
        let summary = member.leave();
        assert!(began.elapsed() < Duration::from_millis(5_300), "leaving took {:?}", began.elapsed());
        assert_eq!((summary.unfinished, summary.uncommitted, summary.detached), (1, 0, 0), "{protocol}");
        let next = scene.member("next", &Spec::default());
        scene.wait_until_finished(Duration::from_secs(30));
        next.leave();
        check(&scene.recorder.history(), &Expect::graceful()).assert_ok();
    }
}

#[test]
fn a_backlog_of_a_million_records_is_read_once_and_without_strays() {
    let Some(scene) = Scene::new("backlog", 12, Protocol::Cooperative) else { return };
    let producer = Producer::new(&scene.brokers, &[]).expect("a producer");
    for number in 0..1_000_000 {
        producer.send(&scene.topic, number % 12, None, Some(b"0123456789"), &[], None).expect("sent");
    }
    producer.flush().expect("delivered");
    let seen: std::sync::Arc<Vec<std::sync::Mutex<Vec<u8>>>> =
        std::sync::Arc::new((0..12).map(|_| std::sync::Mutex::new(vec![0; 100_000])).collect());
    let consumer = laneway::Consumer::builder()
        .brokers(&scene.brokers)
        .group(unique("backlog"))
        .topics([&scene.topic])
        .offset_reset(laneway::OffsetReset::Earliest)
        .exit_at_end(true)
        .build()
        .expect("a consumer");
    let handle = consumer.handle();
    let counted = seen.clone();
    let summary = runtime()
        .block_on(consumer.run(move |record: laneway::Record| {
            let mut times = counted[usize::try_from(record.partition()).unwrap()].lock().unwrap();
            times[usize::try_from(record.offset()).unwrap()] += 1;
            std::future::ready(())
        }))
        .expect("a consumer that ends at the end");
    assert_eq!(summary.finished, 1_000_000);
    assert_eq!(summary.reason, laneway::StopReason::AtEnd);
    assert_eq!(handle.status().strays, 0);
    let total: usize =
        seen.iter().map(|times| times.lock().unwrap().iter().map(|n| usize::from(*n)).sum::<usize>()).sum();
    assert_eq!(total, 1_000_000);
    assert!(seen.iter().all(|times| times.lock().unwrap().iter().all(|n| *n <= 1)));
}

#[test]
fn records_are_delivered_as_they_are() {
    let Some(scene) = Scene::new("odd", 1, Protocol::Cooperative) else { return };
    let admin = scene.admin();
    let topic = unique("odd-large");
    admin.create_topic(&topic, 1, &[("max.message.bytes", "12000000")]).expect("a topic");
    let large = vec![7u8; 10 * 1024 * 1024];
    let mut sent = 0;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let properties = [("compression.codec", codec), ("message.max.bytes", "12000000")];
        let producer = Producer::new(&scene.brokers, &properties).expect("a producer");
        producer.send(&topic, 0, None, None, &[], None).expect("sent");
        producer.send(&topic, 0, Some(b""), Some(b""), &[], Some(1_732_363_185_123)).expect("sent");
        let headers: [(&[u8], Option<&[u8]>); 3] = [(b"a", Some(b"1")), (b"", None), (b"a", Some(b"\xff"))];
        producer.send(&topic, 0, Some(b"\xfe"), Some(b"v"), &headers, None).expect("sent");
        producer.send(&topic, 0, None, Some(&large), &[], None).expect("sent");
        producer.flush().expect("delivered");
        sent += 4;
    }
    let got: std::sync::Arc<std::sync::Mutex<Vec<laneway::OwnedRecord>>> = std::sync::Arc::default();
    let kept = got.clone();
    let consumer = laneway::Consumer::builder()
        .brokers(&scene.brokers)
        .group(unique("odd"))
        .topics([&topic])
        .offset_reset(laneway::OffsetReset::Earliest)
        .exit_at_end(true)
        .build()
        .expect("a consumer");
    runtime()
        .block_on(consumer.run(move |record: laneway::Record| {
            kept.lock().unwrap().push(record.to_owned_record());
            std::future::ready(())
        }))
        .expect("an end");
    let got = got.lock().unwrap();
    assert_eq!(got.len(), sent);
    for four in got.chunks(4) {
        assert_eq!((&four[0].key, &four[0].payload), (&None, &None));
        assert_eq!((&four[1].key, &four[1].payload), (&Some(vec![]), &Some(vec![])));
        assert_eq!(four[1].timestamp, laneway::Timestamp::Create(1_732_363_185_123));
        let headers: Vec<(Vec<u8>, Option<Vec<u8>>)> = vec![
            (b"a".to_vec(), Some(b"1".to_vec())),
            (vec![], None),
            (b"a".to_vec(), Some(b"\xff".to_vec())),
        ];
        assert_eq!(four[2].headers, headers);
        assert_eq!(four[3].payload.as_ref().map(Vec::len), Some(large.len()));
    }
}

#[test]
fn a_partition_that_is_added_is_found_and_read_from_its_beginning_with_latest_too() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::new("added", 1, protocol) else { return };
        let spec = Spec {
            reset: laneway::OffsetReset::Latest,
            properties: vec![("topic.metadata.refresh.interval.ms".into(), "500".into())],
            ..Spec::default()
        };
        let member = scene.member("only", &spec);
        wait_until(Duration::from_secs(30), "the first lane is open", || member.lanes() == 1);
        // Nothing is produced to the first partition: its lane has nothing to commit.
        scene.admin().create_partitions(&scene.topic, 3).expect("two more partitions");
        let producer = Producer::new(&scene.brokers, &[]).expect("a producer").recording(&scene.recorder);
        for partition in [1, 2, 1, 2] {
            producer.send(&scene.topic, partition, None, Some(b"new"), &[], None).expect("sent");
        }
        producer.flush().expect("delivered");
        scene.wait_until_finished(Duration::from_secs(30));
        member.leave();
        check(&scene.recorder.history(), &Expect::graceful()).assert_ok();
    }
}
