//! The client thread from its begin to its end, which is told whatever brings it about.

use std::panic::{AssertUnwindSafe, catch_unwind};

use laneway_core::{LaneId, Port};

use super::asked::Asked;
use super::{ClientThread, Ended};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::lane::panic_text;

/// Makes the thread's state, runs, and tells how it ended.
pub(super) fn live(make: impl FnOnce() -> Result<ClientThread, Error>, done: impl FnOnce(Ended)) {
    let mut thread = match contained(make) {
        Ok(Ok(thread)) => thread,
        Ok(Err(error)) | Err(error) => return done(Err(error)),
    };
    match contained(|| thread.run()) {
        Ok(()) => done(contained(|| thread.end()).unwrap_or_else(Err)),
        Err(error) => {
            // What panicked once may do so again.
            contained(|| thread.abandon(&error)).ok();
            // First: what the thread owns may take its time to be destroyed.
            done(Err(error));
            contained(|| drop(thread)).ok();
        }
    }
}

impl ClientThread {
    /// Nobody looks after the lanes any more: none of them goes on.
    fn abandon(&mut self, error: &Error) {
        let lanes: Vec<LaneId> = self.world.lanes.keys().cloned().collect();
        lanes.iter().for_each(|lane| self.world.cancel(lane));
        // Who waits for an answer, or asks from now on, hears that there is none.
        (self.asked, self.received) = (Asked::default(), std::sync::mpsc::channel().1);
        self.event(Event::Stopped { reason: error.to_string() });
    }
}

/// A panic in `run` is an error like any other.
fn contained<T>(run: impl FnOnce() -> T) -> Result<T, Error> {
    let panicked = |text: String| {
        let message = format!(
            "the client thread panicked: {text}; what was finished since the last commit comes again, and the group goes \
             on without this member after its session"
        );
        Error::new(ErrorKind::Fatal, message)
    };
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| panicked(panic_text(&*panic)))
}
