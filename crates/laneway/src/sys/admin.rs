//! Questions to the brokers: commits, offsets and metadata. All but metadata answer through a queue.

use std::ffi::CString;
use std::ptr::{self, NonNull, addr_of};
use std::sync::PoisonError;
use std::time::Duration;

use laneway_core::{Position, TopicPartition};
use rdkafka_sys as native;
use rdkafka_sys::{
    rd_kafka_AdminOptions_t, rd_kafka_IsolationLevel_t, rd_kafka_admin_op_t, rd_kafka_metadata_t,
    rd_kafka_topic_t,
};

use super::client::{Client, Topic};
use super::error::{KafkaError, text};
use super::event::opaque;
use super::list::List;
use super::queue::Queue;
use super::raw;

/// Which bound of a log is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OffsetSpec {
    /// The first record that there still is.
    Earliest,
    /// Behind the last record (with `read_committed`: behind the last that is stable).
    Latest,
    /// The first record that is not older than this, in milliseconds since 1970; no offset where there is none.
    AtTime(i64),
}

/// A topic, as a broker sees it.
#[derive(Debug, Clone)]
pub(crate) struct TopicInfo {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    pub(crate) error: Option<KafkaError>,
}

impl Client {
    /// Sends a commit, each offset with its metadata. Answered by [`NativeEvent::Commit`](super::NativeEvent::Commit) on `queue`, sometime.
    pub(crate) fn commit(
        &self,
        commits: &[(TopicPartition, Position, String)],
        queue: &Queue,
        token: u64,
    ) -> Result<(), KafkaError> {
        let list = List::of_commits(commits)?;
        // SAFETY: client, list and queue are live; the list is copied, and without a callback the answer is
        // an event, that carries the token and never follows it.
        KafkaError::check(unsafe {
            raw::rd_kafka_commit_queue(self.as_ptr(), list.as_ptr(), queue.as_ptr(), None, opaque(token))
        })
    }

    /// Asks for committed offsets that no transaction is about to change. Answered by
    /// [`NativeEvent::Committed`](super::NativeEvent::Committed) on `queue`, perhaps late: there is no timeout.
    ///
    /// With one librdkafka would end the process: a question that times out before its coordinator is found is
    /// freed, and freed again when it is found (rdkafka_admin.c, `rd_kafka_admin_coord_request` answers
    /// `_DESTROY`, and rdkafka_coord.c then calls `rd_kafka_admin_coord_response_parse`). So it has the longest
    /// timeout there can be, an hour.
    pub(crate) fn list_committed(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        queue: &Queue,
        token: u64,
    ) -> Result<(), KafkaError> {
        let group = CString::new(group).map_err(|_| KafkaError::inner_nul(group))?;
        let list = List::of_partitions(partitions)?;
        let options = Options::new(
            self,
            rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS,
            token,
            LONGEST_TIMEOUT,
        )?;
        // SAFETY: client, list, options and queue are live; the name is terminated. The call copies what it
        // needs of the request, which is ours and destroyed after it.
        unsafe {
            KafkaError::take(native::rd_kafka_AdminOptions_set_require_stable_offsets(
                options.0.as_ptr(),
                1,
            ))?;
            let mut request = native::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), list.as_ptr());
            native::rd_kafka_ListConsumerGroupOffsets(
                self.as_ptr(),
                &mut request,
                1,
                options.0.as_ptr(),
                queue.as_ptr(),
            );
            native::rd_kafka_ListConsumerGroupOffsets_destroy(request);
        }
        Ok(())
    }

    /// Asks for bounds of logs. Answered by [`NativeEvent::Offsets`](super::NativeEvent::Offsets) on `queue`.
    pub(crate) fn list_offsets(
        &self,
        wanted: &[(TopicPartition, OffsetSpec)],
        read_committed: bool,
        queue: &Queue,
        token: u64,
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        let number = |spec| match spec {
            OffsetSpec::Earliest => native::RD_KAFKA_OFFSET_BEGINNING.into(),
            OffsetSpec::Latest => native::RD_KAFKA_OFFSET_END.into(),
            OffsetSpec::AtTime(time) => time.max(0),
        };
        let wanted = wanted.iter().map(|(partition, spec)| (partition.clone(), Position::at(number(*spec))));
        let wanted: Vec<_> = wanted.collect();
        let list = List::of_positions(&wanted)?;
        let options = Options::new(self, rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS, token, timeout)?;
        let isolation = if read_committed {
            rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED
        } else {
            rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED
        };
        // SAFETY: client, list, options and queue are live; the call copies the list.
        unsafe {
            KafkaError::take(native::rd_kafka_AdminOptions_set_isolation_level(
                options.0.as_ptr(),
                isolation,
            ))?;
            native::rd_kafka_ListOffsets(self.as_ptr(), list.as_ptr(), options.0.as_ptr(), queue.as_ptr());
        }
        Ok(())
    }

    /// Asks for one topic, and waits for the answer. The client knows the topic from now on.
    pub(crate) fn metadata_of(&self, topic: &str, timeout: Duration) -> Result<TopicInfo, KafkaError> {
        let handle = self.topic(topic)?;
        let found = self.metadata(false, handle, timeout)?;
        let not_there = || TopicInfo {
            name: topic.to_owned(),
            partitions: 0,
            error: Some(KafkaError::of(super::codes::UNKNOWN_TOPIC_OR_PART)),
        };
        Ok(found.into_iter().find(|info| info.name == topic).unwrap_or_else(not_there))
    }

    /// Asks for all topics, and waits for the answer. A client in a group looks at its subscription again.
    pub(crate) fn metadata_all(&self, timeout: Duration) -> Result<Vec<TopicInfo>, KafkaError> {
        self.metadata(true, ptr::null_mut(), timeout)
    }

    fn topic(&self, topic: &str) -> Result<*mut rd_kafka_topic_t, KafkaError> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Topic(known)) = topics.get(topic) {
            return Ok(known.as_ptr());
        }
        let name = CString::new(topic).map_err(|_| KafkaError::inner_nul(topic))?;
        // SAFETY: the client is live and the name terminated; without a configuration it takes the client's.
        // A handle that is answered is ours; why there is none is told on this thread.
        unsafe {
            let handle = native::rd_kafka_topic_new(self.as_ptr(), name.as_ptr(), ptr::null_mut());
            let handle = NonNull::new(handle).ok_or_else(|| KafkaError::of(raw::rd_kafka_last_error()))?;
            topics.insert(topic.to_owned(), Topic(handle));
            Ok(handle.as_ptr())
        }
    }

    fn metadata(
        &self,
        all: bool,
        topic: *mut rd_kafka_topic_t,
        timeout: Duration,
    ) -> Result<Vec<TopicInfo>, KafkaError> {
        let mut answer: *const rd_kafka_metadata_t = ptr::null();
        // SAFETY: the client is live, and the topic null or held to the client's end. An answer is ours: it
        // is copied, then destroyed. Its arrays have as many elements as it says, and its names are
        // terminated; the codes are read as numbers, as they may be some that the bindings don't know.
        unsafe {
            KafkaError::check(raw::rd_kafka_metadata(
                self.as_ptr(),
                all.into(),
                topic,
                &mut answer,
                milliseconds(timeout),
            ))?;
            let count = usize::try_from((*answer).topic_cnt).unwrap_or(0);
            let topics = (0..count).map(|index| {
                let topic = (*answer).topics.add(index);
                TopicInfo {
                    name: text((*topic).topic),
                    partitions: (*topic).partition_cnt,
                    error: KafkaError::option(addr_of!((*topic).err).cast::<i32>().read()),
                }
            });
            let topics = topics.collect();
            native::rd_kafka_metadata_destroy(answer);
            Ok(topics)
        }
    }
}

/// How a question is to be asked; owned.
struct Options(NonNull<rd_kafka_AdminOptions_t>);

impl Options {
    fn new(
        client: &Client,
        operation: rd_kafka_admin_op_t,
        token: u64,
        timeout: Duration,
    ) -> Result<Self, KafkaError> {
        // SAFETY: the client is live, and the options that are answered are ours. The token is carried, never
        // followed.
        unsafe {
            let options = native::rd_kafka_AdminOptions_new(client.as_ptr(), operation);
            let Some(options) = NonNull::new(options) else {
                unreachable!("librdkafka knows the operation");
            };
            let options = Self(options);
            native::rd_kafka_AdminOptions_set_opaque(options.0.as_ptr(), opaque(token));
            KafkaError::check(raw::rd_kafka_AdminOptions_set_request_timeout(
                options.0.as_ptr(),
                milliseconds(timeout),
                ptr::null_mut(),
                0,
            ))?;
            Ok(options)
        }
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: the options are live and ours, and this is their end.
        unsafe { native::rd_kafka_AdminOptions_destroy(self.0.as_ptr()) }
    }
}

/// A timeout as librdkafka takes it: at most an hour.
fn milliseconds(timeout: Duration) -> i32 {
    i32::try_from(timeout.min(LONGEST_TIMEOUT).as_millis()).unwrap_or(i32::MAX).max(1)
}

/// What librdkafka takes at most.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3_600);
