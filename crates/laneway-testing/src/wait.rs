//! Waiting for a condition, never for a length of time; and names that no other test uses.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Error;

/// Polls `condition` until it holds.
///
/// # Panics
/// When it does not hold within `deadline`; the message names `what`.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, condition: impl FnMut() -> bool) {
    let waited = try_wait_until(deadline, what, condition);
    assert!(waited.is_ok(), "{}", waited.err().map(|e| e.to_string()).unwrap_or_default());
}

/// Polls `condition` until it holds: at once, then with pauses that grow from 1 to 20 ms.
///
/// # Errors
/// When it does not hold within `deadline`; the error names `what`.
pub fn try_wait_until(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> Result<(), Error> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if condition() {
            return Ok(());
        }
        if begun.elapsed() >= deadline {
            return Err(Error::new(format!("waited {deadline:?} in vain for: {what}")));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// A name that starts with `prefix` and is used nowhere else: for topics and groups of tests that share a Kafka.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    format!("{prefix}-{time:x}-{:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
