//! A lane of a run: one record at a time, in order.

use crate::tracker::{Ticket, Tracker};
use crate::types::{LaneId, Position};

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: LaneId,
    pub(super) partition: i32,
    pub(super) tracker: Tracker,
    pub(super) in_flight: Option<Handler>,
    /// It takes nothing new.
    pub(super) drains: bool,
    /// What it still finishes does not count.
    pub(super) cancelled: bool,
    /// A record was left unfinished.
    pub(super) unfinished: bool,
    /// Its end is on its way.
    pub(super) ends: bool,
    /// Its queue failed: nothing comes of it.
    pub(super) failed: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Handler {
    pub(super) offset: i64,
    pub(super) ticket: Ticket,
    /// Which of the process's handler calls it is.
    pub(super) serial: u64,
    /// It goes on although it was cancelled.
    pub(super) deaf: bool,
}

impl Lane {
    pub(super) fn new(id: LaneId, at: Position) -> Self {
        Self {
            partition: id.partition.partition,
            id,
            tracker: Tracker::new(at),
            in_flight: None,
            drains: false,
            cancelled: false,
            unfinished: false,
            ends: false,
            failed: false,
        }
    }
}
