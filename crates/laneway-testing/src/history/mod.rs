//! What a consumer did, recorded and checked.
//!
//! A [`Recorder`] takes events, from all threads of a process or, in its file form, from several processes on
//! one machine. The [`History`] that comes of it is given to [`check`], with what was to be expected, and the
//! [`Report`] lists what broke which invariant.
//!
//! When to record what, so that a correct consumer is never blamed: `begun` as the first thing in a handler;
//! `finished` or `cancelled` as the last; `committed` once the commit was answered; `assigned` before the lane's
//! first record, `revoked` and `lost` once the lane was closed and before that is told to the group; `killed`
//! right after the process was killed. A member is one life of one process: after a restart it has a new name.
//!
//! ```
//! use laneway_core::{Epoch, LaneId, TopicPartition};
//! use laneway_testing::history::{Expect, Recorder, check};
//!
//! let recorder = Recorder::in_memory();
//! let partition = TopicPartition::new("orders", 0);
//! recorder.produced(&partition, 0, Some(b"customer"));
//! let member = recorder.member("a");
//! let lane = LaneId { partition: partition.clone(), epoch: Epoch(1) };
//! member.assigned(&lane);
//! member.begun(&lane, 0);
//! member.finished(&lane, 0);
//! member.committed(&partition, 1);
//! member.revoked(&lane);
//! check(&recorder.history(), &Expect::graceful()).assert_ok();
//! ```

mod check;
mod expect;
mod file;
mod recorder;
mod records;
mod report;
mod silence;
mod walk;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use laneway_core::{LaneId, TopicPartition};

use crate::Error;

pub use check::check;
pub use expect::{Expect, Order};
pub use recorder::{MemberRecorder, Recorder};
pub use report::{Counts, Invariant, Report, Silence, Violation};

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When, on the machine's monotonic clock, which is the same for all of its processes.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What happened. `member` is one life of one process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A record is in Kafka, where every consumer must see it.
    Produced {
        /// Where.
        partition: TopicPartition,
        /// Its offset.
        offset: i64,
        /// A number that stands for its key; records with the same key have the same one.
        key: Option<u64>,
    },
    /// A handler began to work on a record.
    Begun {
        /// Whose.
        member: Arc<str>,
        /// In which lane.
        lane: LaneId,
        /// Which record.
        offset: i64,
    },
    /// A record was finished: handled, dead-lettered, or skipped on purpose.
    Finished {
        /// By whom.
        member: Arc<str>,
        /// In which lane.
        lane: LaneId,
        /// Which record.
        offset: i64,
    },
    /// A handler ended without its record being finished: it failed, or was cancelled.
    Cancelled {
        /// Whose.
        member: Arc<str>,
        /// In which lane.
        lane: LaneId,
        /// Which record.
        offset: i64,
    },
    /// A commit was acknowledged.
    Committed {
        /// Whose.
        member: Arc<str>,
        /// For which partition.
        partition: TopicPartition,
        /// The next offset to be read.
        offset: i64,
        /// Offsets above it that the commit says are finished too.
        ahead: Vec<i64>,
    },
    /// A lane was opened.
    Assigned {
        /// Whose.
        member: Arc<str>,
        /// Which.
        lane: LaneId,
    },
    /// A lane was closed and its partition given back.
    Revoked {
        /// Whose.
        member: Arc<str>,
        /// Which.
        lane: LaneId,
    },
    /// A lane was closed because its partition had been taken away.
    Lost {
        /// Whose.
        member: Arc<str>,
        /// Which.
        lane: LaneId,
    },
    /// A member was killed, or crashed.
    Killed {
        /// Which.
        member: Arc<str>,
    },
    /// A record arrived on a main queue.
    Stray {
        /// Whose.
        member: Arc<str>,
        /// Of which partition.
        partition: TopicPartition,
        /// Which record.
        offset: i64,
    },
}

/// Everything that happened, in the order it happened.
#[derive(Clone, Default, Debug)]
pub struct History {
    events: Vec<Event>,
}

impl History {
    /// A history of these events, brought into order by their times; at the same time the order stays.
    pub fn new(mut events: Vec<Event>) -> Self {
        events.sort_by_key(|event| event.at);
        Self { events }
    }

    /// Reads what recorders in their file form have written.
    ///
    /// # Errors
    /// When the file can't be read, or a line of it is not an event. A last line without its end, of a process
    /// that was killed while it wrote, is passed over.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Ok(Self::new(file::read(path)?))
    }

    /// Both histories in one.
    pub fn merged_with(mut self, other: Self) -> Self {
        self.events.extend(other.events);
        Self::new(self.events)
    }

    /// The events, in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}
