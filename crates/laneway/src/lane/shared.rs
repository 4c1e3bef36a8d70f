//! What a lane and the client thread know of each other without asking: atomics, one writer each.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use laneway_core::{LaneId, Position};
use tokio::sync::Notify;

use super::window::Window;

/// Shared by a lane and the client thread.
#[derive(Debug)]
pub(crate) struct LaneShared {
    pub(crate) id: LaneId,
    /// Wakes the lane: there are records, or an order.
    pub(crate) wake: Notify,
    order: AtomicU8,
    /// Until when a drain waits; set before the order is given.
    deadline: Mutex<Option<Instant>>,
    watermark: AtomicI64,
    watermark_epoch: AtomicI32,
    position: AtomicI64,
    /// A record is with the handler.
    busy: AtomicBool,
    finished: AtomicU64,
    /// The log's end as the broker last said; negative before it did.
    pub(crate) end: AtomicI64,
    /// What a streamed lane handed out: in place of the atomics above.
    window: OnceLock<Arc<Window>>,
}

/// What a lane is told to do. Only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    Run = 0,
    Drain = 1,
    Cancel = 2,
}

impl LaneShared {
    pub(crate) fn new(id: LaneId, start: Position) -> Self {
        Self {
            id,
            wake: Notify::new(),
            order: AtomicU8::new(Order::Run as u8),
            deadline: Mutex::new(None),
            watermark: AtomicI64::new(start.offset),
            watermark_epoch: AtomicI32::new(start.leader_epoch.unwrap_or(-1)),
            position: AtomicI64::new(start.offset),
            busy: AtomicBool::new(false),
            finished: AtomicU64::new(0),
            end: AtomicI64::new(-1),
            window: OnceLock::new(),
        }
    }

    pub(crate) fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::Run,
            1 => Order::Drain,
            _ => Order::Cancel,
        }
    }

    pub(crate) fn give(&self, order: Order, deadline: Instant) {
        if let Ok(mut slot) = self.deadline.lock() {
            *slot = Some(slot.map_or(deadline, |earlier| earlier.min(deadline)));
        }
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        self.wake.notify_one();
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline.lock().ok().and_then(|slot| *slot).unwrap_or_else(Instant::now)
    }

    /// What may be committed. A leader epoch that is newer than its offset does no harm, an older one looks
    /// like a truncation: so it is written before the offset, and read after it.
    pub(crate) fn watermark(&self) -> Position {
        if let Some(window) = self.window.get() {
            return window.watermark();
        }
        let offset = self.watermark.load(Ordering::Acquire);
        let epoch = self.watermark_epoch.load(Ordering::Relaxed);
        Position { offset, leader_epoch: (epoch >= 0).then_some(epoch) }
    }

    /// Makes the lane a streamed one, whose acks come from elsewhere.
    pub(crate) fn stream_from(&self, start: Position) -> Arc<Window> {
        self.window.get_or_init(|| Window::new(self.id.partition.clone(), start)).clone()
    }

    pub(crate) fn publish(&self, watermark: Position, position: i64) {
        self.watermark_epoch.store(watermark.leader_epoch.unwrap_or(-1), Ordering::Relaxed);
        self.watermark.store(watermark.offset, Ordering::Release);
        self.position.store(position, Ordering::Relaxed);
    }

    pub(crate) fn position(&self) -> i64 {
        self.window.get().map_or_else(|| self.position.load(Ordering::Relaxed), |window| window.position())
    }

    /// A record goes to the handler.
    pub(crate) fn begin(&self, position: i64) {
        self.position.store(position, Ordering::Relaxed);
        self.set_busy(true);
    }

    pub(crate) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.window.get().map_or_else(|| u64::from(self.busy.load(Ordering::Relaxed)), |window| window.out())
    }

    pub(crate) fn finished(&self) -> u64 {
        self.window.get().map_or_else(|| self.finished.load(Ordering::Relaxed), |window| window.finished())
    }

    /// Only the lane itself counts.
    pub(crate) fn count_finished(&self) {
        self.finished.store(self.finished() + 1, Ordering::Relaxed);
    }
}
