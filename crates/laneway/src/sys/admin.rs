//! Questions to the brokers: commits, offsets and metadata. Commits and the bounds of logs are
//! answered through a queue.

use std::ffi::CString;
use std::ptr::{self, NonNull, addr_of};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use laneway_core::{Position, TopicPartition};
use rdkafka_sys as native;
use rdkafka_sys::{
    rd_kafka_AdminOptions_t, rd_kafka_IsolationLevel_t, rd_kafka_admin_op_t, rd_kafka_metadata_t,
    rd_kafka_topic_t,
};

use super::client::{Client, Topic};
use super::error::{KafkaError, text};
use super::event::{PerPartition, opaque};
use super::list::{Element, List, NO_OFFSET};
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

/// What is committed, with its metadata.
pub(crate) type Committed = PerPartition<Option<(Position, String)>>;

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

    /// Asks for the offsets that are committed in this client's group, and waits for the answer; a partition without
    /// one has none. With `read_committed` none of them is about to be changed by a transaction.
    ///
    /// The question that does not wait (`rd_kafka_ListConsumerGroupOffsets`) is no good. It goes to the coordinator
    /// that was found first for as long as that is asked anything, also after the group has moved to another
    /// (rdkafka_coord.c: `rd_kafka_coord_cache_evict` is called for transactions alone): it is refused then, or never
    /// answered, for ever. And where it times out before a coordinator is found it is freed twice. This one goes
    /// where the client's own group is.
    pub(crate) fn committed(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Committed, KafkaError> {
        let list = List::of_partitions(partitions)?;
        // SAFETY: client and list are live; the list is ours, and nothing is left of it with the client.
        KafkaError::check(unsafe {
            raw::rd_kafka_committed(self.as_ptr(), list.as_ptr(), milliseconds(timeout))
        })?;
        let found = |e: Element| {
            // What is not UTF-8 is read as far as it can be: it is no map in any case.
            let metadata = || String::from_utf8_lossy(&e.metadata).into_owned();
            let committed = (e.offset != NO_OFFSET).then(|| (e.position(), metadata()));
            (e.partition, committed, e.error)
        };
        Ok(list.read().into_iter().map(found).collect())
    }

    /// Asks for what a group has committed, with the metadata: for these partitions, or for all that there are.
    /// Answered on `queue`, which is for this alone, and perhaps late: where the native timeout passes before a
    /// coordinator is found the question is freed twice (rdkafka_admin.c, rdkafka_coord.c), so it is the longest there
    /// can be, an hour. What a transaction is about to change is answered as it is.
    pub(crate) fn list_group_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
        queue: &Queue,
    ) -> Result<(), KafkaError> {
        let group = CString::new(group).map_err(|_| KafkaError::inner_nul(group))?;
        let list = partitions.map(List::of_partitions).transpose()?;
        let list = list.as_ref().map_or(ptr::null(), |list| list.as_ptr().cast_const());
        let options = Options::new(
            self,
            rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS,
            0,
            LONGEST_TIMEOUT,
        )?;
        // SAFETY: client, options and queue are live, and so is the list, unless it is null, which asks for all; the
        // name is terminated. The call copies what it needs of the request, which is ours and destroyed after it.
        unsafe {
            KafkaError::take(native::rd_kafka_AdminOptions_set_require_stable_offsets(
                options.0.as_ptr(),
                0,
            ))?;
            let mut request = native::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), list);
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

    /// Asks a broker for nothing but an answer, and waits for it.
    pub(crate) fn reach(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.metadata(false, ptr::null_mut(), timeout).map(drop)
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
            // One that is reached by its address alone, as at first, has no number: any of the cluster's, then.
            let (by, brokers) = ((*answer).orig_broker_id, (*answer).brokers);
            let broker = if by < 0 && (*answer).broker_cnt > 0 { (*brokers).id } else { by };
            self.answered.store(broker, Ordering::Relaxed);
            native::rd_kafka_metadata_destroy(answer);
            Ok(topics)
        }
    }
}

/// How a question is to be asked; owned.
pub(super) struct Options(NonNull<rd_kafka_AdminOptions_t>);

impl Options {
    pub(super) fn new(
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

    /// Asks this broker.
    pub(super) fn ask(&self, broker: i32) -> Result<(), KafkaError> {
        // SAFETY: the options are live, and nothing is written to a text without room.
        KafkaError::check(unsafe {
            raw::rd_kafka_AdminOptions_set_broker(self.0.as_ptr(), broker, ptr::null_mut(), 0)
        })
    }

    pub(super) fn as_ptr(&self) -> *mut rd_kafka_AdminOptions_t {
        self.0.as_ptr()
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
pub(super) const LONGEST_TIMEOUT: Duration = Duration::from_secs(3_600);
