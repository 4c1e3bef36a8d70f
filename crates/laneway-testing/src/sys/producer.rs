//! A native producer: records in, delivery reports out.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka_sys as rd;

use super::client::{Client, Kind, Topic, check, check_error, kafka_error, millis, owned};
use crate::Error;

/// A producer, and the queue that its delivery reports come from.
pub(crate) struct ProducerClient {
    reports: NonNull<rd::rd_kafka_queue_t>,
    client: Client,
}

// SAFETY: librdkafka's queues may be used from any thread, several at once.
unsafe impl Send for ProducerClient {}
// SAFETY: as above.
unsafe impl Sync for ProducerClient {}

/// A record that is in Kafka.
pub(crate) struct Delivered<'a> {
    /// Which topic, as a number that is the same for the same topic while the producer lives.
    pub(crate) topic_id: usize,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<&'a [u8]>,
    topic: *const rd::rd_kafka_topic_t,
}

impl Delivered<'_> {
    pub(crate) fn topic(&self) -> String {
        // SAFETY: the topic's handle lives through the report, which is borrowed.
        unsafe { owned(rd::rd_kafka_topic_name(self.topic)) }
    }
}

/// Why a record was not taken.
pub(crate) enum Refused {
    QueueFull,
    Other(Error),
}

impl ProducerClient {
    pub(crate) fn new(properties: &[(&str, &str)]) -> Result<Self, Error> {
        let client =
            Client::new(Kind::Producer, properties, rd::RD_KAFKA_EVENT_DR | rd::RD_KAFKA_EVENT_ERROR)?;
        // SAFETY: the client is valid; the queue is given back before it goes.
        let reports = unsafe { rd::rd_kafka_queue_get_main(client.raw()) };
        let reports = NonNull::new(reports).ok_or_else(|| Error::new("the producer has no queue"))?;
        Ok(Self { reports, client })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Hands over a copy of one record.
    pub(crate) fn produce(
        &self,
        topic: &Topic,
        partition: i32,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
        timestamp: Option<i64>,
    ) -> Result<(), Refused> {
        use rd::rd_kafka_vtype_t as v;
        let headers = native_headers(headers);
        let attributes = [
            attribute(v::RD_KAFKA_VTYPE_RKT, |u| u.rkt = topic.raw()),
            attribute(v::RD_KAFKA_VTYPE_PARTITION, |u| u.i32_ = partition),
            attribute(v::RD_KAFKA_VTYPE_MSGFLAGS, |u| u.i = rd::RD_KAFKA_MSG_F_COPY),
            attribute(v::RD_KAFKA_VTYPE_KEY, |u| u.mem = memory(key)),
            attribute(v::RD_KAFKA_VTYPE_VALUE, |u| u.mem = memory(payload)),
            attribute(v::RD_KAFKA_VTYPE_TIMESTAMP, |u| u.i64_ = timestamp.unwrap_or(0)),
            attribute(v::RD_KAFKA_VTYPE_HEADERS, |u| u.headers = headers),
        ];
        let count = if headers.is_null() { attributes.len() - 1 } else { attributes.len() };
        // SAFETY: the client and the topic are valid, the attributes are as many as is said, and what they
        // point to lives through the call, which copies it. The headers are the client's if it succeeds.
        let error = unsafe { rd::rd_kafka_produceva(self.client.raw(), attributes.as_ptr(), count) };
        if error.is_null() {
            return Ok(());
        }
        if !headers.is_null() {
            // SAFETY: the call failed, so they are still ours.
            unsafe { rd::rd_kafka_headers_destroy(headers) };
        }
        // SAFETY: the error is ours.
        match unsafe { check_error(error, || format!("record for partition {partition}")) } {
            Err(e) if e.code() == Some(rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__QUEUE_FULL as i32) => {
                Err(Refused::QueueFull)
            }
            Err(e) => Err(Refused::Other(e)),
            Ok(()) => Ok(()),
        }
    }

    /// Waits up to `timeout` for an event. Gives each delivery report in it to `each`.
    pub(crate) fn poll(&self, timeout: Duration, mut each: impl FnMut(Result<Delivered<'_>, Error>)) {
        // SAFETY: the queue is valid; the event is ours.
        let event = unsafe { rd::rd_kafka_queue_poll(self.reports.as_ptr(), millis(timeout)) };
        if event.is_null() {
            return;
        }
        // SAFETY: the event is valid.
        if unsafe { rd::rd_kafka_event_type(event) } == rd::RD_KAFKA_EVENT_DR {
            // SAFETY: the event is valid; the message lives as long as it.
            while let Some(message) = unsafe { rd::rd_kafka_event_message_next(event).as_ref() } {
                each(delivered(message));
            }
        }
        // SAFETY: ours, and destroyed once.
        unsafe { rd::rd_kafka_event_destroy(event) };
    }

    /// How many records and reports are not dealt with.
    pub(crate) fn outstanding(&self) -> usize {
        // SAFETY: the client is valid.
        usize::try_from(unsafe { rd::rd_kafka_outq_len(self.client.raw()) }).unwrap_or(0)
    }

    pub(crate) fn init_transactions(&self, timeout: Duration) -> Result<(), Error> {
        // SAFETY: the client is valid, and the error is ours.
        unsafe {
            let error = rd::rd_kafka_init_transactions(self.client.raw(), millis(timeout));
            check_error(error, || "transactions of this producer".to_owned())
        }
    }

    pub(crate) fn begin_transaction(&self) -> Result<(), Error> {
        // SAFETY: the client is valid, and the error is ours.
        unsafe {
            let error = rd::rd_kafka_begin_transaction(self.client.raw());
            check_error(error, || "begin of a transaction".to_owned())
        }
    }

    pub(crate) fn commit_transaction(&self, timeout: Duration) -> Result<(), Error> {
        // SAFETY: the client is valid, and the error is ours.
        unsafe {
            let error = rd::rd_kafka_commit_transaction(self.client.raw(), millis(timeout));
            check_error(error, || "commit of a transaction".to_owned())
        }
    }

    pub(crate) fn abort_transaction(&self, timeout: Duration) -> Result<(), Error> {
        // SAFETY: the client is valid, and the error is ours.
        unsafe {
            let error = rd::rd_kafka_abort_transaction(self.client.raw(), millis(timeout));
            check_error(error, || "abort of a transaction".to_owned())
        }
    }

    /// Drops what waits to be sent; each such record is reported as not delivered.
    pub(crate) fn purge(&self) -> Result<(), Error> {
        // SAFETY: the client is valid.
        check(
            unsafe {
                rd::rd_kafka_purge(
                    self.client.raw(),
                    rd::RD_KAFKA_PURGE_F_QUEUE | rd::RD_KAFKA_PURGE_F_INFLIGHT,
                )
            },
            || "purge".to_owned(),
        )
    }
}

impl Drop for ProducerClient {
    fn drop(&mut self) {
        // SAFETY: ours, and given back once, before the client goes.
        unsafe { rd::rd_kafka_queue_destroy(self.reports.as_ptr()) };
    }
}

fn delivered(message: &rd::rd_kafka_message_t) -> Result<Delivered<'_>, Error> {
    if message.err != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        // SAFETY: the message and its topic live through the call.
        let topic = unsafe { owned(rd::rd_kafka_topic_name(message.rkt)) };
        return Err(kafka_error(
            message.err,
            &format!("record for {topic}-{} not delivered", message.partition),
        ));
    }
    let key = (!message.key.is_null()).then(|| {
        // SAFETY: the key has that many bytes and lives as long as the message.
        unsafe { std::slice::from_raw_parts(message.key.cast::<u8>(), message.key_len) }
    });
    Ok(Delivered {
        topic_id: message.rkt.addr(),
        partition: message.partition,
        offset: message.offset,
        key,
        topic: message.rkt,
    })
}

fn native_headers(headers: &[(&[u8], Option<&[u8]>)]) -> *mut rd::rd_kafka_headers_t {
    if headers.is_empty() {
        return ptr::null_mut();
    }
    // SAFETY: new headers; each name and value is copied, with its length, within the call.
    unsafe {
        let native = rd::rd_kafka_headers_new(headers.len());
        for (name, value) in headers {
            let value = memory(*value);
            rd::rd_kafka_header_add(
                native,
                name.as_ptr().cast(),
                name.len() as isize,
                value.ptr,
                value.size as isize,
            );
        }
        native
    }
}

fn memory(bytes: Option<&[u8]>) -> rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
    match bytes {
        // An empty slice is not a null pointer, and so an empty value and not an absent one.
        Some(bytes) => rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
            ptr: bytes.as_ptr().cast_mut().cast::<c_void>(),
            size: bytes.len(),
        },
        None => rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr: ptr::null_mut(), size: 0 },
    }
}

fn attribute(
    kind: rd::rd_kafka_vtype_t,
    set: impl FnOnce(&mut rd::rd_kafka_vu_s__bindgen_ty_1),
) -> rd::rd_kafka_vu_t {
    let mut value = rd::rd_kafka_vu_s__bindgen_ty_1 { _pad: [0; 64] };
    set(&mut value);
    rd::rd_kafka_vu_t { vtype: kind, u: value }
}
