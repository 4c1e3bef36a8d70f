//! One walk through a history: each event against the state that the earlier ones have made.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use laneway_core::{Epoch, LaneId, TopicPartition};

use super::records::{LaneNumber, Records};
use super::silence::Listener;
use super::{Expect, Invariant, Report, What};

pub(super) struct Walk<'a> {
    expect: &'a Expect,
    report: Report,
    begin: Duration,
    now: Duration,
    /// A lane was opened.
    listening: bool,
    partitions: HashMap<TopicPartition, Partition>,
    killed: HashSet<Arc<str>>,
    /// Lanes that are lost in the end. Who is frozen hears of it late: until then others may have begun.
    lost_in_the_end: HashSet<(Arc<str>, LaneId)>,
}

pub(super) struct Partition {
    records: Records,
    /// All records are known, not only those that were begun.
    complete: bool,
    lanes: Vec<Lane>,
    numbers: HashMap<(Arc<str>, Epoch), LaneNumber>,
    /// What was committed, at the most.
    committed: i64,
    /// What commits said was finished above that.
    ahead: BTreeSet<i64>,
    silence: Listener,
}

struct Lane {
    member: Arc<str>,
    epoch: Epoch,
    opened: bool,
    ended: Option<Ended>,
    /// Records that handlers work on.
    running: BTreeMap<i64, Run>,
    /// The last record that was begun, of each order.
    last: HashMap<usize, i64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Revoked,
    Lost,
    Killed,
}

struct Run {
    /// It is a repeat, and was counted as one.
    counted: bool,
}

impl Partition {
    pub(super) fn new(records: Records, complete: bool) -> Self {
        let committed = records.start();
        Self {
            records,
            complete,
            lanes: Vec::new(),
            numbers: HashMap::new(),
            committed,
            ahead: BTreeSet::new(),
            silence: Listener::new(),
        }
    }

    fn lane(&mut self, member: &Arc<str>, epoch: Epoch) -> LaneNumber {
        *self.numbers.entry((Arc::clone(member), epoch)).or_insert_with(|| {
            self.lanes.push(Lane {
                member: Arc::clone(member),
                epoch,
                opened: false,
                ended: None,
                running: BTreeMap::new(),
                last: HashMap::new(),
            });
            self.lanes.len() - 1
        })
    }

    fn is_committed(&self, offset: i64) -> bool {
        offset < self.committed || self.ahead.contains(&offset)
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        expect: &'a Expect,
        begin: Duration,
        partitions: HashMap<TopicPartition, Partition>,
        lost_in_the_end: HashSet<(Arc<str>, LaneId)>,
    ) -> Self {
        Self {
            expect,
            report: Report::default(),
            begin,
            now: Duration::ZERO,
            listening: false,
            partitions,
            killed: HashSet::new(),
            lost_in_the_end,
        }
    }

    pub(super) fn step(&mut self, at: Duration, what: &What) {
        self.now = at.saturating_sub(self.begin);
        match what {
            What::Produced { partition, offset, .. } => self.produced(partition, *offset),
            What::Begun { member, lane, offset } => self.begun(member, lane, *offset),
            What::Finished { member, lane, offset } => self.finished(member, lane, *offset),
            What::Cancelled { member, lane, offset } => {
                if let Some(partition) = self.partitions.get_mut(&lane.partition) {
                    let number = partition.lane(member, lane.epoch);
                    partition.lanes[number].running.remove(offset);
                }
            }
            What::Committed { member, partition, offset, ahead } => {
                self.committed(member, partition, *offset, ahead)
            }
            What::Assigned { member, lane } => self.assigned(member, lane),
            What::Revoked { member, lane } => self.ended(member, lane, Ended::Revoked),
            What::Lost { member, lane } => self.ended(member, lane, Ended::Lost),
            What::Killed { member } => self.killed(member),
            What::Stray { member, partition, offset } => {
                self.report.counts.strays += 1;
                let now = self.now;
                self.report.add(Invariant::I6, || {
                    format!("{member} got offset {offset} of {partition} on a main queue, at {now:?}")
                });
            }
        }
    }

    /// What is left to say when the history is over.
    pub(super) fn end(mut self, at: Duration) -> Report {
        let now = at.saturating_sub(self.begin);
        let mut partitions: Vec<_> = self.partitions.into_iter().collect();
        partitions.sort_by(|a, b| a.0.cmp(&b.0));
        let invariant = if self.expect.may_crash { Invariant::I4 } else { Invariant::I3 };
        for (name, mut partition) in partitions {
            for record in partition.records.wanted() {
                self.report.counts.records += 1;
                if record.finished_by.is_some() {
                    self.report.counts.finished += 1;
                    continue;
                }
                let passed = record.offset < partition.committed;
                if passed || (self.expect.drained && partition.complete) {
                    self.report.counts.losses += 1;
                    let passed = if passed { ", though it was committed past" } else { "" };
                    let offset = record.offset;
                    self.report
                        .add(invariant, || format!("offset {offset} of {name} was never finished{passed}"));
                }
            }
            if self.listening && partition.complete {
                partition.silence.end(now);
                self.report.silences.insert(name, partition.silence.longest());
            }
        }
        self.report
    }

    fn produced(&mut self, name: &TopicPartition, offset: i64) {
        let Some(partition) = self.partitions.get_mut(name) else { return };
        let waits = partition.records.get(offset).is_some_and(|record| record.finished_by.is_none());
        if waits && offset >= partition.records.start() {
            partition.silence.produced(self.now);
        }
    }

    fn assigned(&mut self, member: &Arc<str>, lane: &LaneId) {
        if !self.listening {
            self.listening = true;
            for partition in self.partitions.values_mut() {
                partition.silence.begin(self.now);
            }
        }
        self.report.counts.lanes += 1;
        let Some(partition) = self.partitions.get_mut(&lane.partition) else { return };
        let number = partition.lane(member, lane.epoch);
        if std::mem::replace(&mut partition.lanes[number].opened, true) {
            let now = self.now;
            self.report.add(Invariant::History, || {
                format!("lane {lane} of {member} was opened a second time, at {now:?}")
            });
        }
    }

    fn begun(&mut self, member: &Arc<str>, lane: &LaneId, offset: i64) {
        let Some(partition) = self.partitions.get_mut(&lane.partition) else { return };
        let now = self.now;
        let report = &mut self.report;
        let number = partition.lane(member, lane.epoch);
        if self.killed.contains(member) {
            // Also in a lane that nobody had heard of.
            partition.lanes[number].ended.get_or_insert(Ended::Killed);
        }
        refuse_if_ended(report, &partition.lanes[number], lane, offset, "began", now);
        refuse_overlap(report, partition, number, lane, offset, self.expect.may_overlap, now);

        let Some(record) = partition.records.get(offset) else {
            report.add(Invariant::History, || {
                format!("{member} began offset {offset} of {lane} at {now:?}, which nobody is known to have produced")
            });
            partition.lanes[number].running.insert(offset, Run { counted: false });
            return;
        };
        let before = record.finished_by;
        if let Some(sequence) = record.sequence {
            refuse_disorder(report, partition, number, sequence, lane, offset, now);
            partition.lanes[number].last.insert(sequence, offset);
        }
        if let Some(before) = before {
            self.repeated(&lane.partition, before, number, offset);
        } else if offset < self.partitions[&lane.partition].records.start() {
            self.report.add(Invariant::I4, || {
                format!("{member} began offset {offset} of {lane} at {now:?}, before the offset it was to start at")
            });
        }
        if let Some(partition) = self.partitions.get_mut(&lane.partition) {
            partition.lanes[number].running.insert(offset, Run { counted: before.is_some() });
        }
    }

    fn finished(&mut self, member: &Arc<str>, lane: &LaneId, offset: i64) {
        let Some(partition) = self.partitions.get_mut(&lane.partition) else { return };
        let now = self.now;
        let number = partition.lane(member, lane.epoch);
        refuse_if_ended(&mut self.report, &partition.lanes[number], lane, offset, "finished", now);
        let run = partition.lanes[number].running.remove(&offset);
        let before = partition.records.get(offset).and_then(|record| record.finished_by);
        if let Some(before) = before
            && run.is_none_or(|run| !run.counted)
        {
            self.repeated(&lane.partition, before, number, offset);
        }
        if let Some(partition) = self.partitions.get_mut(&lane.partition) {
            let first = partition.records.finish(offset, number);
            partition.silence.finished(now, first);
        }
    }

    /// A record is run again, or was, by lane `again` after lane `before` had finished it.
    fn repeated(&mut self, name: &TopicPartition, before: LaneNumber, again: LaneNumber, offset: i64) {
        self.report.counts.duplicates += 1;
        let partition = &self.partitions[name];
        let (first, second) = (&partition.lanes[before], &partition.lanes[again]);
        let committed = partition.is_committed(offset);
        let is_lost_later = |lane: &Lane| {
            let id = LaneId { partition: name.clone(), epoch: lane.epoch };
            self.lost_in_the_end.contains(&(lane.member.clone(), id))
        };
        let is_over = matches!(first.ended, Some(Ended::Killed | Ended::Lost)) || is_lost_later(first);
        let excused = is_over && before != again;
        if self.expect.may_overlap && is_lost_later(second) {
            // It had been in its handler when the member was frozen.
            return;
        }
        if self.expect.may_crash && excused && !committed {
            return;
        }
        let why = match (committed, excused) {
            (true, _) => "it had been committed",
            (false, true) => "nothing was to crash here",
            (false, false) => "who had finished it had neither been killed nor lost the lane",
        };
        let invariant = if self.expect.may_crash && excused { Invariant::I4 } else { Invariant::I3 };
        let now = self.now;
        self.report.add(invariant, || {
            format!(
                "offset {offset} of {name} was run again by {} (epoch {}) at {now:?}, after {} (epoch {}) had \
                 finished it: {why}",
                second.member, second.epoch, first.member, first.epoch
            )
        });
    }

    fn committed(&mut self, member: &Arc<str>, name: &TopicPartition, offset: i64, ahead: &[i64]) {
        self.report.counts.commits += 1;
        let Some(partition) = self.partitions.get_mut(name) else { return };
        let now = self.now;
        if let Some(first) = partition.records.unfinished_below(offset) {
            self.report.add(Invariant::I1, || {
                format!(
                    "{member} committed {offset} for {name} at {now:?}, but offset {first} was not finished"
                )
            });
        }
        for above in ahead {
            if partition.records.get(*above).is_some_and(|record| record.finished_by.is_none()) {
                self.report.add(Invariant::I1, || {
                    format!(
                        "{member} committed for {name} at {now:?} that offset {above} is finished: it was not"
                    )
                });
            }
        }
        if offset < partition.committed && !self.expect.may_overlap {
            let most = partition.committed;
            self.report.add(Invariant::I2, || {
                format!(
                    "{member} committed {offset} for {name} at {now:?}, back from {most}: of an old epoch?"
                )
            });
        }
        partition.committed = partition.committed.max(offset);
        partition.ahead.extend(ahead);
        let still = partition.ahead.split_off(&partition.committed);
        partition.ahead = still;
    }

    fn ended(&mut self, member: &Arc<str>, lane: &LaneId, how: Ended) {
        let Some(partition) = self.partitions.get_mut(&lane.partition) else { return };
        let now = self.now;
        let number = partition.lane(member, lane.epoch);
        let ended = &mut partition.lanes[number];
        if let Some((offset, _)) = ended.running.first_key_value() {
            let word = if how == Ended::Lost { "lost" } else { "revoked" };
            let running = ended.running.len();
            self.report.add(Invariant::I2, || {
                format!("{member} still ran {running} records of {lane} when it was {word} at {now:?}: offset {offset}")
            });
        }
        ended.running.clear();
        ended.ended = Some(how);
    }

    fn killed(&mut self, member: &Arc<str>) {
        self.killed.insert(Arc::clone(member));
        for lane in self.partitions.values_mut().flat_map(|partition| &mut partition.lanes) {
            if lane.member == *member {
                lane.running.clear();
                // What it had given back with grace before, it had given back.
                lane.ended.get_or_insert(Ended::Killed);
            }
        }
    }
}

fn refuse_if_ended(report: &mut Report, lane: &Lane, id: &LaneId, offset: i64, did: &str, now: Duration) {
    let (invariant, how) = match lane.ended {
        None => return,
        Some(Ended::Revoked) => (Invariant::I2, "was revoked"),
        Some(Ended::Lost) => (Invariant::I2, "was lost"),
        Some(Ended::Killed) => (Invariant::History, "had ended with its member being killed"),
    };
    let member = &lane.member;
    report.add(invariant, || {
        format!("{member} {did} offset {offset} of {id} at {now:?}, after the lane {how}")
    });
}

fn refuse_overlap(
    report: &mut Report,
    partition: &Partition,
    number: LaneNumber,
    id: &LaneId,
    offset: i64,
    allowed: bool,
    now: Duration,
) {
    let mut others = partition.lanes.iter().enumerate();
    let Some((_, other)) = others.find(|(at, lane)| *at != number && !lane.running.is_empty()) else {
        return;
    };
    report.counts.overlaps += 1;
    let member = &partition.lanes[number].member;
    if allowed && other.member != *member {
        return;
    }
    let running = other.running.keys().next().copied().unwrap_or_default();
    report.add(Invariant::I2, || {
        format!(
            "{member} began offset {offset} of {id} at {now:?} while {} (epoch {}) worked on offset {running}",
            other.member, other.epoch
        )
    });
}

fn refuse_disorder(
    report: &mut Report,
    partition: &Partition,
    number: LaneNumber,
    sequence: usize,
    id: &LaneId,
    offset: i64,
    now: Duration,
) {
    let lane = &partition.lanes[number];
    let member = &lane.member;
    let of_same =
        |at: &&i64| partition.records.get(**at).is_some_and(|record| record.sequence == Some(sequence));
    let why = if let Some(running) = lane.running.keys().find(of_same) {
        format!("while offset {running}, of the same order, was being worked on")
    } else if let Some(last) = lane.last.get(&sequence).filter(|last| offset < **last) {
        format!("after offset {last} of the same order")
    } else if let Some(earlier) = partition.records.unfinished_before(offset) {
        format!("before offset {earlier} of the same order was finished")
    } else {
        return;
    };
    report.add(Invariant::I5, || format!("{member} began offset {offset} of {id} at {now:?}, {why}"));
}
