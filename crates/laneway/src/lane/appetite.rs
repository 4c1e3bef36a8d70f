//! How many records a lane takes at once.

use super::Memory;
use crate::record::Batch;

/// Learns from what was taken how large records are.
#[derive(Debug)]
pub(super) struct Appetite {
    /// Bytes of a record, as far as it is known.
    size: u64,
    /// What was taken before tells how many may be taken now: sizes are not known in advance.
    records: usize,
}

impl Default for Appetite {
    fn default() -> Self {
        Self { size: 1, records: 1 }
    }
}

impl Appetite {
    /// How many may be taken now by a lane that has some, or none.
    pub(super) fn records(&self, memory: &Memory, has_none: bool) -> usize {
        let room = memory.room(has_none);
        if room < self.size && !memory.is_empty() {
            return 0;
        }
        // Several lanes look at the same room at once.
        usize::try_from(room / 4 / self.size).map_or(self.records, |fit| fit.clamp(1, self.records))
    }

    /// Bytes of a record, where some have been taken.
    pub(super) fn size(&self) -> Option<u64> {
        (self.records > 1).then_some(self.size)
    }

    /// Takes in what was taken. Answers its bytes.
    pub(super) fn took(&mut self, batch: Option<&Batch>) -> u64 {
        let Some(batch) = batch else { return 0 };
        let bytes = batch.bytes();
        self.size = (bytes / batch.len().max(1) as u64).max(1);
        self.records = (self.records * 4).min(BATCH);
        bytes
    }
}

/// Records taken from a queue at once. A batch stays in memory while any of its records does.
const BATCH: usize = 256;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::{Held, Prefetch};
    use super::*;
    use crate::record::OwnedRecord;

    const PREFETCH: Prefetch = Prefetch { bytes: 1, records: 1, fetch: 1 };

    #[test]
    fn as_many_are_taken_as_there_is_room_for() {
        let memory = Memory::new(64 << 20, PREFETCH);
        let mut appetite = Appetite::default();
        let mut taken = Vec::new();
        for _ in 0..6 {
            let most = appetite.records(&memory, true);
            taken.push(most);
            let record = OwnedRecord { payload: Some(vec![0; 1_000]), ..OwnedRecord::default() };
            assert_eq!(appetite.took(Some(&Batch::from_owned(vec![record; most]))), 1_000 * most as u64);
        }
        assert_eq!(taken, [1, 4, 16, 64, 256, 256]);
        // 16 MiB may be held.
        let held = |bytes| Held { bytes, waiting: 0 };
        memory.hold(held(0), held((16 << 20) - 50_000));
        assert_eq!(appetite.records(&memory, false), 12);
        memory.hold(held(0), held(50_000));
        assert_eq!((appetite.records(&memory, false), appetite.records(&memory, true)), (0, 256));
        memory.hold(held(0), held(4 << 20));
        assert_eq!(appetite.records(&memory, true), 0);
    }

    #[test]
    fn a_record_that_is_larger_than_everything_passes_alone() {
        let memory = Memory::new(1_000, PREFETCH);
        let mut appetite = Appetite::default();
        let record = OwnedRecord { payload: Some(vec![0; 5_000]), ..OwnedRecord::default() };
        appetite.took(Some(&Batch::from_owned(vec![record])));
        assert_eq!(appetite.records(&memory, true), 1);
        memory.hold(Held::default(), Held { bytes: 1, waiting: 0 });
        assert_eq!(appetite.records(&memory, true), 0);
    }
}
