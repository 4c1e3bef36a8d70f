//! Which topic a name stands for: one that is deleted and made again has the same name, and another id.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka_sys as native;
use rdkafka_sys::{rd_kafka_admin_op_t, rd_kafka_event_t};

use super::admin::Options;
use super::client::Client;
use super::error::{KafkaError, text};
use super::queue::Queue;

/// A topic's id, from its making to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TopicId {
    most: i64,
    least: i64,
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.most, self.least)
    }
}

#[cfg(test)]
impl TopicId {
    pub(crate) fn of(number: i64) -> Self {
        Self { most: 0, least: number }
    }
}

impl Client {
    /// Asks for the ids of topics. Answered by [`NativeEvent::TopicIds`](super::NativeEvent::TopicIds) on `queue`; a
    /// topic that does not exist, or of a broker without ids (before Kafka 2.8), is left out.
    pub(crate) fn topic_ids(
        &self,
        topics: &BTreeSet<&str>,
        queue: &Queue,
        token: u64,
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        let named = |topic: &&str| CString::new(*topic).map_err(|_| KafkaError::inner_nul(topic));
        let names: Vec<CString> = topics.iter().map(named).collect::<Result<_, _>>()?;
        let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let operation = rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = Options::new(self, operation, token, timeout)?;
        // Any will do. Without a word it would be the controller, which may be away, or none (librdkafka's mock).
        let answered = self.answered.load(Ordering::Relaxed);
        if answered >= 0 {
            options.ask(answered)?;
        }
        // SAFETY: client, options and queue are live; the names are terminated and as many as is said. The collection has
        // copies of them, is ours, and is copied by the call before its end.
        unsafe {
            let topics =
                native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            native::rd_kafka_DescribeTopics(self.as_ptr(), topics, options.as_ptr(), queue.as_ptr());
            native::rd_kafka_TopicCollection_destroy(topics);
        }
        Ok(())
    }
}

/// Reads the answer to [`Client::topic_ids`].
///
/// # Safety
/// `event` is live, of that kind, and without an error as a whole.
pub(super) unsafe fn ids(event: *mut rd_kafka_event_t) -> Vec<(String, TopicId)> {
    // SAFETY: by this function's contract; the topics, and what they point to, live as long as the event, there are as
    // many as is said, and all of it is copied. A topic without an error has an id.
    unsafe {
        let result = native::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let topics = native::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        let found = (0..count).filter_map(|index| {
            let topic = *topics.add(index);
            // A broker that leaves one out that was asked for leaves a hole.
            if topic.is_null() || !native::rd_kafka_TopicDescription_error(topic).is_null() {
                return None;
            }
            let id = native::rd_kafka_TopicDescription_topic_id(topic);
            let id = TopicId {
                most: native::rd_kafka_Uuid_most_significant_bits(id),
                least: native::rd_kafka_Uuid_least_significant_bits(id),
            };
            let name = text(native::rd_kafka_TopicDescription_name(topic));
            (id != TopicId { most: 0, least: 0 }).then_some((name, id))
        });
        found.collect()
    }
}
