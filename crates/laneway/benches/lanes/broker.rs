//! How fast records come from a real broker: plain, over TLS, and compressed.

use crate::Failure;
use crate::child::{self, Task};
use crate::clients::{Client, Job};
use crate::doc::Section;
use crate::kafka::Kafka;
use crate::load::{Load, in_rows};
use crate::options::Options;
use crate::stats::{Runs, millions, thousands, verdict};

pub(crate) fn measure(options: &Options) -> Result<Section, Failure> {
    let (records, runs) = (options.records(250_000, 3_000_000), options.runs(3, 5));
    let kafka = Kafka::start()?;
    let mut section = Section::new("From a broker", &options.command("broker"));
    section.push(&format!(
        "A topic of {PARTITIONS} partitions with {} records each, of 100 bytes and without keys, on a broker that shares the \
         machine with its client. Clock and CPU run from the first record until each partition's last one. CPU \
         is the client process's, all of its threads. Laneway is in a group and commits; its peers are assigned their \
         partitions by hand, commit nothing, and have `fetch.queue.backoff.ms` at 1, without which they are slower. \
         Medians of {runs} runs of each client, which take turns.\n",
        thousands(records),
    ));
    let (tls, tls_properties) = kafka.tls()?;
    let plain = produce(&kafka, records, "none")?;
    let none = Vec::new();
    compare(&mut section, "Plain", (kafka.brokers(), &none), &plain, records, runs)?;
    compare(&mut section, "Over TLS", (&tls, &tls_properties), &plain, records, runs)?;
    for codec in ["lz4", "zstd"] {
        let topic = produce(&kafka, records, codec)?;
        let title = format!("Compressed with {codec}");
        compare(&mut section, &title, (kafka.brokers(), &none), &topic, records, runs)?;
    }
    Ok(section)
}

fn produce(kafka: &Kafka, records: u64, codec: &str) -> Result<String, Failure> {
    println!("bench: a topic with {PARTITIONS} × {} records, compression {codec}", thousands(records));
    let properties = &[("compression.codec", codec)];
    let partition = in_rows(PARTITIONS, records);
    let place = &|number| (partition(number), None);
    let all = records * u64::from(PARTITIONS.unsigned_abs());
    Load { partitions: PARTITIONS, records: all, payload: 100, properties, place }.produce(kafka.brokers())
}

fn compare(
    section: &mut Section,
    title: &str,
    (brokers, properties): (&str, &[(String, String)]),
    topic: &str,
    records: u64,
    runs: usize,
) -> Result<(), Failure> {
    let job = |client| Job {
        client,
        brokers: brokers.into(),
        topic: topic.into(),
        partitions: PARTITIONS,
        records,
        properties: properties.to_vec(),
        prefetched: false,
    };
    let measured = take_turns(&CLIENTS, runs, job)?;
    let (_, bare) = &measured[1];
    let (bare_rate, bare_cpu) = (bare.median("records/s")?, bare.median("ns/record")?);
    section.push(&format!("\n{title}:\n"));
    section.push("| client | records/s | lowest and highest | of the bare loop's | CPU per record | of the bare loop's |");
    section.push("| --- | --- | --- | --- | --- | --- |");
    for (client, of_client) in &measured {
        let (rate, cpu) = (of_client.median("records/s")?, of_client.median("ns/record")?);
        let (low, high) = of_client.range("records/s");
        section.push(&format!(
            "| {} | {} | {}–{} | {:.0} % | {cpu:.0} ns | {:.2} × |",
            client.name(),
            millions(rate),
            millions(low),
            millions(high),
            rate / bare_rate * 100.0,
            cpu / bare_cpu,
        ));
    }
    let (_, ours) = &measured[0];
    let (rate, cpu) = (ours.median("records/s")? / bare_rate, ours.median("ns/record")? / bare_cpu);
    section.push(&format!(
        "\nAt least 90 % of the bare loop's records per second: {}. At most 1.15 × its CPU: {}.",
        verdict(rate >= 0.9),
        verdict(cpu <= 1.15),
    ));
    Ok(())
}

/// Runs each client once, then each again, and so on.
pub(crate) fn take_turns(
    clients: &[Client],
    runs: usize,
    job: impl Fn(Client) -> Job,
) -> Result<Vec<(Client, Runs)>, Failure> {
    let mut measured: Vec<(Client, Runs)> = clients.iter().map(|client| (*client, Runs::default())).collect();
    for run in 1..=runs {
        for (client, of_client) in &mut measured {
            let figures = child::run(&Task::Read(job(*client)))?;
            println!("bench: run {run}, {client:?}: {}", crate::stats::line(&figures));
            of_client.push(figures);
        }
    }
    Ok(measured)
}

const PARTITIONS: i32 = 12;
/// The bare loop is the second one.
const CLIENTS: [Client; 4] = [Client::Laneway, Client::Bare, Client::Usual, Client::OneTask];
