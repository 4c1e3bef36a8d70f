//! Logs that are not a plain row of records: transactions that were aborted, compaction, a start that has moved, a
//! damaged batch.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod logged;
#[path = "real/support.rs"]
#[allow(dead_code)]
mod support;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use laneway::{Consumer, Event, OffsetReset, Protocol, Record, Start};
use laneway_testing::history::Recorder;
use laneway_testing::{Producer, Reader, RealKafka, RealOptions, real_kafka_or_skip, unique, wait_until};

use support::{Scene, Spec, runtime};

const SOON: Duration = Duration::from_secs(30);

fn spec(isolation: &str) -> Spec {
    Spec { properties: vec![("isolation.level".into(), isolation.into())], ..Spec::default() }
}

/// Waits until a member's lag is 0, and so is the group's.
fn wait_for_no_lag(scene: &Scene, member: &support::Member) {
    let all: Vec<_> = (0..scene.partitions).map(|number| scene.partition(number)).collect();
    let ends = scene.admin().end_offsets(&all).expect("ends");
    wait_until(SOON, "a lag of 0", || {
        let lanes = member.handle.status().lanes;
        lanes.len() == all.len() && lanes.iter().all(|lane| lane.lag == Some(0))
    });
    wait_until(SOON, "commits up to the ends", || {
        scene
            .admin()
            .committed(&scene.group, &all)
            .is_ok_and(|found| all.iter().all(|of| found.get(of).is_some_and(|c| c.offset == ends[of])))
    });
}

#[test]
fn what_was_aborted_is_not_read_and_lag_reaches_0() {
    for isolation in ["read_committed", "read_uncommitted"] {
        let Some(scene) = Scene::new("aborted", 1, Protocol::Cooperative) else { return };
        let producer =
            Producer::new(&scene.brokers, &[("transactional.id", &unique("tx"))]).expect("a producer");
        producer.init_transactions().unwrap();
        for commits in [true, false, true, false] {
            producer.begin_transaction().unwrap();
            (0..10).for_each(|_| producer.send(&scene.topic, 0, None, Some(b"x"), &[], None).unwrap());
            producer.flush().unwrap();
            if commits {
                producer.commit_transaction().unwrap()
            } else {
                producer.abort_transaction().unwrap()
            }
        }
        let member = scene.member("only", &spec(isolation));
        // The last thing in the log is the marker of a transaction, and before it, to one of the two, nothing.
        wait_for_no_lag(&scene, &member);
        let summary = member.leave();
        let expected = if isolation == "read_committed" { 20 } else { 40 };
        assert_eq!((summary.finished, summary.uncommitted), (expected, 0), "{isolation}");
    }
}

/// One whose files may be changed, and which compacts at once.
fn own_kafka() -> Option<&'static RealKafka> {
    static OWN: OnceLock<RealKafka> = OnceLock::new();
    real_kafka_or_skip()?;
    let properties = vec![("log.cleaner.backoff.ms".to_owned(), "100".to_owned())];
    let options = RealOptions { properties, ..RealOptions::default() };
    Some(OWN.get_or_init(|| RealKafka::start(options).expect("a broker")))
}

#[test]
fn a_compacted_log_is_read_over_its_holes_and_lag_reaches_0() {
    let Some(kafka) = own_kafka() else { return };
    let mut scene = Scene::on(kafka, "unused", 1, Protocol::Cooperative, Recorder::in_memory(), None);
    scene.topic = unique("compacted");
    let configs =
        [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.001"), ("segment.ms", "100")];
    scene.admin().create_topic(&scene.topic, 1, &configs).expect("a topic");
    let producer = Producer::new(&scene.brokers, &[]).expect("a producer");
    let left = || Reader::read_all(&scene.brokers, &scene.partition(0), SOON).expect("records").len();
    // A segment is closed, and so compacted, by a record that comes after its time.
    let mut sent = 0;
    wait_until(SOON, "compaction", || {
        for number in 0..20u8 {
            producer.send(&scene.topic, 0, Some(&[number % 4]), Some(b"x"), &[], None).unwrap();
        }
        producer.flush().unwrap();
        sent += 20;
        left() < sent
    });
    let member = scene.member("only", &Spec::default());
    wait_for_no_lag(&scene, &member);
    let finished = member.leave().finished;
    assert!((4..sent as u64).contains(&finished), "{finished} of {sent}");
    assert!(finished >= left() as u64);
}

#[test]
fn a_start_that_has_moved_past_the_commit_is_where_reading_goes_on() {
    let Some(scene) = Scene::new("trimmed", 1, Protocol::Cooperative) else { return };
    scene.produce(10);
    let member = scene.member("first", &Spec::default());
    scene.wait_until_finished(SOON);
    member.leave();
    scene.produce(50);
    scene.admin().delete_records(&[(scene.partition(0), 40)]).expect("trimmed");
    let member = scene.member("second", &Spec::default());
    wait_for_no_lag(&scene, &member);
    assert_eq!(member.leave().finished, 20);
}

/// How a lane comes to stand above the end of its log.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Above {
    /// Such as a tool commits it: without a leader epoch, by which one could know where the log was cut off.
    Committed(OffsetReset),
    Sought,
    ByHand,
}

#[test]
fn an_offset_above_the_logs_end_is_told_and_all_that_is_written_from_the_end_on_is_handled() {
    let resets = [OffsetReset::Earliest, OffsetReset::Latest, OffsetReset::Error];
    for above in resets.map(Above::Committed).into_iter().chain([Above::Sought, Above::ByHand]) {
        let Some(scene) = Scene::new("above", 1, Protocol::Cooperative) else { return };
        scene.produce(10);
        let partition = scene.partition(0);
        let (said, handled) = (Arc::new(Mutex::new(String::new())), Arc::new(Mutex::new(Vec::new())));
        let (kept, offsets) = (said.clone(), handled.clone());
        let mut builder = Consumer::builder()
            .brokers(&scene.brokers)
            .on_event(move |event| kept.lock().unwrap().push_str(&format!("{event:?}\n")));
        if above == Above::ByHand {
            builder = builder.assign([(partition.clone(), Start::Offset(50))]);
        } else {
            builder = builder.group(&scene.group).topics([&scene.topic]).offset_reset(OffsetReset::Earliest);
        }
        if let Above::Committed(reset) = above {
            scene.admin().set_committed(&scene.group, &[(partition.clone(), 50)]).expect("committed");
            builder = builder.offset_reset(reset);
        }
        let consumer = builder.build().expect("a consumer");
        let handle = consumer.handle();
        let run = runtime().spawn(consumer.run(move |record: Record| {
            offsets.lock().unwrap().push(record.offset());
            std::future::ready(())
        }));
        if above == Above::Sought {
            wait_until(SOON, "all is read", || handled.lock().unwrap().len() == 10);
            handled.lock().unwrap().clear();
            runtime().block_on(handle.seek(&partition, 50)).expect("sought");
        }
        wait_until(SOON, "it is told", || said.lock().unwrap().contains("ends at 10, below the offset 50"));
        // What is committed there says nothing of records that are not there yet: another member would skip them.
        let committed =
            || scene.admin().committed(&scene.group, std::slice::from_ref(&partition)).expect("an answer");
        if above != Above::ByHand {
            wait_until(SOON, "the end is committed", || committed()[&partition].offset == 10);
            assert_eq!(committed()[&partition].metadata, b"", "{above:?}");
        }
        scene.produce(60);
        wait_until(SOON, "what was written since is handled", || handled.lock().unwrap().len() >= 60);
        handle.stop();
        let summary = runtime().block_on(run).unwrap().expect("an end without an error");
        let said = said.lock().unwrap();
        assert_eq!(*handled.lock().unwrap(), (10..70).collect::<Vec<i64>>(), "{above:?}: {said}");
        assert_eq!(summary.uncommitted, 0, "{above:?}: {said}");
    }
}

/// Flips a bit in the last byte of the second batch of a partition, under the broker's hands.
fn damage(kafka: &RealKafka, topic: &str) {
    let path = kafka.data().join(format!("{topic}-0")).join("00000000000000000000.log");
    let file = OpenOptions::new().read(true).write(true).open(path).expect("the log");
    let end_of = |start: u64| {
        let mut length = [0; 4];
        file.read_exact_at(&mut length, start + 8).expect("a batch");
        start + 12 + u64::from(u32::from_be_bytes(length))
    };
    let last = end_of(end_of(0)) - 1;
    let mut byte = [0; 1];
    file.read_exact_at(&mut byte, last).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], last).expect("written");
}

#[test]
fn a_damaged_batch_stops_its_lane_there_is_named_and_can_be_gone_past() {
    let Some(kafka) = own_kafka() else { return };
    let admin = laneway_testing::Admin::new(kafka.brokers()).unwrap();
    admin.create_topic("damaged", 1, &[]).unwrap();
    let producer = Producer::new(kafka.brokers(), &[]).unwrap();
    for _ in 0..3 {
        (0..10).for_each(|_| producer.send("damaged", 0, None, Some(b"payload"), &[], None).unwrap());
        producer.flush().unwrap();
    }
    damage(kafka, "damaged");
    let said = Arc::new(Mutex::new(Vec::<String>::new()));
    let kept = said.clone();
    let consumer = Consumer::builder()
        .brokers(kafka.brokers())
        .group("g")
        .topics(["damaged"])
        .offset_reset(OffsetReset::Earliest)
        .property("check.crcs", "true")
        .on_event(move |event| {
            if let Event::Error { message } = event {
                kept.lock().unwrap().push(message.clone());
            }
        })
        .build()
        .unwrap();
    let handle = consumer.handle();
    let run = runtime().spawn(consumer.run(|_: Record| async {}));
    wait_until(SOON, "the damage to be told", || {
        said.lock().unwrap().iter().any(|m| m.contains("damaged-0@10"))
    });
    // And it stays so.
    let until = Instant::now() + Duration::from_secs(2);
    wait_until(SOON, "a while", || Instant::now() >= until);
    assert_eq!(handle.status().finished, 10);
    let partition = laneway::TopicPartition::new("damaged", 0);
    let committed = || admin.committed("g", std::slice::from_ref(&partition)).unwrap()[&partition].offset;
    assert_eq!(committed(), 10);
    let said = said.lock().unwrap().clone();
    assert_eq!(said.iter().filter(|said| said.contains("damaged-0@10")).count(), 1, "{said:?}");
    println!("said: {said:?}");
    // Past it by hand.
    runtime().block_on(handle.seek(&partition, 20)).expect("a seek");
    wait_until(SOON, "what is behind it", || handle.status().finished == 20);
    wait_until(SOON, "its commit", || committed() == 30);
    handle.stop();
    let summary = runtime().block_on(run).unwrap().unwrap();
    assert_eq!((summary.finished, summary.uncommitted), (20, 0));
}

/// The group's offset of a topic that was deleted goes with it, and the new one's log is read from its beginning, also
/// where it is longer than what was read of the old one. It was seen to be gone, beside another topic that stays.
#[test]
fn a_topic_that_is_deleted_and_made_again_is_read_from_its_beginning() {
    for protocol in support::PROTOCOLS {
        let Some(mut scene) = Scene::new("again", 1, protocol) else { return };
        scene.admin().create_topic(&format!("{}-stays", scene.topic), 1, &[]).expect("another topic");
        scene.produce(10);
        let properties = vec![("topic.metadata.refresh.interval.ms".into(), "300".into())];
        let topics = Some(format!("^{}.*", scene.topic));
        let member = scene.member("only", &Spec { properties, topics, ..Spec::default() });
        scene.wait_until_finished(SOON);
        scene.admin().delete_topic(&scene.topic).expect("deleted");
        wait_until(SOON, "its lane to be gone", || member.handle.status().lanes.len() == 1);
        scene.recorder = Recorder::in_memory();
        scene.admin().create_topic(&scene.topic, 1, &[]).expect("a topic of the same name");
        scene.produce(25);
        wait_until(SOON, "all of the new one", || member.handle.status().finished == 35);
        assert_eq!(member.leave().uncommitted, 0, "{protocol}");
    }
}
