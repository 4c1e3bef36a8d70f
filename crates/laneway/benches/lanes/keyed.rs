//! Records of a key in their order, keys side by side: how near that comes to what the handlers alone would take.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use laneway::{Consumer, Handler, LaneId, LaneState, MakeHandler, OffsetReset, Outcome, Record};
use laneway_testing::unique;
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::child::{self, Task};
use crate::clients::{Gate, runtime};
use crate::doc::Section;
use crate::kafka::Kafka;
use crate::load::Load;
use crate::meter::{Meter, Stamp, wait_for, wait_until_quiet};
use crate::options::Options;
use crate::prefetched::{MEMORY, everything_ahead};
use crate::stats::{Figures, Runs, thousands, times, verdict};
use crate::sys;

/// One combination: what is handled, how long, how many at once.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Cell {
    brokers: String,
    topic: String,
    /// What a handler sleeps; 0: it does nothing.
    milliseconds: u64,
    in_flight: usize,
    records: u64,
}

pub(crate) fn measure(options: &Options) -> Result<Section, Failure> {
    let (seconds, runs) = (if options.quick { 2.0 } else { 8.0 }, options.runs(1, 3));
    let most = options.records(400_000, 1_000_000);
    let kafka = Kafka::start()?;
    let zipf = Zipf::new(KEYS);
    let mut topics: HashMap<(&str, u64), String> = HashMap::new();
    let mut cells = Vec::new();
    for milliseconds in [0, 1, 10, 100] {
        for keys in ["uniform", "Zipf"] {
            for in_flight in [1, 16, 256, 4_096] {
                // Of the busiest key, which is handled one by one, or of all, as much as takes so many seconds.
                let one = (milliseconds as f64 + 1.1) / 1e3;
                let share = if keys == "Zipf" { zipf.share_of_first() } else { 0.0 };
                let wanted = seconds / one / share.max(1.0 / in_flight as f64);
                let records = if milliseconds == 0 { most } else { (wanted as u64).clamp(20, most) };
                // All of a topic is handled: what is left out would be what waits, and that is the busiest key.
                let topic = match topics.get(&(keys, records)) {
                    Some(topic) => topic.clone(),
                    None => {
                        let topic = produce(&kafka, &zipf, keys, records)?;
                        topics.insert((keys, records), topic.clone());
                        topic
                    }
                };
                let brokers = kafka.brokers().to_owned();
                cells.push((
                    keys,
                    Cell { brokers, topic, milliseconds, in_flight, records },
                    Runs::default(),
                ));
            }
        }
    }
    for run in 1..=runs {
        for (keys, cell, of_cell) in &mut cells {
            let figures = child::run(&Task::Keyed(cell.clone()))?;
            let (took, at_once) = (cell.milliseconds, cell.in_flight);
            println!("bench: run {run}, {took} ms, {keys}, {at_once}: {}", crate::stats::line(&figures));
            of_cell.push(figures);
        }
    }
    tell(options, runs, &cells)
}

fn produce(kafka: &Kafka, zipf: &Zipf, keys: &str, records: u64) -> Result<String, Failure> {
    println!("bench: a topic with {} records, keys {keys}", thousands(records));
    let place = |number: u64| {
        let chance = mix(number);
        let key = if keys == "Zipf" { zipf.key(chance) } else { chance % KEYS };
        ((key % u64::from(PARTITIONS.unsigned_abs())) as i32, Some(key.to_string()))
    };
    let load = Load { partitions: PARTITIONS, records, payload: 100, properties: &[], place: &place };
    load.produce(kafka.brokers())
}

fn tell(options: &Options, runs: usize, cells: &[(&str, Cell, Runs)]) -> Result<Section, Failure> {
    let mut section = Section::new("By key", &options.command("keyed"));
    section.push(&format!(
        "`Ordering::Key`, {PARTITIONS} partitions, {} keys, uniform or Zipf (1.0: the busiest has {:.1} % of all records), all \
         fetched before the first handler begins. The bound is what the handlers alone would take: their *measured* run \
         times (tokio's sleep of 1 ms takes up to twice that) divided by how many may be in flight, or those of the busiest \
         key, which run one by one, whichever is longer. A record's time in Laneway runs from the moment that it could be \
         begun (what is ahead of it in its key has ended, and a place among those in flight is free) to the begin of its \
         handler; where handlers do nothing, that is the wait for a core. CPU is the process's, and has the reading of the \
         clock and the log of begins and ends in it that the measurement takes; allocations are those of Rust code; where few \
         records pass in a second, both are what the client does beside them. Medians of {}.\n",
        thousands(KEYS),
        Zipf::new(KEYS).share_of_first() * 100.0,
        times(runs),
    ));
    section.push("| handler | keys | in flight | records | records/s | of the bound | in Laneway: p50 | p99 | p999 | CPU per record | allocations |");
    section.push("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut missed = Vec::new();
    for (keys, cell, of_cell) in cells {
        let bound = of_cell.median("of bound")?;
        if cell.milliseconds == 1 && bound < 0.95 {
            missed.push(format!("{keys} with {} in flight", thousands(cell.in_flight as u64)));
        }
        let micros = |name: &str| -> Result<String, Failure> { Ok(duration(of_cell.median(name)?)) };
        section.push(&format!(
            "| {} ms | {keys} | {} | {} | {} | {} | {} | {} | {} | {} | {:.2} |",
            cell.milliseconds,
            thousands(cell.in_flight as u64),
            thousands(cell.records),
            thousands(of_cell.median("records/s")? as u64),
            if cell.milliseconds == 0 { "–".into() } else { format!("{:.1} %", bound * 100.0) },
            micros("p50")?,
            micros("p99")?,
            micros("p999")?,
            duration(of_cell.median("ns/record")?),
            of_cell.median("allocations")?,
        ));
    }
    section.push(&format!(
        "\nWith handlers of 1 ms at least 95 % of the bound: {}{}.",
        verdict(missed.is_empty()),
        if missed.is_empty() { String::new() } else { format!(", with keys {}", missed.join("; ")) },
    ));
    Ok(section)
}

fn duration(nanoseconds: f64) -> String {
    match nanoseconds {
        it if it < 1e3 => format!("{it:.0} ns"),
        it if it < 1e6 => format!("{:.1} µs", it / 1e3),
        it => format!("{:.1} ms", it / 1e6),
    }
}

/// What the handlers of all lanes share.
struct Scene {
    gate: Gate,
    meter: Meter,
    sleep: Duration,
    left: AtomicU64,
    records: u64,
    opened: std::sync::OnceLock<Instant>,
    logs: Mutex<Vec<Arc<Log>>>,
}

type Log = Mutex<Vec<Handled>>;

/// One handled record; times in nanoseconds since the gate was opened.
#[derive(Clone, Copy)]
struct Handled {
    key: u64,
    offset: i64,
    begun: u64,
    ended: u64,
}

struct Lanes(Arc<Scene>);

struct OfLane {
    scene: Arc<Scene>,
    /// Only this lane's task writes, so nobody waits for it.
    log: Arc<Log>,
}

impl MakeHandler for Lanes {
    type Handler = OfLane;

    fn make(&self, _: &LaneId) -> OfLane {
        let log = Arc::new(Mutex::new(Vec::with_capacity(self.0.records as usize)));
        self.0.logs.lock().unwrap_or_else(PoisonError::into_inner).push(log.clone());
        self.0.gate.pass();
        OfLane { scene: self.0.clone(), log }
    }
}

impl Handler for OfLane {
    async fn handle(&self, record: Record) -> Outcome {
        let scene = &*self.scene;
        let now = || scene.opened.get().map_or(0, |opened| opened.elapsed().as_nanos() as u64);
        let begun = now();
        let digits = record.key().unwrap_or_default().iter();
        let key = digits.fold(0, |key: u64, digit| key * 10 + u64::from(digit - b'0'));
        if !scene.sleep.is_zero() {
            tokio::time::sleep(scene.sleep).await;
        }
        let handled = Handled { key, offset: record.offset(), begun, ended: now() };
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(handled);
        if scene.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            scene.meter.one_is_done();
        }
        Outcome::Done
    }
}

/// As a child.
pub(crate) fn handle(cell: &Cell) -> Result<Figures, Failure> {
    let scene = Arc::new(Scene {
        gate: Gate::new(false),
        meter: Meter::new(1),
        sleep: Duration::from_millis(cell.milliseconds),
        left: AtomicU64::new(cell.records),
        records: cell.records,
        opened: std::sync::OnceLock::new(),
        logs: Mutex::default(),
    });
    let mut builder = Consumer::builder()
        .brokers(&cell.brokers)
        .group(unique("bench"))
        .topics([&cell.topic])
        .offset_reset(OffsetReset::Earliest)
        .ordering(laneway::Ordering::Key)
        .concurrency(cell.in_flight)
        .memory(MEMORY);
    for (key, value) in everything_ahead() {
        builder = builder.property(key, value);
    }
    let consumer = builder.build()?;
    let handle = consumer.handle();
    let runtime = runtime()?;
    runtime.spawn(consumer.run_lanes(Lanes(scene.clone())));
    wait_for("all lanes run", || {
        let lanes = handle.status().lanes;
        let running = lanes.iter().filter(|lane| lane.state == LaneState::Running).count();
        running == PARTITIONS.unsigned_abs() as usize
    })?;
    wait_until_quiet()?;
    sys::count_allocations();
    scene.meter.begin();
    scene.opened.get_or_init(|| Stamp::now().at);
    scene.gate.open();
    let mut figures = scene.meter.wait(cell.records)?;
    let allocations = sys::allocated().times as f64 / cell.records as f64;
    figures.insert("allocations".into(), allocations);
    let logs = scene.logs.lock().unwrap_or_else(PoisonError::into_inner);
    let mut handled = Vec::new();
    for log in logs.iter() {
        handled.extend_from_slice(&log.lock().unwrap_or_else(PoisonError::into_inner));
    }
    figures.extend(analyse(handled, cell.in_flight));
    Ok(figures)
}

/// What the log says.
fn analyse(mut handled: Vec<Handled>, in_flight: usize) -> Figures {
    let mut ends: Vec<u64> = handled.iter().map(|it| it.ended).collect();
    ends.sort_unstable();
    // When the record ahead of each in its key ended.
    handled.sort_unstable_by_key(|it| (it.key, it.offset));
    let mut ahead = Vec::with_capacity(handled.len());
    let mut run_times: HashMap<u64, u64> = HashMap::new();
    let mut last: Option<Handled> = None;
    for it in &handled {
        let ended = last.filter(|last| last.key == it.key).map_or(0, |last| last.ended);
        ahead.push((it.begun, ended));
        *run_times.entry(it.key).or_default() += it.ended - it.begun;
        last = Some(*it);
    }
    ahead.sort_unstable();
    // Before the n-th record began, all but so many as may be in flight of those before it had ended: when the last of
    // those did, its place was free.
    let mut waits: Vec<u64> = Vec::with_capacity(ahead.len());
    for (number, (begun, ended_ahead)) in ahead.iter().enumerate() {
        let free = number.checked_sub(in_flight).map_or(0, |at| ends[at]);
        waits.push(begun.saturating_sub(free.max(*ended_ahead)));
    }
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() as f64 * share) as usize).min(waits.len() - 1)] as f64;
    let total: u64 = run_times.values().sum();
    let busiest = run_times.values().max().copied().unwrap_or(0) as f64;
    let bound = (total as f64 / in_flight as f64).max(busiest);
    let took = ends.last().copied().unwrap_or(0) as f64;
    Figures::from([
        ("of bound".into(), bound / took),
        ("p50".into(), at(0.5)),
        ("p99".into(), at(0.99)),
        ("p999".into(), at(0.999)),
    ])
}

/// Keys of which the n-th comes with a frequency of 1/n.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(keys: u64) -> Self {
        let mut sum = 0.0;
        Self(
            (1..=keys)
                .map(|rank| {
                    sum += 1.0 / rank as f64;
                    sum
                })
                .collect(),
        )
    }

    fn key(&self, chance: u64) -> u64 {
        let sum = self.0.last().copied().unwrap_or(1.0);
        let at = (chance >> 11) as f64 / (1_u64 << 53) as f64 * sum;
        self.0.partition_point(|below| *below <= at) as u64
    }

    /// The part of all records that the busiest key has.
    fn share_of_first(&self) -> f64 {
        1.0 / self.0.last().copied().unwrap_or(1.0)
    }
}

/// SplitMix64: a number that looks like chance.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

const PARTITIONS: i32 = 12;
const KEYS: u64 = 100_000;
