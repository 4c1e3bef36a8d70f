//! Which records are tried again, when, and when that is enough.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use crate::failures::GiveUp;

/// What is done about failures.
#[derive(Debug, Clone)]
pub(crate) struct Failures {
    /// Tries of a record, the first included.
    pub(crate) attempts: Option<u32>,
    /// The first and the longest wait between two tries.
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
    /// How long a record is tried in all.
    pub(crate) retry_for: Option<Duration>,
    /// How long one try may take.
    pub(crate) timeout: Option<Duration>,
    pub(crate) give_up: GiveUp,
}

/// A record's tries so far.
#[derive(Debug, Clone)]
pub(crate) struct Tried {
    pub(crate) times: u32,
    pub(crate) first: SystemTime,
    pub(crate) last: SystemTime,
}

impl Failures {
    /// How long to wait after the try with this number: exponential, with full jitter, so that many that failed
    /// together do not come back together.
    pub(crate) fn wait(&self, times: u32) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(times.saturating_sub(1)));
        jittered(doubled.min(self.longest))
    }
}

/// A random part of a wait, from nothing to all of it.
fn jittered(longest: Duration) -> Duration {
    // The keys of each are different: the standard library's source of what can't be foretold.
    let random = RandomState::new().hash_one(longest);
    longest.mul_f64(random as f64 / u64::MAX as f64)
}

impl Tried {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now();
        Self { times: 0, first: now, last: now }
    }

    pub(crate) fn fail(&mut self) {
        self.times += 1;
        self.last = SystemTime::now();
    }

    /// Whether one more failure is enough.
    pub(crate) fn would_be_enough(&self, failures: &Failures) -> bool {
        let is_too_long = |limit| self.first.elapsed().is_ok_and(|taken| self.times > 0 && taken >= limit);
        failures.attempts.is_some_and(|attempts| self.times + 1 >= attempts)
            || failures.retry_for.is_some_and(is_too_long)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_are_spread() {
        let failures = Failures {
            attempts: Some(3),
            first: Duration::from_millis(100),
            longest: Duration::from_secs(1),
            retry_for: None,
            timeout: None,
            give_up: GiveUp::Stop,
        };
        for (times, longest) in [(1, 100), (2, 200), (4, 800), (5, 1_000), (4_000_000_000, 1_000)] {
            let longest = Duration::from_millis(longest);
            let waits: Vec<Duration> = (0..200).map(|_| failures.wait(times)).collect();
            assert!(waits.iter().all(|wait| *wait <= longest));
            assert!(
                waits.iter().any(|wait| *wait < longest / 4) && waits.iter().any(|wait| *wait > longest / 2)
            );
        }
    }

    #[test]
    fn as_many_tries_as_allowed_are_enough() {
        let failures = Failures {
            attempts: Some(2),
            first: Duration::ZERO,
            longest: Duration::ZERO,
            retry_for: None,
            timeout: None,
            give_up: GiveUp::Stop,
        };
        let mut tried = Tried::new();
        assert!(!tried.would_be_enough(&failures));
        assert!(tried.would_be_enough(&Failures { attempts: Some(1), ..failures.clone() }));
        tried.fail();
        assert!(tried.would_be_enough(&failures));
        assert!(!tried.would_be_enough(&Failures { attempts: None, ..failures.clone() }));
        assert!(tried.would_be_enough(&Failures {
            attempts: None,
            retry_for: Some(Duration::ZERO),
            ..failures
        }));
    }
}
