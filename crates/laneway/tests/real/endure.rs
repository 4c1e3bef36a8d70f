//! A long run of one member, by command (`cargo xtask soak --minutes 60`): traffic, others that come and go, and a
//! broker that is restarted now and then. What the member's process has of the system must not grow.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use laneway::Protocol;
use laneway_testing::history::{Expect, History, Recorder, What, check};
use laneway_testing::{Process, unique, wait_until};

use crate::support::{Scene, Spec, Work, own_kafka};

const LONG: Duration = Duration::from_secs(120);
const SAMPLE: Duration = Duration::from_secs(2);
const RESTART: Duration = Duration::from_secs(120);
/// What a machine that has too much to do stands still for, at least, before sessions of 6 s may be over.
const STANDSTILL: Duration = Duration::from_secs(3);
/// How long after a broker's death what was not committed may come again: its start, and a session.
const AFTERMATH: Duration = Duration::from_secs(75);
/// How long a partition may be silent: for a broker that is started again, and a session.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a partition may be silent whose coordinator has lost a join: `max.poll.interval.ms`, and a restart.
const LOST_JOIN: Duration = Duration::from_secs(330);
/// How much the line through all samples may rise from its beginning to its end. Memory: a heap that is used again and
/// again in another order is torn to 2 or 3 MiB more or less; a leak of one batch, lane or client for each member that
/// came and went would be more than this after an hour. Threads and handles are counted, and come and go by the few: a
/// leak of one at each restart of the broker alone is 30 in an hour.
const LIMITS: [f64; 3] = [5.0 * 1_024.0, 3.0, 5.0];
const NAMES: [&str; 3] = ["resident KiB", "threads", "handles"];

/// What a process has: memory in KiB, threads, handles.
fn footprint(pid: u32) -> [f64; 3] {
    let count = |folder: &str| std::fs::read_dir(format!("/proc/{pid}/{folder}")).expect("a process").count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    let kib: f64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("KiB");
    [kib, count("task") as f64, count("fd") as f64]
}

/// Samples, by the seconds since the first.
#[derive(Default)]
struct Samples(Vec<(f64, [f64; 3])>);

impl Samples {
    /// The slope of the line with the least squares, for a second.
    fn slope(&self, of: usize) -> f64 {
        let count = self.0.len() as f64;
        let mean = |value: fn(&(f64, [f64; 3]), usize) -> f64| {
            self.0.iter().map(|sample| value(sample, of)).sum::<f64>() / count
        };
        let (time, value) = (mean(|sample, _| sample.0), mean(|sample, of| sample.1[of]));
        let products = self.0.iter().map(|sample| (sample.0 - time) * (sample.1[of] - value)).sum::<f64>();
        let squares = self.0.iter().map(|sample| (sample.0 - time).powi(2)).sum::<f64>();
        if squares > 0.0 { products / squares } else { 0.0 }
    }

    fn length(&self) -> f64 {
        self.0.last().map_or(0.0, |(time, _)| *time)
    }

    /// What is above its limit.
    fn broken(&self) -> Vec<String> {
        let risen = |of: usize| self.slope(of) * self.length();
        let broken = (0..3).filter(|&of| risen(of) > LIMITS[of]);
        broken.map(|of| format!("{} rose by {:.1}, above {}", NAMES[of], risen(of), LIMITS[of])).collect()
    }
}

/// Records that were finished again although no broker had died shortly before.
fn repeated_in_peace(history: &History) -> (usize, usize) {
    let (mut seen, mut died) = (HashSet::new(), None);
    let (mut repeated, mut in_peace) = (0, 0);
    for event in history.events() {
        match &event.what {
            What::Killed { .. } => died = Some(event.at),
            What::Finished { lane, offset, .. } if !seen.insert((lane.partition.clone(), *offset)) => {
                repeated += 1;
                in_peace += usize::from(died.is_none_or(|died| event.at > died + AFTERMATH));
            }
            _ => {}
        }
    }
    (repeated, in_peace)
}

/// Whether the coordinator answered members from a group that it had read in part, as Kafka 4.3.1 does at some of its
/// starts: it says of itself that it reads the group twice, and between the two that the generation is one of long ago. A
/// join that came in between is never answered; the group waits for the member, and all others, until the connection is
/// gone or `max.poll.interval.ms` (5 minutes) is over. A generation that was not stored yet may come again, as the last one.
fn coordinator_went_back(log: &str, group: &str) -> bool {
    let of_line = |line: &str| {
        let words = line
            .split_once("with old generation ")
            .or_else(|| line.split_once("Stabilized group ")?.1.split_once(" generation "));
        words?.1.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    let mut highest = 0;
    log.lines().filter(|line| line.contains(group)).filter_map(of_line).any(|generation| {
        highest = highest.max(generation);
        generation + 1 < highest
    })
}

fn endure(protocol: Protocol, time: Duration) {
    let Some(kafka) = own_kafka() else { return };
    let kept = std::env::temp_dir().join(unique("laneway-endure"));
    std::fs::create_dir(&kept).expect("a directory");
    let file = kept.join("history");
    let recorder = Recorder::to_file(&file).expect("a history file");
    let scene = Scene::on(&kafka, "endure", 12, protocol, recorder, Some(file.clone()));
    let work = Work::Sleep(Duration::from_millis(1));
    let spec = Spec { work, logs: Some(kept.clone()), ..Spec::default() };
    let stays = scene.process("stays", &spec);
    let traffic = scene.traffic(200);
    let mut others: Vec<(Instant, Process)> = Vec::new();
    let mut samples = Samples::default();
    let mut number = 0u64;
    let (mut restarts, mut stood_still) = (0u32, 0u32);
    // What is set up once is set up in the first minute.
    let warm = time.mul_f32(0.2).min(Duration::from_secs(60));
    let began = Instant::now();
    let (mut next_member, mut next_restart) = (began, began + RESTART.min(time / 3));
    let (mut next_sample, mut next_line) = (began + warm, began);
    while began.elapsed() < time {
        let now = Instant::now();
        if now >= next_member {
            next_member = now + Duration::from_secs(5 + number % 4);
            let gone = others.iter().position(|(since, _)| since.elapsed() >= Duration::from_secs(7));
            if let Some(index) = gone {
                leave(&others.remove(index).1);
            } else {
                number += 1;
                others.push((now, scene.process(&format!("other{number}"), &spec)));
            }
        }
        if now >= next_restart {
            scene.recorder.killed("broker");
            kafka.kill();
            kafka.start_again().expect("the broker comes back");
            restarts += 1;
            next_restart = Instant::now() + RESTART;
            // A process that joins while there is no broker would have to be waited for.
            next_member = Instant::now() + Duration::from_secs(10);
        }
        if now >= next_sample {
            next_sample = now + SAMPLE;
            samples.0.push(((now - began - warm).as_secs_f64(), footprint(stays.pid())));
        }
        if now >= next_line {
            next_line = now + Duration::from_secs(30);
            let [kib, threads, handles] = footprint(stays.pid());
            println!(
                "{:5} s: {kib:.0} KiB, {threads} threads, {handles} handles; {number} others came, {restarts} restarts",
                began.elapsed().as_secs()
            );
        }
        let slept = Instant::now();
        std::thread::sleep(Duration::from_millis(100));
        if slept.elapsed() > STANDSTILL {
            println!("{:5} s: the machine stood still for {:?}", began.elapsed().as_secs(), slept.elapsed());
            scene.recorder.killed("the machine");
            stood_still += 1;
        }
    }
    traffic.end();
    scene.wait_until_finished_by(&stays, LONG);
    others.iter().for_each(|(_, other)| leave(other));
    leave(&stays);
    for (of, name) in NAMES.iter().enumerate() {
        let (first, last) =
            (samples.0.first().expect("samples").1[of], samples.0.last().expect("samples").1[of]);
        println!("{name}: {first:.0} to {last:.0}, {:+.2} an hour", samples.slope(of) * 3_600.0);
    }
    let history = scene.recorder.history();
    let (repeated, in_peace) = repeated_in_peace(&history);
    let report = check(&history, &Expect::crashes());
    println!(
        "{protocol}, {} s, {number} others, {restarts} restarts, {stood_still} standstills: {report}",
        time.as_secs()
    );
    println!("{repeated} records came again, {in_peace} of them when no broker had died");
    let mut broken = samples.broken();
    if in_peace > 0 {
        broken.push(format!("{in_peace} records came again in peace"));
    }
    if let Some((partition, silence)) = report.longest_silence_of_all().filter(|(_, it)| it.length > SILENCE)
    {
        let silent = format!("{partition} was silent for {:?}", silence.length);
        let log = std::fs::read_to_string(kafka.log()).expect("the broker's log");
        if silence.length < LOST_JOIN && coordinator_went_back(&log, &scene.group) {
            println!("{silent}: the coordinator had answered before it had read the group");
        } else {
            broken.push(format!("{silent}, longer than {SILENCE:?}"));
        }
    }
    if !(report.is_ok() && broken.is_empty()) {
        std::fs::copy(kafka.log(), kept.join("broker.log")).ok();
        println!("the history is kept in {}, with what broker and members logged", kept.display());
    }
    report.assert_ok();
    assert!(broken.is_empty(), "BROKEN: {}", broken.join("; "));
    std::fs::remove_dir_all(&kept).ok();
    println!("HELD");
}

fn leave(process: &Process) {
    process.terminate().expect("a process that runs");
    let mut ended = None;
    wait_until(LONG, "the process ends", || {
        ended = process.wait(Duration::from_millis(100)).ok();
        ended.is_some()
    });
    assert!(ended.is_some_and(|it| it.success()), "{ended:?}: {:#?}", process.stderr());
}

#[test]
#[ignore = "long: cargo xtask soak --minutes N"]
fn soak_one_member_for_minutes() {
    let Some(minutes) = std::env::var("LANEWAY_ENDURE").ok() else { return };
    let minutes: u64 = minutes.parse().expect("minutes");
    let protocol =
        std::env::var("LANEWAY_PROTOCOL").map_or(Protocol::Cooperative, |it| it.parse().expect("a protocol"));
    endure(protocol, Duration::from_secs(60 * minutes));
}

/// Lanes that take little are fetched by a client of their own, which must find their leaders again as well.
#[test]
fn lanes_that_are_quiet_are_read_on_after_their_broker_was_restarted() {
    let Some(kafka) = own_kafka() else { return };
    let scene = Scene::on(&kafka, "quiet", 12, Protocol::Cooperative, Recorder::in_memory(), None);
    let member = scene.member("stays", &Spec::default());
    let traffic = scene.traffic(50);
    for restarts in 0..3 {
        // It takes longer than the lanes to become quiet: 5 s.
        let read = (restarts + 1) * 500;
        wait_until(LONG, "some more is read", || member.handle.status().finished >= read);
        if restarts < 2 {
            kafka.kill();
            kafka.start_again().expect("the broker comes back");
        }
    }
    traffic.end();
    scene.wait_until_finished(LONG);
    member.leave();
    let report = check(&scene.recorder.history(), &Expect::crashes());
    let (partition, silence) = report.longest_silence_of_all().expect("some silence");
    println!("{report}; {partition} was silent for {:?}", silence.length);
    assert!(silence.length < Duration::from_secs(40), "{partition} was silent for {:?}", silence.length);
    report.assert_ok();
}

#[test]
fn a_coordinator_that_answers_from_a_group_of_long_ago_is_found_in_its_log() {
    let of = |generations: &[u64]| {
        let line = |generation: &u64| {
            format!(
                "Preparing to rebalance group g-1 in state PreparingRebalance with old generation {generation} (reason\n\
                     Stabilized group g-1 generation {} with 2 members.\n",
                generation + 1
            )
        };
        coordinator_went_back(&generations.iter().map(line).collect::<String>(), "g-1")
    };
    assert!(!of(&[7, 8, 9]));
    // The last one was not stored when the broker died.
    assert!(!of(&[7, 8, 8, 9]));
    assert!(of(&[447, 448, 110, 449]));
}

#[test]
fn a_line_through_samples_that_rise_is_found_and_breaks_its_limit() {
    let rising = |kib_per_hour: f64| {
        let noise = |second: u32| if second.is_multiple_of(2) { 900.0 } else { -900.0 };
        let sample = |second: u32| {
            let time = f64::from(second);
            (time, [60_000.0 + kib_per_hour * time / 3_600.0 + noise(second), 12.0, 30.0])
        };
        Samples((0..3_600).map(sample).collect())
    };
    assert!((rising(7_000.0).slope(0) * 3_600.0 - 7_000.0).abs() < 10.0);
    assert_eq!(rising(7_000.0).broken().len(), 1);
    assert!(rising(3_000.0).broken().is_empty());
}
