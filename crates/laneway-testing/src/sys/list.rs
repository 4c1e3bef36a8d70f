//! A native list of partitions with offsets and metadata.

use std::ffi::c_void;
use std::ptr::NonNull;

use laneway_core::TopicPartition;
use rdkafka_sys as rd;

use super::client::{c_string, check, owned};
use crate::Error;

/// A native list of partitions. One is never given to two clients: librdkafka keeps a pointer of the
/// client's in it.
pub(crate) struct List {
    raw: NonNull<rd::rd_kafka_topic_partition_list_t>,
}

/// One element of a list, copied out of it.
pub(crate) struct Element {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: i64,
    pub(crate) metadata: Vec<u8>,
}

impl List {
    pub(crate) fn new() -> Result<Self, Error> {
        // SAFETY: a new list, which is ours.
        let raw = unsafe { rd::rd_kafka_topic_partition_list_new(8) };
        NonNull::new(raw)
            .map(|raw| Self { raw })
            .ok_or_else(|| Error::new("no memory for a list of partitions"))
    }

    /// Takes over a list that the client gave away.
    ///
    /// # Safety
    /// `raw` is null or a list that is the caller's.
    pub(super) unsafe fn from_raw(raw: *mut rd::rd_kafka_topic_partition_list_t) -> Result<Self, Error> {
        match NonNull::new(raw) {
            Some(raw) => Ok(Self { raw }),
            None => Self::new(),
        }
    }

    /// A list of these partitions, without offsets.
    pub(crate) fn of(partitions: &[TopicPartition]) -> Result<Self, Error> {
        let mut list = Self::new()?;
        for partition in partitions {
            list.add(&partition.topic, partition.partition)?;
        }
        Ok(list)
    }

    /// Adds a partition and gives its place in the list.
    fn add(&mut self, topic: &str, partition: i32) -> Result<&mut rd::rd_kafka_topic_partition_t, Error> {
        let c_topic = c_string(topic)?;
        // SAFETY: the list is valid and the name ends in NUL; the place lives until the list grows, and it
        // is borrowed from the list here.
        let place = unsafe {
            rd::rd_kafka_topic_partition_list_add(self.raw.as_ptr(), c_topic.as_ptr(), partition).as_mut()
        };
        place.ok_or_else(|| Error::new("no memory for a list of partitions"))
    }

    /// Adds a topic, for a subscription.
    pub(crate) fn add_topic(&mut self, topic: &str) -> Result<(), Error> {
        self.add(topic, -1).map(drop)
    }

    /// Adds a partition at an offset (a number, or one of librdkafka's stand-ins), with a commit's metadata.
    pub(crate) fn add_offset(
        &mut self,
        partition: &TopicPartition,
        offset: i64,
        metadata: &[u8],
    ) -> Result<(), Error> {
        let place = self.add(&partition.topic, partition.partition)?;
        place.offset = offset;
        if !metadata.is_empty() {
            // SAFETY: `malloc` gives that many bytes or null; the list frees them with `free`, as its own.
            unsafe {
                let copy = libc::malloc(metadata.len());
                if copy.is_null() {
                    return Err(Error::new("no memory for a commit's metadata"));
                }
                std::ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast(), metadata.len());
                place.metadata = copy.cast::<c_void>();
                place.metadata_size = metadata.len();
            }
        }
        Ok(())
    }

    pub(crate) fn raw(&self) -> *mut rd::rd_kafka_topic_partition_list_t {
        self.raw.as_ptr()
    }

    pub(crate) fn elements(&self, what: &str) -> Result<Vec<Element>, Error> {
        // SAFETY: the list is valid and borrowed.
        unsafe { elements(self.raw(), what) }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: ours, and destroyed once.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.raw()) };
    }
}

/// Copies a list's elements; the first one that carries an error is the error, named `what`.
///
/// # Safety
/// `raw` is null or a valid list.
pub(super) unsafe fn elements(
    raw: *const rd::rd_kafka_topic_partition_list_t,
    what: &str,
) -> Result<Vec<Element>, Error> {
    // SAFETY: by the contract above.
    let Some(list) = (unsafe { raw.as_ref() }) else { return Ok(Vec::new()) };
    (0..list.cnt)
        .map(|at| {
            // SAFETY: the list has `cnt` elements.
            unsafe { element(list.elems.offset(at as isize), what) }
        })
        .collect()
}

/// Copies one element; the error it carries is the error, named `what`.
///
/// # Safety
/// `raw` is a valid element.
pub(super) unsafe fn element(
    raw: *const rd::rd_kafka_topic_partition_t,
    what: &str,
) -> Result<Element, Error> {
    // SAFETY: by the contract above.
    let found = unsafe { &*raw };
    // SAFETY: an element's topic is a string that ends in NUL.
    let partition = TopicPartition::new(unsafe { owned(found.topic) }, found.partition);
    check(found.err, || format!("{what} {partition}"))?;
    let metadata = if found.metadata.is_null() {
        Vec::new()
    } else {
        // SAFETY: the metadata has that many bytes and is the element's.
        unsafe { std::slice::from_raw_parts(found.metadata.cast::<u8>(), found.metadata_size) }.to_vec()
    };
    Ok(Element { partition, offset: found.offset, metadata })
}
