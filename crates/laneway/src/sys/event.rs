//! What a queue brings, copied out of librdkafka's events. Nothing is answered here: a rebalance that is
//! read is only told.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use laneway_core::{Position, TopicPartition};
use rdkafka_sys as native;
use rdkafka_sys::{rd_kafka_event_t, rd_kafka_message_t};

use super::error::{KafkaError, codes, text};
use super::groups::{GroupInfo, described};
use super::list::{Element, NO_OFFSET, Names, read, read_element};
use super::raw;
use super::topics::{TopicId, ids};

/// Something that a queue brought.
#[derive(Debug, Clone)]
pub(crate) enum NativeEvent {
    /// The group assigns or revokes partitions, and waits for the answer.
    Rebalance { assign: bool, partitions: Vec<TopicPartition> },
    /// A rebalance failed. It waits for an answer too: nothing is assigned.
    RebalanceError(KafkaError),
    /// An error of the client as a whole.
    Error { error: KafkaError, fatal: bool },
    /// The answer to a commit: for each partition the offset that was sent.
    Commit { token: u64, error: Option<KafkaError>, partitions: PerPartition<i64> },
    /// The answer to a question for the bounds of logs.
    Offsets { token: u64, result: Result<PerPartition<Position>, KafkaError> },
    /// The answer to a question for the ids of topics.
    TopicIds { token: u64, result: Result<Vec<(String, TopicId)>, KafkaError> },
    /// The answer to the question what a group is.
    Group(Result<GroupInfo, KafkaError>),
    /// A record that went round its partition's queue.
    Record(TopicPartition, i64),
    /// An error of one partition that went round its queue.
    RecordError(TopicPartition, KafkaError),
    /// The client's statistics, in JSON.
    Statistics(String),
    /// The client wants a new OAuth token.
    TokenRefresh,
    /// Anything else.
    Other,
}

/// What is said of each partition, or why it can't be.
pub(crate) type PerPartition<T> = Vec<(TopicPartition, T, Option<KafkaError>)>;

/// What a group has committed for a partition.
#[derive(Debug, Clone)]
pub(crate) struct GroupOffset {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: Option<i64>,
    /// As it is stored.
    pub(crate) metadata: Vec<u8>,
    pub(crate) error: Option<KafkaError>,
}

/// A native event, owned.
pub(super) struct Event(NonNull<rd_kafka_event_t>);

impl Event {
    /// Takes an event over.
    ///
    /// # Safety
    /// `event` is null, or came from a poll, and is not used by anyone else afterwards.
    pub(super) unsafe fn from_raw(event: *mut rd_kafka_event_t) -> Option<Self> {
        NonNull::new(event).map(Self)
    }

    pub(super) fn read(&self) -> NativeEvent {
        let event = self.0.as_ptr();
        // SAFETY: the event is live and ours.
        let kind = unsafe { native::rd_kafka_event_type(event) };
        match kind {
            native::RD_KAFKA_EVENT_REBALANCE => self.rebalance(),
            native::RD_KAFKA_EVENT_ERROR => self.error(),
            native::RD_KAFKA_EVENT_OFFSET_COMMIT => NativeEvent::Commit {
                token: self.token(),
                error: KafkaError::option(self.code()),
                partitions: self.partitions(|e| (e.partition, e.offset, e.error)),
            },
            native::RD_KAFKA_EVENT_LISTOFFSETS_RESULT => {
                NativeEvent::Offsets { token: self.token(), result: self.offsets() }
            }
            native::RD_KAFKA_EVENT_DESCRIBECONSUMERGROUPS_RESULT => NativeEvent::Group(self.group()),
            native::RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT => {
                NativeEvent::TopicIds { token: self.token(), result: self.topic_ids() }
            }
            native::RD_KAFKA_EVENT_FETCH => self.record(),
            native::RD_KAFKA_EVENT_STATS => {
                // SAFETY: the event is live and of this kind; its text lives as long, and is copied.
                let json = unsafe { text(native::rd_kafka_event_stats(event)) };
                NativeEvent::Statistics(json)
            }
            native::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH => NativeEvent::TokenRefresh,
            _ => NativeEvent::Other,
        }
    }

    fn rebalance(&self) -> NativeEvent {
        match self.code() {
            codes::_ASSIGN_PARTITIONS => {
                NativeEvent::Rebalance { assign: true, partitions: self.partitions(|e| e.partition) }
            }
            codes::_REVOKE_PARTITIONS => {
                NativeEvent::Rebalance { assign: false, partitions: self.partitions(|e| e.partition) }
            }
            _ => NativeEvent::RebalanceError(self.kafka_error()),
        }
    }

    fn error(&self) -> NativeEvent {
        // SAFETY: the event is live and an error, for which both calls are meant. The element that the first
        // answers with is ours to destroy, after it was copied.
        unsafe {
            let element = native::rd_kafka_event_topic_partition(self.0.as_ptr());
            if !element.is_null() {
                let partition = read_element(element, &mut Names::default()).partition;
                native::rd_kafka_topic_partition_destroy(element);
                return NativeEvent::RecordError(partition, self.kafka_error());
            }
            let fatal = native::rd_kafka_event_error_is_fatal(self.0.as_ptr()) != 0;
            NativeEvent::Error { error: self.kafka_error(), fatal }
        }
    }

    /// The answer to a question for committed offsets, with their metadata; `None` if this is another event.
    pub(super) fn group_offsets(&self) -> Option<Result<Vec<GroupOffset>, KafkaError>> {
        // SAFETY: the event is live and ours.
        let kind = unsafe { native::rd_kafka_event_type(self.0.as_ptr()) };
        if kind != native::RD_KAFKA_EVENT_LISTCONSUMERGROUPOFFSETS_RESULT {
            return None;
        }
        let found = |e: Element| GroupOffset {
            offset: (e.offset != NO_OFFSET).then_some(e.offset),
            partition: e.partition,
            metadata: e.metadata,
            error: e.error,
        };
        Some(self.committed_elements().map(|elements| elements.into_iter().map(found).collect()))
    }

    fn committed_elements(&self) -> Result<Vec<Element>, KafkaError> {
        self.check()?;
        // SAFETY: the event is live and of this kind; the groups, and what they point to, live as long as it
        // does, and all of it is copied.
        unsafe {
            let result = native::rd_kafka_event_ListConsumerGroupOffsets_result(self.0.as_ptr());
            let mut count = 0;
            let groups = native::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &mut count);
            if groups.is_null() || count == 0 {
                return Err(KafkaError::new(codes::_FAIL, "the broker answered for no group"));
            }
            let group = *groups;
            let error = native::rd_kafka_group_result_error(group);
            if !error.is_null() {
                let message = text(native::rd_kafka_error_string(error));
                return Err(KafkaError::new(raw::rd_kafka_error_code(error), message));
            }
            Ok(read(native::rd_kafka_group_result_partitions(group)))
        }
    }

    fn offsets(&self) -> Result<PerPartition<Position>, KafkaError> {
        self.check()?;
        let mut names = Names::default();
        // SAFETY: the event is live and of this kind; the array has as many live elements as is said, which
        // live as long as the event, and are copied.
        let found = unsafe {
            let result = native::rd_kafka_event_ListOffsets_result(self.0.as_ptr());
            let mut count = 0;
            let infos = native::rd_kafka_ListOffsets_result_infos(result, &mut count);
            (0..count)
                .map(|index| {
                    let info = *infos.add(index);
                    read_element(native::rd_kafka_ListOffsetsResultInfo_topic_partition(info), &mut names)
                })
                .map(told)
                .collect()
        };
        Ok(found)
    }

    fn group(&self) -> Result<GroupInfo, KafkaError> {
        self.check()?;
        // SAFETY: the event is live, of this kind, and says of no error.
        unsafe { described(self.0.as_ptr()) }
    }

    fn topic_ids(&self) -> Result<Vec<(String, TopicId)>, KafkaError> {
        self.check()?;
        // SAFETY: the event is live, of this kind, and says of no error.
        Ok(unsafe { ids(self.0.as_ptr()) })
    }

    fn record(&self) -> NativeEvent {
        // SAFETY: the event is live and a fetched message, which it keeps.
        let partition = unsafe { message_partition(native::rd_kafka_event_message_next(self.0.as_ptr())) };
        match partition {
            Some((partition, offset)) => NativeEvent::Record(partition, offset),
            None => NativeEvent::Other,
        }
    }

    fn partitions<T>(&self, of: impl FnMut(Element) -> T) -> Vec<T> {
        // SAFETY: the event is live and ours, and its list lives as long as it does.
        let elements = unsafe { read(native::rd_kafka_event_topic_partition_list(self.0.as_ptr())) };
        elements.into_iter().map(of).collect()
    }

    fn token(&self) -> u64 {
        // SAFETY: the event is live and ours. What it answers with is only ever a number.
        unsafe { native::rd_kafka_event_opaque(self.0.as_ptr()) }.addr() as u64
    }

    fn code(&self) -> i32 {
        // SAFETY: the event is live and ours.
        unsafe { raw::rd_kafka_event_error(self.0.as_ptr()) }
    }

    fn kafka_error(&self) -> KafkaError {
        // SAFETY: the event is live and ours, and the text is copied at once.
        let message = unsafe { text(native::rd_kafka_event_error_string(self.0.as_ptr())) };
        KafkaError { code: self.code(), message }
    }

    fn check(&self) -> Result<(), KafkaError> {
        if self.code() == codes::NO_ERROR { Ok(()) } else { Err(self.kafka_error()) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is live and ours, and this is its end.
        unsafe { native::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// What was told of a partition. One whose leader does not answer keeps what librdkafka began with: no offset, and no
/// error either (rdkafka_admin.c 4334). That is not "no such record", which is -1.
fn told(element: Element) -> (TopicPartition, Position, Option<KafkaError>) {
    let is_told = element.offset != NO_OFFSET;
    let silent = || KafkaError::new(codes::_TIMED_OUT, "its leader did not answer");
    let error = element.error.clone().or_else(|| (!is_told).then(silent));
    (element.partition.clone(), element.position(), error)
}

/// A token as librdkafka carries it: a number in a pointer's place, never followed.
pub(super) fn opaque(token: u64) -> *mut c_void {
    ptr::without_provenance_mut(token as usize)
}

/// # Safety
/// `message` is null or a live message.
unsafe fn message_partition(message: *const rd_kafka_message_t) -> Option<(TopicPartition, i64)> {
    // SAFETY: by this function's contract; a topic's name lives as long as the topic, and is copied.
    unsafe {
        if message.is_null() || (*message).rkt.is_null() {
            return None;
        }
        let topic = text(native::rd_kafka_topic_name((*message).rkt));
        Some((TopicPartition::new(topic, (*message).partition), (*message).offset))
    }
}
