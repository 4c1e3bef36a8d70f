//! A native client: made from properties, destroyed when dropped; and what every kind of client can be asked.

use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka_sys as rd;

use crate::Error;

/// Which native client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Producer,
    Consumer,
}

/// A native client.
pub(crate) struct Client {
    raw: NonNull<rd::rd_kafka_t>,
}

// SAFETY: librdkafka's handles may be used from any thread, several at once.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    /// A client with these properties; a later one overrides an earlier one. `events` are the kinds of
    /// events that are to be had from its main queue.
    pub(crate) fn new(kind: Kind, properties: &[(&str, &str)], events: i32) -> Result<Self, Error> {
        let mut text = [0u8; 512];
        // SAFETY: a new configuration, owned here until `rd_kafka_new` takes it.
        let conf = unsafe { rd::rd_kafka_conf_new() };
        // SAFETY: `conf` is valid. Without a log callback nothing is printed; errors are had as results.
        unsafe {
            rd::rd_kafka_conf_set_log_cb(conf, None);
            rd::rd_kafka_conf_set_events(conf, events);
        }
        for (key, value) in properties {
            let set = c_string(key).and_then(|k| Ok((k, c_string(value)?))).and_then(|(k, v)| {
                // SAFETY: `conf` is valid, the strings end in NUL, and `text` is as long as is said.
                let done = unsafe {
                    rd::rd_kafka_conf_set(conf, k.as_ptr(), v.as_ptr(), text.as_mut_ptr().cast(), text.len())
                };
                match done {
                    rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
                    _ => Err(Error::new(format!("property {key} refused: {}", until_nul(&text)))),
                }
            });
            if let Err(error) = set {
                // SAFETY: `conf` is still ours, as no client was made of it.
                unsafe { rd::rd_kafka_conf_destroy(conf) };
                return Err(error);
            }
        }
        let kind = match kind {
            Kind::Producer => rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
            Kind::Consumer => rd::rd_kafka_type_t::RD_KAFKA_CONSUMER,
        };
        // SAFETY: `conf` is valid; it is the client's if that is made, else still ours.
        let raw = unsafe { rd::rd_kafka_new(kind, conf, text.as_mut_ptr().cast(), text.len()) };
        match NonNull::new(raw) {
            Some(raw) => Ok(Self { raw }),
            None => {
                // SAFETY: `rd_kafka_new` failed, so `conf` is still ours.
                unsafe { rd::rd_kafka_conf_destroy(conf) };
                Err(Error::new(format!("no Kafka client could be made: {}", until_nul(&text))))
            }
        }
    }

    pub(crate) fn raw(&self) -> *mut rd::rd_kafka_t {
        self.raw.as_ptr()
    }

    /// How many brokers answer to be in the cluster, asked of the cluster itself.
    pub(crate) fn brokers(&self, timeout: Duration) -> Result<usize, Error> {
        let metadata = Metadata::of(self, None, timeout)?;
        Ok(usize::try_from(metadata.get().broker_cnt).unwrap_or(0))
    }

    /// How many partitions `topic` has, all of them with a leader.
    pub(crate) fn partitions(&self, topic: &str, timeout: Duration) -> Result<i32, Error> {
        let handle = Topic::new(self, topic)?;
        let metadata = Metadata::of(self, Some(&handle), timeout)?;
        let metadata = metadata.get();
        if metadata.topic_cnt != 1 {
            return Err(Error::new(format!(
                "metadata of topic {topic}: the broker left it out of its answer"
            )));
        }
        // SAFETY: the array has `topic_cnt` elements, which is 1, and lives as long as the metadata.
        let found = unsafe { &*metadata.topics };
        check(found.err, || format!("metadata of topic {topic}"))?;
        for at in 0..found.partition_cnt {
            // SAFETY: the array has `partition_cnt` elements.
            let partition = unsafe { &*found.partitions.offset(at as isize) };
            check(partition.err, || format!("metadata of {topic}-{}", partition.id))?;
        }
        Ok(found.partition_cnt)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_new`, destroyed once; whoever borrows it is gone.
        unsafe { rd::rd_kafka_destroy(self.raw()) };
    }
}

/// A client's handle of one topic.
pub(crate) struct Topic {
    raw: NonNull<rd::rd_kafka_topic_t>,
}

// SAFETY: librdkafka's topic handles may be used from any thread, several at once.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

impl Topic {
    /// The caller sees to it that the handle goes before the client.
    pub(crate) fn new(client: &Client, name: &str) -> Result<Self, Error> {
        let c_name = c_string(name)?;
        // SAFETY: the client is valid, the name ends in NUL, and no configuration of its own is fine.
        let raw = unsafe { rd::rd_kafka_topic_new(client.raw(), c_name.as_ptr(), ptr::null_mut()) };
        NonNull::new(raw)
            .map(|raw| Self { raw })
            .ok_or_else(|| Error::new(format!("topic name {name:?} refused")))
    }

    pub(crate) fn raw(&self) -> *mut rd::rd_kafka_topic_t {
        self.raw.as_ptr()
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_topic_new`, given back once.
        unsafe { rd::rd_kafka_topic_destroy(self.raw()) };
    }
}

/// The answer to a metadata request.
struct Metadata(NonNull<rd::rd_kafka_metadata>);

impl Metadata {
    fn of(client: &Client, topic: Option<&Topic>, timeout: Duration) -> Result<Self, Error> {
        let mut raw: *const rd::rd_kafka_metadata = ptr::null();
        let topic = topic.map_or(ptr::null_mut(), Topic::raw);
        // SAFETY: both handles are valid (no topic is fine), and `raw` is a place for the answer.
        let asked = unsafe { rd::rd_kafka_metadata(client.raw(), 0, topic, &mut raw, millis(timeout)) };
        check(asked, || "metadata request".to_owned())?;
        NonNull::new(raw.cast_mut()).map(Self).ok_or_else(|| Error::new("metadata request: no answer"))
    }

    fn get(&self) -> &rd::rd_kafka_metadata {
        // SAFETY: the answer is whole, and ours until it is dropped.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        // SAFETY: given by `rd_kafka_metadata`, freed once.
        unsafe { rd::rd_kafka_metadata_destroy(self.0.as_ptr()) };
    }
}

pub(super) fn c_string(text: &str) -> Result<CString, Error> {
    CString::new(text)
        .map_err(|_| Error::new(format!("{text:?} contains a NUL byte, which Kafka's client cannot take")))
}

/// A native string, or nothing where there is none.
///
/// # Safety
/// `text` is null, or ends in NUL and lives through the call.
pub(super) unsafe fn owned(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by the contract above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

pub(super) fn check(err: rd::rd_kafka_resp_err_t, what: impl FnOnce() -> String) -> Result<(), Error> {
    if err == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    Err(kafka_error(err, &what()))
}

pub(super) fn kafka_error(err: rd::rd_kafka_resp_err_t, what: &str) -> Error {
    // SAFETY: both give static strings for every code.
    let (name, text) = unsafe { (owned(rd::rd_kafka_err2name(err)), owned(rd::rd_kafka_err2str(err))) };
    Error::with_code(format!("{what}: {text} ({name})"), err as i32)
}

/// Takes a native error, if there is one, and frees it.
///
/// # Safety
/// `error` is null or an error that is the caller's.
pub(super) unsafe fn check_error(
    error: *mut rd::rd_kafka_error_t,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: by the contract above; the text is copied before the error is freed.
    let (code, name, text) = unsafe {
        let code = rd::rd_kafka_error_code(error);
        let name = owned(rd::rd_kafka_error_name(error));
        let text = owned(rd::rd_kafka_error_string(error));
        rd::rd_kafka_error_destroy(error);
        (code, name, text)
    };
    Err(Error::with_code(format!("{}: {text} ({name})", what()), code as i32))
}

pub(super) fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

fn until_nul(text: &[u8]) -> String {
    String::from_utf8_lossy(text.split(|b| *b == 0).next().unwrap_or(&[])).into_owned()
}
