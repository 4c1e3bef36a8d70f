//! The queue of one partition, split off for one assignment of it.

use std::sync::Arc;

use laneway_core::TopicPartition;
use rdkafka_sys::{rd_kafka_consume_batch_queue, rd_kafka_message_t};

use super::batch::{Content, Message, NativeBatch};
use super::error::KafkaError;
use super::queue::RawQueue;
use crate::fetcher::Wake;

/// A partition's own queue. There is at most one handle of a partition at a time: all of them share one
/// native queue and its one wake-up callback.
#[derive(Debug)]
pub(crate) struct PartitionHandle {
    partition: TopicPartition,
    queue: RawQueue,
    /// Where a native call puts what it takes; empty between our own.
    taken: Vec<Message>,
}

/// What was taken from a partition's queue.
#[derive(Debug, Default)]
pub(crate) struct NativeTaken {
    /// Records in the order in which they came; none if there were none.
    pub(crate) batch: Option<NativeBatch>,
    /// The highest offset at which the end of the log was met.
    pub(crate) end: Option<i64>,
    /// These records reach up to the log's end, as far as was known when the last of them was fetched.
    pub(crate) is_last: bool,
    /// What ended the queue behind these records, and the offset that it is about (negative: none).
    pub(crate) error: Option<(KafkaError, i64)>,
}

impl PartitionHandle {
    pub(super) fn new(partition: TopicPartition, queue: RawQueue) -> Self {
        let mut handle = Self { partition, queue, taken: Vec::new() };
        // Errors of an earlier assignment carry no version, so librdkafka would deliver them to this one
        // (rdkafka_offset.c: `RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET, 0`); and while anything stale waits, the
        // queue is not empty, and nothing new wakes anyone.
        handle.empty();
        // A lane that takes less has no use for all of that room.
        handle.taken = Vec::new();
        handle
    }

    /// Throws away what is in the queue.
    fn empty(&mut self) {
        while self.fill(LONGEST) == LONGEST {}
        self.taken.clear();
    }

    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// Has `wake` called whenever the queue was empty and no longer is: from now on, so take once after.
    pub(crate) fn on_ready(&self, wake: Wake) {
        self.queue.on_ready(wake);
    }

    /// How much waits in the queue.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.length()
    }

    /// Takes up to `max` records, without waiting. Fewer, without an error: the queue was empty. Behind an
    /// error nothing may be taken any more.
    pub(crate) fn take(&mut self, max: usize) -> NativeTaken {
        let mut taken = NativeTaken::default();
        let mut records = Vec::new();
        while records.len() < max && taken.error.is_none() {
            let wanted = (max - records.len()).min(LONGEST);
            let count = self.fill(wanted);
            records.reserve_exact(count);
            // An error ends this early; what came behind it is destroyed with the rest.
            for message in self.taken.drain(..) {
                match message.content() {
                    Content::Record(record) => records.push(record),
                    Content::End(offset) => taken.end = taken.end.max(Some(offset)),
                    Content::Error(error, offset) => {
                        taken.error = Some((error, offset));
                        break;
                    }
                }
            }
            if count < wanted {
                break;
            }
        }
        if !records.is_empty() {
            let client = Arc::clone(self.queue.client());
            let is_empty = records.len() < max;
            let batch = NativeBatch::new(self.partition.clone(), records, client);
            // The end is told before the records are that were fetched with it (rdkafka_fetcher.c,
            // `rd_kafka_fetch_reply_handle_partition`).
            taken.is_last =
                is_empty && self.queue.client().log_end(&self.partition) == Some(batch.next_offset());
            taken.batch = Some(batch);
        }
        taken
    }

    /// Moves up to `wanted` messages from the queue to `taken`, and answers how many it moved.
    fn fill(&mut self, wanted: usize) -> usize {
        self.taken.clear();
        self.taken.reserve(wanted);
        let room: *mut *mut rd_kafka_message_t = self.taken.spare_capacity_mut().as_mut_ptr().cast();
        // SAFETY: the queue is live and there is room for that many pointers. The call fills as many places
        // as it answers, with live messages that are ours from then on, and a `Message` is one such pointer.
        // The client outlives them: who takes a message out of here keeps an `Arc` of it, as this handle
        // does.
        unsafe {
            let count = rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, room, wanted);
            let count = usize::try_from(count).unwrap_or(0);
            self.taken.set_len(count);
            count
        }
    }
}

impl Drop for PartitionHandle {
    fn drop(&mut self) {
        // What was fetched of a partition that is no longer read stays in its queue, and keeps whole fetch responses
        // in memory, until somebody looks into the queue again.
        self.empty();
    }
}

/// The most messages that one call takes.
const LONGEST: usize = 1_024;
