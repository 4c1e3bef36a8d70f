//! How often the brokers are asked for more of a lane: a request for records waits at the broker until there are some,
//! and meanwhile nothing else is asked for by the same client. So a lane that has much to read must not wait together
//! with lanes that have nothing, and those must not be asked for all the time.

use std::time::Duration;

/// How often more is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Again and again: it has much to read, or nobody knows yet.
    Busy,
    /// As often as there is something: it has little to read.
    Quiet,
}

/// Learns from what a lane takes which pace is its own.
#[derive(Debug)]
pub struct Pacing {
    pace: Pace,
    taken: u64,
    /// Since when it has taken little.
    quiet_since: Duration,
}

impl Pacing {
    /// A lane that begins now; as much is to be read as there is, and soon.
    pub fn new(now: Duration) -> Self {
        Self { pace: Pace::Busy, taken: 0, quiet_since: now }
    }

    /// The lane's pace.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// To be told every [`LOOK`](Self::LOOK) what the lane has taken so far, in parts of what is fetched ahead of it at most
    /// ([`FULL`](Self::FULL)). True: its pace has changed.
    pub fn look(&mut self, now: Duration, taken: u64) -> bool {
        let meanwhile = taken.saturating_sub(std::mem::replace(&mut self.taken, taken));
        if meanwhile > LITTLE {
            self.quiet_since = now;
        }
        let pace = match self.pace {
            Pace::Busy if now.saturating_sub(self.quiet_since) >= PATIENCE => Pace::Quiet,
            // What is fetched ahead hardly lasts as long as a request may wait.
            Pace::Quiet if meanwhile >= MUCH => Pace::Busy,
            same => same,
        };
        pace != std::mem::replace(&mut self.pace, pace)
    }

    /// How often a lane is looked at.
    pub const LOOK: Duration = Duration::from_millis(500);
    /// So much is what may be fetched ahead of a lane.
    pub const FULL: u64 = 1_024;
}

const LITTLE: u64 = Pacing::FULL / 16;
const MUCH: u64 = Pacing::FULL / 2;
/// How long a lane takes little before it is quiet. Its pace costs it what was fetched ahead, and some requests.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a lane that takes so much between two looks. Answers when its pace changed.
    fn changes(taken: impl Fn(u32) -> u64, looks: u32) -> Vec<(u32, Pace)> {
        let mut pacing = Pacing::new(Duration::ZERO);
        let mut all = 0;
        let mut changes = Vec::new();
        for look in 1..=looks {
            all += taken(look);
            if pacing.look(Pacing::LOOK * look, all) {
                changes.push((look, pacing.pace()));
            }
        }
        changes
    }

    #[test]
    fn one_that_takes_little_becomes_quiet_once() {
        assert_eq!(changes(|_| 0, 1_000), [(10, Pace::Quiet)]);
        assert_eq!(changes(|_| LITTLE, 1_000), [(10, Pace::Quiet)]);
        assert_eq!(changes(|look| if look < 100 { 5_000 } else { 0 }, 1_000), [(109, Pace::Quiet)]);
    }

    #[test]
    fn one_that_takes_much_stays_busy_and_one_between_stays_what_it_is() {
        assert!(changes(|_| 5_000, 1_000).is_empty());
        assert!(changes(|_| LITTLE + 1, 1_000).is_empty());
        let later = |look| if look < 50 { 0 } else { MUCH - 1 };
        assert_eq!(changes(later, 1_000), [(10, Pace::Quiet)]);
    }

    #[test]
    fn one_that_has_much_again_is_busy_at_once_and_for_a_while() {
        let bursts = |look: u32| if look.is_multiple_of(50) { MUCH } else { 0 };
        let expected =
            [(10, Pace::Quiet), (50, Pace::Busy), (60, Pace::Quiet), (100, Pace::Busy), (110, Pace::Quiet)];
        assert_eq!(changes(bursts, 120), expected);
        let burst_and_more = |look: u32| if look >= 50 { MUCH } else { 0 };
        assert_eq!(changes(burst_and_more, 1_000), [(10, Pace::Quiet), (50, Pace::Busy)]);
    }
}
