//! `--exec`: a worker process per lane, which speaks JSON lines.

mod protocol;
mod watch;
mod worker;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use laneway::{Closing, Handler, LaneId, MakeHandler, Outcome, Record};
use tokio::sync::{mpsc, oneshot};

use crate::record_json;
use crate::sys;
use watch::Watch;
use worker::{Request, Worker};

pub(crate) use watch::supervise;

/// Gives each lane a worker of its own.
#[derive(Clone)]
pub(crate) struct Exec(Arc<Shared>);

/// What all workers have in common.
struct Shared {
    command: String,
    group: String,
    /// How long the answer for a record may take.
    timeout: Option<Duration>,
    on_error: Arc<dyn Fn(String) + Send + Sync>,
    watch: Watch,
    /// The process groups that run now.
    running: Mutex<BTreeSet<u32>>,
}

/// The handler of one lane: hands records to its worker.
pub(crate) struct LaneWorker {
    requests: mpsc::UnboundedSender<Request>,
}

impl Exec {
    /// Workers run `command` through `sh -c`. `on_error` is told of every one that died or answered wrongly,
    /// unless that is told of the one record that it had.
    ///
    /// # Errors
    /// When the process that ends the workers with this one can't be started.
    pub(crate) fn new(
        command: String,
        group: String,
        timeout: Option<Duration>,
        on_error: Arc<dyn Fn(String) + Send + Sync>,
    ) -> Result<Self, String> {
        let watch =
            Watch::start().map_err(|error| format!("could not start what watches the workers: {error}"))?;
        Ok(Self(Arc::new(Shared { command, group, timeout, on_error, watch, running: Mutex::default() })))
    }

    /// Ends all workers at once, and whatever they started.
    pub(crate) fn kill_all(&self) {
        for leader in self.0.running().iter() {
            sys::signal_group(*leader, libc::SIGKILL);
        }
    }
}

impl Shared {
    fn running(&self) -> std::sync::MutexGuard<'_, BTreeSet<u32>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MakeHandler for Exec {
    type Handler = LaneWorker;

    fn make(&self, lane: &LaneId) -> LaneWorker {
        let (requests, received) = mpsc::unbounded_channel();
        tokio::spawn(Worker::new(self.0.clone(), lane.partition.clone(), received).run());
        LaneWorker { requests }
    }
}

impl Handler for LaneWorker {
    async fn handle(&self, record: Record) -> Outcome {
        let (offset, line) = (record.offset(), record_json::line(&record));
        let (answer, answered) = oneshot::channel();
        if self.requests.send(Request::Record { offset, line, answer }).is_err() {
            return Outcome::Abandon;
        }
        answered.await.unwrap_or(Outcome::Abandon)
    }

    async fn close(&self, closing: Closing) {
        let (done, closed) = oneshot::channel();
        if self.requests.send(Request::Close { closing, done }).is_ok() {
            // An error means that the worker is gone, which is what is waited for.
            closed.await.ok();
        }
    }
}
