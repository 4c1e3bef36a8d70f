//! How many calls of the handler may go on at once: in all lanes together, and in each.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Shared by the lanes of a consumer; may be changed while they run.
#[derive(Debug)]
pub(crate) struct Limit {
    most: AtomicUsize,
    used: AtomicUsize,
    per_lane: AtomicUsize,
    /// Lanes that have nothing running, and could go on if there were room.
    starved: AtomicUsize,
    /// Wakes a lane when there is room again.
    pub(crate) freed: Notify,
}

impl Limit {
    /// Room for `most`, and in one lane for `per_lane`; `usize::MAX` is no limit.
    pub(crate) fn new(most: usize, per_lane: usize) -> Self {
        Self {
            most: AtomicUsize::new(most),
            used: AtomicUsize::new(0),
            per_lane: AtomicUsize::new(per_lane),
            starved: AtomicUsize::new(0),
            freed: Notify::new(),
        }
    }

    pub(crate) fn per_lane(&self) -> usize {
        self.per_lane.load(Ordering::Relaxed)
    }

    /// Changes the limit of each lane.
    pub(crate) fn set_per_lane(&self, most: usize) {
        self.per_lane.store(most, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// Changes the limit. What is in flight beyond it finishes.
    pub(crate) fn set(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// Whether more is taken than there is room for: it was changed.
    pub(crate) fn is_over(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.most()
    }

    /// Takes room for `count`; answers for how many there was some.
    pub(crate) fn take(&self, count: usize) -> usize {
        let most = self.most();
        let mut got = 0;
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                got = count.min(most.saturating_sub(used));
                (got > 0).then_some(used + got)
            })
            .ok();
        got
    }

    /// A lane starves from now on, or does no longer.
    pub(crate) fn starves(&self, starves: bool) {
        if starves {
            self.starved.fetch_add(1, Ordering::Relaxed);
        } else {
            self.starved.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether a lane starves: what another one has no use for any more is for that, and not for itself again.
    pub(crate) fn is_wanted(&self) -> bool {
        self.starved.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn give_back(&self, count: usize) {
        if count > 0 {
            self.used.fetch_sub(count, Ordering::AcqRel);
            self.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_given_than_there_is_room() {
        let limit = Limit::new(5, usize::MAX);
        assert_eq!((limit.take(3), limit.take(3), limit.take(1)), (3, 2, 0));
        limit.set(4);
        limit.give_back(2);
        assert_eq!(limit.take(9), 1);
    }
}
