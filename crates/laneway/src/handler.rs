//! What is done with records: handlers, and how they end.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use laneway_core::{BatchLimits, LaneId, cut_error};

use crate::Record;

/// How the handling of a record ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Handled: the record needs no more work.
    Done,
    /// It failed, and is to be tried again: after `after`, or else by the policy's backoff.
    Retry {
        /// Why it failed; reported as an event.
        error: String,
        /// How long to wait at least, in place of the policy's backoff; 10 ms where that is longer.
        after: Option<Duration>,
    },
    /// It can't be handled: it is given up, and becomes a dead letter. Where there is no topic for those, what
    /// [`Builder::on_give_up`](crate::Builder::on_give_up) says happens to it.
    DeadLetter {
        /// Why; goes with the letter.
        reason: String,
    },
    /// It needs no work: it counts as finished, and is told as an event.
    Skip {
        /// Why.
        reason: String,
    },
    /// The consumer is to stop for it: see [`GiveUp::Stop`](crate::GiveUp::Stop).
    Stop {
        /// Why.
        reason: String,
    },
    /// It will not be finished here: the record stays unfinished and comes again, and the lane takes
    /// nothing more until its partition is given back. For handlers whose sink has gone for good.
    Abandon,
}

impl Outcome {
    /// Cuts what it says to what is told of it: it goes into events and headers.
    fn cut(&mut self) {
        match self {
            Self::Retry { error: text, .. }
            | Self::DeadLetter { reason: text }
            | Self::Skip { reason: text }
            | Self::Stop { reason: text } => cut_error(text),
            Self::Done | Self::Abandon => {}
        }
    }
}

/// What a handler may return: nothing, a `Result`, or an [`Outcome`].
///
/// An error is told as its `{:#}` has it, which shows the causes of errors of anyhow and eyre. Those of others are shown by
/// [`Chain`](crate::Chain).
pub trait IntoOutcome {
    /// The outcome that this value stands for.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::Done
    }
}

impl<T: IntoOutcome, E: fmt::Display> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(value) => value.into_outcome(),
            // Kinds of errors that have causes show them in this form.
            Err(error) => Outcome::Retry { error: format!("{error:#}"), after: None },
        }
    }
}

/// How the handling of a batch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchOutcome {
    /// All of its records alike.
    All(Outcome),
    /// Each record on its own, in the order of the batch. Those of which nothing is said failed.
    Each(Vec<Outcome>),
}

impl BatchOutcome {
    pub(crate) fn cut(mut self) -> Self {
        match &mut self {
            Self::All(outcome) => outcome.cut(),
            Self::Each(outcomes) => outcomes.iter_mut().for_each(Outcome::cut),
        }
        self
    }

    pub(crate) fn one(self) -> Outcome {
        match self {
            Self::All(outcome) => outcome,
            Self::Each(outcomes) => outcomes.into_iter().next().unwrap_or_else(unsaid),
        }
    }

    pub(crate) fn each(self, count: usize) -> Vec<Outcome> {
        match self {
            Self::All(outcome) => vec![outcome; count],
            Self::Each(mut outcomes) => {
                outcomes.resize_with(count, unsaid);
                outcomes
            }
        }
    }
}

fn unsaid() -> Outcome {
    Outcome::Retry { error: "the handler said nothing of this record of its batch".into(), after: None }
}

/// What a handler of batches may return: nothing, a `Result`, an [`Outcome`] for all records, or one for each.
pub trait IntoBatchOutcome {
    /// The outcome that this value stands for.
    fn into_batch_outcome(self) -> BatchOutcome;
}

impl IntoBatchOutcome for BatchOutcome {
    fn into_batch_outcome(self) -> BatchOutcome {
        self
    }
}

impl IntoBatchOutcome for Outcome {
    fn into_batch_outcome(self) -> BatchOutcome {
        BatchOutcome::All(self)
    }
}

impl IntoBatchOutcome for Vec<Outcome> {
    fn into_batch_outcome(self) -> BatchOutcome {
        BatchOutcome::Each(self)
    }
}

impl IntoBatchOutcome for () {
    fn into_batch_outcome(self) -> BatchOutcome {
        BatchOutcome::All(Outcome::Done)
    }
}

impl<T: IntoBatchOutcome, E: fmt::Display> IntoBatchOutcome for Result<T, E> {
    fn into_batch_outcome(self) -> BatchOutcome {
        match self {
            Ok(value) => value.into_batch_outcome(),
            Err(error) => Err::<(), E>(error).into_outcome().into_batch_outcome(),
        }
    }
}

/// How records are put together for a handler of batches. What is there is handed over once there are as many
/// records or bytes as wanted, or the first record has lingered long enough, or the budget of memory has no room for
/// more ([`Builder::memory`](crate::Builder::memory)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching(BatchLimits);

impl Batching {
    /// One record at a time.
    pub const ONE: Self =
        Self(BatchLimits { records: 1, bytes: usize::MAX, linger: Duration::ZERO, one_key: false });

    /// Batches of up to `records` records (0 counts as 1), of any size in bytes, without lingering: whatever is
    /// there when the handler has room.
    pub fn of(records: usize) -> Self {
        Self(BatchLimits { records: records.max(1), ..Self::ONE.0 })
    }

    /// At most so many bytes of keys and payloads in a batch. One record may have more, and is a batch then.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.0.bytes = bytes.max(1);
        self
    }

    /// How long the first record of a batch waits for others.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.0.linger = linger;
        self
    }

    /// All records of a batch have the same key (with [`Ordering::Key`](crate::Ordering::Key)); else a batch has
    /// any that may be handled, those of one key in their order.
    pub fn one_key(mut self) -> Self {
        self.0.one_key = true;
        self
    }

    pub(crate) fn limits(self) -> BatchLimits {
        self.0
    }
}

/// What is done with each record of a lane. A closure `Fn(Record) -> impl Future` is one.
///
/// With [`Ordering::Partition`](crate::Ordering::Partition) one record of a lane is handled at a time, in the order
/// of offsets; a record that fails is tried again before the next one is begun. With the other orderings it is called
/// for several records of a lane side by side.
///
/// Cancellation: at the drain deadline of a revoke or a stop, or when the partition is lost, the future
/// is dropped at its next await point. The record is then unfinished, and comes again.
pub trait Handler: Send + Sync + 'static {
    /// Handles one record.
    fn handle(&self, record: Record) -> impl Future<Output = Outcome> + Send;

    /// How many records it takes at once. Asked once for each lane, before its first record.
    fn batching(&self) -> Batching {
        Batching::ONE
    }

    /// Handles a batch, where [`Handler::batching`] asks for more than one record at a time.
    fn handle_batch(&self, records: Vec<Record>) -> impl Future<Output = BatchOutcome> + Send {
        async move {
            let mut outcomes = Vec::with_capacity(records.len());
            for record in records {
                outcomes.push(self.handle(record).await);
            }
            BatchOutcome::Each(outcomes)
        }
    }

    /// A call has taken longer than [`Builder::timeout`](crate::Builder::timeout), and its future was just dropped: awaited
    /// before the record is tried again, and anything behind it in its order is begun. By default at once. To be given by
    /// handlers that work on where their future can't reach, such as on another thread: until that has ended.
    fn given_up(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Called once when the lane ends, after its last record was let go and before the partition is
    /// given back. By `closing.deadline` it must be over; `closing.lost` says that what was in flight
    /// was cancelled.
    fn close(&self, closing: Closing) -> impl Future<Output = ()> + Send {
        let _ = closing;
        std::future::ready(())
    }
}

/// How a lane ends.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Closing {
    /// When draining ends: after it the handler has 5 s more to end what it runs, by force.
    pub deadline: Instant,
    /// The partition was lost: there is nothing to wait for.
    pub lost: bool,
}

impl<F, Fut, O> Handler for F
where
    F: Fn(Record) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = O> + Send,
    O: IntoOutcome,
{
    async fn handle(&self, record: Record) -> Outcome {
        self(record).await.into_outcome()
    }
}

/// A handler of batches, from a closure `Fn(Vec<Record>) -> impl Future`. See [`Consumer::run_batches`].
///
/// [`Consumer::run_batches`]: crate::Consumer::run_batches
#[derive(Debug, Clone)]
pub struct Batches<F> {
    batching: Batching,
    handle: F,
}

impl<F> Batches<F> {
    /// Has `handle` called with batches that are put together as `batching` says.
    pub fn new(batching: Batching, handle: F) -> Self {
        Self { batching, handle }
    }
}

impl<F, Fut, O> Handler for Batches<F>
where
    F: Fn(Vec<Record>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = O> + Send,
    O: IntoBatchOutcome,
{
    async fn handle(&self, record: Record) -> Outcome {
        (self.handle)(vec![record]).await.into_batch_outcome().one()
    }

    fn batching(&self) -> Batching {
        self.batching
    }

    async fn handle_batch(&self, records: Vec<Record>) -> BatchOutcome {
        (self.handle)(records).await.into_batch_outcome()
    }
}

/// Makes the handler of each lane, for handlers that hold something per lane (a worker process, a file).
/// For [`Consumer::run_lanes`]; [`Consumer::run`] shares one handler between all lanes.
///
/// ```
/// use laneway::{Handler, LaneId, MakeHandler, Outcome, Record};
///
/// /// Counts the records of its lane.
/// struct Counts {
///     lane: LaneId,
///     seen: std::sync::atomic::AtomicU64,
/// }
///
/// impl Handler for Counts {
///     async fn handle(&self, _: Record) -> Outcome {
///         self.seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
///         Outcome::Done
///     }
///
///     async fn close(&self, _: laneway::Closing) {
///         println!("{}: {:?} records", self.lane, self.seen);
///     }
/// }
///
/// struct CountsOfLanes;
///
/// impl MakeHandler for CountsOfLanes {
///     type Handler = Counts;
///
///     fn make(&self, lane: &LaneId) -> Counts {
///         Counts { lane: lane.clone(), seen: Default::default() }
///     }
/// }
/// ```
///
/// [`Consumer::run`]: crate::Consumer::run
/// [`Consumer::run_lanes`]: crate::Consumer::run_lanes
pub trait MakeHandler: Send + Sync + 'static {
    /// What handles the records of one lane.
    type Handler: Handler;

    /// Makes the handler for `lane`. Called on the lane's task, before its first record.
    fn make(&self, lane: &LaneId) -> Self::Handler;
}
