//! What becomes of records in a rolling deploy: a new member joins, the old one leaves, and nobody crashes. Read by
//! split queues as they are split by hand (`examples/split_queues.rs`), and by Laneway (`examples/lanes.rs`), on a
//! real Kafka. The same scene and the same counting for all of them; docs/SPLIT_QUEUES.md tells what comes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../examples/lanes.rs"]
mod lanes;
#[path = "../examples/split_queues.rs"]
mod split_queues;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use laneway::{Consumer, OffsetReset, Protocol, Record, TopicPartition};
use laneway_testing::history::{Recorder, What};
use laneway_testing::{Admin, Producer, real_kafka_or_skip, unique, wait_until};
use split_queues::OldTasks;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const PARTITIONS: i32 = 12;
/// What records take while members come and go, in milliseconds: from, and how many more at most. So there is one in
/// flight in every partition, and they do not go in step.
const SLOW: (u64, u64) = (200, 400);
/// Much more than two members finish: no queue runs empty while they come and go.
const PER_SECOND: u64 = 120;
const LONG: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    SplitByHand(OldTasks),
    Lanes,
    Handler,
    /// With the protocol that librdkafka has by default, as the first one has.
    EagerHandler,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SplitByHand(OldTasks::AreTold) => "split by hand, old tasks are told to end",
            Self::SplitByHand(OldTasks::AreWaitedFor) => "split by hand, old tasks are waited for",
            Self::Lanes => "Laneway, lanes as streams",
            Self::Handler => "Laneway, a handler",
            Self::EagerHandler => "Laneway, a handler, eager",
        })
    }
}

/// What became of the records.
#[derive(Debug)]
struct Counted {
    records: usize,
    /// Times that a record was handled again which had been handled, or was still being handled.
    duplicates: usize,
    /// Records that nobody handled, and that the group has committed past: they never come.
    lost: usize,
    /// Partitions that are assigned to a member that is alive, have records, and get nothing done.
    silent: usize,
}

#[test]
fn split_by_hand_with_old_tasks_left_to_end_repeats_records_and_falls_silent() {
    let Some(counted) = rolling_deploy(Program::SplitByHand(OldTasks::AreTold), &[]) else { return };
    assert!(counted.duplicates > 0, "{counted:?}");
    assert!(counted.silent > 0, "{counted:?}");
}

#[test]
fn split_by_hand_with_old_tasks_waited_for_repeats_records_and_loses_some() {
    let Some(counted) = rolling_deploy(Program::SplitByHand(OldTasks::AreWaitedFor), &[]) else { return };
    assert!(counted.duplicates > 0, "{counted:?}");
    assert!(counted.lost > 0, "{counted:?}");
}

#[test]
fn split_by_hand_with_cooperative_sticky_repeats_records() {
    let cooperative = [("partition.assignment.strategy", "cooperative-sticky")];
    for old_tasks in [OldTasks::AreTold, OldTasks::AreWaitedFor] {
        let Some(counted) = rolling_deploy(Program::SplitByHand(old_tasks), &cooperative) else { return };
        assert!(counted.duplicates > 0, "{counted:?}");
    }
}

#[test]
fn lanes_as_streams_repeat_and_lose_nothing_and_none_falls_silent() {
    let Some(counted) = rolling_deploy(Program::Lanes, &[]) else { return };
    assert_eq!((counted.duplicates, counted.lost, counted.silent), (0, 0, 0), "{counted:?}");
}

#[test]
fn a_handler_repeats_and_loses_nothing_and_no_lane_falls_silent() {
    let Some(counted) = rolling_deploy(Program::Handler, &[]) else { return };
    assert_eq!((counted.duplicates, counted.lost, counted.silent), (0, 0, 0), "{counted:?}");
}

#[test]
fn a_handler_repeats_and_loses_nothing_and_no_lane_falls_silent_in_eager() {
    let Some(counted) = rolling_deploy(Program::EagerHandler, &[]) else { return };
    assert_eq!((counted.duplicates, counted.lost, counted.silent), (0, 0, 0), "{counted:?}");
}

/// What the old member repeats by itself is all that comes twice.
#[test]
fn a_group_moves_over_to_laneway_member_by_member() {
    let old = Program::SplitByHand(OldTasks::AreWaitedFor);
    let Some(counted) = move_over(old, Program::EagerHandler, &[]) else { return };
    assert_eq!((counted.lost, counted.silent), (0, 0), "{counted:?}");
}

/// The programs in the docs are those that are run here.
#[test]
fn the_docs_show_the_programs_as_they_are() {
    let read =
        |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let docs = read("../../docs/SPLIT_QUEUES.md");
    for example in ["examples/split_queues.rs", "examples/lanes.rs"] {
        let block = format!("```rust\n{}```\n", read(example));
        assert!(docs.contains(&block), "docs/SPLIT_QUEUES.md does not show {example} as it is");
    }
}

/// What the members do with records, taken down.
#[derive(Default)]
struct Work {
    done: Mutex<BTreeMap<(i32, i64), Done>>,
    /// Whether what has piled up is worked off: records take a millisecond.
    is_quick: AtomicBool,
}

/// Of one record: who began it, and how often it was finished.
#[derive(Default)]
struct Done {
    begun_by: Vec<&'static str>,
    finished: usize,
}

impl Work {
    async fn on(self: Arc<Self>, member: &'static str, partition: i32, offset: i64) {
        self.done.lock().unwrap().entry((partition, offset)).or_default().begun_by.push(member);
        let takes = match self.is_quick.load(Ordering::Acquire) {
            true => 1,
            false => {
                SLOW.0 + (offset.unsigned_abs() * 37 + u64::from(partition.unsigned_abs()) * 61) % SLOW.1
            }
        };
        tokio::time::sleep(Duration::from_millis(takes)).await;
        self.done.lock().unwrap().entry((partition, offset)).or_default().finished += 1;
    }

    /// The partitions of which this member has begun a record.
    fn partitions_of(&self, member: &str) -> usize {
        let done = self.done.lock().unwrap();
        let of = done.iter().filter(|(_, done)| done.begun_by.contains(&member));
        of.map(|((partition, _), _)| partition).collect::<BTreeSet<_>>().len()
    }

    fn finished(&self) -> usize {
        self.done.lock().unwrap().values().map(|done| done.finished).sum()
    }
}

/// A running member.
struct Member {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

struct Scene {
    properties: Vec<(String, String)>,
    brokers: String,
    topic: String,
    group: String,
    work: Arc<Work>,
    runtime: Runtime,
}

impl Scene {
    fn member(&self, name: &'static str, program: Program) -> Member {
        let (stop, stopped) = oneshot::channel();
        let work = self.work.clone();
        let work = move |partition, offset, _| work.clone().on(name, partition, offset);
        let topic = self.topic.clone();
        let (brokers, group) = (self.brokers.clone(), self.group.clone());
        let mut properties = self.properties.clone();
        properties.push(("bootstrap.servers".into(), self.brokers.clone()));
        properties.push(("group.id".into(), self.group.clone()));
        let ended = self.runtime.spawn(async move {
            let properties: Vec<(&str, &str)> =
                properties.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let stopped = async { drop(stopped.await) };
            match program {
                Program::SplitByHand(old_tasks) => {
                    split_queues::run(&properties, &topic, old_tasks, work, stopped).await.expect("an end");
                }
                Program::Lanes => {
                    lanes::as_streams(&properties, &topic, work, stopped).await.expect("an end");
                }
                Program::Handler => {
                    lanes::as_a_handler(&properties, &topic, work, stopped).await.expect("an end");
                }
                Program::EagerHandler => {
                    let consumer = Consumer::builder().brokers(brokers).group(group).topics([topic]);
                    let consumer = consumer.protocol(Protocol::Eager).offset_reset(OffsetReset::Earliest);
                    let consumer = consumer.build().expect("a consumer");
                    let handle = consumer.handle();
                    let run =
                        consumer.run(move |record: Record| work(record.partition(), record.offset(), vec![]));
                    let stop = async {
                        stopped.await;
                        handle.stop();
                    };
                    tokio::join!(run, stop).0.expect("an end");
                }
            }
        });
        Member { stop, ended }
    }

    fn leave(&self, member: Member) {
        member.stop.send(()).expect("a member that runs");
        self.runtime.block_on(member.ended).expect("a member that ends well");
    }

    /// Waits until everything in Kafka was handled, or nothing more was for 10 s: what then is left stays.
    fn settle(&self, recorder: &Recorder) {
        let (mut finished, mut since) = (self.work.finished(), Instant::now());
        wait_until(LONG, "members have done what they do", || {
            let now = self.work.finished();
            if now != finished {
                (finished, since) = (now, Instant::now());
            }
            unfinished(recorder, &self.work).is_empty() || since.elapsed() > Duration::from_secs(10)
        });
    }
}

/// Records that were produced and that nobody has finished.
fn unfinished(recorder: &Recorder, work: &Work) -> Vec<(i32, i64)> {
    let done = work.done.lock().unwrap();
    let history = recorder.history();
    let produced = history.events().iter().filter_map(|event| match &event.what {
        What::Produced { partition, offset, .. } => Some((partition.partition, *offset)),
        _ => None,
    });
    produced.filter(|record| done.get(record).is_none_or(|done| done.finished == 0)).collect()
}

/// A member works; another one joins, and gets half of the partitions; the first one leaves; the other goes on.
fn rolling_deploy(program: Program, properties: &[(&str, &str)]) -> Option<Counted> {
    move_over(program, program, properties)
}

/// Likewise, where the new member may be of another kind.
fn move_over(old_program: Program, program: Program, properties: &[(&str, &str)]) -> Option<Counted> {
    let kafka = real_kafka_or_skip()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let scene = Scene {
        properties: properties.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        brokers: kafka.brokers().to_owned(),
        topic: unique("deploy"),
        group: unique("group"),
        work: Arc::default(),
        runtime: runtime.expect("a runtime"),
    };
    let admin = Admin::new(&scene.brokers).expect("an admin client");
    admin.create_topic(&scene.topic, PARTITIONS, &[]).expect("a topic");
    let recorder = Recorder::in_memory();
    let producer = Producer::new(&scene.brokers, &[]).expect("a producer").recording(&recorder);
    let send = |records: i32| {
        for number in 0..records {
            producer
                .send(&scene.topic, number % PARTITIONS, None, Some(b"payload"), &[], None)
                .expect("sent");
        }
        producer.flush().expect("delivered");
    };

    let all = PARTITIONS as usize;
    let is_over = AtomicBool::new(false);
    let (producer_is_over, send_now) = (&is_over, &send);
    let new = std::thread::scope(|scope| {
        let _ends = OnDrop(|| is_over.store(true, Ordering::Release));
        scope.spawn(move || {
            while !producer_is_over.load(Ordering::Acquire) {
                send_now(PARTITIONS);
                std::thread::sleep(Duration::from_secs_f64(f64::from(PARTITIONS) / PER_SECOND as f64));
            }
        });
        let old = scene.member("old", old_program);
        wait_until(LONG, "the old member reads everything", || scene.work.partitions_of("old") == all);
        let new = scene.member("new", program);
        wait_until(LONG, "the new member reads its half", || scene.work.partitions_of("new") == all / 2);
        scene.leave(old);
        wait_until(LONG, "the new member reads everything", || scene.work.partitions_of("new") == all);
        new
    });
    // What has piled up is worked off; then there is something new to do in every partition.
    scene.work.is_quick.store(true, Ordering::Release);
    scene.settle(&recorder);
    send(PARTITIONS * 10);
    scene.settle(&recorder);

    let partitions: Vec<_> =
        (0..PARTITIONS).map(|it| TopicPartition::new(scene.topic.as_str(), it)).collect();
    let left = unfinished(&recorder, &scene.work);
    scene.leave(new);
    let committed = admin.committed(&scene.group, &partitions).expect("committed offsets");
    let is_lost = |(partition, offset): &(i32, i64)| {
        committed.get(&partitions[*partition as usize]).is_some_and(|committed| *offset < committed.offset)
    };
    let (lost, waiting): (Vec<_>, Vec<_>) = left.into_iter().partition(is_lost);
    let done = scene.work.done.lock().unwrap();
    let counted = Counted {
        records: done.len() + lost.len() + waiting.len(),
        duplicates: done.values().map(|done| done.begun_by.len() - 1).sum(),
        lost: lost.len(),
        silent: waiting.iter().map(|(partition, _)| partition).collect::<BTreeSet<_>>().len(),
    };
    let Counted { records, duplicates, lost, silent } = counted;
    let from = if old_program == program { String::new() } else { format!("from \"{old_program}\" to ") };
    println!(
        "\n{from}{program}{}:",
        properties.iter().map(|(_, value)| format!(", {value}")).collect::<String>()
    );
    println!(
        "  {records} records, {duplicates} done twice, {lost} lost; {silent} partitions of {PARTITIONS} silent"
    );
    Some(counted)
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
