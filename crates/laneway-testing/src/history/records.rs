//! The records of one partition: which are finished, up to where without a gap, and in which order they belong.

use std::collections::HashMap;

use super::Order;

/// A lane of the partition, as a number.
pub(super) type LaneNumber = usize;

/// One record.
pub(super) struct Record {
    pub(super) offset: i64,
    /// Whoever finished it last.
    pub(super) finished_by: Option<LaneNumber>,
    /// The order that it belongs to; `None` if to none.
    pub(super) sequence: Option<usize>,
}

/// Records in the order of their offsets.
pub(super) struct Records {
    all: Vec<Record>,
    /// The offset from which on they are to be read.
    start: i64,
    /// All before this one are finished, or before the start.
    front: usize,
    sequences: Vec<Sequence>,
}

/// Records that are to run one after the other.
#[derive(Default)]
struct Sequence {
    records: Vec<usize>,
    /// How many of them are finished without a gap.
    front: usize,
}

impl Records {
    /// Of these offsets and keys; in any order, also more than once.
    pub(super) fn new(mut found: Vec<(i64, Option<u64>)>, start: Option<i64>, order: Order) -> Self {
        found.sort_unstable();
        found.dedup_by_key(|(offset, _)| *offset);
        let start = start.or(found.first().map(|(offset, _)| *offset)).unwrap_or(0);
        let mut sequences: Vec<Sequence> = Vec::new();
        let mut numbers: HashMap<Option<u64>, usize> = HashMap::new();
        let mut all = Vec::with_capacity(found.len());
        for (offset, key) in found {
            let key = match order {
                Order::Partition => Some(None),
                Order::Key => key.map(Some),
                Order::Any => None,
            };
            let sequence = key.filter(|_| offset >= start).map(|key| {
                *numbers.entry(key).or_insert_with(|| {
                    sequences.push(Sequence::default());
                    sequences.len() - 1
                })
            });
            if let Some(number) = sequence {
                sequences[number].records.push(all.len());
            }
            all.push(Record { offset, finished_by: None, sequence });
        }
        let front = all.partition_point(|record| record.offset < start);
        Self { all, start, front, sequences }
    }

    pub(super) fn start(&self) -> i64 {
        self.start
    }

    pub(super) fn get(&self, offset: i64) -> Option<&Record> {
        self.all.binary_search_by_key(&offset, |record| record.offset).ok().map(|at| &self.all[at])
    }

    /// Those that are to be finished.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &Record> {
        self.all.iter().filter(|record| record.offset >= self.start)
    }

    /// Whether nobody had finished this one before.
    pub(super) fn finish(&mut self, offset: i64, by: LaneNumber) -> bool {
        let Ok(at) = self.all.binary_search_by_key(&offset, |record| record.offset) else { return false };
        let first = self.all[at].finished_by.replace(by).is_none();
        while self.all.get(self.front).is_some_and(|record| record.finished_by.is_some()) {
            self.front += 1;
        }
        if let Some(number) = self.all[at].sequence {
            let sequence = &mut self.sequences[number];
            let finished = |at: &usize| self.all[*at].finished_by.is_some();
            while sequence.records.get(sequence.front).is_some_and(finished) {
                sequence.front += 1;
            }
        }
        first
    }

    /// The first record below `offset` that is not finished.
    pub(super) fn unfinished_below(&self, offset: i64) -> Option<i64> {
        self.all.get(self.front).map(|record| record.offset).filter(|first| *first < offset)
    }

    /// The first record that is to run before the one at `offset`, and is not finished.
    pub(super) fn unfinished_before(&self, offset: i64) -> Option<i64> {
        let sequence = &self.sequences[self.get(offset)?.sequence?];
        let first = self.all[*sequence.records.get(sequence.front)?].offset;
        (first < offset).then_some(first)
    }
}
