//! Lets go of what may hang in being destroyed, on threads of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Destroys things beside the client thread, and knows how many are still at it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reaper {
    busy: Arc<AtomicUsize>,
}

impl Reaper {
    /// Drops `thing` on a thread of its own.
    pub(crate) fn take<T: Send + 'static>(&self, thing: T) {
        self.run(move || drop(thing));
    }

    /// Runs what ends with things being destroyed.
    pub(crate) fn run(&self, reap: impl FnOnce() + Send + 'static) {
        self.busy.fetch_add(1, Ordering::AcqRel);
        let busy = self.busy.clone();
        let reap = move || {
            reap();
            busy.fetch_sub(1, Ordering::AcqRel);
        };
        // Where no thread can be made the closure is dropped here, and what it holds with it.
        if std::thread::Builder::new().name("laneway-reaper".into()).spawn(reap).is_err() {
            self.busy.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Waits until everything is destroyed, but not past `deadline`. Answers how many things are not.
    pub(crate) fn wait(&self, deadline: Instant) -> usize {
        loop {
            let busy = self.busy.load(Ordering::Acquire);
            if busy == 0 || Instant::now() >= deadline {
                return busy;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
