//! Queues, and being told when one is no longer empty.

use std::ffi::c_void;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka_sys::{
    rd_kafka_queue_cb_event_enable, rd_kafka_queue_destroy, rd_kafka_queue_length, rd_kafka_queue_poll,
    rd_kafka_queue_t, rd_kafka_t,
};

use super::client::Client;
use super::error::KafkaError;
use super::event::{Event, GroupOffset, NativeEvent};
use crate::fetcher::Wake;

/// A queue of events.
#[derive(Debug)]
pub(crate) struct Queue(RawQueue);

/// A handle of a native queue of a consumer's.
#[derive(Debug)]
pub(super) struct RawQueue {
    // In this order: a queue goes before the client that it belongs to.
    queue: WakingQueue,
    client: Arc<Client>,
}

/// A handle of a native queue, and the wake-up callback that was set through it.
///
/// Handles of one native queue share its one callback: what is set last holds, and dropping any of them
/// switches it off.
pub(super) struct WakingQueue {
    queue: NonNull<rd_kafka_queue_t>,
    /// What the callback points to, made by `Box::into_raw`.
    wake: Mutex<Option<NonNull<Wake>>>,
}

// SAFETY: every native call on a queue takes the queue's own lock, and none is bound to a thread; what the
// callback points to is `Send` and `Sync`, and its place here is behind a lock.
unsafe impl Send for WakingQueue {}
// SAFETY: as above.
unsafe impl Sync for WakingQueue {}

impl Queue {
    pub(super) fn new(queue: RawQueue) -> Self {
        Self(queue)
    }

    /// Takes the next event, if there is one.
    pub(crate) fn poll(&self) -> Option<NativeEvent> {
        // SAFETY: the queue is live, and the event that a poll answers with is ours.
        let event = unsafe { Event::from_raw(rd_kafka_queue_poll(self.0.as_ptr(), 0)) };
        event.map(|event| event.read())
    }

    /// Takes the next event of a queue that is for committed offsets with their metadata: see
    /// [`Client::list_group_offsets`].
    pub(crate) fn poll_group_offsets(&self) -> Option<Result<Vec<GroupOffset>, KafkaError>> {
        // SAFETY: as in `poll`.
        let event = unsafe { Event::from_raw(rd_kafka_queue_poll(self.0.as_ptr(), 0)) };
        event.and_then(|event| event.group_offsets())
    }

    /// Has `wake` called whenever the queue was empty and no longer is: from now on, so poll once after.
    pub(crate) fn on_ready(&self, wake: Wake) {
        self.0.on_ready(wake);
    }

    pub(super) fn as_ptr(&self) -> *mut rd_kafka_queue_t {
        self.0.as_ptr()
    }
}

impl RawQueue {
    /// Takes a queue over.
    ///
    /// # Safety
    /// `queue` came from a call of `client`'s that gives it away, and is not destroyed by anyone else.
    pub(super) unsafe fn new(queue: NonNull<rd_kafka_queue_t>, client: Arc<Client>) -> Self {
        // SAFETY: by this function's contract; the client goes after the queue.
        Self { queue: unsafe { WakingQueue::new(queue) }, client }
    }

    pub(super) fn as_ptr(&self) -> *mut rd_kafka_queue_t {
        self.queue.as_ptr()
    }

    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// How much waits in it.
    pub(super) fn length(&self) -> usize {
        // SAFETY: the queue is live.
        unsafe { rd_kafka_queue_length(self.as_ptr()) }
    }

    pub(super) fn on_ready(&self, wake: Wake) {
        self.queue.on_ready(wake);
    }
}

impl WakingQueue {
    /// Takes a queue over.
    ///
    /// # Safety
    /// `queue` came from a call that gives it away, is not destroyed by anyone else, and its client lives longer.
    pub(super) unsafe fn new(queue: NonNull<rd_kafka_queue_t>) -> Self {
        Self { queue, wake: Mutex::new(None) }
    }

    pub(super) fn as_ptr(&self) -> *mut rd_kafka_queue_t {
        self.queue.as_ptr()
    }

    pub(super) fn on_ready(&self, wake: Wake) {
        let new = Box::into_raw(Box::new(wake));
        let mut current = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the queue is live, and `new` stays allocated until another callback has taken its place
        // or none has, both of which end only when no call of this one runs: see `free`.
        unsafe { rd_kafka_queue_cb_event_enable(self.as_ptr(), Some(woken), new.cast()) };
        let old = std::mem::replace(&mut *current, NonNull::new(new));
        drop(current);
        free(old);
    }
}

impl Drop for WakingQueue {
    fn drop(&mut self) {
        // SAFETY: the queue is live; without a callback the pointer is not looked at. It is our handle, and
        // this is its end; the native queue lives on while the client uses it.
        unsafe {
            rd_kafka_queue_cb_event_enable(self.as_ptr(), None, ptr::null_mut());
            rd_kafka_queue_destroy(self.as_ptr());
        }
        free(self.wake.get_mut().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl fmt::Debug for WakingQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Queue").field(&self.queue).finish()
    }
}

/// Frees what a callback pointed to. To be called after that callback was replaced or switched off.
fn free(wake: Option<NonNull<Wake>>) {
    if let Some(wake) = wake {
        // SAFETY: the pointer came from `Box::into_raw` and is freed once, as it was taken out of its place.
        // librdkafka calls a callback with the queue's lock held (rdkafka_queue.h, `rd_kafka_q_io_event`),
        // and replaces it or switches it off under the same lock (rdkafka_queue.c,
        // `rd_kafka_q_cb_event_enable`). So when that returned, no call was running any more, and none will.
        drop(unsafe { Box::from_raw(wake.as_ptr()) });
    }
}

/// Called by librdkafka, from any of its threads, with the queue's lock held.
///
/// # Safety
/// `wake` points to a [`Wake`] that lives for the length of the call.
unsafe extern "C" fn woken(_rk: *mut rd_kafka_t, wake: *mut c_void) {
    // SAFETY: by this function's contract.
    let wake = unsafe { &*wake.cast_const().cast::<Wake>() };
    // A panic must not unwind into C.
    catch_unwind(AssertUnwindSafe(|| wake())).ok();
}
