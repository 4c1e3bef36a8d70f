//! A topic that is deleted and made again under its lanes, on a real Kafka. It has the same name, and is another one:
//! offsets of the old one say nothing of it, and it is read from its beginning.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use laneway::{Consumer, Event, OffsetReset, Protocol, Record, Start};
use laneway_testing::{Producer, try_wait_until};
use tokio::sync::Semaphore;

use crate::support::{PROTOCOLS, Scene, runtime};

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

/// It is not there for a while, and the group gives its partitions away and back.
#[test]
fn of_a_topic_that_is_made_again_after_a_while_everything_is_read_once() {
    for reader in readers() {
        let Some(run) = Run::start(reader, 20) else { return };
        run.make_again_once_it_is_missed(200);
        run.expect(200, if reader.is_none() { 2 } else { 1 });
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
            committed.values().all(|at| at.offset == 0),
            "{protocol}: {committed:?}; {}",
            said.lock().unwrap()
        );
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
    /// What the handlers of slow records wait for.
    go_on: Arc<Semaphore>,
    handle: laneway::Handle,
    run: tokio::task::JoinHandle<Result<laneway::Summary, laneway::Error>>,
}

impl Run {
    /// A consumer that has read so many records of each of two partitions, and committed.
    fn start(reader: Option<Protocol>, records: usize) -> Option<Self> {
        Self::start_with(reader, records, None)
    }

    /// Likewise; the handlers of the records with this payload wait for a permit each.
    fn start_with(reader: Option<Protocol>, records: usize, slow: Option<&'static str>) -> Option<Self> {
        let scene = Scene::new("made", 2, reader.unwrap_or(Protocol::Consumer))?;
        produce(&scene, "old", records);
        let builder = Consumer::builder()
            .brokers(&scene.brokers)
            // What is there when it begins is not read with `latest`; what is made later is.
            .offset_reset(OffsetReset::Latest)
            .property("topic.metadata.refresh.interval.ms", "500")
            .commit_interval(Duration::from_millis(100));
        let builder = match reader {
            Some(protocol) => {
                let beginning: Vec<_> = (0..2).map(|number| (scene.partition(number), 0)).collect();
                scene.admin().set_committed(&scene.group, &beginning).expect("committed");
                builder.group(&scene.group).topics([&scene.topic]).protocol(protocol)
            }
            None => builder.assign((0..2).map(|number| (scene.partition(number), Start::Beginning))),
        };
        let (seen, said) = (Seen::default(), Arc::new(Mutex::new(String::new())));
        let go_on = Arc::new(Semaphore::new(0));
        let (noted, told, begun) = (seen.clone(), said.clone(), Instant::now());
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
            *noted.lock().unwrap().entry((record.partition(), payload)).or_default() += 1;
            let permits = permits.clone();
            async move {
                if is_slow {
                    permits.acquire().await.expect("a semaphore that is open").forget();
                }
            }
        }));
        let new = Self { scene, reader, seen, said, go_on, handle, run };
        new.wait("the old topic is read", |seen| seen.len() == 2 * records);
        new.seen.lock().unwrap().clear();
        Some(new)
    }

    fn wait(&self, what: &str, is_so: impl Fn(&BTreeMap<(i32, String), u32>) -> bool) {
        let came = try_wait_until(LONG, what, || is_so(&self.seen.lock().unwrap()));
        let (reader, said, seen) = (self.reader, self.said.lock().unwrap(), self.seen.lock().unwrap().len());
        assert!(came.is_ok(), "{reader:?}: {came:?}; {seen} were seen; it said {said}");
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
        self.make_new(records);
    }

    fn make_new(&self, records: usize) {
        self.scene.admin().create_topic(&self.scene.topic, 2, &[]).expect("made again");
        produce(&self.scene, "new", records);
    }

    /// All records of the new topic are handled, none more than so often, and committed.
    fn expect(self, records: usize, most: u32) {
        self.wait("the new topic is read", |seen| seen.len() == 2 * records);
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
        self.handle.stop();
        runtime().block_on(self.run).unwrap().expect("an end without an error");
        let (seen, said) = (self.seen.lock().unwrap(), self.said.lock().unwrap());
        let (highest, all) = (seen.values().max().unwrap(), seen.values().sum::<u32>());
        println!("{:?}: {all} handled of {}, none more than {highest} times", self.reader, 2 * records);
        assert!(seen.keys().all(|(_, payload)| payload.starts_with("new")), "{said}");
        assert!(*highest <= most, "{:?}: one was handled {highest} times; it said {said}", self.reader);
    }
}

fn produce(scene: &Scene, what: &str, records: usize) {
    let producer = Producer::new(&scene.brokers, &[]).expect("a producer");
    for number in 0..records {
        for partition in 0..2 {
            let payload = format!("{what} {number}");
            producer.send(&scene.topic, partition, None, Some(payload.as_bytes()), &[], None).expect("sent");
        }
    }
    producer.flush().expect("delivered");
}

const LONG: Duration = Duration::from_secs(40);
