//! Partitions that are assigned by hand, to a consumer without a group.

use std::collections::BTreeMap;

use laneway_core::TopicPartition;

use crate::error::{Error, ErrorKind};

/// Where a partition begins that is assigned by hand: see [`Builder::assign`](crate::Builder::assign).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At the beginning of its log.
    Beginning,
    /// At the end of its log, as it is when the consumer starts.
    End,
    /// At this offset. One that is not in the log is dealt with as
    /// [`Builder::offset_reset`](crate::Builder::offset_reset) says.
    Offset(i64),
    /// At the first record whose timestamp, in milliseconds since 1970, is not below this one; at the end where there is
    /// no such record.
    Time(i64),
}

/// A fixed assignment.
pub(crate) type Assigned = BTreeMap<TopicPartition, Start>;

/// What is to be read, if it can be.
pub(crate) fn checked(given: &[(TopicPartition, Start)]) -> Result<Assigned, Error> {
    let mut assigned = Assigned::new();
    for (partition, start) in given {
        let refuse =
            |why: String| Err(Error::new(ErrorKind::Config, format!("{partition} can't be assigned: {why}")));
        if partition.topic.starts_with('^') {
            return refuse("a regular expression has no partitions; give the topic's name".into());
        }
        if partition.partition < 0 {
            return refuse("partitions are numbered from 0".into());
        }
        match start {
            Start::Offset(offset) if *offset < 0 => {
                return refuse(format!("{offset} is not an offset to start at: 0 is the lowest"));
            }
            Start::Time(time) if *time < 0 => {
                return refuse(format!("{time} is not a time to start at: it is below 0"));
            }
            _ => {}
        }
        if assigned.insert(partition.clone(), *start).is_some() {
            return refuse("it is given twice".into());
        }
    }
    Ok(assigned)
}

/// Librdkafka assigns nothing to a client without a `group.id`, so there is one: nobody ever joins it, and nothing is
/// committed to it.
pub(crate) const NATIVE_GROUP: &str = "laneway-without-a-group";
