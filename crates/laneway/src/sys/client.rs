//! A native client: made, asked, told, and destroyed.

use std::collections::HashMap;
use std::ffi::CString;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicI32;
use std::sync::{Arc, Mutex};

use laneway_core::{Position, TopicPartition};
use rdkafka_sys as native;
use rdkafka_sys::{rd_kafka_t, rd_kafka_topic_t};

use super::certificate::{CertificateReason, verified};
use super::config::Config;
use super::error::{KafkaError, codes, text};
use super::list::{List, NO_OFFSET};
use super::native::{Native, fatal_error, open};
use super::partition::{LeftQueue, PartitionHandle};
use super::queue::{Queue, RawQueue};
use super::raw;

/// A native consumer, with rebalances, errors and commits as events.
///
/// Dropping the last `Arc` destroys it, without closing it, which may hang: drop it where that harms nothing.
/// Queues and records keep an `Arc` too.
///
/// Calls that ask or change the group (`assign` to `assignment_lost`) are answered by a thread of the
/// client's, soon; but never, if it ends meanwhile because the client is closed.
pub(crate) struct Client {
    rk: NonNull<rd_kafka_t>,
    /// Topics that were asked for by name. As long as they are held, the client knows them.
    pub(super) topics: Mutex<HashMap<String, Topic>>,
    /// The broker that answered last when it was asked for topics, or one that it named; less than 0: none has.
    pub(super) answered: AtomicI32,
    certificate: Arc<CertificateReason>,
}

/// A handle of a topic.
pub(super) struct Topic(pub(super) NonNull<rd_kafka_topic_t>);

// SAFETY: librdkafka's calls may be made from any thread, at the same time.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

// SAFETY: as above; a topic's count of references is atomic.
unsafe impl Send for Topic {}

impl Client {
    /// Makes a consumer. It needs a `group.id`, also to be assigned partitions by hand.
    pub(crate) fn new(config: Config) -> Result<Arc<Self>, String> {
        let certificate = Arc::new(CertificateReason::default());
        // SAFETY: the configuration is live and ours; the callback may be called from any thread and at any time, and
        // the reason that it writes to is dropped after the client was destroyed.
        unsafe {
            native::rd_kafka_conf_set_opaque(config.as_ptr(), Arc::as_ptr(&certificate).cast_mut().cast());
            // A build without TLS refuses it, and has no use for it.
            let _ = native::rd_kafka_conf_set_ssl_cert_verify_cb(config.as_ptr(), Some(verified));
        }
        let rk = open(native::rd_kafka_type_t::RD_KAFKA_CONSUMER, config, EVENTS)?;
        let client = Self { rk, topics: Mutex::default(), answered: AtomicI32::new(-1), certificate };
        // SAFETY: the client is live.
        KafkaError::check(unsafe { raw::rd_kafka_poll_set_consumer(client.as_ptr()) })
            .map_err(|error| format!("{error} ({})", error.name()))?;
        Ok(Arc::new(client))
    }

    /// The queue of everything that is not a split partition's. It must be polled, always.
    pub(crate) fn consumer_queue(self: &Arc<Self>) -> Queue {
        // SAFETY: the client is live, and a consumer: so there is such a queue, and this handle of it is
        // ours.
        Queue::new(unsafe { self.own_queue(native::rd_kafka_queue_get_consumer(self.as_ptr())) })
    }

    /// A new queue, for answers.
    pub(crate) fn new_queue(self: &Arc<Self>) -> Queue {
        // SAFETY: the client is live, and the queue is ours.
        Queue::new(unsafe { self.own_queue(native::rd_kafka_queue_new(self.as_ptr())) })
    }

    /// Splits a partition's queue from the consumer queue, for as long as the client lives, and throws away
    /// what waits in it. To be called before the partition is assigned, and while no other handle of it
    /// lives.
    pub(crate) fn partition_handle(
        self: &Arc<Self>,
        partition: &TopicPartition,
    ) -> Result<PartitionHandle, KafkaError> {
        let queue = self.partition_queue(partition)?;
        // SAFETY: the queue is live; to forward it nowhere is to split it.
        unsafe { native::rd_kafka_queue_forward(queue.as_ptr(), ptr::null_mut()) };
        Ok(PartitionHandle::new(partition.clone(), queue))
    }

    /// The queue of a partition that is assigned, and is to be stopped now.
    pub(crate) fn left_queue(self: &Arc<Self>, partition: &TopicPartition) -> Result<LeftQueue, KafkaError> {
        self.partition_queue(partition).map(LeftQueue::new)
    }

    /// Makes the partition known to the client, so that it can be paused before it is assigned.
    pub(crate) fn ensure_partition(self: &Arc<Self>, partition: &TopicPartition) -> Result<(), KafkaError> {
        self.partition_queue(partition).map(drop)
    }

    fn partition_queue(self: &Arc<Self>, partition: &TopicPartition) -> Result<RawQueue, KafkaError> {
        let topic = CString::new(&*partition.topic).map_err(|_| KafkaError::inner_nul(&partition.topic))?;
        // SAFETY: the client is live and the name terminated; a queue that is answered is ours.
        unsafe {
            let queue =
                native::rd_kafka_queue_get_partition(self.as_ptr(), topic.as_ptr(), partition.partition);
            match NonNull::new(queue) {
                Some(queue) => Ok(RawQueue::new(queue, Arc::clone(self))),
                None => {
                    let message = format!("the client has no queue for {partition}");
                    Err(KafkaError::new(codes::_UNKNOWN_PARTITION, message))
                }
            }
        }
    }

    /// The log's end as the last fetch of the partition told it. Asks nobody. In it is what a transaction that is open
    /// has written.
    pub(crate) fn log_end(&self, partition: &TopicPartition) -> Option<i64> {
        let topic = CString::new(&*partition.topic).ok()?;
        let (mut low, mut high) = (NO_OFFSET, NO_OFFSET);
        // SAFETY: the client is live, the name terminated, and both places are there for the length of the call.
        let code = unsafe {
            raw::rd_kafka_get_watermark_offsets(
                self.as_ptr(),
                topic.as_ptr(),
                partition.partition,
                &mut low,
                &mut high,
            )
        };
        KafkaError::check(code).is_ok().then_some(high).filter(|high| *high >= 0)
    }

    /// Pauses partitions, each of which must be known. An error names the first that could not be paused.
    pub(crate) fn pause(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let list = List::of_partitions(partitions)?;
        // SAFETY: the client and the list are live.
        KafkaError::check(unsafe { raw::rd_kafka_pause_partitions(self.as_ptr(), list.as_ptr()) })?;
        // The call succeeds also where an element of its list says that it failed.
        for element in list.read() {
            if let Some(error) = element.error {
                let message = format!("{} could not be paused: {error}", element.partition);
                return Err(KafkaError::new(error.code, message));
            }
        }
        Ok(())
    }

    /// Assigns exactly these partitions; `None` is none at all, as the answer to a revoke wants it.
    pub(crate) fn assign(&self, positions: Option<&[(TopicPartition, Position)]>) -> Result<(), KafkaError> {
        let list = positions.map(List::of_positions).transpose()?;
        let list = list.as_ref().map_or(ptr::null(), |list| list.as_ptr().cast_const());
        // SAFETY: the client is live, and the list is null or live: it is copied.
        KafkaError::check(unsafe { raw::rd_kafka_assign(self.as_ptr(), list) })
    }

    pub(crate) fn incremental_assign(
        &self,
        positions: &[(TopicPartition, Position)],
    ) -> Result<(), KafkaError> {
        let list = List::of_positions(positions)?;
        // SAFETY: the client and the list are live; an error that is answered is ours.
        unsafe { KafkaError::take(native::rd_kafka_incremental_assign(self.as_ptr(), list.as_ptr())) }
    }

    /// Assigns partitions, and asks their leaders whether the logs still are what was read up to these positions before
    /// anything is fetched. librdkafka does not ask where it assigns, but where it seeks (rdkafka_partition.c,
    /// `rd_kafka_toppar_seek`), and what it fetches before that would be told as out of range: so it is paused
    /// meanwhile. All four are carried out in this order.
    pub(crate) fn assign_validated(
        &self,
        positions: &[(TopicPartition, Position)],
    ) -> Result<(), KafkaError> {
        let partitions: Vec<_> = positions.iter().map(|(partition, _)| partition.clone()).collect();
        let started =
            self.pause(&partitions).and_then(|()| self.incremental_assign(positions)).and_then(|()| {
                // One that was not sent to its position would be fetched without being asked.
                self.seek(positions).inspect_err(|_| drop(self.incremental_unassign(&partitions)))
            });
        // Whatever failed: nothing is left paused that was fetched before, or is started again.
        let resumed = self.resume(&partitions);
        started.and(resumed)
    }

    /// Sends assigned partitions to positions, and does not wait until they are there.
    fn seek(&self, positions: &[(TopicPartition, Position)]) -> Result<(), KafkaError> {
        let list = List::of_positions(positions)?;
        // SAFETY: the client and the list are live; an error that is answered is ours.
        unsafe { KafkaError::take(native::rd_kafka_seek_partitions(self.as_ptr(), list.as_ptr(), 0))? };
        for element in list.read() {
            if let Some(error) = element.error.filter(|error| error.code != codes::_IN_PROGRESS) {
                let message = format!("{} could not be sent to its position: {error}", element.partition);
                return Err(KafkaError::new(error.code, message));
            }
        }
        Ok(())
    }

    fn resume(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let list = List::of_partitions(partitions)?;
        // SAFETY: the client and the list are live.
        KafkaError::check(unsafe { raw::rd_kafka_resume_partitions(self.as_ptr(), list.as_ptr()) })
    }

    pub(crate) fn incremental_unassign(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let list = List::of_partitions(partitions)?;
        // SAFETY: the client and the list are live; an error that is answered is ours.
        unsafe { KafkaError::take(native::rd_kafka_incremental_unassign(self.as_ptr(), list.as_ptr())) }
    }

    pub(crate) fn subscribe(&self, topics: &[String]) -> Result<(), KafkaError> {
        let list = List::of_topics(topics)?;
        // SAFETY: the client and the list are live.
        KafkaError::check(unsafe { raw::rd_kafka_subscribe(self.as_ptr(), list.as_ptr()) })
    }

    pub(crate) fn unsubscribe(&self) -> Result<(), KafkaError> {
        // SAFETY: the client is live.
        KafkaError::check(unsafe { raw::rd_kafka_unsubscribe(self.as_ptr()) })
    }

    /// What is assigned to this client.
    pub(crate) fn assignment(&self) -> Result<Vec<TopicPartition>, KafkaError> {
        let mut list = ptr::null_mut();
        // SAFETY: the client is live; a list that is answered is ours.
        let list = unsafe {
            KafkaError::check(raw::rd_kafka_assignment(self.as_ptr(), &mut list))?;
            List::from_raw(list)
        };
        let elements = list.map(|list| list.read()).unwrap_or_default();
        Ok(elements.into_iter().map(|element| element.partition).collect())
    }

    /// The id that the group knows this member by; empty if it does not.
    pub(crate) fn member_id(&self) -> String {
        // SAFETY: the client is live; the text that is answered is ours, and freed after it was copied.
        unsafe {
            let id = native::rd_kafka_memberid(self.as_ptr());
            if id.is_null() {
                return String::new();
            }
            let copy = text(id);
            native::rd_kafka_mem_free(self.as_ptr(), id.cast());
            copy
        }
    }

    /// The generation of the group (KIP-848: the member's epoch) that this member is in; -1 if it is in none.
    pub(crate) fn generation(&self) -> i32 {
        // SAFETY: the client is live; what is answered is ours, and destroyed after it was read.
        unsafe {
            let metadata = native::rd_kafka_consumer_group_metadata(self.as_ptr());
            if metadata.is_null() {
                return -1;
            }
            let generation = native::rd_kafka_consumer_group_metadata_generation_id(metadata);
            native::rd_kafka_consumer_group_metadata_destroy(metadata);
            generation
        }
    }

    /// Whether the client holds its assignment for lost. Not the only sign of that, and not a sure one.
    pub(crate) fn assignment_lost(&self) -> bool {
        // SAFETY: the client is live.
        unsafe { native::rd_kafka_assignment_lost(self.as_ptr()) != 0 }
    }

    /// Why a broker's certificate was last refused.
    pub(crate) fn certificate_refused(&self) -> Option<String> {
        self.certificate.get()
    }

    /// The error that ended the client, if one did.
    pub(crate) fn fatal_error(&self) -> Option<KafkaError> {
        fatal_error(self)
    }

    /// Gives the client brokers to begin with, beside those that it knows. It forgets them as soon as brokers tell it of
    /// others, but keeps the text for as long as it lives.
    pub(crate) fn add_brokers(&self, brokers: &str) {
        let Ok(brokers) = CString::new(brokers) else { return };
        // SAFETY: the client is live and the list terminated; it is copied. The count that is answered says nothing: those
        // that there are already count as well.
        let _ = unsafe { native::rd_kafka_brokers_add(self.as_ptr(), brokers.as_ptr()) };
    }

    /// Begins to close the consumer; what it has to say while it does comes from `queue`, a new one. From
    /// then on only that queue and [`Client::closed`] are sure to answer.
    pub(crate) fn close_queue(&self, queue: &Queue) -> Result<(), KafkaError> {
        // SAFETY: the client and the queue are live; an error that is answered is ours.
        unsafe { KafkaError::take(native::rd_kafka_consumer_close_queue(self.as_ptr(), queue.as_ptr())) }
    }

    pub(crate) fn closed(&self) -> bool {
        // SAFETY: the client is live.
        unsafe { native::rd_kafka_consumer_closed(self.as_ptr()) != 0 }
    }

    pub(super) fn as_ptr(&self) -> *mut rd_kafka_t {
        self.rk.as_ptr()
    }

    /// # Safety
    /// `queue` came from a call of this client's that gives it away, and that answers with one for a
    /// consumer.
    unsafe fn own_queue(self: &Arc<Self>, queue: *mut native::rd_kafka_queue_t) -> RawQueue {
        match NonNull::new(queue) {
            // SAFETY: by this function's contract.
            Some(queue) => unsafe { RawQueue::new(queue, Arc::clone(self)) },
            None => unreachable!("a consumer with a group has its queues"),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.topics.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        // SAFETY: the client is live and this is its end: queues, messages and topics, which must go first,
        // hold an `Arc` of it or were dropped above.
        unsafe {
            native::rd_kafka_destroy_flags(self.as_ptr(), native::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        }
    }
}

// SAFETY: the client is destroyed when this is dropped, and not before.
unsafe impl Native for Client {
    fn native(&self) -> *mut rd_kafka_t {
        self.as_ptr()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.rk).finish()
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: the handle is live and ours, and this is its end.
        unsafe { native::rd_kafka_topic_destroy(self.0.as_ptr()) }
    }
}

const EVENTS: i32 = native::RD_KAFKA_EVENT_REBALANCE
    | native::RD_KAFKA_EVENT_ERROR
    | native::RD_KAFKA_EVENT_OFFSET_COMMIT
    | native::RD_KAFKA_EVENT_STATS
    | native::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH;
