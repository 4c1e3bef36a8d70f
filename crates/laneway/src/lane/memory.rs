//! The budget of memory: what of it lanes may hold, what may be fetched ahead, and how many may fetch at once.
//!
//! A quarter of it is for records that lanes hold: in the handler, queued by key, waiting for a retry. Half is for
//! what is fetched ahead, as much for each partition that is read; where that does not carry all, partitions take
//! turns ([`laneway_core::Turns`]). An eighth is for what a lane that does not read keeps: its first record that was
//! not taken keeps the whole fetch response in memory, and those that came after it. The rest is for what allocation
//! costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use laneway_core::TopicPartition;
use tokio::sync::Notify;

/// Shared by the lanes of a consumer.
#[derive(Debug)]
pub(crate) struct Memory {
    budget: u64,
    /// What is fetched ahead of one partition, at most.
    prefetch: u64,
    held: AtomicU64,
    /// Of that, records that wait for another one, or for their next try.
    waiting: AtomicU64,
    /// Bytes that were ever taken from queues.
    taken: AtomicU64,
    /// Partitions that are read now and have something to read.
    reading: AtomicUsize,
    /// Wakes a lane when there is room again.
    pub(crate) freed: Notify,
}

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
    /// A budget of so many bytes, of which each partition that is read has `prefetch`.
    pub(crate) fn new(budget: u64, prefetch: u64) -> Self {
        Self {
            budget,
            prefetch: prefetch.max(1),
            held: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            reading: AtomicUsize::new(0),
            freed: Notify::new(),
        }
    }

    /// How many partitions may be read at once.
    pub(crate) fn partitions(&self) -> usize {
        usize::try_from(self.budget / 2 / self.prefetch).unwrap_or(usize::MAX).max(1)
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

    /// So much was taken from a queue.
    pub(crate) fn took(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
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

    pub(crate) fn set_reading(&self, partitions: usize) {
        self.reading.store(partitions, Ordering::Relaxed);
    }

    pub(crate) fn status(&self) -> MemoryStatus {
        let held = self.held.load(Ordering::Relaxed);
        let prefetch = self.reading.load(Ordering::Relaxed) as u64 * self.prefetch;
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

    #[test]
    fn the_budget_is_shared_out() {
        let memory = Memory::new(1 << 30, 4 << 20);
        assert_eq!((memory.partitions(), memory.most_held()), (128, 256 << 20));
        assert_eq!((memory.room(false), memory.is_empty()), (256 << 20, true));
        let some = Held { bytes: 200 << 20, waiting: 150 << 20 };
        memory.hold(Held::default(), some);
        assert_eq!((memory.room(false), memory.room(true)), (56 << 20, 120 << 20));
        memory.set_reading(2);
        let status = memory.status();
        assert_eq!((status.used, status.waiting), (208 << 20, 150 << 20));
        memory.hold(some, Held { bytes: 1 << 30, waiting: 0 });
        assert_eq!((memory.room(false), memory.room(true)), (0, 0));
    }

    #[test]
    fn a_budget_that_carries_nothing_carries_one_partition() {
        assert_eq!(Memory::new(1, 1 << 20).partitions(), 1);
    }
}
