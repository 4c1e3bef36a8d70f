//! What a streamed lane has handed out and what of it is finished: acks come from anywhere, in any order, and
//! take no lock. One bit stands for each record; a fence in the same word says exactly which acks came before it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use laneway_core::map::Ahead;
use laneway_core::{Position, TopicPartition};
use tokio::sync::Notify;

use super::memory::Room;
use crate::record::Batch;

/// The records of one lane between its watermark and what was read.
#[derive(Debug)]
pub(crate) struct Window {
    partition: TopicPartition,
    chunks: Mutex<Chunks>,
    /// Nothing more is handed out.
    closed: AtomicBool,
    /// Handed out, and neither acked nor dropped.
    out: AtomicU64,
    finished: AtomicU64,
    /// Offset of the first record that was dropped without an ack while the lane went on; negative: none.
    dropped: AtomicI64,
    /// Something changed that the lane's task may wait for.
    pub(crate) changed: Notify,
    /// Acks no longer count.
    pub(crate) fenced: Fence,
}

/// Falls once.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    down: AtomicBool,
    fell: Notify,
}

#[derive(Debug)]
struct Chunks {
    open: VecDeque<Arc<Chunk>>,
    /// Behind what was read.
    position: i64,
    /// Leader epoch of the last record below the first chunk.
    leader_epoch: Option<i32>,
    /// The watermark when the fence fell, and what was finished above it.
    sealed: Option<(Position, Option<AheadAndEpoch>)>,
}

/// What is finished ahead, and the highest leader epoch of it.
type AheadAndEpoch = (Ahead, Option<i32>);

/// The records of one batch.
#[derive(Debug)]
pub(crate) struct Chunk {
    window: Arc<Window>,
    /// Offset and leader epoch of each record.
    records: Box<[(i64, Option<i32>)]>,
    /// A bit for each record that is finished, and one in each word for the fence.
    words: Box<[AtomicU64]>,
    /// What the records take of the budget, until they are finished and nobody has any of them.
    _room: Room,
}

impl Window {
    pub(crate) fn new(partition: TopicPartition, start: Position) -> Arc<Self> {
        Arc::new(Self {
            partition,
            chunks: Mutex::new(Chunks {
                open: VecDeque::new(),
                position: start.offset,
                leader_epoch: start.leader_epoch,
                sealed: None,
            }),
            closed: AtomicBool::new(false),
            out: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            dropped: AtomicI64::new(-1),
            changed: Notify::new(),
            fenced: Fence::default(),
        })
    }

    /// Takes in a batch that was read. What lies below the position was delivered before (a log that was
    /// truncated can bring it again), and counts as finished: it is not handed out.
    /// So does what `is_finished` says of: it was finished before the lane began.
    pub(crate) fn push(
        self: &Arc<Self>,
        batch: &Batch,
        room: Room,
        mut is_finished: impl FnMut(Position) -> bool,
    ) -> Arc<Chunk> {
        let records: Box<[_]> = (0..batch.len())
            .filter_map(|index| batch.record(index))
            .map(|record| (record.offset(), record.leader_epoch()))
            .collect();
        let words = (0..records.len().div_ceil(BITS)).map(|_| AtomicU64::new(0)).collect();
        let chunk = Arc::new(Chunk { window: self.clone(), records, words, _room: room });
        let mut chunks = self.chunks();
        for (index, (offset, leader_epoch)) in chunk.records.iter().enumerate() {
            let position = Position { offset: *offset, leader_epoch: *leader_epoch };
            if *offset < chunks.position || is_finished(position) {
                chunk.words[index / BITS].fetch_or(1 << (index % BITS), Ordering::Relaxed);
            }
            chunks.position = chunks.position.max(offset + 1);
        }
        chunks.open.push_back(chunk.clone());
        chunk
    }

    /// The log was read up to `end`, whether or not there were records up to there.
    pub(crate) fn read_up_to(&self, end: i64) {
        let mut chunks = self.chunks();
        chunks.position = chunks.position.max(end);
    }

    /// What may be committed.
    pub(crate) fn watermark(&self) -> Position {
        let mut chunks = self.chunks();
        if let Some((sealed, _)) = &chunks.sealed {
            return *sealed;
        }
        loop {
            let Some(first) = chunks.open.front() else { return chunks.end() };
            match first.first_unfinished() {
                Some(index) => return first.position_at(index, chunks.leader_epoch),
                None => {
                    chunks.leader_epoch = first.epoch_below(first.records.len()).or(chunks.leader_epoch);
                    chunks.open.pop_front();
                }
            }
        }
    }

    /// A number that grows as more is finished above the watermark; 0: nothing is.
    pub(crate) fn ahead_number(&self) -> u64 {
        let chunks = self.chunks();
        let is_ahead = match &chunks.sealed {
            Some((_, ahead)) => ahead.is_some(),
            None => !chunks.open.is_empty(),
        };
        if is_ahead { self.finished() } else { 0 }
    }

    /// What is finished above `base`, and the highest leader epoch of it.
    pub(crate) fn ahead(&self, base: i64) -> Option<AheadAndEpoch> {
        let chunks = self.chunks();
        match &chunks.sealed {
            Some((sealed, ahead)) => ahead.clone().filter(|_| sealed.offset == base),
            None => chunks.ahead(base, |chunk, word| chunks.open[chunk].words[word].load(Ordering::Acquire)),
        }
    }

    /// From here on nothing is handed out.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// From here on no ack counts. What was acked before stays so.
    pub(crate) fn fence(&self) {
        self.close();
        let mut chunks = self.chunks();
        if chunks.sealed.is_none() {
            let (mut sealed, mut is_whole, mut epoch) = (chunks.end(), true, chunks.leader_epoch);
            let mut bits = Vec::with_capacity(chunks.open.len());
            for chunk in &chunks.open {
                // Every word is fenced, and what counts is what was set before.
                let before: Vec<u64> =
                    chunk.words.iter().map(|word| word.fetch_or(FENCE, Ordering::AcqRel)).collect();
                if is_whole && let Some(index) = chunk.first_unset(|word| before[word]) {
                    sealed = chunk.position_at(index, epoch);
                    is_whole = false;
                }
                epoch = chunk.epoch_below(chunk.records.len()).or(epoch);
                bits.push(before);
            }
            let ahead = chunks.ahead(sealed.offset, |chunk, word| bits[chunk][word]);
            chunks.sealed = Some((sealed, ahead));
            chunks.open.clear();
        }
        drop(chunks);
        self.fenced.fall();
    }

    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    pub(crate) fn out(&self) -> u64 {
        self.out.load(Ordering::SeqCst)
    }

    pub(crate) fn finished(&self) -> u64 {
        self.finished.load(Ordering::Relaxed)
    }

    /// Behind what was read, with the leader epoch of the last record of it.
    pub(crate) fn next(&self) -> Position {
        self.chunks().end()
    }

    /// The first record that was dropped without an ack since this was last asked.
    pub(crate) fn take_dropped(&self) -> Option<i64> {
        let offset = self.dropped.swap(-1, Ordering::AcqRel);
        (offset >= 0).then_some(offset)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// A record comes back, finished or not.
    fn came_back(&self) {
        if self.out.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_closed() {
            self.changed.notify_one();
        }
    }

    fn chunks(&self) -> MutexGuard<'_, Chunks> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chunks {
    /// The watermark where everything that was read is finished.
    fn end(&self) -> Position {
        let last = self.open.back().and_then(|last| last.epoch_below(last.records.len()));
        Position { offset: self.position, leader_epoch: last.or(self.leader_epoch) }
    }
}

impl Chunks {
    /// `bits`: those of a chunk's word.
    fn ahead(&self, base: i64, bits: impl Fn(usize, usize) -> u64) -> Option<AheadAndEpoch> {
        let mut ahead = Ahead::new(base);
        let mut leader_epoch = self.leader_epoch;
        for (at, chunk) in self.open.iter().enumerate() {
            for (index, (offset, epoch)) in
                chunk.records.iter().enumerate().filter(|(_, (offset, _))| *offset > base)
            {
                let finished = bits(at, index / BITS) & (1 << (index % BITS)) != 0;
                ahead.push(*offset, finished);
                if finished {
                    leader_epoch = leader_epoch.max(*epoch);
                }
            }
        }
        (ahead.finished() > 0).then_some((ahead, leader_epoch))
    }
}

impl Chunk {
    /// Hands out the record at `index`. False: it was delivered before, or nothing is handed out any more.
    pub(crate) fn hand_out(&self, index: usize) -> bool {
        if self.words[index / BITS].load(Ordering::Acquire) & (1 << (index % BITS)) != 0 {
            return false;
        }
        // Counted before the door is looked at, as it is closed before the count is: one of both sides sees
        // the other.
        self.window.out.fetch_add(1, Ordering::SeqCst);
        if self.window.is_closed() {
            self.window.came_back();
            return false;
        }
        true
    }

    /// Finishes a record that was handed out. False: acks no longer count.
    pub(crate) fn ack(&self, index: usize) -> bool {
        let bit = 1 << (index % BITS);
        let word = &self.words[index / BITS];
        let before = word.fetch_or(bit, Ordering::AcqRel);
        let counts = before & FENCE == 0;
        if counts {
            self.window.finished.fetch_add(1, Ordering::Relaxed);
        }
        self.window.came_back();
        counts
    }

    /// A record that was handed out is dropped, and stays unfinished.
    pub(crate) fn let_go(&self, index: usize) {
        if !self.window.is_closed() {
            let offset = self.records[index].0;
            // The first one is told; it is the one that holds the watermark.
            self.window.dropped.compare_exchange(-1, offset, Ordering::AcqRel, Ordering::Relaxed).ok();
            self.window.changed.notify_one();
        }
        self.window.came_back();
    }

    pub(crate) fn offset(&self, index: usize) -> i64 {
        self.records[index].0
    }

    pub(crate) fn window(&self) -> &Arc<Window> {
        &self.window
    }

    fn first_unfinished(&self) -> Option<usize> {
        self.first_unset(|word| self.words[word].load(Ordering::Acquire))
    }

    fn first_unset(&self, bits: impl Fn(usize) -> u64) -> Option<usize> {
        let first = (0..self.words.len()).find_map(|word| {
            let open = (bits(word) | FENCE).trailing_ones() as usize;
            (open < BITS).then_some(word * BITS + open)
        });
        first.filter(|index| *index < self.records.len())
    }

    /// The watermark where the record at `index` is the first unfinished one.
    fn position_at(&self, index: usize, leader_epoch: Option<i32>) -> Position {
        let offset = self.records[index].0;
        Position { offset, leader_epoch: self.epoch_below(index).or(leader_epoch) }
    }

    /// The leader epoch of the last record before `index`.
    fn epoch_below(&self, index: usize) -> Option<i32> {
        index.checked_sub(1).and_then(|last| self.records.get(last)).and_then(|(_, epoch)| *epoch)
    }
}

impl Fence {
    fn fall(&self) {
        self.down.store(true, Ordering::Release);
        self.fell.notify_waiters();
    }

    pub(crate) fn has_fallen(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    pub(crate) async fn wait(&self) {
        let fell = self.fell.notified();
        if !self.has_fallen() {
            fell.await;
        }
    }
}

/// Records to a word; the bit that is left is the fence's.
const BITS: usize = 63;
const FENCE: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use laneway_core::Tracker;

    use super::*;
    use crate::record::OwnedRecord;

    fn room() -> Room {
        Room::new(
            &Arc::new(super::super::Memory::new(
                1 << 20,
                super::super::Prefetch { bytes: 1, records: 1, fetch: 1 },
            )),
            0,
        )
    }

    fn batch(offsets: impl IntoIterator<Item = i64>) -> Batch {
        let record = |offset| OwnedRecord { offset, leader_epoch: Some(3), ..OwnedRecord::default() };
        Batch::from_owned(offsets.into_iter().map(record).collect())
    }

    fn window_at(offset: i64) -> Arc<Window> {
        Window::new(TopicPartition::new("orders", 3), Position::at(offset))
    }

    #[test]
    fn the_watermark_waits_for_the_first_record_without_an_ack() {
        let window = window_at(10);
        let chunk = window.push(&batch(10..210), room(), |_| false);
        for index in 0..200 {
            assert!(chunk.hand_out(index));
        }
        for index in (1..200).rev() {
            assert!(chunk.ack(index));
        }
        assert_eq!(window.watermark(), Position::at(10));
        assert_eq!((window.out(), window.finished()), (1, 199));
        assert!(chunk.ack(0));
        window.read_up_to(215);
        assert_eq!(window.watermark(), Position { offset: 215, leader_epoch: Some(3) });
    }

    #[test]
    fn what_was_delivered_before_is_not_handed_out_again_and_holds_nothing_up() {
        let window = window_at(5);
        let chunk = window.push(&batch(3..7), room(), |_| false);
        assert!(!chunk.hand_out(0) && !chunk.hand_out(1));
        assert!(chunk.hand_out(2));
        assert_eq!(window.watermark().offset, 5);
    }

    #[test]
    fn a_fence_separates_the_acks_that_count_from_those_that_do_not() {
        let window = window_at(0);
        let chunk = window.push(&batch(0..5), room(), |_| false);
        for index in 0..3 {
            assert!(chunk.hand_out(index));
        }
        assert!(chunk.hand_out(4));
        assert!(chunk.ack(0) && chunk.ack(4));
        window.close();
        assert!(!chunk.hand_out(3));
        assert!(chunk.ack(1));
        window.fence();
        assert!(!chunk.ack(2));
        let (ahead, epoch) = window.ahead(2).expect("one is ahead");
        assert_eq!((ahead.finished(), epoch), (1, Some(3)));
        assert_eq!(window.watermark().offset, 2);
        assert_eq!((window.out(), window.finished()), (0, 3));
    }

    #[test]
    fn a_record_that_is_dropped_stays_unfinished_and_is_told_once() {
        let window = window_at(0);
        let chunk = window.push(&batch(0..3), room(), |_| false);
        for index in 0..3 {
            assert!(chunk.hand_out(index));
        }
        chunk.let_go(1);
        chunk.let_go(2);
        chunk.ack(0);
        assert_eq!((window.take_dropped(), window.take_dropped()), (Some(1), None));
        assert_eq!((window.out(), window.watermark().offset), (0, 1));
    }

    /// I1 and I2: acks from several threads race a fence. Exactly those that were told that they count do.
    #[test]
    fn acks_that_race_the_fence_count_exactly_where_they_were_told_so() {
        for round in 0..3_000 {
            let window = window_at(0);
            let chunk = window.push(&batch(0..252), room(), |_| false);
            for index in 0..252 {
                assert!(chunk.hand_out(index));
            }
            let start = std::sync::Barrier::new(3);
            let counted = std::thread::scope(|scope| {
                let ackers: Vec<_> = (0..2)
                    .map(|of| {
                        let (chunk, start) = (chunk.clone(), &start);
                        scope.spawn(move || {
                            start.wait();
                            (0..252).filter(|index| index % 2 == of && chunk.ack(*index)).collect::<Vec<_>>()
                        })
                    })
                    .collect();
                start.wait();
                for _ in 0..round % 500 {
                    std::hint::spin_loop();
                }
                window.fence();
                ackers.into_iter().flat_map(|acker| acker.join().unwrap()).collect::<Vec<_>>()
            });
            let mut tracker = Tracker::new(Position::at(0));
            let tickets: Vec<_> = (0..252).map(|offset| tracker.deliver(offset, Some(3)).unwrap()).collect();
            for index in &counted {
                tracker.finish(tickets[*index]);
            }
            assert_eq!(window.watermark().offset, tracker.watermark().offset);
            assert_eq!(window.finished(), counted.len() as u64);
        }
    }
}
