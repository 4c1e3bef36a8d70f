//! How it grows: with partitions, with members, and with the size of records.

use crate::Failure;
use crate::child::{self, Task};
use crate::clients::{Client, Job};
use crate::doc::Section;
use crate::kafka::Kafka;
use crate::load::{Load, in_rows};
use crate::options::Options;
use crate::plot::{Plot, Series};
use crate::stats::{Runs, thousands, times};

/// One point on the way up.
struct Point {
    at: u64,
    clients: Vec<(Client, Runs)>,
}

pub(crate) fn measure(options: &Options) -> Result<Section, Failure> {
    let runs = options.runs(1, 3);
    let kafka = Kafka::start()?;
    let mut section = Section::new("How it grows", &options.command("growth"));
    section.push(&format!(
        "From the real broker, beside the bare batch loop; medians of {}, which take turns. Everything shares two cores: \
         what grows with members here is what they cost, not what they bring.\n",
        times(runs),
    ));

    let all = options.records(600_000, 3_000_000);
    let partitions = points(&kafka, &[1, 10, 100, 1_000], runs, |partitions| Shape {
        partitions: partitions as i32,
        records: all / partitions,
        payload: 100,
        members: 1,
    })?;
    let title = format!("{} records of 100 bytes, by the number of partitions", thousands(all));
    show(&mut section, &title, "partitions", &partitions, Unit::Records)?;

    let members = points(&kafka, &[1, 2, 4, 8, 16], runs, |members| {
        let records = all / u64::from(SHARED.unsigned_abs());
        Shape { partitions: SHARED, records, payload: 100, members: members as i32 }
    })?;
    let title =
        format!("{} records of 100 bytes in {SHARED} partitions, by the number of members", thousands(all));
    show(&mut section, &title, "members", &members, Unit::Records)?;

    let bytes = if options.quick { 200 << 20 } else { 1 << 30 };
    let sizes = points(&kafka, &[10, 100, 1_024, 10_240, 102_400, 1_048_576], runs, |size| Shape {
        partitions: 12,
        records: (bytes / size / 12).clamp(10, all / 12),
        payload: size as usize,
        members: 1,
    })?;
    let title = format!("Up to {} MiB in 12 partitions, by the bytes of a record", bytes >> 20);
    show(&mut section, &title, "bytes", &sizes, Unit::Bytes)?;
    Ok(section)
}

/// What is read at one point.
struct Shape {
    partitions: i32,
    records: u64,
    payload: usize,
    members: i32,
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Records,
    /// Mebibytes.
    Bytes,
}

fn points(
    kafka: &Kafka,
    at: &[u64],
    runs: usize,
    shape: impl Fn(u64) -> Shape,
) -> Result<Vec<Point>, Failure> {
    let mut points = Vec::new();
    for at in at.iter().copied() {
        let Shape { partitions, records, payload, members } = shape(at);
        let partition = in_rows(partitions, records);
        let place = &|number| (partition(number), None);
        let all = records * u64::from(partitions.unsigned_abs());
        println!("bench: a topic with {partitions} × {} records of {payload} bytes", thousands(records));
        let topic =
            Load { partitions, records: all, payload, properties: &[], place }.produce(kafka.brokers())?;
        let mut clients = vec![(Client::Laneway, Runs::default()), (Client::Bare, Runs::default())];
        for run in 1..=runs {
            for (client, of_client) in &mut clients {
                let job = Job {
                    client: *client,
                    brokers: kafka.brokers().into(),
                    topic: topic.clone(),
                    partitions,
                    records,
                    properties: vec![("fetch.message.max.bytes".into(), "1048576".into())],
                    prefetched: false,
                };
                let task = if members == 1 { Task::Read(job) } else { Task::Members(job, members) };
                let mut figures = child::run(&task)?;
                println!("bench: {at}, run {run}, {client:?}: {}", crate::stats::line(&figures));
                let rate = figures.get("records/s").copied().unwrap_or_default();
                figures.insert("MiB/s".into(), rate * payload as f64 / f64::from(1 << 20));
                of_client.push(figures);
            }
        }
        points.push(Point { at, clients });
    }
    Ok(points)
}

fn show(section: &mut Section, title: &str, name: &str, points: &[Point], unit: Unit) -> Result<(), Failure> {
    let (figure, shown) = match unit {
        Unit::Records => ("records/s", "records/s"),
        Unit::Bytes => ("MiB/s", "MiB/s"),
    };
    section.push(&format!("\n{title}:\n"));
    section.push(&format!("| {name} | Laneway, {shown} | bare loop | Laneway, CPU per record | bare loop |"));
    section.push("| --- | --- | --- | --- | --- |");
    let mut series = [("Laneway", Vec::new()), ("bare batch loop", Vec::new())];
    let mut cpu = [("Laneway", Vec::new()), ("bare batch loop", Vec::new())];
    for point in points {
        let mut row = format!("| {} |", thousands(point.at));
        for (of, (_, runs)) in series.iter_mut().zip(&point.clients) {
            let value = runs.median(figure)?;
            of.1.push((point.at as f64, value));
            row.push_str(&format!(" {} |", thousands(value as u64)));
        }
        for (of, (_, runs)) in cpu.iter_mut().zip(&point.clients) {
            let value = runs.median("ns/record")?;
            of.1.push((point.at as f64, value));
            row.push_str(&format!(" {} ns |", thousands(value as u64)));
        }
        section.push(&row);
    }
    section.push("");
    for (kind, y, series) in [("rate", shown, series), ("cpu", "ns of CPU per record", cpu)] {
        let file = format!("bench-{name}-{kind}.svg");
        let series = series.into_iter().map(|(name, points)| Series { name, points }).collect();
        section.plot(&file, &format!("{title}: {y}"), Plot { x: name.into(), y: y.into(), series });
    }
    Ok(())
}

/// Partitions that members share. Each of 1 to 16 has as many as all others.
const SHARED: i32 = 48;
