//! What librdkafka logs, handed on to `tracing`.

use std::ffi::{c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka_sys::rd_kafka_t;

use super::error::text;

/// Called by librdkafka for each line, from any of its threads.
///
/// # Safety
/// `facility` and `line` are null or terminated texts, for the length of the call.
pub(super) unsafe extern "C" fn forward(
    _rk: *const rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    // SAFETY: by this function's contract.
    let (facility, line) = unsafe { (text(facility), text(line)) };
    // A subscriber that panics must not unwind into C, which would end the process.
    catch_unwind(AssertUnwindSafe(|| match level {
        ..=3 => tracing::error!(target: "librdkafka", facility, "{line}"),
        4 => tracing::warn!(target: "librdkafka", facility, "{line}"),
        5 | 6 => tracing::info!(target: "librdkafka", facility, "{line}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }))
    .ok();
}
