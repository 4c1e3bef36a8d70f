//! What a history is held against.

use std::collections::HashMap;

use laneway_core::TopicPartition;

/// In which order records were to be run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// One after the other in each partition.
    Partition,
    /// One after the other for each key of a partition; records without a key are in none.
    Key,
    /// In any.
    Any,
}

/// What is to be expected of a history.
#[derive(Clone, Debug)]
pub struct Expect {
    pub(super) order: Order,
    pub(super) may_crash: bool,
    pub(super) may_overlap: bool,
    pub(super) drained: bool,
    pub(super) starts: HashMap<TopicPartition, i64>,
}

impl Expect {
    /// Members come and go with grace, in time, and everything is finished in the end: no record comes twice, and
    /// none is lost. Order: per partition.
    pub fn graceful() -> Self {
        Self {
            order: Order::Partition,
            may_crash: false,
            may_overlap: false,
            drained: true,
            starts: HashMap::new(),
        }
    }

    /// Members are killed, or lose partitions: a record may come again if it was not committed and whoever had
    /// finished it was killed or had lost the lane. None is lost. Order: per partition.
    pub fn crashes() -> Self {
        Self { may_crash: true, ..Self::graceful() }
    }

    /// The order that was asked of the consumer.
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Two members may be seen working on one partition, as when one is frozen and the group goes on without it.
    /// They are still counted.
    pub fn overlaps_allowed(mut self) -> Self {
        self.may_overlap = true;
        self
    }

    /// The history ends before everything was finished: then lost is only what was committed past and never
    /// finished.
    pub fn not_drained(mut self) -> Self {
        self.drained = false;
        self
    }

    /// The offset from which on a partition was to be read. Without this, from the first that was produced.
    pub fn starting_at(mut self, partition: &TopicPartition, offset: i64) -> Self {
        self.starts.insert(partition.clone(), offset);
        self
    }
}
