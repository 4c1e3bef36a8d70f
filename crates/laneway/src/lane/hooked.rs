//! A lane's own hooks: awaited before it takes its first record, and before it says that it has ended.

use std::pin::pin;
use std::time::{Duration, Instant};

use laneway_core::cut_error;

use super::attempt::contained;
use super::work::Work;
use super::{FALLBACK_TICK, LaneMessage, LaneShared, Order, Tell};
use crate::chain::Chain;
use crate::fetcher::PartitionQueue;
use crate::handler::Closing;
use crate::hooks::HookError;

/// Calls the user's hook until it succeeds. False: the lane is to end, and has not begun.
pub(super) async fn before_open(
    shared: &LaneShared,
    work: &Work,
    queue: &mut Option<Box<dyn PartitionQueue>>,
    tell: &Tell,
) -> bool {
    let Some(hooks) = &work.hooks else { return true };
    // It reads nothing yet: others may have its turn.
    shared.reading.set_full(true, &work.memory);
    let name = format!("the hook before_open of {}", shared.id);
    let mut times = 0;
    loop {
        let call = watched(&name, work.stall_after, tell, async { hooks.open(&shared.id).await });
        let error = tokio::select! {
            biased;
            () = shared.ordered(queue, tell) => return false,
            result = call => match result {
                Ok(()) => return true,
                Err(error) => error,
            },
        };
        times += 1;
        let wait = work.failures.wait(times);
        tell(LaneMessage::Told(format!(
            "{name} {error}; no record flows before it succeeds: again in {wait:?}"
        )));
        tokio::select! {
            biased;
            () = shared.ordered(queue, tell) => return false,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Calls the user's hook, and gives it up when its time is over.
pub(super) async fn before_close(shared: &LaneShared, work: &Work, tell: &Tell) {
    let Some(hooks) = &work.hooks else { return };
    let name = format!("the hook before_close of {}", shared.id);
    let (now, deadline) = (Instant::now(), shared.deadline());
    let mut is_cancelled = shared.order() == Order::Cancel;
    // One whose handler ended so late was left behind long ago.
    let lost = shared.is_lost() || now >= deadline + LAST;
    let mut until = match (is_cancelled, lost) {
        (false, _) => deadline,
        (true, false) => deadline + LAST,
        (true, true) => now + LAST,
    };
    let closing = Closing { deadline, lost };
    let call = watched(&name, work.stall_after, tell, async { hooks.close(&shared.id, closing).await });
    let mut call = pin!(call);
    loop {
        tokio::select! {
            biased;
            result = &mut call => {
                if let Err(error) = result {
                    tell(LaneMessage::Told(format!("{name} {error}; the lane ends without it")));
                }
                return;
            }
            () = tokio::time::sleep_until(until.into()) => {
                let message = format!("{name} did not end in time, and was dropped; the lane ends without it");
                return tell(LaneMessage::Told(message));
            }
            () = cancelled(shared), if !is_cancelled => {
                is_cancelled = true;
                until = until.min(Instant::now() + LAST);
            }
        }
    }
}

/// Returns when the lane has been told to cancel what it does.
async fn cancelled(shared: &LaneShared) {
    while shared.order() != Order::Cancel {
        tokio::time::timeout(FALLBACK_TICK, shared.wake.notified()).await.ok();
    }
}

/// Runs a hook, and tells while it takes very long. An error is what became of it, in words that go on from its name.
pub(crate) async fn watched(
    name: &str,
    stall_after: Duration,
    tell: &Tell,
    hook: impl Future<Output = Result<(), HookError>>,
) -> Result<(), String> {
    let began = Instant::now();
    let mut told = 0;
    let mut hook = pin!(contained(hook));
    loop {
        let next = began + stall_after * 2u32.saturating_pow(told);
        match tokio::time::timeout_at(next.into(), &mut hook).await {
            Ok(Ok(result)) => {
                return result.map_err(|error| {
                    let mut error = Chain::of(&*error).to_string();
                    cut_error(&mut error);
                    format!("failed: {error}")
                });
            }
            Ok(Err(panic)) => return Err(format!("panicked: {panic}")),
            Err(_) => {
                told += 1;
                let age = began.elapsed().as_secs();
                tell(LaneMessage::Told(format!("{name} has been at it for {age} s")));
            }
        }
    }
}

/// How long a hook has at the end of a lane that was cancelled. Well within what the member waits for such a lane.
const LAST: Duration = Duration::from_secs(1);
