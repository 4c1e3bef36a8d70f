//! What of a lane was finished before it began.

use laneway_core::Position;
use laneway_core::map::FinishedAhead;

/// Records above the lane's start that need no more work.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) found: FinishedAhead,
    /// The leader epoch that was committed with them. A record of a later one is another record: the log was
    /// truncated and written again.
    pub(crate) leader_epoch: Option<i32>,
}

impl Finished {
    /// Whether the record at an offset, of a leader epoch, is finished. Asked in the order of offsets; forgotten behind
    /// the last that is.
    pub(crate) fn take(this: &mut Option<Self>, record: Position) -> bool {
        let Some(finished) = this else { return false };
        if finished.found.highest().is_none_or(|highest| record.offset > highest) {
            *this = None;
            return false;
        }
        let is_same_log = match (record.leader_epoch, finished.leader_epoch) {
            (Some(of_record), Some(committed)) => of_record <= committed,
            _ => true,
        };
        is_same_log && finished.found.contains(record.offset)
    }
}
