//! What is done in a slot: a handler is called, or a dead letter written. A panic in it is an answer like any other.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use laneway_core::cut_error;

use super::work::Work;
use crate::dead_letters::Letter;
use crate::handler::{BatchOutcome, Handler, Outcome};
use crate::record::Record;

/// What a slot is given to do. What is rare is boxed: a job is moved for every record.
pub(super) enum Job {
    One(Record),
    Many(Vec<Record>),
    /// A record on its way to the dead letters or to a retry topic.
    Letter(Box<(Record, Letter)>),
}

/// How a job ended. Nothing: all of its records are done. That is nearly always so, and what an answer is moved with.
pub(super) type Answer = Option<Box<BatchOutcome>>;

/// Does a job. This future is moved for every record: what is rare is boxed, and what is handled is polled where it
/// stands.
pub(super) async fn attempt<H: Handler>(handler: &H, work: &Work, job: Job) -> Answer {
    match job {
        Job::One(record) => match work.failures.timeout {
            None => catching(pin!(one(handler, record)), panicked).await,
            Some(timeout) => Box::pin(in_time(handler, timeout, Box::pin(one(handler, record)))).await,
        },
        Job::Many(records) => Box::pin(within(handler, work, many(handler, records))).await,
        Job::Letter(letter) => Box::pin(write(work, letter)).await,
    }
}

async fn one<H: Handler>(handler: &H, record: Record) -> Answer {
    match handler.handle(record).await {
        Outcome::Done => None,
        outcome => Some(Box::new(BatchOutcome::All(outcome))),
    }
}

async fn many<H: Handler>(handler: &H, records: Vec<Record>) -> Answer {
    match handler.handle_batch(records).await {
        BatchOutcome::All(Outcome::Done) => None,
        outcome => Some(Box::new(outcome)),
    }
}

async fn within<H: Handler>(handler: &H, work: &Work, handled: impl Future<Output = Answer>) -> Answer {
    match work.failures.timeout {
        None => catching(pin!(handled), panicked).await,
        Some(timeout) => in_time(handler, timeout, Box::pin(handled)).await,
    }
}

async fn write(work: &Work, letter: Box<(Record, Letter)>) -> Answer {
    if let Some(letters) = &work.letters {
        letters.send(&letter.0, &letter.1).await;
    }
    None
}

async fn in_time<H: Handler>(
    handler: &H,
    timeout: Duration,
    mut handled: Pin<Box<impl Future<Output = Answer>>>,
) -> Answer {
    if let Ok(answer) = tokio::time::timeout(timeout, catching(handled.as_mut(), panicked)).await {
        return answer;
    }
    let late = format!("the handler did not end within {timeout:?}");
    let dropped = caught(|| drop(handled));
    let ended = contained(handler.given_up()).await;
    failed(match dropped.and(ended) {
        Ok(()) => late,
        Err(panic) => format!("{late}, and panicked when it was dropped: {panic}"),
    })
}

/// What an answer stands for.
pub(super) fn outcome_of(answer: Answer) -> BatchOutcome {
    answer.map_or(BatchOutcome::All(Outcome::Done), |outcome| outcome.cut())
}

fn failed(error: String) -> Answer {
    Some(Box::new(BatchOutcome::All(Outcome::Retry { error, after: None })))
}

fn panicked(panic: String) -> Answer {
    failed(format!("the handler panicked: {panic}"))
}

/// Runs user code; a panic in it is an answer like any other.
pub(super) async fn contained<T>(future: impl Future<Output = T>) -> Result<T, String> {
    catching(pin!(async { Ok(future.await) }), Err).await
}

/// Drops what is the user's. An error: that panicked.
pub(super) fn caught(drop: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(drop)).map_err(|panic| panic_text(&*panic))
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

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let mut text =
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned());
    cut_error(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Handler for Nothing {
        async fn handle(&self, _: Record) -> Outcome {
            Outcome::Done
        }
    }

    #[test]
    fn what_is_moved_for_every_record_is_hardly_more_than_the_handlers_own_future() {
        fn size<A, F: Future>(_: impl Fn(A) -> F) -> usize {
            size_of::<F>()
        }
        let beside = size(|(work, job): (&Work, Job)| async move { attempt(&Nothing, work, job).await });
        let own = size(|record| Nothing.handle(record));
        assert!(beside <= own + 192, "{beside} bytes for a handler's {own}");
        assert!(size_of::<Job>() <= 24 && size_of::<Answer>() <= 8);
    }
}
