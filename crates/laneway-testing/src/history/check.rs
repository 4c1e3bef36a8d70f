//! The check of a history: what there is to finish is gathered first, then the history is walked through once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use laneway_core::{LaneId, TopicPartition};

use super::records::Records;
use super::walk::{Partition, Walk};
use super::{Expect, History, Report, What};

/// Holds a history against what is to be expected.
///
/// What is to be finished is what was recorded as produced; for a partition of which nothing was, what any handler
/// began, and then a loss can't be seen.
pub fn check(history: &History, expect: &Expect) -> Report {
    let events = history.events();
    let begin = events.first().map_or(Duration::ZERO, |event| event.at);
    let mut walk = Walk::new(expect, begin, partitions(history, expect), lost_in_the_end(history));
    for event in events {
        walk.step(event.at, &event.what);
    }
    walk.end(events.last().map_or(begin, |event| event.at))
}

fn lost_in_the_end(history: &History) -> HashSet<(Arc<str>, LaneId)> {
    let lost = |what: &What| match what {
        What::Lost { member, lane } => Some((member.clone(), lane.clone())),
        _ => None,
    };
    history.events().iter().filter_map(|event| lost(&event.what)).collect()
}

fn partitions(history: &History, expect: &Expect) -> HashMap<TopicPartition, Partition> {
    let mut produced: HashMap<&TopicPartition, Vec<(i64, Option<u64>)>> = HashMap::new();
    let mut begun: HashMap<&TopicPartition, Vec<(i64, Option<u64>)>> = HashMap::new();
    let mut named: HashSet<&TopicPartition> = HashSet::new();
    for event in history.events() {
        let partition = match &event.what {
            What::Produced { partition, offset, key } => {
                produced.entry(partition).or_default().push((*offset, *key));
                partition
            }
            What::Begun { lane, offset, .. } | What::Finished { lane, offset, .. } => {
                begun.entry(&lane.partition).or_default().push((*offset, None));
                &lane.partition
            }
            What::Cancelled { lane, .. }
            | What::Assigned { lane, .. }
            | What::Revoked { lane, .. }
            | What::Lost { lane, .. } => &lane.partition,
            What::Committed { partition, .. } | What::Stray { partition, .. } => partition,
            What::Killed { .. } => continue,
        };
        named.insert(partition);
    }
    named
        .into_iter()
        .map(|partition| {
            let known = produced.remove(partition);
            let complete = known.is_some();
            let found = known.or_else(|| begun.remove(partition)).unwrap_or_default();
            let records = Records::new(found, expect.starts.get(partition).copied(), expect.order);
            (partition.clone(), Partition::new(records, complete))
        })
        .collect()
}
