//! A lane: one task that owns a partition's queue, its bookkeeping and its handler, for one epoch.

mod quota;
mod shared;
mod task;

pub(crate) use quota::Quota;
pub(crate) use shared::{LaneShared, Order};
pub(crate) use task::{Backoff, Lane, LaneMessage, Tell};
