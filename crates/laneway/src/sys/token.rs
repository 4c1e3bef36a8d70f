//! Tokens for SASL OAUTHBEARER.

use std::ffi::{CString, c_char};

use rdkafka_sys::rd_kafka_t;

use super::error::{KafkaError, codes};
use super::raw;

/// A native client that authenticates itself with tokens.
pub(crate) trait TakesToken: Send + Sync {
    /// Gives the client its token, in the place of the one it has. An error says nothing of the token.
    fn set_token(
        &self,
        value: &str,
        expires_ms: i64,
        principal: &str,
        extensions: &[(String, String)],
    ) -> Result<(), KafkaError>;
}

/// # Safety
/// `client` is live.
pub(super) unsafe fn set_token(
    client: *mut rd_kafka_t,
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
    // SAFETY: by this function's contract; the texts are terminated and copied, the array has as many pointers as is
    // said, to keys and values in turn, and the reason is as long as is said.
    KafkaError::check(unsafe {
        raw::rd_kafka_oauthbearer_set_token(
            client,
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
