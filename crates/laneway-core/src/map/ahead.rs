//! What goes into a map: which records above the watermark are finished, as edges between runs.

use super::{FinishedAhead, MAX_SPAN};

/// The records of one lane from its watermark on: what is finished ahead of it, and what is not.
///
/// Offsets have gaps, so it is told of *records*, in order, and never assumes one. An offset that holds no
/// record is remembered as whatever its lower neighbour is, which is safe (nothing will ever be there) and
/// makes the map smaller.
///
/// ```
/// use laneway_core::map::Ahead;
///
/// let mut ahead = Ahead::new(100);
/// for (offset, finished) in [(100, false), (101, true), (103, true), (104, false), (107, true)] {
///     ahead.push(offset, finished);
/// }
/// assert_eq!(ahead.finished(), 3);
/// assert_eq!(ahead.base(), 100);
/// ```
#[derive(Debug, Clone)]
pub struct Ahead {
    base: i64,
    /// Where the state changes, `base`-relative: the start of a finished run, its end, the next one's start.
    /// Behind those that count is where the last finished run ends, if no other record comes.
    edges: Vec<u32>,
    /// How many finished records are below each edge.
    below: Vec<u32>,
    changes: usize,
    state: bool,
    /// What may come next, at least, `base`-relative. Nothing, where something came out of order.
    next: i64,
    finished: u32,
    /// Finished, but where no map reaches.
    out_of_reach: u64,
    void: bool,
}

impl Ahead {
    /// Nothing is finished above `base`, the offset that is committed: the first record that is not
    /// finished.
    pub fn new(base: i64) -> Self {
        Self {
            base,
            edges: vec![0; 64],
            below: vec![0; 64],
            changes: 0,
            state: false,
            next: 1,
            finished: 0,
            out_of_reach: 0,
            void: false,
        }
    }

    /// Adds the next record. They come in order; the base itself is never finished, and what comes out of
    /// order makes the whole map void: repeats, never loss.
    #[inline]
    pub fn push(&mut self, offset: i64, finished: bool) {
        let at = offset.saturating_sub(self.base);
        if at < self.next || at >= MAX_SPAN {
            return self.refuse(at, finished);
        }
        self.stretch(at, 1, u64::from(finished));
    }

    /// Adds records of which each follows the one before it, at most 64. The lowest bit is the first one's state.
    pub(crate) fn push_word(&mut self, first: i64, count: usize, states: u64) {
        let at = first.saturating_sub(self.base);
        if at >= self.next && at < MAX_SPAN - 64 {
            return self.stretch(at, count, states);
        }
        for bit in 0..count {
            self.push(first + bit as i64, states >> bit & 1 == 1);
        }
    }

    /// Adds what was found to be finished from an offset on, before any of it is read again. What stands between is not
    /// finished.
    pub fn push_found(&mut self, found: &FinishedAhead, from: i64) {
        for &(first, last) in found.ranges() {
            let next = self.base.saturating_add(self.next);
            let first = first.max(from).max(next);
            if first > last {
                continue;
            }
            if self.state && next < first {
                self.push(next, false);
            }
            for at in (first..=last).step_by(64) {
                self.push_word(
                    at,
                    usize::try_from(last - at + 1).map_or(64, |count| count.min(64)),
                    u64::MAX,
                );
            }
        }
    }

    /// The offset that is committed.
    pub fn base(&self) -> i64 {
        self.base
    }

    /// Records that are finished above the base.
    pub fn finished(&self) -> u64 {
        u64::from(self.finished) + self.out_of_reach
    }

    #[cold]
    fn refuse(&mut self, at: i64, finished: bool) {
        // The base comes first, if it comes at all, and is not in the map.
        let first = at == 0 && self.next == 1;
        if at < self.next && !first {
            self.next = MAX_SPAN;
            self.void = true;
        }
        self.out_of_reach += u64::from(finished);
    }

    /// Adds as many records, at most 64, the first of them at `first`, and no gap between them. The lowest
    /// bit is the first one's state.
    #[inline]
    fn stretch(&mut self, first: i64, count: usize, states: u64) {
        if self.changes + 65 > self.edges.len() {
            self.edges.resize(self.changes * 2 + 128, 0);
            self.below.resize(self.changes * 2 + 128, 0);
        }
        let (mut state, mut finished, mut last) = (self.state, self.finished, 0);
        let mut edges = (states ^ (states << 1 | u64::from(state))) & (u64::MAX >> (64 - count));
        while edges != 0 {
            let at = edges.trailing_zeros();
            edges &= edges - 1;
            finished += if state { at - last } else { 0 };
            self.edges[self.changes] = first as u32 + at;
            self.below[self.changes] = finished;
            self.changes += 1;
            (state, last) = (!state, at);
        }
        finished += if state { count as u32 - last } else { 0 };
        self.next = first + count as i64;
        if state {
            self.edges[self.changes] = self.next as u32;
        }
        (self.state, self.finished) = (state, finished);
    }

    /// The finished runs.
    pub(super) fn runs(&self) -> Runs<'_> {
        let edges = if self.void { 0 } else { self.changes + usize::from(self.state) };
        Runs {
            edges: self.edges.get(..edges).unwrap_or_default(),
            below: self.below.get(..self.changes.min(edges)).unwrap_or_default(),
            finished: self.finished,
        }
    }
}

/// Many records, in order: faster than one by one where their offsets follow each other.
impl Extend<(i64, bool)> for Ahead {
    fn extend<T: IntoIterator<Item = (i64, bool)>>(&mut self, records: T) {
        let mut records = records.into_iter();
        let mut offsets = [0i64; 64];
        loop {
            // 64 at a time, without a branch that the data decides.
            let (mut count, mut states, mut gaps) = (0, 0, 0);
            for (slot, (offset, finished)) in offsets.iter_mut().zip(&mut records) {
                *slot = offset;
                states |= u64::from(finished) << count;
                count += 1;
            }
            let first = offsets[0].saturating_sub(self.base);
            for (at, offset) in (0..).zip(&offsets[..count]) {
                gaps |= offset.wrapping_sub(at) ^ offsets[0];
            }
            if gaps == 0 && first >= self.next && first < MAX_SPAN - 64 {
                self.stretch(first, count, states);
            } else {
                for (at, offset) in offsets[..count].iter().enumerate() {
                    self.push(*offset, states >> at & 1 == 1);
                }
            }
            if count < 64 {
                return;
            }
        }
    }
}

/// Finished runs in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runs<'a> {
    /// Start, end, start, end, ...: relative to the base, starts above 0, an even number of them.
    pub(super) edges: &'a [u32],
    /// How many finished records are below each edge, but for the last.
    below: &'a [u32],
    finished: u32,
}

impl Runs<'_> {
    pub(super) fn len(&self) -> usize {
        self.edges.len() / 2
    }

    /// Where the run before the `count`th ends.
    pub(super) fn end(&self, count: usize) -> u32 {
        count.checked_sub(1).and_then(|last| self.edges.get(2 * last + 1)).copied().unwrap_or(0)
    }

    /// How many finished records the first `count` runs hold.
    pub(super) fn records(&self, count: usize) -> u64 {
        u64::from(self.below.get(2 * count).copied().unwrap_or(self.finished))
    }

    /// How many whole runs end at or below `end`.
    pub(super) fn below(&self, end: u64) -> usize {
        self.edges.partition_point(|edge| u64::from(*edge) <= end) / 2
    }

    /// Pairs of lengths: not finished, then finished.
    pub(super) fn lengths(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut before = 0;
        self.edges.chunks_exact(2).map(move |run| {
            let (start, end) = (run[0], run[1]);
            let lengths = (start - before, end - start);
            before = end;
            lengths
        })
    }
}
