//! A native producer, for dead letters: records in, delivery reports out.

use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt;
use std::ptr::{self, NonNull, addr_of};
use std::sync::{Mutex, PoisonError};

use rdkafka_sys as native;
use rdkafka_sys::{rd_kafka_queue_t, rd_kafka_t, rd_kafka_vtype_t as kind};

use super::config::Config;
use super::error::{KafkaError, text};
use super::event::opaque;
use super::token::{TakesToken, set_token};
use super::{log, raw};
use crate::fetcher::Wake;

/// A native producer. Dropping it throws away what was not delivered, and may wait: drop it where that harms
/// nothing.
pub(crate) struct Producer {
    rk: NonNull<rd_kafka_t>,
    reports: NonNull<rd_kafka_queue_t>,
    /// What the wake-up callback of `reports` points to, made by `Box::into_raw`.
    wake: Mutex<Option<NonNull<Wake>>>,
}

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

// SAFETY: librdkafka's calls may be made from any thread, at the same time, and so may those on a queue; what the
// callback points to is `Send` and `Sync`, and its place here is behind a lock.
unsafe impl Send for Producer {}
// SAFETY: as above.
unsafe impl Sync for Producer {}

impl Producer {
    pub(crate) fn new(config: Config) -> Result<Self, String> {
        let mut reason = [0 as c_char; 512];
        // SAFETY: the configuration is live and ours; the callback may be called from any thread and at any time.
        // A client that could be made takes the configuration over, which is then forgotten here.
        let rk = unsafe {
            native::rd_kafka_conf_set_events(
                config.as_ptr(),
                native::RD_KAFKA_EVENT_DR | native::RD_KAFKA_EVENT_ERROR,
            );
            native::rd_kafka_conf_set_log_cb(config.as_ptr(), Some(log::forward));
            native::rd_kafka_new(
                native::rd_kafka_type_t::RD_KAFKA_PRODUCER,
                config.as_ptr(),
                reason.as_mut_ptr(),
                reason.len(),
            )
        };
        let Some(rk) = NonNull::new(rk) else {
            // SAFETY: the text is terminated inside its buffer.
            return Err(unsafe { text(reason.as_ptr()) });
        };
        std::mem::forget(config);
        // SAFETY: the client is live, and so has such a queue; this handle of it is ours.
        match NonNull::new(unsafe { native::rd_kafka_queue_get_main(rk.as_ptr()) }) {
            Some(reports) => Ok(Self { rk, reports, wake: Mutex::new(None) }),
            None => unreachable!("librdkafka ends the process when it is out of memory"),
        }
    }

    /// Has `wake` called whenever there are reports and there were none: from now on, so poll once after.
    pub(crate) fn on_ready(&self, wake: Wake) {
        let new = Box::into_raw(Box::new(wake));
        let mut current = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the queue is live, and `new` stays allocated until another callback has taken its place or none
        // has; librdkafka replaces a callback under the lock that it calls it with (see `queue.rs`).
        unsafe {
            native::rd_kafka_queue_cb_event_enable(
                self.reports.as_ptr(),
                Some(super::queue::woken),
                new.cast(),
            );
        }
        let old = std::mem::replace(&mut *current, NonNull::new(new));
        drop(current);
        super::queue::free(old);
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
            let error = native::rd_kafka_produceva(self.rk.as_ptr(), attributes.as_ptr(), attributes.len());
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
        let mut reason = [0 as c_char; 512];
        // SAFETY: the client is live, and the text is terminated inside its buffer.
        unsafe {
            let code = raw::rd_kafka_fatal_error(self.rk.as_ptr(), reason.as_mut_ptr(), reason.len());
            (code != 0).then(|| KafkaError::new(code, text(reason.as_ptr())))
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // SAFETY: client and queue are live and ours, and this is their end. Without a callback its pointer is not
        // looked at any more. What was not delivered is thrown away: whoever waits for it was told nothing.
        unsafe {
            native::rd_kafka_queue_cb_event_enable(self.reports.as_ptr(), None, ptr::null_mut());
            native::rd_kafka_queue_destroy(self.reports.as_ptr());
            native::rd_kafka_purge(
                self.rk.as_ptr(),
                native::RD_KAFKA_PURGE_F_QUEUE | native::RD_KAFKA_PURGE_F_INFLIGHT,
            );
            native::rd_kafka_destroy(self.rk.as_ptr());
        }
        super::queue::free(self.wake.get_mut().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl TakesToken for Producer {
    fn set_token(
        &self,
        value: &str,
        expires_ms: i64,
        principal: &str,
        extensions: &[(String, String)],
    ) -> Result<(), KafkaError> {
        // SAFETY: the client is live.
        unsafe { set_token(self.rk.as_ptr(), value, expires_ms, principal, extensions) }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Producer").field(&self.rk).finish()
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
