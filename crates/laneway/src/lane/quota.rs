//! How many records may be handed out in all, where a number is set: exactly that many different ones.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Shared by the lanes of a consumer.
#[derive(Debug)]
pub(crate) struct Quota {
    left: AtomicU64,
    unfinished: AtomicU64,
    /// Wakes a lane when a record that was handed out is given back.
    pub(crate) given_back: Notify,
}

impl Quota {
    pub(crate) fn new(count: u64) -> Self {
        Self { left: AtomicU64::new(count), unfinished: AtomicU64::new(count), given_back: Notify::new() }
    }

    /// Takes one record's place.
    pub(crate) fn take(&self) -> bool {
        self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
    }

    /// Gives a place back whose record was not finished.
    pub(crate) fn give_back(&self) {
        self.left.fetch_add(1, Ordering::AcqRel);
        self.given_back.notify_one();
    }

    /// Counts a record as finished. True for the last one.
    pub(crate) fn finish(&self) -> bool {
        self.unfinished.fetch_sub(1, Ordering::AcqRel) == 1
    }
}
