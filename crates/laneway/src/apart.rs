//! Handlers that run apart from their lane's task: on the runtime's blocking pool, or as tasks of their own.

use std::fmt;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use laneway_core::LaneId;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinHandle};

use crate::handler::{
    BatchOutcome, Batching, Closing, Handler, IntoBatchOutcome, IntoOutcome, MakeHandler, Outcome,
};
use crate::record::Record;

/// A handler that blocks, from a closure `Fn(Record) -> impl IntoOutcome` or, for batches,
/// `Fn(Vec<Record>) -> impl IntoBatchOutcome`. See [`Consumer::run_blocking`].
///
/// Code that blocks can't be cancelled. A call that outlives the drain deadline keeps its lane from ending; what is
/// done then is the choice of [`Builder::stuck_handlers`]: it is left running, fenced and reported (the default), or
/// the process is ended, which alone keeps another member from working on the same partition beside it. One that outlives
/// [`Builder::timeout`] has failed, and nothing takes its place, and its key's, before it has returned.
///
/// [`Consumer::run_blocking`]: crate::Consumer::run_blocking
/// [`Builder::stuck_handlers`]: crate::Builder::stuck_handlers
/// [`Builder::timeout`]: crate::Builder::timeout
pub struct Blocking<F> {
    call: Arc<F>,
}

/// A handler of one lane that blocks.
pub struct BlockingLane<F> {
    call: Arc<F>,
    calls: Arc<Calls>,
}

/// A handler of batches that blocks. See [`Consumer::run_blocking_batches`](crate::Consumer::run_blocking_batches).
pub struct BlockingBatches<F> {
    call: Arc<F>,
    batching: Batching,
}

/// A handler of one lane's batches that blocks.
pub struct BlockingBatchesLane<F> {
    call: Arc<F>,
    batching: Batching,
    calls: Arc<Calls>,
}

/// A handler whose calls are tasks of their own, from a closure `Fn(Record) -> impl Future`. See
/// [`Consumer::run_spawned`](crate::Consumer::run_spawned).
///
/// Cancelled, or after [`Builder::timeout`](crate::Builder::timeout), a call's task is aborted, at its next await; neither
/// does its lane end nor its key go on before the task has ended.
pub struct Spawned<F> {
    call: Arc<F>,
}

/// A handler of one lane whose calls are tasks of their own.
pub struct SpawnedLane<F> {
    call: Arc<F>,
    calls: Arc<Calls>,
}

/// Calls that have not returned.
#[derive(Default)]
struct Calls {
    count: AtomicUsize,
    returned: Notify,
    /// The last ones that were given up, and go on.
    given_up: Mutex<Vec<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

struct Call(Arc<Calls>);

impl Drop for Call {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.returned.notify_one();
        }
    }
}

impl Calls {
    /// Makes a call on a thread that may block. `None`: the runtime is being shut down, and it was not made.
    async fn make<T: Send + 'static>(
        self: &Arc<Self>,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.count.fetch_add(1, Ordering::AcqRel);
        let running = Call(self.clone());
        let called = tokio::task::spawn_blocking(move || {
            let answer = call();
            drop(running);
            answer
        });
        Ongoing { task: Some(called), calls: self }.answer().await
    }

    /// Makes a call in a task of its own, which is aborted when this is dropped.
    async fn spawn<T: Send + 'static>(
        self: &Arc<Self>,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.count.fetch_add(1, Ordering::AcqRel);
        let running = Call(self.clone());
        let called = tokio::spawn(async move {
            // Dropped when the task has ended, however it does.
            let _running = running;
            call.await
        });
        Ongoing { task: Some(called), calls: self }.answer().await
    }

    /// Returns when the call has that was given up last. Nobody else has asked for it: the lane gives up a call and asks in
    /// one go.
    async fn last_returned(&self) {
        let last = self.given_up.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(last) = last {
            last.await;
        }
    }

    /// Returns when all calls have, those too whose record was cancelled.
    async fn all_returned(&self) {
        while self.count.load(Ordering::Acquire) > 0 {
            self.returned.notified().await;
        }
    }
}

/// A call that is given up when this is dropped before it has answered: its task is aborted, as far as that can be done.
struct Ongoing<'a, T: Send + 'static> {
    task: Option<JoinHandle<T>>,
    calls: &'a Calls,
}

impl<T: Send + 'static> Ongoing<'_, T> {
    async fn answer(mut self) -> Option<T> {
        let joined = self.task.as_mut()?.await;
        self.task = None;
        answer_of(joined)
    }
}

impl<T: Send + 'static> Drop for Ongoing<'_, T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let returned = Box::pin(async move { drop(task.await) });
            self.calls.given_up.lock().unwrap_or_else(PoisonError::into_inner).push(returned);
        }
    }
}

/// A panic goes on here; `None`: the runtime is being shut down.
fn answer_of<T>(joined: Result<T, JoinError>) -> Option<T> {
    match joined {
        Ok(answer) => Some(answer),
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

impl<F> Spawned<F> {
    /// Has `call` called for each record, in a task of its own.
    pub fn new(call: F) -> Self {
        Self { call: Arc::new(call) }
    }
}

impl<F, Fut, O> MakeHandler for Spawned<F>
where
    F: Fn(Record) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = O> + Send + 'static,
    O: IntoOutcome + 'static,
{
    type Handler = SpawnedLane<F>;

    fn make(&self, _: &LaneId) -> SpawnedLane<F> {
        SpawnedLane { call: self.call.clone(), calls: Arc::default() }
    }
}

impl<F, Fut, O> Handler for SpawnedLane<F>
where
    F: Fn(Record) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = O> + Send + 'static,
    O: IntoOutcome + 'static,
{
    async fn handle(&self, record: Record) -> Outcome {
        let call = self.call.clone();
        let called = self.calls.spawn(async move { call(record).await.into_outcome() });
        called.await.unwrap_or(Outcome::Abandon)
    }

    async fn given_up(&self) {
        self.calls.last_returned().await;
    }

    async fn close(&self, _: Closing) {
        self.calls.all_returned().await;
    }
}

impl<F> fmt::Debug for Spawned<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawned").finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for SpawnedLane<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnedLane").finish_non_exhaustive()
    }
}

impl<F> Blocking<F> {
    /// Has `call` called for each record.
    pub fn new(call: F) -> Self {
        Self { call: Arc::new(call) }
    }
}

impl<F> BlockingBatches<F> {
    /// Has `call` called with batches that are put together as `batching` says.
    pub fn new(batching: Batching, call: F) -> Self {
        Self { call: Arc::new(call), batching }
    }
}

impl<F, O> MakeHandler for Blocking<F>
where
    F: Fn(Record) -> O + Send + Sync + 'static,
    O: IntoOutcome + 'static,
{
    type Handler = BlockingLane<F>;

    fn make(&self, _: &LaneId) -> BlockingLane<F> {
        BlockingLane { call: self.call.clone(), calls: Arc::default() }
    }
}

impl<F, O> MakeHandler for BlockingBatches<F>
where
    F: Fn(Vec<Record>) -> O + Send + Sync + 'static,
    O: IntoBatchOutcome + 'static,
{
    type Handler = BlockingBatchesLane<F>;

    fn make(&self, _: &LaneId) -> BlockingBatchesLane<F> {
        BlockingBatchesLane { call: self.call.clone(), batching: self.batching, calls: Arc::default() }
    }
}

impl<F, O> Handler for BlockingLane<F>
where
    F: Fn(Record) -> O + Send + Sync + 'static,
    O: IntoOutcome + 'static,
{
    async fn handle(&self, record: Record) -> Outcome {
        let call = self.call.clone();
        self.calls.make(move || call(record).into_outcome()).await.unwrap_or(Outcome::Abandon)
    }

    async fn given_up(&self) {
        self.calls.last_returned().await;
    }

    async fn close(&self, _: Closing) {
        self.calls.all_returned().await;
    }
}

impl<F, O> Handler for BlockingBatchesLane<F>
where
    F: Fn(Vec<Record>) -> O + Send + Sync + 'static,
    O: IntoBatchOutcome + 'static,
{
    async fn handle(&self, record: Record) -> Outcome {
        self.handle_batch(vec![record]).await.one()
    }

    fn batching(&self) -> Batching {
        self.batching
    }

    async fn handle_batch(&self, records: Vec<Record>) -> BatchOutcome {
        let call = self.call.clone();
        let answer = self.calls.make(move || call(records).into_batch_outcome()).await;
        answer.unwrap_or(BatchOutcome::All(Outcome::Abandon))
    }

    async fn given_up(&self) {
        self.calls.last_returned().await;
    }

    async fn close(&self, _: Closing) {
        self.calls.all_returned().await;
    }
}

impl<F> fmt::Debug for Blocking<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocking").finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for BlockingLane<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingLane").finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for BlockingBatches<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingBatches").field("batching", &self.batching).finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for BlockingBatchesLane<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingBatchesLane").field("batching", &self.batching).finish_non_exhaustive()
    }
}
