//! In which order records are handled.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::record::Record;

/// Which records of a partition are handled in their order, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Ordering {
    /// All of them, as Kafka orders them: one record of a partition is in flight at a time.
    #[default]
    Partition,
    /// Those of one key; records of different keys are handled side by side.
    Key,
    /// None: any record may be handled beside any other.
    Unordered,
}

/// What becomes of records that have no key, with [`Ordering::Key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Keyless {
    /// They are handled in no order. As producers spread them over partitions, they have none.
    #[default]
    Unordered,
    /// Those of one partition are handled in their order, as if they had one key.
    OneKey,
}

/// Tells a record's key.
pub(crate) type KeyOf = Arc<dyn for<'a> Fn(&'a Record) -> Option<Cow<'a, [u8]>> + Send + Sync>;

impl FromStr for Ordering {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "partition" => Ok(Self::Partition),
            "key" => Ok(Self::Key),
            "unordered" => Ok(Self::Unordered),
            _ => Err(format!("\"{s}\" is not an ordering: partition, key or unordered")),
        }
    }
}

impl fmt::Display for Ordering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Partition => "partition",
            Self::Key => "key",
            Self::Unordered => "unordered",
        })
    }
}
