//! How many calls of the handler may go on at once: in all lanes together, and in each.
//!
//! Where there is less room than work, a lane's share of the room is its share of the records that wait: so a lane with
//! more of them, and the busiest keys among them, is through no later than the others. What a lane has beyond its share
//! it gives to one that has less, or nothing at all. There is always one that has more: shares are rounded down, so all
//! together are less than the room as soon as one is less than a whole place.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Shared by the lanes of a consumer; may be changed while they run.
#[derive(Debug)]
pub(crate) struct Limit {
    most: AtomicUsize,
    used: AtomicUsize,
    per_lane: AtomicUsize,
    /// Lanes that could go on and have less than their share, or nothing running.
    short: AtomicUsize,
    /// Records that wait, of all lanes.
    waiting: AtomicU64,
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
            short: AtomicUsize::new(0),
            waiting: AtomicU64::new(0),
            freed: Notify::new(),
        }
    }

    #[inline]
    pub(crate) fn per_lane(&self) -> usize {
        self.per_lane.load(Ordering::Relaxed)
    }

    /// Changes the limit of each lane.
    pub(crate) fn set_per_lane(&self, most: usize) {
        self.per_lane.store(most, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    #[inline]
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// Changes the limit. What is in flight beyond it finishes.
    pub(crate) fn set(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// Whether more is taken than there is room for: it was changed.
    #[inline]
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

    /// A lane is short of room from now on, or is no longer.
    pub(super) fn is_short(&self, is_short: bool) {
        if is_short {
            self.short.fetch_add(1, Ordering::Relaxed);
        } else {
            self.short.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether a lane is short of room: what another one has beyond its share is for that, and not for itself again.
    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.short.load(Ordering::Relaxed) > 0
    }

    /// How many records wait in a lane has changed.
    pub(super) fn wait(&self, before: u64, now: u64) {
        if now != before {
            self.waiting.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    /// The share of the room of a lane in which so many records wait.
    pub(super) fn share(&self, waiting: u64) -> usize {
        let all = self.waiting.load(Ordering::Relaxed).max(waiting).max(1);
        usize::try_from((self.most() as u64).saturating_mul(waiting) / all).unwrap_or(usize::MAX)
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

    #[test]
    fn the_room_is_shared_out_by_what_waits() {
        let limit = Limit::new(16, usize::MAX);
        let share = |before, now| {
            limit.wait(before, now);
            limit.share(now)
        };
        assert_eq!((share(0, 0), share(0, 30), share(0, 90), share(30, 10)), (0, 16, 12, 1));
        assert_eq!((share(10, 0), share(90, 90), share(90, 0)), (0, 16, 0));
        assert_eq!((share(0, 800), share(0, 800), share(0, 1)), (16, 8, 0));
        assert_eq!((limit.share(800), Limit::new(usize::MAX, 1).share(7)), (7, usize::MAX / 7));
    }
}
