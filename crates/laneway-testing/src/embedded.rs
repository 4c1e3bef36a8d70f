//! An embedded Kafka: librdkafka's mock cluster in this process.

use std::fmt;
use std::time::Duration;

use crate::sys::Mock;
use crate::{ApiKey, Error};

/// A Kafka in this process, on free loopback ports; it ends when it is dropped.
///
/// It serves real groups in all three protocols, commits with metadata, several brokers, errors and delays on
/// request. What it is not: transactions are hollow (offsets are not stored, aborted records are delivered), a
/// partition keeps at most 5 MiB or 100,000 batches and then drops the oldest silently, its eager protocol
/// refuses a commit during a revoke, topics are neither deleted nor grown, and one that is asked for is made.
/// Where that matters, use [`RealKafka`](crate::RealKafka).
///
/// It may be shared between threads.
///
/// ```
/// # fn main() -> Result<(), laneway_testing::Error> {
/// use laneway_testing::{EmbeddedKafka, Producer};
///
/// let kafka = EmbeddedKafka::start()?;
/// kafka.create_topic("orders", 4)?;
/// let producer = Producer::new(kafka.brokers(), &[])?;
/// producer.send("orders", 0, Some(b"key"), Some(b"payload"), &[], None)?;
/// producer.flush()?;
/// # Ok(())
/// # }
/// ```
pub struct EmbeddedKafka {
    mock: Mock,
    brokers: String,
    replicas: i32,
}

/// How an [`EmbeddedKafka`] is made.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// How many brokers; their ids count from 1. At least one is made. Default 1.
    pub brokers: u16,
    /// How long a new classic group waits for further members before its first assignment. Default 0: tests
    /// and demonstrations have no use for Kafka's 3 s.
    pub initial_rebalance_delay: Duration,
    /// After what silence a member of a KIP-848 group is removed. Default 30 s.
    pub consumer_session_timeout: Duration,
    /// How often members of KIP-848 groups are told to send heartbeats. Default 100 ms.
    pub consumer_heartbeat_interval: Duration,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            brokers: 1,
            initial_rebalance_delay: Duration::ZERO,
            consumer_session_timeout: Duration::from_secs(30),
            consumer_heartbeat_interval: Duration::from_millis(100),
        }
    }
}

/// One request that a broker got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The broker's id.
    pub broker: i32,
    /// What kind of request.
    pub api_key: ApiKey,
    /// When it came, on a clock of the cluster's own.
    pub at: Duration,
}

impl EmbeddedKafka {
    /// One broker, with the defaults of [`EmbeddedOptions`].
    ///
    /// # Errors
    /// When no port is free, or memory is short.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(EmbeddedOptions::default())
    }

    /// A cluster as `options` say.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(options: EmbeddedOptions) -> Result<Self, Error> {
        let mock = Mock::new(options.brokers)?;
        mock.set_initial_rebalance_delay(options.initial_rebalance_delay);
        mock.set_consumer_group_times(options.consumer_session_timeout, options.consumer_heartbeat_interval);
        let brokers = mock.bootstraps();
        Ok(Self { mock, brokers, replicas: i32::from(options.brokers.clamp(1, 3)) })
    }

    /// Where it listens: `127.0.0.1:PORT`, a comma between brokers.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// When it exists, or the number of partitions is not positive.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), Error> {
        if partitions < 1 {
            return Err(Error::new(format!(
                "topic {name} with {partitions} partitions: it needs at least one"
            )));
        }
        self.mock.create_topic(name, partitions, self.replicas)
    }

    /// How long a new classic group waits for further members, from now on.
    pub fn group_initial_rebalance_delay(&self, delay: Duration) {
        self.mock.set_initial_rebalance_delay(delay);
    }

    /// Counts requests from now on, from none.
    pub fn start_counting_requests(&self) {
        self.mock.start_tracking();
    }

    /// The requests since [`start_counting_requests`](Self::start_counting_requests), in the order they came.
    pub fn requests(&self) -> Vec<Request> {
        let requests = self.mock.requests();
        requests
            .into_iter()
            .map(|(broker, api_key, at)| Request {
                broker,
                api_key: ApiKey(api_key),
                at: Duration::from_micros(u64::try_from(at).unwrap_or(0)),
            })
            .collect()
    }

    /// How many requests of one kind there were since counting was started.
    pub fn request_count(&self, api_key: ApiKey) -> usize {
        self.mock.requests().into_iter().filter(|(_, key, _)| *key == api_key.0).count()
    }

    /// Lets the next requests of a kind, at any broker, be answered with these error codes, one each; 0 is no
    /// error. They queue up behind those that were pushed before.
    pub fn push_errors(&self, api_key: ApiKey, codes: &[i32]) {
        self.mock.push_errors(api_key.0, codes);
    }

    /// Forgets the errors that wait for requests of a kind.
    pub fn clear_errors(&self, api_key: ApiKey) {
        self.mock.clear_errors(api_key.0);
    }

    /// Lets one broker answer the next request of a kind after `delay`, with this error code (0: none).
    ///
    /// # Errors
    /// When there is no such broker.
    pub fn push_answer(&self, broker: i32, api_key: ApiKey, code: i32, delay: Duration) -> Result<(), Error> {
        self.mock.push_answer(broker, api_key.0, code, delay)
    }

    /// Closes a broker's connections and refuses new ones.
    ///
    /// # Errors
    /// When there is no such broker.
    pub fn broker_down(&self, broker: i32) -> Result<(), Error> {
        self.mock.set_up(broker, false)
    }

    /// Lets a broker take connections again.
    ///
    /// # Errors
    /// When there is no such broker.
    pub fn broker_up(&self, broker: i32) -> Result<(), Error> {
        self.mock.set_up(broker, true)
    }

    /// How long a broker waits before it answers anything; -1 for the broker means every one.
    ///
    /// # Errors
    /// When there is no such broker.
    pub fn set_rtt(&self, broker: i32, rtt: Duration) -> Result<(), Error> {
        self.mock.set_rtt(broker, rtt)
    }

    /// Makes a broker the leader of a partition; -1 leaves the partition without one.
    ///
    /// # Errors
    /// When there is no such partition or broker.
    pub fn set_leader(&self, topic: &str, partition: i32, broker: i32) -> Result<(), Error> {
        self.mock.set_leader(topic, partition, broker)
    }

    /// Makes a broker the coordinator of a group.
    ///
    /// # Errors
    /// When there is no such broker.
    pub fn set_coordinator(&self, group: &str, broker: i32) -> Result<(), Error> {
        self.mock.set_coordinator(group, broker)
    }

    /// Answers questions about a topic with this error code; 0 ends that.
    ///
    /// # Errors
    /// When Kafka has no such code.
    pub fn set_topic_error(&self, topic: &str, code: i32) -> Result<(), Error> {
        self.mock.set_topic_error(topic, code)
    }
}

impl fmt::Debug for EmbeddedKafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedKafka").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}
