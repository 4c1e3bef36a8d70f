//! What a handle asks of the client thread. Each question has its way back; one that is dropped unanswered says that
//! the consumer has ended.

use std::collections::BTreeMap;

use laneway_core::TopicPartition;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::sys::OffsetSpec;

/// The way back.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// An offset for each partition, where there is one.
pub(crate) type Offsets = BTreeMap<TopicPartition, Option<i64>>;

/// A question, or an order.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Commit what is finished, now.
    Commit(Answer<()>),
    /// Lanes are to begin nothing new, or to go on.
    Pause(Vec<TopicPartition>, bool, Answer<()>),
    /// A lane is to go on elsewhere.
    Seek(TopicPartition, i64, Answer<()>),
    /// What the group committed.
    Committed(Vec<TopicPartition>, Answer<Offsets>),
    /// What is where in the logs.
    Offsets(Vec<(TopicPartition, OffsetSpec)>, Answer<Offsets>),
    /// Read other topics.
    Subscribe(Vec<String>, Answer<()>),
    /// The generation and the member id.
    Standing(Answer<(i32, String)>),
}
