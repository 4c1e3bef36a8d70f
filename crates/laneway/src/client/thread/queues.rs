//! What is done when a lane's queue fails.

use laneway_core::{Input, LaneId};

use super::ClientThread;
use crate::event::Event;
use crate::fetcher::{FetchError, FetchErrorKind};

impl ClientThread {
    pub(super) fn on_queue_failed(&mut self, lane: LaneId, error: &FetchError) {
        match error.kind {
            FetchErrorKind::Refused => return self.on_lane_refused(lane, &error.message),
            FetchErrorKind::Truncated(end) => return self.on_truncation(&lane, end, &error.message),
            FetchErrorKind::Damaged => self.say_now_and_then(format!(
                "{error}; {lane} stands there, and nothing behind it is delivered: it is read again every 10 s at most. \
                 To go past it, seek to an offset behind the batch"
            )),
            _ => self.event(Event::Error {
                message: format!("{error}; reading again from where {lane} stands"),
            }),
        }
        let out_of_range = error.kind == FetchErrorKind::OffsetOutOfRange;
        self.input(Input::LaneFailed { lane, out_of_range });
    }

    /// What was read up to the lane's position is in the log no longer than up to `end`, and others have written there
    /// since: they are read from there, also where the log is longer again than what was read. As with a seek, that is
    /// committed first although it is less than what was, and nothing that was finished above it counts.
    fn on_truncation(&mut self, lane: &LaneId, end: i64, said: &str) {
        self.event(Event::Error {
            message: format!(
                "the log of {} was truncated to offset {end}, and is read on there: {said}",
                lane.partition
            ),
        });
        self.go_on_at(lane.partition.clone(), end);
    }
}
