//! The lane's task: takes records in batches, has them handled one at a time in the order of their
//! offsets, and ends when it is told to. Nothing on a record's way takes a lock.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use laneway_core::{LaneId, Position, Ticket, Tracker};

use super::{BATCH, FALLBACK_TICK, LaneShared, Order, Quota};
use crate::fetcher::{FetchError, PartitionQueue};
use crate::handler::{Closing, Handler, Outcome};
use crate::record::{Batch, Record};

/// What a lane tells the client thread.
#[derive(Debug)]
pub(crate) enum LaneMessage {
    /// The lane's queue failed: it reads nothing more until it is opened again.
    QueueFailed(LaneId, FetchError),
    /// A record was not handled, and will be tried again.
    HandlerFailed(String),
    /// The lane has ended: nothing of it is running, its queue is gone.
    Ended { lane: LaneId, watermark: Position, unfinished: u64 },
    /// The stream of the lane was dropped while the lane is to go on.
    LetGo(LaneId),
    /// As many records as wanted were finished.
    CountReached,
}

/// Waits between two tries of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

/// What a lane is made of.
pub(crate) struct Lane {
    pub(crate) shared: Arc<LaneShared>,
    pub(crate) queue: Box<dyn PartitionQueue>,
    pub(crate) start: Position,
    pub(crate) backoff: Backoff,
    pub(crate) quota: Option<Arc<Quota>>,
    pub(crate) tell: Tell,
}

/// Reaches the client thread.
pub(crate) type Tell = Arc<dyn Fn(LaneMessage) + Send + Sync>;

/// Says that the lane has ended, however it does: also when its runtime is shut down under it.
pub(super) struct EndGuard {
    shared: Arc<LaneShared>,
    tell: Tell,
}

impl EndGuard {
    pub(super) fn new(shared: &Arc<LaneShared>, tell: &Tell) -> Self {
        Self { shared: shared.clone(), tell: tell.clone() }
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        (self.tell)(LaneMessage::Ended {
            lane: self.shared.id.clone(),
            watermark: self.shared.watermark(),
            unfinished: self.shared.in_flight(),
        });
    }
}

/// How the work on a record ended.
enum Handled {
    Finished,
    /// It was not begun, was waiting for its next try, or was given up on purpose: it is not in flight, and
    /// comes again. What lies behind it was not read either: the log's end there says nothing.
    Waiting,
    /// It was with the handler, and was cancelled.
    Cancelled,
}

impl Lane {
    /// Runs the lane to its end. `make` makes its handler, on the lane's task.
    pub(crate) fn run<H: Handler>(
        self,
        make: impl FnOnce(&LaneId) -> H + Send,
    ) -> impl Future<Output = ()> + Send {
        // Made here and not in the future: a future that is never polled must say that it ended, too.
        let guard = EndGuard::new(&self.shared, &self.tell);
        async move {
            let _ended = guard;
            let Self { shared, queue, start, backoff, quota, tell } = self;
            let id = shared.id.clone();
            let mut running = Running { shared, tracker: Tracker::new(start), backoff, quota, tell };
            match catch_unwind(AssertUnwindSafe(|| make(&id))) {
                Ok(handler) => {
                    running.read(queue, &handler).await;
                    contained(handler.close(running.closing())).await.ok();
                }
                Err(panic) => {
                    let error = format!("the handler of {id} could not be made: {}", panic_text(&*panic));
                    (running.tell)(LaneMessage::HandlerFailed(error));
                    running.ordered().await;
                }
            }
        }
    }
}

struct Running {
    shared: Arc<LaneShared>,
    tracker: Tracker,
    backoff: Backoff,
    quota: Option<Arc<Quota>>,
    tell: Tell,
}

impl Running {
    fn closing(&self) -> Closing {
        let deadline = self.shared.deadline();
        let lost = self.shared.order() == Order::Cancel && Instant::now() < deadline;
        Closing { deadline, lost }
    }

    /// Reads until the lane is told to end.
    async fn read<H: Handler>(&mut self, mut queue: Box<dyn PartitionQueue>, handler: &H) {
        while self.shared.order() == Order::Run {
            let taken = queue.take(BATCH);
            let nothing = taken.batch.is_none() && taken.end.is_none();
            if let Some(batch) = taken.batch {
                match self.work_through(&batch, handler).await {
                    Handled::Finished => {}
                    Handled::Waiting => break,
                    Handled::Cancelled => return,
                }
            }
            if let Some(end) = taken.end {
                self.tracker.read_up_to(end);
                self.publish();
            }
            if let Some(error) = taken.error {
                (self.tell)(LaneMessage::QueueFailed(self.shared.id.clone(), error));
                break;
            }
            if nothing {
                // The slow tick covers a wake-up that was lost (rust-rdkafka#840).
                tokio::time::timeout(FALLBACK_TICK, self.shared.wake.notified()).await.ok();
            } else {
                tokio::task::yield_now().await;
            }
        }
        // The queue goes before the lane says that it has ended: there is one handle of a partition.
        drop(queue);
        self.ordered().await;
    }

    async fn work_through<H: Handler>(&mut self, batch: &Arc<Batch>, handler: &H) -> Handled {
        for index in 0..batch.len() {
            if self.shared.order() != Order::Run {
                return Handled::Waiting;
            }
            let Some(record) = batch.record(index) else { break };
            if record.offset() < self.tracker.position() {
                continue;
            }
            if let Some(quota) = self.quota.clone()
                && !self.wait_for_place(&quota).await
            {
                return Handled::Waiting;
            }
            let Some(ticket) = self.tracker.deliver(record.offset(), record.leader_epoch()) else { continue };
            self.shared.begin(self.tracker.position());
            let handled = self.handle(record, handler).await;
            // One that was cancelled still counts as in flight: it is what the lane leaves unfinished.
            self.shared.set_busy(matches!(handled, Handled::Cancelled));
            if !matches!(handled, Handled::Finished) {
                if let Some(quota) = &self.quota {
                    quota.give_back();
                }
                return handled;
            }
            self.finish(ticket);
        }
        Handled::Finished
    }

    fn finish(&mut self, ticket: Ticket) {
        self.tracker.finish(ticket);
        self.publish();
        self.shared.count_finished();
        if self.quota.as_ref().is_some_and(|quota| quota.finish()) {
            (self.tell)(LaneMessage::CountReached);
        }
    }

    fn publish(&self) {
        self.shared.publish(self.tracker.watermark(), self.tracker.position());
    }

    /// Handles one record, again and again until it is finished or the lane ends.
    async fn handle<H: Handler>(&self, record: Record, handler: &H) -> Handled {
        let mut wait = self.backoff.first;
        loop {
            let outcome = {
                let mut handling = pin!(contained(handler.handle(record.clone())));
                loop {
                    tokio::select! {
                        biased;
                        outcome = &mut handling => break outcome,
                        () = self.shared.wake.notified() => {
                            if self.shared.order() == Order::Cancel {
                                return Handled::Cancelled;
                            }
                        }
                    }
                }
            };
            let (error, after) = match outcome {
                Ok(Outcome::Done) => return Handled::Finished,
                Ok(Outcome::Abandon) => return Handled::Waiting,
                Ok(Outcome::Retry { error, after }) => (error, after),
                Err(panic) => (format!("the handler panicked: {panic}"), None),
            };
            let pause = after.map_or(wait, |after| after.max(wait));
            wait = (wait * 2).min(self.backoff.longest);
            let (what, offset) = (&self.shared.id.partition, record.offset());
            let message = format!("{what} at offset {offset}: {error}; trying again in {pause:?}");
            (self.tell)(LaneMessage::HandlerFailed(message));
            // A record that waits for its next try is not in flight: it is let go when the lane ends.
            self.shared.set_busy(false);
            if tokio::time::timeout(pause, self.ordered()).await.is_ok() {
                return Handled::Waiting;
            }
            self.shared.set_busy(true);
        }
    }

    /// Returns when the lane has been told to end.
    async fn ordered(&self) {
        while self.shared.order() == Order::Run {
            tokio::time::timeout(FALLBACK_TICK, self.shared.wake.notified()).await.ok();
        }
    }

    async fn wait_for_place(&self, quota: &Quota) -> bool {
        while !quota.take() {
            tokio::select! {
                () = quota.given_back.notified() => {}
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep(FALLBACK_TICK) => {}
            }
            if self.shared.order() != Order::Run {
                return false;
            }
        }
        true
    }
}

/// Runs user code; a panic in it is an answer like any other.
async fn contained<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    poll_fn(move |context| {
        let future: Pin<&mut _> = future.as_mut();
        match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(panic) => Poll::Ready(Err(panic_text(&*panic))),
        }
    })
    .await
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
