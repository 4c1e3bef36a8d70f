//! An error of the client or of a broker: a code, its name and a text.

use std::ffi::CStr;
use std::fmt;

use rdkafka_sys::{rd_kafka_error_destroy, rd_kafka_error_string, rd_kafka_error_t};

use super::raw;

/// An error as Kafka and librdkafka number them: above 0 from a broker, below it from the client itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KafkaError {
    /// The number, one of [`codes`] or another.
    pub(crate) code: i32,
    /// What librdkafka says about it.
    pub(crate) message: String,
}

impl KafkaError {
    pub(crate) fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// An error of which nothing but the number is known.
    pub(crate) fn of(code: i32) -> Self {
        // SAFETY: the call takes any number, and answers with a terminated text that is static or lasts to
        // the next call on this thread; it is copied at once.
        let message = unsafe { text(raw::rd_kafka_err2str(code)) };
        Self { code, message }
    }

    /// Kafka's name of the code, such as `UNKNOWN_MEMBER_ID` or, of the client's own, `_TIMED_OUT`.
    pub(crate) fn name(&self) -> String {
        // SAFETY: as in `of`.
        unsafe { text(raw::rd_kafka_err2name(self.code)) }
    }

    pub(super) fn check(code: i32) -> Result<(), Self> {
        if code == codes::NO_ERROR { Ok(()) } else { Err(Self::of(code)) }
    }

    pub(super) fn option(code: i32) -> Option<Self> {
        (code != codes::NO_ERROR).then(|| Self::of(code))
    }

    /// Takes over an error object; null is none.
    ///
    /// # Safety
    /// `error` is null, or came from a call that gives it away, and is not used afterwards.
    pub(super) unsafe fn take(error: *mut rd_kafka_error_t) -> Result<(), Self> {
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: by this function's contract the error is live and ours; its text is copied before it is
        // destroyed.
        unsafe {
            let taken =
                Self { code: raw::rd_kafka_error_code(error), message: text(rd_kafka_error_string(error)) };
            rd_kafka_error_destroy(error);
            Err(taken)
        }
    }

    /// A name that C can't be given.
    pub(super) fn inner_nul(name: &str) -> Self {
        Self::new(codes::_INVALID_ARG, format!("the name {name:?} contains a zero byte"))
    }
}

impl fmt::Display for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for KafkaError {}

/// Copies a text; null is an empty one.
///
/// # Safety
/// `pointer` is null or points to a terminated text.
pub(super) unsafe fn text(pointer: *const std::ffi::c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: by this function's contract.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// The codes by name. Those of the client itself begin with an underscore, as in librdkafka.
#[allow(dead_code, reason = "a vocabulary: what is not matched on today is tomorrow")]
pub(crate) mod codes {
    use rdkafka_sys::rd_kafka_resp_err_t as E;

    macro_rules! codes {
        ($($name:ident = $native:ident,)*) => {
            $(pub(crate) const $name: i32 = E::$native as i32;)*
        };
    }

    codes! {
        NO_ERROR = RD_KAFKA_RESP_ERR_NO_ERROR,
        _BAD_MSG = RD_KAFKA_RESP_ERR__BAD_MSG,
        _BAD_COMPRESSION = RD_KAFKA_RESP_ERR__BAD_COMPRESSION,
        _DESTROY = RD_KAFKA_RESP_ERR__DESTROY,
        _FAIL = RD_KAFKA_RESP_ERR__FAIL,
        _TRANSPORT = RD_KAFKA_RESP_ERR__TRANSPORT,
        _RESOLVE = RD_KAFKA_RESP_ERR__RESOLVE,
        _PARTITION_EOF = RD_KAFKA_RESP_ERR__PARTITION_EOF,
        _UNKNOWN_PARTITION = RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION,
        _UNKNOWN_TOPIC = RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
        _ALL_BROKERS_DOWN = RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
        _INVALID_ARG = RD_KAFKA_RESP_ERR__INVALID_ARG,
        _TIMED_OUT = RD_KAFKA_RESP_ERR__TIMED_OUT,
        _WAIT_COORD = RD_KAFKA_RESP_ERR__WAIT_COORD,
        _UNKNOWN_GROUP = RD_KAFKA_RESP_ERR__UNKNOWN_GROUP,
        _IN_PROGRESS = RD_KAFKA_RESP_ERR__IN_PROGRESS,
        _ASSIGN_PARTITIONS = RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS,
        _REVOKE_PARTITIONS = RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS,
        _CONFLICT = RD_KAFKA_RESP_ERR__CONFLICT,
        _STATE = RD_KAFKA_RESP_ERR__STATE,
        _UNKNOWN_PROTOCOL = RD_KAFKA_RESP_ERR__UNKNOWN_PROTOCOL,
        _NOT_IMPLEMENTED = RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED,
        _AUTHENTICATION = RD_KAFKA_RESP_ERR__AUTHENTICATION,
        _NOENT = RD_KAFKA_RESP_ERR__NOENT,
        _NO_OFFSET = RD_KAFKA_RESP_ERR__NO_OFFSET,
        _OUTDATED = RD_KAFKA_RESP_ERR__OUTDATED,
        _TIMED_OUT_QUEUE = RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE,
        _UNSUPPORTED_FEATURE = RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE,
        _SSL = RD_KAFKA_RESP_ERR__SSL,
        _UNDERFLOW = RD_KAFKA_RESP_ERR__UNDERFLOW,
        _FATAL = RD_KAFKA_RESP_ERR__FATAL,
        _MAX_POLL_EXCEEDED = RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED,
        _NOOP = RD_KAFKA_RESP_ERR__NOOP,
        _AUTO_OFFSET_RESET = RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET,
        _LOG_TRUNCATION = RD_KAFKA_RESP_ERR__LOG_TRUNCATION,
        UNKNOWN = RD_KAFKA_RESP_ERR_UNKNOWN,
        OFFSET_OUT_OF_RANGE = RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
        CORRUPT_MESSAGE = RD_KAFKA_RESP_ERR_INVALID_MSG,
        UNKNOWN_TOPIC_OR_PART = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        INVALID_MSG_SIZE = RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE,
        LEADER_NOT_AVAILABLE = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        NOT_LEADER_FOR_PARTITION = RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        REQUEST_TIMED_OUT = RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        MSG_SIZE_TOO_LARGE = RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        OFFSET_METADATA_TOO_LARGE = RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE,
        NETWORK_EXCEPTION = RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION,
        COORDINATOR_LOAD_IN_PROGRESS = RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        COORDINATOR_NOT_AVAILABLE = RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        NOT_COORDINATOR = RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        TOPIC_EXCEPTION = RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION,
        ILLEGAL_GENERATION = RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        INCONSISTENT_GROUP_PROTOCOL = RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL,
        INVALID_GROUP_ID = RD_KAFKA_RESP_ERR_INVALID_GROUP_ID,
        UNKNOWN_MEMBER_ID = RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        INVALID_SESSION_TIMEOUT = RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT,
        REBALANCE_IN_PROGRESS = RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
        INVALID_REQUEST = RD_KAFKA_RESP_ERR_INVALID_REQUEST,
        INVALID_COMMIT_OFFSET_SIZE = RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE,
        TOPIC_AUTHORIZATION_FAILED = RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        GROUP_AUTHORIZATION_FAILED = RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
        CLUSTER_AUTHORIZATION_FAILED = RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
        UNSUPPORTED_SASL_MECHANISM = RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM,
        UNSUPPORTED_VERSION = RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION,
        SASL_AUTHENTICATION_FAILED = RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED,
        FENCED_LEADER_EPOCH = RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
        UNKNOWN_LEADER_EPOCH = RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
        OFFSET_NOT_AVAILABLE = RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
        MEMBER_ID_REQUIRED = RD_KAFKA_RESP_ERR_MEMBER_ID_REQUIRED,
        GROUP_MAX_SIZE_REACHED = RD_KAFKA_RESP_ERR_GROUP_MAX_SIZE_REACHED,
        FENCED_INSTANCE_ID = RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID,
        UNSTABLE_OFFSET_COMMIT = RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT,
        UNKNOWN_TOPIC_ID = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID,
        FENCED_MEMBER_EPOCH = RD_KAFKA_RESP_ERR_FENCED_MEMBER_EPOCH,
        UNRELEASED_INSTANCE_ID = RD_KAFKA_RESP_ERR_UNRELEASED_INSTANCE_ID,
        UNSUPPORTED_ASSIGNOR = RD_KAFKA_RESP_ERR_UNSUPPORTED_ASSIGNOR,
        STALE_MEMBER_EPOCH = RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_kafkas_names_and_a_text() {
        let error = KafkaError::of(codes::UNKNOWN_MEMBER_ID);
        assert_eq!(error.name(), "UNKNOWN_MEMBER_ID");
        assert_eq!(error.to_string(), "Broker: Unknown member");
        assert_eq!(KafkaError::of(codes::_TIMED_OUT).name(), "_TIMED_OUT");
    }

    #[test]
    fn a_code_that_the_bindings_do_not_know_is_an_error_like_any_other() {
        let error = KafkaError::of(30_000);
        assert_eq!(error.code, 30_000);
        assert!(error.name().contains("30000"), "{}", error.name());
    }
}
