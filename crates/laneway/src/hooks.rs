//! Hooks: code of the user's around the coming and going of lanes. What is awaited runs in the lane's own task, and
//! what comes after in a task for all of them: never on the client thread.

use std::pin::Pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use laneway_core::LaneId;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

use crate::event::{Event, LaneStart};
use crate::handler::Closing;
use crate::lane::{LaneMessage, Tell, watched};

/// Why a hook failed. Any error is one, and so is a text: `?` and `.into()` make it.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// What is done around the coming and going of lanes: see [`Builder::hooks`](crate::Builder::hooks). Each one is
/// optional, async, and runs on the runtime of the lanes; none can hold up the client thread, so heartbeats go on.
///
/// `before_open` and `before_close` are of one lane, in its own task:
///
/// - Each opening of a lane is preceded by one call of `before_open` that succeeds, and each of those is followed by
///   exactly one call of `before_close`. Between two of them of one partition in one process nothing overlaps.
/// - All of that holds between members as well: where a partition moves with grace, the `before_close` of the member
///   that gives it back has returned, or was dropped at its deadline, before the `before_open` of the next one is called.
///   (After a loss or a crash nobody can promise that.)
/// - A lane that is opened again within its assignment, after a seek or because its queue failed, closes and opens with
///   the same [`LaneId`].
///
/// `after_assign`, `after_revoke` and `after_loss` are of all lanes that one event was about. They are called one at a
/// time, in the order of the events, and nothing waits for them but the end of the consumer, and that no longer than the
/// deadline of its stop. What they are told is also an [`Event`].
///
/// A hook that panics or fails is told by an [`Event::Error`] that names it and its lanes, and so is one that is dropped
/// at its deadline; one that takes longer than [`Builder::stall_after`](crate::Builder::stall_after) is told each time
/// that it has taken twice as long. A hook that blocks its thread holds up its lane, and can't be dropped: see
/// [`StuckHandlers`](crate::StuckHandlers).
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex};
///
/// use laneway::{Closing, Consumer, HookError, LaneHooks, LaneId, TopicPartition};
///
/// /// What is known of each partition that is here: loaded before its first record, stored before it is given back.
/// #[derive(Default)]
/// struct Totals(Mutex<HashMap<TopicPartition, u64>>);
///
/// # async fn load(_: &TopicPartition) -> std::io::Result<u64> { Ok(0) }
/// # async fn store(_: &TopicPartition, _: u64) -> std::io::Result<()> { Ok(()) }
/// struct Keep(Arc<Totals>);
///
/// impl LaneHooks for Keep {
///     async fn before_open(&self, lane: &LaneId) -> Result<(), HookError> {
///         let total = load(&lane.partition).await?; // an error: it is called again, and no record flows before
///         self.0.0.lock().unwrap().insert(lane.partition.clone(), total);
///         Ok(())
///     }
///
///     async fn before_close(&self, lane: &LaneId, closing: Closing) -> Result<(), HookError> {
///         let total = self.0.0.lock().unwrap().remove(&lane.partition);
///         match total {
///             // Somebody else has loaded it by now.
///             Some(total) if !closing.lost => Ok(store(&lane.partition, total).await?),
///             _ => Ok(()),
///         }
///     }
/// }
///
/// let totals: Arc<Totals> = Arc::default();
/// let builder = Consumer::builder().hooks(Keep(totals.clone())); // the handler has the other end
/// ```
pub trait LaneHooks: Send + Sync + 'static {
    /// Called before a lane takes its first record, and before its handler is made. No record of it flows before this
    /// has returned `Ok`: one that fails or panics is called again, with the waits of
    /// [`Builder::backoff`](crate::Builder::backoff). Other lanes are not held up by it. (A lane that is a stream is
    /// offered at once, and its first record comes behind this.)
    ///
    /// Where lanes are to begin at offsets of your own (a database's), [`Handle::seek`](crate::Handle::seek) may be awaited
    /// here: this call is dropped, the lane begins there, and the seek of the next call has nothing to do any more.
    ///
    /// Cancellation: dropped at its next await point when the lane is to end before it has begun. There is no
    /// `before_close` for it then.
    fn before_open(&self, lane: &LaneId) -> impl Future<Output = Result<(), HookError>> + Send {
        let _ = lane;
        std::future::ready(Ok(()))
    }

    /// Called when nothing of the lane runs any more: its last record is finished, or was cancelled, and its handler is
    /// closed. The partition is given back, and what the lane finished is committed for the last time, when this has
    /// returned. What it returns changes nothing about that commit, and those of each interval go on until then.
    ///
    /// It is within the drain deadline (`closing.deadline`), with the handlers before it. Where they have used that up,
    /// and where the partition is lost (`closing.lost`: it may be another member's already), it has 1 s.
    ///
    /// Cancellation: dropped at its next await point when that time is over, and the lane ends without it.
    fn before_close(
        &self,
        lane: &LaneId,
        closing: Closing,
    ) -> impl Future<Output = Result<(), HookError>> + Send {
        let _ = (lane, closing);
        std::future::ready(Ok(()))
    }

    /// Called after an assignment was answered, when its lanes are told to open, each where it says: as
    /// [`Event::Assigned`]. It does not wait for `before_open`.
    fn after_assign(&self, lanes: &[LaneStart]) -> impl Future<Output = Result<(), HookError>> + Send {
        let _ = lanes;
        std::future::ready(Ok(()))
    }

    /// Called after partitions were given back, in a rebalance or at a stop: as [`Event::Revoked`]. They may be read by
    /// others already.
    fn after_revoke(
        &self,
        lanes: &[LaneId],
        drained: bool,
    ) -> impl Future<Output = Result<(), HookError>> + Send {
        let _ = (lanes, drained);
        std::future::ready(Ok(()))
    }

    /// Called after partitions were lost without being asked back, and their lanes have ended: as [`Event::Lost`].
    fn after_loss(
        &self,
        lanes: &[LaneId],
        reason: &str,
    ) -> impl Future<Output = Result<(), HookError>> + Send {
        let _ = (lanes, reason);
        std::future::ready(Ok(()))
    }
}

type Called<'a> = Pin<Box<dyn Future<Output = Result<(), HookError>> + Send + 'a>>;

/// [`LaneHooks`] of any type.
pub(crate) trait Hooks: Send + Sync {
    fn open<'a>(&'a self, lane: &'a LaneId) -> Called<'a>;
    fn close<'a>(&'a self, lane: &'a LaneId, closing: Closing) -> Called<'a>;
    fn after<'a>(&'a self, notice: &'a Notice) -> Called<'a>;
}

impl<H: LaneHooks> Hooks for H {
    fn open<'a>(&'a self, lane: &'a LaneId) -> Called<'a> {
        Box::pin(self.before_open(lane))
    }

    fn close<'a>(&'a self, lane: &'a LaneId, closing: Closing) -> Called<'a> {
        Box::pin(self.before_close(lane, closing))
    }

    fn after<'a>(&'a self, notice: &'a Notice) -> Called<'a> {
        match notice {
            Notice::Assigned(lanes) => Box::pin(self.after_assign(lanes)),
            Notice::Revoked(lanes, drained) => Box::pin(self.after_revoke(lanes, *drained)),
            Notice::Lost(lanes, reason) => Box::pin(self.after_loss(lanes, reason)),
        }
    }
}

/// What a hook is called after.
pub(crate) enum Notice {
    Assigned(Vec<LaneStart>),
    Revoked(Vec<LaneId>, bool),
    Lost(Vec<LaneId>, String),
}

impl Notice {
    fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Assigned { lanes } => Some(Self::Assigned(lanes.clone())),
            Event::Revoked { lanes, drained, .. } => Some(Self::Revoked(lanes.clone(), *drained)),
            Event::Lost { lanes, reason } => Some(Self::Lost(lanes.clone(), reason.clone())),
            _ => None,
        }
    }

    /// The hook, and its lanes.
    fn name(&self) -> String {
        match self {
            Self::Assigned(lanes) => {
                let lanes: Vec<&LaneId> = lanes.iter().map(|start| &start.lane).collect();
                format!("the hook after_assign of {lanes:?}")
            }
            Self::Revoked(lanes, _) => format!("the hook after_revoke of {lanes:?}"),
            Self::Lost(lanes, _) => format!("the hook after_loss of {lanes:?}"),
        }
    }
}

/// Calls the hooks that come after, one at a time, in a task.
pub(crate) struct After {
    /// What happened in what the member does now; told when it has done it.
    noted: Vec<Notice>,
    to_task: UnboundedSender<Notice>,
    /// Nothing is ever sent: it is closed when the task has ended.
    ended: Receiver<()>,
    /// What is being called.
    called: Arc<Mutex<Option<String>>>,
    abort: AbortHandle,
}

impl After {
    pub(crate) fn start(
        hooks: Arc<dyn Hooks>,
        runtime: &tokio::runtime::Handle,
        stall_after: Duration,
        tell: Tell,
    ) -> Self {
        let (to_task, mut from_thread) = unbounded_channel::<Notice>();
        let (alive, ended) = channel();
        let called: Arc<Mutex<Option<String>>> = Arc::default();
        let shown = called.clone();
        let task = runtime.spawn(async move {
            let _alive = alive;
            while let Some(notice) = from_thread.recv().await {
                let name = notice.name();
                *shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(name.clone());
                let call = async { hooks.after(&notice).await };
                if let Err(error) = watched(&name, stall_after, &tell, call).await {
                    tell(LaneMessage::Told(format!("{name} {error}")));
                }
                *shown.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        });
        Self { noted: Vec::new(), to_task, ended, called, abort: task.abort_handle() }
    }

    /// Notes what happened, if there is a hook for it.
    pub(crate) fn note(&mut self, event: &Event) {
        self.noted.extend(Notice::of(event));
    }

    /// Has the hooks called of what was noted.
    pub(crate) fn send(&mut self) {
        for notice in self.noted.drain(..) {
            // Where the runtime was shut down there is nobody to call them.
            self.to_task.send(notice).ok();
        }
    }

    /// Waits for what is still to be called, but not past `by`. Answers what was given up.
    pub(crate) fn finish(mut self, by: Instant) -> Option<String> {
        self.send();
        let Self { to_task, ended, called, abort, .. } = self;
        drop(to_task);
        let patience = by.saturating_duration_since(Instant::now());
        if ended.recv_timeout(patience) != Err(RecvTimeoutError::Timeout) {
            return None;
        }
        abort.abort();
        let called = called.lock().unwrap_or_else(PoisonError::into_inner).take();
        let what = called.unwrap_or_else(|| "a hook".to_owned());
        Some(format!("{what} did not end by the end of the stop, and was dropped; none is called any more"))
    }
}
