//! How long the demo's handlers take: most records no time, some a little, and now and then one for long, as it
//! is in life. Those are what a drain waits for.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(super) struct Pace {
    /// For each partition, when its next long record is due, and how many there were.
    long: Vec<Mutex<(Instant, u32)>>,
}

impl Pace {
    pub(super) fn new(partitions: i32) -> Self {
        let now = Instant::now();
        let first = |partition: i32| now + LONG_EVERY.mul_f64(f64::from(partition % 7) / 7.0);
        Self { long: (0..partitions).map(|partition| Mutex::new((first(partition), 0))).collect() }
    }

    /// How long the handler takes for this record, if any time at all.
    pub(super) fn of(&self, partition: i32, offset: i64) -> Option<Duration> {
        let long = usize::try_from(partition).ok().and_then(|index| self.long.get(index))?;
        let (due, count) = &mut *long.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now >= *due {
            *due = now + LONG_EVERY;
            *count += 1;
            return Some(LONG * (1 + *count % 4));
        }
        (offset % 50 == 0).then_some(LITTLE)
    }
}

const LONG_EVERY: Duration = Duration::from_secs(4);
/// A long record takes one to four of these.
const LONG: Duration = Duration::from_millis(200);
const LITTLE: Duration = Duration::from_millis(5);
