//! What a record costs that was fetched already: nothing of librdkafka's fetching is in it.

use crate::Failure;
use crate::broker::take_turns;
use crate::clients::{Client, Job};
use crate::doc::Section;
use crate::kafka::Kafka;
use crate::load::{Load, in_rows};
use crate::options::Options;
use crate::stats::{millions, thousands, verdict};

pub(crate) fn measure(options: &Options) -> Result<Section, Failure> {
    let (records, runs) = (options.records(100_000, 250_000), options.runs(3, 7));
    let kafka = Kafka::start()?;
    let partition = in_rows(PARTITIONS, records);
    let place = |number: u64| (partition(number), Some(format!("customer-{}", number * 7_919 % KEYS)));
    let all = records * u64::from(PARTITIONS.unsigned_abs());
    println!("bench: a topic with {PARTITIONS} × {} records", thousands(records));
    let load = Load { partitions: PARTITIONS, records: all, payload: 100, properties: &[], place: &place };
    let topic = load.produce(kafka.brokers())?;
    let job = |client| Job {
        client,
        brokers: kafka.brokers().into(),
        topic: topic.clone(),
        partitions: PARTITIONS,
        records,
        properties: everything_ahead(),
        prefetched: true,
    };
    let measured = take_turns(&CLIENTS, runs, job)?;
    let cpu_of = |client: Client| -> Result<f64, Failure> {
        let of = measured.iter().find(|(measured, _)| *measured == client);
        of.ok_or("a client was not measured")?.1.median("ns/record")
    };
    let (bare, usual) = (cpu_of(Client::Bare)?, cpu_of(Client::Usual)?);

    let mut section = Section::new("Prefetched", &options.command("prefetched"));
    section.push(&format!(
        "{PARTITIONS} partitions with {} records each, of 100 bytes, with {} keys in each partition. Everything lies in the \
         partitions' queues before the first record is taken and the clock starts: readers are held back until the client \
         process has stopped using CPU. So this is what taking a record and handling it costs, without fetching. \
         `rd_kafka_consume_batch_queue` takes the split queues in turn, in one thread; the others have two threads. \
         Medians of {runs} runs of each client, which take turns.\n",
        thousands(records),
        thousands(KEYS),
    ));
    section.push(
        "| client | CPU per record | lowest and highest | of the bare loop's | records/s | per core in use |",
    );
    section.push("| --- | --- | --- | --- | --- | --- |");
    for (client, of_client) in &measured {
        let (cpu, rate) = (of_client.median("ns/record")?, of_client.median("records/s")?);
        let (low, high) = of_client.range("ns/record");
        section.push(&format!(
            "| {} | {cpu:.0} ns | {low:.0}–{high:.0} ns | {:.2} × | {} | {} |",
            client.name(),
            cpu / bare,
            millions(rate),
            millions(1e9 / cpu),
        ));
    }
    let alone = cpu_of(Client::LanewayOneThread)?;
    let (ours, keyed) = (cpu_of(Client::Laneway)?, cpu_of(Client::LanewayKeyed)?);
    section.push(&format!(
        "\nAt most twice the bare loop's CPU: {} ({} with one thread, as the bare loop has). At most a third of the usual way's: {}. By key at least 2,000,000 records \
         per second and core, at most 500 ns each: {}.",
        verdict(ours <= 2.0 * bare),
        verdict(alone <= 2.0 * bare),
        verdict(ours <= usual / 3.0),
        verdict(keyed <= 500.0),
    ));
    section.push(
        "\nWhere the time went in a profile (`perf`) of one thread: two thirds were librdkafka's own, as in the bare loop \
         (taking messages out of a queue, destroying them, giving memory back). A fifth was the handing over: a future that \
         is put into its slot and polled behind a guard against panics, and the handler. The rest was taking the batch and \
         telling the tracker. Two threads take more than one, as they give memory back to the same arena.",
    );
    Ok(section)
}

/// A budget that carries that much for each partition.
pub(crate) const MEMORY: u64 = 64 << 30;

/// Properties with which a client fetches everything ahead that there is.
pub(crate) fn everything_ahead() -> Vec<(String, String)> {
    let properties = [
        ("queued.min.messages", "10000000"),
        ("queued.max.messages.kbytes", "1000000"),
        ("fetch.message.max.bytes", "10000000"),
        ("fetch.max.bytes", "100000000"),
    ];
    properties.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec()
}

const PARTITIONS: i32 = 12;
const KEYS: u64 = 1_000;
const CLIENTS: [Client; 6] = [
    Client::Laneway,
    Client::LanewayOneThread,
    Client::LanewayKeyed,
    Client::Bare,
    Client::Usual,
    Client::OneTask,
];
