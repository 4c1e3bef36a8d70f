//! The task behind a streamed lane: it takes batches from the queue as long as the stream has room, and when
//! the lane is to end it waits for the acks that are out, then fences the rest.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::memory::{NATIVE, Room};
use super::message::EndGuard;
use super::window::{Chunk, Window};
use super::{Appetite, Finished, Lane, LaneMessage, LaneShared, Memory, Order, Tell, hooked};
use crate::fetcher::PartitionQueue;
use crate::record::Batch;

/// A batch on its way to the stream.
pub(crate) type Handed = (Batch, Arc<Chunk>);

struct Streamed {
    shared: Arc<LaneShared>,
    window: Arc<Window>,
    memory: Arc<Memory>,
    tell: Tell,
}

impl Lane {
    /// Runs the lane to its end, with its records going to a stream. Gives the task, and what the stream reads.
    pub(crate) fn stream(self) -> (impl Future<Output = ()> + Send, mpsc::Receiver<Handed>, Arc<Window>) {
        // Made here and not in the future: a future that is never polled must say that it ended, too.
        let guard = EndGuard::new(&self.shared, &self.tell);
        let Self { shared, mut queue, start, tell, finished, work, .. } = self;
        let window = shared.stream_from(start);
        // One batch waits while the one before it is read.
        let (to_stream, from_lane) = mpsc::channel(1);
        let lane = Streamed { shared, window: window.clone(), memory: work.memory.clone(), tell };
        let task = async move {
            // The last to go: it says that nothing of the lane counts any more.
            let _ended = guard;
            let _fence = FenceGuard(lane.window.clone());
            if !hooked::before_open(&lane.shared, &work, &mut queue, &lane.tell).await {
                // Before the guard says that the lane has ended.
                return drop(queue);
            }
            lane.read(queue, to_stream, finished).await;
            lane.wait_for_acks().await;
            // What is out comes too late.
            lane.window.fence();
            hooked::before_close(&lane.shared, &work, &lane.tell).await;
        };
        (task, from_lane, window)
    }
}

/// Fences the lane however its task ends, also when its runtime is shut down under it.
struct FenceGuard(Arc<Window>);

impl Drop for FenceGuard {
    fn drop(&mut self) {
        self.0.fence();
    }
}

impl Streamed {
    /// Reads until the lane is told to end.
    async fn read(
        &self,
        mut queue: Option<Box<dyn PartitionQueue>>,
        to_stream: mpsc::Sender<Handed>,
        mut finished: Option<Finished>,
    ) {
        let mut appetite = Appetite::default();
        while self.shared.order() == Order::Run {
            self.tell_of_dropped_records();
            self.shared.follow(&mut queue, &self.tell, || ());
            if to_stream.is_closed() {
                (self.tell)(LaneMessage::LetGo(self.shared.id.clone()));
                break;
            }
            let most = appetite.records(&self.memory, self.window.out() == 0);
            let is_paused = self.shared.is_paused();
            self.shared.reading.set_full(is_paused || most == 0 || to_stream.capacity() == 0, &self.memory);
            if is_paused || most == 0 || queue.is_none() {
                tokio::select! {
                    () = self.memory.freed.notified(), if most == 0 => {}
                    () = to_stream.closed() => {}
                    _ = to_stream.reserve(), if to_stream.capacity() == 0 => {}
                    () = self.shared.wake.notified() => {}
                    () = self.window.changed.notified() => {}
                    () = tokio::time::sleep(super::FALLBACK_TICK) => {}
                }
                continue;
            }
            let room = tokio::select! {
                biased;
                () = self.shared.wake.notified() => continue,
                () = self.window.changed.notified() => continue,
                room = to_stream.reserve() => room,
            };
            let Ok(room) = room else {
                (self.tell)(LaneMessage::LetGo(self.shared.id.clone()));
                break;
            };
            let Some(open) = &mut queue else { continue };
            let (taken, bytes) =
                self.shared.take(open.as_mut(), most, &mut appetite, &self.memory, &self.tell);
            let nothing = taken.batch.is_none() && taken.end.is_none();
            if let Some(batch) = taken.batch {
                let room_of_all = Room::new(&self.memory, bytes + batch.len() as u64 * NATIVE);
                let chunk = self.window.push(&batch, room_of_all, |at| Finished::take(&mut finished, at));
                room.send((batch, chunk));
            }
            if let Some(end) = taken.end {
                self.window.read_up_to(end);
            }
            if let Some(error) = taken.error {
                (self.tell)(LaneMessage::QueueFailed(self.shared.id.clone(), error));
                break;
            }
            if nothing {
                tokio::select! {
                    () = self.shared.wake.notified() => {}
                    () = self.window.changed.notified() => {}
                    () = to_stream.closed() => {}
                    // Covers a wake-up that was lost (rust-rdkafka#840).
                    () = tokio::time::sleep(super::FALLBACK_TICK) => {}
                }
            }
        }
        // The queue goes before the lane says that it has ended: there is one handle of a partition.
        drop(queue.take());
        self.shared.ordered(&mut queue, &self.tell).await;
        drop(queue);
        self.window.close();
    }

    async fn wait_for_acks(&self) {
        while self.window.out() > 0 && self.shared.order() != Order::Cancel {
            tokio::select! {
                () = self.window.changed.notified() => {}
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep(CLOSING_TICK) => {}
            }
        }
    }

    fn tell_of_dropped_records(&self) {
        if let Some(offset) = self.window.take_dropped() {
            let what = &self.shared.id.partition;
            let message = format!(
                "{what} at offset {offset}: the record was dropped without an ack; nothing from there on is \
                 committed, and it comes again when the partition is read anew"
            );
            (self.tell)(LaneMessage::Told(message));
        }
    }
}

/// How long the end of a lane sleeps at most before it looks again.
const CLOSING_TICK: Duration = Duration::from_millis(100);
