//! What a lane costs that has nothing to do: memory, and CPU.

use std::time::Duration;

use laneway::{Consumer, LaneState, OffsetReset, Record};
use laneway_testing::{EmbeddedKafka, unique};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde::{Deserialize, Serialize};

use crate::child::{self, Task};
use crate::clients::{self, Client, Job};
use crate::doc::Section;
use crate::meter::{Stamp, wait_for, wait_until_still};
use crate::options::Options;
use crate::stats::{Figures, Runs, thousands, times, verdict};
use crate::sys;
use crate::{Failure, clients::runtime};

/// Some lanes without records.
#[derive(Serialize, Deserialize)]
pub(crate) struct Idle {
    /// Laneway, or the bare client with the same partitions.
    client: Client,
    brokers: String,
    topic: String,
    lanes: i32,
    seconds: u64,
}

pub(crate) fn measure(options: &Options) -> Result<Section, Failure> {
    let (runs, seconds) = (options.runs(1, 3), if options.quick { 5 } else { 20 });
    let kafka = EmbeddedKafka::start()?;
    let mut measured: Vec<(Client, i32, Runs)> = Vec::new();
    for client in [Client::Laneway, Client::Bare] {
        for lanes in [FEW, MANY] {
            measured.push((client, lanes, Runs::default()));
        }
    }
    for run in 1..=runs {
        for (client, lanes, of_client) in &mut measured {
            let topic = unique("idle");
            kafka.create_topic(&topic, *lanes)?;
            let brokers = kafka.brokers().to_owned();
            let task = Idle { client: *client, brokers, topic, lanes: *lanes, seconds };
            let figures = child::run(&Task::Idle(task))?;
            println!("bench: run {run}, {client:?}, {lanes} lanes: {}", crate::stats::line(&figures));
            of_client.push(figures);
        }
    }
    let figure = |client: Client, lanes: i32, name: &str| {
        let of = measured.iter().find(|(c, l, _)| (*c, *l) == (client, lanes));
        of.ok_or_else(|| Failure::from("a client was not measured"))?.2.median(name)
    };
    let slope = |client, name| -> Result<f64, Failure> {
        Ok((figure(client, MANY, name)? - figure(client, FEW, name)?) / f64::from(MANY - FEW))
    };

    let mut section = Section::new("Idle lanes", &options.command("idle"));
    section.push(&format!(
        "Lanes without records, on an embedded Kafka in another process. Of a lane's memory, what Laneway asks Rust's \
         allocator for is counted by the byte; the resident size has librdkafka's part in it. Both are the slope from {FEW} \
         lanes to {}. CPU is that of the whole process in {seconds} s, once all lanes run and the process has come to rest. The \
         bare client is assigned the same partitions, and polls once a second. Medians of {}.\n",
        thousands(MANY.unsigned_abs().into()),
        times(runs),
    ));
    section.push(&format!(
        "| client | heap of a lane (Rust) | resident size of a lane | CPU per second, {FEW} lanes | {} lanes |",
        thousands(MANY.unsigned_abs().into())
    ));
    section.push("| --- | --- | --- | --- | --- |");
    for client in [Client::Laneway, Client::Bare] {
        let heap = match client {
            Client::Laneway => format!("{:.0} bytes", slope(client, "heap bytes")?),
            _ => "none".into(),
        };
        section.push(&format!(
            "| {} | {heap} | {:.1} KiB | {:.2} ms | {:.2} ms |",
            if client == Client::Laneway {
                "**Laneway**, both of its clients"
            } else {
                "bare librdkafka, one client"
            },
            slope(client, "resident bytes")? / 1024.0,
            figure(client, FEW, "cpu µs/s")? / 1000.0,
            figure(client, MANY, "cpu µs/s")? / 1000.0,
        ));
    }
    let (bytes, resident) =
        (slope(Client::Laneway, "heap bytes")?, slope(Client::Laneway, "resident bytes")?);
    let of_lanes = figure(Client::Laneway, MANY, "cpu µs/s")? - figure(Client::Bare, MANY, "cpu µs/s")?;
    section.push(&format!(
        "\nAt most 8 KiB of our own for a lane: {}. Of the resident {:.1} KiB the rest is librdkafka's, which has each partition \
         in both clients. {} idle lanes take {:.2} ms of CPU a second more than a bare client, {:.2} % of a core; CPU that can't \
         be measured (below 0.1 %): {}. It goes into librdkafka's second and third client, into the looks that the client \
         thread takes at all lanes every few seconds, and into the slow tick of each lane.",
        verdict(bytes <= 8192.0),
        resident / 1024.0,
        thousands(MANY.unsigned_abs().into()),
        of_lanes / 1000.0,
        of_lanes / 10_000.0,
        verdict(of_lanes < 1_000.0),
    ));
    Ok(section)
}

/// As a child.
pub(crate) fn be_idle(idle: &Idle) -> Result<Figures, Failure> {
    match idle.client {
        Client::Laneway => lanes(idle),
        _ => bare(idle),
    }
}

fn lanes(idle: &Idle) -> Result<Figures, Failure> {
    sys::count_allocations();
    let runtime = runtime()?;
    let consumer = Consumer::builder()
        .brokers(&idle.brokers)
        .group(unique("bench"))
        .topics([&idle.topic])
        .offset_reset(OffsetReset::Earliest)
        .build()?;
    let handle = consumer.handle();
    runtime.spawn(consumer.run(|_: Record| async {}));
    wait_for("all lanes run", || {
        let lanes = handle.status().lanes;
        lanes.iter().filter(|lane| lane.state == LaneState::Running && lane.end.is_some()).count()
            == idle.lanes.unsigned_abs() as usize
    })?;
    rest(idle)
}

fn bare(idle: &Idle) -> Result<Figures, Failure> {
    let job = Job {
        client: Client::Bare,
        brokers: idle.brokers.clone(),
        topic: idle.topic.clone(),
        partitions: idle.lanes,
        records: 0,
        properties: Vec::new(),
        prefetched: false,
    };
    let consumer: BaseConsumer = clients::consumer(&job)?;
    consumer.assign(&clients::from_the_beginning(&job)?)?;
    std::thread::spawn(move || {
        loop {
            if let Some(Err(error)) = consumer.poll(Duration::from_secs(1)) {
                eprintln!("the bare client: {error}");
            }
        }
    });
    rest(idle)
}

/// Looks at a process in which nothing happens any more.
fn rest(idle: &Idle) -> Result<Figures, Failure> {
    std::thread::sleep(QUIET);
    wait_until_still()?;
    let (before, heap) = (Stamp::now(), sys::allocated().bytes);
    std::thread::sleep(Duration::from_secs(idle.seconds));
    let after = Stamp::now();
    let cpu = (after.cpu - before.cpu).as_secs_f64() / (after.at - before.at).as_secs_f64();
    Ok(Figures::from([
        ("heap bytes".into(), heap as f64),
        ("resident bytes".into(), resident()? as f64),
        ("cpu µs/s".into(), cpu * 1e6),
    ]))
}

/// Resident bytes of this process.
fn resident() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    Ok(kibibytes.ok_or("this system does not tell a process's size")?.trim().parse::<u64>()? * 1024)
}

/// After so long Laneway knows which lanes are quiet, and has all of them fetched as such.
const QUIET: Duration = Duration::from_secs(12);
const FEW: i32 = 100;
const MANY: i32 = 1_000;
