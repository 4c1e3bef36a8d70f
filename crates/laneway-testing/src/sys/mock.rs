//! librdkafka's mock cluster. Its calls either take the cluster's lock or go through a queue to the cluster's
//! own thread (rdkafka_mock.c), so they may come from any thread, several at once.

use std::ffi::{c_char, c_int};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka_sys as rd;

use super::client::{Client, Kind, c_string, check, millis, owned};
use crate::Error;

/// A mock cluster, and the client that carries it.
pub(crate) struct Mock {
    cluster: NonNull<rd::rd_kafka_mock_cluster_t>,
    _client: Client,
}

// SAFETY: see the file's first lines.
unsafe impl Send for Mock {}
// SAFETY: see the file's first lines.
unsafe impl Sync for Mock {}

impl Mock {
    pub(crate) fn new(brokers: u16) -> Result<Self, Error> {
        let client = Client::new(Kind::Producer, &[("client.id", "laneway-embedded-kafka")], 0)?;
        // SAFETY: the client is valid and outlives the cluster: it is dropped after it.
        let raw = unsafe { rd::rd_kafka_mock_cluster_new(client.raw(), c_int::from(brokers.max(1))) };
        match NonNull::new(raw) {
            Some(cluster) => Ok(Self { cluster, _client: client }),
            None => Err(Error::new("the embedded Kafka did not start: no free port on the loopback address")),
        }
    }

    fn raw(&self) -> *mut rd::rd_kafka_mock_cluster_t {
        self.cluster.as_ptr()
    }

    pub(crate) fn bootstraps(&self) -> String {
        // SAFETY: the cluster is valid; its string lives as long as it.
        unsafe { owned(rd::rd_kafka_mock_cluster_bootstraps(self.raw())) }
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: i32, replicas: i32) -> Result<(), Error> {
        let c_name = c_string(name)?;
        // SAFETY: the cluster is valid and the name ends in NUL.
        let made =
            unsafe { rd::rd_kafka_mock_topic_create(self.raw(), c_name.as_ptr(), partitions, replicas) };
        check(made, || format!("topic {name} with {partitions} partitions"))
    }

    pub(crate) fn set_initial_rebalance_delay(&self, delay: Duration) {
        // SAFETY: the cluster is valid.
        unsafe { rd::rd_kafka_mock_group_initial_rebalance_delay_ms(self.raw(), millis(delay)) };
    }

    pub(crate) fn set_consumer_group_times(&self, session: Duration, heartbeat: Duration) {
        // SAFETY: the cluster is valid.
        unsafe {
            rd::rd_kafka_mock_set_group_consumer_session_timeout_ms(self.raw(), millis(session));
            rd::rd_kafka_mock_set_group_consumer_heartbeat_interval_ms(self.raw(), millis(heartbeat));
        }
    }

    pub(crate) fn start_tracking(&self) {
        // SAFETY: the cluster is valid.
        unsafe { rd::rd_kafka_mock_start_request_tracking(self.raw()) };
    }

    /// The requests since tracking was started: broker, kind, time of receipt in microseconds.
    pub(crate) fn requests(&self) -> Vec<(i32, i16, i64)> {
        let mut count = 0usize;
        // SAFETY: the cluster is valid, and `count` is a place for the number; the answer is ours.
        let array = unsafe { rd::rd_kafka_mock_get_requests(self.raw(), &mut count) };
        if array.is_null() {
            return Vec::new();
        }
        let requests = (0..count)
            .map(|at| {
                // SAFETY: the array has `count` valid requests.
                unsafe {
                    let request = *array.add(at);
                    (
                        rd::rd_kafka_mock_request_id(request),
                        rd::rd_kafka_mock_request_api_key(request),
                        rd::rd_kafka_mock_request_timestamp(request),
                    )
                }
            })
            .collect();
        // SAFETY: ours, and freed once.
        unsafe { rd::rd_kafka_mock_request_destroy_array(array, count) };
        requests
    }

    pub(crate) fn push_errors(&self, api_key: i16, codes: &[i32]) {
        // SAFETY: the cluster is valid; C reads the codes as integers, of which any value is fine there.
        unsafe {
            rd::rd_kafka_mock_push_request_errors_array(
                self.raw(),
                api_key,
                codes.len(),
                codes.as_ptr().cast(),
            );
        }
    }

    pub(crate) fn clear_errors(&self, api_key: i16) {
        // SAFETY: the cluster is valid.
        unsafe { rd::rd_kafka_mock_clear_request_errors(self.raw(), api_key) };
    }

    pub(crate) fn push_answer(
        &self,
        broker: i32,
        api_key: i16,
        code: i32,
        delay: Duration,
    ) -> Result<(), Error> {
        // SAFETY: the cluster is valid; one pair of (code, milliseconds) follows the count of 1.
        let pushed = unsafe {
            rd::rd_kafka_mock_broker_push_request_error_rtts(
                self.raw(),
                broker,
                api_key,
                1,
                code,
                millis(delay),
            )
        };
        check(pushed, || format!("an answer of broker {broker}"))
    }

    pub(crate) fn set_up(&self, broker: i32, up: bool) -> Result<(), Error> {
        // SAFETY: the cluster is valid.
        let set = unsafe {
            if up {
                rd::rd_kafka_mock_broker_set_up(self.raw(), broker)
            } else {
                rd::rd_kafka_mock_broker_set_down(self.raw(), broker)
            }
        };
        check(set, || format!("broker {broker}"))
    }

    pub(crate) fn set_rtt(&self, broker: i32, rtt: Duration) -> Result<(), Error> {
        // SAFETY: the cluster is valid.
        let set = unsafe { rd::rd_kafka_mock_broker_set_rtt(self.raw(), broker, millis(rtt)) };
        check(set, || format!("broker {broker}"))
    }

    pub(crate) fn set_leader(&self, topic: &str, partition: i32, broker: i32) -> Result<(), Error> {
        let c_topic = c_string(topic)?;
        // SAFETY: the cluster is valid and the name ends in NUL.
        let set = unsafe {
            rd::rd_kafka_mock_partition_set_leader(self.raw(), c_topic.as_ptr(), partition, broker)
        };
        check(set, || format!("leader {broker} of {topic}-{partition}"))
    }

    pub(crate) fn set_coordinator(&self, group: &str, broker: i32) -> Result<(), Error> {
        let c_group = c_string(group)?;
        let kind: *const c_char = c"group".as_ptr();
        // SAFETY: the cluster is valid and both strings end in NUL.
        let set = unsafe { rd::rd_kafka_mock_coordinator_set(self.raw(), kind, c_group.as_ptr(), broker) };
        check(set, || format!("coordinator {broker} of group {group}"))
    }

    pub(crate) fn set_topic_error(&self, topic: &str, code: i32) -> Result<(), Error> {
        let c_topic = c_string(topic)?;
        let code = rd::rd_kafka_resp_err_t::try_from(code)
            .map_err(|_| Error::new(format!("{code} is not an error code of Kafka's")))?;
        // SAFETY: the cluster is valid and the name ends in NUL.
        unsafe { rd::rd_kafka_mock_topic_set_error(self.raw(), c_topic.as_ptr(), code) };
        Ok(())
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_mock_cluster_new`, destroyed once, before its client.
        unsafe { rd::rd_kafka_mock_cluster_destroy(self.raw()) };
    }
}
