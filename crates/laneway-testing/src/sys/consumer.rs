//! A native consumer, as plain as can be: for reading back what is in a topic, and as a stranger in a group.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::time::Duration;

use laneway_core::TopicPartition;
use rdkafka_sys as rd;

use super::client::{Client, Kind, check, kafka_error, millis, owned};
use super::list::List;
use crate::Error;
use crate::reader::ReadRecord;

/// A consumer.
pub(crate) struct ConsumerClient {
    client: Client,
}

impl ConsumerClient {
    pub(crate) fn new(properties: &[(&str, &str)]) -> Result<Self, Error> {
        let client = Client::new(Kind::Consumer, properties, 0)?;
        // SAFETY: the client is a consumer.
        check(unsafe { rd::rd_kafka_poll_set_consumer(client.raw()) }, || "consumer".to_owned())?;
        Ok(Self { client })
    }

    pub(crate) fn subscribe(&self, topics: &[&str]) -> Result<(), Error> {
        let mut list = List::new()?;
        for topic in topics {
            list.add_topic(topic)?;
        }
        // SAFETY: client and list are valid; the list is copied.
        check(unsafe { rd::rd_kafka_subscribe(self.client.raw(), list.raw()) }, || {
            format!("subscription to {topics:?}")
        })
    }

    pub(crate) fn assign(&self, list: &List) -> Result<(), Error> {
        // SAFETY: client and list are valid; the list is copied.
        check(unsafe { rd::rd_kafka_assign(self.client.raw(), list.raw()) }, || "assignment".to_owned())
    }

    pub(crate) fn assignment(&self) -> Result<Vec<TopicPartition>, Error> {
        let mut raw = ptr::null_mut();
        // SAFETY: the client is valid, and `raw` is a place for the list, which is ours.
        let list = unsafe {
            check(rd::rd_kafka_assignment(self.client.raw(), &mut raw), || "assignment".to_owned())?;
            List::from_raw(raw)?
        };
        Ok(list.elements("assignment of")?.into_iter().map(|e| e.partition).collect())
    }

    pub(crate) fn member_id(&self) -> String {
        // SAFETY: the client is valid; the string is ours, and freed after it was copied.
        unsafe {
            let raw = rd::rd_kafka_memberid(self.client.raw());
            let id = owned(raw);
            if !raw.is_null() {
                rd::rd_kafka_mem_free(self.client.raw(), raw.cast());
            }
            id
        }
    }

    pub(crate) fn commit(&self, list: &List) -> Result<(), Error> {
        // SAFETY: client and list are valid; the call waits for the answer.
        check(unsafe { rd::rd_kafka_commit(self.client.raw(), list.raw(), 0) }, || "commit".to_owned())
    }

    pub(crate) fn poll(&self, timeout: Duration) -> Result<Option<ReadRecord>, Error> {
        // SAFETY: the client is valid; the message is ours.
        let raw = unsafe { rd::rd_kafka_consumer_poll(self.client.raw(), millis(timeout)) };
        if raw.is_null() {
            return Ok(None);
        }
        // SAFETY: not null, and borrowed only until it is destroyed, once, below.
        let read = unsafe { copied(&*raw) };
        // SAFETY: as above.
        unsafe { rd::rd_kafka_message_destroy(raw) };
        read.map(Some)
    }
}

/// # Safety
/// The message is whole: it came from a consumer and is not destroyed.
unsafe fn copied(message: &rd::rd_kafka_message_t) -> Result<ReadRecord, Error> {
    // SAFETY: a topic, a key, a payload and headers are null or live as long as the message.
    unsafe {
        if message.err != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(kafka_error(message.err, "reading"));
        }
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        let time = rd::rd_kafka_message_timestamp(message, &mut kind);
        Ok(ReadRecord {
            partition: TopicPartition::new(owned(rd::rd_kafka_topic_name(message.rkt)), message.partition),
            offset: message.offset,
            key: bytes(message.key, message.key_len),
            payload: bytes(message.payload, message.len),
            headers: headers(message),
            timestamp: (kind != rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE)
                .then_some(time),
        })
    }
}

/// # Safety
/// `start` is null or has `len` bytes.
unsafe fn bytes(start: *const c_void, len: usize) -> Option<Vec<u8>> {
    // SAFETY: by the contract above.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) }.to_vec())
}

/// # Safety
/// As for `copied`.
unsafe fn headers(message: &rd::rd_kafka_message_t) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let none = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    let mut found = Vec::new();
    let mut native = ptr::null_mut();
    // SAFETY: the headers are the message's; names end in NUL, values have the length that is said.
    unsafe {
        if rd::rd_kafka_message_headers(message, &mut native) != none {
            return found;
        }
        loop {
            let mut name: *const c_char = ptr::null();
            let mut value: *const c_void = ptr::null();
            let mut len = 0usize;
            if rd::rd_kafka_header_get_all(native, found.len(), &mut name, &mut value, &mut len) != none {
                return found;
            }
            let name = std::ffi::CStr::from_ptr(name).to_bytes().to_vec();
            found.push((name, bytes(value, len)));
        }
    }
}
