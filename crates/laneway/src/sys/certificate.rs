//! Why a broker's certificate was not accepted: OpenSSL itself says no more than that it was not.

use std::ffi::{c_char, c_int, c_void};
use std::sync::{Mutex, PoisonError};

use rdkafka_sys::rd_kafka_t;

use super::error::text;

/// The last reason, kept until it is asked for.
#[derive(Default)]
pub(super) struct CertificateReason(Mutex<Option<String>>);

impl CertificateReason {
    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Called by librdkafka for each certificate of a broker's chain, from the broker's thread, after OpenSSL has
/// looked at it. Decides as OpenSSL did.
///
/// # Safety
/// `broker` is null or a terminated text, `x509_error` points to a number, both for the length of the call, and
/// `reason` to a [`CertificateReason`] that outlives the client.
pub(super) unsafe extern "C" fn verified(
    _rk: *mut rd_kafka_t,
    broker: *const c_char,
    _broker_id: i32,
    x509_error: *mut c_int,
    _depth: c_int,
    _certificate: *const c_char,
    _size: usize,
    _text: *mut c_char,
    _text_size: usize,
    reason: *mut c_void,
) -> c_int {
    // SAFETY: by this function's contract.
    let (error, reason) = unsafe { (*x509_error, &*reason.cast_const().cast::<CertificateReason>()) };
    if error == X509_V_OK {
        return 1;
    }
    // SAFETY: by this function's contract.
    let broker = unsafe { text(broker) };
    let why = match error {
        9 => "it is not yet valid",
        10 => "it has expired",
        18 | 19 => "it is signed by itself, or by an authority that is not trusted",
        2 | 20 | 21 => "its authority is not known",
        23 => "it was revoked",
        62 => "it is for another host",
        64 => "it is for another address",
        _ => "OpenSSL refused it",
    };
    *reason.0.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(format!("the certificate of {broker}: {why} (X.509 error {error})"));
    0
}

/// OpenSSL's number for a certificate that is as it should be (`x509_vfy.h`, as the others above).
const X509_V_OK: c_int = 0;
