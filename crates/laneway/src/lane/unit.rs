//! What is worked on at once: a record, or a batch of them.

use std::time::Duration;

use laneway_core::{Place, Ticket};

use super::Held;
use super::failures::Tried;
use crate::record::Record;

/// A record on its way through the lane.
pub(super) struct Item {
    pub(super) record: Record,
    pub(super) ticket: Ticket,
    /// It counts among those that are handed out, where their number is limited.
    pub(super) is_counted: bool,
    pub(super) tried: Option<Box<Tried>>,
}

impl Item {
    /// What it takes of the budget.
    pub(super) fn cost(&self) -> u64 {
        self.record.cost()
    }

    /// Copies the record out of what it was fetched with, and counts the difference in what the lane holds.
    pub(super) fn detach(&mut self, held: &mut Held) {
        let cost = self.cost();
        self.record = self.record.detached();
        held.bytes = held.bytes - cost + self.cost();
    }
}

/// Records that are worked on together, and where each belongs.
pub(super) enum Unit {
    One(Item, Place),
    Many(Vec<(Item, Place)>),
    /// It is on its way to the dead letters, or to a retry topic.
    Letter(Item, Place),
}

/// A unit that did not finish at once.
pub(super) struct Call {
    pub(super) unit: Unit,
    pub(super) since: Duration,
    /// How often it was told that it takes long.
    pub(super) told: u32,
    /// It was told that it takes longer than is allowed.
    pub(super) is_stalled: bool,
}

impl Unit {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(..) | Self::Letter(..) => 1,
            Self::Many(items) => items.len(),
        }
    }

    pub(super) fn is_letter(&self) -> bool {
        matches!(self, Self::Letter(..))
    }

    pub(super) fn first(&self) -> Option<&Record> {
        match self {
            Self::One(item, _) | Self::Letter(item, _) => Some(&item.record),
            Self::Many(items) => items.first().map(|(item, _)| &item.record),
        }
    }
}
