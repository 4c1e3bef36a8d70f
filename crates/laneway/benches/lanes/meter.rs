//! From when to when a child is measured: time, and the CPU of the whole process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::stats::Figures;
use crate::{Failure, sys};

/// A point in time, and the CPU that the process had used by then.
#[derive(Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) at: Instant,
    pub(crate) cpu: Duration,
}

impl Stamp {
    pub(crate) fn now() -> Self {
        Self { at: Instant::now(), cpu: sys::process_cpu() }
    }
}

/// Begins at the first record, or at the opening of the gate, and ends when the last reader has its last record.
pub(crate) struct Meter {
    readers: AtomicUsize,
    begun: OnceLock<Stamp>,
    ended: Mutex<Option<Stamp>>,
    end: Condvar,
}

impl Meter {
    pub(crate) fn new(readers: usize) -> Self {
        let (begun, ended, end) = (OnceLock::new(), Mutex::default(), Condvar::new());
        Self { readers: AtomicUsize::new(readers), begun, ended, end }
    }

    pub(crate) fn begin(&self) {
        self.begun.get_or_init(Stamp::now);
    }

    /// One of the readers has all of its records.
    pub(crate) fn one_is_done(&self) {
        if self.readers.fetch_sub(1, Ordering::AcqRel) == 1 {
            let stamp = Stamp::now();
            *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamp);
            self.end.notify_all();
        }
    }

    /// Waits for the end.
    pub(crate) fn wait(&self, records: u64) -> Result<Figures, Failure> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.end.wait_timeout_while(ended, PATIENCE, |ended| ended.is_none());
        let (ended, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let ended = (*ended).ok_or_else(|| format!("not all records came within {PATIENCE:?}"))?;
        let begun = self.begun.get().ok_or("it ended before it began")?;
        let seconds = (ended.at - begun.at).as_secs_f64();
        let cpu = (ended.cpu - begun.cpu).as_secs_f64();
        Ok(Figures::from([
            ("records/s".into(), records as f64 / seconds),
            ("ns/record".into(), cpu * 1e9 / records as f64),
            ("cores".into(), cpu / seconds),
        ]))
    }
}

/// Waits until this process does nothing any more: everything that was to be fetched ahead is there. One that others
/// keep from running is not quiet: it would get some of the time.
pub(crate) fn wait_until_quiet() -> Result<(), Failure> {
    let started = Instant::now();
    let mut quiet = 0;
    while quiet < QUIET_LOOKS {
        if started.elapsed() > PATIENCE {
            return Err(format!("the process was busy for {PATIENCE:?}").into());
        }
        let before = sys::process_cpu();
        std::thread::sleep(LOOK);
        quiet = if sys::process_cpu() - before < QUIET { quiet + 1 } else { 0 };
    }
    Ok(())
}

/// Waits until the CPU that the process uses no longer falls: what was to be done once is done.
pub(crate) fn wait_until_still() -> Result<(), Failure> {
    std::thread::sleep(Duration::from_secs(1));
    let mut last = f64::INFINITY;
    for _ in 0..60 {
        let before = sys::process_cpu();
        std::thread::sleep(Duration::from_secs(1));
        let now = (sys::process_cpu() - before).as_secs_f64();
        if now > last * 0.8 {
            return Ok(());
        }
        last = now;
    }
    Err("the process did not come to rest within a minute".into())
}

/// Waits for a condition.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), Failure> {
    let started = Instant::now();
    while !holds() {
        if started.elapsed() > PATIENCE {
            return Err(format!("waited for {PATIENCE:?} until {what}").into());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(200);
/// CPU in one look.
const QUIET: Duration = Duration::from_millis(6);
const QUIET_LOOKS: u32 = 4;
