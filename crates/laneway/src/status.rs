//! What a consumer looks like now.

use std::time::Duration;

use laneway_core::LaneId;

use crate::lane::MemoryStatus;

/// A look at a consumer, from [`Handle::status`]. Reading it asks no lane and no broker.
///
/// [`Handle::status`]: crate::Handle::status
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Status {
    /// The group's member id, as the broker gave it; empty before it did.
    pub member_id: String,
    /// The lanes, in the order of their partitions.
    pub lanes: Vec<LaneStatus>,
    /// Rebalance events answered so far.
    pub rebalances: u64,
    /// Records finished so far. Those count as well that were passed over because they were finished before: by another
    /// member, as the offset map tells, or by a lane that was opened again.
    pub finished: u64,
    /// Records that came round their partition's queue so far. Each was fetched again.
    pub strays: u64,
    /// Age of the last commit that was acknowledged.
    pub last_commit: Option<Duration>,
    /// Whether a rebalance event is being dealt with.
    pub rebalancing: bool,
    /// Lanes whose handler outlived its deadline and is still running, fenced.
    pub detached: u64,
    /// What the budget of memory is used for.
    pub memory: MemoryStatus,
}

/// One lane.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LaneStatus {
    /// The lane.
    pub lane: LaneId,
    /// Where it is in its life.
    pub state: LaneState,
    /// It begins no new record ([`Handle::pause`](crate::Handle::pause)).
    pub paused: bool,
    /// The committed offset, once it is known.
    pub committed: Option<i64>,
    /// The offset below which everything is finished.
    pub watermark: Option<i64>,
    /// The offset behind the last record that was read.
    pub position: Option<i64>,
    /// The log's end as the broker last said (the last stable offset with `read_committed`).
    pub end: Option<i64>,
    /// `end` minus `watermark`, in offsets.
    pub lag: Option<i64>,
    /// Records in the handler.
    pub in_flight: u64,
    /// Records finished above `watermark` that the last commit had no room to remember: after a crash they come again.
    pub forgotten: u64,
    /// Records that failed and wait for their next try; in the lane of a retry topic, those that were read and are not
    /// due yet.
    pub waiting: u64,
    /// Records that have been in the handler for longer than [`Builder::stall`](crate::Builder::stall) allows.
    pub stalled: u64,
    /// Records finished by this lane, those included that it passed over because they were finished before.
    pub finished: u64,
}

/// Where a lane is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaneState {
    /// Its first offset is being found.
    Starting,
    /// It reads and handles.
    Running,
    /// It takes nothing new, and waits for what is in flight.
    Draining,
    /// What is in flight is being cancelled.
    Cancelling,
}
