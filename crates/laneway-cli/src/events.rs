//! `--events`: what happens, one JSON object a line, as docs/COMMAND.md has it.

use std::fs::OpenOptions;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use laneway::{Event, LaneId, TopicPartition};
use serde_json::{Map, Value, json};

use crate::shown::shown_path;
use crate::stderr::{self, say};
use crate::writer::Writer;

/// Where events are written. An event is written when [`Events::write`] returns, while the reader reads: one that does
/// not is waited for no longer than a [`Writer`] waits.
pub(crate) struct Events {
    to: To,
    member: String,
    /// Events that were dropped, and of which that was not told yet.
    dropped: Mutex<u64>,
}

enum To {
    Nowhere,
    Stderr,
    File(Writer),
}

impl Events {
    pub(crate) fn nowhere() -> Self {
        Self::new(To::Nowhere, String::new())
    }

    pub(crate) fn to_stderr(member: String) -> Self {
        Self::new(To::Stderr, member)
    }

    /// Appends to a file, which is made if it is not there. A pipe may be opened by its reader later.
    pub(crate) fn to_file(path: &Path, member: String) -> Result<Self, String> {
        let failed = |error| format!("events file {}: {error}", shown_path(path));
        let open = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
        let is_pipe = std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
        let (opened, later) =
            (if is_pipe { None } else { Some(open(path).map_err(failed)?) }, path.to_owned());
        let said = AtomicBool::new(false);
        let say_once = move |error: std::io::Error| {
            if !said.swap(true, Ordering::Relaxed) {
                say(&format!("an event could not be written: {error}"));
            }
        };
        let writer = Writer::start(move || opened.map_or_else(|| open(&later), Ok), say_once);
        Ok(Self::new(To::File(writer.map_err(failed)?), member))
    }

    fn new(to: To, member: String) -> Self {
        Self { to, member, dropped: Mutex::new(0) }
    }

    /// Writes an event, if it is one of those.
    pub(crate) fn write(&self, event: &Event) {
        if let Some((name, fields)) = fields(event) {
            // The last event comes, whatever is dropped.
            self.line(name, fields, matches!(event, Event::Stopped { .. }));
        }
    }

    /// Writes an `error` event.
    pub(crate) fn error(&self, message: &str) {
        self.line("error", json!({ "message": message }), false);
    }

    /// To be called before the process ends.
    pub(crate) fn flush(&self) {
        if let To::File(writer) = &self.to {
            writer.flush();
        }
    }

    fn line(&self, name: &str, fields: Value, keep: bool) {
        if matches!(self.to, To::Nowhere) {
            return;
        }
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        if *dropped > 0 {
            let message =
                format!("{dropped} events were dropped here, as what was written before was not read");
            if self.put("error", json!({ "message": message }), keep) {
                *dropped = 0;
            }
        }
        // What comes behind a gap comes behind the word about it.
        if *dropped > 0 || !self.put(name, fields, keep) {
            *dropped += 1;
        }
    }

    fn put(&self, name: &str, fields: Value, keep: bool) -> bool {
        let mut object = Map::new();
        object.insert("time".into(), now().into());
        object.insert("member".into(), self.member.as_str().into());
        object.insert("event".into(), name.into());
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        let line = format!("{}\n", Value::Object(object)).into_bytes();
        match &self.to {
            To::Nowhere => true,
            To::Stderr => stderr::write(line, keep),
            To::File(writer) => writer.write(line, keep),
        }
    }
}

fn fields(event: &Event) -> Option<(&'static str, Value)> {
    Some(match event {
        Event::Assigned { lanes } => {
            let lanes: Vec<Value> = lanes
                .iter()
                .map(|start| {
                    let mut lane = lane(&start.lane);
                    lane["offset"] = start.offset.into();
                    lane
                })
                .collect();
            ("assigned", json!({ "partitions": lanes }))
        }
        Event::Revoked { lanes, drained, drain } => (
            "revoked",
            json!({ "partitions": all(lanes), "drained": drained, "drain_ms": millis(drain.as_millis()) }),
        ),
        Event::Lost { lanes, reason } => ("lost", json!({ "partitions": all(lanes), "reason": reason })),
        Event::Committed { offsets } => {
            let offsets: Vec<Value> = offsets
                .iter()
                .map(|(TopicPartition { topic, partition }, offset)| {
                    json!({ "topic": &**topic, "partition": partition, "offset": offset })
                })
                .collect();
            ("committed", json!({ "offsets": offsets }))
        }
        Event::CommitFailed { error } => ("commit_failed", json!({ "error": error })),
        Event::Stray { partition, offset } => (
            "stray",
            json!({ "topic": &*partition.topic, "partition": partition.partition, "offset": offset }),
        ),
        Event::Error { message } => ("error", json!({ "message": message })),
        Event::Stopped { reason } => ("stopped", json!({ "reason": reason })),
        _ => return None,
    })
}

fn all(lanes: &[LaneId]) -> Vec<Value> {
    lanes.iter().map(lane).collect()
}

fn lane(lane: &LaneId) -> Value {
    json!({
        "topic": &*lane.partition.topic,
        "partition": lane.partition.partition,
        "epoch": lane.epoch.0,
    })
}

fn millis(millis: u128) -> u64 {
    u64::try_from(millis).unwrap_or(u64::MAX)
}

/// Now, in UTC, with six digits of a second.
fn now() -> String {
    DateTimePrinter::new().precision(Some(6)).timestamp_to_string(&Timestamp::now())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::time::Duration;

    use laneway::Epoch;

    use super::*;

    #[test]
    fn an_event_has_what_the_contract_says() {
        let lane = LaneId { partition: TopicPartition::new("orders", 3), epoch: Epoch(7) };
        let revoked = Event::Revoked { lanes: vec![lane], drained: true, drain: Duration::from_millis(12) };
        let (name, value) = fields(&revoked).unwrap();
        assert_eq!(name, "revoked");
        let partitions = json!([{"topic":"orders","partition":3,"epoch":7}]);
        assert_eq!(value, json!({"partitions": partitions, "drained": true, "drain_ms": 12}));
    }

    #[test]
    fn events_that_nobody_read_are_dropped_at_last_and_counted_where_they_are_missing() {
        let (reader, writer) = std::io::pipe().unwrap();
        let open = move || Ok(std::fs::File::from(std::os::fd::OwnedFd::from(writer)));
        let writer = Writer::start(open, |error| panic!("{error}")).unwrap();
        let events = Events::new(To::File(writer), "m".into());
        let long = "x".repeat(1024 * 1024);
        for _ in 0..20 {
            events.error(&long);
        }
        events.write(&Event::Stopped { reason: "asked".into() });
        let told: Vec<Value> = std::io::BufRead::lines(std::io::BufReader::new(reader))
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
            .take_while(|event: &Value| event["event"] != "stopped")
            .collect();
        // They all wait for a reader that comes now.
        let (last, kept) = told.split_last().unwrap();
        assert!(kept.iter().all(|event| event["message"] == long.as_str()));
        let dropped = 20 - kept.len();
        assert!((10..20).contains(&dropped), "{dropped}");
        assert!(
            last["message"].as_str().unwrap().starts_with(&format!("{dropped} events were dropped")),
            "{last}"
        );
    }

    #[test]
    fn times_have_microseconds_and_end_in_z() {
        let now = now();
        assert!(now.ends_with('Z') && now.len() == "2026-11-24T08:39:21.000000Z".len(), "{now}");
    }
}
