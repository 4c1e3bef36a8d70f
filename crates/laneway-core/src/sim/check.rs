//! What must be true of a run, watched as it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::broker::Taken;
use super::wire::{Conn, Parts};
use super::{Conditions, Summary};
use crate::types::Epoch;

#[derive(Debug)]
pub(super) struct Check {
    graceful: bool,
    parts: Vec<Part>,
    /// Every lane that was ever opened.
    opened: BTreeSet<(usize, Epoch)>,
    /// What each lane was given, up to behind its last record.
    given: BTreeMap<(usize, Epoch), i64>,
    /// The first thing that was not true.
    pub(super) failure: Option<String>,
    pub(super) summary: Summary,
}

#[derive(Debug, Default)]
struct Part {
    /// What the broker has; 0 where nothing is committed.
    committed: i64,
    /// Whoever committed that did not know that the group had gone on: no loss, but its new owner does not
    /// know of it.
    behind_its_back: bool,
    /// Such a commit set the offset back: what follows it comes again, and need not be committed in the end.
    was_set_back: bool,
    /// Processes whose lane here was excused, until they open another.
    excused: BTreeSet<usize>,
    /// By offset: how often a handler began with it.
    started: Vec<u32>,
    finished: Vec<bool>,
    first_unfinished: i64,
    lanes: Vec<Active>,
}

/// A lane whose handler may be running.
#[derive(Debug, Clone, Copy)]
struct Active {
    host: usize,
    epoch: Epoch,
    /// Its member lost the partition in a way that it could not know of, or the lane can't be ended.
    excused: bool,
    /// It could not be ended, and was left behind.
    detached: bool,
}

/// What the broker knows of a member that opens a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Title {
    pub(super) is_member: bool,
    /// It can't know that its client has joined again since the last event. It can know it when it commits.
    pub(super) is_misled: bool,
    pub(super) owner: Option<Conn>,
}

impl Check {
    pub(super) fn new(conditions: Conditions, partitions: i32) -> Self {
        let parts = (0..partitions).map(|_| Part::default()).collect();
        let graceful = conditions == Conditions::Graceful;
        Self {
            graceful,
            parts,
            opened: BTreeSet::new(),
            given: BTreeMap::new(),
            failure: None,
            summary: Summary::default(),
        }
    }

    pub(super) fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(what());
        }
    }

    fn require(&mut self, is_true: bool, what: impl FnOnce() -> String) {
        if !is_true {
            self.fail(what);
        }
    }

    fn part(&mut self, partition: i32) -> &mut Part {
        &mut self.parts[partition.unsigned_abs() as usize]
    }

    pub(super) fn opened(&mut self, conn: Conn, epoch: Epoch, partition: i32, offset: i64, title: Title) {
        let Conn { host, .. } = conn;
        let committed = self.part(partition).committed;
        let is_judged = title.is_member && !title.is_misled;
        let owns = is_judged && title.owner == Some(conn);
        let lanes = self.part(partition).lanes.clone();
        let again = lanes.iter().any(|lane| lane.host == host && lane.epoch == epoch);
        self.require(!again, || format!("m{host} opened t-{partition}@{epoch} twice"));
        let other = lanes.iter().find(|lane| !lane.excused);
        if is_judged {
            self.require(owns || title.owner.is_none(), || {
                format!("m{host} opened t-{partition}, which is another's: {:?}", title.owner)
            });
            self.require(other.is_none(), || {
                format!("I2: m{host} opened t-{partition}@{epoch} while {other:?} works on it")
            });
        }
        self.given.insert((host, epoch), offset);
        let is_restart = !self.opened.insert((host, epoch));
        if owns {
            let known = offset == committed || (is_restart && offset > committed);
            let behind_its_back = self.part(partition).behind_its_back;
            self.require(known || behind_its_back, || {
                format!("I4: m{host} opened t-{partition}@{epoch} at {offset}, committed is {committed}")
            });
        }
        if !title.is_member {
            self.part(partition).excused.insert(host);
        } else {
            self.part(partition).excused.remove(&host);
        }
        let excused = !is_judged;
        self.part(partition).lanes.push(Active { host, epoch, excused, detached: false });
    }

    pub(super) fn ended(&mut self, host: usize, epoch: Epoch, partition: i32) {
        self.part(partition).lanes.retain(|lane| (lane.host, lane.epoch) != (host, epoch));
    }

    pub(super) fn started(&mut self, host: usize, epoch: Epoch, partition: i32, offset: i64) {
        let graceful = self.graceful;
        let part = self.part(partition);
        let index = usize::try_from(offset).unwrap_or(0);
        if part.started.len() <= index {
            part.started.resize(index + 1, 0);
            part.finished.resize(index + 1, false);
        }
        part.started[index] += 1;
        let times = part.started[index];
        let committed = if part.behind_its_back { 0 } else { part.committed };
        let lane = part.lanes.iter().find(|lane| (lane.host, lane.epoch) == (host, epoch)).copied();
        self.given.insert((host, epoch), offset + 1);
        self.summary.repeats += u64::from(times > 1);
        self.summary.records += u64::from(times == 1);
        self.require(!graceful || times == 1, || {
            format!("I3: m{host} was given t-{partition}:{offset}, which was handled before")
        });
        let Some(lane) = lane else {
            self.fail(|| format!("I2: m{host} works on t-{partition}@{epoch}, which has ended"));
            return;
        };
        self.require(lane.excused || offset >= committed, || {
            format!("I4: m{host} was given t-{partition}:{offset}, committed is {committed}")
        });
    }

    pub(super) fn finished(&mut self, partition: i32, offset: i64) {
        let part = self.part(partition);
        if let Some(finished) = part.finished.get_mut(usize::try_from(offset).unwrap_or(0)) {
            *finished = true;
        }
        while part.finished.get(usize::try_from(part.first_unfinished).unwrap_or(0)).copied() == Some(true) {
            part.first_unfinished += 1;
        }
    }

    /// The broker took a commit.
    pub(super) fn committed(&mut self, taken: Taken, owner: Option<Conn>, misled: bool) {
        let Taken { conn, partition, offset, .. } = taken;
        let Conn { host, .. } = conn;
        let part = self.part(partition);
        let (unfinished, before) = (part.first_unfinished, part.committed);
        part.committed = offset;
        let misled = misled || part.excused.contains(&host);
        part.was_set_back |= misled && offset < before;
        let was_behind_its_back = std::mem::replace(&mut part.behind_its_back, misled);
        self.require(offset <= unfinished, || {
            format!("I1: m{host} committed t-{partition}:{offset}, {unfinished} is not finished")
        });
        self.require(offset >= before || misled || was_behind_its_back, || {
            format!("m{host} committed t-{partition}:{offset}, behind {before}")
        });
        self.require(misled || owner.is_none_or(|owner| owner == conn), || {
            format!("m{host} committed t-{partition}:{offset}, which is another's: {owner:?}")
        });
    }

    /// A member's client took an answer that gives partitions back.
    pub(super) fn gave(&mut self, host: usize, parts: Parts) {
        for partition in parts.iter() {
            let part = self.part(partition);
            let (committed, started) = (part.committed, part.started.len() as i64);
            let mut lanes = part.lanes.iter();
            let running = lanes.find(|lane| lane.host == host && !lane.excused).copied();
            self.require(running.is_none(), || {
                format!("I2: m{host} gave t-{partition} back while {running:?} runs")
            });
            if self.graceful {
                self.require(started == committed, || {
                    format!("I3: m{host} gave t-{partition} back at {started}, committed is {committed}")
                });
            }
        }
    }

    /// A member says that everything a lane was given is finished and committed.
    pub(super) fn drained(&mut self, host: usize, epoch: Epoch, partition: i32) {
        let Some(given) = self.given.get(&(host, epoch)).copied() else { return };
        let committed = self.part(partition).committed;
        self.require(committed >= given, || {
            format!(
                "I3: m{host} says that t-{partition}@{epoch} is drained at {given}, committed is {committed}"
            )
        });
    }

    pub(super) fn unsubscribed(&mut self, host: usize) {
        let running = |part: &Part| part.lanes.iter().any(|lane| lane.host == host && !lane.excused);
        if self.parts.iter().any(running) {
            self.fail(|| format!("m{host} unsubscribed while its lanes run"));
        }
    }

    /// The group goes on without a member that can't know it yet.
    pub(super) fn excuse(&mut self, host: usize) {
        for part in &mut self.parts {
            for lane in part.lanes.iter_mut().filter(|lane| lane.host == host) {
                lane.excused = true;
                part.excused.insert(host);
            }
        }
    }

    /// What a member works on may be another's, until it has looked; what it commits may not.
    pub(super) fn excuse_lanes(&mut self, host: usize) {
        for lane in self.parts.iter_mut().flat_map(|part| &mut part.lanes) {
            lane.excused |= lane.host == host;
        }
    }

    /// A member heard of it, and what the group left it is its own again.
    pub(super) fn excuse_no_longer(&mut self, host: usize, owned: Parts) {
        for (partition, part) in (0..).zip(&mut self.parts) {
            for lane in part.lanes.iter_mut().filter(|lane| lane.host == host) {
                lane.excused &= lane.detached || !owned.contains(partition);
            }
        }
    }

    /// A lane would not end when it was cancelled.
    pub(super) fn detached(&mut self, host: usize, epoch: Epoch) {
        for lane in self.parts.iter_mut().flat_map(|part| &mut part.lanes) {
            if (lane.host, lane.epoch) == (host, epoch) {
                (lane.excused, lane.detached) = (true, true);
            }
        }
    }

    /// A process is gone, with all its handlers.
    pub(super) fn crashed(&mut self, host: usize) {
        self.parts.iter_mut().for_each(|part| part.lanes.retain(|lane| lane.host != host));
    }

    /// Whether each partition has one lane that counts, and everything is committed.
    pub(super) fn is_whole(&self, end: i64, owner: impl Fn(i32) -> Option<Conn>) -> bool {
        (0..).zip(&self.parts).all(|(partition, part)| {
            let owns = |lane: &Active| owner(partition).is_some_and(|owner| owner.host == lane.host);
            let counts = |lane: &&Active| !lane.excused || (!lane.detached && owns(lane));
            let lanes: Vec<&Active> = part.lanes.iter().filter(counts).collect();
            let [lane] = lanes[..] else { return false };
            let is_read = self.given.get(&(lane.host, lane.epoch)) == Some(&end);
            part.committed == end || (part.was_set_back && is_read && part.first_unfinished == end)
        })
    }

    /// What is the matter with partitions that are not whole.
    pub(super) fn shown(&self, end: i64) -> String {
        let part = |(index, part): (usize, &Part)| {
            let lanes: Vec<String> = part
                .lanes
                .iter()
                .map(|lane| format!("m{}@{}{}", lane.host, lane.epoch, if lane.excused { "!" } else { "" }))
                .collect();
            format!("t-{index} {}/{end} [{}]", part.committed, lanes.join(" "))
        };
        self.parts.iter().enumerate().map(part).collect::<Vec<_>>().join(", ")
    }

    /// At the very end: nothing was lost.
    pub(super) fn finish(&mut self, end: i64) {
        let lost = self
            .parts
            .iter()
            .any(|part| part.first_unfinished != end || (part.committed != end && !part.was_set_back));
        if lost {
            let shown = self.shown(end);
            self.fail(|| format!("records were lost, or not committed: {shown}"));
        }
    }

    pub(super) fn settled_after(&mut self, took: Duration) {
        self.summary.longest_settling = self.summary.longest_settling.max(took);
    }
}
