//! A native producer, for dead letters: records in, delivery reports out.

use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ptr::{self, NonNull, addr_of};

use rdkafka_sys as native;
use rdkafka_sys::{rd_kafka_t, rd_kafka_vtype_t as kind};

use super::config::Config;
use super::error::KafkaError;
use super::event::opaque;
use super::native::{Native, fatal_error, open};
use super::queue::WakingQueue;
use crate::fetcher::Wake;

/// A native producer. Dropping it throws away what was not delivered, and may wait: drop it where that harms
/// nothing.
pub(crate) struct Producer {
    // In this order: a queue goes before the client that it belongs to.
    reports: WakingQueue,
    client: OwnedProducer,
}

/// Destroys a producer.
struct OwnedProducer(NonNull<rd_kafka_t>);

/// A record to be produced. Everything in it is copied.
pub(crate) struct Produced<'a> {
    pub(crate) topic: &'a CStr,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) payload: Option<&'a [u8]>,
    pub(crate) headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// A record was delivered, or not.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) token: u64,
    pub(crate) result: Result<(), KafkaError>,
}

// SAFETY: librdkafka's calls may be made from any thread, at the same time.
unsafe impl Send for OwnedProducer {}
// SAFETY: as above.
unsafe impl Sync for OwnedProducer {}

impl Producer {
    pub(crate) fn new(config: Config) -> Result<Self, String> {
        let events = native::RD_KAFKA_EVENT_DR | native::RD_KAFKA_EVENT_ERROR;
        let client = OwnedProducer(open(native::rd_kafka_type_t::RD_KAFKA_PRODUCER, config, events)?);
        // SAFETY: the client is live, and so has such a queue; this handle of it is ours, and goes before the client.
        match NonNull::new(unsafe { native::rd_kafka_queue_get_main(client.0.as_ptr()) }) {
            // SAFETY: as said above.
            Some(queue) => Ok(Self { reports: unsafe { WakingQueue::new(queue) }, client }),
            None => unreachable!("librdkafka ends the process when it is out of memory"),
        }
    }

    /// Has `wake` called whenever there are reports and there were none: from now on, so poll once after.
    pub(crate) fn on_ready(&self, wake: Wake) {
        self.reports.on_ready(wake);
    }

    /// Hands over one record; a [`Report`] with `token` tells what came of it.
    pub(crate) fn produce(&self, record: &Produced<'_>, token: u64) -> Result<(), KafkaError> {
        let headers = native_headers(record.headers);
        let attributes = [
            attribute(kind::RD_KAFKA_VTYPE_TOPIC, |u| u.cstr = record.topic.as_ptr()),
            attribute(kind::RD_KAFKA_VTYPE_MSGFLAGS, |u| u.i = native::RD_KAFKA_MSG_F_COPY),
            attribute(kind::RD_KAFKA_VTYPE_KEY, |u| u.mem = memory(record.key)),
            attribute(kind::RD_KAFKA_VTYPE_VALUE, |u| u.mem = memory(record.payload)),
            attribute(kind::RD_KAFKA_VTYPE_OPAQUE, |u| u.ptr = opaque(token)),
            attribute(kind::RD_KAFKA_VTYPE_HEADERS, |u| u.headers = headers),
        ];
        // SAFETY: the client is live, the attributes are as many as is said, and what they point to lives through
        // the call, which copies it. The opaque is a number that is never followed. The headers are the client's
        // if the call succeeds, else ours again; the error is ours.
        unsafe {
            let error = native::rd_kafka_produceva(self.native(), attributes.as_ptr(), attributes.len());
            if !error.is_null() {
                native::rd_kafka_headers_destroy(headers);
            }
            KafkaError::take(error)
        }
    }

    /// The reports that have come.
    pub(crate) fn reports(&self) -> Vec<Report> {
        let mut reports = Vec::new();
        loop {
            // SAFETY: the queue is live; the event is ours, and destroyed once; its messages live as long as it.
            unsafe {
                let event = native::rd_kafka_queue_poll(self.reports.as_ptr(), 0);
                if event.is_null() {
                    return reports;
                }
                if native::rd_kafka_event_type(event) == native::RD_KAFKA_EVENT_DR {
                    loop {
                        let message = native::rd_kafka_event_message_next(event);
                        if message.is_null() {
                            break;
                        }
                        // Read as a number: see `raw.rs`.
                        let code = addr_of!((*message).err).cast::<i32>().read();
                        let token = (*message)._private.addr() as u64;
                        reports.push(Report { token, result: KafkaError::check(code) });
                    }
                }
                native::rd_kafka_event_destroy(event);
            }
        }
    }

    /// The error that ended the producer for good, if one did.
    pub(crate) fn fatal_error(&self) -> Option<KafkaError> {
        fatal_error(self)
    }
}

impl Drop for OwnedProducer {
    fn drop(&mut self) {
        // SAFETY: the client is live and ours, and this is its end. What was not delivered is thrown away: whoever
        // waits for it was told nothing.
        unsafe {
            native::rd_kafka_purge(
                self.0.as_ptr(),
                native::RD_KAFKA_PURGE_F_QUEUE | native::RD_KAFKA_PURGE_F_INFLIGHT,
            );
            native::rd_kafka_destroy(self.0.as_ptr());
        }
    }
}

// SAFETY: the client is destroyed when this is dropped, and not before.
unsafe impl Native for Producer {
    fn native(&self) -> *mut rd_kafka_t {
        self.client.0.as_ptr()
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Producer").field(&self.client.0).finish()
    }
}

fn native_headers(headers: &[(&[u8], Option<&[u8]>)]) -> *mut native::rd_kafka_headers_t {
    // SAFETY: new headers; each name and value is copied, with its length, within the call.
    unsafe {
        let list = native::rd_kafka_headers_new(headers.len());
        for (name, value) in headers {
            let value = memory(*value);
            let (name, length) = (name.as_ptr().cast(), name.len() as isize);
            native::rd_kafka_header_add(list, name, length, value.ptr, value.size as isize);
        }
        list
    }
}

fn memory(bytes: Option<&[u8]>) -> native::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
    // An empty slice is not a null pointer, and so an empty value and not an absent one.
    let (ptr, size) = bytes.map_or((ptr::null_mut(), 0), |bytes| (bytes.as_ptr().cast_mut(), bytes.len()));
    native::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr: ptr.cast::<c_void>(), size }
}

fn attribute(
    kind: native::rd_kafka_vtype_t,
    set: impl FnOnce(&mut native::rd_kafka_vu_s__bindgen_ty_1),
) -> native::rd_kafka_vu_t {
    let mut value = native::rd_kafka_vu_s__bindgen_ty_1 { _pad: [0; 64] };
    set(&mut value);
    native::rd_kafka_vu_t { vtype: kind, u: value }
}

/// A topic's name as C has it.
pub(crate) fn topic_name(name: &str) -> Result<CString, KafkaError> {
    CString::new(name).map_err(|_| KafkaError::inner_nul(name))
}
