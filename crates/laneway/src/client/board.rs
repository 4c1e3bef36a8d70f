//! What the client thread shows of itself: read by `status()` without asking anyone.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use laneway_core::{LaneId, LaneStage};

use crate::lane::{LaneShared, MemoryStatus};
use crate::status::{LaneState, LaneStatus, Status};

/// Written by the client thread, read by handles.
#[derive(Debug, Default)]
pub(crate) struct Board {
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) member_id: String,
    pub(crate) lanes: Vec<ShownLane>,
    pub(crate) rebalances: u64,
    /// Records finished by lanes that have ended.
    pub(crate) finished_before: u64,
    pub(crate) strays: u64,
    pub(crate) last_commit: Option<Instant>,
    pub(crate) rebalancing: bool,
    pub(crate) detached: u64,
    pub(crate) memory: MemoryStatus,
}

#[derive(Debug)]
pub(crate) struct ShownLane {
    pub(crate) id: LaneId,
    pub(crate) stage: LaneStage,
    pub(crate) committed: Option<i64>,
    pub(crate) shared: Option<Arc<LaneShared>>,
    pub(crate) paused: bool,
}

impl Board {
    pub(crate) fn show(&self, shown: Shown) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    pub(crate) fn status(&self) -> Status {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let lanes: Vec<LaneStatus> = shown.lanes.iter().map(ShownLane::status).collect();
        Status {
            member_id: shown.member_id.clone(),
            rebalances: shown.rebalances,
            finished: shown.finished_before + lanes.iter().map(|lane| lane.finished).sum::<u64>(),
            strays: shown.strays,
            last_commit: shown.last_commit.map(|at| at.elapsed()),
            rebalancing: shown.rebalancing,
            detached: shown.detached,
            memory: shown.memory,
            lanes,
        }
    }
}

impl ShownLane {
    fn status(&self) -> LaneStatus {
        let shared = self.shared.as_deref();
        let end = shared.map(|shared| shared.end.load(Ordering::Relaxed)).filter(|end| *end >= 0);
        let watermark = shared.map(|shared| shared.watermark().offset);
        let end = end.zip(watermark).map(|(end, watermark)| end.max(watermark));
        LaneStatus {
            lane: self.id.clone(),
            state: match self.stage {
                LaneStage::Starting => LaneState::Starting,
                LaneStage::Running => LaneState::Running,
                LaneStage::Draining => LaneState::Draining,
                LaneStage::Cancelling => LaneState::Cancelling,
            },
            paused: self.paused,
            committed: self.committed,
            watermark,
            position: shared.map(LaneShared::position),
            end,
            lag: end.zip(watermark).map(|(end, watermark)| end - watermark),
            in_flight: shared.map_or(0, LaneShared::in_flight),
            forgotten: shared.map_or(0, |shared| shared.forgotten.load(Ordering::Relaxed)),
            waiting: shared.map_or(0, LaneShared::waiting),
            stalled: shared.map_or(0, LaneShared::stalled),
            finished: shared.map_or(0, LaneShared::finished),
        }
    }
}
