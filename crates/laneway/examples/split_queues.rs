//! Partition queues split by hand, with rdkafka's `StreamConsumer`: a task for each partition, offsets stored once a
//! record was handled. It is what one writes who has read rdkafka's documentation with care, and it repeats records,
//! loses them, or falls silent when members come and go: docs/SPLIT_QUEUES.md says how and why.
//! Run: `cargo run -p laneway --example split_queues -- localhost:9092 billing orders`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::stream_consumer::StreamPartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Message, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// What becomes of the task of a partition that was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OldTasks {
    /// It is told to end, and ends once the record that it works on is done.
    AreTold,
    /// That is also waited for, before the next assignment is looked at: no two tasks have one partition.
    AreWaitedFor,
}

/// A rebalance, as the loop below hears of it. Callbacks are to return quickly, so it is handed on.
enum Change {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
}

struct Rebalances(mpsc::UnboundedSender<Change>);

impl ClientContext for Rebalances {}

impl ConsumerContext for Rebalances {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let change = match rebalance {
            Rebalance::Assign(list) => Change::Assigned(partitions(list)),
            Rebalance::Revoke(list) => Change::Revoked(partitions(list)),
            Rebalance::Error(error) => return eprintln!("rebalance: {error}"),
        };
        self.0.send(change).ok();
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(|element| element.partition()).collect()
}

/// A partition's task, and what tells it to end.
struct Task {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

/// Reads a topic until `stop`, with a task for each partition.
pub(crate) async fn run<W, F>(
    properties: &[(&str, &str)],
    topic: &str,
    old_tasks: OldTasks,
    work: W,
    stop: impl Future<Output = ()>,
) -> KafkaResult<()>
where
    W: Fn(i32, i64, Vec<u8>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut config = ClientConfig::new();
    // At least once, as rdkafka's example of it does: commit what was stored, and store what was handled.
    config.set("enable.auto.commit", "true").set("enable.auto.offset.store", "false");
    config.set("auto.offset.reset", "earliest");
    config.extend(properties.iter().map(|(key, value)| (key.to_string(), value.to_string())));
    let (hear, mut changes) = mpsc::unbounded_channel();
    let consumer: StreamConsumer<Rebalances> = config.create_with_context(Rebalances(hear))?;
    let consumer = Arc::new(consumer);
    consumer.subscribe(&[topic])?;

    // "You must periodically await StreamConsumer::recv, even if no messages are expected": in the background.
    let main_stream = tokio::spawn({
        let consumer = consumer.clone();
        async move {
            loop {
                match consumer.recv().await {
                    Ok(message) => {
                        eprintln!(
                            "unexpected on the main stream: {}:{}",
                            message.partition(),
                            message.offset()
                        )
                    }
                    Err(error) => eprintln!("main stream: {error}"),
                }
            }
        }
    });

    let mut tasks: HashMap<i32, Task> = HashMap::new();
    tokio::pin!(stop);
    loop {
        let change = tokio::select! {
            () = &mut stop => break,
            Some(change) = changes.recv() => change,
        };
        match change {
            // "You will need to call this method for every partition that should be split after every call to assign."
            Change::Assigned(partitions) => {
                for partition in partitions {
                    let Some(queue) = consumer.split_partition_queue(topic, partition) else {
                        eprintln!("partition {partition} could not be split");
                        continue;
                    };
                    let (stop, stopped) = oneshot::channel();
                    let ended = tokio::spawn(read(consumer.clone(), queue, work.clone(), stopped));
                    tasks.insert(partition, Task { stop, ended });
                }
            }
            Change::Revoked(partitions) => {
                let old = partitions.iter().filter_map(|partition| tasks.remove(partition)).collect();
                let ending = tell_to_end(old);
                if old_tasks == OldTasks::AreWaitedFor {
                    wait_for(ending).await;
                }
            }
        }
    }

    // Finish what is in flight, commit it, and leave the group.
    wait_for(tell_to_end(tasks.into_values().collect())).await;
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
        Err(error) => eprintln!("the last commit: {error}"),
    }
    main_stream.abort();
    main_stream.await.ok();
    // Dropping the consumer leaves the group, and blocks until that is done.
    tokio::task::spawn_blocking(move || drop(consumer)).await.ok();
    Ok(())
}

fn tell_to_end(tasks: Vec<Task>) -> Vec<JoinHandle<()>> {
    let told = tasks.into_iter().map(|task| {
        task.stop.send(()).ok();
        task.ended
    });
    told.collect()
}

async fn wait_for(ending: Vec<JoinHandle<()>>) {
    for ended in ending {
        if let Err(error) = ended.await {
            eprintln!("a partition's task: {error}");
        }
    }
}

/// One partition's task.
async fn read<W, F>(
    consumer: Arc<StreamConsumer<Rebalances>>,
    queue: StreamPartitionQueue<Rebalances>,
    work: W,
    mut stopped: oneshot::Receiver<()>,
) where
    W: Fn(i32, i64, Vec<u8>) -> F,
    F: Future<Output = ()>,
{
    loop {
        let message = tokio::select! {
            biased;
            _ = &mut stopped => return,
            message = queue.recv() => message,
        };
        match message {
            Ok(message) => {
                let payload = message.payload().unwrap_or_default().to_vec();
                work(message.partition(), message.offset(), payload).await;
                if let Err(error) = consumer.store_offset_from_message(&message) {
                    eprintln!("offset {}:{}: {error}", message.partition(), message.offset());
                }
            }
            Err(error) => eprintln!("a partition's queue: {error}"),
        }
    }
}

#[allow(dead_code, reason = "the test runs it without its main")]
#[tokio::main]
async fn main() -> KafkaResult<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (brokers, group, topic, old_tasks) = match arguments.as_slice() {
        [brokers, group, topic] => (brokers, group, topic, OldTasks::AreWaitedFor),
        [brokers, group, topic, told] if told == "told" => (brokers, group, topic, OldTasks::AreTold),
        _ => {
            eprintln!("usage: split_queues BROKERS GROUP TOPIC [told]");
            std::process::exit(2);
        }
    };
    let properties = [("bootstrap.servers", brokers.as_str()), ("group.id", group)];
    let work = |partition: i32, offset: i64, payload: Vec<u8>| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        println!("{partition}:{offset} {}", String::from_utf8_lossy(&payload));
    };
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    run(&properties, topic, old_tasks, work, stop).await
}
