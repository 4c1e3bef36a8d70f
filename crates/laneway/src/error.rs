//! What can go wrong for a consumer as a whole. What goes wrong with a record or a lane is an [`Event`].
//!
//! [`Event`]: crate::Event

use std::fmt;

/// Why a consumer could not be built, or ended.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// What kind of thing went wrong, and so what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is missing, malformed or contradicts another. Nothing was consumed.
    Config,
    /// A topic does not exist, and the consumer was to end by itself; or a partition that was assigned by hand does not.
    /// Nothing was consumed.
    MissingTopic,
    /// No broker was reached for 30 s after the start.
    NoBroker,
    /// Another member with the same `group.instance.id` took this one's place.
    Fenced,
    /// The broker refused the group, a topic or the credentials, or the group has another rebalance protocol.
    Refused,
    /// A partition has no committed offset, or one below its log's start, and [`OffsetReset::Error`] was asked for.
    ///
    /// [`OffsetReset::Error`]: crate::OffsetReset::Error
    NoOffset,
    /// A record was given up, and the consumer was to stop for it ([`GiveUp::Stop`](crate::GiveUp::Stop)).
    GaveUp,
    /// A handler was at a record for longer than is allowed, and the group was left for it
    /// ([`StallAction::Leave`](crate::StallAction::Leave)).
    Stalled,
    /// A partition is not (or no longer) assigned to this member, or the group does not know this member (yet).
    NotAssigned,
    /// A broker refused a question that a handle asked, or did not answer in time.
    Unanswered,
    /// A handle asked something of a consumer that does not run yet.
    NotRunning,
    /// The consumer ended before it could do what a handle asked of it.
    Ended,
    /// The client ended in a way that is beyond mending.
    Fatal,
}

impl Error {
    /// An error of `kind`; `message` says what was tried, with what, why it failed and what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
