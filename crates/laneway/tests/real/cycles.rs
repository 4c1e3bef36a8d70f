//! What comes and goes often leaves nothing behind: no thread, no handle, no memory. In a process of its own, in
//! which nothing else happens.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use laneway::{Consumer, Event, Handle, OffsetReset, Protocol, Record};
use laneway_testing::{Process, real_kafka_or_skip, try_wait_until, unique, wait_until};
use tokio::runtime::Runtime;

use crate::support::{PROTOCOLS, Scene};

/// What is done over and over.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cycle {
    /// A second member comes and goes, and lanes with it, beside one that stays.
    Lanes,
    /// A member joins, works, and leaves.
    Group,
}

const LANES: i32 = 50;

fn cycles(cycle: Cycle, protocol: Protocol, count: u64) -> Option<String> {
    real_kafka_or_skip()?;
    let scene = Scene::new("cycles", LANES, protocol)?;
    let traffic = scene.traffic(500);
    let words =
        [&scene.brokers, &scene.topic, &protocol.to_string(), &format!("{cycle:?}"), &count.to_string()];
    let mut command = Command::new(std::env::current_exe().expect("the test binary"));
    command
        .args(["--exact", "cycles::cycles_process", "--ignored", "--nocapture", "--test-threads=1"])
        .env(CYCLES, words.map(String::as_str).join("\t"));
    let process = Process::spawn(command).expect("a process");
    let ended = process.wait(Duration::from_secs(60 + 5 * count)).expect("an end");
    traffic.end();
    assert!(ended.success(), "{:#?}", process.stderr());
    let line =
        process.stdout().into_iter().find_map(|line| line.split_once("LEFT ").map(|it| it.1.to_owned()));
    let line = format!("{protocol}: {}", line.expect("a measurement"));
    println!("{line}");
    Some(line)
}

#[test]
fn a_thousand_lanes_leave_nothing_behind() {
    cycles(Cycle::Lanes, Protocol::Eager, 10);
}

#[test]
fn fifty_group_cycles_leave_nothing_behind() {
    cycles(Cycle::Group, Protocol::Cooperative, 50);
}

/// A thousand group cycles of each protocol, by command (`cargo xtask soak`): what each of them leaves behind.
#[test]
#[ignore = "long: cargo xtask soak"]
fn soak_group_cycles() {
    let count = std::env::var("LANEWAY_SOAK").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000);
    PROTOCOLS.iter().for_each(|protocol| drop(cycles(Cycle::Group, *protocol, count)));
}

/// What the process has of the system.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    threads: usize,
    handles: usize,
    kib: i64,
}

impl Footprint {
    fn now() -> Self {
        let count = |folder: &str| std::fs::read_dir(folder).expect(folder).count();
        let status = std::fs::read_to_string("/proc/self/status").expect("/proc/self/status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("KiB");
        Self { threads: count("/proc/self/task"), handles: count("/proc/self/fd"), kib }
    }
}

struct World {
    runtime: Runtime,
    brokers: String,
    topic: String,
    group: String,
    protocol: Protocol,
    /// Records finished, and lanes that began.
    finished: Arc<AtomicU64>,
    lanes: Arc<AtomicU64>,
}

struct Member {
    handle: Handle,
    run: tokio::task::JoinHandle<Result<laneway::Summary, laneway::Error>>,
}

impl World {
    fn join(&self) -> Member {
        let (finished, lanes) = (self.finished.clone(), self.lanes.clone());
        let count = move |event: &Event| {
            if let Event::Assigned { lanes: began } = event {
                lanes.fetch_add(began.len() as u64, Ordering::Relaxed);
            }
        };
        let consumer = Consumer::builder()
            .brokers(&self.brokers)
            .group(&self.group)
            .topics([&self.topic])
            .protocol(self.protocol)
            .offset_reset(OffsetReset::Latest)
            .on_event(count)
            .build()
            .expect("a consumer");
        let handle = consumer.handle();
        let handler = move |_: Record| {
            finished.fetch_add(1, Ordering::Relaxed);
            std::future::ready(())
        };
        Member { handle, run: self.runtime.spawn(consumer.run(handler)) }
    }

    fn leave(&self, member: Member) {
        member.handle.stop();
        let summary = self.runtime.block_on(member.run).expect("a task").expect("an end without an error");
        assert_eq!((summary.unfinished, summary.uncommitted, summary.detached), (0, 0, 0));
    }

    fn wait_for_work(&self, member: &Member, lanes: i32) {
        let is_open = || member.handle.status().lanes.iter().filter(|it| it.position.is_some()).count();
        wait_until(Duration::from_secs(40), "the member has its lanes", || {
            is_open() == usize::try_from(lanes).unwrap()
        });
        let before = self.finished.load(Ordering::Relaxed);
        wait_until(Duration::from_secs(40), "work is done", || {
            self.finished.load(Ordering::Relaxed) >= before + 10
        });
    }

    fn cycle(&self, cycle: Cycle, stays: Option<&Member>) {
        let comes = self.join();
        match (cycle, stays) {
            (Cycle::Lanes, Some(stays)) => {
                self.wait_for_work(&comes, LANES / 2);
                self.leave(comes);
                self.wait_for_work(stays, LANES);
            }
            _ => {
                self.wait_for_work(&comes, LANES);
                self.leave(comes);
            }
        }
    }

    /// What the process has once what ends has ended.
    fn settled(&self, before: Option<Footprint>) -> Footprint {
        let is_as_before = || {
            let now = Footprint::now();
            before.is_none_or(|before| now.threads <= before.threads && now.handles <= before.handles)
        };
        if before.is_none() {
            std::thread::sleep(Duration::from_secs(1));
        }
        try_wait_until(Duration::from_secs(5), "as few threads and handles as before", is_as_before).ok();
        Footprint::now()
    }
}

#[test]
#[ignore = "a process of other tests"]
fn cycles_process() {
    let Ok(words) = std::env::var(CYCLES) else { return };
    let words: Vec<&str> = words.split('\t').collect();
    let [brokers, topic, protocol, cycle, count] = words[..] else { panic!("{CYCLES}: {words:?}") };
    let count: u64 = count.parse().expect("a count");
    let cycle = if cycle == "Lanes" { Cycle::Lanes } else { Cycle::Group };
    let world = World {
        runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
        brokers: brokers.into(),
        topic: topic.into(),
        group: unique("cycles"),
        protocol: protocol.parse().expect("a protocol"),
        finished: Arc::default(),
        lanes: Arc::default(),
    };
    let stays = (cycle == Cycle::Lanes).then(|| world.join());
    let warm = (count / 5).clamp(3, 20);
    (0..warm).for_each(|_| world.cycle(cycle, stays.as_ref()));
    let before = world.settled(None);
    let lanes_before = world.lanes.load(Ordering::Relaxed);
    let lanes = || world.lanes.load(Ordering::Relaxed) - lanes_before;
    let mut number = 0;
    while number < count || (cycle == Cycle::Lanes && lanes() < 1_000) {
        number += 1;
        world.cycle(cycle, stays.as_ref());
        if number % 100 == 0 {
            println!("{number}: {:?}", Footprint::now());
        }
    }
    let after = world.settled(Some(before));
    let lanes = lanes();
    let grown = after.kib - before.kib;
    println!(
        "LEFT {number} cycles ({lanes} lanes): threads {} to {}, handles {} to {}, resident {} to {} KiB \
         ({:.1} KiB a cycle)",
        before.threads,
        after.threads,
        before.handles,
        after.handles,
        before.kib,
        after.kib,
        grown as f64 / number as f64
    );
    assert!(after.threads <= before.threads && after.handles <= before.handles, "{before:?}, then {after:?}");
    assert!(grown <= 5 * 1_024, "{before:?}, then {after:?}");
    if let Some(stays) = stays {
        world.leave(stays);
    }
}

const CYCLES: &str = "LANEWAY_TEST_CYCLES";
