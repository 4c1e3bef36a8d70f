//! What a member asks of the world: the membership client, the fetcher and its lanes. The client thread is
//! one such world, the simulator another, so that both run the same decisions.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::start::{Found, From};
use crate::types::{LaneId, Position, TopicPartition};

/// The world of one member. Nothing here waits: what takes time is answered by an [`Input`] later.
///
/// [`Input`]: crate::Input
pub trait Port {
    /// Makes a membership client and subscribes it. Called again for each client that takes the place of
    /// one that is beyond mending.
    fn join(&mut self);

    /// Whether the broker knows this member, and its client that it does: it has a member id (classic), or
    /// a generation above 0 (KIP-848).
    fn member_is_known(&self) -> bool;

    /// The generation of the group that the membership client is in; less than 0: in none. `None`: it could
    /// not be asked. Only the classic protocols ask.
    fn generation(&self) -> Option<i32>;

    /// What the membership client itself says it is assigned. `None`: it could not be asked.
    fn assignment(&self) -> Option<BTreeSet<TopicPartition>>;

    /// Answers a rebalance event. An error means that the client did not take it.
    fn answer(&mut self, answer: &Answer) -> Result<(), String>;

    /// Sends a commit of where these lanes stand, or are to begin; answered by `Input::Committed` with the same token.
    fn commit(&mut self, token: u64, offsets: &[(LaneId, Position)]) -> Result<(), String>;

    /// Looks for where partitions start; answered by `Input::Starts` with the same token.
    fn find_starts(&mut self, token: u64, wanted: &[Want]);

    /// Unsubscribes: the member leaves the group at its next steady point, or at once.
    fn unsubscribe(&mut self);

    /// Begins to close the membership client; `Input::ClientClosed` says when it has. Until then it is
    /// asked nothing but to answer events.
    fn begin_close(&mut self);

    /// Lets the membership client go, closed or not.
    fn discard(&mut self);

    /// Opens lanes and starts to fetch for them, all at once. Answers for each, in their order; an error means that
    /// nothing was started for that one.
    fn open(&mut self, lanes: &[(LaneId, Position)]) -> Vec<Result<(), String>>;

    /// Stops to fetch for a lane; it takes nothing new and ends when what is in flight has finished.
    /// Answered by `Input::LaneEnded`.
    fn drain(&mut self, lane: &LaneId, deadline: Duration);

    /// Stops to fetch for a lane and cancels what it has in flight. Answered by `Input::LaneEnded`.
    fn cancel(&mut self, lane: &LaneId);

    /// What an open lane may commit now.
    fn progress(&self, lane: &LaneId) -> Option<Position>;

    /// From where an open lane would take its next record, if that is known.
    fn next(&self, lane: &LaneId) -> Option<i64> {
        let _ = lane;
        None
    }

    /// A number that grows as more of a lane's records are finished above what it may commit; 0: none are. A commit
    /// remembers those, too. Also of a lane that has ended.
    fn ahead(&self, lane: &LaneId) -> u64 {
        let _ = lane;
        0
    }

    /// A lane takes the place of another one within its assignment.
    fn renew(&mut self, old: &LaneId, new: &LaneId) {
        let _ = (old, new);
    }

    /// A lane begins elsewhere: what was finished of it ahead of what was committed is void.
    fn forget_finished(&mut self, lane: &LaneId) {
        let _ = lane;
    }

    /// Tells whoever wants to know.
    fn report(&mut self, report: Report);
}

/// A partition whose start is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// The partition.
    pub partition: TopicPartition,
    /// Where a lane of it stood that the broker called out of range.
    pub out_of_range: Option<Position>,
}

/// How a rebalance event is answered. Partitions are assigned paused, at a number: membership never
/// fetches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Eager: the whole new assignment.
    Assign(BTreeSet<TopicPartition>),
    /// Eager: nothing is assigned any more.
    Clear,
    /// Cooperative and KIP-848: these come to it.
    Add(BTreeSet<TopicPartition>),
    /// Cooperative and KIP-848: these leave it.
    Remove(BTreeSet<TopicPartition>),
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Lanes begin: said before their first record, and not again for one that is opened anew.
    Assigned(Vec<(LaneId, Found)>),
    /// Lanes ended, and their partitions are about to be given back: said before the group can hear of it.
    Revoked {
        /// The lanes.
        lanes: Vec<LaneId>,
        /// Everything that was in flight finished and was committed.
        drained: bool,
        /// How long they took to end.
        drain: Duration,
    },
    /// Lanes were lost, and have ended.
    Lost {
        /// The lanes.
        lanes: Vec<LaneId>,
        /// How it was noticed.
        reason: String,
    },
    /// A commit was acknowledged.
    Committed(Vec<(TopicPartition, Position)>),
    /// A commit was refused, or not answered in time.
    CommitFailed(String),
    /// A lane that was cancelled did not end in time, and is left behind, fenced.
    Detached(LaneId),
    /// `Input::CommitNow` or `Input::Seek` is done, or will not be.
    Answered {
        /// Which one.
        number: u64,
        /// Why it could not be done.
        result: Result<(), String>,
    },
    /// Something failed and is being dealt with.
    Error(String),
}

impl Found {
    /// A start at the group's committed offset.
    pub fn committed(position: Position) -> Self {
        Self { position, from: From::Committed, missing: 0 }
    }
}
