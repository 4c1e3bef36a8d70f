//! How long it takes from an assignment to the first record of every lane.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use laneway::{Closing, Consumer, Event, Handler, LaneId, MakeHandler, OffsetReset, Outcome, Record};
use laneway_testing::unique;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::child::{self, Task};
use crate::clients::{self, Client, Job, runtime};
use crate::doc::Section;
use crate::kafka::Kafka;
use crate::load::{Load, in_rows};
use crate::meter::wait_for;
use crate::options::Options;
use crate::stats::{Figures, Runs, thousands, verdict};
use crate::sys::BareQueue;

/// A start of lanes whose partitions have records.
#[derive(Serialize, Deserialize)]
pub(crate) struct Start(Job);

pub(crate) fn measure(options: &Options) -> Result<Section, Failure> {
    let (records, runs) = (options.records(1_000, 1_000), options.runs(5, 15));
    let kafka = Kafka::start()?;
    let partition = in_rows(PARTITIONS, records);
    let place = &|number| (partition(number), None);
    let all = records * u64::from(PARTITIONS.unsigned_abs());
    let load = Load { partitions: PARTITIONS, records: all, payload: 100, properties: &[], place };
    let topic = load.produce(kafka.brokers())?;
    let mut measured = [Client::Laneway, Client::Bare].map(|client| (client, Runs::default()));
    for run in 1..=runs {
        for (client, of_client) in &mut measured {
            let job = Job {
                client: *client,
                brokers: kafka.brokers().into(),
                topic: topic.clone(),
                partitions: PARTITIONS,
                records,
                properties: Vec::new(),
                prefetched: false,
            };
            let figures = child::run(&Task::Start(Start(job)))?;
            println!("bench: run {run}, {client:?}: {}", crate::stats::line(&figures));
            of_client.push(figures);
        }
    }
    let mut section = Section::new("Start of lanes", &options.command("start"));
    section.push(&format!(
        "{PARTITIONS} partitions with {} records each, all assigned to one member at once, from a real broker. Of Laneway the \
         clock runs from two points: the rebalance event (before where each lane is to begin is asked for, and the commit of \
         what was found), and the moment that the lanes begin (`Event::Assigned`); to the begin of the handler of the first \
         record of the last lane. The bare client knows where to begin, and its clock runs from the call of `assign`. Its \
         connections stand, as Laneway's do. Medians of {runs} runs, which take turns.\n",
        thousands(records),
    ));
    section.push("| | milliseconds | lowest and highest |");
    section.push("| --- | --- | --- |");
    let names = [
        ("Laneway, from the rebalance event", 0, "from event ms"),
        ("**Laneway**, from the begin of the lanes", 0, "ms"),
        ("bare librdkafka, from `assign`", 1, "ms"),
    ];
    for (title, at, name) in names {
        let of = &measured[at].1;
        let Ok(median) = of.median(name) else {
            section.push(&format!("| {title} | each look at it came too late | |"));
            continue;
        };
        let (low, high) = of.range(name);
        section.push(&format!("| {title} | {median:.1} | {low:.1}–{high:.1} |"));
    }
    let ours = measured[0].1.median("ms")?;
    section.push(&format!(
        "\nAt most 50 ms from assignment to the first record of every lane: {}, counted from the begin of the lanes.",
        verdict(ours <= 50.0),
    ));
    Ok(section)
}

/// As a child.
pub(crate) fn start(start: &Start) -> Result<Figures, Failure> {
    match start.0.client {
        Client::Laneway => lanes(&start.0),
        _ => bare(&start.0),
    }
}

/// When what happened.
#[derive(Default)]
struct Times {
    assigned: OnceLock<Instant>,
    last: Mutex<Option<Instant>>,
    begun: AtomicUsize,
}

struct Firsts(Arc<Times>);

struct First {
    times: Arc<Times>,
    has_begun: OnceLock<()>,
}

impl MakeHandler for Firsts {
    type Handler = First;

    fn make(&self, _: &LaneId) -> First {
        First { times: self.0.clone(), has_begun: OnceLock::new() }
    }
}

impl Handler for First {
    async fn handle(&self, _: Record) -> Outcome {
        if self.has_begun.set(()).is_ok() {
            *self.times.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.times.begun.fetch_add(1, Ordering::AcqRel);
        }
        Outcome::Done
    }

    async fn close(&self, _: Closing) {}
}

fn lanes(job: &Job) -> Result<Figures, Failure> {
    let times = Arc::new(Times::default());
    let of_event = times.clone();
    let consumer = Consumer::builder()
        .brokers(&job.brokers)
        .group(unique("bench"))
        .topics([&job.topic])
        .offset_reset(OffsetReset::Earliest)
        .on_event(move |event| {
            if matches!(event, Event::Assigned { .. }) {
                of_event.assigned.get_or_init(Instant::now);
            }
        })
        .build()?;
    let handle = consumer.handle();
    let runtime = runtime()?;
    runtime.spawn(consumer.run_lanes(Firsts(times.clone())));
    // Nothing tells of the event itself but the status. On a busy machine the look at it can come too late; then only
    // the begin of the lanes is known of this run.
    let mut event = None;
    wait_for("lanes are assigned", || {
        let is_held = handle.status().rebalancing;
        let is_assigned = times.assigned.get().is_some();
        if is_held && !is_assigned && event.is_none() {
            event = Some(Instant::now());
        }
        is_assigned
    })?;
    wait_for("every lane has its first record", || {
        times.begun.load(Ordering::Acquire) == job.partitions.unsigned_abs() as usize
    })?;
    let last = times.last.lock().unwrap_or_else(PoisonError::into_inner).ok_or("no record came")?;
    let assigned = *times.assigned.get().ok_or("no lanes were assigned")?;
    let since = |from: Instant| last.saturating_duration_since(from).as_secs_f64() * 1e3;
    let mut figures = Figures::from([("ms".into(), since(assigned))]);
    figures.extend(event.map(|event| ("from event ms".into(), since(event))));
    Ok(figures)
}

fn bare(job: &Job) -> Result<Figures, Failure> {
    let consumer: BaseConsumer = clients::consumer(job)?;
    // So that it is connected, and knows the topic.
    consumer.fetch_metadata(Some(&job.topic), Duration::from_secs(30))?;
    let mut queue = BareQueue::of_consumer(&consumer);
    let started = Instant::now();
    consumer.assign(&clients::from_the_beginning(job)?)?;
    let mut seen = HashSet::new();
    while seen.len() < job.partitions.unsigned_abs() as usize {
        if started.elapsed() > Duration::from_secs(60) {
            return Err("some partitions brought nothing within a minute".into());
        }
        queue.take(Duration::from_millis(1), |partition| {
            seen.insert(partition);
        })?;
    }
    Ok(Figures::from([("ms".into(), started.elapsed().as_secs_f64() * 1e3)]))
}

const PARTITIONS: i32 = 100;
