//! The job of `split_queues.rs`, in Laneway: as streams, for code that pulls its records, and as a handler. Neither
//! repeats, loses or leaves a record when members come and go: docs/SPLIT_QUEUES.md.
//! Run: `cargo run -p laneway --example lanes -- localhost:9092 billing orders`.

use std::time::Duration;

use laneway::{Consumer, Error, Lane, OffsetReset, Record, Summary};

fn consumer(properties: &[(&str, &str)], topic: &str) -> Result<Consumer, Error> {
    let mut builder = Consumer::builder().topics([topic]).offset_reset(OffsetReset::Earliest);
    for (key, value) in properties {
        builder = match *key {
            "bootstrap.servers" => builder.brokers(*value),
            "group.id" => builder.group(*value),
            key => builder.property(key, *value),
        };
    }
    builder.build()
}

/// Reads a topic until `stop`, with a task for each lane.
pub(crate) async fn as_streams<W, F>(
    properties: &[(&str, &str)],
    topic: &str,
    work: W,
    stop: impl Future<Output = ()>,
) -> Result<Summary, Error>
where
    W: Fn(i32, i64, Vec<u8>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut lanes = consumer(properties, topic)?.into_lanes()?;
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            lane = lanes.next() => match lane {
                Some(lane) => drop(tokio::spawn(read(lane, work.clone()))),
                None => break,
            },
        }
    }
    // Finishes what is in flight, commits it, and leaves the group.
    lanes.finish().await
}

/// One lane's task. It ends by itself, when its partition is given back.
async fn read<W, F>(mut lane: Lane, work: W)
where
    W: Fn(i32, i64, Vec<u8>) -> F,
    F: Future<Output = ()>,
{
    while let Some(delivery) = lane.next().await {
        let record = delivery.record();
        let payload = record.payload().unwrap_or_default().to_vec();
        work(record.partition(), record.offset(), payload).await;
        if let Err(fenced) = delivery.ack() {
            return eprintln!("{fenced}");
        }
    }
}

/// The same as a handler: lanes, tasks and acks are Laneway's.
pub(crate) async fn as_a_handler<W, F>(
    properties: &[(&str, &str)],
    topic: &str,
    work: W,
    stop: impl Future<Output = ()>,
) -> Result<Summary, Error>
where
    W: Fn(i32, i64, Vec<u8>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let consumer = consumer(properties, topic)?;
    let handle = consumer.handle();
    let run = consumer.run(move |record: Record| {
        work(record.partition(), record.offset(), record.payload().unwrap_or_default().to_vec())
    });
    tokio::pin!(run);
    tokio::select! {
        summary = &mut run => return summary,
        () = stop => handle.stop(),
    }
    run.await
}

#[allow(dead_code, reason = "the test runs it without its main")]
#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (brokers, group, topic, is_handler) = match arguments.as_slice() {
        [brokers, group, topic] => (brokers, group, topic, false),
        [brokers, group, topic, handler] if handler == "handler" => (brokers, group, topic, true),
        _ => {
            eprintln!("usage: lanes BROKERS GROUP TOPIC [handler]");
            std::process::exit(2);
        }
    };
    let properties = [("bootstrap.servers", brokers.as_str()), ("group.id", group)];
    let work = |partition: i32, offset: i64, payload: Vec<u8>| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        println!("{partition}:{offset} {}", String::from_utf8_lossy(&payload));
    };
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    let summary = match is_handler {
        true => as_a_handler(&properties, topic, work, stop).await?,
        false => as_streams(&properties, topic, work, stop).await?,
    };
    println!("{} records", summary.finished);
    Ok(())
}
