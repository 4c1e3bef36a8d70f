//! What of a lane was finished before it began.

use laneway_core::Position;
use laneway_core::map::{Ahead, FinishedAhead};

/// Records above the lane's start that need no more work.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub(crate) found: FinishedAhead,
    /// The leader epoch that was committed with them. A record of a later one is another record: the log was
    /// truncated and written again.
    pub(crate) leader_epoch: Option<i32>,
}

impl Finished {
    /// Adds what of it is not read again yet, from `position` on, to what is finished above `base` of what is: it goes
    /// into each commit, or it would be forgotten by the next one.
    pub(crate) fn add_to(
        &self,
        read: Option<(Ahead, Option<i32>)>,
        base: i64,
        position: i64,
    ) -> Option<(Ahead, Option<i32>)> {
        let of_read = read.as_ref().and_then(|(_, epoch)| *epoch);
        // What is above a record of a later epoch is of one, too.
        let is_other_log = of_read.zip(self.leader_epoch).is_some_and(|(of_read, found)| of_read > found);
        if is_other_log || self.found.highest().is_none_or(|highest| highest < position) {
            return read;
        }
        let (mut ahead, _) = read.unwrap_or_else(|| (Ahead::new(base), None));
        ahead.push_found(&self.found, position);
        Some((ahead, of_read.max(self.leader_epoch)))
    }

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
