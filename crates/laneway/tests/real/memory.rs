//! Memory stays inside its budget, as the resident size of a process of its own: whatever the number of partitions,
//! the lag and the size of records, and whatever the handlers do.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use laneway::{Consumer, OffsetReset, Record};
use laneway_testing::{Admin, Process, Producer, RealKafka, real_kafka_or_skip, unique};

/// What handlers do.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Handlers {
    /// They are ready at once.
    Ready,
    /// They sleep for as many milliseconds.
    Sleep(u64),
    /// They never end.
    Stuck,
    /// Those of one key never end.
    StuckKey,
}

impl Handlers {
    fn word(self) -> String {
        match self {
            Self::Ready => "ready".into(),
            Self::Sleep(time) => format!("sleep {time}"),
            Self::Stuck => "stuck".into(),
            Self::StuckKey => "key".into(),
        }
    }

    fn of(word: &str) -> Self {
        match word.split_once(' ') {
            None if word == "ready" => Self::Ready,
            None if word == "stuck" => Self::Stuck,
            None if word == "key" => Self::StuckKey,
            Some(("sleep", time)) => Self::Sleep(time.parse().expect("milliseconds")),
            _ => panic!("{word}"),
        }
    }

    async fn handle(self, record: &Record) {
        match self {
            Self::Ready => {}
            Self::Sleep(time) => tokio::time::sleep(Duration::from_millis(time)).await,
            Self::StuckKey if record.key() != Some(b"0") => {}
            Self::Stuck | Self::StuckKey => std::future::pending().await,
        }
    }
}

/// What there is to read.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Log {
    partitions: i32,
    /// Bytes of a record.
    size: usize,
    /// Bytes of all of them.
    lag: usize,
    /// How batches are compressed, if they are. What is in them is as easily compressed as can be.
    codec: Option<&'static str>,
}

impl Log {
    fn records(&self) -> u64 {
        (self.lag / self.size) as u64
    }

    /// To which partition a record goes, and with which key.
    fn place(&self, number: u64) -> (i32, u64) {
        let partitions = self.partitions as u64;
        ((number % partitions) as i32, number / partitions % KEYS)
    }

    /// How many of them have the key that is stuck where one is.
    fn stuck(&self) -> u64 {
        (0..self.records()).filter(|number| self.place(*number).1 == 0).count() as u64
    }
}

struct Case {
    log: Log,
    budget_mib: u64,
    handlers: Handlers,
}

impl Case {
    /// How many of them are to be finished, or, where they never are, for how long it is looked at.
    fn until(&self) -> Until {
        match self.handlers {
            Handlers::Ready => Until::Finished(self.log.records()),
            Handlers::StuckKey => Until::Finished(self.log.records() - self.log.stuck()),
            Handlers::Sleep(_) | Handlers::Stuck => Until::Over(Duration::from_secs(10)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Until {
    Finished(u64),
    Over(Duration),
}

impl Until {
    fn word(self) -> String {
        match self {
            Self::Finished(records) => format!("finished {records}"),
            Self::Over(time) => format!("over {}", time.as_secs()),
        }
    }

    fn of(word: &str) -> Self {
        match word.split_once(' ') {
            Some(("finished", records)) => Self::Finished(records.parse().expect("records")),
            Some(("over", time)) => Self::Over(Duration::from_secs(time.parse().expect("seconds"))),
            _ => panic!("{word}"),
        }
    }
}

const KEYS: u64 = 1_000;
const MIB: usize = 1 << 20;
const HEAD: &str =
    "| partitions | bytes of a record | lag | compressed | handlers | budget | peak of the resident size | |
| --- | --- | --- | --- | --- | --- | --- | --- |";
/// What a process has beside the budget: the runtime, the clients, the code.
const BESIDE_KIB: u64 = 64 << 10;

/// Makes a topic with what is to be read, and answers its name.
fn produce(kafka: &RealKafka, log: &Log) -> String {
    let topic = unique("memory");
    // Larger records than a broker takes by itself; and what is deleted is to make room for what comes next.
    let configs = [("max.message.bytes", "2097152"), ("file.delete.delay.ms", "100")];
    Admin::new(kafka.brokers()).unwrap().create_topic(&topic, log.partitions, &configs).unwrap();
    let mut properties = vec![
        ("linger.ms", "20"),
        ("batch.size", "1000000"),
        ("message.max.bytes", "2097152"),
        ("queue.buffering.max.kbytes", "131072"),
    ];
    properties.extend(log.codec.map(|codec| ("compression.type", codec)));
    let producer = Producer::new(kafka.brokers(), &properties).unwrap();
    let payload = vec![b'x'; log.size];
    for number in 0..log.records() {
        let (partition, key) = log.place(number);
        let key = key.to_string();
        producer.send(&topic, partition, Some(key.as_bytes()), Some(&payload), &[], None).unwrap();
    }
    producer.flush().unwrap();
    topic
}

/// Answers the peak of the process's resident size, in KiB, and what else it told.
fn measure(kafka: &RealKafka, topic: &str, case: &Case) -> (u64, String) {
    let words = [
        kafka.brokers().to_owned(),
        topic.to_owned(),
        (case.budget_mib << 20).to_string(),
        case.handlers.word(),
        case.until().word(),
    ];
    let mut command = Command::new(std::env::current_exe().expect("the test binary"));
    command
        .args(["--exact", "memory::memory_process", "--ignored", "--nocapture", "--test-threads=1"])
        .env(MEMORY, words.join("\t"));
    let process = Process::spawn(command).expect("a process");
    let ended = process.wait(Duration::from_secs(600)).expect("an end");
    assert!(ended.success(), "{:#?} {:#?}", process.stdout(), process.stderr());
    let said =
        process.stdout().into_iter().find_map(|line| line.split_once("PEAK ").map(|it| it.1.to_owned()));
    let said = said.expect("a measurement");
    let peak: u64 = said.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("KiB");
    let line = format!(
        "| {} | {} | {} MiB | {} | {:?} | {} MiB | {} MiB | {said} |",
        case.log.partitions,
        case.log.size,
        case.log.lag >> 20,
        case.log.codec.unwrap_or("none"),
        case.handlers,
        case.budget_mib,
        peak >> 10
    );
    println!("{line}");
    (peak, line)
}

/// Cases of the same log that follow each other read the same topic.
fn holds(cases: &[Case]) {
    let Some(kafka) = real_kafka_or_skip() else { return };
    let mut beyond = Vec::new();
    for cases in cases.chunk_by(|one, other| one.log == other.log) {
        let topic = produce(kafka, &cases[0].log);
        for case in cases {
            let (peak, line) = measure(kafka, &topic, case);
            if peak > (case.budget_mib << 10) + BESIDE_KIB {
                beyond.push(line);
            }
        }
        Admin::new(kafka.brokers()).unwrap().delete_topic(&topic).unwrap();
    }
    assert!(beyond.is_empty(), "beyond the budget:\n{}", beyond.join("\n"));
}

fn log(partitions: i32, size: usize, lag_mib: usize) -> Log {
    Log { partitions, size, lag: lag_mib << 20, codec: None }
}

#[test]
fn memory_stays_inside_its_budget_with_few_and_many_partitions() {
    let case =
        |partitions, size, handlers| Case { log: log(partitions, size, 256), budget_mib: 64, handlers };
    holds(&[
        case(1, 100_000, Handlers::Ready),
        case(100, 1_000, Handlers::Ready),
        case(100, 1_000, Handlers::Stuck),
        case(100, 1_000_000, Handlers::Ready),
    ]);
}

/// The resident size over partitions, sizes and handlers, by command (`cargo xtask memory`).
#[test]
#[ignore = "long: cargo xtask memory"]
fn prove_memory() {
    println!("{HEAD}");
    let case = |log, budget_mib, handlers| Case { log, budget_mib, handlers };
    holds(&[
        case(log(1, 1_000, 256), 64, Handlers::Ready),
        case(log(100, 1_000, 256), 64, Handlers::Ready),
        case(log(100, 1_000, 256), 64, Handlers::Sleep(10)),
        case(log(100, 1_000, 256), 64, Handlers::Stuck),
        case(log(100, 10, 64), 64, Handlers::Sleep(10)),
        case(log(100, 100_000, 256), 64, Handlers::Stuck),
        case(log(100, 1_000_000, 256), 64, Handlers::Sleep(10)),
        case(log(1_000, 1_000, 512), 64, Handlers::Stuck),
        case(log(1_000, 1_000, 512), 512, Handlers::Ready),
        case(log(12, 1_000, 512), 64, Handlers::StuckKey),
    ]);
}

/// With far more to read than memory (`cargo xtask memory`). One topic at a time is on the disk.
#[test]
#[ignore = "long, and 10 GiB on the disk: cargo xtask memory"]
fn prove_memory_with_much_to_read() {
    println!("{HEAD}");
    let case = |partitions, size, budget_mib, handlers| Case {
        log: log(partitions, size, 10 << 10),
        budget_mib,
        handlers,
    };
    holds(&[
        case(1, MIB, 512, Handlers::Ready),
        case(1, MIB, 512, Handlers::Stuck),
        case(1, MIB, 64, Handlers::Ready),
        case(100, MIB, 512, Handlers::Ready),
        case(100, MIB, 512, Handlers::Sleep(10)),
        case(100, MIB, 512, Handlers::Stuck),
        case(100, MIB, 64, Handlers::Sleep(10)),
        case(1_000, MIB, 512, Handlers::Ready),
        case(1_000, MIB, 512, Handlers::Sleep(10)),
        case(1_000, MIB, 512, Handlers::Stuck),
        case(1_000, MIB, 64, Handlers::Stuck),
        case(100, 1 << 10, 512, Handlers::Ready),
        case(100, 1 << 10, 512, Handlers::Sleep(10)),
        case(100, 1 << 10, 512, Handlers::Stuck),
    ]);
}

/// Where batches are far larger in memory than over the network (`cargo xtask memory`).
#[test]
#[ignore = "long: cargo xtask memory"]
fn prove_memory_with_compressed_batches() {
    println!("{HEAD}");
    let case = |partitions, size, codec, budget_mib, handlers| Case {
        log: Log { codec: Some(codec), ..log(partitions, size, 4 << 10) },
        budget_mib,
        handlers,
    };
    holds(&[
        case(1, MIB, "lz4", 512, Handlers::Ready),
        case(1, MIB, "lz4", 512, Handlers::Stuck),
        case(1, MIB, "lz4", 64, Handlers::Ready),
        case(100, MIB, "lz4", 512, Handlers::Ready),
        case(100, MIB, "lz4", 512, Handlers::Stuck),
        case(100, MIB, "lz4", 64, Handlers::Stuck),
        case(100, MIB, "zstd", 512, Handlers::Ready),
        case(100, MIB, "zstd", 512, Handlers::Stuck),
        case(100, 1_000, "zstd", 512, Handlers::Stuck),
    ]);
}

/// A consumer in a process of its own, that tells the most memory that it had.
#[test]
#[ignore = "a process of other tests"]
fn memory_process() {
    let words = std::env::var(MEMORY).expect("what to do");
    let mut words = words.split('\t');
    let mut word = || words.next().expect("a word").to_owned();
    let (brokers, topic, budget) = (word(), word(), word().parse().expect("bytes"));
    let (handlers, until) = (Handlers::of(&word()), Until::of(&word()));
    let finished = Arc::new(AtomicU64::new(0));
    let count = finished.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async move {
        let mut builder = Consumer::builder()
            .brokers(brokers)
            .group(unique("memory"))
            .topics([topic])
            .offset_reset(OffsetReset::Earliest)
            .drain_deadline(Duration::from_secs(1))
            .memory(budget);
        if handlers == Handlers::StuckKey {
            builder = builder.ordering(laneway::Ordering::Key);
        }
        let consumer = builder.build().unwrap();
        let handle = consumer.handle();
        let run = tokio::spawn(consumer.run(move |record: Record| {
            let count = count.clone();
            async move {
                handlers.handle(&record).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        }));
        let began = Instant::now();
        // When there were records for the first time.
        let mut first = None;
        let is_over = |first: Option<Instant>| match until {
            Until::Finished(records) => finished.load(Ordering::Relaxed) >= records,
            Until::Over(time) => first.is_some_and(|first| first.elapsed() >= time),
        };
        let mut most = 0;
        while !is_over(first) && began.elapsed() < LONGEST {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let used = handle.status().memory;
            most = most.max(used.used);
            first = first.or_else(|| (used.held > 0).then(Instant::now));
        }
        let done = finished.load(Ordering::Relaxed);
        println!(
            "PEAK {} KiB | {done} finished of {until:?} in {:?} | used {} MiB | {:?}",
            peak(),
            began.elapsed(),
            most >> 20,
            handle.status().memory
        );
        assert!(is_over(first), "it took longer than {LONGEST:?}");
        handle.stop();
        run.await.unwrap().unwrap();
    });
}

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc/self/status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("KiB")
}

/// How long a case takes at most.
const LONGEST: Duration = Duration::from_secs(300);
const MEMORY: &str = "LANEWAY_MEMORY_PROCESS";
