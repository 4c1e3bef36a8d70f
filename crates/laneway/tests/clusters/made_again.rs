//! A topic that is deleted and made again on another node, after the leader of the old one had moved.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use laneway::{
    Builder, Consumer, Error, Handle, OffsetReset, Outcome, Protocol, Record, Summary, TopicPartition,
};
use laneway_testing::{Admin, Producer, try_wait_until, unique, wait_until};

use crate::support::{PROTOCOLS, runtime};
use crate::{Cluster, SOON, cluster};

/// A topic of one partition, and a consumer that reads it.
struct Reading {
    topic: String,
    handle: Handle,
    run: tokio::task::JoinHandle<Result<Summary, Error>>,
    /// How often each payload was handled.
    seen: Arc<Mutex<BTreeMap<String, u32>>>,
    /// The leader epoch of the record that was handled last.
    epoch: Arc<Mutex<Option<i32>>>,
    said: Arc<Mutex<String>>,
}

impl Reading {
    fn start(cluster: &Cluster, protocol: Protocol) -> Self {
        let topic = unique("made");
        make(&admin(cluster), &topic, vec![1, 2]);
        let (seen, said) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(Mutex::new(String::new())));
        let epoch = Arc::new(Mutex::new(None));
        let (noted, newest) = (seen.clone(), epoch.clone());
        let consumer = reader(cluster, &topic, &said).protocol(protocol).build().expect("a consumer");
        let handle = consumer.handle();
        let note = move |record: Record| {
            let payload = String::from_utf8_lossy(record.payload().unwrap_or_default()).into_owned();
            *newest.lock().unwrap() = record.leader_epoch();
            *noted.lock().unwrap().entry(payload).or_default() += 1;
            std::future::ready(())
        };
        Self { topic, handle, run: runtime().spawn(consumer.run(note)), seen, epoch, said }
    }

    /// Produces records of this name, and waits until they are read. Answers their leader epoch.
    fn pass(&self, cluster: &Cluster, name: &str) -> Option<i32> {
        let producer = Producer::new(&cluster.brokers(), &[]).expect("a producer");
        for number in 0..RECORDS {
            let payload = format!("{name} {number}");
            producer.send(&self.topic, 0, None, Some(payload.as_bytes()), &[], None).expect("sent");
        }
        producer.flush().expect("delivered");
        let is_read = || (0..RECORDS).all(|number| self.times(&format!("{name} {number}")) > 0);
        let came = try_wait_until(SOON, name, is_read);
        assert!(came.is_ok(), "{came:?}; it said {}", self.said.lock().unwrap());
        *self.epoch.lock().unwrap()
    }

    fn times(&self, payload: &str) -> u32 {
        self.seen.lock().unwrap().get(payload).copied().unwrap_or_default()
    }
}

/// Reads the topic in a group of its own, looks for topics often, and keeps what it says.
fn reader(cluster: &Cluster, topic: &str, said: &Arc<Mutex<String>>) -> Builder {
    let told = said.clone();
    Consumer::builder()
        .brokers(cluster.brokers())
        .group(unique("group"))
        .topics([topic])
        .offset_reset(OffsetReset::Earliest)
        .property("topic.metadata.refresh.interval.ms", "500")
        .property("reconnect.backoff.max.ms", "500")
        .on_event(move |event| told.lock().unwrap().push_str(&format!("{event:?}\n")))
}

fn admin(cluster: &Cluster) -> Admin {
    Admin::new(&cluster.brokers()).expect("an admin client")
}

fn make(admin: &Admin, topic: &str, replicas: Vec<i32>) {
    let configs = [("min.insync.replicas", "1")];
    admin.create_topic_on_with(topic, &[replicas], &configs).expect("a topic");
}

/// The new leader is one that the clients do not ask for this topic, in an epoch that they take for old.
#[test]
fn a_topic_that_is_made_again_on_another_node_after_its_leader_had_moved_is_read_from_its_beginning() {
    let Some(cluster) = cluster() else { return };
    let all = PROTOCOLS.map(|protocol| Reading::start(&cluster, protocol));
    for reading in &all {
        reading.pass(&cluster, "old");
    }
    cluster.nodes[0].kill();
    let partitions = all.each_ref().map(|reading| TopicPartition::new(reading.topic.as_str(), 0));
    wait_until(SOON, "other leaders", || admin(&cluster).end_offsets(&partitions).is_ok());
    let risen = all.each_ref().map(|reading| reading.pass(&cluster, "risen"));
    cluster.nodes[0].begin_to_start_again().expect("the node comes back");
    cluster.nodes[0].wait_until_ready(3).expect("all nodes up");
    for (reading, risen) in all.into_iter().zip(risen) {
        admin(&cluster).delete_topic(&reading.topic).expect("deleted");
        make(&admin(&cluster), &reading.topic, vec![3]);
        let epoch = reading.pass(&cluster, "new");
        assert!(risen > Some(0) && epoch < risen, "the leader epoch was {risen:?}, and is {epoch:?}");
        let most = (0..RECORDS).map(|number| reading.times(&format!("new {number}"))).max();
        reading.handle.stop();
        let summary = runtime().block_on(reading.run).expect("a task").expect("an end without an error");
        let said = reading.said.lock().unwrap();
        assert_eq!((most, summary.uncommitted), (Some(1), 0), "{said}");
        assert!(!said.contains("nothing came of"), "it was silent: {said}");
    }
}

/// The producer knows the topic by a leader that it is no more, in a higher epoch than that of the new one.
#[test]
fn dead_letters_go_to_a_topic_that_is_made_again_on_another_node_after_its_leader_had_moved() {
    let Some(cluster) = cluster() else { return };
    let (topic, dead) = (unique("made"), unique("dead"));
    make(&admin(&cluster), &topic, vec![3, 2]);
    make(&admin(&cluster), &dead, vec![1, 2]);
    let said = Arc::new(Mutex::new(String::new()));
    let consumer = reader(&cluster, &topic, &said).dead_letters(&dead).build().expect("a consumer");
    let handle = consumer.handle();
    let give_up = |_: Record| std::future::ready(Outcome::DeadLetter { reason: "of no use".into() });
    let run = runtime().spawn(consumer.run(give_up));
    let letters = || {
        let partition = TopicPartition::new(dead.as_str(), 0);
        admin(&cluster).end_offsets(std::slice::from_ref(&partition)).map_or(-1, |ends| ends[&partition])
    };
    // One more record is given up, and is a dead letter.
    let pass = |letters_then: i64| {
        let producer = Producer::new(&cluster.brokers(), &[]).expect("a producer");
        producer.send(&topic, 0, None, Some(b"poison"), &[], None).expect("sent");
        producer.flush().expect("delivered");
        let came = try_wait_until(SOON, "a dead letter", || letters() == letters_then);
        assert!(came.is_ok(), "{came:?}; it said {}", said.lock().unwrap());
    };
    pass(1);
    cluster.nodes[0].kill();
    wait_until(SOON, "another leader", || letters() == 1);
    pass(2);
    cluster.nodes[0].begin_to_start_again().expect("the node comes back");
    cluster.nodes[0].wait_until_ready(3).expect("all nodes up");
    admin(&cluster).delete_topic(&dead).expect("deleted");
    make(&admin(&cluster), &dead, vec![3]);
    pass(1);
    handle.stop();
    let summary = runtime().block_on(run).expect("a task").expect("an end without an error");
    assert_eq!(summary.uncommitted, 0, "{}", said.lock().unwrap());
    assert!(said.lock().unwrap().contains("dead letters go to the new one"), "{}", said.lock().unwrap());
}

const RECORDS: usize = 20;
