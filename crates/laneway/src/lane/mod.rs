//! A lane: one task that owns a partition's queue, its bookkeeping and its handler, for one epoch.

mod quota;
mod shared;
mod streamed;
mod task;
mod window;

pub(crate) use quota::Quota;
pub(crate) use shared::{LaneShared, Order};
pub(crate) use streamed::Handed;
pub(crate) use task::{Backoff, Lane, LaneMessage, Tell};
pub(crate) use window::{Chunk, Window};

use std::time::Duration;

/// Records taken from a queue at once. A batch stays in memory while any of its records does.
const BATCH: usize = 256;
/// How long a lane sleeps at most before it looks at its queue and its orders again.
const FALLBACK_TICK: Duration = Duration::from_secs(1);
