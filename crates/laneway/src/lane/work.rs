//! How the records of all lanes are worked on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::attempt::panic_text;
use super::failures::Failures;
use super::{Limit, Memory};
use crate::dead_letters::Letters;
use crate::failures::Bucket;
use crate::hooks::Hooks;
use crate::ordering::{KeyOf, Keyless, Ordering};
use crate::record::Record;
use crate::retry_topics::RetryTopics;

/// Shared by all lanes of a consumer.
pub(crate) struct Work {
    pub(crate) ordering: Ordering,
    pub(crate) keyless: Keyless,
    pub(crate) key_of: Option<KeyOf>,
    pub(crate) limit: Arc<Limit>,
    /// Records that could run, and are read ahead for that.
    pub(crate) read_ahead: usize,
    pub(crate) memory: Arc<Memory>,
    pub(crate) failures: Failures,
    pub(crate) letters: Option<Arc<Letters>>,
    pub(crate) retries: RetryTopics,
    pub(crate) guard: Option<Bucket>,
    pub(crate) hooks: Option<Arc<dyn Hooks>>,
    /// After how long a handler is told of that is still at a record.
    pub(crate) stall_after: Duration,
    /// How long it may be at one.
    pub(crate) stall: Option<Duration>,
}

impl Work {
    /// Calls `with` with what tells which records keep their order with this one; `None`: none does.
    ///
    /// An error: the user's key function panicked.
    #[inline]
    pub(crate) fn with_key<R>(
        &self,
        record: &Record,
        with: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, String> {
        let keyless = match self.keyless {
            Keyless::Unordered => None,
            Keyless::OneKey => Some(KEYLESS),
        };
        Ok(match (self.ordering, &self.key_of) {
            (Ordering::Partition, _) => with(Some(b"")),
            (Ordering::Unordered, _) => with(None),
            (Ordering::Key, None) => with(record.key().or(keyless)),
            (Ordering::Key, Some(key_of)) => {
                let key = catch_unwind(AssertUnwindSafe(|| key_of(record)));
                with(key.map_err(|panic| panic_text(&*panic))?.as_deref().or(keyless))
            }
        })
    }
}

/// Stands for all records without a key. That a real key is the same costs them nothing but side by side.
const KEYLESS: &[u8] = b"\xfflaneway: no key";
