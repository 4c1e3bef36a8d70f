//! Runtimes and consumers that come and go in unusual ways, on the embedded Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::slice;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use laneway::{
    Builder, Consumer, ErrorKind, Event, OffsetReset, Protocol, Record, StopReason, TopicPartition,
};
use laneway_testing::{EmbeddedKafka, Producer, unique, wait_until};
use tokio::runtime::Runtime;

/// An embedded Kafka with one topic, and how often each of its records was finished.
struct Bench {
    kafka: EmbeddedKafka,
    topic: String,
    group: String,
    seen: Arc<Mutex<BTreeMap<(i32, i64), u32>>>,
    stopped: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new() -> Self {
        let kafka = EmbeddedKafka::start().expect("an embedded Kafka");
        let topic = unique("topic");
        kafka.create_topic(&topic, 4).expect("a topic");
        Self { kafka, topic, group: unique("group"), seen: Arc::default(), stopped: Arc::default() }
    }

    fn produce(&self, records: i32) {
        let producer = Producer::new(self.kafka.brokers(), &[]).expect("a producer");
        for number in 0..records {
            producer.send(&self.topic, number % 4, None, Some(b"payload"), &[], None).expect("sent");
        }
        producer.flush().expect("delivered");
    }

    fn builder(&self) -> Builder {
        let stopped = self.stopped.clone();
        Consumer::builder()
            .brokers(self.kafka.brokers())
            .group(&self.group)
            .topics([&self.topic])
            .offset_reset(OffsetReset::Earliest)
            // The embedded Kafka lets a rebalance of the classic protocols wait for a session.
            .protocol(Protocol::Consumer)
            .drain_deadline(Duration::from_secs(2))
            .on_event(move |event| {
                if let Event::Stopped { reason } = event {
                    stopped.lock().unwrap().push(reason.clone());
                }
            })
    }

    fn handler(&self) -> impl Fn(Record) -> std::future::Ready<()> + Send + Sync + 'static {
        let seen = self.seen.clone();
        move |record: Record| {
            *seen.lock().unwrap().entry((record.partition(), record.offset())).or_default() += 1;
            std::future::ready(())
        }
    }

    fn finished(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn assert_once(&self) {
        let seen = self.seen.lock().unwrap();
        let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "handled more than once: {twice:?}");
    }

    fn wait_until_stopped(&self, count: usize) {
        let stopped = || self.stopped.lock().unwrap().len() == count;
        wait_until(Duration::from_secs(10), "the consumer has ended by itself", stopped);
    }

    /// Another member has all lanes soon: the one before it has left the group, and committed.
    fn assert_taken_over(&self) {
        let before = self.finished();
        let runtime = runtime();
        let consumer = self.builder().build().expect("a consumer");
        let handle = consumer.handle();
        let run = runtime.spawn(consumer.run(self.handler()));
        let began = Instant::now();
        self.produce(8);
        wait_until(Duration::from_secs(20), "another member works", || self.finished() == before + 8);
        assert!(began.elapsed() < Duration::from_secs(8), "it took {:?}", began.elapsed());
        handle.stop();
        runtime.block_on(run).unwrap().expect("an end without an error");
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn two_consumers_of_one_process_share_a_group() {
    let bench = Bench::new();
    let runtime = runtime();
    let start = || {
        let consumer = bench.builder().build().expect("a consumer");
        (consumer.handle(), runtime.spawn(consumer.run(bench.handler())))
    };
    let (first, second) = (start(), start());
    let lanes =
        |handle: &laneway::Handle| handle.status().lanes.iter().filter(|it| it.position.is_some()).count();
    wait_until(Duration::from_secs(20), "both have lanes", || lanes(&first.0) == 2 && lanes(&second.0) == 2);
    bench.produce(400);
    wait_until(Duration::from_secs(20), "everything is finished", || bench.finished() == 400);
    for (handle, run) in [first, second] {
        handle.stop();
        let summary = runtime.block_on(run).unwrap().expect("an end without an error");
        assert!(summary.finished > 0);
    }
    bench.assert_once();
}

#[test]
fn a_current_thread_runtime_is_enough() {
    let bench = Bench::new();
    bench.produce(400);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let consumer = bench.builder().exit_at_end(true).build().expect("a consumer");
    let summary = runtime.block_on(consumer.run(bench.handler())).expect("an end without an error");
    assert_eq!((summary.finished, summary.reason), (400, StopReason::AtEnd));
    bench.assert_once();
    bench.assert_taken_over();
}

#[test]
fn a_runtime_shut_down_while_lanes_run_stops_the_consumer() {
    let bench = Bench::new();
    bench.produce(400);
    let runtime = runtime();
    let consumer = bench.builder().build().expect("a consumer");
    let handle = consumer.handle();
    runtime.spawn(consumer.run(bench.handler()));
    wait_until(Duration::from_secs(20), "everything is finished", || bench.finished() == 400);
    runtime.shutdown_background();
    bench.wait_until_stopped(1);
    assert!(handle.status().lanes.is_empty());
    bench.assert_taken_over();
    bench.assert_once();
}

/// The future of `run` lives on, on another runtime than its lanes.
#[test]
fn a_runtime_shut_down_under_its_lanes_ends_the_consumer_with_an_error() {
    let bench = Bench::new();
    bench.produce(400);
    let (lanes, other) = (runtime(), runtime());
    let consumer = bench.builder().build().expect("a consumer");
    let mut run = Box::pin(consumer.run(bench.handler()));
    // It takes the runtime that it is first polled on.
    lanes.block_on(async { tokio::time::timeout(Duration::from_millis(1), &mut run).await.ok() });
    let run = other.spawn(run);
    wait_until(Duration::from_secs(20), "everything is finished", || bench.finished() == 400);
    lanes.shutdown_background();
    let error = other.block_on(run).unwrap().expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::Fatal);
    assert!(error.to_string().contains("runtime"), "{error}");
    bench.assert_taken_over();
    bench.assert_once();
}

#[test]
fn a_consumer_whose_run_is_dropped_leaves_by_itself() {
    let bench = Bench::new();
    bench.produce(400);
    let runtime = runtime();
    let consumer = bench.builder().build().expect("a consumer");
    let handle = consumer.handle();
    let run = runtime.spawn(consumer.run(bench.handler()));
    wait_until(Duration::from_secs(20), "everything is finished", || bench.finished() == 400);
    run.abort();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(10), handle.drain()).await })
        .expect("an end");
    bench.wait_until_stopped(1);
    bench.assert_taken_over();
    bench.assert_once();
}

#[test]
fn a_consumer_that_never_ran_is_nothing() {
    let bench = Bench::new();
    let consumer = bench.builder().build().expect("a consumer");
    let handle = consumer.handle();
    drop(consumer);
    handle.stop();
    let runtime = runtime();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(1), handle.drain()).await })
        .expect("an end");
    assert!(handle.status().lanes.is_empty());
    // Its future was made and never polled.
    let consumer = bench.builder().build().expect("a consumer");
    let handle = consumer.handle();
    drop(consumer.run(bench.handler()));
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(1), handle.drain()).await })
        .expect("an end");
    // Nobody waits for it for ever.
    let consumer = bench.builder().build().expect("a consumer");
    let handle = consumer.handle();
    let partition = TopicPartition::new(bench.topic.as_str(), 0);
    let (one, times) = (slice::from_ref(&partition), [(partition.clone(), 0)]);
    let asks = async {
        let refused = tokio::join!(
            async { handle.commit_now().await.expect_err("nobody to commit") },
            async { handle.pause(one).await.expect_err("no lanes") },
            async { handle.resume(one).await.expect_err("no lanes") },
            async { handle.seek(&partition, 0).await.expect_err("no lanes") },
            async { handle.committed(one).await.expect_err("no client") },
            async { handle.watermarks(one).await.expect_err("no client") },
            async { handle.offsets_for_times(&times).await.expect_err("no client") },
            async { handle.subscribe([&bench.topic]).await.expect_err("no client") },
            async { handle.group_metadata().await.expect_err("no member") },
            handle.drain(),
        );
        let (a, b, c, d, e, f, g, h, i, ()) = refused;
        for error in [a, b, c, d, e, f, g, h, i] {
            assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
            assert!(error.to_string().contains("does not run yet"), "{error}");
        }
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), asks).await }).expect("answers");
    drop(consumer);
    assert_eq!(runtime.block_on(handle.commit_now()).expect_err("gone").kind(), ErrorKind::Ended);
    // Asked before the task has begun that runs it: answered when it does.
    let consumer = bench.builder().build().expect("a consumer");
    let (handle, handler) = (consumer.handle(), bench.handler());
    let asked = async {
        let run = tokio::spawn(async move {
            tokio::task::yield_now().await;
            consumer.run(handler).await
        });
        handle.subscribe([&bench.topic]).await.expect("an answer");
        handle.drain().await;
        run.await.expect("a task").expect("no error");
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), asked).await }).expect("an end");
    // Asked before its future is polled for the first time: answered when it is.
    let consumer = bench.builder().build().expect("a consumer");
    let handle = consumer.handle();
    let run = consumer.run(bench.handler());
    let asked = async {
        handle.subscribe([&bench.topic]).await.expect("an answer");
        handle.drain().await;
    };
    let both =
        async { tokio::time::timeout(Duration::from_secs(8), async { tokio::join!(asked, run) }).await };
    runtime.block_on(both).expect("an end").1.expect("no error");
    // Stopped before it runs: it ends as soon as it does.
    let consumer = bench.builder().build().expect("a consumer");
    consumer.handle().stop();
    let run = async { tokio::time::timeout(Duration::from_secs(8), consumer.run(bench.handler())).await };
    let summary = runtime.block_on(run).expect("an end").expect("no error");
    assert_eq!(summary.finished, 0);
    assert_eq!(bench.finished(), 0);
}
