//! What happened of late in the demo, for the eye.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(super) struct Log {
    lines: Mutex<Vec<(Instant, String)>>,
    /// When partitions that nobody has since were given back.
    given_back: Mutex<HashMap<i32, Instant>>,
    /// Rebalances: moves of partitions that were completed.
    pub(super) rebalances: AtomicU64,
}

impl Log {
    pub(super) fn say(&self, line: String) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), line));
    }

    pub(super) fn assigned(&self, member: &str, partitions: impl ExactSizeIterator<Item = i32>) {
        self.rebalances.fetch_add(1, Ordering::Relaxed);
        let lanes = lanes(partitions.len());
        let mut given_back = self.given_back.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = partitions.filter_map(|partition| given_back.remove(&partition)).min();
        drop(given_back);
        let after = longest.map_or_else(String::new, |since| {
            format!(", {} ms after they were given back", since.elapsed().as_millis())
        });
        self.say(format!("{member} is assigned {lanes}{after}"));
    }

    pub(super) fn revoked(
        &self,
        member: &str,
        partitions: impl ExactSizeIterator<Item = i32>,
        drain: Duration,
    ) {
        self.rebalances.fetch_add(1, Ordering::Relaxed);
        self.say(format!(
            "{member} gave {} back, drained in {} ms",
            lanes(partitions.len()),
            drain.as_millis()
        ));
        let now = Instant::now();
        let mut given_back = self.given_back.lock().unwrap_or_else(PoisonError::into_inner);
        given_back.extend(partitions.map(|partition| (partition, now)));
    }

    /// Takes what was said since the last time.
    pub(super) fn take(&self) -> Vec<(Instant, String)> {
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn lanes(many: usize) -> String {
    if many == 1 { "1 lane".into() } else { format!("{many} lanes") }
}
