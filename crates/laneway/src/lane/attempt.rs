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

/// How a job ended. Nothing: all of its records are done. That is nearly always so, and what an answer is moved with.
pub(super) type Answer = Option<Box<BatchOutcome>>;

/// Does a job. What is rare is boxed, and what is handled is polled where it stands: this future is moved for every
/// record.
pub(super) async fn attempt<H: Handler>(handler: &H, work: &Work, job: Job) -> Answer {
    let timeout = work.failures.timeout;
    match job {
        Job::One(record) => {
            let handled = pin!(async {
                match handler.handle(record).await {
                    Outcome::Done => None,
                    outcome => Some(Box::new(BatchOutcome::All(outcome))),
                }
            });
            in_time(timeout, handled).await
        }
        Job::Many(records) => {
            let mut handled = Box::pin(async {
                match handler.handle_batch(records).await {
                    BatchOutcome::All(Outcome::Done) => None,
                    outcome => Some(Box::new(outcome)),
                }
            });
            in_time(timeout, handled.as_mut()).await
        }
        Job::Letter(record, letter) => {
            if let Some(letters) = &work.letters {
                Box::pin(letters.send(&record, &letter)).await;
            }
            None
        }
    }
}

/// What an answer stands for.
pub(super) fn outcome_of(answer: Answer) -> BatchOutcome {
    answer.map_or(BatchOutcome::All(Outcome::Done), |outcome| *outcome)
}

fn failed(error: String) -> Answer {
    Some(Box::new(BatchOutcome::All(Outcome::Retry { error, after: None })))
}

async fn in_time(timeout: Option<Duration>, handled: Pin<&mut impl Future<Output = Answer>>) -> Answer {
    let handled = catching(handled, |panic| failed(format!("the handler panicked: {panic}")));
    match timeout {
        None => handled.await,
        Some(timeout) => {
            let in_time = Box::pin(tokio::time::timeout(timeout, handled)).await;
            in_time.unwrap_or_else(|_| failed(format!("the handler did not end within {timeout:?}")))
        }
    }
}

/// Runs user code; a panic in it is an answer like any other.
pub(super) async fn contained<T>(future: impl Future<Output = T>) -> Result<T, String> {
    catching(pin!(async { Ok(future.await) }), Err).await
}

fn catching<T>(
    mut future: Pin<&mut impl Future<Output = T>>,
    panicked: impl Fn(String) -> T,
) -> impl Future<Output = T> {
    poll_fn(move |context| {
        let future: Pin<&mut _> = future.as_mut();
        match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(polled) => polled,
            Err(panic) => Poll::Ready(panicked(panic_text(&*panic))),
        }
    })
}

pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
