//! How long a partition had records and none was finished.

use std::time::Duration;

use super::Silence;

/// Follows one partition through a history.
pub(super) struct Listener {
    waiting: u64,
    /// Since when nothing was finished though records waited.
    since: Option<Duration>,
    longest: Silence,
}

impl Listener {
    pub(super) fn new() -> Self {
        Self { waiting: 0, since: None, longest: Silence { length: Duration::ZERO, from: Duration::ZERO } }
    }

    /// The first lane of all was opened: silence counts from now on.
    pub(super) fn begin(&mut self, now: Duration) {
        self.since = (self.waiting > 0).then_some(now);
    }

    /// A record came that is not finished.
    pub(super) fn produced(&mut self, now: Duration) {
        self.waiting += 1;
        self.since.get_or_insert(now);
    }

    /// A record was finished: one of those that waited, or another.
    pub(super) fn finished(&mut self, now: Duration, one_that_waited: bool) {
        self.end(now);
        if one_that_waited {
            self.waiting = self.waiting.saturating_sub(1);
        }
        self.since = (self.waiting > 0).then_some(now);
    }

    /// A silence ends, with a record or with the history.
    pub(super) fn end(&mut self, now: Duration) {
        if let Some(from) = self.since.take() {
            let length = now.saturating_sub(from);
            if length > self.longest.length {
                self.longest = Silence { length, from };
            }
        }
    }

    pub(super) fn longest(self) -> Silence {
        self.longest
    }
}
