//! Partitions that are assigned by hand, on a real Kafka.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use laneway::{Consumer, Event, OffsetReset, Protocol, Record, Start, TopicPartition};
use laneway_testing::{Producer, unique, wait_until};

use crate::support::{Scene, runtime};

/// Two consumers read the same partitions, from an offset and from times, and no group is there.
#[test]
fn partitions_are_read_from_offsets_and_times_without_a_group() {
    let Some(scene) = Scene::new("by-hand", 3, Protocol::Consumer) else { return };
    let producer = Producer::new(&scene.brokers, &[]).expect("a producer");
    for number in 0..60 {
        let time = Some(START + i64::from(number / 3) * 1_000);
        producer.send(&scene.topic, number % 3, None, Some(b"x"), &[], time).expect("sent");
    }
    producer.flush().expect("delivered");
    let start = || {
        let seen: Arc<Mutex<Vec<(i32, i64)>>> = Arc::default();
        let noted = seen.clone();
        let consumer = Consumer::builder()
            .brokers(&scene.brokers)
            .assign([
                (scene.partition(0), Start::Offset(13)),
                (scene.partition(1), Start::Time(START + 16_500)),
                // There is nothing so late yet: its end.
                (scene.partition(2), Start::Time(START + 3_600_000)),
            ])
            .build()
            .expect("a consumer");
        let handle = consumer.handle();
        let running = runtime().spawn(consumer.run(move |record: Record| {
            noted.lock().unwrap().push((record.partition(), record.offset()));
            std::future::ready(())
        }));
        (seen, handle, running)
    };
    let both = [start(), start()];
    for (_, handle, _) in &both {
        wait_until(LONG, "the lanes are open", || {
            let lanes = handle.status().lanes;
            lanes.len() == 3 && lanes.iter().all(|lane| lane.position.is_some())
        });
    }
    for partition in 0..3 {
        producer.send(&scene.topic, partition, None, Some(b"x"), &[], None).expect("sent");
    }
    producer.flush().expect("delivered");
    for (seen, handle, running) in both {
        wait_until(LONG, "all is read", || seen.lock().unwrap().len() == 8 + 4 + 1);
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        let expected = (13..21).map(|offset| (0, offset)).chain((17..21).map(|offset| (1, offset)));
        assert_eq!(seen, expected.chain([(2, 20)]).collect::<Vec<_>>());
        runtime().block_on(handle.drain());
        let summary = runtime().block_on(running).unwrap().expect("an end without an error");
        assert_eq!((summary.finished, summary.unfinished, summary.uncommitted), (13, 0, 0));
    }
    // What librdkafka needs a name for is no group: nobody is in it, and nothing is committed to it.
    let group = "laneway-without-a-group";
    let members = scene.admin().describe_group(group).map_or(0, |group| group.members.len());
    assert_eq!(members, 0);
    let partitions = [scene.partition(0), scene.partition(1), scene.partition(2)];
    let committed = scene.admin().committed(group, &partitions).unwrap_or_default();
    assert!(committed.values().all(|at| at.offset < 0), "{committed:?}");
}

/// A topic that is deleted is told, and its lane read again until it is back; the other topic's lanes go on.
#[test]
fn a_topic_that_is_deleted_is_told_and_read_again_once_it_is_back() {
    let Some(scene) = Scene::new("kept", 2, Protocol::Consumer) else { return };
    let going = unique("going");
    scene.admin().create_topic(&going, 1, &[]).expect("a topic");
    let gone = TopicPartition::new(going.as_str(), 0);
    let producer = Producer::new(&scene.brokers, &[]).expect("a producer");
    let produce = |topic: &str, partition: i32, records: usize| {
        for _ in 0..records {
            producer.send(topic, partition, None, Some(b"x"), &[], None).expect("sent");
        }
        producer.flush().expect("delivered");
    };
    let seen: Arc<Mutex<Vec<(String, i64)>>> = Arc::default();
    let missing: Arc<Mutex<Vec<String>>> = Arc::default();
    let (noted, told) = (seen.clone(), missing.clone());
    let consumer = Consumer::builder()
        .brokers(&scene.brokers)
        .assign([
            (scene.partition(0), Start::Beginning),
            (scene.partition(1), Start::Beginning),
            (gone.clone(), Start::Beginning),
        ])
        .offset_reset(OffsetReset::Earliest)
        .property("topic.metadata.refresh.interval.ms", "500")
        .on_event(move |event| {
            if let Event::TopicMissing { topic } = event {
                told.lock().unwrap().push(topic.clone());
            }
        })
        .build()
        .expect("a consumer");
    let handle = consumer.handle();
    let running = runtime().spawn(consumer.run(move |record: Record| {
        noted.lock().unwrap().push((record.topic().to_owned(), record.offset()));
        std::future::ready(())
    }));
    let count = |topic: &str| seen.lock().unwrap().iter().filter(|(of, _)| of == topic).count();
    produce(&scene.topic, 0, 10);
    produce(&going, 0, 5);
    wait_until(LONG, "all is read", || count(&scene.topic) == 10 && count(&going) == 5);
    let epochs = || {
        let lanes = handle.status().lanes;
        lanes.into_iter().filter(|it| it.lane.partition != gone).map(|it| it.lane).collect::<Vec<_>>()
    };
    let before = epochs();
    scene.admin().delete_topic(&going).expect("deleted");
    wait_until(LONG, "it is told", || *missing.lock().unwrap() == [going.clone()]);
    produce(&scene.topic, 1, 10);
    wait_until(LONG, "the other topic is read on", || count(&scene.topic) == 20);
    scene.admin().create_topic(&going, 1, &[]).expect("a topic");
    // The lane stood at 5; below that something is read only if it was looked for before there was so much.
    produce(&going, 0, 9);
    let last = (going.clone(), 8);
    wait_until(LONG, "it is read again", || seen.lock().unwrap().contains(&last));
    assert_eq!(epochs(), before);
    runtime().block_on(handle.drain());
    runtime().block_on(running).unwrap().expect("an end without an error");
}

/// The first record's time.
const START: i64 = 1_700_000_000_000;
const LONG: Duration = Duration::from_secs(40);
