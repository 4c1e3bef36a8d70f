//! What is logged, kept.
#![allow(dead_code, reason = "each of the tests keeps it in one way")]

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Everything that was logged.
pub(crate) fn logs() -> MutexGuard<'static, String> {
    static LOGS: Mutex<String> = Mutex::new(String::new());
    LOGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps from now on what is logged.
pub(crate) fn keep() {
    keep_by(|line| {
        let mut logs = logs();
        logs.push_str(line);
        logs.push('\n');
    });
}

/// Likewise, in a file of which each line begins with the seconds since 1970.
pub(crate) fn keep_in(file: &Path) {
    let file = File::create(file).expect("a file for what is logged");
    keep_by(move |line| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // One write for each line: threads take turns by themselves.
        let _ = (&file).write_all(format!("{:.3} {line}\n", now.as_secs_f64()).as_bytes());
    });
}

fn keep_by(keep: impl Fn(&str) + Send + Sync + 'static) {
    tracing::subscriber::set_global_default(Keeper(keep)).expect("no subscriber but this one");
}

/// Keeps what is logged.
struct Keeper<F>(F);

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl<F: Fn(&str) + Send + Sync + 'static> tracing::Subscriber for Keeper<F> {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        (self.0)(&line.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
