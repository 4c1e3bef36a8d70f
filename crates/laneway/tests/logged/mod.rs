//! What is logged, kept.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Everything that was logged.
pub(crate) fn logs() -> MutexGuard<'static, String> {
    static LOGS: Mutex<String> = Mutex::new(String::new());
    LOGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps from now on what is logged.
pub(crate) fn keep() {
    tracing::subscriber::set_global_default(Keeper).expect("no subscriber but this one");
}

/// Keeps what is logged.
struct Keeper;

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl tracing::Subscriber for Keeper {
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
        let mut logs = logs();
        logs.push_str(&line.0);
        logs.push('\n');
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
