//! `laneway demo`: an embedded Kafka, traffic, and members that come and go, in one process. Needs
//! nothing.

mod members;
mod show;
mod traffic;
mod truth;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use laneway_testing::EmbeddedKafka;

use crate::args::{DemoArgs, Format};
use members::{Group, Log, Slot};
use show::{Screen, Snapshot};
use traffic::Traffic;
use truth::Truth;

/// What the demo is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// How long it runs; until it is interrupted if not given.
    pub(crate) seconds: Option<u64>,
    pub(crate) members: usize,
    pub(crate) partitions: i32,
    /// Records a second, over all partitions.
    pub(crate) rate: u64,
    pub(crate) json: bool,
}

impl From<DemoArgs> for Options {
    fn from(args: DemoArgs) -> Self {
        Self {
            seconds: args.seconds,
            members: usize::from(args.members),
            partitions: args.partitions,
            rate: args.rate,
            json: args.format == Format::Json,
        }
    }
}

/// Runs the demo to its end. Exit code 0 only if nothing was lost, done twice or astray.
pub(crate) fn run(options: &Options) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("could not start a runtime: {error}")),
    };
    match runtime.block_on(play(options)) {
        Ok(snapshot) if snapshot.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("laneway: {error}");
    ExitCode::FAILURE
}

async fn play(options: &Options) -> Result<Snapshot, String> {
    let stopping = stop_on_signals()?;
    let kafka =
        EmbeddedKafka::start().map_err(|error| format!("could not start the embedded Kafka: {error}"))?;
    kafka
        .create_topic(TOPIC, options.partitions)
        .map_err(|error| format!("could not make the demo's topic: {error}"))?;
    let group = Group {
        brokers: kafka.brokers().to_owned(),
        topic: TOPIC.to_owned(),
        truth: Arc::new(Truth::new(usize::try_from(options.partitions).unwrap_or(0))),
        strays: Arc::new(AtomicU64::new(0)),
        log: Arc::new(Log::default()),
    };
    let mut slots: Vec<Slot> =
        (1..=options.members).map(|number| Slot::new(format!("member-{number}"))).collect();
    for slot in &mut slots {
        slot.join(&group).map_err(|error| error.to_string())?;
    }
    let traffic = Traffic::start(&group, options)?;
    let mut screen = Screen::new(options.json);
    let started = Instant::now();
    let mut last = Snapshot::default();
    let mut next_change = started + CHANGE_EVERY;
    let mut changes = 0;
    loop {
        tokio::time::sleep(SHOW_EVERY).await;
        last = Snapshot::take(started, &group, &slots, last);
        screen.show(&last).map_err(|error| error.to_string())?;
        let is_over = options.seconds.is_some_and(|seconds| started.elapsed().as_secs() >= seconds);
        if is_over || stopping.load(Ordering::Acquire) || screen.is_gone() {
            break;
        }
        if Instant::now() >= next_change {
            next_change += CHANGE_EVERY;
            change(&mut slots, &group, changes).await?;
            changes += 1;
        }
    }
    traffic.stop()?;
    drain(&mut slots, &group).await?;
    let mut end = Snapshot::take(started, &group, &slots, last);
    end.is_final = true;
    screen.finish(&end).map_err(|error| error.to_string())?;
    Ok(end)
}

/// One member after the other leaves, and comes back at the next change.
async fn change(slots: &mut [Slot], group: &Group, number: usize) -> Result<(), String> {
    let many = slots.len();
    if let Some(empty) = slots.iter_mut().find(|slot| !slot.is_taken()) {
        return empty.join(group).map_err(|error| error.to_string());
    }
    let leaves = &mut slots[(number / 2) % many];
    leaves.leave(group).await.map_err(|error| error.to_string())?;
    if many == 1 {
        leaves.join(group).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Waits until everything that was produced is finished, then has all members leave.
async fn drain(slots: &mut [Slot], group: &Group) -> Result<(), String> {
    let is_anybody_here = slots.iter().any(Slot::is_taken);
    if let Some(slot) = slots.first_mut().filter(|_| !is_anybody_here) {
        slot.join(group).map_err(|error| error.to_string())?;
    }
    let deadline = Instant::now() + DRAIN_WITHIN;
    while Instant::now() < deadline {
        let counts = group.truth.counts();
        if counts.finished >= counts.produced {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for slot in slots {
        slot.leave(group).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The first SIGINT or SIGTERM ends the demo in order, the second one at once.
fn stop_on_signals() -> Result<Arc<AtomicBool>, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let stopping = Arc::new(AtomicBool::new(false));
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind).map_err(|error| format!("could not listen for signals: {error}"))?;
        let stopping = stopping.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if stopping.swap(true, Ordering::AcqRel) {
                    show::restore_terminal();
                    std::process::exit(128 + kind.as_raw_value());
                }
            }
        });
    }
    Ok(stopping)
}

const TOPIC: &str = "demo";
/// How often a member leaves or comes.
const CHANGE_EVERY: Duration = Duration::from_secs(3);
/// How often the numbers are shown.
const SHOW_EVERY: Duration = Duration::from_secs(1);
/// How long what was produced may take to be finished at the end.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);
