//! Fetched messages, owned: the memory that records point into.

use std::fmt;
use std::ptr::{self, NonNull, addr_of};
use std::slice;
use std::sync::{Arc, OnceLock};

use laneway_core::TopicPartition;
use rdkafka_sys::{
    rd_kafka_headers_t, rd_kafka_message_destroy, rd_kafka_message_errstr, rd_kafka_message_leader_epoch,
    rd_kafka_message_t, rd_kafka_message_timestamp, rd_kafka_timestamp_type_t,
};

use super::client::Client;
use super::error::{KafkaError, codes, text};
use super::headers::NativeHeaders;
use super::raw;
use crate::record::Timestamp;

/// Messages that were taken together from the queue of one partition. None of them is an error.
pub(crate) struct NativeBatch {
    partition: TopicPartition,
    // In this order: a message is destroyed before the client it belongs to.
    messages: Vec<Record>,
    _client: Arc<Client>,
}

/// A message as it came from a queue: a record, or something said about the partition. In memory it is the
/// native pointer.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Message(NonNull<rd_kafka_message_t>);

/// A message that is a record.
pub(super) struct Record {
    message: Message,
    /// Parsed when they are first asked for, which costs three times what taking the record does, also where
    /// there turn out to be none.
    headers: OnceLock<Option<NonNull<rd_kafka_headers_t>>>,
}

/// What a message is.
pub(super) enum Content {
    Record(Record),
    /// The end of the log, at this offset.
    End(i64),
    /// An error, and the offset that it is about.
    Error(KafkaError, i64),
}

// SAFETY: a message may be read and destroyed on any thread: its parts are counted atomically.
unsafe impl Send for Message {}
// SAFETY: the headers belong to the message, and go where it goes.
unsafe impl Send for Record {}
// SAFETY: what is read of a record through a shared reference only reads in C too. The one call that does not
// is `rd_kafka_message_headers`, which parses lazily and writes through its const pointer (rdkafka_msg.c): it
// is made in the `OnceLock` alone, so once for each record, while no other thread can be in it, and before
// any thread sees what it wrote, which nothing else reads. `rd_kafka_header_cnt` and
// `rd_kafka_header_get_all` look into an array; the time, the leader epoch and the fields are plain loads.
unsafe impl Sync for Record {}

impl NativeBatch {
    pub(super) fn new(partition: TopicPartition, messages: Vec<Record>, client: Arc<Client>) -> Self {
        Self { partition, messages, _client: client }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    #[inline]
    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    #[inline]
    pub(crate) fn offset(&self, index: usize) -> i64 {
        self.message(index).offset
    }

    /// The offset behind the last of them.
    pub(super) fn next_offset(&self) -> i64 {
        self.offset(self.len().saturating_sub(1)) + 1
    }

    #[inline]
    pub(crate) fn leader_epoch(&self, index: usize) -> Option<i32> {
        // SAFETY: the message is live.
        let epoch = unsafe { rd_kafka_message_leader_epoch(self.message(index)) };
        (epoch >= 0).then_some(epoch)
    }

    pub(crate) fn timestamp(&self, index: usize) -> Timestamp {
        let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is live, and the kind is one of the three that there are (rdkafka_msg.h).
        let time = unsafe { rd_kafka_message_timestamp(self.message(index), &mut kind) };
        match kind {
            _ if time < 0 => Timestamp::Unknown,
            rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => Timestamp::Unknown,
            rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => Timestamp::Create(time),
            rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => Timestamp::LogAppend(time),
        }
    }

    #[inline]
    pub(crate) fn key(&self, index: usize) -> Option<&[u8]> {
        let message = self.message(index);
        // SAFETY: where the pointer is not null, that many bytes are there, for as long as the message is.
        (!message.key.is_null())
            .then(|| unsafe { slice::from_raw_parts(message.key.cast::<u8>(), message.key_len) })
    }

    #[inline]
    pub(crate) fn payload(&self, index: usize) -> Option<&[u8]> {
        let message = self.message(index);
        // SAFETY: as for the key.
        (!message.payload.is_null())
            .then(|| unsafe { slice::from_raw_parts(message.payload.cast::<u8>(), message.len) })
    }

    pub(crate) fn headers(&self, index: usize) -> NativeHeaders<'_> {
        let headers = *self.messages[index].headers.get_or_init(|| self.parse_headers(index));
        // SAFETY: headers live as long as their message does, and nothing changes them once they are parsed.
        unsafe { NativeHeaders::new(headers) }
    }

    fn parse_headers(&self, index: usize) -> Option<NonNull<rd_kafka_headers_t>> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is live, and no other thread makes this call for it: see `Sync`.
        let code =
            unsafe { raw::rd_kafka_message_headers(self.messages[index].message.0.as_ptr(), &mut headers) };
        match code {
            codes::NO_ERROR => NonNull::new(headers),
            codes::_NOENT => None,
            _ => {
                let offset = self.offset(index);
                tracing::error!(
                    "{}@{offset}: the record's headers can't be decoded and are left out",
                    self.partition
                );
                None
            }
        }
    }

    #[inline]
    fn message(&self, index: usize) -> &rd_kafka_message_t {
        // SAFETY: the message is live as long as the batch, and nothing changes it. Its code, the one field
        // that may hold what the bindings don't know, is 0 in a record.
        unsafe { self.messages[index].message.0.as_ref() }
    }
}

impl fmt::Debug for NativeBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records of {}", self.len(), self.partition)
    }
}

impl Message {
    pub(super) fn content(self) -> Content {
        let message = self.0.as_ptr();
        // SAFETY: the message is live and ours. Its code is read as a number, as it may be one that the
        // bindings don't know.
        let (code, offset) = unsafe { (addr_of!((*message).err).cast::<i32>().read(), (*message).offset) };
        match code {
            codes::NO_ERROR => Content::Record(Record { message: self, headers: OnceLock::new() }),
            codes::_PARTITION_EOF => Content::End(offset),
            _ => {
                // SAFETY: the message is live; the text that is answered is its own or static, and is copied.
                let message = unsafe { text(rd_kafka_message_errstr(message)) };
                Content::Error(KafkaError::new(code, message), offset)
            }
        }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: the message is live and ours, and this is its end.
        unsafe { rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}
