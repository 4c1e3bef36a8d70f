//! What a lane tells the client thread, its end included.

use std::sync::Arc;
use std::time::Duration;

use laneway_core::{LaneId, Position};

use super::LaneShared;
use crate::fetcher::FetchError;

/// What a lane tells the client thread.
#[derive(Debug)]
pub(crate) enum LaneMessage {
    /// The lane's queue failed: it reads nothing more until it is opened again.
    QueueFailed(LaneId, FetchError),
    /// Something that people want to know of a record: it failed and is tried again, is skipped, takes long.
    Told(String),
    /// A record was given up, and the consumer is to stop for it.
    GaveUp(String),
    /// The handler is at a record for longer than is allowed.
    Stalled { lane: LaneId, offset: i64, key: Option<Vec<u8>>, age: Duration },
    /// The lane has ended: nothing of it is running, its queue is gone.
    Ended { lane: LaneId, watermark: Position, unfinished: u64, panicked: bool },
    /// The stream of the lane was dropped while the lane is to go on.
    LetGo(LaneId),
    /// As many records as wanted were finished.
    CountReached,
    /// The lane was told to drop its queue, and has.
    QueueClosed(LaneId),
    /// Something further back is to be read again.
    GoBack(LaneId),
    /// More may be fetched ahead than was thought: who reads must be looked at.
    Crowded,
}

/// Reaches the client thread.
pub(crate) type Tell = Arc<dyn Fn(LaneMessage) + Send + Sync>;

/// Says that the lane has ended, however it does: also when its runtime is shut down under it.
pub(super) struct EndGuard {
    shared: Arc<LaneShared>,
    tell: Tell,
}

impl EndGuard {
    pub(super) fn new(shared: &Arc<LaneShared>, tell: &Tell) -> Self {
        Self { shared: shared.clone(), tell: tell.clone() }
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        drop(self.shared.reading.take_given());
        (self.tell)(LaneMessage::Ended {
            lane: self.shared.id.clone(),
            watermark: self.shared.watermark(),
            unfinished: self.shared.in_flight(),
            panicked: std::thread::panicking(),
        });
    }
}
