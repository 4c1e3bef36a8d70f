//! What is done in a slot: a handler is called, or a dead letter written. A panic in it is an answer like any other.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use super::work::Work;
use crate::dead_letters::Letter;
use crate::handler::{BatchOutcome, Handler, Outcome};
use crate::record::Record;

/// What a slot is given to do.
pub(super) enum Job {
    One(Record),
    Many(Vec<Record>),
    /// A record on its way to the dead letters or to a retry topic.
    Letter(Record, Letter),
}

/// Does a job. What is rare is boxed, and what is handled is polled where it stands: this future is moved for every
/// record.
pub(super) async fn attempt<H: Handler>(handler: &H, work: &Work, job: Job) -> BatchOutcome {
    let timeout = work.failures.timeout;
    let outcome = match job {
        Job::One(record) => {
            in_time(timeout, pin!(async { handler.handle(record).await })).await.map(BatchOutcome::All)
        }
        Job::Many(records) => {
            in_time(timeout, Box::pin(async { handler.handle_batch(records).await }).as_mut()).await
        }
        Job::Letter(record, letter) => {
            if let Some(letters) = &work.letters {
                Box::pin(letters.send(&record, &letter)).await;
            }
            Ok(BatchOutcome::All(Outcome::Done))
        }
    };
    outcome.unwrap_or_else(|error| BatchOutcome::All(Outcome::Retry { error, after: None }))
}

async fn in_time<T>(
    timeout: Option<Duration>,
    handled: Pin<&mut impl Future<Output = T>>,
) -> Result<T, String> {
    let handled = catching(handled);
    let handled = match timeout {
        None => handled.await,
        Some(timeout) => Box::pin(tokio::time::timeout(timeout, handled))
            .await
            .map_err(|_| format!("the handler did not end within {timeout:?}"))?,
    };
    handled.map_err(|panic| format!("the handler panicked: {panic}"))
}

/// Runs user code; a panic in it is an answer like any other.
pub(super) async fn contained<T>(future: impl Future<Output = T>) -> Result<T, String> {
    catching(pin!(future)).await
}

fn catching<T>(mut future: Pin<&mut impl Future<Output = T>>) -> impl Future<Output = Result<T, String>> {
    poll_fn(move |context| {
        let future: Pin<&mut _> = future.as_mut();
        match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(panic) => Poll::Ready(Err(panic_text(&*panic))),
        }
    })
}

pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
