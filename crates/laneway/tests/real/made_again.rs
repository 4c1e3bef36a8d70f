//! A topic that is deleted and made again under its lanes, on a real Kafka. It has the same name, and is another one:
//! offsets of the old one say nothing of it, and it is read from its beginning.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use laneway::{Consumer, Event, OffsetReset, Protocol, Record, Start, TopicPartition};
use laneway_testing::history::Recorder;
use laneway_testing::{Producer, RealKafka, try_wait_until};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::Semaphore;

use crate::support::{PROTOCOLS, Scene, own_kafka, runtime};

/// What was handled: how often each payload, by partition.
type Seen = Arc<Mutex<BTreeMap<(i32, String), u32>>>;

/// The new log is shorter than what was read of the old one.
#[test]
fn of_a_topic_that_is_made_again_with_less_in_it_everything_is_read_once() {
    for reader in readers() {
        let Some(run) = Run::start(reader, 200) else { return };
        run.make_again(20);
        // Nothing of it could be taken for something that was read.
        run.expect(20, 1);
    }
}

/// It is longer: for all that a fetch shows it could be the same.
#[test]
fn of_a_topic_that_is_made_again_with_more_in_it_nothing_is_passed_over() {
    for reader in readers() {
        let Some(run) = Run::start(reader, 20) else { return };
        run.make_again(200);
        run.expect(200, 2);
    }
}

/// It is not there for a while, and with KIP-848 the group takes its partitions away until it is.
#[test]
fn of_a_topic_that_is_made_again_after_a_while_nothing_is_passed_over() {
    for reader in readers() {
        let Some(run) = Run::start(reader, 20) else { return };
        run.make_again_once_it_is_missed(200);
        // Only where the group takes its partitions away as soon as it is missing is it certain that none of them is
        // fetched at the old offset before it is known to be another one.
        run.expect(200, if reader == Some(Protocol::Consumer) { 1 } else { 2 });
    }
}

/// The last records of the old one are still in their handlers: what they finish says nothing of the new one.
#[test]
fn what_was_in_flight_of_a_topic_that_is_made_again_does_not_count_for_the_new_one() {
    for reader in readers() {
        let Some(run) = Run::start_with(reader, 200, Some("old 199")) else { return };
        run.make_again(20);
        run.wait_to_hear("made again");
        run.go_on.add_permits(2);
        run.expect(20, 1);
    }
}

/// Likewise, and the consumer is stopped while they are: the next one reads all of the new one.
#[test]
fn a_stop_in_the_middle_of_what_is_left_of_the_old_topic_commits_nothing_of_it() {
    for protocol in PROTOCOLS {
        let Some(run) = Run::start_with(Some(protocol), 200, Some("old 199")) else { return };
        run.make_again(20);
        run.wait_to_hear("made again");
        run.handle.stop();
        run.go_on.add_permits(2);
        let Run { scene, run, said, .. } = run;
        runtime().block_on(run).unwrap().expect("an end without an error");
        let partitions: Vec<_> = (0..2).map(|number| scene.partition(number)).collect();
        let committed = scene.admin().committed(&scene.group, &partitions).expect("an answer");
        assert!(
            committed.values().all(|at| at.offset == 0 && at.metadata.is_empty()),
            "{protocol}: {committed:?}; {}",
            said.lock().unwrap()
        );
    }
}

/// What was finished of the old one lies behind the first offset of the new one.
#[test]
fn what_was_finished_of_the_old_topic_is_in_no_commit_of_the_new_one() {
    for protocol in PROTOCOLS {
        let Some(run) = Run::start_with(Some(protocol), 200, Some("none")) else { return };
        run.make_again(0);
        run.wait_until_committed(0);
        let partitions: Vec<_> = (0..2).map(|number| run.scene.partition(number)).collect();
        let committed = run.scene.admin().committed(&run.scene.group, &partitions).expect("an answer");
        run.handle.stop();
        runtime().block_on(run.run).unwrap().expect("an end without an error");
        assert!(committed.values().all(|at| at.metadata.is_empty()), "{protocol}: {committed:?}");
    }
}

/// What its members commit of the new topic says of which topic it is: whoever takes a partition over goes on there.
#[test]
fn a_topic_that_was_just_made_again_is_read_once_by_all_members_together() {
    for protocol in PROTOCOLS {
        let Some(first) = Run::start(Some(protocol), 20) else { return };
        let second = Second::start(&first, protocol);
        first.make_again(20);
        second.wait(&first, "both know of it", || {
            [&first.said, &second.said].iter().all(|said| said.lock().unwrap().contains("made again"))
        });
        let handled = || first.seen.lock().unwrap().values().sum::<u32>() + second.handled();
        second.wait(&first, "the new topic is read", || handled() >= 40 && second.lanes() == 1);
        first.wait_until_committed(20);
        first.handle.stop();
        second.wait(&first, "the other one has all lanes", || second.lanes() == 2);
        second.produce_and_wait(&first);
        assert_eq!(
            handled(),
            42,
            "{protocol}: {}\n{}",
            first.said.lock().unwrap(),
            second.said.lock().unwrap()
        );
        runtime().block_on(first.run).unwrap().expect("an end without an error");
        second.end();
    }
}

/// A commit of a member that knows of the old topic only can come when the group's offsets of that are gone already, and
/// then stays. It does not say of which topic it is.
#[test]
fn what_is_committed_of_a_topic_that_was_just_made_again_is_not_taken_for_its_own_if_it_does_not_say_so() {
    for protocol in PROTOCOLS {
        let Some(first) = Run::start(Some(protocol), 20) else { return };
        let unaware = Unaware::join(&first, protocol);
        first.make_again(20);
        first.wait_to_hear("made again");
        unaware.commit_and_leave(&first, 15);
        // Twice where the partition was this member's for a while before.
        first.expect(20, 2);
    }
}

/// The broker was started again under the old one, which raises the leader epochs: those of the new one are lower, and
/// librdkafka takes them for old news.
#[test]
fn of_a_topic_that_is_made_again_with_lower_leader_epochs_everything_is_read_once() {
    let Some(kafka) = own_kafka() else { return };
    for (old, new) in [(200, 20), (20, 200)] {
        let runs: Vec<_> = readers().map(|reader| Run::start_on(&kafka, reader, old)).collect();
        kafka.kill();
        kafka.start_again().expect("the broker is back");
        let risen: Vec<_> = runs.iter().map(|run| run.risen_epoch(old)).collect();
        for (run, risen) in runs.into_iter().zip(risen) {
            run.make_again(new);
            let epoch = run.epoch.clone();
            run.expect(new, if new > old { 2 } else { 1 });
            assert!(
                epoch.load(Ordering::Acquire) < risen,
                "the new topic's epoch is {epoch:?}, not below {risen}"
            );
        }
    }
    kafka.kill();
}

/// The clients that fetch are replaced, and fetch another topic as well.
#[test]
fn while_a_topic_is_made_again_another_one_is_read_on_and_each_of_its_records_once() {
    for reader in readers() {
        let protocol = reader.unwrap_or(Protocol::Consumer);
        let Some(scene) = Scene::new("made", 2, protocol) else { return };
        let run = Run::start_in(scene, reader, 20, None, BESIDE);
        run.make_again(20);
        run.wait_to_hear("made again");
        let beside = run.beside.clone();
        let before = beside.lock().unwrap().len();
        assert!(before < 2 * BESIDE, "{reader:?}: everything was read before");
        let is_read = || beside.lock().unwrap().len() >= 2 * BESIDE;
        let came = try_wait_until(LONG, "the other topic is read", is_read);
        assert!(came.is_ok(), "{reader:?}: {came:?}; it said {}", run.said.lock().unwrap());
        run.expect(20, 1);
        let mut read = beside.lock().unwrap().clone();
        println!("{reader:?}: {before} of the other topic were read before, {} after", read.len() - before);
        read.sort();
        let end = i64::try_from(BESIDE).unwrap();
        let all: Vec<_> = (0..2).flat_map(|number| (0..end).map(move |offset| (number, offset))).collect();
        assert!(read == all, "{reader:?}: {} records of {}", read.len(), all.len());
    }
}

/// In each protocol, and without a group.
fn readers() -> impl Iterator<Item = Option<Protocol>> {
    PROTOCOLS.into_iter().map(Some).chain([None])
}

struct Run {
    scene: Scene,
    reader: Option<Protocol>,
    seen: Seen,
    said: Arc<Mutex<String>>,
    /// Partition and offset of each record of the other topic that was handled.
    beside: Arc<Mutex<Vec<(i32, i64)>>>,
    /// The leader epoch of the record that was handled last.
    epoch: Arc<AtomicI32>,
    /// What the handlers of slow records wait for.
    go_on: Arc<Semaphore>,
    handle: laneway::Handle,
    run: tokio::task::JoinHandle<Result<laneway::Summary, laneway::Error>>,
}

impl Run {
    /// A consumer that has read so many records of each of two partitions.
    fn start(reader: Option<Protocol>, records: usize) -> Option<Self> {
        Self::start_with(reader, records, None)
    }

    /// Likewise; the handlers of the records with this payload wait for a permit each.
    fn start_with(reader: Option<Protocol>, records: usize, slow: Option<&'static str>) -> Option<Self> {
        let scene = Scene::new("made", 2, reader.unwrap_or(Protocol::Consumer))?;
        Some(Self::start_in(scene, reader, records, slow, 0))
    }

    /// As [`start`](Self::start), on a broker of the test's own.
    fn start_on(kafka: &RealKafka, reader: Option<Protocol>, records: usize) -> Self {
        let protocol = reader.unwrap_or(Protocol::Consumer);
        let scene = Scene::on(kafka, "made", 2, protocol, Recorder::in_memory(), None);
        Self::start_in(scene, reader, records, None, 0)
    }

    /// Likewise; there is another topic beside it, with so many records in each of two partitions, which take a
    /// millisecond or two each.
    fn start_in(
        scene: Scene,
        reader: Option<Protocol>,
        records: usize,
        slow: Option<&'static str>,
        beside: usize,
    ) -> Self {
        let topics = [scene.topic.clone(), format!("{}-beside", scene.topic)];
        let topics = &topics[..if beside > 0 { 2 } else { 1 }];
        if let [_, other] = topics {
            scene.admin().create_topic(other, 2, &[]).expect("another topic");
            produce(&scene, other, &"large".repeat(800), beside);
        }
        produce(&scene, &scene.topic, "old", records);
        let of_all =
            || topics.iter().flat_map(|topic| (0..2).map(|it| TopicPartition::new(topic.as_str(), it)));
        let builder = Consumer::builder()
            .brokers(&scene.brokers)
            // What is there when it begins is not read with `latest`; what is made later is.
            .offset_reset(OffsetReset::Latest)
            .property("topic.metadata.refresh.interval.ms", "500")
            // Most of the other topic is still to be fetched when this one is made again.
            .memory(8 << 20)
            .commit_interval(Duration::from_millis(100));
        let builder = match reader {
            Some(protocol) => {
                let beginning: Vec<_> = of_all().map(|partition| (partition, 0)).collect();
                scene.admin().set_committed(&scene.group, &beginning).expect("committed");
                builder.group(&scene.group).topics(topics).protocol(protocol)
            }
            None => builder.assign(of_all().map(|partition| (partition, Start::Beginning))),
        };
        // Too little to say of which topic an offset is, and enough for a map.
        let builder = if slow.is_some() { builder.offset_map_limit(20) } else { builder };
        let (seen, said) = (Seen::default(), Arc::new(Mutex::new(String::new())));
        let (beside, topic) = (Arc::new(Mutex::new(Vec::new())), scene.topic.clone());
        let read_beside = beside.clone();
        let (go_on, epoch) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicI32::new(-1)));
        let (noted, told, begun, newest) = (seen.clone(), said.clone(), Instant::now(), epoch.clone());
        let consumer = builder
            .on_event(move |event: &Event| {
                told.lock().unwrap().push_str(&format!("{:?} {event:?}\n", begun.elapsed()));
            })
            .build()
            .expect("a consumer");
        let (handle, permits) = (consumer.handle(), go_on.clone());
        let run = runtime().spawn(consumer.run(move |record: Record| {
            let payload = String::from_utf8_lossy(record.payload().unwrap_or_default()).into_owned();
            let is_slow = slow == Some(payload.as_str());
            let is_beside = record.topic() != topic;
            if is_beside {
                read_beside.lock().unwrap().push((record.partition(), record.offset()));
            } else {
                newest.store(record.leader_epoch().unwrap_or(-1), Ordering::Release);
                *noted.lock().unwrap().entry((record.partition(), payload)).or_default() += 1;
            }
            let permits = permits.clone();
            async move {
                if is_beside {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                if is_slow {
                    permits.acquire().await.expect("a semaphore that is open").forget();
                }
            }
        }));
        let new = Self { scene, reader, seen, said, beside, epoch, go_on, handle, run };
        new.wait("the old topic is read", |seen| seen.len() == 2 * records);
        new.seen.lock().unwrap().clear();
        new
    }

    /// The leader epoch of what is produced now that the broker was started again. It is read and forgotten.
    fn risen_epoch(&self, records: usize) -> i32 {
        produce(&self.scene, &self.scene.topic, "risen", 1);
        let is_risen = |seen: &BTreeMap<(i32, String), u32>| {
            seen.keys().filter(|(_, payload)| payload == "risen 0").count() == 2
        };
        self.wait("what is produced in the new epoch is read", is_risen);
        let epoch = self.epoch.load(Ordering::Acquire);
        assert!(epoch > 0, "{:?}: the leader epoch behind {records} records is {epoch}", self.reader);
        self.seen.lock().unwrap().clear();
        epoch
    }

    fn wait(&self, what: &str, is_so: impl Fn(&BTreeMap<(i32, String), u32>) -> bool) {
        let came = try_wait_until(LONG, what, || is_so(&self.seen.lock().unwrap()));
        let (reader, said, seen) = (self.reader, self.said.lock().unwrap(), self.seen.lock().unwrap().len());
        assert!(came.is_ok(), "{reader:?}: {came:?}; {seen} were seen; it said {said}");
    }

    /// So many of each partition, where there is a group.
    fn wait_until_committed(&self, records: usize) {
        if self.reader.is_some() {
            let partitions: Vec<_> = (0..2).map(|number| self.scene.partition(number)).collect();
            let (admin, group) = (self.scene.admin(), &self.scene.group);
            let end = i64::try_from(records).unwrap();
            let is_committed = || {
                let committed = admin.committed(group, &partitions).unwrap_or_default();
                committed.len() == 2 && committed.values().all(|at| at.offset == end)
            };
            let came = try_wait_until(LONG, "it is committed", is_committed);
            assert!(came.is_ok(), "{:?}: {came:?}; it said {}", self.reader, self.said.lock().unwrap());
        }
    }

    fn wait_to_hear(&self, text: &str) {
        let heard = try_wait_until(LONG, text, || self.said.lock().unwrap().contains(text));
        assert!(heard.is_ok(), "{:?}: {heard:?}; it said {}", self.reader, self.said.lock().unwrap());
    }

    fn make_again(&self, records: usize) {
        self.scene.admin().delete_topic(&self.scene.topic).expect("deleted");
        self.make_new(records);
    }

    fn make_again_once_it_is_missed(&self, records: usize) {
        self.scene.admin().delete_topic(&self.scene.topic).expect("deleted");
        self.wait_to_hear("TopicMissing");
        if self.reader == Some(Protocol::Consumer) {
            self.wait_to_hear("Revoked");
        }
        self.make_new(records);
    }

    fn make_new(&self, records: usize) {
        self.scene.admin().create_topic(&self.scene.topic, 2, &[]).expect("made again");
        produce(&self.scene, &self.scene.topic, "new", records);
    }

    /// All records of the new topic are handled, none more than so often, and committed.
    fn expect(self, records: usize, most: u32) {
        self.wait("the new topic is read", |seen| seen.len() == 2 * records);
        self.wait_until_committed(records);
        self.handle.stop();
        runtime().block_on(self.run).unwrap().expect("an end without an error");
        let (seen, said) = (self.seen.lock().unwrap(), self.said.lock().unwrap());
        let (highest, all) = (seen.values().max().unwrap(), seen.values().sum::<u32>());
        println!("{:?}: {all} handled of {}, none more than {highest} times", self.reader, 2 * records);
        assert!(seen.keys().all(|(_, payload)| payload.starts_with("new")), "{said}");
        assert!(!said.contains("nothing came of"), "{:?}: it was silent; it said {said}", self.reader);
        // Each partition in a new epoch. Without a group they began at their beginning before, too.
        let began = said.matches("offset: 0, from: Beginning").count();
        assert!(began >= if self.reader.is_none() { 4 } else { 2 }, "{:?}: it said {said}", self.reader);
        assert!(*highest <= most, "{:?}: one was handled {highest} times; it said {said}", self.reader);
    }
}

/// Another member of the group.
struct Second {
    handle: laneway::Handle,
    run: tokio::task::JoinHandle<Result<laneway::Summary, laneway::Error>>,
    said: Arc<Mutex<String>>,
    /// How many records of the new topic were handled.
    new: Arc<AtomicU32>,
}

impl Second {
    /// Joins, and waits until each of both has a lane.
    fn start(first: &Run, protocol: Protocol) -> Self {
        let (said, new) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicU32::new(0)));
        let (told, handled) = (said.clone(), new.clone());
        let consumer = Consumer::builder()
            .brokers(&first.scene.brokers)
            .group(&first.scene.group)
            .topics([&first.scene.topic])
            .protocol(protocol)
            .offset_reset(OffsetReset::Latest)
            .property("topic.metadata.refresh.interval.ms", "500")
            .commit_interval(Duration::from_millis(100))
            .on_event(move |event: &Event| told.lock().unwrap().push_str(&format!("{event:?}\n")))
            .build()
            .expect("a consumer");
        let handle = consumer.handle();
        let run = runtime().spawn(consumer.run(move |record: Record| {
            if record.payload().is_some_and(|payload| payload.starts_with(b"new")) {
                handled.fetch_add(1, Ordering::SeqCst);
            }
            async {}
        }));
        let new = Self { handle, run, said, new };
        new.wait(first, "each has a lane", || new.lanes() == 1 && first.handle.status().lanes.len() == 1);
        new
    }

    fn lanes(&self) -> usize {
        self.handle.status().lanes.len()
    }

    fn handled(&self) -> u32 {
        self.new.load(Ordering::SeqCst)
    }

    fn wait(&self, first: &Run, what: &str, is_so: impl Fn() -> bool) {
        let came = try_wait_until(LONG, what, is_so);
        let (one, other) = (first.said.lock().unwrap(), self.said.lock().unwrap());
        assert!(came.is_ok(), "{:?}: {came:?}; one said {one}\nthe other {other}", first.reader);
    }

    /// One more record in each partition: what lies before it has been handled when it is.
    fn produce_and_wait(&self, first: &Run) {
        let before = self.handled();
        produce(&first.scene, &first.scene.topic, "new last", 1);
        self.wait(first, "the last records are handled", || self.handled() >= before + 2);
    }

    fn end(self) {
        self.handle.stop();
        runtime().block_on(self.run).unwrap().expect("an end without an error");
    }
}

/// A member that knows nothing of topics that are made again: a client of rdkafka's.
struct Unaware(BaseConsumer);

impl Unaware {
    /// Joins, and waits until each of both has a partition.
    fn join(first: &Run, protocol: Protocol) -> Self {
        let (key, value) = match protocol {
            Protocol::Eager => ("partition.assignment.strategy", "range,roundrobin"),
            Protocol::Cooperative => ("partition.assignment.strategy", "cooperative-sticky"),
            _ => ("group.protocol", "consumer"),
        };
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &first.scene.brokers)
            .set("group.id", &first.scene.group)
            .set("enable.auto.commit", "false")
            .set("topic.metadata.refresh.interval.ms", "500")
            .set(key, value)
            .create()
            .expect("a client");
        consumer.subscribe(&[&first.scene.topic]).expect("subscribed");
        let new = Self(consumer);
        new.poll_until(first, "each has a partition", || {
            new.partitions().len() == 1 && first.handle.status().lanes.len() == 1
        });
        new
    }

    fn partitions(&self) -> Vec<i32> {
        let assigned =
            self.0.assignment().map(|list| list.elements().iter().map(|it| it.partition()).collect());
        assigned.unwrap_or_default()
    }

    fn poll_until(&self, first: &Run, what: &str, is_so: impl Fn() -> bool) {
        first.wait(what, |_| {
            self.0.poll(Duration::from_millis(10));
            is_so()
        });
    }

    /// As a member does that has read so much of the old topic, when the new one is there already.
    fn commit_and_leave(self, first: &Run, offset: i64) {
        let commit = || {
            let mut offsets = TopicPartitionList::new();
            for partition in self.partitions() {
                let at = Offset::Offset(offset);
                offsets.add_partition_offset(&first.scene.topic, partition, at).expect("an offset");
            }
            offsets.count() == 1 && self.0.commit(&offsets, CommitMode::Sync).is_ok()
        };
        self.poll_until(first, "the offset is committed", commit);
    }
}

fn produce(scene: &Scene, topic: &str, what: &str, records: usize) {
    let producer = Producer::new(&scene.brokers, &[]).expect("a producer");
    for number in 0..records {
        for partition in 0..2 {
            let payload = format!("{what} {number}");
            producer.send(topic, partition, None, Some(payload.as_bytes()), &[], None).expect("sent");
        }
    }
    producer.flush().expect("delivered");
}

/// Records of the other topic in each partition.
const BESIDE: usize = 1_500;
const LONG: Duration = Duration::from_secs(40);
