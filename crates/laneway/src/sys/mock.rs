//! A Kafka for this crate's own tests: librdkafka's mock cluster, and a producer into it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::{CString, c_int};
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use laneway_core::TopicPartition;
use rdkafka_sys as native;
use rdkafka_sys::{rd_kafka_resp_err_t, rd_kafka_vtype_t as VType, rd_kafka_vu_t};

use super::client::Client;
use super::config::Config;
use super::error::{KafkaError, text};

/// A cluster of one broker, which ends when this is dropped.
pub(crate) struct MockCluster {
    producer: *mut native::rd_kafka_t,
    cluster: *mut native::rd_kafka_mock_cluster_t,
}

/// What a test produces.
#[derive(Default)]
pub(crate) struct TestRecord<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) payload: Option<&'a [u8]>,
    pub(crate) timestamp: i64,
    pub(crate) headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

/// A kind of request that tests look at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Fetch = 1,
    OffsetFetch = 9,
}

impl MockCluster {
    pub(crate) fn new(topic: &str, partitions: i32) -> Self {
        let mut config = Config::new();
        config.set("test.mock.num.brokers", "1").unwrap();
        config.set("linger.ms", "0").unwrap();
        let topic = CString::new(topic).unwrap();
        let mut reason = [0; 512];
        // SAFETY: the configuration is live and taken over; the client outlives its cluster.
        unsafe {
            let producer = native::rd_kafka_new(
                native::rd_kafka_type_t::RD_KAFKA_PRODUCER,
                config.as_ptr(),
                reason.as_mut_ptr(),
                reason.len(),
            );
            assert!(!producer.is_null(), "{}", text(reason.as_ptr()));
            std::mem::forget(config);
            let cluster = native::rd_kafka_handle_mock_cluster(producer);
            native::rd_kafka_mock_topic_create(cluster, topic.as_ptr(), partitions, 1);
            native::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
            Self { producer, cluster }
        }
    }

    /// A consumer of this cluster's, set up like the fetcher's.
    pub(crate) fn client(&self, properties: &[(&str, &str)]) -> Arc<Client> {
        // SAFETY: the cluster is live, and its text with it.
        let brokers = unsafe { text(native::rd_kafka_mock_cluster_bootstraps(self.cluster)) };
        let mut config = Config::new();
        let defaults = [
            ("bootstrap.servers", brokers.as_str()),
            ("group.id", "g"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("enable.partition.eof", "true"),
            ("fetch.wait.max.ms", "20"),
            ("fetch.error.backoff.ms", "10"),
        ];
        for (key, value) in defaults.iter().chain(properties) {
            config.set(key, value).unwrap();
        }
        Client::new(config).unwrap()
    }

    /// Appends records, each in a batch of its own, and waits until the broker has them.
    pub(crate) fn produce(&self, partition: &TopicPartition, records: &[TestRecord<'_>]) {
        for record in records {
            self.send(partition, record);
            // SAFETY: the producer is live.
            let code = unsafe { native::rd_kafka_flush(self.producer, 10_000) };
            assert_eq!(code, rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
        }
    }

    /// Appends `payloads`, without keys.
    pub(crate) fn produce_plain(&self, partition: &TopicPartition, payloads: &[&str]) {
        for payload in payloads {
            let record = TestRecord { payload: Some(payload.as_bytes()), ..TestRecord::default() };
            self.produce(partition, &[record]);
        }
    }

    /// Answers the next request of this kind with an error.
    pub(crate) fn fail_next(&self, request: Request, error: rd_kafka_resp_err_t) {
        // SAFETY: the cluster is live, and the array as long as is said.
        unsafe { native::rd_kafka_mock_push_request_errors_array(self.cluster, request as i16, 1, &error) }
    }

    /// Answers take as long from now on.
    pub(crate) fn slow(&self, time: std::time::Duration) {
        let milliseconds = i32::try_from(time.as_millis()).unwrap();
        // SAFETY: the cluster is live.
        unsafe { native::rd_kafka_mock_broker_set_rtt(self.cluster, 1, milliseconds) };
    }

    pub(crate) fn count_requests(&self) {
        // SAFETY: the cluster is live.
        unsafe { native::rd_kafka_mock_start_request_tracking(self.cluster) }
    }

    /// How many requests of this kind came since [`MockCluster::count_requests`].
    pub(crate) fn requests(&self, request: Request) -> usize {
        // SAFETY: the cluster is live; the answer is ours, as long as is said, and destroyed after it was
        // read.
        unsafe {
            let mut count = 0;
            let all = native::rd_kafka_mock_get_requests(self.cluster, &mut count);
            let of_kind = (0..count)
                .filter(|&index| native::rd_kafka_mock_request_api_key(*all.add(index)) == request as i16)
                .count();
            native::rd_kafka_mock_request_destroy_array(all, count);
            of_kind
        }
    }

    fn send(&self, partition: &TopicPartition, record: &TestRecord<'_>) {
        let topic = CString::new(&*partition.topic).unwrap();
        // SAFETY: the producer is live; everything that is pointed to lives for the call, which copies it,
        // but for the headers, which it takes over.
        unsafe {
            let mut parts = vec![
                vu(VType::RD_KAFKA_VTYPE_TOPIC, |u| u.cstr = topic.as_ptr()),
                vu(VType::RD_KAFKA_VTYPE_PARTITION, |u| u.i32_ = partition.partition),
                vu(VType::RD_KAFKA_VTYPE_MSGFLAGS, |u| u.i = native::RD_KAFKA_MSG_F_COPY as c_int),
                vu(VType::RD_KAFKA_VTYPE_TIMESTAMP, |u| u.i64_ = record.timestamp),
                memory(VType::RD_KAFKA_VTYPE_KEY, record.key),
                memory(VType::RD_KAFKA_VTYPE_VALUE, record.payload),
            ];
            if !record.headers.is_empty() {
                let headers = native::rd_kafka_headers_new(record.headers.len());
                for (name, value) in &record.headers {
                    native::rd_kafka_header_add(
                        headers,
                        name.as_ptr().cast(),
                        name.len() as isize,
                        value.map_or(ptr::null(), |value| value.as_ptr().cast()),
                        value.map_or(0, |value| value.len() as isize),
                    );
                }
                parts.push(vu(VType::RD_KAFKA_VTYPE_HEADERS, |u| u.headers = headers));
            }
            let error = native::rd_kafka_produceva(self.producer, parts.as_ptr(), parts.len());
            KafkaError::take(error).unwrap();
        }
    }
}

impl Drop for MockCluster {
    fn drop(&mut self) {
        // SAFETY: the producer is live, and this is its end and its cluster's.
        unsafe { native::rd_kafka_destroy_flags(self.producer, 0) }
    }
}

/// Waits until `condition` gives something, and fails the test if it does not for long.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

type Value = native::rd_kafka_vu_s__bindgen_ty_1;

fn vu(vtype: VType, set: impl FnOnce(&mut Value)) -> rd_kafka_vu_t {
    let mut part = rd_kafka_vu_t { vtype, u: Value { _pad: [0; 64] } };
    set(&mut part.u);
    part
}

fn memory(vtype: VType, bytes: Option<&[u8]>) -> rd_kafka_vu_t {
    let memory = native::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
        ptr: bytes.map_or(ptr::null_mut(), |bytes| bytes.as_ptr().cast_mut().cast()),
        size: bytes.map_or(0, <[u8]>::len),
    };
    vu(vtype, |u| u.mem = memory)
}

impl Client {
    /// How many things librdkafka has for a partition that nobody took.
    pub(crate) fn waiting(self: &Arc<Self>, partition: &TopicPartition) -> usize {
        let topic = CString::new(&*partition.topic).unwrap();
        // SAFETY: the client is live and the name terminated; the handle is ours and destroyed after its use.
        unsafe {
            let queue =
                native::rd_kafka_queue_get_partition(self.as_ptr(), topic.as_ptr(), partition.partition);
            let length = native::rd_kafka_queue_length(queue);
            native::rd_kafka_queue_destroy(queue);
            length
        }
    }
}
