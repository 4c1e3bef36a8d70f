//! What a map says: which offsets above the commit are finished.

use super::{Ahead, Encoding};

/// What is finished above a committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedAhead {
    base: i64,
    encoding: Option<Encoding>,
    /// First and last of each run, both included, in order.
    ranges: Vec<(i64, i64)>,
    /// The first range that ends at or behind what was last asked for.
    cursor: usize,
}

impl FinishedAhead {
    /// Of a commit without a map: nothing is finished above `base`.
    pub fn nothing(base: i64) -> Self {
        Self { base, encoding: None, ranges: Vec::new(), cursor: 0 }
    }

    pub(super) fn new(base: i64, encoding: Encoding, ranges: Vec<(u32, u32)>) -> Option<Self> {
        let last = ranges.last()?;
        base.checked_add(i64::from(last.1))?;
        let absolute = |(start, end): (u32, u32)| (base + i64::from(start), base + i64::from(end) - 1);
        let ranges = ranges.into_iter().map(absolute).collect();
        Some(Self { base, encoding: Some(encoding), ranges, cursor: 0 })
    }

    /// What a map of `ahead` says, without writing one: all of it, whatever its size.
    pub fn of(ahead: &Ahead) -> Self {
        let base = ahead.base();
        let at = |edge: u32| base.saturating_add(i64::from(edge));
        let ranges = ahead.runs().edges.chunks_exact(2).map(|run| (at(run[0]), at(run[1]) - 1)).collect();
        Self { ranges, ..Self::nothing(base) }
    }

    /// Whether the record at `offset` is finished. Asked in the order of offsets, it takes constant time,
    /// amortised.
    pub fn contains(&mut self, offset: i64) -> bool {
        let before = self.cursor.checked_sub(1).and_then(|before| self.ranges.get(before));
        if before.is_some_and(|before| offset <= before.1) {
            self.cursor = self.ranges.partition_point(|range| range.1 < offset);
        }
        while self.ranges.get(self.cursor).is_some_and(|range| range.1 < offset) {
            self.cursor += 1;
        }
        self.ranges.get(self.cursor).is_some_and(|range| range.0 <= offset)
    }

    /// The committed offset that it belongs to.
    pub fn base(&self) -> i64 {
        self.base
    }

    /// How it was encoded; `None` if there was no map.
    pub fn encoding(&self) -> Option<Encoding> {
        self.encoding
    }

    /// The finished runs, `(first, last)`, both included, in order.
    pub fn ranges(&self) -> &[(i64, i64)] {
        &self.ranges
    }

    /// How many offsets are finished above the base, those included that hold no record.
    pub fn finished_count(&self) -> u64 {
        self.ranges.iter().map(|(first, last)| (last - first) as u64 + 1).sum()
    }

    /// The highest finished offset.
    pub fn highest(&self) -> Option<i64> {
        self.ranges.last().map(|range| range.1)
    }

    /// What is not finished between the base and the highest finished offset, `(first, last)`, both
    /// included, in order. Empty if nothing is finished.
    pub fn unfinished(&self) -> Vec<(i64, i64)> {
        let mut next = self.base;
        let gap = |range: &(i64, i64)| {
            let gap = (next, range.0 - 1);
            next = range.1 + 1;
            gap
        };
        self.ranges.iter().map(gap).filter(|(first, last)| first <= last).collect()
    }
}
