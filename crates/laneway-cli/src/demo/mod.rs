//! `laneway demo`: an embedded Kafka, traffic, and members that come and go, in one process. Needs
//! nothing.

mod frame;
mod log;
mod members;
mod pace;
mod show;
mod terminal;
mod traffic;
mod truth;
mod watch;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use laneway_testing::EmbeddedKafka;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch::{Receiver, Sender, channel};

use crate::args::{DemoArgs, Format};
use crate::stderr::say;
use log::Log;
use members::{Group, Slot};
use pace::Pace;
use show::{Camera, Screen, Snapshot};
use traffic::Traffic;
use truth::Truth;
use watch::{Speed, Watch};

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
    say(error);
    ExitCode::FAILURE
}

async fn play(options: &Options) -> Result<Snapshot, String> {
    let (end, ending) = channel(false);
    let end = Arc::new(end);
    end_on_signals(&end)?;
    let kafka =
        EmbeddedKafka::start().map_err(|error| format!("could not start the embedded Kafka: {error}"))?;
    kafka
        .create_topic(TOPIC, options.partitions)
        .map_err(|error| format!("could not make the demo's topic: {error}"))?;
    let partitions = usize::try_from(options.partitions).unwrap_or(0);
    let group = Group {
        brokers: kafka.brokers().to_owned(),
        topic: TOPIC.to_owned(),
        truth: Arc::new(Truth::new(partitions)),
        pace: Arc::new(Pace::new(options.partitions)),
        strays: Arc::new(AtomicU64::new(0)),
        log: Arc::new(Log::default()),
    };
    let slots: Vec<Slot> =
        (1..=options.members).map(|number| Slot::new(format!("member-{number}"))).collect();
    let started = Instant::now();
    let mut camera = Camera {
        group: group.clone(),
        seats: slots.iter().map(Slot::seat).collect(),
        partitions,
        of_seconds: options.seconds,
        started,
        watch: Watch::default(),
        speed: Speed::from_nothing(started),
    };
    // Beside what is shown: a reader that takes its time, or a terminal that was stopped, holds nothing up.
    let mut acts = tokio::spawn(act(slots, group, options.clone(), ending.clone()));
    let failed = |error: std::io::Error| format!("could not write to standard output: {error}");
    let mut screen = Screen::new(options.json).map_err(failed)?;
    let mut shows = tokio::time::interval(screen.shows_every());
    shows.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    shows.reset();
    let over = tokio::time::sleep(options.seconds.map_or(FOR_EVER, Duration::from_secs));
    let mut over = std::pin::pin!(over);
    let mut suspended = signal(SignalKind::from_raw(libc::SIGTSTP))
        .map_err(|error| format!("could not listen for signals: {error}"))?;
    let acted = loop {
        tokio::select! {
            acted = &mut acts => break acted,
            () = &mut over, if !*ending.borrow() => { end.send_replace(true); }
            _ = suspended.recv() => screen.suspend().map_err(failed)?,
            _ = shows.tick() => {
                let mut snapshot = camera.take();
                snapshot.ends = *ending.borrow();
                screen.show(&snapshot).map_err(failed)?;
                if screen.is_gone() {
                    end.send_replace(true);
                }
            }
        }
    };
    acted.unwrap_or_else(|_| Err("the demo's members panicked".into()))?;
    let mut last = camera.take();
    last.is_final = true;
    screen.finish(&last).map_err(failed)?;
    Ok(last)
}

/// Members come and go, until it is to end; then everything is finished, and all of them leave.
async fn act(
    mut slots: Vec<Slot>,
    group: Group,
    options: Options,
    mut ending: Receiver<bool>,
) -> Result<(), String> {
    for slot in &mut slots {
        slot.join(&group).map_err(|error| error.to_string())?;
    }
    let traffic = Traffic::start(&group, &options)?;
    let mut next_change = tokio::time::Instant::now() + CHANGE_EVERY;
    let mut changes = 0;
    loop {
        tokio::select! {
            // An error means that nobody can end it any more.
            _ = ending.wait_for(|ending| *ending) => break,
            () = tokio::time::sleep_until(next_change) => {}
        }
        next_change += CHANGE_EVERY;
        change(&mut slots, &group, changes).await?;
        changes += 1;
    }
    let stopped = tokio::task::spawn_blocking(|| traffic.stop()).await;
    stopped.unwrap_or_else(|_| Err("the demo's traffic panicked".into()))?;
    drain(&mut slots, &group).await
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
fn end_on_signals(end: &Arc<Sender<bool>>) -> Result<(), String> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind).map_err(|error| format!("could not listen for signals: {error}"))?;
        let end = end.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if end.send_replace(true) {
                    terminal::restore();
                    std::process::exit(128 + kind.as_raw_value());
                }
            }
        });
    }
    Ok(())
}

const TOPIC: &str = "demo";
/// How often a member leaves or comes.
const CHANGE_EVERY: Duration = Duration::from_secs(3);
/// How long what was produced may take to be finished at the end.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);
/// As good as.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
