//! Laneway and its peers, each reading one topic to its end, as a child of the bench measures them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use laneway::{Consumer, Handler, LaneId, LaneState, MakeHandler, OffsetReset, Outcome, Record};
use laneway_testing::unique;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _, StreamConsumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::Failure;
use crate::meter::{Meter, wait_for, wait_until_quiet};
use crate::prefetched::MEMORY;
use crate::stats::Figures;
use crate::sys::BareQueue;

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Client {
    /// A handler that does nothing.
    Laneway,
    /// The same, ordered by key.
    LanewayKeyed,
    /// The same, with one thread.
    LanewayOneThread,
    /// `rd_kafka_consume_batch_queue` in one thread, and nothing else.
    Bare,
    /// `split_partition_queue` and `recv` in a task for each partition.
    Usual,
    /// `StreamConsumer::recv` in one task.
    OneTask,
}

impl Client {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Laneway => "**Laneway**, a handler that does nothing",
            Self::LanewayKeyed => "**Laneway**, the same, ordered by key",
            Self::LanewayOneThread => "**Laneway**, ordered by partition, with one thread",
            Self::Bare => "bare `rd_kafka_consume_batch_queue` loop",
            Self::Usual => "the usual way: split queues, `recv` in a task each",
            Self::OneTask => "`StreamConsumer::recv` in one task",
        }
    }
}

/// What is read, and how.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) client: Client,
    pub(crate) brokers: String,
    pub(crate) topic: String,
    /// Each has as many records.
    pub(crate) partitions: i32,
    pub(crate) records: u64,
    /// Of the client, beside those that all have.
    pub(crate) properties: Vec<(String, String)>,
    /// Everything is fetched before the first record is taken.
    pub(crate) prefetched: bool,
}

/// Reads everything, and tells how fast.
pub(crate) fn read(job: &Job) -> Result<Figures, Failure> {
    match job.client {
        Client::Laneway => with_laneway(job, laneway::Ordering::Partition, WORKERS),
        Client::LanewayKeyed => with_laneway(job, laneway::Ordering::Key, WORKERS),
        Client::LanewayOneThread => with_laneway(job, laneway::Ordering::Partition, 1),
        Client::Bare if job.prefetched => bare_and_split(job),
        Client::Bare => bare(job),
        Client::Usual => usual(job),
        Client::OneTask => one_task(job),
    }
}

pub(crate) fn runtime() -> Result<Runtime, Failure> {
    runtime_of(WORKERS)
}

fn runtime_of(workers: usize) -> Result<Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?)
}

/// Counts the records of one lane. Only its task writes.
pub(crate) struct CountingLane {
    seen: AtomicU64,
    reads: Arc<Reads>,
}

pub(crate) struct Reads {
    pub(crate) meter: Meter,
    pub(crate) gate: Gate,
    /// Of each partition.
    pub(crate) records: u64,
}

pub(crate) struct CountingLanes(pub(crate) Arc<Reads>);

impl MakeHandler for CountingLanes {
    type Handler = CountingLane;

    /// Keeps the runtime's thread, so that no lane takes a record before the gate opens: the fetcher has its own.
    fn make(&self, _: &LaneId) -> CountingLane {
        self.0.gate.pass();
        CountingLane { seen: AtomicU64::new(0), reads: self.0.clone() }
    }
}

impl Handler for CountingLane {
    async fn handle(&self, _: Record) -> Outcome {
        let seen = self.seen.load(Ordering::Relaxed) + 1;
        self.seen.store(seen, Ordering::Relaxed);
        if seen == 1 {
            self.reads.meter.begin();
        }
        if seen == self.reads.records {
            self.reads.meter.one_is_done();
        }
        Outcome::Done
    }
}

fn with_laneway(job: &Job, ordering: laneway::Ordering, workers: usize) -> Result<Figures, Failure> {
    let reads = Arc::new(Reads {
        meter: Meter::new(usize::try_from(job.partitions)?),
        gate: Gate::new(!job.prefetched),
        records: job.records,
    });
    let mut builder = Consumer::builder()
        .brokers(&job.brokers)
        .group(unique("bench"))
        .topics([&job.topic])
        .offset_reset(OffsetReset::Earliest)
        .ordering(ordering);
    for (key, value) in &job.properties {
        builder = builder.property(key, value);
    }
    if job.prefetched {
        builder = builder.memory(MEMORY);
    }
    let consumer = builder.build()?;
    let handle = consumer.handle();
    let runtime = runtime_of(workers)?;
    runtime.spawn(consumer.run_lanes(CountingLanes(reads.clone())));
    if job.prefetched {
        wait_for("all lanes run", || {
            let lanes = handle.status().lanes;
            let running = lanes.iter().filter(|lane| lane.state == LaneState::Running).count();
            running == job.partitions.unsigned_abs() as usize
        })?;
        wait_until_quiet()?;
        reads.meter.begin();
        reads.gate.open();
    }
    reads.meter.wait(total(job))
}

fn bare(job: &Job) -> Result<Figures, Failure> {
    let consumer: BaseConsumer = consumer(job)?;
    let mut queue = BareQueue::of_consumer(&consumer);
    consumer.assign(&from_the_beginning(job)?)?;
    let meter = Meter::new(1);
    let mut left = total(job);
    while left > 0 {
        let taken = queue.take(Duration::from_millis(10), |_| {})?;
        if taken > 0 {
            meter.begin();
        }
        left = left.saturating_sub(taken as u64);
    }
    meter.one_is_done();
    meter.wait(total(job))
}

fn bare_and_split(job: &Job) -> Result<Figures, Failure> {
    let consumer: BaseConsumer = consumer(job)?;
    let queues = (0..job.partitions).map(|number| BareQueue::of_partition(&consumer, &job.topic, number));
    let mut queues: Vec<BareQueue<'_>> = queues.collect::<Result<_, _>>()?;
    consumer.assign(&from_the_beginning(job)?)?;
    wait_until_quiet()?;
    let meter = Meter::new(1);
    let mut left = total(job);
    meter.begin();
    while left > 0 {
        for queue in &mut queues {
            left = left.saturating_sub(queue.take(Duration::ZERO, |_| {})? as u64);
        }
    }
    meter.one_is_done();
    meter.wait(total(job))
}

fn usual(job: &Job) -> Result<Figures, Failure> {
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let consumer: Arc<StreamConsumer> = Arc::new(consumer(job)?);
    let split = |number| {
        let queue = consumer.split_partition_queue(&job.topic, number);
        queue.ok_or_else(|| format!("partition {number} could not be split"))
    };
    let queues = (0..job.partitions).map(split).collect::<Result<Vec<_>, _>>()?;
    consumer.assign(&from_the_beginning(job)?)?;
    let main = consumer.clone();
    runtime.spawn(async move {
        loop {
            if let Err(error) = main.recv().await {
                eprintln!("the main stream: {error}");
            }
        }
    });
    let meter = Arc::new(Meter::new(queues.len()));
    if job.prefetched {
        wait_until_quiet()?;
        meter.begin();
    }
    for queue in queues {
        let (meter, records) = (meter.clone(), job.records);
        runtime.spawn(async move {
            let mut seen = 0;
            while seen < records {
                match queue.recv().await {
                    Ok(_) => seen += 1,
                    Err(error) => eprintln!("a partition's queue: {error}"),
                }
                if seen == 1 {
                    meter.begin();
                }
            }
            meter.one_is_done();
        });
    }
    meter.wait(total(job))
}

fn one_task(job: &Job) -> Result<Figures, Failure> {
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let consumer: StreamConsumer = consumer(job)?;
    consumer.assign(&from_the_beginning(job)?)?;
    let meter = Arc::new(Meter::new(1));
    if job.prefetched {
        wait_until_quiet()?;
    }
    let (of_task, mut left) = (meter.clone(), total(job));
    runtime.spawn(async move {
        while left > 0 {
            match consumer.recv().await {
                Ok(_) => {
                    of_task.begin();
                    left -= 1;
                }
                Err(error) => eprintln!("the stream: {error}"),
            }
        }
        of_task.one_is_done();
    });
    meter.wait(total(job))
}

/// A peer. It commits nothing, and waits for the broker's answers as Laneway does.
pub(crate) fn consumer<C: FromClientConfig>(job: &Job) -> Result<C, Failure> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &job.brokers)
        .set("group.id", unique("bench"))
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "1");
    config.extend(job.properties.iter().cloned());
    Ok(config.create()?)
}

pub(crate) fn from_the_beginning(job: &Job) -> Result<TopicPartitionList, Failure> {
    let mut list = TopicPartitionList::new();
    for number in 0..job.partitions {
        list.add_partition_offset(&job.topic, number, Offset::Offset(0))?;
    }
    Ok(list)
}

pub(crate) fn total(job: &Job) -> u64 {
    job.records * u64::from(job.partitions.unsigned_abs())
}

/// Closed until it is opened, once. What passes blocks its thread.
pub(crate) struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn new(is_open: bool) -> Self {
        Self { is_open: Mutex::new(is_open), opened: Condvar::new() }
    }

    pub(crate) fn open(&self) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    pub(crate) fn pass(&self) {
        let is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(is_open, |is_open| !*is_open));
    }
}

/// Threads of the runtime.
const WORKERS: usize = 2;
