//! What really happened in the demo: what was produced, and how often each record's handler finished it.
//! Counted beside Laneway, which is not asked.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// What was produced and finished, by partition.
#[derive(Debug)]
pub(super) struct Truth {
    partitions: Vec<Mutex<Partition>>,
}

#[derive(Debug, Default)]
struct Partition {
    /// How often each offset was finished.
    times: Vec<u8>,
    /// Below this everything was finished.
    whole_below: usize,
    produced: u64,
    finished: u64,
    duplicates: u64,
    /// Offsets that were not finished when a commit passed them.
    passed: BTreeSet<usize>,
}

/// The counts of all partitions.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) produced: u64,
    /// Different records that were finished.
    pub(super) finished: u64,
    pub(super) duplicates: u64,
    pub(super) losses: u64,
}

impl Truth {
    pub(super) fn new(partitions: usize) -> Self {
        Self { partitions: (0..partitions).map(|_| Mutex::default()).collect() }
    }

    pub(super) fn produced(&self, partition: i32, records: u64) {
        self.with(partition, |partition| partition.produced += records);
    }

    pub(super) fn finished(&self, partition: i32, offset: i64) {
        self.with(partition, |partition| partition.finish(usize::try_from(offset).unwrap_or(0)));
    }

    pub(super) fn committed(&self, partition: i32, offset: i64) {
        self.with(partition, |partition| partition.commit(usize::try_from(offset).unwrap_or(0)));
    }

    /// The counts so far. A record that a commit passed and that was never finished is a loss.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for partition in &self.partitions {
            let partition = partition.lock().unwrap_or_else(PoisonError::into_inner);
            counts.produced += partition.produced;
            counts.finished += partition.finished;
            counts.duplicates += partition.duplicates;
            counts.losses += partition.passed.len() as u64;
        }
        counts
    }

    /// What was produced to each partition.
    pub(super) fn produced_each(&self) -> Vec<u64> {
        let each = self.partitions.iter();
        each.map(|partition| partition.lock().unwrap_or_else(PoisonError::into_inner).produced).collect()
    }

    fn with(&self, partition: i32, act: impl FnOnce(&mut Partition)) {
        if let Some(partition) = usize::try_from(partition).ok().and_then(|index| self.partitions.get(index))
        {
            act(&mut partition.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Partition {
    fn finish(&mut self, offset: usize) {
        if self.times.len() <= offset {
            self.times.resize(offset + 1, 0);
        }
        let times = &mut self.times[offset];
        *times = times.saturating_add(1);
        if *times == 1 {
            self.finished += 1;
        } else {
            self.duplicates += 1;
        }
        self.passed.remove(&offset);
    }

    fn commit(&mut self, offset: usize) {
        for below in self.whole_below..offset {
            if self.times.get(below).is_none_or(|times| *times == 0) {
                self.passed.insert(below);
            }
        }
        self.whole_below = self.whole_below.max(offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_finished_twice_is_a_duplicate() {
        let truth = Truth::new(1);
        truth.produced(0, 2);
        truth.finished(0, 0);
        truth.finished(0, 0);
        let counts = truth.counts();
        assert_eq!((counts.finished, counts.duplicates, counts.losses), (1, 1, 0));
    }

    #[test]
    fn a_record_that_a_commit_passed_is_a_loss_until_it_is_finished() {
        let truth = Truth::new(1);
        truth.produced(0, 3);
        truth.finished(0, 1);
        truth.committed(0, 2);
        assert_eq!(truth.counts().losses, 1);
        truth.finished(0, 0);
        assert_eq!(truth.counts().losses, 0);
    }
}
