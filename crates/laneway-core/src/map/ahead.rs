//! What goes into a map: which records above the watermark are finished, as edges between runs.

use super::MAX_SPAN;

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
    /// Behind those that count is where the last run would end now, so that adding a record needs no branch
    /// that the data decides.
    edges: Vec<u32>,
    /// How many finished records are below each edge.
    below: Vec<u32>,
    changes: usize,
    state: bool,
    /// The offset that may come next, at least.
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
            next: base,
            finished: 0,
            out_of_reach: 0,
            void: false,
        }
    }

    /// Adds the next record. They come in order; the base itself is never finished, and what comes out of
    /// order makes the whole map void: repeats, never loss.
    pub fn push(&mut self, offset: i64, finished: bool) {
        self.extend([(offset, finished)]);
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
    fn refuse(&mut self, offset: i64, finished: bool) {
        self.void |= offset < self.next;
        self.out_of_reach += u64::from(finished);
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

/// Many records, in order: twice as fast as one by one.
impl Extend<(i64, bool)> for Ahead {
    #[inline]
    fn extend<T: IntoIterator<Item = (i64, bool)>>(&mut self, records: T) {
        let (base, void) = (self.base, self.void);
        let (mut changes, mut state, mut next, mut count) =
            (self.changes, self.state, self.next, self.finished);
        for (offset, finished) in records {
            let at = offset.wrapping_sub(base);
            if offset < next || !(0..MAX_SPAN).contains(&at) || (at == 0) & finished || void {
                (self.changes, self.state, self.next, self.finished) = (changes, state, next, count);
                self.refuse(offset, finished);
                continue;
            }
            next = offset + 1;
            if changes + 2 > self.edges.len() {
                self.edges.resize(changes * 2, 0);
                self.below.resize(changes * 2, 0);
            }
            let at = at as u32;
            self.edges[changes] = at;
            self.below[changes] = count;
            changes += usize::from(finished != state);
            self.edges[changes] = at + 1;
            state = finished;
            count += u32::from(finished);
        }
        (self.changes, self.state, self.next, self.finished) = (changes, state, next, count);
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
