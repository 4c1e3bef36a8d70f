//! Logs that are cut off: a replica that was behind becomes the leader, and what only the old leader had is gone.

use std::sync::{Arc, Mutex};

use laneway::{
    Consumer, Error, Event, Handle, OffsetReset, Ordering, Protocol, Record, Summary, TopicPartition,
};
use laneway_testing::{Producer, unique, wait_until};

use crate::support::runtime;
use crate::{Cluster, SOON, cluster};

/// A topic of one partition on two of the nodes, the first of which leads.
struct Log<'a> {
    cluster: &'a Cluster,
    topic: String,
    group: String,
}

/// A consumer, and what it says and reads.
struct Reading {
    handle: Handle,
    run: tokio::task::JoinHandle<Result<Summary, Error>>,
    said: Arc<Mutex<Vec<String>>>,
    read: Arc<Mutex<Vec<String>>>,
}

impl<'a> Log<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let log = Self { cluster, topic: unique("truncated"), group: unique("group") };
        let configs = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "1")];
        log.admin().create_topic_on_with(&log.topic, &[vec![1, 2]], &configs).expect("a topic");
        log
    }

    fn admin(&self) -> laneway_testing::Admin {
        laneway_testing::Admin::new(&self.cluster.brokers()).expect("an admin client")
    }

    fn partition(&self) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), 0)
    }

    fn committed(&self) -> i64 {
        let found = self.admin().committed(&self.group, &[self.partition()]);
        found.ok().and_then(|found| found.get(&self.partition()).map(|it| it.offset)).unwrap_or(-1)
    }

    /// Produces as many records, each with a name of its own, in batches of their own.
    fn produce(&self, name: &str, count: usize, acks: &str) -> Vec<String> {
        let properties = [("acks", acks), ("enable.idempotence", "false")];
        let producer = Producer::new(&self.cluster.brokers(), &properties).expect("a producer");
        let names: Vec<String> = (0..count).map(|number| format!("{name}{number}")).collect();
        for name in &names {
            producer.send(&self.topic, 0, None, Some(name.as_bytes()), &[], None).expect("sent");
        }
        producer.flush().expect("delivered");
        names
    }

    fn read(&self, reset: OffsetReset, ordering: Ordering) -> Reading {
        let (said, read) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (kept, noted) = (said.clone(), read.clone());
        let consumer = Consumer::builder()
            .brokers(self.cluster.brokers())
            .group(&self.group)
            .topics([&self.topic])
            .protocol(Protocol::Cooperative)
            .offset_reset(reset)
            .ordering(ordering)
            .property("reconnect.backoff.max.ms", "500")
            .on_event(move |event| {
                if let Event::Error { message } = event {
                    kept.lock().unwrap().push(message.clone());
                }
            })
            .build()
            .expect("a consumer");
        let handle = consumer.handle();
        let note = move |record: Record| {
            let payload = record.payload().unwrap_or_default();
            noted.lock().unwrap().push(String::from_utf8_lossy(payload).into_owned());
            std::future::ready(())
        };
        Reading { handle, run: runtime().spawn(consumer.run(note)), said, read }
    }

    /// The follower is frozen until it is no longer in sync, and has not what is produced then; `meanwhile` it is read.
    /// Then the leader is killed, and the follower, which goes on where it was, leads. Answers what is lost, and where
    /// the log was cut off.
    fn lose_the_end(&self, count: usize, meanwhile: impl FnOnce(&[String])) -> (Vec<String>, i64) {
        let [leader, follower, _] = self.cluster.nodes else { panic!("three nodes") };
        follower.freeze().expect("frozen");
        // It has asked for more before, and finds the answer in its socket when it is thawed.
        self.produce("answer", 1, "1");
        let lost = self.produce("lost", count, "1");
        meanwhile(&lost);
        leader.kill();
        follower.thaw().expect("thawed");
        wait_until(SOON, "the follower leads", || self.admin().end_offsets(&[self.partition()]).is_ok());
        let end = self.admin().end_offsets(&[self.partition()]).expect("an end")[&self.partition()];
        assert!((KEPT as i64..KEPT as i64 + 2).contains(&end), "it was cut off at {end}");
        (lost, end)
    }
}

impl Reading {
    fn has_read(&self, names: &[String]) -> bool {
        let read = self.read.lock().unwrap();
        names.iter().all(|name| read.contains(name))
    }

    fn tells_of(&self, end: i64) -> bool {
        let word = format!("was truncated to offset {end}");
        self.said.lock().unwrap().iter().any(|said| said.contains(&word))
    }

    fn stop(self) -> Vec<String> {
        self.handle.stop();
        let summary = runtime().block_on(self.run).expect("a task").expect("an end without an error");
        assert_eq!(summary.uncommitted, 0);
        self.read.lock().unwrap().clone()
    }
}

/// Each was read, and once.
fn once(read: &[String], names: &[String]) {
    for name in names {
        assert_eq!(read.iter().filter(|it| *it == name).count(), 1, "{name} in {read:?}");
    }
}

const KEPT: usize = 60;
const LOST: usize = 40;

/// More is written than was cut off, perhaps before the consumer asks anybody.
fn truncated_under_a_consumer(ordering: Ordering) {
    let Some(cluster) = cluster() else { return };
    let log = Log::new(&cluster);
    let kept = log.produce("kept", KEPT, "all");
    let reading = log.read(OffsetReset::Earliest, ordering);
    let (lost, end) = log.lose_the_end(LOST, |lost| {
        wait_until(SOON, "what will be lost is read and committed", || {
            reading.has_read(lost) && log.committed() == (KEPT + 1 + LOST) as i64
        });
    });
    let new = log.produce("new", 2 * LOST, "1");
    wait_until(SOON, "what was written since is read", || reading.has_read(&new));
    assert!(reading.tells_of(end), "{:?}", reading.said.lock().unwrap());
    wait_until(SOON, "it is committed", || log.committed() == end + 2 * LOST as i64);
    let read = reading.stop();
    for names in [&kept, &lost, &new] {
        once(&read, names);
    }
}

#[test]
fn a_log_that_is_truncated_is_read_on_where_it_was_cut_off() {
    truncated_under_a_consumer(Ordering::Partition);
}

/// Nothing of the records that are gone counts for those that took their offsets.
#[test]
fn a_log_that_is_truncated_is_read_on_where_it_was_cut_off_by_key() {
    truncated_under_a_consumer(Ordering::Key);
}

#[test]
fn a_log_that_was_truncated_while_nobody_read_is_read_on_where_it_was_cut_off() {
    for (reset, new) in [(OffsetReset::Latest, LOST / 2), (OffsetReset::Error, 2 * LOST)] {
        let Some(cluster) = cluster() else { return };
        let log = Log::new(&cluster);
        let kept = log.produce("kept", KEPT, "all");
        let reading = log.read(OffsetReset::Earliest, Ordering::Partition);
        let mut before = Vec::new();
        let (lost, end) = log.lose_the_end(LOST, |lost| {
            wait_until(SOON, "what will be lost is read", || reading.has_read(lost));
            before = reading.stop();
            assert_eq!(log.committed(), (KEPT + 1 + LOST) as i64);
        });
        let new = log.produce("new", new, "1");
        let reading = log.read(reset, Ordering::Partition);
        wait_until(SOON, "what was written since is read", || reading.has_read(&new));
        assert!(reading.tells_of(end), "{:?}", reading.said.lock().unwrap());
        wait_until(SOON, "it is committed", || log.committed() == end + new.len() as i64);
        let after = reading.stop();
        once(&before, &kept);
        once(&before, &lost);
        assert_eq!(after, new);
    }
}
