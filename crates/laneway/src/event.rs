//! What happens to a consumer, as it happens.

use std::time::Duration;

use laneway_core::{LaneId, TopicPartition};

/// Something that happened. Given to the function set with [`Builder::on_event`].
///
/// [`Builder::on_event`]: crate::Builder::on_event
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Lanes begin, each at an offset.
    Assigned {
        /// The lanes, and where each starts.
        lanes: Vec<LaneStart>,
    },
    /// Partitions were given back, in a rebalance or at a stop: nothing of these lanes runs any more.
    Revoked {
        /// The lanes that ended.
        lanes: Vec<LaneId>,
        /// Whether everything that was in flight finished, and was committed.
        drained: bool,
        /// From when the lanes were told to end until they had.
        drain: Duration,
    },
    /// Partitions were lost: what was not committed of them will come again, perhaps elsewhere.
    Lost {
        /// The lanes that ended.
        lanes: Vec<LaneId>,
        /// How it was noticed.
        reason: String,
    },
    /// A commit was acknowledged.
    Committed {
        /// For each partition the offset of the next record to be read.
        offsets: Vec<(TopicPartition, i64)>,
    },
    /// A commit was refused, or not answered in time. It is tried again where that can help.
    CommitFailed {
        /// What the broker or the client said.
        error: String,
    },
    /// A record arrived on a queue that delivers nothing. It is fetched again.
    Stray {
        /// The record's partition.
        partition: TopicPartition,
        /// The record's offset.
        offset: i64,
    },
    /// Something failed and is being dealt with: a handler, a lane's queue, a broker.
    Error {
        /// What was tried, why it failed, and what is done about it.
        message: String,
    },
    /// A handler has been at a record for longer than [`Builder::stall`](crate::Builder::stall) allows. Told once for
    /// each try; [`LaneStatus::stalled`](crate::LaneStatus::stalled) shows it as long as it lasts.
    Stalled {
        /// Where.
        lane: LaneId,
        /// The record (the first of a batch). Of a handler that blocks its thread it is the first record of the lane
        /// that is not finished.
        offset: i64,
        /// Its key, if it has one, and the handler does not block its thread.
        key: Option<Vec<u8>>,
        /// How long the handler has been at it.
        age: Duration,
    },
    /// A topic does not exist. It is waited for. Said once per topic.
    TopicMissing {
        /// The topic's name, or the expression that matches none.
        topic: String,
    },
    /// No broker has been reachable for a while. Said once a minute at most.
    BrokersDown {
        /// The last error.
        error: String,
    },
    /// The statistics of a native client, as often as the property `statistics.interval.ms` says (0, the default: never).
    Statistics {
        /// Of which client.
        client: NativeClient,
        /// What it tells, in JSON, as librdkafka's STATISTICS.md describes it.
        json: String,
    },
    /// The consumer has ended. Always the last event.
    Stopped {
        /// Why.
        reason: String,
    },
}

/// One of the two native clients that a consumer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NativeClient {
    /// The one that is in the group and commits.
    Membership,
    /// The one that fetches.
    Fetcher,
}

/// A lane that begins.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LaneStart {
    /// The lane.
    pub lane: LaneId,
    /// The offset of the first record that it reads.
    pub offset: i64,
    /// How that offset was found.
    pub from: StartedFrom,
}

impl LaneStart {
    /// A lane that begins at `offset`.
    pub fn new(lane: LaneId, offset: i64, from: StartedFrom) -> Self {
        Self { lane, offset, from }
    }
}

/// How a lane's first offset was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartedFrom {
    /// It was the group's committed offset.
    Committed,
    /// Nothing was committed (or it was out of range), and the log's beginning was asked for, or the
    /// partition is new.
    Beginning,
    /// Nothing was committed, and the log's end was asked for.
    End,
    /// The lane was started again by Laneway itself, where it stood.
    Restart,
    /// It was told to begin there ([`Handle::seek`](crate::Handle::seek), [`Builder::assign`](crate::Builder::assign)).
    Seek,
}
