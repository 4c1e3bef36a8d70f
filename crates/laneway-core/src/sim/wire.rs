//! What members' clients and the coordinator say to each other.

use std::fmt;
use std::time::Duration;

/// Virtual time, from the start of the run.
pub(super) type Time = Duration;

/// A member id as the broker knows it.
pub(super) type Id = u32;

/// No member id.
pub(super) const NOBODY: Id = 0;

/// One client's connection to the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Conn {
    /// Which process of the run.
    pub(super) host: usize,
    /// Which of its clients.
    pub(super) client: u32,
}

#[derive(Debug, Clone)]
pub(super) enum Request {
    Join {
        id: Id,
        owned: Parts,
        generation: i32,
    },
    Sync {
        id: Id,
        generation: i32,
    },
    Heartbeat {
        id: Id,
        generation: i32,
    },
    Leave {
        id: Id,
    },
    Commit {
        token: u64,
        id: Id,
        generation: i32,
        offsets: Vec<(i32, i64)>,
    },
    /// KIP-848's heartbeat: epoch 0 joins, −1 leaves; `owned` where it acknowledges.
    Reconcile {
        id: Id,
        epoch: i32,
        owned: Option<Parts>,
    },
}

#[derive(Debug, Clone)]
pub(super) enum Response {
    Joined { id: Id, generation: i32, refusal: Option<Refusal> },
    Synced(Result<Parts, Refusal>),
    Heartbeat(Result<(), Refusal>),
    Left,
    Committed { token: u64, result: Result<(), Refusal> },
    Reconciled(Result<(i32, Option<Parts>), Refusal>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    UnknownMember,
    IllegalGeneration,
    RebalanceInProgress,
    MemberIdRequired,
    StaleEpoch,
    FencedEpoch,
    /// Of a commit: one of its partitions is refused, and the others are taken.
    Partition,
    /// The coordinator is not there.
    Unavailable,
}

/// A set of partitions: at most 32.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Parts(u32);

impl Parts {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn first(count: i32) -> Self {
        (0..count).collect()
    }

    pub(super) fn contains(self, partition: i32) -> bool {
        self.0 & (1 << partition) != 0
    }

    pub(super) fn insert(&mut self, partition: i32) {
        self.0 |= 1 << partition;
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = i32> {
        (0..32).filter(move |partition| self.contains(*partition))
    }
}

impl FromIterator<i32> for Parts {
    fn from_iter<I: IntoIterator<Item = i32>>(partitions: I) -> Self {
        let mut parts = Self::NONE;
        partitions.into_iter().for_each(|partition| parts.insert(partition));
        parts
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
