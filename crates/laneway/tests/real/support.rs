//! Members under test: consumers that record what they do, in this process or in processes of their own
//! (this test binary, started again), and the traffic they read.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use laneway::{
    Builder, Consumer, Error, Event, Handle, Handler, LaneId, MakeHandler, OffsetReset, Outcome, Protocol,
    Record, Summary, TopicPartition,
};
use laneway_testing::history::{MemberRecorder, Recorder};
use laneway_testing::{
    Admin, Process, Producer, RealKafka, RealOptions, real_kafka_or_skip, unique, wait_until,
};
use tokio::runtime::Runtime;

pub(crate) const PROTOCOLS: [Protocol; 3] = [Protocol::Eager, Protocol::Cooperative, Protocol::Consumer];

/// A topic and a group of its own on the shared real Kafka, and the recorder of what happens there.
pub(crate) struct Scene {
    pub(crate) brokers: String,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) partitions: i32,
    pub(crate) protocol: Protocol,
    pub(crate) recorder: Recorder,
    pub(crate) file: Option<PathBuf>,
}

/// A broker of a test's own, for what the others' tests would not survive. `None` where there is none to be had.
pub(crate) fn own_kafka() -> Option<RealKafka> {
    own_kafka_with(&[])
}

/// Likewise, with properties of the server.
pub(crate) fn own_kafka_with(properties: &[(&str, &str)]) -> Option<RealKafka> {
    real_kafka_or_skip()?;
    let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Some(RealKafka::start(RealOptions { properties, ..RealOptions::default() }).expect("a broker"))
}

/// How a member behaves.
#[derive(Clone)]
pub(crate) struct Spec {
    /// What the handler does with a record, before it is finished.
    pub(crate) work: Work,
    pub(crate) drain: Duration,
    pub(crate) commit_interval: Option<Duration>,
    pub(crate) reset: OffsetReset,
    pub(crate) properties: Vec<(String, String)>,
    pub(crate) allow_long_drain: bool,
    /// Makes it a static member.
    pub(crate) instance: Option<String>,
    /// Membership looks for changes of topics by itself.
    pub(crate) membership_refresh: Option<Duration>,
    /// What it reads, if not the scene's topic.
    pub(crate) topics: Option<String>,
    /// Where a process keeps what it logs, librdkafka's doings in the group included: `NAME.log`.
    pub(crate) logs: Option<PathBuf>,
}

/// What a handler does with a record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// Nothing.
    Nothing,
    /// Sleeps, each time as long.
    Sleep(Duration),
    /// By key, 64 at once: sleeps for up to so long, and fails at every tenth try.
    Keyed(Duration),
    /// Likewise, but so many of a hundred keys fail, and are to be tried again in an hour.
    KeyedFailing(Duration, u64),
    /// Sleeps on one partition; on the others every record takes a millisecond or two.
    SleepOn(i32, Duration),
    /// Likewise, on all partitions with even numbers.
    SleepOnEven(Duration),
    /// Sleeps on the first two records of partitions with even numbers; the others take a millisecond.
    SleepAtFirst(Duration),
    /// Sleeps as many milliseconds as this says at the time.
    Dial(&'static AtomicU64),
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            work: Work::Nothing,
            drain: Duration::from_secs(25),
            commit_interval: None,
            reset: OffsetReset::Earliest,
            properties: Vec::new(),
            allow_long_drain: false,
            instance: None,
            membership_refresh: None,
            topics: None,
            logs: None,
        }
    }
}

impl Scene {
    /// `None` where no real Kafka can be had, and that is allowed.
    pub(crate) fn new(name: &str, partitions: i32, protocol: Protocol) -> Option<Self> {
        let kafka = real_kafka_or_skip()?;
        Some(Self::on(kafka, name, partitions, protocol, Recorder::in_memory(), None))
    }

    /// One whose members may be processes: the recorder is a file.
    pub(crate) fn with_processes(name: &str, partitions: i32, protocol: Protocol) -> Option<Self> {
        let kafka = real_kafka_or_skip()?;
        let file = std::env::temp_dir().join(unique("laneway-history"));
        let recorder = Recorder::to_file(&file).expect("a history file");
        Some(Self::on(kafka, name, partitions, protocol, recorder, Some(file)))
    }

    pub(crate) fn on(
        kafka: &RealKafka,
        name: &str,
        partitions: i32,
        protocol: Protocol,
        recorder: Recorder,
        file: Option<PathBuf>,
    ) -> Self {
        let scene = Self {
            brokers: kafka.brokers().to_owned(),
            topic: unique(name),
            group: unique("group"),
            partitions,
            protocol,
            recorder,
            file,
        };
        scene.admin().create_topic(&scene.topic, partitions, &[]).expect("a topic");
        scene
    }

    pub(crate) fn admin(&self) -> Admin {
        Admin::new(&self.brokers).expect("an admin client")
    }

    pub(crate) fn partition(&self, number: i32) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), number)
    }

    /// Produces records to all partitions in turn.
    pub(crate) fn produce(&self, records: usize) {
        let producer = Producer::new(&self.brokers, &[]).expect("a producer").recording(&self.recorder);
        for number in 0..records {
            let partition = i32::try_from(number).unwrap() % self.partitions;
            producer.send(&self.topic, partition, None, Some(b"payload"), &[], None).expect("sent");
        }
        producer.flush().expect("delivered");
    }

    /// Produces as many records of each key, the keys in turn, each in a partition of its own choice.
    pub(crate) fn produce_keyed(&self, keys: usize, each: usize) {
        let producer = Producer::new(&self.brokers, &[]).expect("a producer").recording(&self.recorder);
        for number in 0..keys * each {
            let key = number % keys;
            let partition = i32::try_from(key).unwrap() % self.partitions;
            let text = format!("key-{key}");
            producer
                .send(&self.topic, partition, Some(text.as_bytes()), Some(b"payload"), &[], None)
                .expect("sent");
        }
        producer.flush().expect("delivered");
    }

    /// Produces at a rate until the returned guard is ended.
    pub(crate) fn traffic(&self, per_second: u64) -> Traffic {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (brokers, topic, partitions) = (self.brokers.clone(), self.topic.clone(), self.partitions);
        let (recorder, asked) = (self.recorder.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let producer = Producer::new(&brokers, &[]).expect("a producer").recording(&recorder);
            let pause = Duration::from_millis(20);
            let mut number = 0i32;
            while !asked.load(std::sync::atomic::Ordering::Acquire) {
                for _ in 0..(per_second / 50).max(1) {
                    producer
                        .send(&topic, number % partitions, None, Some(b"payload"), &[], None)
                        .expect("sent");
                    number += 1;
                }
                producer.flush().expect("delivered");
                std::thread::sleep(pause);
            }
        });
        Traffic { stop, thread: Some(thread) }
    }

    /// Starts a member in this process.
    pub(crate) fn member(&self, name: &str, spec: &Spec) -> Member {
        let consumer = consumer(self, name, spec).expect("a consumer");
        let recorder = self.recorder.member(name);
        let handle = consumer.handle();
        let work = spec.work;
        let run = runtime().spawn(consumer.run_lanes(Recorded { recorder, work }));
        Member { handle, run: Some(run) }
    }

    /// Starts a member as a process of its own.
    pub(crate) fn process(&self, name: &str, spec: &Spec) -> Process {
        let mut command = Command::new(std::env::current_exe().expect("the test binary"));
        let (work, partition) = match spec.work {
            Work::Nothing => (0, -1),
            Work::Sleep(time) => (time.as_millis(), -1),
            Work::SleepOn(partition, time) => (time.as_millis(), partition),
            Work::SleepOnEven(time) => (time.as_millis(), -2),
            Work::SleepAtFirst(time) => (time.as_millis(), -3),
            Work::Keyed(time) => (time.as_millis(), -4),
            Work::KeyedFailing(time, keys) => (time.as_millis(), -100 - i32::try_from(keys).unwrap()),
            Work::Dial(_) => panic!("a dial reaches no other process"),
        };
        let reset = if spec.reset == OffsetReset::Latest { "latest" } else { "earliest" };
        let mut words = vec![
            self.brokers.clone(),
            self.group.clone(),
            self.topic.clone(),
            self.protocol.to_string(),
            name.to_owned(),
            self.file.as_ref().expect("a scene with processes").display().to_string(),
            work.to_string(),
            partition.to_string(),
            spec.drain.as_millis().to_string(),
            reset.to_owned(),
            spec.instance.clone().unwrap_or_default(),
        ];
        words.extend(spec.properties.iter().map(|(key, value)| format!("{key}={value}")));
        if let Some(logs) = &spec.logs {
            words.push("debug=cgrp".to_owned());
            command.env(LOGS, logs.join(name).with_extension("log"));
        }
        command
            .args(["--exact", "member_process", "--ignored", "--nocapture", "--test-threads=1"])
            .env(MEMBER, words.join("\t"));
        Process::spawn(command).expect("a member process")
    }

    /// Waits until every record that was produced is finished.
    pub(crate) fn wait_until_finished(&self, within: Duration) {
        wait_until(within, "everything that was produced is finished", || self.unfinished() == 0);
    }

    /// Likewise. Where that is in vain, says what is missing, and what a member's process said last.
    pub(crate) fn wait_until_finished_by(&self, member: &Process, within: Duration) {
        if laneway_testing::try_wait_until(within, "all is finished", || self.unfinished() == 0).is_err() {
            let said = member.stderr();
            println!("the member said last: {:#?}", &said[said.len().saturating_sub(60)..]);
            panic!("after {within:?} {} records were not finished", self.unfinished());
        }
    }

    /// Records that were produced and not finished.
    pub(crate) fn unfinished(&self) -> usize {
        use laneway_testing::history::What;
        let history = self.recorder.history();
        let mut open = std::collections::HashSet::new();
        let mut done = std::collections::HashSet::new();
        for event in history.events() {
            match &event.what {
                What::Produced { partition, offset, .. } => {
                    open.insert((partition.clone(), *offset));
                }
                What::Finished { lane, offset, .. } => {
                    done.insert((lane.partition.clone(), *offset));
                }
                _ => {}
            }
        }
        open.difference(&done).count()
    }

    /// Members that the group lists.
    pub(crate) fn listed(&self) -> usize {
        self.admin().describe_group(&self.group).map_or(0, |group| group.members.len())
    }
}

/// A stream of records that ends when this is ended.
pub(crate) struct Traffic {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    pub(crate) fn end(mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Release);
        self.thread.take().unwrap().join().expect("traffic that was delivered");
    }
}

/// A member in this process.
pub(crate) struct Member {
    pub(crate) handle: Handle,
    run: Option<tokio::task::JoinHandle<Result<Summary, Error>>>,
}

impl Member {
    /// Stops it, and waits until it has left.
    pub(crate) fn leave(mut self) -> Summary {
        self.handle.stop();
        self.ended().expect("a member that ends without an error")
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&mut self) -> Result<Summary, Error> {
        runtime().block_on(self.run.take().expect("a member that runs")).expect("a task that was not aborted")
    }

    /// The partitions whose lanes run here.
    pub(crate) fn partitions(&self) -> BTreeSet<TopicPartition> {
        let lanes = self.handle.status().lanes;
        let running = lanes.into_iter().filter(|lane| lane.state == laneway::LaneState::Running);
        running.map(|lane| lane.lane.partition).collect()
    }

    /// Rebalance events that it has answered.
    pub(crate) fn rebalances(&self) -> u64 {
        self.handle.status().rebalances
    }

    /// How many lanes run here.
    pub(crate) fn lanes(&self) -> usize {
        self.handle.status().lanes.iter().filter(|lane| lane.state == laneway::LaneState::Running).count()
    }
}

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
    })
}

pub(crate) fn consumer(scene: &Scene, name: &str, spec: &Spec) -> Result<Consumer, Error> {
    let recorder = scene.recorder.member(name);
    let mut builder = Consumer::builder()
        .brokers(&scene.brokers)
        .group(&scene.group)
        .topics([spec.topics.as_ref().unwrap_or(&scene.topic)])
        .protocol(scene.protocol)
        .offset_reset(spec.reset)
        .drain_deadline(spec.drain)
        .property("client.id", name)
        .on_event(move |event| record_event(&recorder, event));
    for (key, value) in &spec.properties {
        builder = builder.property(key, value);
    }
    if let Some(instance) = &spec.instance {
        builder = builder.instance_id(instance);
    }
    if let Some(interval) = spec.commit_interval {
        builder = builder.commit_interval(interval);
    }
    if let Some(each) = spec.membership_refresh {
        builder = builder.membership_refreshes_metadata(each);
    }
    if spec.allow_long_drain {
        builder = builder.allow_drains_longer_than_the_rebalance_timeout();
    }
    ordered(builder, spec.work).build()
}

/// In the order that the work wants.
fn ordered(builder: Builder, work: Work) -> Builder {
    match work {
        Work::Keyed(_) | Work::KeyedFailing(..) => builder
            .ordering(laneway::Ordering::Key)
            .concurrency(64)
            .backoff(Duration::from_millis(1), Duration::from_millis(20)),
        _ => builder,
    }
}

/// The number in a key of [`Scene::produce_keyed`].
fn key_number(record: &Record) -> u64 {
    let key =
        record.key().and_then(|key| std::str::from_utf8(key).ok()).and_then(|key| key.strip_prefix("key-"));
    key.and_then(|number| number.parse().ok()).expect("a key with a number")
}

/// A random number below a limit.
fn random(limit: u64) -> u64 {
    RandomState::new().hash_one(limit) % limit
}

fn record_event(recorder: &MemberRecorder, event: &Event) {
    if std::env::var_os("LANEWAY_STORY").is_some() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()
            % 1_000_000;
        eprintln!("{now:6} {} {event:?}", recorder.name());
    }
    match event {
        Event::Assigned { lanes } => lanes.iter().for_each(|start| recorder.assigned(&start.lane)),
        Event::Revoked { lanes, .. } => lanes.iter().for_each(|lane| recorder.revoked(lane)),
        Event::Lost { lanes, .. } => lanes.iter().for_each(|lane| recorder.lost(lane)),
        Event::Committed { offsets } => {
            offsets.iter().for_each(|(partition, offset)| recorder.committed(partition, *offset));
        }
        Event::Stray { partition, offset } => recorder.stray(partition, *offset),
        // Of a process it is all that tells why it did not do what it should.
        Event::Error { .. } | Event::CommitFailed { .. } | Event::BrokersDown { .. } => {
            eprintln!("{}: {event:?}", recorder.name());
        }
        _ => {}
    }
}

/// Makes handlers that record what they do.
struct Recorded {
    recorder: MemberRecorder,
    work: Work,
}

struct RecordedLane {
    recorder: MemberRecorder,
    lane: LaneId,
    work: Work,
}

/// Says that a record was let go, unless it was finished.
struct Begun<'a> {
    lane: &'a RecordedLane,
    offset: i64,
    finished: bool,
}

impl MakeHandler for Recorded {
    type Handler = RecordedLane;

    fn make(&self, lane: &LaneId) -> RecordedLane {
        RecordedLane { recorder: self.recorder.clone(), lane: lane.clone(), work: self.work }
    }
}

impl Handler for RecordedLane {
    async fn handle(&self, record: Record) -> Outcome {
        let mut begun = Begun { lane: self, offset: record.offset(), finished: false };
        self.recorder.begun(&self.lane, record.offset());
        match self.work {
            Work::Nothing => {}
            Work::Sleep(time) => tokio::time::sleep(time).await,
            Work::KeyedFailing(_, keys) if key_number(&record) % 100 >= 100 - keys => {
                let hour = Duration::from_secs(3_600);
                return Outcome::Retry { error: "not now".into(), after: Some(hour) };
            }
            Work::Keyed(longest) | Work::KeyedFailing(longest, _) => {
                let longest = u64::try_from(longest.as_micros()).unwrap();
                tokio::time::sleep(Duration::from_micros(random(longest + 1))).await;
                if random(10) == 0 {
                    return Outcome::Retry { error: "one of ten".into(), after: None };
                }
            }
            Work::SleepOn(partition, time) if partition == record.partition() => {
                tokio::time::sleep(time).await
            }
            Work::SleepOnEven(time) if record.partition() % 2 == 0 => tokio::time::sleep(time).await,
            Work::SleepAtFirst(time) if record.partition() % 2 == 0 && record.offset() < 2 => {
                tokio::time::sleep(time).await
            }
            Work::Dial(time) => {
                tokio::time::sleep(Duration::from_millis(time.load(Ordering::Relaxed))).await;
            }
            Work::SleepOn(..) | Work::SleepOnEven(_) | Work::SleepAtFirst(_) => {
                tokio::time::sleep(Duration::from_millis(1)).await
            }
        }
        begun.finished = true;
        self.recorder.finished(&self.lane, record.offset());
        Outcome::Done
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.lane.recorder.cancelled(&self.lane.lane, self.offset);
        }
    }
}

/// What a process of this binary does that is a member: see [`Scene::process`].
pub(crate) fn run_member_process() {
    let Ok(words) = std::env::var(MEMBER) else { return };
    let words: Vec<&str> = words.split('\t').collect();
    let [
        brokers,
        group,
        topic,
        protocol,
        name,
        file,
        work,
        partition,
        drain,
        reset,
        instance,
        properties @ ..,
    ] = &words[..]
    else {
        panic!("{MEMBER} has {} words", words.len());
    };
    if let Some(file) = std::env::var_os(LOGS) {
        crate::logged::keep_in(Path::new(&file));
    }
    let milliseconds = |text: &str| Duration::from_millis(text.parse().expect("milliseconds"));
    let time = milliseconds(work);
    let work = match partition.parse().expect("a partition") {
        _ if time.is_zero() => Work::Nothing,
        -1 => Work::Sleep(time),
        -2 => Work::SleepOnEven(time),
        -3 => Work::SleepAtFirst(time),
        -4 => Work::Keyed(time),
        keys @ ..=-100 => Work::KeyedFailing(time, u64::try_from(-100 - keys).unwrap()),
        partition => Work::SleepOn(partition, time),
    };
    let recorder = Recorder::to_file(Path::new(file)).expect("a history file");
    let kept = recorder.member(name);
    let mut builder = Consumer::builder()
        .brokers(*brokers)
        .group(*group)
        .topics([*topic])
        .protocol(protocol.parse().expect("a protocol"))
        .offset_reset(reset.parse().expect("a reset"))
        .drain_deadline(milliseconds(drain))
        .property("client.id", *name)
        .on_event({
            let recorder = kept.clone();
            move |event| record_event(&recorder, event)
        });
    if !instance.is_empty() {
        builder = builder.instance_id(*instance);
    }
    for property in properties {
        let (key, value) = property.split_once('=').expect("key=value");
        builder = builder.property(key, value);
    }
    let consumer = ordered(builder, work).build().expect("a consumer");
    let handle = consumer.handle();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminated = signal(SignalKind::terminate()).expect("a signal handler");
        tokio::spawn(async move {
            terminated.recv().await;
            handle.stop();
        });
        consumer
            .run_lanes(Recorded { recorder: kept, work })
            .await
            .expect("a member that ends without an error");
    });
}

const MEMBER: &str = "LANEWAY_TEST_MEMBER";
const LOGS: &str = "LANEWAY_TEST_LOGS";
