//! Futures that run side by side in one task. Each has a place of its own that is used again and again, and a
//! waker of its own, so that only what was woken is polled: a future that is ready at its first poll costs no
//! allocation, and one that waits costs nothing while it does.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::LaneShared;
use super::attempt::caught;

pub(super) struct Slots<F> {
    slots: Vec<Slot<F>>,
    free: Vec<u32>,
    woken: Arc<Woken>,
    /// What was woken and is being polled.
    batch: Vec<u32>,
}

struct Slot<F> {
    future: Pin<Box<Option<F>>>,
    waker: Arc<SlotWaker>,
    cached: Waker,
}

struct Woken {
    list: Mutex<Vec<u32>>,
    lane: Arc<LaneShared>,
}

struct SlotWaker {
    woken: Arc<Woken>,
    at: u32,
    is_listed: AtomicBool,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_listed.swap(true, Ordering::AcqRel) {
            self.woken.list.lock().unwrap_or_else(PoisonError::into_inner).push(self.at);
            self.woken.lane.wake.notify_one();
        }
    }
}

impl<F: Future> Slots<F> {
    pub(super) fn new(lane: &Arc<LaneShared>) -> Self {
        let woken = Arc::new(Woken { list: Mutex::default(), lane: lane.clone() });
        Self { slots: Vec::new(), free: Vec::new(), woken, batch: Vec::new() }
    }

    /// Polls a new future once. Where it waits, answers the slot that it waits in.
    pub(super) fn start(&mut self, future: F) -> Result<F::Output, u32> {
        let at = self.free.pop().unwrap_or_else(|| self.add());
        self.slots[at as usize].future.set(Some(future));
        self.poll(at).ok_or(at)
    }

    /// Everything that was woken since this was last asked: to be polled, each with [`Slots::poll`].
    pub(super) fn take_woken(&mut self) -> Vec<u32> {
        let mut woken = std::mem::take(&mut self.batch);
        std::mem::swap(&mut woken, &mut self.woken.list.lock().unwrap_or_else(PoisonError::into_inner));
        woken
    }

    /// Gives the list back, so that its memory is used again.
    pub(super) fn give_back(&mut self, mut list: Vec<u32>) {
        list.clear();
        self.batch = list;
    }

    /// Polls what is in a slot; the slot is free again when it is ready. An empty one was woken late.
    pub(super) fn poll(&mut self, at: u32) -> Option<F::Output> {
        let slot = self.slots.get_mut(at as usize)?;
        // A wake from here on lists it again.
        slot.waker.is_listed.store(false, Ordering::Release);
        let future = slot.future.as_mut().as_pin_mut()?;
        match future.poll(&mut Context::from_waker(&slot.cached)) {
            Poll::Pending => None,
            Poll::Ready(output) => {
                slot.future.set(None);
                self.free.push(at);
                Some(output)
            }
        }
    }

    /// Drops what waits in a slot. An error: that panicked.
    pub(super) fn cancel(&mut self, at: usize) -> Result<(), String> {
        self.slots.get_mut(at).map_or(Ok(()), |slot| caught(|| slot.future.set(None)))
    }

    fn add(&mut self) -> u32 {
        let at = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let waker = Arc::new(SlotWaker { woken: self.woken.clone(), at, is_listed: AtomicBool::new(false) });
        let cached = Waker::from(waker.clone());
        self.slots.push(Slot { future: Box::pin(None), waker, cached });
        at
    }
}

/// Where a lane's task is dropped under it: one that panics at that is not to keep others from theirs.
impl<F> Drop for Slots<F> {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            caught(|| slot.future.set(None)).ok();
        }
    }
}
