//! What happens to records that fail.

use std::sync::atomic::{AtomicU64, Ordering};

/// What happens to a record that is given up: by its handler, or after as many tries as are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GiveUp {
    /// It is written to the dead letter topic ([`Builder::dead_letters`]), and counts as finished when the brokers
    /// have it.
    ///
    /// [`Builder::dead_letters`]: crate::Builder::dead_letters
    DeadLetter,
    /// It counts as finished, and is told as an event.
    Skip,
    /// The consumer stops: what is in flight is finished, all before the record is committed, and the run ends with
    /// an error of the kind [`ErrorKind::GaveUp`](crate::ErrorKind::GaveUp) that names the record. It comes again.
    #[default]
    Stop,
}

/// What is done about a handler that is at a record for longer than is allowed: see
/// [`Builder::stall`](crate::Builder::stall).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StallAction {
    /// It is told, as [`Event::Stalled`](crate::Event::Stalled), and shown in the status. Its lane (by key: its key)
    /// waits on.
    #[default]
    Report,
    /// The member leaves its group, so that another one takes its partitions over: Kafka can't give up one partition
    /// alone. The consumer stops as by [`Handle::stop`](crate::Handle::stop): what else is in flight finishes, the
    /// handler that stalls is cancelled at the drain deadline, what is finished is committed, and the run ends with an
    /// error of the kind [`ErrorKind::Stalled`](crate::ErrorKind::Stalled) that names the record. It comes again.
    Leave,
}

/// Keeps a consumer from draining a topic into the dead letters when everything fails: see
/// [`Builder::storm_guard`](crate::Builder::storm_guard).
///
/// It is a bucket of as many dead letters as may be written while nothing succeeds. Each takes one out; records that
/// are handled put them back.
///
/// ```
/// use laneway::StormGuard;
///
/// // 20 in a row; every 50 records that are handled allow one more, and lanes wait when there are none left.
/// let guard = StormGuard::new(20).successes(50).waits();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StormGuard {
    letters: u32,
    successes: u32,
    waits: bool,
}

impl StormGuard {
    /// Allows so many dead letters while nothing succeeds (0 counts as 1); every 10 records that are handled allow one
    /// more, up to as many. When there are none left the consumer stops, as by [`GiveUp::Stop`].
    pub fn new(letters: u32) -> Self {
        Self { letters: letters.max(1), successes: 10, waits: false }
    }

    /// How many records must be handled for one more dead letter; 0 counts as 1.
    pub fn successes(mut self, records: u32) -> Self {
        self.successes = records.max(1);
        self
    }

    /// When there are none left, the lane pauses instead of stopping the consumer: it begins nothing for as long as the
    /// longest backoff ([`Builder::backoff`](crate::Builder::backoff)), then one record after each such time, until one
    /// succeeds.
    pub fn waits(mut self) -> Self {
        self.waits = true;
        self
    }
}

/// A [`StormGuard`] at work, shared by all lanes.
#[derive(Debug)]
pub(crate) struct Bucket {
    guard: StormGuard,
    /// Successes that are left: a dead letter takes as many as one costs.
    left: AtomicU64,
}

impl Bucket {
    pub(crate) fn new(guard: StormGuard) -> Self {
        let bucket = Self { guard, left: AtomicU64::new(0) };
        bucket.left.store(bucket.most(), Ordering::Relaxed);
        bucket
    }

    pub(crate) fn waits(&self) -> bool {
        self.guard.waits
    }

    pub(crate) fn letters(&self) -> u32 {
        self.guard.letters
    }

    /// Records were handled.
    pub(crate) fn fill(&self, successes: u64) {
        let filled = |left: u64| (left < self.most()).then(|| (left + successes).min(self.most()));
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, filled).ok();
    }

    /// Whether one more dead letter may be written.
    pub(crate) fn take(&self) -> bool {
        let cost = u64::from(self.guard.successes);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost)).is_ok()
    }

    fn most(&self) -> u64 {
        u64::from(self.guard.letters) * u64::from(self.guard.successes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successes_allow_dead_letters_and_no_more_than_there_is_room_for() {
        let bucket = Bucket::new(StormGuard::new(2).successes(3));
        assert!(bucket.take() && bucket.take() && !bucket.take());
        bucket.fill(2);
        assert!(!bucket.take());
        bucket.fill(1);
        assert!(bucket.take() && !bucket.take());
        bucket.fill(1_000);
        assert!(bucket.take() && bucket.take() && !bucket.take());
    }
}
