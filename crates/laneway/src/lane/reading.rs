//! What a lane and the client thread say to each other about the lane's queue: that it goes, that there is a new one,
//! and how reading is going.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use laneway_core::Look;

use super::Memory;
use crate::fetcher::PartitionQueue;

/// Where a lane's queue stands.
#[derive(Default)]
pub(crate) struct Reading {
    change: AtomicU8,
    /// A queue, and the offset at which it begins.
    given: Mutex<Option<(Box<dyn PartitionQueue>, i64)>>,
    /// It has read something from the queue that it has.
    has_read: AtomicBool,
    is_at_end: AtomicBool,
    is_full: AtomicBool,
    /// What it has ever taken, in parts of what may be fetched ahead.
    parts: AtomicU64,
    /// What all lanes together had taken when this one last read.
    taken_then: AtomicU64,
    /// Where the next queue begins, plus one, if not behind what was read last; 0: there.
    go_on_at: AtomicI64,
}

/// What a lane is to do with its queue.
pub(crate) enum Change {
    /// Drop it, and say so.
    Close,
    /// Go on with this one, which begins at this offset.
    Open(Box<dyn PartitionQueue>, i64),
}

const NONE: u8 = 0;
const CLOSE: u8 = 1;
const OPEN: u8 = 2;

impl Reading {
    /// Has the lane drop its queue. The lane must be woken.
    pub(crate) fn close(&self) {
        self.change.store(CLOSE, Ordering::Release);
    }

    /// Gives the lane a queue, which begins at `at`. It has none, and must be woken.
    pub(crate) fn give(&self, queue: Box<dyn PartitionQueue>, at: i64) {
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = Some((queue, at));
        self.change.store(OPEN, Ordering::Release);
    }

    /// What the lane is to do, told once. Costs it one load.
    pub(crate) fn change(&self) -> Option<Change> {
        if self.change.load(Ordering::Relaxed) == NONE {
            return None;
        }
        match self.change.swap(NONE, Ordering::Acquire) {
            CLOSE => {
                // Also one that was given just before, and that the lane did not get to.
                drop(self.take_given());
                Some(Change::Close)
            }
            OPEN => {
                self.has_read.store(false, Ordering::Relaxed);
                self.is_at_end.store(false, Ordering::Relaxed);
                self.take_given().map(|(queue, at)| Change::Open(queue, at))
            }
            _ => None,
        }
    }

    /// A queue that was given and that the lane did not get to: there is one handle of a partition at a time.
    pub(crate) fn take_given(&self) -> Option<(Box<dyn PartitionQueue>, i64)> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The lane looked into its queue. True: who of the lanes reads must be looked at.
    pub(crate) fn has_taken(&self, bytes: u64, records: usize, is_at_end: bool, memory: &Memory) -> bool {
        let mut matters = false;
        if records > 0 {
            matters = memory.took(bytes, records as u64);
            self.has_read.store(true, Ordering::Relaxed);
            // Only the lane writes it.
            let parts = self.parts.load(Ordering::Relaxed) + memory.prefetch().part(bytes, records as u64);
            self.parts.store(parts, Ordering::Relaxed);
        }
        if (records > 0 || is_at_end) && is_at_end != self.is_at_end.load(Ordering::Relaxed) {
            self.is_at_end.store(is_at_end, Ordering::Relaxed);
            matters |= memory.is_tight();
        }
        self.set_full(false, memory);
        matters
    }

    /// What it has ever taken, in parts of what may be fetched ahead ([`laneway_core::Pacing::FULL`]).
    pub(crate) fn parts(&self) -> u64 {
        self.parts.load(Ordering::Relaxed)
    }

    /// Where reading goes on when there is a queue again; `None`: behind what was read last.
    pub(crate) fn go_on_at(&self, offset: Option<i64>) {
        self.go_on_at.store(offset.map_or(0, |offset| offset + 1), Ordering::Release);
    }

    /// Where reading goes on, where that is not behind what was read last.
    pub(crate) fn goes_on_at(&self) -> Option<i64> {
        self.go_on_at.load(Ordering::Acquire).checked_sub(1).filter(|offset| *offset >= 0)
    }

    /// There is something in its queue. True: it was thought to have read all that there is.
    pub(crate) fn has_more(&self) -> bool {
        self.is_at_end.load(Ordering::Relaxed) && self.is_at_end.swap(false, Ordering::Relaxed)
    }

    /// The lane has no room to read, or has some again.
    pub(crate) fn set_full(&self, is_full: bool, memory: &Memory) {
        if !is_full {
            self.taken_then.store(memory.taken(), Ordering::Relaxed);
        }
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// `cost`: that of having it read.
    pub(crate) fn look(&self, memory: &Memory, cost: u64) -> Look {
        let meanwhile = memory.taken().saturating_sub(self.taken_then.load(Ordering::Relaxed));
        Look {
            is_at_end: self.is_at_end.load(Ordering::Relaxed),
            has_read: self.has_read.load(Ordering::Relaxed),
            is_full: self.is_full(),
            // One that goes back reads what it holds already, but for its bytes, and without that it may never go on.
            none_begins: memory.room(true) == 0 && self.goes_on_at().is_none(),
            holds_up: meanwhile > memory.most_held_up(),
            cost,
        }
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("is_full", &self.is_full).finish_non_exhaustive()
    }
}
