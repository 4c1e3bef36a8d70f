//! What a lane and the client thread know of each other without asking. The record's way takes no lock of these:
//! progress is locked once for each batch that is read and each turn of the lane.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use laneway_core::map::Ahead;
use laneway_core::{LaneId, Position, Ticket, Tracker};
use tokio::sync::Notify;

use super::window::Window;
use super::{Appetite, Change, FALLBACK_TICK, Finished, LaneMessage, Memory, Reading, Tell};
use crate::fetcher::{PartitionQueue, Taken};

/// Shared by a lane and the client thread.
#[derive(Debug)]
pub(crate) struct LaneShared {
    pub(crate) id: LaneId,
    /// Wakes the lane: there are records, or an order, or a handler goes on.
    pub(crate) wake: Notify,
    order: AtomicU8,
    /// It begins no new record.
    paused: AtomicBool,
    /// It was cancelled before a drain of it was over.
    lost: AtomicBool,
    /// Until when a drain waits; set before the order is given.
    deadline: Mutex<Option<Instant>>,
    progress: Mutex<Progress>,
    /// How many records of the current batch finished, one after the other, without ever waiting.
    at_once: AtomicU64,
    in_flight: AtomicU64,
    waiting: AtomicU64,
    pub(crate) reading: Reading,
    stalled: AtomicU64,
    /// It was told that records are too large for the memory.
    told_too_large: AtomicBool,
    /// How often the lane has looked at what its handler does.
    looks: AtomicU64,
    /// Records finished ahead that the last commit had no room to remember.
    pub(crate) forgotten: AtomicU64,
    /// The log's end as the broker last said; negative before it did.
    pub(crate) end: AtomicI64,
    /// What was finished above its start when it began.
    pub(crate) found: OnceLock<Finished>,
    /// What a streamed lane handed out, in place of `progress`.
    window: OnceLock<Arc<Window>>,
}

/// What a lane has done.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) tracker: Tracker,
    /// The first record that `at_once` counts from.
    first: Option<Ticket>,
}

/// What a lane is told to do. Only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    Run = 0,
    Drain = 1,
    Cancel = 2,
}

impl LaneShared {
    pub(crate) fn new(id: LaneId, start: Position) -> Self {
        Self {
            id,
            wake: Notify::new(),
            order: AtomicU8::new(Order::Run as u8),
            paused: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            deadline: Mutex::new(None),
            progress: Mutex::new(Progress { tracker: Tracker::new(start), first: None }),
            at_once: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            reading: Reading::default(),
            stalled: AtomicU64::new(0),
            told_too_large: AtomicBool::new(false),
            looks: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            end: AtomicI64::new(-1),
            found: OnceLock::new(),
            window: OnceLock::new(),
        }
    }

    #[inline]
    pub(crate) fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::Run,
            1 => Order::Drain,
            _ => Order::Cancel,
        }
    }

    pub(crate) fn give(&self, order: Order, deadline: Instant) {
        if let Ok(mut slot) = self.deadline.lock() {
            if order == Order::Cancel && slot.is_none_or(|drain| Instant::now() < drain) {
                self.lost.store(true, Ordering::Release);
            }
            *slot = Some(slot.map_or(deadline, |earlier| earlier.min(deadline)));
        }
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        self.wake.notify_one();
    }

    /// Whether the partition was taken away without being asked back.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Has it begin no new record, or go on.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
        self.wake.notify_one();
    }

    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Returns when the lane has been told to end. Until then its queue goes and comes as it is told.
    pub(super) async fn ordered(&self, queue: &mut Option<Box<dyn PartitionQueue>>, tell: &Tell) {
        while self.order() == Order::Run {
            self.follow(queue, tell, || ());
            tokio::time::timeout(FALLBACK_TICK, self.wake.notified()).await.ok();
        }
    }

    /// Does with the lane's queue what the client thread says. Before it is told that the queue is gone, `leave_off` is
    /// called. Answers where a new one begins.
    pub(super) fn follow(
        &self,
        queue: &mut Option<Box<dyn PartitionQueue>>,
        tell: &Tell,
        leave_off: impl FnOnce(),
    ) -> Option<i64> {
        match self.reading.change() {
            Some(Change::Close) => {
                drop(queue.take());
                leave_off();
                tell(LaneMessage::QueueClosed(self.id.clone()));
                None
            }
            Some(Change::Open(given, at)) => {
                *queue = Some(given);
                Some(at)
            }
            None => None,
        }
    }

    /// Takes records from the lane's queue, and tells what others must know of it. Answers their bytes, too.
    pub(super) fn take(
        &self,
        queue: &mut dyn PartitionQueue,
        most: usize,
        appetite: &mut Appetite,
        memory: &Memory,
        tell: &Tell,
    ) -> (Taken, u64) {
        let taken = queue.take(most);
        let bytes = appetite.took(taken.batch.as_ref());
        let records = taken.batch.as_ref().map_or(0, |batch| batch.len());
        let is_at_end = taken.end.is_some() || taken.is_last;
        // Before it is told that something was taken: with the first records it is known how many come at once.
        let is_more = records == most && memory.saw(queue.waiting(), appetite.size());
        if self.reading.has_taken(bytes, records, is_at_end, memory) | is_more {
            tell(LaneMessage::Crowded);
        }
        if bytes > memory.most_held() && !self.told_too_large.swap(true, Ordering::Relaxed) {
            tell(LaneMessage::Told(memory.too_large(&self.id.partition, bytes)));
        }
        (taken, bytes)
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline.lock().ok().and_then(|slot| *slot).unwrap_or_else(Instant::now)
    }

    /// What the lane has done, with all that finished at once counted in.
    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = progress.first {
            // Acquire: what the handler did comes before what is committed of it.
            progress.tracker.finish_run(first, self.at_once.load(Ordering::Acquire));
        }
        progress
    }

    /// A batch begins at `first`: records that finish at once are counted from there on. Only the lane calls it.
    pub(crate) fn begin_batch(&self, progress: &mut Progress, first: Option<Ticket>) {
        progress.first = first;
        self.at_once.store(0, Ordering::Relaxed);
    }

    /// The next record of the batch finished at once. Only the lane calls it.
    #[inline]
    pub(crate) fn finished_at_once(&self) {
        self.at_once.store(self.at_once.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// What may be committed.
    pub(crate) fn watermark(&self) -> Position {
        match self.window.get() {
            Some(window) => window.watermark(),
            None => self.progress().tracker.watermark(),
        }
    }

    /// A number that grows as more is finished above the watermark; 0: nothing is.
    pub(crate) fn ahead_number(&self) -> u64 {
        match self.window.get() {
            Some(window) => window.ahead_number(),
            None => {
                let progress = self.progress();
                if progress.tracker.finished_ahead() == 0 { 0 } else { progress.tracker.finished() }
            }
        }
    }

    /// What is finished above `base`, and the highest leader epoch of it.
    pub(crate) fn ahead(&self, base: i64) -> Option<(Ahead, Option<i32>)> {
        // First: what is read meanwhile is in both.
        let position = self.position();
        let read = match self.window.get() {
            Some(window) => window.ahead(base),
            None => self.progress().tracker.ahead(base),
        };
        match self.found.get() {
            Some(found) => found.add_to(read, base, position),
            None => read,
        }
    }

    /// Makes the lane a streamed one, whose acks come from elsewhere.
    pub(crate) fn stream_from(&self, start: Position) -> Arc<Window> {
        self.window.get_or_init(|| Window::new(self.id.partition.clone(), start)).clone()
    }

    pub(crate) fn position(&self) -> i64 {
        self.next().offset
    }

    /// It holds nothing, and may read.
    pub(crate) fn is_idle(&self) -> bool {
        let has_finished = self.watermark().offset >= self.position();
        has_finished && self.in_flight() == 0 && self.waiting() == 0 && !self.reading.is_full()
    }

    /// How much there is left to read, in offsets, as far as is known: the log's end is asked for now and then.
    pub(crate) fn left(&self) -> Option<u64> {
        u64::try_from(self.end.load(Ordering::Relaxed) - self.position()).ok().filter(|left| *left > 0)
    }

    /// Where reading goes on, with the leader epoch of the last record that was read.
    pub(crate) fn next(&self) -> Position {
        match self.window.get() {
            Some(window) => window.next(),
            None => self.progress().tracker.next(),
        }
    }

    #[inline]
    pub(crate) fn set_in_flight(&self, records: u64) {
        self.in_flight.store(records, Ordering::Relaxed);
    }

    /// Records with the handler.
    pub(crate) fn in_flight(&self) -> u64 {
        self.window.get().map_or_else(|| self.in_flight.load(Ordering::Relaxed), |window| window.out())
    }

    pub(crate) fn set_waiting(&self, records: u64) {
        self.waiting.store(records, Ordering::Relaxed);
    }

    /// Records that wait for their next try.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// So many records are with the handler for longer than is allowed.
    pub(crate) fn looked_at_calls(&self, stalled: u64) {
        self.stalled.store(stalled, Ordering::Relaxed);
        self.looks.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the lane has looked at what its handler does; `None`: it has none.
    pub(crate) fn looks(&self) -> Option<u64> {
        self.window.get().is_none().then(|| self.looks.load(Ordering::Relaxed))
    }

    /// Its task is blocked by a record, until it looks again.
    pub(crate) fn is_blocked(&self) {
        self.stalled.store(1, Ordering::Relaxed);
    }

    /// Records that are with the handler for longer than is allowed.
    pub(crate) fn stalled(&self) -> u64 {
        self.stalled.load(Ordering::Relaxed)
    }

    pub(crate) fn finished(&self) -> u64 {
        match self.window.get() {
            Some(window) => window.finished(),
            None => self.progress().tracker.finished(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use laneway_core::{Epoch, TopicPartition};

    use super::super::Prefetch;
    use super::*;
    use crate::record::{Batch, OwnedRecord};

    /// Delivers one record, which may be the last of the log.
    struct Queue(bool);

    impl PartitionQueue for Queue {
        fn take(&mut self, _: usize) -> Taken {
            let batch = Batch::from_owned(vec![OwnedRecord::default()]);
            Taken { batch: Some(batch), is_last: self.0, ..Taken::default() }
        }
    }

    /// Delivers one record that is larger than a quarter of a MiB.
    struct Large;

    impl PartitionQueue for Large {
        fn take(&mut self, _: usize) -> Taken {
            let record = OwnedRecord { payload: Some(vec![0; 300 << 10]), ..OwnedRecord::default() };
            Taken { batch: Some(Batch::from_owned(vec![record])), ..Taken::default() }
        }
    }

    #[test]
    fn records_that_are_too_large_for_the_memory_are_told_once() {
        let id = LaneId { partition: TopicPartition::new("t", 0), epoch: Epoch(1) };
        let shared = LaneShared::new(id, Position::at(0));
        let memory = Memory::new(1 << 20, Prefetch { bytes: 1 << 20, records: 1_000, fetch: 256 << 10 });
        let told = Arc::new(AtomicU64::new(0));
        let counted = told.clone();
        let tell: Tell = Arc::new(move |message| {
            counted.fetch_add(u64::from(matches!(message, LaneMessage::Told(_))), Ordering::Relaxed);
        });
        for _ in 0..3 {
            shared.take(&mut Large, 1, &mut Appetite::default(), &memory, &tell);
        }
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_lane_that_has_the_last_record_makes_room_before_the_end_of_the_log_is_told() {
        let id = LaneId { partition: TopicPartition::new("t", 0), epoch: Epoch(1) };
        let shared = LaneShared::new(id, Position::at(0));
        let memory = Memory::new(1 << 30, Prefetch { bytes: 1 << 20, records: 1_000, fetch: 256 << 10 });
        let tell: Tell = Arc::new(|_| ());
        for is_last in [false, true, false] {
            let mut appetite = Appetite::default();
            shared.take(&mut Queue(is_last), 1, &mut appetite, &memory, &tell);
            assert_eq!(shared.reading.look(&memory, 1).is_at_end, is_last);
        }
    }
}
