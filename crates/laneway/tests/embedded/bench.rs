//! An embedded Kafka with a topic, a scripted fetcher, and a consumer on them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use laneway::{
    Batching, Builder, Consumer, Error, Event, Handle, OffsetReset, Record, Summary, TopicPartition,
};
use laneway_testing::{EmbeddedKafka, EmbeddedOptions, ScriptedFetcher, unique};
use tokio::runtime::Runtime;

/// An embedded Kafka with a topic, a scripted fetcher, and what a consumer on them tells.
pub(crate) struct Bench {
    pub(crate) kafka: EmbeddedKafka,
    /// Never dropped: that would wait for handlers that block.
    pub(crate) runtime: &'static Runtime,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) fetcher: ScriptedFetcher,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
}

pub(crate) type Running = tokio::task::JoinHandle<Result<Summary, Error>>;

impl Bench {
    pub(crate) fn new(partitions: i32) -> Self {
        Self::with(partitions, EmbeddedOptions::default())
    }

    pub(crate) fn with(partitions: i32, options: EmbeddedOptions) -> Self {
        let kafka = EmbeddedKafka::start_with(options).expect("an embedded Kafka");
        let topic = unique("topic");
        kafka.create_topic(&topic, partitions).expect("a topic");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let runtime = Box::leak(Box::new(runtime));
        let (fetcher, events) = (ScriptedFetcher::new(), Arc::default());
        Self { kafka, runtime, topic, group: unique("group"), fetcher, events }
    }

    pub(crate) fn partition(&self, number: i32) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), number)
    }

    pub(crate) fn builder(&self) -> Builder {
        let events = self.events.clone();
        Consumer::builder()
            .brokers(self.kafka.brokers())
            .group(&self.group)
            .topics([&self.topic])
            .offset_reset(OffsetReset::Earliest)
            .commit_interval(Duration::from_millis(100))
            .on_event(move |event| events.lock().unwrap().push(event.clone()))
    }

    pub(crate) fn run<F, Fut, O>(&self, builder: Builder, handler: F) -> (Handle, Running)
    where
        F: Fn(Record) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = O> + Send + 'static,
        O: laneway::IntoOutcome,
    {
        let consumer = builder.build().expect("a consumer");
        (consumer.handle(), self.runtime.spawn(consumer.run(handler)))
    }

    /// Likewise, in batches.
    pub(crate) fn run_batches<F, Fut, O>(
        &self,
        builder: Builder,
        batching: Batching,
        handler: F,
    ) -> (Handle, Running)
    where
        F: Fn(Vec<Record>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = O> + Send + 'static,
        O: laneway::IntoBatchOutcome + 'static,
    {
        let consumer = builder.build().expect("a consumer");
        (consumer.handle(), self.runtime.spawn(consumer.run_batches(batching, handler)))
    }

    pub(crate) fn end(&self, running: (Handle, Running)) -> Summary {
        running.0.stop();
        self.runtime.block_on(running.1).unwrap().expect("an end without an error")
    }

    pub(crate) fn committed(&self, number: i32) -> i64 {
        let of = self.partition(number);
        let events = self.events.lock().unwrap();
        let commits = events.iter().filter_map(|event| match event {
            Event::Committed { offsets } => offsets.iter().find(|(partition, _)| *partition == of),
            _ => None,
        });
        commits.map(|(_, offset)| *offset).next_back().unwrap_or(-1)
    }

    pub(crate) fn errors(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let texts = events.iter().filter_map(|event| match event {
            Event::Error { message } => Some(message.clone()),
            _ => None,
        });
        texts.collect()
    }
}

pub(crate) const LONG: Duration = Duration::from_secs(20);
