//! Where a lane starts: the committed offset, where it stood, or a reset that is decided here and not by
//! the client.

use crate::types::Position;

/// What is wanted where nothing tells where to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// At the log's start.
    Earliest,
    /// At the log's end.
    Latest,
    /// Nowhere: an error.
    Refuse,
}

/// How a start was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The group's committed offset.
    Committed,
    /// The log's start, by a reset.
    Beginning,
    /// The log's end, by a reset.
    End,
    /// Where an earlier lane of the same assignment stood.
    Restart,
    /// Where it was told to go on.
    Seek,
}

impl From {
    /// Whether this start was decided rather than found: it must be committed before its first record is
    /// delivered, or a crash before the first commit decides again, and `latest` skips what was there.
    pub fn must_be_committed(self) -> bool {
        matches!(self, Self::Beginning | Self::End | Self::Seek)
    }
}

/// A start, found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Where the lane starts.
    pub position: Position,
    /// How that was found.
    pub from: From,
    /// Records that are no longer in the log although they were never delivered.
    pub missing: i64,
}

/// What is known of the log of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// Its first offset.
    pub start: i64,
    /// Its end: behind its last record, or the last stable offset.
    pub end: i64,
}

/// Where a partition starts of which nothing is committed. `appeared`: it came into being while this
/// member ran, and is read from its beginning also with `latest`. `None`: refused.
pub fn first_start(log: Log, reset: Reset, appeared: bool) -> Option<Found> {
    let (offset, from) = match reset {
        _ if appeared => (log.start, From::Beginning),
        Reset::Earliest => (log.start, From::Beginning),
        Reset::Latest => (log.end, From::End),
        Reset::Refuse => return None,
    };
    Some(Found { position: Position::at(offset), from, missing: 0 })
}

/// Where a lane goes on whose position the broker called out of range. `None`: refused.
///
/// Above the log's end the log was truncated: the lane goes on at the end, never at `latest`'s idea of it
/// after more was written. Below the log's start, what is missing is counted, and the reset decides.
pub fn start_again(stood: Position, log: Log, reset: Reset) -> Option<Found> {
    let found = |offset, from, missing| Some(Found { position: Position::at(offset), from, missing });
    if stood.offset > log.end {
        return found(log.end, From::End, 0);
    }
    if stood.offset >= log.start {
        return Some(Found { position: stood, from: From::Restart, missing: 0 });
    }
    match reset {
        Reset::Earliest => found(log.start, From::Beginning, log.start - stood.offset),
        Reset::Latest => found(log.end, From::End, log.end - stood.offset),
        Reset::Refuse => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Log = Log { start: 100, end: 200 };

    fn offset(found: Option<Found>) -> Option<(i64, From, i64)> {
        found.map(|found| (found.position.offset, found.from, found.missing))
    }

    #[test]
    fn a_partition_that_appeared_starts_at_its_beginning_also_with_latest() {
        assert_eq!(offset(first_start(LOG, Reset::Latest, true)), Some((100, From::Beginning, 0)));
        assert_eq!(offset(first_start(LOG, Reset::Latest, false)), Some((200, From::End, 0)));
        assert_eq!(offset(first_start(LOG, Reset::Refuse, false)), None);
    }

    #[test]
    fn a_truncated_log_is_gone_on_with_at_its_end() {
        let stood = Position::at(250);
        for reset in [Reset::Earliest, Reset::Latest, Reset::Refuse] {
            assert_eq!(offset(start_again(stood, LOG, reset)), Some((200, From::End, 0)));
        }
    }

    #[test]
    fn what_is_below_the_logs_start_is_counted_as_missing() {
        let stood = Position::at(40);
        assert_eq!(offset(start_again(stood, LOG, Reset::Earliest)), Some((100, From::Beginning, 60)));
        assert_eq!(offset(start_again(stood, LOG, Reset::Latest)), Some((200, From::End, 160)));
        assert_eq!(offset(start_again(stood, LOG, Reset::Refuse)), None);
    }

    #[test]
    fn a_position_inside_the_log_is_kept() {
        assert_eq!(offset(start_again(Position::at(150), LOG, Reset::Latest)), Some((150, From::Restart, 0)));
    }
}
