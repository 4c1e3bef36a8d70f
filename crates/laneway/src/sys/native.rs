//! What consumers and producers of librdkafka have in common.

use std::ffi::{CString, c_char, c_int};
use std::ptr::NonNull;

use rdkafka_sys as native;
use rdkafka_sys::{rd_kafka_t, rd_kafka_type_t};

use super::config::Config;
use super::error::{KafkaError, codes, text};
use super::{log, raw};

/// A native client.
///
/// # Safety
/// `native` answers with a client that is live for as long as `self` is.
pub(crate) unsafe trait Native: Send + Sync {
    /// The client.
    fn native(&self) -> *mut rd_kafka_t;
}

/// Makes a native client that tells these kinds of events. Whoever takes it destroys it.
pub(super) fn open(
    kind: rd_kafka_type_t,
    config: Config,
    events: c_int,
) -> Result<NonNull<rd_kafka_t>, String> {
    let mut reason = [0 as c_char; 512];
    // SAFETY: the configuration is live and ours; the callback may be called from any thread and at any time. A
    // client that could be made takes the configuration over, which is then forgotten here.
    let client = unsafe {
        native::rd_kafka_conf_set_events(config.as_ptr(), events);
        native::rd_kafka_conf_set_log_cb(config.as_ptr(), Some(log::forward));
        native::rd_kafka_new(kind, config.as_ptr(), reason.as_mut_ptr(), reason.len())
    };
    match NonNull::new(client) {
        Some(client) => {
            std::mem::forget(config);
            Ok(client)
        }
        // SAFETY: the text is terminated inside its buffer.
        None => Err(unsafe { text(reason.as_ptr()) }),
    }
}

/// The error that ended a client for good, if one did.
pub(super) fn fatal_error(client: &dyn Native) -> Option<KafkaError> {
    let mut reason = [0 as c_char; 512];
    // SAFETY: the client is live, and the text is terminated inside its buffer.
    unsafe {
        let code = raw::rd_kafka_fatal_error(client.native(), reason.as_mut_ptr(), reason.len());
        (code != codes::NO_ERROR).then(|| KafkaError::new(code, text(reason.as_ptr())))
    }
}

/// Gives a client its token for SASL OAUTHBEARER, in the place of the one it has. An error says nothing of the token.
pub(crate) fn set_token(
    client: &dyn Native,
    value: &str,
    expires_ms: i64,
    principal: &str,
    extensions: &[(String, String)],
) -> Result<(), KafkaError> {
    let terminated = |text: &str| CString::new(text).map_err(|_| KafkaError::of(codes::_INVALID_ARG));
    let (value, principal) = (terminated(value)?, terminated(principal)?);
    let extensions = extensions.iter().flat_map(|(key, value)| [terminated(key), terminated(value)]);
    let extensions: Vec<CString> = extensions.collect::<Result<_, _>>()?;
    let mut pointers: Vec<*const c_char> = extensions.iter().map(|text| text.as_ptr()).collect();
    // The reason may hold the token: it has a place to go to, and stays there.
    let mut reason = [0 as c_char; 512];
    // SAFETY: the client is live, the texts are terminated and copied, the array has as many pointers as is said, to
    // keys and values in turn, and the reason is as long as is said.
    KafkaError::check(unsafe {
        raw::rd_kafka_oauthbearer_set_token(
            client.native(),
            value.as_ptr(),
            expires_ms,
            principal.as_ptr(),
            pointers.as_mut_ptr(),
            pointers.len(),
            reason.as_mut_ptr(),
            reason.len(),
        )
    })
}
