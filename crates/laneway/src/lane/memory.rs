//! The budget of memory: what of it lanes may hold, what may be fetched ahead, and how many may fetch at once.
//!
//! A quarter of it is for records that lanes hold: in the handler, queued by key, waiting for a retry. Half is for
//! what is fetched ahead, as much for each partition that is read, by the size of the records that come; where that
//! does not carry all, partitions take turns ([`laneway_core::Turns`]). An eighth is for what a lane that does not read keeps: its first record that was
//! not taken keeps the whole fetch response in memory, and those that came after it. The rest is for what allocation
//! costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use laneway_core::{Pacing, TopicPartition};
use tokio::sync::Notify;

/// Shared by the lanes of a consumer.
#[derive(Debug)]
pub(crate) struct Memory {
    budget: u64,
    prefetch: Prefetch,
    held: AtomicU64,
    /// Of that, records that wait for another one, or for their next try.
    waiting: AtomicU64,
    /// Bytes and records that were ever taken from queues.
    taken: AtomicU64,
    taken_records: AtomicU64,
    /// Bytes of a record as they come now; 0: none has come yet.
    size: AtomicU64,
    /// What was seen waiting in one queue, at most, of late, in bytes with all that the records take beside their own.
    longest: AtomicU64,
    /// What may be fetched ahead of the partitions that are read now.
    reading: AtomicU64,
    /// It would be too much to have all partitions read at once.
    is_tight: AtomicBool,
    /// The client thread looks around seldom, as nothing is taken.
    rests: AtomicBool,
    /// Wakes a lane when there is room again.
    pub(crate) freed: Notify,
}

/// What librdkafka fetches ahead of a partition: until there are so many bytes, or so many records, and each time so
/// many bytes more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prefetch {
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    pub(crate) fetch: u64,
}

impl Prefetch {
    /// How much of what may be fetched ahead of a partition so many bytes and records are, in parts of
    /// [`Pacing::FULL`].
    pub(crate) fn part(self, bytes: u64, records: u64) -> u64 {
        let part = |of: u64, all: u64| of.saturating_mul(Pacing::FULL) / all.max(1);
        part(bytes, self.bytes).max(part(records, self.records))
    }

    /// What may be in memory of one partition, whose records have `size` bytes and are not compressed.
    fn most(self, size: u64) -> u64 {
        let queued = self.records.min(self.bytes / size.max(1) + 1);
        let fetched = (self.fetch / (size + ON_DISK)).max(1);
        queued.saturating_add(fetched).saturating_mul(size + NATIVE)
    }
}

/// What librdkafka needs for a record beside its bytes: a whole operation of 1,024 bytes (2.12.1, rdkafka_op.h).
pub(crate) const NATIVE: u64 = 1_040;
/// What a record takes in a fetch response beside its bytes, about.
const ON_DISK: u64 = 8;

/// What the memory is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MemoryStatus {
    /// The budget, in bytes ([`Builder::memory`](crate::Builder::memory)).
    pub budget: u64,
    /// Bytes of it that are used: `prefetch` and `held`.
    pub used: u64,
    /// What may be fetched ahead now: for each partition that has something to read, as much as is fetched ahead of one.
    pub prefetch: u64,
    /// Records that lanes hold: in the handler, to be handled, or waiting.
    pub held: u64,
    /// Of `held`, records that wait for the one before them in their order, or for their next try.
    pub waiting: u64,
}

impl Memory {
    /// A budget of so many bytes.
    pub(crate) fn new(budget: u64, prefetch: Prefetch) -> Self {
        Self {
            budget,
            prefetch,
            held: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            taken_records: AtomicU64::new(0),
            size: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            reading: AtomicU64::new(0),
            is_tight: AtomicBool::new(false),
            rests: AtomicBool::new(false),
            freed: Notify::new(),
        }
    }

    /// What may be fetched ahead, of all partitions together.
    pub(crate) fn most_ahead(&self) -> u64 {
        self.budget / 2
    }

    /// What is fetched ahead of a partition, at most. 0: it is not known yet how large records are.
    ///
    /// A batch is fetched whole, as it was produced, and one that is compressed is larger then than it was on its way:
    /// what was seen in one queue counts.
    pub(crate) fn ahead(&self) -> u64 {
        match self.size.load(Ordering::Relaxed) {
            0 => 0,
            size => self.prefetch.most(size).max(self.longest.load(Ordering::Relaxed)),
        }
    }

    /// The same of one that has so many records left to read, where that is known. Before any record has come, the
    /// first one that has something to read counts as all there is room for: what comes of it tells how much the others
    /// bring. Where nothing comes of it for long (`in_vain`), it is what the records take beside their bytes, so that
    /// not all begin to read only to stop again.
    pub(crate) fn ahead_of(&self, left: Option<u64>, in_vain: bool) -> u64 {
        let all = |left: u64| left.saturating_mul(self.size.load(Ordering::Relaxed) + NATIVE);
        match self.ahead() {
            0 if in_vain => left.map_or(0, |left| all(left.min(self.prefetch.records))),
            0 => left.map_or(0, |_| self.most_ahead()),
            most => most.min(left.map_or(u64::MAX, all)),
        }
    }

    /// What lanes may hold, all together.
    pub(crate) fn most_held(&self) -> u64 {
        self.budget / 4
    }

    /// What may wait, so that there is room for what need not.
    pub(crate) fn most_waiting(&self) -> u64 {
        self.most_held() / 2
    }

    /// What others may read while a lane that does not keeps it all in memory.
    pub(crate) fn most_held_up(&self) -> u64 {
        self.budget / 8
    }

    /// Room for more in a lane. One that has none may go a little beyond: those that take small records would else
    /// never let one take a large one.
    pub(crate) fn room(&self, has_none: bool) -> u64 {
        let most = self.most_held() + if has_none { self.most_held() / 4 } else { 0 };
        most.saturating_sub(self.held.load(Ordering::Relaxed))
    }

    /// No lane holds anything: even a record that is larger than all the room there is passes, alone.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.load(Ordering::Relaxed) == 0
    }

    /// Takes a change of what a lane holds, and of that, what waits.
    pub(crate) fn hold(&self, from: Held, to: Held) {
        add(&self.held, from.bytes, to.bytes);
        add(&self.waiting, from.waiting, to.waiting);
        if to.bytes < from.bytes {
            self.freed.notify_one();
        }
    }

    /// So much was taken from a queue. True: the client thread is to look around.
    pub(crate) fn took(&self, bytes: u64, records: u64) -> bool {
        // With `rest`: either is seen by the other.
        self.taken.fetch_add(bytes, Ordering::SeqCst);
        self.taken_records.fetch_add(records, Ordering::Relaxed);
        let is_first = self.size.load(Ordering::Relaxed) == 0;
        if is_first {
            self.size.store((bytes / records.max(1)).max(1), Ordering::Relaxed);
        }
        let is_awake = !self.rests.load(Ordering::SeqCst) || !self.rests.swap(false, Ordering::Relaxed);
        is_first || !is_awake
    }

    /// What is fetched ahead of a partition.
    pub(crate) fn prefetch(&self) -> Prefetch {
        self.prefetch
    }

    pub(crate) fn is_tight(&self) -> bool {
        self.is_tight.load(Ordering::Relaxed)
    }

    /// A lane whose records that wait take so much is to put them aside: they, or those of all lanes, leave no room.
    pub(crate) fn waits_too_much(&self, here: u64) -> bool {
        let most = self.most_waiting();
        here >= most || (here >= most / 64 && self.waiting.load(Ordering::Relaxed) >= most)
    }

    /// So many records wait in a queue, of so many bytes each, as far as it is known. True: that is more than was thought.
    pub(crate) fn saw(&self, waiting: usize, size: Option<u64>) -> bool {
        let size = size.unwrap_or_else(|| self.size.load(Ordering::Relaxed));
        let bytes = (waiting as u64).saturating_mul(size + NATIVE);
        let before = self.longest.fetch_max(bytes, Ordering::Relaxed);
        bytes > before + before / 4
    }

    /// Learns how large records are from what was taken since `before`. Answers how much was ever taken.
    pub(crate) fn learn(&self, before: (u64, u64)) -> (u64, u64) {
        let now = (self.taken.load(Ordering::Relaxed), self.taken_records.load(Ordering::Relaxed));
        let (bytes, records) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
        if let Some(seen) = bytes.checked_div(records) {
            let size = self.size.load(Ordering::Relaxed);
            // Small ones cost more than they look, so they count at once.
            let new = if seen < size { seen } else { size + (seen - size) / 8 };
            self.size.store(new.max(1), Ordering::Relaxed);
        }
        let longest = self.longest.load(Ordering::Relaxed);
        self.longest.fetch_sub(longest / 1_024, Ordering::Relaxed);
        now
    }

    /// The client thread has it said by [`took`](Self::took) when something is taken again. False: something was, since
    /// there were `taken` bytes.
    pub(crate) fn rest(&self, taken: u64) -> bool {
        self.rests.store(true, Ordering::SeqCst);
        self.taken.load(Ordering::SeqCst) == taken
    }

    /// Bytes that were ever taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// What is said of records that are larger than what may be held.
    pub(crate) fn too_large(&self, partition: &TopicPartition, bytes: u64) -> String {
        let most = self.most_held();
        format!(
            "{partition}: what was read at once has {bytes} bytes, and lanes may hold {most} of the memory's {}: it \
             passes alone; give more memory",
            self.budget
        )
    }

    pub(crate) fn set_reading(&self, bytes: u64, is_tight: bool) {
        self.reading.store(bytes, Ordering::Relaxed);
        self.is_tight.store(is_tight, Ordering::Relaxed);
    }

    pub(crate) fn status(&self) -> MemoryStatus {
        let held = self.held.load(Ordering::Relaxed);
        let prefetch = self.reading.load(Ordering::Relaxed);
        let waiting = self.waiting.load(Ordering::Relaxed);
        MemoryStatus { budget: self.budget, used: held + prefetch, prefetch, held, waiting }
    }
}

/// What a lane holds, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) bytes: u64,
    /// Of that, what waits for something.
    pub(crate) waiting: u64,
}

/// Room that is held, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    memory: Arc<Memory>,
    held: Held,
}

impl Room {
    pub(crate) fn new(memory: &Arc<Memory>, bytes: u64) -> Self {
        let held = Held { bytes, waiting: 0 };
        memory.hold(Held::default(), held);
        Self { memory: memory.clone(), held }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.memory.hold(self.held, Held::default());
    }
}

fn add(counter: &AtomicU64, from: u64, to: u64) {
    if to > from {
        counter.fetch_add(to - from, Ordering::Relaxed);
    } else if from > to {
        counter.fetch_sub(from - to, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFETCH: Prefetch = Prefetch { bytes: 1 << 20, records: 1_000, fetch: 256 << 10 };

    #[test]
    fn the_budget_is_shared_out() {
        let memory = Memory::new(1 << 30, PREFETCH);
        assert_eq!(memory.most_held(), 256 << 20);
        assert_eq!((memory.room(false), memory.is_empty()), (256 << 20, true));
        let some = Held { bytes: 200 << 20, waiting: 150 << 20 };
        memory.hold(Held::default(), some);
        assert_eq!((memory.room(false), memory.room(true)), (56 << 20, 120 << 20));
        let status = memory.status();
        assert_eq!((status.used, status.waiting), (200 << 20, 150 << 20));
        memory.hold(some, Held { bytes: 1 << 30, waiting: 0 });
        assert_eq!((memory.room(false), memory.room(true)), (0, 0));
    }

    #[test]
    fn who_rests_is_told_once_that_something_is_taken() {
        let memory = Memory::new(1 << 30, PREFETCH);
        assert!(memory.took(10, 1), "the first one tells how large records are");
        assert!(!memory.took(10, 1));
        assert!(!memory.rest(10), "something was taken meanwhile");
        assert!(memory.rest(20));
        assert!(memory.took(10, 1) && !memory.took(10, 1));
    }

    #[test]
    fn small_records_cost_more_than_they_look() {
        let ahead = |size: u64| {
            let memory = Memory::new(1 << 30, PREFETCH);
            assert!(memory.took(size, 1));
            memory.ahead()
        };
        assert_eq!(
            [10, 100, 1_000, 100_000, 10_000_000].map(ahead),
            [16_341_150, 3_906_780, 2_570_400, 1_313_520, 20_002_080]
        );
        let memory = Memory::new(1 << 30, PREFETCH);
        assert_eq!(memory.ahead(), 0, "not known yet");
        let of = |in_vain| [None, Some(3), Some(1 << 40)].map(|left| memory.ahead_of(left, in_vain));
        assert_eq!((of(true), of(false)), ([0, 3_120, 1_040_000], [0, 512 << 20, 512 << 20]));
        assert!(memory.took(10_000, 1) && !memory.took(100_000, 10));
        assert_eq!(of(false), [memory.ahead(), 33_120, memory.ahead()]);
        let before = memory.learn((0, 0));
        assert_eq!((before, memory.size.load(Ordering::Relaxed)), ((110_000, 11), 10_000));
        memory.took(1_000, 100);
        assert_eq!(memory.learn(before), (111_000, 111));
        assert_eq!(memory.size.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn whole_batches_are_fetched_however_large() {
        let memory = Memory::new(1 << 30, PREFETCH);
        memory.took(1_000, 1);
        assert!(memory.saw(900, None) && !memory.saw(1_000, None) && memory.saw(9_000, None));
        assert_eq!(memory.ahead(), 9_000 * 2_040);
        assert!(!memory.saw(1_000, Some(10_000)) && memory.saw(9_000, Some(10_000)));
        assert_eq!(memory.ahead(), 9_000 * 11_040, "of one lane whose records are larger");
    }
}
