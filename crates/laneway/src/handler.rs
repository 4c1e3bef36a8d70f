//! What is done with records: handlers, and how they end.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use laneway_core::LaneId;

use crate::Record;

/// How the handling of a record ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Handled: the record needs no more work.
    Done,
    /// It failed, and is to be tried again: after `after`, or by the policy's backoff.
    Retry {
        /// Why it failed; reported as an event.
        error: String,
        /// A wait asked for by the handler. A lower bound.
        after: Option<Duration>,
    },
    /// It will not be finished here: the record stays unfinished and comes again, and the lane takes
    /// nothing more until its partition is given back. For handlers whose sink has gone for good.
    Abandon,
}

/// What a handler may return: nothing, a `Result`, or an [`Outcome`].
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
            Err(error) => Outcome::Retry { error: error.to_string(), after: None },
        }
    }
}

/// What is done with each record of a lane. A closure `Fn(Record) -> impl Future` is one.
///
/// With `Ordering::Partition` one record of a lane is handled at a time, in the order of offsets; a
/// record that fails is tried again before the next one is begun.
///
/// Cancellation: at the drain deadline of a revoke or a stop, or when the partition is lost, the future
/// is dropped at its next await point. The record is then unfinished, and comes again.
pub trait Handler: Send + Sync + 'static {
    /// Handles one record.
    fn handle(&self, record: Record) -> impl Future<Output = Outcome> + Send;

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
