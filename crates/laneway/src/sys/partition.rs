//! The queue of one partition, split off for one assignment of it.

use std::sync::Arc;

use laneway_core::TopicPartition;
use rdkafka_sys::{rd_kafka_consume_batch_queue, rd_kafka_message_t};

use super::batch::{Content, Message, NativeBatch};
use super::error::KafkaError;
use super::queue::RawQueue;
use crate::fetcher::Wake;

/// A partition's own queue. There is at most one handle of a partition at a time, beside a [`LeftQueue`]: all of them share
/// one native queue and its one wake-up callback.
#[derive(Debug)]
pub(crate) struct PartitionHandle {
    partition: TopicPartition,
    queue: RawQueue,
    /// Where a native call puts what it takes; empty between our own.
    taken: Vec<Message>,
}

/// The queue of a partition that is no longer read, which may still be filled for a while.
///
/// Taken while the partition was assigned: whoever looks for the queue of one that is not makes librdkafka keep that
/// partition for good, and make one that is gone anew (rdkafka_queue.c, `rd_kafka_queue_get_partition`).
#[derive(Debug)]
pub(crate) struct LeftQueue(RawQueue);

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
        empty(&handle.queue, &mut handle.taken);
        // A lane that takes less has no use for all of that room.
        handle.taken = Vec::new();
        handle
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
            let count = fill(&self.queue, &mut self.taken, wanted);
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
}

/// Throws away what is in the queue.
fn empty(queue: &RawQueue, taken: &mut Vec<Message>) {
    while fill(queue, taken, LONGEST) == LONGEST {}
    taken.clear();
}

/// Moves up to `wanted` messages from the queue to `taken`, and answers how many it moved.
fn fill(queue: &RawQueue, taken: &mut Vec<Message>, wanted: usize) -> usize {
    taken.clear();
    taken.reserve(wanted);
    let room: *mut *mut rd_kafka_message_t = taken.spare_capacity_mut().as_mut_ptr().cast();
    // SAFETY: the queue is live and there is room for that many pointers. The call fills as many places
    // as it answers, with live messages that are ours from then on, and a `Message` is one such pointer.
    // The client outlives them: who takes a message out of here keeps an `Arc` of it, as the queue's handle
    // does.
    unsafe {
        let count = rd_kafka_consume_batch_queue(queue.as_ptr(), 0, room, wanted);
        let count = usize::try_from(count).unwrap_or(0);
        taken.set_len(count);
        count
    }
}

impl LeftQueue {
    pub(super) fn new(queue: RawQueue) -> Self {
        Self(queue)
    }

    /// Throws away what is in it. To be called when the partition has been stopped, so that what a lane that still has a
    /// handle would find is outdated, and thrown away for it as well.
    pub(crate) fn empty(&self) {
        if self.0.length() > 0 {
            empty(&self.0, &mut Vec::new());
        }
    }
}

impl Drop for PartitionHandle {
    fn drop(&mut self) {
        // What was fetched of a partition that is no longer read stays in its queue, and keeps whole fetch responses
        // in memory, until somebody looks into the queue again.
        empty(&self.queue, &mut self.taken);
    }
}

/// The most messages that one call takes.
const LONGEST: usize = 1_024;
