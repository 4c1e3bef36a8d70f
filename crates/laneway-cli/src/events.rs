//! `--events`: what happens, one JSON object a line, as docs/COMMAND.md has it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use laneway::{Event, LaneId, TopicPartition};
use serde_json::{Map, Value, json};

use crate::stderr::say;

/// Where events are written.
pub(crate) struct Events {
    to: To,
    member: String,
    /// Writing failed, and that was said.
    failed: Mutex<bool>,
}

enum To {
    Nowhere,
    Stderr,
    File(File),
}

impl Events {
    pub(crate) fn nowhere() -> Self {
        Self::new(To::Nowhere, String::new())
    }

    pub(crate) fn to_stderr(member: String) -> Self {
        Self::new(To::Stderr, member)
    }

    /// Appends to a file, which is made if it is not there.
    pub(crate) fn to_file(path: &Path, member: String) -> Result<Self, String> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|error| format!("events file {}: {error}", path.display()))?;
        Ok(Self::new(To::File(file), member))
    }

    fn new(to: To, member: String) -> Self {
        Self { to, member, failed: Mutex::new(false) }
    }

    /// Writes an event, if it is one of those.
    pub(crate) fn write(&self, event: &Event) {
        if let Some((name, fields)) = fields(event) {
            self.line(name, fields);
        }
    }

    /// Writes an `error` event.
    pub(crate) fn error(&self, message: &str) {
        self.line("error", json!({ "message": message }));
    }

    fn line(&self, name: &str, fields: Value) {
        let mut object = Map::new();
        object.insert("time".into(), now().into());
        object.insert("member".into(), self.member.as_str().into());
        object.insert("event".into(), name.into());
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        let line = format!("{}\n", Value::Object(object));
        let written = match &self.to {
            To::Nowhere => Ok(()),
            To::Stderr => std::io::stderr().write_all(line.as_bytes()),
            // One write: several processes may append to one file.
            To::File(file) => (&mut &*file).write_all(line.as_bytes()),
        };
        if let (Err(error), Ok(mut failed)) = (written, self.failed.lock())
            && !std::mem::replace(&mut *failed, true)
        {
            say(&format!("an event could not be written: {error}"));
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
    fn times_have_microseconds_and_end_in_z() {
        let now = now();
        assert!(now.ends_with('Z') && now.len() == "2026-11-24T08:39:21.000000Z".len(), "{now}");
    }
}
