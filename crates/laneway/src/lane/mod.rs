//! A lane: one task that owns a partition's queue, its bookkeeping and its handler, for one epoch.

mod appetite;
mod aside;
mod attempt;
mod delayed;
mod failures;
mod finished;
mod hooked;
mod limit;
mod memory;
mod message;
mod outcome;
mod quota;
mod reading;
mod shared;
mod slots;
mod stalls;
mod streamed;
mod task;
mod unit;
mod window;
mod work;

use appetite::Appetite;
pub(crate) use attempt::panic_text;
pub(crate) use failures::{Failures, Tried};
pub(crate) use finished::Finished;
pub(crate) use hooked::watched;
pub(crate) use limit::Limit;
pub use memory::MemoryStatus;
pub(crate) use memory::{Held, Memory, NATIVE, Prefetch};
pub(crate) use message::{LaneMessage, Tell};
pub(crate) use quota::Quota;
pub(crate) use reading::{Change, Reading};
pub(crate) use shared::{LaneShared, Order};
pub(crate) use stalls::shown_key;
pub(crate) use streamed::Handed;
pub(crate) use task::Lane;
pub(crate) use window::{Chunk, Window};
pub(crate) use work::Work;

use std::time::Duration;

/// How long a lane sleeps at most before it looks at its queue and its orders again.
const FALLBACK_TICK: Duration = Duration::from_secs(1);
