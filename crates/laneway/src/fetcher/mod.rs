//! The seam behind which records are fetched. Nothing outside it knows how.
//!
//! A [`Fetcher`] is told, one partition at a time, to start at an offset or to stop; a lane takes records
//! from the [`PartitionQueue`] that starting gave it, and is woken through a [`Wake`].

mod native;
mod stopped;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use laneway_core::{Position, TopicPartition};

use crate::record::Batch;

pub(crate) use native::{MakeClient, NativeFetcher};

/// The queue that starting a partition gave.
pub type Started = Result<Box<dyn PartitionQueue>, FetchError>;

/// Those that were started.
pub(crate) fn started(all: &[(TopicPartition, Started)]) -> impl Iterator<Item = TopicPartition> {
    all.iter().filter(|(_, started)| started.is_ok()).map(|(partition, _)| partition.clone())
}

/// Where a partition is to be started, as one of several.
#[non_exhaustive]
pub struct FetchStart {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset.
    pub from: Position,
    /// It brings little: it need not be asked for more often than there is something.
    pub is_quiet: bool,
    /// Called when there is something to take.
    pub wake: Wake,
}

/// Called when a queue that was empty is no longer. May be called from any thread, with locks of the
/// fetcher's held: it may only wake.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Fetches records of the partitions that it is told to.
///
/// Called on the client thread, so nothing here may block for long. There is at most one
/// [`PartitionQueue`] of a partition at a time: the caller drops the old one before it starts anew.
pub trait Fetcher: Send {
    /// Starts fetching `partition` at `from`. Nothing is fetched before the returned queue can take it.
    ///
    /// # Errors
    /// When the partition's queue can't be made or the fetch can't be started. Then nothing was started.
    fn start(&mut self, partition: &TopicPartition, from: Position, wake: Wake) -> Started;

    /// Starts several partitions at once. Answers for each, in any order: one that can't be started keeps no other from
    /// it.
    fn start_all(&mut self, starts: Vec<FetchStart>) -> Vec<(TopicPartition, Started)> {
        let start = |FetchStart { partition, from, wake, .. }: FetchStart| {
            let started = self.start(&partition, from, wake);
            (partition, started)
        };
        starts.into_iter().map(start).collect()
    }

    /// Stops fetching `partitions`. What was fetched and not taken is thrown away.
    ///
    /// # Errors
    /// When the client refuses. The partitions may then still be fetched.
    fn stop(&mut self, partitions: &[TopicPartition]) -> Result<(), FetchError>;

    /// These topics were deleted and made again: what is known of the old ones is to go. Answers with the partitions, of any
    /// topic, that must be started again for that. Until they are, they are fetched as before.
    fn forget(&mut self, topics: &BTreeSet<String>) -> BTreeSet<TopicPartition> {
        let _ = topics;
        BTreeSet::new()
    }

    /// What is being fetched, as the client itself says.
    fn fetching(&self) -> Vec<TopicPartition>;

    /// Serves the main queue, which is expected to deliver no records. Called at least every 100 ms.
    fn poll(&mut self) -> Vec<FetcherEvent>;
}

/// What a fetcher's main queue brought.
#[derive(Debug, Clone)]
pub enum FetcherEvent {
    /// A record that went round its partition's queue.
    Stray {
        /// The record's partition.
        partition: TopicPartition,
        /// The record's offset.
        offset: i64,
    },
    /// An error of the client, such as a broker that can't be reached.
    Error(FetchError),
    /// The client's statistics, in JSON.
    Statistics(String),
}

/// The records of one partition, as they come.
pub trait PartitionQueue: Send {
    /// Takes up to `max` records, and does not wait for any.
    fn take(&mut self, max: usize) -> Taken;

    /// How many records wait to be taken, as far as that is known. The budget of memory learns from it.
    fn waiting(&self) -> usize {
        0
    }
}

/// What was taken from a queue.
#[derive(Debug, Default)]
pub struct Taken {
    /// Records in the order of their offsets; none if there were none.
    pub batch: Option<Batch>,
    /// The offset up to which the log was read, where its end was reached behind these records: the
    /// lane's position, also where markers or compaction left no record.
    pub end: Option<i64>,
    /// These records reach up to the log's end, as far as was known when the last of them was fetched: `end` may follow.
    /// Only who reads next is decided by it.
    pub is_last: bool,
    /// Why the queue ended behind these records. Nothing more comes from it: the lane must be started
    /// anew. What the client may have fetched past the error is not delivered.
    pub error: Option<FetchError>,
}

/// Why fetching failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FetchError {
    /// What kind of failure it is.
    pub kind: FetchErrorKind,
    /// What the client said, and about what.
    pub message: String,
}

/// What kind of failure a [`FetchError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchErrorKind {
    /// The offset is not in the log: below its start, or above its end.
    OffsetOutOfRange,
    /// The log was truncated below the offset, and what was read ends at this one. It may have grown again since.
    Truncated(i64),
    /// A batch is damaged, or can't be decompressed.
    Damaged,
    /// The topic or partition is unknown to the brokers.
    UnknownPartition,
    /// Reading is not allowed, or the credentials are wrong.
    Refused,
    /// No broker can be reached.
    BrokersDown,
    /// Anything else, which is tried again.
    Other,
}

impl FetchError {
    /// A failure of `kind`.
    pub fn new(kind: FetchErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FetchError {}
