//! What happens to records that fail.

/// What happens to a record that is given up: by its handler, or after as many tries as are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GiveUp {
    /// It is written to the dead letter topic ([`Builder::dead_letters`]), and counts as finished when the brokers
    /// have it.
    ///
    /// [`Builder::dead_letters`]: crate::Builder::dead_letters
    DeadLetter,
    /// It counts as finished, and is told as an event.
    Skip,
    /// The consumer stops: what is in flight is finished, all before the record is committed, and the run ends with
    /// an error of the kind [`ErrorKind::GaveUp`](crate::ErrorKind::GaveUp) that names the record. It comes again.
    #[default]
    Stop,
}
