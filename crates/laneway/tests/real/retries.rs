//! Retry topics on a real Kafka, while members come and go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use laneway::{Consumer, Error, Handle, OffsetReset, Outcome, Protocol, Record, Summary, TopicPartition};
use laneway_testing::{Producer, wait_until};

use crate::moves::Rng;
use crate::support::{PROTOCOLS, Scene, runtime};

const PARTITIONS: i32 = 6;
const RECORDS: usize = 600;
const DELAYS: [Duration; 2] = [Duration::from_millis(700), Duration::from_millis(1_500)];

/// Of each record the topics that it was handled from, and how often that succeeded.
type Tries = Arc<Mutex<BTreeMap<usize, (Vec<String>, usize)>>>;

struct Retrying {
    scene: Scene,
    retries: [String; 2],
    dead: String,
    tries: Tries,
}

type Running = (Handle, tokio::task::JoinHandle<Result<Summary, Error>>);

impl Retrying {
    fn new(protocol: Protocol) -> Option<Self> {
        let scene = Scene::new("retrying", PARTITIONS, protocol)?;
        let named = |what: &str| {
            let topic = format!("{}.{what}", scene.topic);
            scene.admin().create_topic(&topic, PARTITIONS, &[]).expect("a topic");
            topic
        };
        let (retries, dead) = ([named("retry.1"), named("retry.2")], named("dead"));
        Some(Self { scene, retries, dead, tries: Tries::default() })
    }

    /// Record `number` fails `number % 4` times: those with 3 everywhere.
    fn produce(&self) {
        let producer = Producer::new(&self.scene.brokers, &[]).expect("a producer");
        for number in 0..RECORDS {
            let (partition, payload) = (i32::try_from(number).unwrap() % PARTITIONS, number.to_string());
            let key = format!("key-{}", number % 100);
            producer
                .send(&self.scene.topic, partition, Some(key.as_bytes()), Some(payload.as_bytes()), &[], None)
                .expect("sent");
        }
        producer.flush().expect("delivered");
    }

    fn join(&self) -> Running {
        let delays = self.retries.iter().zip(DELAYS);
        let consumer = Consumer::builder()
            .brokers(&self.scene.brokers)
            .group(&self.scene.group)
            .topics([&self.scene.topic])
            .protocol(self.scene.protocol)
            .offset_reset(OffsetReset::Earliest)
            .ordering(laneway::Ordering::Key)
            .retry_topics(delays)
            .dead_letters(&self.dead)
            .build()
            .expect("a consumer");
        let tries = self.tries.clone();
        let handle = consumer.handle();
        let run = runtime().spawn(consumer.run(move |record: Record| {
            let tries = tries.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let number: usize = std::str::from_utf8(record.payload().unwrap()).unwrap().parse().unwrap();
                let mut tries = tries.lock().unwrap();
                let (topics, successes) = tries.entry(number).or_default();
                topics.push(record.topic().to_owned());
                if topics.len() <= number % 4 {
                    return Outcome::Retry { error: format!("try {}", topics.len()), after: None };
                }
                *successes += 1;
                Outcome::Done
            }
        }));
        (handle, run)
    }

    /// What the group has not finished of all that it reads.
    fn lag(&self) -> i64 {
        let topics = [&self.scene.topic, &self.retries[0], &self.retries[1]];
        let partitions: Vec<TopicPartition> = topics
            .into_iter()
            .flat_map(|topic| (0..PARTITIONS).map(move |number| TopicPartition::new(topic.as_str(), number)))
            .collect();
        let admin = self.scene.admin();
        let ends = admin.end_offsets(&partitions).expect("ends");
        let committed = admin.committed(&self.scene.group, &partitions).expect("committed offsets");
        ends.iter().map(|(of, end)| end - committed.get(of).map_or(0, |found| found.offset)).sum()
    }
}

fn leave((handle, run): Running) {
    handle.stop();
    let summary = runtime().block_on(run).unwrap().expect("an end without an error");
    assert_eq!((summary.unfinished, summary.uncommitted), (0, 0));
}

fn retried_through_moves(protocol: Protocol) {
    let Some(retrying) = Retrying::new(protocol) else { return };
    retrying.produce();
    let mut rng = Rng(0x0f1e_2d3c_4b5a_6978);
    let mut members = vec![retrying.join(), retrying.join()];
    let of_dead = |number: &usize| number % 4 == 3;
    let succeeded = || {
        let tries = retrying.tries.lock().unwrap();
        let is_over = |(number, (topics, successes)): (&usize, &(Vec<String>, usize))| {
            *successes > 0 || (of_dead(number) && topics.len() >= 3)
        };
        tries.len() == RECORDS && tries.iter().all(is_over)
    };
    let mut changes = 0;
    for _ in 0..60 {
        if changes >= 6 && succeeded() {
            break;
        }
        std::thread::sleep(Duration::from_millis(900));
        changes += 1;
        if members.len() >= 4 || (members.len() > 1 && rng.below(2) == 0) {
            let index = usize::try_from(rng.below(members.len() as u64)).unwrap();
            leave(members.swap_remove(index));
        } else {
            members.push(retrying.join());
        }
    }
    wait_until(Duration::from_secs(60), "all records are through", succeeded);
    wait_until(Duration::from_secs(60), "all is committed", || retrying.lag() == 0);
    members.into_iter().for_each(leave);

    let expected = [&retrying.scene.topic, &retrying.retries[0], &retrying.retries[1]];
    for (number, (topics, successes)) in retrying.tries.lock().unwrap().iter() {
        let tries = (number % 4 + 1).min(3);
        assert_eq!(topics.iter().collect::<Vec<_>>(), expected[..tries], "record {number}");
        assert_eq!(*successes, usize::from(!of_dead(number)), "record {number}");
    }
    let dead: Vec<_> =
        (0..PARTITIONS).map(|number| TopicPartition::new(retrying.dead.as_str(), number)).collect();
    let ends = retrying.scene.admin().end_offsets(&dead).expect("ends");
    assert_eq!(ends.values().sum::<i64>(), RECORDS as i64 / 4, "dead letters");
    println!(
        "{protocol}: {RECORDS} records through two retry topics, {changes} changes of members: each as often as it had to"
    );
}

/// I3: none is lost, and none comes twice.
#[test]
fn records_go_through_retry_topics_while_members_come_and_go() {
    PROTOCOLS.into_iter().for_each(retried_through_moves);
}
