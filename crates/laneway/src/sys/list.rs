//! Lists of partitions, ours to librdkafka's and back.
//!
//! A list is made for one call and destroyed after it: librdkafka keeps a pointer to a client's own
//! partition in the lists that the client has seen, so that one that lives long holds the client, and one
//! that is shown to another client ends the process.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull, addr_of};
use std::sync::Arc;

use laneway_core::{Position, TopicPartition};
use rdkafka_sys::{
    RD_KAFKA_OFFSET_INVALID, rd_kafka_mem_malloc, rd_kafka_topic_partition_get_leader_epoch,
    rd_kafka_topic_partition_list_add, rd_kafka_topic_partition_list_destroy,
    rd_kafka_topic_partition_list_new, rd_kafka_topic_partition_list_t,
    rd_kafka_topic_partition_set_leader_epoch, rd_kafka_topic_partition_t,
};

use super::error::KafkaError;

/// A native list, owned.
pub(super) struct List(NonNull<rd_kafka_topic_partition_list_t>);

/// One element of a native list, copied.
pub(super) struct Element {
    pub(super) partition: TopicPartition,
    /// Negative where there is none.
    pub(super) offset: i64,
    pub(super) leader_epoch: Option<i32>,
    /// What was committed with the offset, as it is stored.
    pub(super) metadata: Vec<u8>,
    pub(super) error: Option<KafkaError>,
}

impl Element {
    pub(super) fn position(&self) -> Position {
        Position { offset: self.offset, leader_epoch: self.leader_epoch }
    }
}

impl List {
    fn with_capacity(capacity: usize) -> Self {
        // SAFETY: the call needs nothing; a size that does not fit is only a hint that is not given.
        let list = unsafe { rd_kafka_topic_partition_list_new(i32::try_from(capacity).unwrap_or(0)) };
        match NonNull::new(list) {
            Some(list) => Self(list),
            None => unreachable!("librdkafka ends the process when it is out of memory"),
        }
    }

    pub(super) fn of_topics(topics: &[String]) -> Result<Self, KafkaError> {
        let mut list = Self::with_capacity(topics.len());
        for topic in topics {
            list.add(topic, NO_PARTITION, None)?;
        }
        Ok(list)
    }

    pub(super) fn of_partitions(partitions: &[TopicPartition]) -> Result<Self, KafkaError> {
        let mut list = Self::with_capacity(partitions.len());
        for partition in partitions {
            list.add(&partition.topic, partition.partition, None)?;
        }
        Ok(list)
    }

    pub(super) fn of_positions(positions: &[(TopicPartition, Position)]) -> Result<Self, KafkaError> {
        let mut list = Self::with_capacity(positions.len());
        for (partition, position) in positions {
            list.add(&partition.topic, partition.partition, Some((*position, "")))?;
        }
        Ok(list)
    }

    pub(super) fn of_commits(commits: &[(TopicPartition, Position, String)]) -> Result<Self, KafkaError> {
        let mut list = Self::with_capacity(commits.len());
        for (partition, position, metadata) in commits {
            list.add(&partition.topic, partition.partition, Some((*position, metadata)))?;
        }
        Ok(list)
    }

    fn add(
        &mut self,
        topic: &str,
        partition: i32,
        commit: Option<(Position, &str)>,
    ) -> Result<(), KafkaError> {
        let name = CString::new(topic).map_err(|_| KafkaError::inner_nul(topic))?;
        // SAFETY: the list is live and ours, and the name is terminated and copied by the call. The element
        // that it answers with is valid to the next change of the list, and used before that. The memory for the
        // metadata is as long as what is copied there.
        unsafe {
            let element = rd_kafka_topic_partition_list_add(self.0.as_ptr(), name.as_ptr(), partition);
            if let Some((position, metadata)) = commit {
                (*element).offset = position.offset;
                if let Some(epoch) = position.leader_epoch {
                    rd_kafka_topic_partition_set_leader_epoch(element, epoch);
                }
                if !metadata.is_empty() {
                    // The list frees it, with the allocator that this call takes it from.
                    let copy = rd_kafka_mem_malloc(ptr::null_mut(), metadata.len());
                    if !copy.is_null() {
                        copy.cast::<u8>().copy_from_nonoverlapping(metadata.as_ptr(), metadata.len());
                        (*element).metadata = copy;
                        (*element).metadata_size = metadata.len();
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a list over.
    ///
    /// # Safety
    /// `list` is null, or came from a call that gives it away, and is not used by anyone else afterwards.
    pub(super) unsafe fn from_raw(list: *mut rd_kafka_topic_partition_list_t) -> Option<Self> {
        NonNull::new(list).map(Self)
    }

    pub(super) fn as_ptr(&self) -> *mut rd_kafka_topic_partition_list_t {
        self.0.as_ptr()
    }

    pub(super) fn read(&self) -> Vec<Element> {
        // SAFETY: the list is live and ours.
        unsafe { read(self.0.as_ptr()) }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the list is live and ours, and this is its end.
        unsafe { rd_kafka_topic_partition_list_destroy(self.0.as_ptr()) }
    }
}

/// Copies a list; null is an empty one.
///
/// # Safety
/// `list` is null, or points to a list that nobody changes during the call.
pub(super) unsafe fn read(list: *const rd_kafka_topic_partition_list_t) -> Vec<Element> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: by this function's contract. The array of an empty list may be null, so its elements are
    // reached only below the count, one by one.
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        let mut names = Names::default();
        (0..count).map(|index| read_element((*list).elems.add(index), &mut names)).collect()
    }
}

/// Copies an element.
///
/// # Safety
/// `element` points to an element that nobody changes during the call.
pub(super) unsafe fn read_element(element: *const rd_kafka_topic_partition_t, names: &mut Names) -> Element {
    // SAFETY: by this function's contract; the name of an element is a terminated text, and its metadata, if it has
    // any, is as long as it says. The code is read as a number, as it may be one that the bindings do not know.
    unsafe {
        let topic = CStr::from_ptr((*element).topic).to_string_lossy();
        let epoch = rd_kafka_topic_partition_get_leader_epoch(element);
        let code = addr_of!((*element).err).cast::<i32>().read();
        let metadata = match (*element).metadata {
            null if null.is_null() => Vec::new(),
            start => std::slice::from_raw_parts(start.cast::<u8>(), (*element).metadata_size).to_vec(),
        };
        Element {
            partition: TopicPartition { topic: names.shared(&topic), partition: (*element).partition },
            offset: (*element).offset,
            leader_epoch: (epoch >= 0).then_some(epoch),
            metadata,
            error: KafkaError::option(code),
        }
    }
}

/// The offset of an element that has none.
pub(super) const NO_OFFSET: i64 = RD_KAFKA_OFFSET_INVALID as i64;

/// The partition of an element that means a topic.
const NO_PARTITION: i32 = -1;

/// Names of topics, so that the partitions of one list share theirs.
#[derive(Default)]
pub(super) struct Names(BTreeSet<Arc<str>>);

impl Names {
    fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        let new: Arc<str> = name.into();
        self.0.insert(new.clone());
        new
    }
}
