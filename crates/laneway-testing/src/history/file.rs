//! The file form: one event a line, its fields separated by tabs.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use laneway_core::{Epoch, LaneId, TopicPartition};

use super::{Event, What};
use crate::Error;

/// An event's line, with its end.
pub(super) fn line(event: &Event) -> String {
    let mut line = event.at.as_nanos().to_string();
    let mut put = |field: &dyn std::fmt::Display| {
        let _ = write!(line, "\t{field}");
    };
    match &event.what {
        What::Produced { partition, offset, key } => {
            put(&"produced");
            put(&partition.topic);
            put(&partition.partition);
            put(offset);
            match key {
                Some(key) => put(key),
                None => put(&"-"),
            }
        }
        What::Begun { member, lane, offset } => on_record(&mut put, "begun", member, lane, *offset),
        What::Finished { member, lane, offset } => on_record(&mut put, "finished", member, lane, *offset),
        What::Cancelled { member, lane, offset } => on_record(&mut put, "cancelled", member, lane, *offset),
        What::Assigned { member, lane } => on_lane(&mut put, "assigned", member, lane),
        What::Revoked { member, lane } => on_lane(&mut put, "revoked", member, lane),
        What::Lost { member, lane } => on_lane(&mut put, "lost", member, lane),
        What::Committed { member, partition, offset, ahead } => {
            put(&"committed");
            put(&plain(member));
            put(&partition.topic);
            put(&partition.partition);
            put(offset);
            put(&ahead.iter().map(i64::to_string).collect::<Vec<_>>().join(","));
        }
        What::Killed { member } => {
            put(&"killed");
            put(&plain(member));
        }
        What::Stray { member, partition, offset } => {
            put(&"stray");
            put(&plain(member));
            put(&partition.topic);
            put(&partition.partition);
            put(offset);
        }
    }
    line.push('\n');
    line
}

type Put<'a> = dyn FnMut(&dyn std::fmt::Display) + 'a;

fn on_lane(put: &mut Put<'_>, word: &str, member: &str, lane: &LaneId) {
    put(&word);
    put(&plain(member));
    put(&lane.partition.topic);
    put(&lane.partition.partition);
    put(&lane.epoch.0);
}

fn on_record(put: &mut Put<'_>, word: &str, member: &str, lane: &LaneId, offset: i64) {
    on_lane(put, word, member, lane);
    put(&offset);
}

/// Topics' names have no tabs in Kafka; members' are ours to keep so.
fn plain(member: &str) -> String {
    member.replace(['\t', '\n', '\r'], " ")
}

/// Reads all lines of a file; a last one without its end is passed over.
pub(super) fn read(path: &Path) -> Result<Vec<Event>, Error> {
    let failed = |why: String| Error::new(format!("history {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    whole
        .lines()
        .enumerate()
        .map(|(at, line)| {
            event(line).ok_or_else(|| failed(format!("line {} is not an event: {line:?}", at + 1)))
        })
        .collect()
}

fn event(line: &str) -> Option<Event> {
    let mut fields = line.split('\t');
    let at = Duration::from_nanos(fields.next()?.parse().ok()?);
    let word = fields.next()?;
    let mut next = || fields.next();
    let what = match word {
        "produced" => What::Produced {
            partition: partition(&mut next)?,
            offset: number(&mut next)?,
            key: match next()? {
                "-" => None,
                key => Some(key.parse().ok()?),
            },
        },
        "begun" => What::Begun { member: next()?.into(), lane: lane(&mut next)?, offset: number(&mut next)? },
        "finished" => {
            What::Finished { member: next()?.into(), lane: lane(&mut next)?, offset: number(&mut next)? }
        }
        "cancelled" => {
            What::Cancelled { member: next()?.into(), lane: lane(&mut next)?, offset: number(&mut next)? }
        }
        "assigned" => What::Assigned { member: next()?.into(), lane: lane(&mut next)? },
        "revoked" => What::Revoked { member: next()?.into(), lane: lane(&mut next)? },
        "lost" => What::Lost { member: next()?.into(), lane: lane(&mut next)? },
        "killed" => What::Killed { member: next()?.into() },
        "stray" => What::Stray {
            member: next()?.into(),
            partition: partition(&mut next)?,
            offset: number(&mut next)?,
        },
        "committed" => What::Committed {
            member: next()?.into(),
            partition: partition(&mut next)?,
            offset: number(&mut next)?,
            ahead: numbers(next()?)?,
        },
        _ => return None,
    };
    next().is_none().then_some(Event { at, what })
}

fn partition<'a>(next: &mut impl FnMut() -> Option<&'a str>) -> Option<TopicPartition> {
    Some(TopicPartition::new(next()?, next()?.parse().ok()?))
}

fn lane<'a>(next: &mut impl FnMut() -> Option<&'a str>) -> Option<LaneId> {
    Some(LaneId { partition: partition(next)?, epoch: Epoch(next()?.parse().ok()?) })
}

fn number<'a>(next: &mut impl FnMut() -> Option<&'a str>) -> Option<i64> {
    next()?.parse().ok()
}

fn numbers(list: &str) -> Option<Vec<i64>> {
    if list.is_empty() {
        return Some(Vec::new());
    }
    list.split(',').map(|n| n.parse().ok()).collect()
}
