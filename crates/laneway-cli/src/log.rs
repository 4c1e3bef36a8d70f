//! What librdkafka logs, on standard error: as much of it as `LANEWAY_LOG` asks for, and never a flood.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::stderr::say;

/// Listens to the log from now on.
///
/// # Errors
/// Names what `LANEWAY_LOG` says and may say.
pub(crate) fn start() -> Result<(), String> {
    let asked = std::env::var("LANEWAY_LOG").unwrap_or_default();
    let is_asked_for = !asked.is_empty();
    let level = if is_asked_for { asked.parse() } else { Ok(LevelFilter::ERROR) };
    let level = level.map_err(|_| "LANEWAY_LOG: debug, info, warn, error or off is wanted")?;
    let log = Log { level, is_asked_for, told: Mutex::default() };
    // There is no other one.
    tracing::subscriber::set_global_default(log).ok();
    Ok(())
}

struct Log {
    level: LevelFilter,
    is_asked_for: bool,
    /// For each kind of line, when it was told, and how many have been left out since.
    told: Mutex<HashMap<String, (Option<Instant>, u64)>>,
}

impl Log {
    /// How many of its kind were left out, if this one is to be told.
    fn admits(&self, kind: &str, now: Instant) -> Option<u64> {
        if !self.is_asked_for && SAID_ANYWAY.contains(&kind) {
            return None;
        }
        if self.level >= LevelFilter::INFO {
            return Some(0);
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, left_out) = told.entry(kind.to_owned()).or_default();
        if at.is_some_and(|at| now.saturating_duration_since(at) < AT_MOST_EVERY) {
            *left_out += 1;
            return None;
        }
        *at = Some(now);
        Some(std::mem::take(left_out))
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        if let Some(left_out) = self.admits(&line.facility, Instant::now()) {
            let more = if left_out > 0 { format!(" ({left_out} more like it)") } else { String::new() };
            say(&format!("{} {}: {}{more}", event.metadata().target(), line.facility, line.text));
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    facility: String,
    text: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "facility" {
            self.facility = value.to_owned();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.text = format!("{value:?}").replace(['\n', '\r'], " ");
        }
    }
}

/// Connections that fail: the command says so itself, and no more than once a minute.
const SAID_ANYWAY: &[&str] = &["FAIL", "ERROR"];
const AT_MOST_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_line_is_told_once_a_minute_with_how_many_were_left_out() {
        let log = Log { level: LevelFilter::ERROR, is_asked_for: true, told: Mutex::default() };
        let now = Instant::now();
        assert_eq!(log.admits("FAIL", now), Some(0));
        assert_eq!(log.admits("CERT", now), Some(0));
        assert_eq!(log.admits("FAIL", now + Duration::from_secs(1)), None);
        assert_eq!(log.admits("FAIL", now + Duration::from_secs(59)), None);
        assert_eq!(log.admits("FAIL", now + Duration::from_secs(60)), Some(2));
        assert_eq!(log.admits("FAIL", now + Duration::from_secs(121)), Some(0));
        let unasked = Log { is_asked_for: false, ..log };
        assert_eq!(unasked.admits("FAIL", now + Duration::from_secs(999)), None);
    }
}
