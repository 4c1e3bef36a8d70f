//! The real Kafka: it starts, keeps its data through a kill, serves groups, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use laneway_core::TopicPartition;
use laneway_testing::history::Recorder;
use laneway_testing::{
    Admin, GroupKind, Process, Producer, Reader, RealKafka, RealOptions, code, real_kafka_or_skip, unique,
    wait_until,
};

const SOON: Duration = Duration::from_secs(20);

fn partitions(topic: &str, count: i32) -> Vec<TopicPartition> {
    (0..count).map(|p| TopicPartition::new(topic, p)).collect()
}

/// Whether a process is there; one that has ended and is not reaped is not.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_killed_kafka_starts_again_with_its_data_and_leaves_nothing_behind() {
    if real_kafka_or_skip().is_none() {
        return;
    }
    let kafka = RealKafka::start(RealOptions::default()).unwrap();
    let admin = Admin::new(kafka.brokers()).unwrap();
    admin.create_topic("t", 2, &[]).unwrap();
    let producer = Producer::new(kafka.brokers(), &[]).unwrap();
    for _ in 0..100 {
        producer.send("t", 1, None, Some(b"x"), &[], None).unwrap();
    }
    assert_eq!(producer.flush().unwrap(), 100);
    admin.set_committed("g", &[(TopicPartition::new("t", 1), 42)]).unwrap();
    let brokers = kafka.brokers().to_owned();
    let first = kafka.pid().unwrap();
    kafka.start_again().unwrap_err();

    kafka.kill();
    assert!(!runs(first));
    assert_eq!(kafka.pid(), None);
    kafka.freeze().unwrap_err();
    let begun = Instant::now();
    kafka.start_again().unwrap();
    eprintln!("started again in {:?}", begun.elapsed());
    assert_eq!(kafka.brokers(), brokers);
    let all = partitions("t", 2);
    wait_until(SOON, "the end offsets of before", || {
        admin.end_offsets(&all).is_ok_and(|ends| ends[&all[0]] == 0 && ends[&all[1]] == 100)
    });
    wait_until(SOON, "the commit of before", || {
        admin.committed("g", &all).is_ok_and(|found| found.get(&all[1]).is_some_and(|c| c.offset == 42))
    });

    let (second, directory) = (kafka.pid().unwrap(), kafka.log().parent().unwrap().to_owned());
    assert!(runs(second) && directory.exists());
    drop(kafka);
    assert!(!runs(second) && !directory.exists());
}

#[test]
fn topics_are_made_grown_trimmed_and_deleted() {
    let Some(kafka) = real_kafka_or_skip() else { return };
    let admin = Admin::new(kafka.brokers()).unwrap();
    let topic = unique("t");
    admin.create_topic(&topic, 1, &[("retention.ms", "3600000")]).unwrap();
    assert_eq!(admin.create_topic(&topic, 1, &[]).unwrap_err().code(), Some(code::TOPIC_ALREADY_EXISTS));
    admin.create_topic(&unique("t"), 1, &[("no.such.config", "1")]).unwrap_err();
    assert_eq!(admin.partition_count(&topic).unwrap(), 1);
    admin.create_partitions(&topic, 3).unwrap();
    assert_eq!(admin.partition_count(&topic).unwrap(), 3);

    let producer = Producer::new(kafka.brokers(), &[]).unwrap();
    for _ in 0..10 {
        producer.send(&topic, 2, None, Some(b"x"), &[], None).unwrap();
    }
    producer.flush().unwrap();
    let two = TopicPartition::new(topic.as_str(), 2);
    admin.delete_records(&[(two.clone(), 4)]).unwrap();
    let asked = std::slice::from_ref(&two);
    assert_eq!(admin.start_offsets(asked).unwrap()[&two], 4);
    assert_eq!(admin.end_offsets(asked).unwrap()[&two], 10);
    assert_eq!(Reader::read_all(kafka.brokers(), &two, SOON).unwrap()[0].offset, 4);

    admin.delete_topic(&topic).unwrap();
    wait_until(SOON, "the topic to be gone", || admin.partition_count(&topic).is_err());
    // And topics that nobody made are not made by asking.
    assert_eq!(
        admin.partition_count(&unique("nobody")).unwrap_err().code(),
        Some(code::UNKNOWN_TOPIC_OR_PARTITION)
    );
}

#[test]
fn groups_of_both_protocols_are_described_with_their_members() {
    let Some(kafka) = real_kafka_or_skip() else { return };
    let admin = Admin::new(kafka.brokers()).unwrap();
    let topic = unique("t");
    admin.create_topic(&topic, 4, &[]).unwrap();
    for (protocol, kind) in [("classic", GroupKind::Classic), ("consumer", GroupKind::Consumer)] {
        let group = unique("g");
        let begun = Instant::now();
        let join = |name| {
            let properties = [("group.protocol", protocol), ("client.id", name)];
            Reader::subscribe(kafka.brokers(), &group, &[&topic], &properties).unwrap()
        };
        let members = [join("first"), join("second")];
        wait_until(SOON, "2 partitions for each member", || {
            members.iter().for_each(|m| drop(m.poll(Duration::from_millis(10)).unwrap()));
            members.iter().all(|m| m.assignment().unwrap().len() == 2)
        });
        wait_until(SOON, "a stable group", || {
            members.iter().for_each(|m| drop(m.poll(Duration::from_millis(10)).unwrap()));
            admin.describe_group(&group).unwrap().state == "Stable"
        });
        eprintln!("{protocol}: two members assigned after {:?}", begun.elapsed());
        let described = admin.describe_group(&group).unwrap();
        assert_eq!((described.kind, described.members.len()), (kind, 2), "{described:?}");
        for (reader, name) in members.iter().zip(["first", "second"]) {
            let member = described.members.iter().find(|m| m.client_id == name).unwrap();
            let mut wanted = reader.assignment().unwrap();
            let mut found = member.assignment.clone();
            wanted.sort();
            found.sort();
            assert_eq!((found, &member.member_id), (wanted, &reader.member_id()));
        }
        // A commit of a member, and none from outside while there are members.
        let one = reader_partition(&members[0]);
        members[0].commit(&[(one.clone(), 3)]).unwrap();
        assert_eq!(admin.committed(&group, std::slice::from_ref(&one)).unwrap()[&one].offset, 3);
        admin.set_committed(&group, &[(one.clone(), 1)]).unwrap_err();
        drop(members);
        wait_until(SOON, "an empty group", || admin.describe_group(&group).unwrap().members.is_empty());
        admin.set_committed(&group, &[(one.clone(), 1)]).unwrap();
        assert_eq!(admin.committed(&group, std::slice::from_ref(&one)).unwrap()[&one].offset, 1);
    }
}

fn reader_partition(reader: &Reader) -> TopicPartition {
    reader.assignment().unwrap().remove(0)
}

#[test]
fn a_transaction_is_seen_when_committed_and_not_when_aborted() {
    let Some(kafka) = real_kafka_or_skip() else { return };
    let topic = unique("t");
    Admin::new(kafka.brokers()).unwrap().create_topic(&topic, 1, &[]).unwrap();
    let recorder = Recorder::in_memory();
    let id = unique("tx");
    let producer = Producer::new(kafka.brokers(), &[("transactional.id", &id)]).unwrap().recording(&recorder);
    producer.init_transactions().unwrap();
    for (payload, commit) in [(&b"first"[..], true), (b"never", false), (b"second", true)] {
        producer.begin_transaction().unwrap();
        producer.send(&topic, 0, None, Some(payload), &[], None).unwrap();
        producer.flush().unwrap();
        if commit { producer.commit_transaction().unwrap() } else { producer.abort_transaction().unwrap() }
    }
    let records = Reader::read_all(kafka.brokers(), &TopicPartition::new(topic.as_str(), 0), SOON).unwrap();
    let payloads: Vec<_> = records.iter().map(|r| r.payload.as_deref().unwrap()).collect();
    assert_eq!(payloads, [b"first" as &[u8], b"second"]);
    assert_eq!(recorder.history().events().len(), 2);
}

#[test]
fn a_million_small_records_are_produced_in_seconds() {
    let Some(kafka) = real_kafka_or_skip() else { return };
    let topic = unique("t");
    let admin = Admin::new(kafka.brokers()).unwrap();
    admin.create_topic(&topic, 4, &[]).unwrap();
    let producer = Producer::new(kafka.brokers(), &[]).unwrap();
    let begun = Instant::now();
    for n in 0..1_000_000 {
        producer.send(&topic, n % 4, None, Some(b"0123456789"), &[], None).unwrap();
    }
    assert_eq!(producer.flush().unwrap(), 1_000_000);
    eprintln!("1,000,000 records in {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(60));
    let ends = admin.end_offsets(&partitions(&topic, 4)).unwrap();
    assert_eq!(ends.values().sum::<i64>(), 1_000_000);
}

#[test]
fn a_frozen_kafka_does_not_answer_until_it_is_thawed() {
    if real_kafka_or_skip().is_none() {
        return;
    }
    let kafka = RealKafka::start(RealOptions {
        properties: vec![
            ("num.partitions".to_owned(), "3".to_owned()),
            ("auto.create.topics.enable".to_owned(), "true".to_owned()),
        ],
        ..RealOptions::default()
    })
    .unwrap();
    let admin = Admin::new(kafka.brokers()).unwrap();
    let short = Duration::from_millis(300);
    admin.broker_count(short * 10).unwrap();
    kafka.freeze().unwrap();
    admin.broker_count(short).unwrap_err();
    kafka.thaw().unwrap();
    wait_until(SOON, "an answer", || admin.broker_count(short).is_ok());
    // The extra properties were heard, and go before ours.
    let producer = Producer::new(kafka.brokers(), &[]).unwrap();
    producer.send("new", 2, None, Some(b"x"), &[], None).unwrap();
    producer.flush().unwrap();
    assert_eq!(admin.partition_count("new").unwrap(), 3);
}

#[test]
fn one_that_does_not_start_says_what_its_log_says() {
    if real_kafka_or_skip().is_none() {
        return;
    }
    let wrong = [("log.segment.bytes".to_owned(), "-5".to_owned())];
    let error = RealKafka::start(RealOptions { properties: wrong.to_vec(), ..RealOptions::default() })
        .unwrap_err()
        .to_string();
    assert!(error.contains("log.segment.bytes"), "{error}");
}

/// Started by the test below in a process of its own, which is then killed.
#[test]
#[ignore = "a helper: it starts a Kafka and waits to be killed"]
fn helper_start_and_wait() {
    let kafka = RealKafka::shared().unwrap();
    println!("\nstarted {} {}", kafka.pid().unwrap(), kafka.log().parent().unwrap().display());
    std::thread::sleep(Duration::from_secs(120));
}

#[test]
fn a_kafka_dies_with_the_process_that_started_it_even_when_that_is_killed() {
    if real_kafka_or_skip().is_none() {
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "helper_start_and_wait"]);
    let helper = Process::spawn(command).unwrap();
    let line = helper.wait_for_stdout(Duration::from_secs(120), |line| line.starts_with("started ")).unwrap();
    let (pid, directory) = line.strip_prefix("started ").unwrap().split_once(' ').unwrap();
    let (pid, directory) = (pid.parse().unwrap(), Path::new(directory));
    assert!(runs(pid) && directory.exists());
    helper.kill().unwrap();
    wait_until(SOON, "Kafka to be gone", || !runs(pid));
    wait_until(SOON, "its directory to be gone", || !directory.exists());
}
