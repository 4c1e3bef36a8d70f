//! Topics with records in them.

use std::time::{Duration, Instant};

use laneway::TopicPartition;
use laneway_testing::{Admin, unique};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::Failure;

/// What a topic is filled with.
pub(crate) struct Load<'a> {
    pub(crate) partitions: i32,
    /// Of all partitions together.
    pub(crate) records: u64,
    /// Bytes of a payload.
    pub(crate) payload: usize,
    /// Of the producer: its compression.
    pub(crate) properties: &'a [(&'a str, &'a str)],
    /// The partition of a record, and its key, by its number.
    pub(crate) place: &'a dyn Fn(u64) -> (i32, Option<String>),
}

impl Load<'_> {
    /// Makes a topic and fills it. Answers its name.
    pub(crate) fn produce(&self, brokers: &str) -> Result<String, Failure> {
        let topic = unique("bench");
        let admin = Admin::new(brokers)?;
        admin.create_topic(&topic, self.partitions, &[("max.message.bytes", "4000000")])?;
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("linger.ms", "20")
            .set("batch.size", "1000000")
            .set("batch.num.messages", "10000")
            .set("message.max.bytes", "4000000")
            .set("queue.buffering.max.messages", "500000")
            .set("enable.idempotence", "true");
        config.extend(self.properties.iter().map(|(key, value)| (key.to_string(), value.to_string())));
        let producer: BaseProducer = config.create()?;
        for number in 0..self.records {
            self.send(&producer, &topic, number)?;
        }
        producer.flush(Duration::from_secs(120))?;
        let partitions: Vec<_> =
            (0..self.partitions).map(|number| TopicPartition::new(topic.as_str(), number)).collect();
        let ends = admin.end_offsets(&partitions)?;
        let all: i64 = ends.values().sum();
        if all.unsigned_abs() != self.records {
            return Err(format!("{topic} has {all} records, not {}", self.records).into());
        }
        Ok(topic)
    }

    fn send(&self, producer: &BaseProducer, topic: &str, number: u64) -> Result<(), Failure> {
        let (partition, key) = (self.place)(number);
        let payload = payload(number, self.payload);
        let mut record = BaseRecord::<str, [u8]>::to(topic).partition(partition).payload(payload.as_slice());
        if let Some(key) = &key {
            record = record.key(key);
        }
        let started = Instant::now();
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if started.elapsed() < Duration::from_secs(120) =>
                {
                    record = back;
                    producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        if number.is_multiple_of(1_024) {
            producer.poll(Duration::ZERO);
        }
        Ok(())
    }
}

/// As many records for each partition, in rows, so that the producer's batches are full.
pub(crate) fn in_rows(partitions: i32, records: u64) -> impl Fn(u64) -> i32 {
    let row = [10_000, 1_000, 100, 10].into_iter().find(|row| records.is_multiple_of(*row)).unwrap_or(1);
    move |number| (number / row % u64::from(partitions.unsigned_abs())) as i32
}

/// An order as JSON, filled up to `bytes`, or cut.
fn payload(number: u64, bytes: usize) -> Vec<u8> {
    // Digits that look like chance: a hash's.
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut text = format!(
        "{{\"order\":{number},\"customer\":\"{:08x}\",\"amount\":{}.{:02},\"status\":\"placed\",\"note\":\"{mixed:016x}",
        mixed >> 32,
        mixed % 1_000,
        mixed % 100,
    );
    let tail = "\"}";
    while text.len() + tail.len() < bytes {
        text.push(char::from(b'a' + (mixed >> (text.len() % 57)) as u8 % 26));
    }
    text.truncate(bytes.saturating_sub(tail.len()));
    text.push_str(tail);
    text.into_bytes()
}
