//! Hooks, on a real Kafka: what a partition's state is kept in moves with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use laneway::{
    Closing, Consumer, HookError, LaneHooks, LaneId, OffsetReset, Outcome, Record, TopicPartition,
};
use laneway_testing::history::What;
use laneway_testing::{Producer, wait_until};

use crate::support::{PROTOCOLS, Scene, runtime};

/// How many records of each partition were handled, as the last member that had it stored it, and who has it.
#[derive(Default)]
struct Store {
    stored: Mutex<HashMap<TopicPartition, (u64, Option<String>)>>,
    /// What must not happen.
    wrong: Mutex<Vec<String>>,
    moves: Mutex<u64>,
}

impl Store {
    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }
}

/// One member's counts, loaded from the store and put back there.
struct Counts {
    member: String,
    store: Arc<Store>,
    here: Mutex<HashMap<TopicPartition, u64>>,
}

impl Counts {
    /// Counts a record. Called by handlers.
    fn count(&self, partition: &TopicPartition) {
        match self.here.lock().unwrap().get_mut(partition) {
            Some(count) => *count += 1,
            None => self.store.wrong(format!("{}: a record of {partition}, which is not open", self.member)),
        }
    }
}

/// A member's hooks.
struct Keep(Arc<Counts>);

impl LaneHooks for Keep {
    async fn before_open(&self, lane: &LaneId) -> Result<(), HookError> {
        let Counts { member, store, here } = &*self.0;
        // A lane that is revoked meanwhile was never open, and is not closed.
        tokio::time::sleep(Duration::from_millis(30)).await;
        let count = {
            let mut stored = store.stored.lock().unwrap();
            let (count, holder) = stored.entry(lane.partition.clone()).or_default();
            if let Some(holder) = holder.replace(member.clone()) {
                store.wrong(format!("{member} opens {lane}, which {holder} has not closed"));
            }
            *count
        };
        *store.moves.lock().unwrap() += 1;
        here.lock().unwrap().insert(lane.partition.clone(), count);
        Ok(())
    }

    async fn before_close(&self, lane: &LaneId, closing: Closing) -> Result<(), HookError> {
        let Counts { member, store, here } = &*self.0;
        if closing.lost {
            store.wrong(format!("{member} lost {lane}"));
        }
        let count = here.lock().unwrap().remove(&lane.partition).expect("it was opened");
        // Storing takes its time, and nobody may open the partition meanwhile.
        tokio::time::sleep(Duration::from_millis(150)).await;
        store.stored.lock().unwrap().insert(lane.partition.clone(), (count, None));
        Ok(())
    }
}

/// A member with hooks, and how to end it.
struct Keeper {
    handle: laneway::Handle,
    running: tokio::task::JoinHandle<Result<laneway::Summary, laneway::Error>>,
}

impl Keeper {
    fn join(scene: &Scene, name: &str, store: &Arc<Store>) -> Self {
        let counts =
            Arc::new(Counts { member: name.to_owned(), store: store.clone(), here: Mutex::default() });
        let consumer = Consumer::builder()
            .brokers(&scene.brokers)
            .group(&scene.group)
            .topics([&scene.topic])
            .protocol(scene.protocol)
            .offset_reset(OffsetReset::Earliest)
            .hooks(Keep(counts.clone()))
            .build()
            .expect("a consumer");
        let handle = consumer.handle();
        let topic = scene.topic.clone();
        let running = runtime().spawn(consumer.run(move |record: Record| {
            counts.count(&TopicPartition::new(topic.as_str(), record.partition()));
            std::future::ready(())
        }));
        Self { handle, running }
    }

    fn lanes(&self) -> usize {
        self.handle.status().lanes.iter().filter(|lane| lane.state == laneway::LaneState::Running).count()
    }

    fn leave(self) {
        self.handle.stop();
        runtime().block_on(self.running).unwrap().expect("an end without an error");
    }
}

/// What one member stores before it gives a partition back is what the next one loads before its first record: no
/// record is missing in it, and none is counted twice.
#[test]
fn state_that_is_stored_before_a_lane_closes_is_loaded_before_another_member_opens_it() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::new("hooks", 4, protocol) else { return };
        let store: Arc<Store> = Arc::default();
        let traffic = scene.traffic(500);
        let first = Keeper::join(&scene, "first", &store);
        wait_until(LONG, "the first has all", || first.lanes() == 4);
        let second = Keeper::join(&scene, "second", &store);
        wait_until(LONG, "both have lanes", || first.lanes() == 2 && second.lanes() == 2);
        let third = Keeper::join(&scene, "third", &store);
        wait_until(LONG, "all have lanes", || [&first, &second, &third].iter().all(|it| it.lanes() > 0));
        first.leave();
        wait_until(LONG, "two have all", || second.lanes() + third.lanes() == 4);
        second.leave();
        wait_until(LONG, "the last has all", || third.lanes() == 4);
        traffic.end();
        let partitions: Vec<TopicPartition> = (0..4).map(|number| scene.partition(number)).collect();
        wait_until(LONG, "all is committed", || {
            runtime().block_on(third.handle.commit_now()).expect("a commit");
            let ends = scene.admin().end_offsets(&partitions).expect("the ends");
            let committed = scene.admin().committed(&scene.group, &partitions).expect("what is committed");
            partitions.iter().all(|of| committed.get(of).is_some_and(|at| at.offset == ends[of]))
        });
        third.leave();
        let wrong = store.wrong.lock().unwrap().clone();
        assert_eq!(wrong, Vec::<String>::new(), "{protocol}");
        let history = scene.recorder.history();
        let stored = store.stored.lock().unwrap().clone();
        for partition in &partitions {
            let produced =
                |what: &What| matches!(what, What::Produced { partition: of, .. } if of == partition);
            let produced = history.events().iter().filter(|event| produced(&event.what)).count();
            assert_eq!(stored[partition], (produced as u64, None), "{protocol}: {partition}");
        }
        let moves = *store.moves.lock().unwrap();
        println!("{protocol}: {moves} times a lane was opened, {} records", history.events().len());
        assert!(moves >= 8, "{protocol}: only {moves} lanes were opened");
    }
}

/// A hook that hangs is dropped at the drain deadline: the member that gives the partition back, and the one that waits
/// for it, go on.
#[test]
fn a_hook_that_hangs_holds_a_rebalance_up_no_longer_than_the_drain_deadline() {
    struct Hangs;

    impl LaneHooks for Hangs {
        async fn before_close(&self, _: &LaneId, _: Closing) -> Result<(), HookError> {
            std::future::pending().await
        }
    }

    for protocol in PROTOCOLS {
        let Some(scene) = Scene::new("hangs", 4, protocol) else { return };
        let drain = Duration::from_secs(2);
        let errors: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = errors.clone();
        let builder = || {
            Consumer::builder()
                .brokers(&scene.brokers)
                .group(&scene.group)
                .topics([&scene.topic])
                .protocol(protocol)
                .offset_reset(OffsetReset::Earliest)
                .drain_deadline(drain)
        };
        let start = |builder: laneway::Builder| {
            let consumer = builder.build().expect("a consumer");
            let handle = consumer.handle();
            let handler = |_: Record| std::future::ready(Outcome::Done);
            Keeper { handle, running: runtime().spawn(consumer.run(handler)) }
        };
        let first = start(builder().hooks(Hangs).on_event(move |event| {
            if let laneway::Event::Error { message } = event {
                told.lock().unwrap().push(message.clone());
            }
        }));
        wait_until(LONG, "the first has all", || first.lanes() == 4);
        let producer = Producer::new(&scene.brokers, &[]).expect("a producer");
        for number in 0..40 {
            producer.send(&scene.topic, number % 4, None, Some(b"x"), &[], None).expect("sent");
        }
        producer.flush().expect("delivered");
        wait_until(LONG, "all is finished", || first.handle.status().finished == 40);
        let began = Instant::now();
        let second = start(builder());
        wait_until(LONG, "both have lanes", || first.lanes() == 2 && second.lanes() == 2);
        let took = began.elapsed();
        let dropped = |errors: &[String]| errors.iter().filter(|it| it.contains("before_close")).count();
        assert!(dropped(&errors.lock().unwrap()) >= 2, "{protocol}: {errors:?}");
        let began = Instant::now();
        first.leave();
        let leave = began.elapsed();
        println!("{protocol}: moved within {took:?}, left within {leave:?}");
        assert!(leave < drain + Duration::from_secs(5), "{protocol}: leaving took {leave:?}");
        wait_until(LONG, "the other has all", || second.lanes() == 4);
        second.leave();
        // Nothing was lost or repeated for it.
        let partitions: Vec<TopicPartition> = (0..4).map(|number| scene.partition(number)).collect();
        let committed = scene.admin().committed(&scene.group, &partitions).expect("what is committed");
        assert!(partitions.iter().all(|of| committed[of].offset == 10), "{protocol}: {committed:?}");
    }
}

const LONG: Duration = Duration::from_secs(40);
