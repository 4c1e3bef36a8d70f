//! The bench's native calls: the clock of CPU, the bare batch call, and an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::CString;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka_sys as rd;

use crate::Failure;

/// The CPU that this process has used so far, in all of its threads.
pub(crate) fn process_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a place for the time. The call cannot fail with this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A queue of a consumer, read with `rd_kafka_consume_batch_queue` and nothing else.
pub(crate) struct BareQueue<'a> {
    queue: *mut rd::rd_kafka_queue_t,
    messages: Vec<*mut rd::rd_kafka_message_t>,
    _consumer: &'a BaseConsumer,
}

impl<'a> BareQueue<'a> {
    /// The queue that everything comes to which is assigned.
    pub(crate) fn of_consumer(consumer: &'a BaseConsumer) -> Self {
        // SAFETY: the consumer lives longer than the queue, which is given back once.
        let queue = unsafe { rd::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        Self::new(queue, consumer)
    }

    /// The queue of one partition, split off.
    pub(crate) fn of_partition(
        consumer: &'a BaseConsumer,
        topic: &str,
        partition: i32,
    ) -> Result<Self, Failure> {
        let name = CString::new(topic)?;
        // SAFETY: as above; the name lives through the call, and the queue that is answered is ours.
        let queue = unsafe {
            let client = consumer.client().native_ptr();
            let queue = rd::rd_kafka_queue_get_partition(client, name.as_ptr(), partition);
            if queue.is_null() {
                return Err(format!("{topic}-{partition} has no queue").into());
            }
            rd::rd_kafka_queue_forward(queue, ptr::null_mut());
            queue
        };
        Ok(Self::new(queue, consumer))
    }

    fn new(queue: *mut rd::rd_kafka_queue_t, consumer: &'a BaseConsumer) -> Self {
        Self { queue, messages: vec![ptr::null_mut(); BATCH], _consumer: consumer }
    }

    /// Takes a batch, waiting up to `timeout` until it is full, and destroys it. Gives the partitions of its
    /// records to `each`, and answers how many there were.
    pub(crate) fn take(&mut self, timeout: Duration, mut each: impl FnMut(i32)) -> Result<usize, Failure> {
        let timeout = i32::try_from(timeout.as_millis())?;
        // SAFETY: the queue is valid, and there is room for as many messages as is said.
        let count = unsafe {
            rd::rd_kafka_consume_batch_queue(self.queue, timeout, self.messages.as_mut_ptr(), BATCH)
        };
        let count = usize::try_from(count).map_err(|_| "the batch call failed")?;
        let mut failed = None;
        for message in self.messages.iter().take(count) {
            // SAFETY: the call has put in as many messages, which are ours, and each is destroyed once.
            unsafe {
                let code = ptr::addr_of!((**message).err).cast::<i32>().read();
                if code == 0 {
                    each((**message).partition);
                } else {
                    failed = Some(code);
                }
                rd::rd_kafka_message_destroy(*message);
            }
        }
        match failed {
            Some(code) => Err(format!("the batch call brought error {code}").into()),
            None => Ok(count),
        }
    }
}

impl Drop for BareQueue<'_> {
    fn drop(&mut self) {
        // SAFETY: ours, and given back once, before the consumer goes.
        unsafe { rd::rd_kafka_queue_destroy(self.queue) };
    }
}

/// The system's allocator, which counts what Rust code asks it for, once it is told to.
pub(crate) struct Counting;

/// What was allocated since counting began.
#[derive(Clone, Copy)]
pub(crate) struct Allocated {
    /// How often.
    pub(crate) times: u64,
    /// Bytes that are held, of those.
    pub(crate) bytes: i64,
}

/// Counts from now on.
pub(crate) fn count_allocations() {
    COUNTS.store(true, Ordering::SeqCst);
}

pub(crate) fn allocated() -> Allocated {
    Allocated { times: TIMES.load(Ordering::SeqCst), bytes: BYTES.load(Ordering::SeqCst) }
}

static COUNTS: AtomicBool = AtomicBool::new(false);
static TIMES: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicI64 = AtomicI64::new(0);

fn count(times: u64, bytes: i64) {
    if COUNTS.load(Ordering::Relaxed) {
        TIMES.fetch_add(times, Ordering::Relaxed);
        BYTES.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller keeps to the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// Messages that are taken at once, at most: as many as a lane takes.
const BATCH: usize = 256;
