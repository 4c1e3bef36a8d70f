//! The lanes of a member, from the search for their start to their end.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{LaneStage, Leftover, Member, Phase};
use crate::port::{Port, Report, Want};
use crate::start::{Found, From};
use crate::types::{Epoch, LaneId, Position, TopicPartition};

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: LaneId,
    pub(super) stage: Stage,
    /// The offset that was last acknowledged for this partition, or that it started from.
    pub(super) committed: Option<i64>,
    /// How much was finished ahead when the last commit was sent, and of what the last one that was acknowledged
    /// knows.
    ahead: (u64, u64),
    /// It was told that the lane begins.
    told: bool,
    /// Records that it left unfinished when it ended to be opened again.
    unfinished: u64,
    /// Where its partition begins, which is another one by now: until that is committed, nothing else is.
    anew: Option<i64>,
    /// Not before this is it opened again, after its queue failed.
    not_before: Duration,
    /// Since when the coordinator refuses commits of its topic, and why.
    pub(super) refused: Option<(Duration, String)>,
    /// How often its queue failed, and where it stood at the last time.
    failures: (u32, i64),
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Its start is looked for; for a lane that fell out of the log's range, beyond where it stood.
    Finding { out_of_range: Option<Position> },
    /// Its start was decided, and is being committed.
    Deciding(Found),
    /// It can be opened.
    Ready(Found),
    /// It reads and handles.
    Open,
    /// It was told to end.
    Ending(Ending),
    /// It has ended.
    Ended { watermark: Option<Position>, unfinished: u64 },
}

#[derive(Debug)]
pub(super) struct Ending {
    since: Duration,
    deadline: Duration,
    /// When it was cancelled.
    cancelled: Option<Duration>,
    restart: Option<Restart>,
}

/// Lanes that were lost together.
#[derive(Debug)]
pub(super) struct Loss {
    lanes: Vec<LaneId>,
    /// Those of them that have not ended yet.
    running: BTreeSet<LaneId>,
    reason: String,
}

/// A lane that ends to be opened again, of the same assignment.
#[derive(Debug, Clone, Copy)]
struct Restart {
    out_of_range: bool,
    /// Which seek it is, and where to.
    seek: Option<(u64, i64)>,
}

impl Restart {
    /// Where the lane goes on that has ended at `watermark`.
    fn stage(self, watermark: Position) -> Stage {
        if let Some((_, offset)) = self.seek {
            return Stage::sought(offset);
        }
        if self.out_of_range {
            return Stage::Finding { out_of_range: Some(watermark) };
        }
        Stage::Ready(Found { position: watermark, from: From::Restart, missing: 0 })
    }
}

impl Stage {
    fn sought(offset: i64) -> Self {
        Self::Deciding(Found { position: Position::at(offset), from: From::Seek, missing: 0 })
    }

    pub(super) fn shown(&self) -> LaneStage {
        match self {
            Self::Finding { .. } | Self::Deciding(_) | Self::Ready(_) => LaneStage::Starting,
            Self::Open => LaneStage::Running,
            Self::Ending(ending) if ending.cancelled.is_some() => LaneStage::Cancelling,
            Self::Ending(_) | Self::Ended { .. } => LaneStage::Draining,
        }
    }
}

impl Lane {
    pub(super) fn wants_start(&self, now: Duration) -> Option<Want> {
        match self.stage {
            Stage::Finding { out_of_range } if now >= self.not_before => {
                Some(Want { partition: self.id.partition.clone(), out_of_range })
            }
            _ => None,
        }
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self.stage, Stage::Finding { .. } | Stage::Deciding(_))
    }

    /// Waits before the lane is opened again: longer each time that it failed at the same place.
    fn pause(&mut self, now: Duration, stood: i64) {
        let (times, place) = self.failures;
        let times = if stood == place { times + 1 } else { 0 };
        self.failures = (times, stood);
        self.not_before = now + (RESTART_PAUSE * 2u32.pow(times.min(6))).min(LONGEST_PAUSE);
    }

    /// Tells it to end, and what it is opened again for, if it is.
    fn end(&mut self, now: Duration, deadline: Duration, restart: Option<Restart>, port: &mut impl Port) {
        port.drain(&self.id, deadline);
        self.stage = Stage::Ending(Ending { since: now, deadline, cancelled: None, restart });
    }

    pub(super) fn is_deciding(&self) -> bool {
        matches!(self.stage, Stage::Deciding(_))
    }

    /// Whether it ends to go on where this seek wants it.
    pub(super) fn is_to_seek(&self, number: u64) -> bool {
        let Stage::Ending(Ending { restart: Some(restart), .. }) = &self.stage else { return false };
        restart.seek.is_some_and(|(seek, _)| seek == number)
    }

    /// A commit is sent that carries this lane.
    pub(super) fn commit_is_sent(&mut self, port: &impl Port) {
        self.ahead.0 = port.ahead(&self.id);
    }

    pub(super) fn acknowledge(&mut self, position: Position) {
        self.ahead.1 = self.ahead.0;
        self.committed = Some(position.offset);
        self.refused = None;
        if let Stage::Deciding(found) = self.stage {
            self.stage = Stage::Ready(found);
            self.anew = None;
        }
    }

    /// Why what it finished can't be committed: it was refused for so long that it can't be a broker that is only
    /// behind.
    pub(super) fn is_refused(&self, now: Duration) -> Option<String> {
        let (since, error) = self.refused.as_ref()?;
        (now >= *since + REFUSED_PATIENCE).then(|| error.clone())
    }

    /// Whether everything that it finished is committed, and nothing was left unfinished.
    pub(super) fn is_clean(&self) -> bool {
        match &self.stage {
            Stage::Ended { watermark, unfinished } => {
                *unfinished == 0 && watermark.is_none_or(|mark| self.committed == Some(mark.offset))
            }
            _ => false,
        }
    }

    /// Records that it left unfinished, and offsets that it finished and could not commit.
    pub(super) fn left_over(&self) -> (u64, u64) {
        match &self.stage {
            Stage::Ended { watermark: Some(mark), unfinished } => {
                let from = self.committed.unwrap_or(mark.offset);
                (*unfinished, u64::try_from(mark.offset - from).unwrap_or(0))
            }
            _ => (0, 0),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended { .. })
    }

    /// What may be committed for this lane, where it is not committed yet.
    pub(super) fn uncommitted(&self, port: &impl Port) -> Option<Position> {
        let reached = match &self.stage {
            Stage::Deciding(found) => return Some(found.position),
            Stage::Ready(found) => Some(found.position),
            _ => self.reached(port),
        };
        reached.filter(|reached| match self.committed {
            Some(committed) if reached.offset == committed => port.ahead(&self.id) > self.ahead.1,
            committed => committed.is_none_or(|committed| reached.offset > committed),
        })
    }

    /// What a commit that is only to be answered can carry for this lane.
    pub(super) fn committable(&self, port: &impl Port) -> Option<Position> {
        if self.refused.is_some() { None } else { self.reached(port) }
    }

    /// How far its records are finished, as far as that counts.
    fn reached(&self, port: &impl Port) -> Option<Position> {
        match &self.stage {
            Stage::Open | Stage::Ending(_) if self.anew.is_some() => None,
            Stage::Open | Stage::Ending(_) => port.progress(&self.id),
            Stage::Ended { watermark, .. } => *watermark,
            _ => None,
        }
    }
}

impl Member {
    pub(super) fn add_lane(&mut self, partition: TopicPartition) {
        self.last_epoch = Epoch(self.last_epoch.0 + 1);
        let id = LaneId { partition: partition.clone(), epoch: self.last_epoch };
        let stage = Stage::Finding { out_of_range: None };
        self.lanes.insert(
            partition,
            Lane {
                id,
                stage,
                committed: None,
                ahead: (0, 0),
                told: false,
                unfinished: 0,
                anew: None,
                not_before: Duration::ZERO,
                refused: None,
                failures: (0, -1),
            },
        );
    }

    /// Tells lanes to end. One that is not open yet has ended with that.
    pub(super) fn drain_lanes(
        &mut self,
        now: Duration,
        partitions: &[TopicPartition],
        deadline: Duration,
        port: &mut impl Port,
    ) {
        for partition in partitions {
            let Some(lane) = self.lanes.get_mut(partition) else { continue };
            match &mut lane.stage {
                Stage::Open => lane.end(now, deadline, None, port),
                Stage::Ending(ending) => {
                    ending.restart = None;
                    if deadline < ending.deadline {
                        ending.deadline = deadline;
                        port.drain(&lane.id, deadline);
                    }
                }
                // What it finished before it was to be opened again is still to be committed. Where nothing
                // was read, what is committed stays as it is, also where a start was decided.
                Stage::Finding { out_of_range: watermark } => {
                    lane.stage = Stage::Ended { watermark: *watermark, unfinished: lane.unfinished };
                }
                Stage::Deciding(found) => {
                    let is_to_be = found.from == From::Seek || lane.anew.is_some();
                    let watermark = is_to_be.then_some(found.position);
                    lane.stage = Stage::Ended { watermark, unfinished: lane.unfinished };
                }
                Stage::Ready(found) => {
                    let watermark = Some(found.position);
                    lane.stage = Stage::Ended { watermark, unfinished: lane.unfinished };
                }
                Stage::Ended { .. } => {}
            }
        }
    }

    /// Cancels lanes at once. Nothing of them is committed, and they are no longer this member's.
    pub(super) fn lose(
        &mut self,
        now: Duration,
        partitions: &[TopicPartition],
        reason: &str,
        port: &mut impl Port,
    ) {
        let mut loss = Loss { lanes: Vec::new(), running: BTreeSet::new(), reason: reason.to_owned() };
        for partition in partitions {
            let Some(lane) = self.lanes.remove(partition) else { continue };
            if matches!(lane.stage, Stage::Open | Stage::Ending(_)) {
                port.cancel(&lane.id);
                loss.running.insert(lane.id.clone());
                self.leftovers.insert(lane.id.clone(), Leftover { since: now, reported: false });
            }
            loss.lanes.push(lane.id);
        }
        if !loss.lanes.is_empty() {
            self.losses.push(loss);
            self.tell_losses(port);
        }
    }

    /// Tells of what was lost once nothing of it is running any more, or was left behind.
    fn tell_losses(&mut self, port: &mut impl Port) {
        let over = self.losses.extract_if(.., |loss| loss.running.is_empty());
        over.for_each(|Loss { lanes, reason, .. }| port.report(Report::Lost { lanes, reason }));
    }

    fn has_ended(&mut self, id: &LaneId, port: &mut impl Port) {
        for loss in &mut self.losses {
            loss.running.remove(id);
        }
        self.tell_losses(port);
    }

    pub(super) fn lose_all(&mut self, now: Duration, reason: &str, port: &mut impl Port) {
        let all: Vec<TopicPartition> = self.lanes.keys().cloned().collect();
        self.lose(now, &all, reason, port);
    }

    pub(super) fn on_lane_ended(
        &mut self,
        now: Duration,
        id: &LaneId,
        watermark: Position,
        unfinished: u64,
        port: &mut impl Port,
    ) {
        if self.leftovers.remove(id).is_some() {
            self.totals.unfinished += unfinished;
            self.has_ended(id, port);
            return;
        }
        let Some(lane) = self.lanes.get_mut(&id.partition).filter(|lane| lane.id == *id) else { return };
        lane.stage = match &lane.stage {
            Stage::Ending(Ending { restart: Some(restart), since, .. })
                if restart.seek.is_some() || lane.anew.is_none() =>
            {
                let (restart, drain) = (*restart, now.saturating_sub(*since));
                lane.unfinished = unfinished;
                if let Some((number, offset)) = restart.seek {
                    let is_anew = lane.anew.is_some();
                    self.go_on_at(number, &id.partition, offset, port);
                    if is_anew && let Some(old) = self.renew(&id.partition, port) {
                        let drained = unfinished == 0;
                        port.report(Report::Revoked { lanes: vec![old], drained, drain });
                    }
                    return;
                }
                lane.pause(now, watermark.offset);
                restart.stage(watermark)
            }
            _ if let Some(offset) = lane.anew => {
                lane.unfinished = unfinished;
                return self.end_anew(&id.partition, offset);
            }
            _ => Stage::Ended { watermark: Some(watermark), unfinished },
        };
    }

    /// A lane is to go on elsewhere.
    pub(super) fn seek(
        &mut self,
        now: Duration,
        number: u64,
        partition: &TopicPartition,
        offset: i64,
        port: &mut impl Port,
    ) {
        let deadline = now + self.settings.drain;
        let is_in = self.is_in();
        let Some(lane) = self.lanes.get_mut(partition).filter(|_| is_in) else {
            let result = Err(format!("{partition} is not assigned to this member"));
            return port.report(Report::Answered { number, result });
        };
        let id = lane.id.clone();
        let restart = Some(Restart { out_of_range: false, seek: Some((number, offset)) });
        match &mut lane.stage {
            // A hook that seeks before each begin of a lane would else never see it begin.
            Stage::Open if lane.committed == Some(offset) && port.next(&id) == Some(offset) => {
                return port.report(Report::Answered { number, result: Ok(()) });
            }
            Stage::Open => lane.end(now, deadline, restart, port),
            Stage::Ending(ending) if ending.restart.is_some() => ending.restart = restart,
            Stage::Ending(_) | Stage::Ended { .. } => {
                let result = Err(format!("{partition} is being given back"));
                return port.report(Report::Answered { number, result });
            }
            Stage::Finding { .. } | Stage::Deciding(_) | Stage::Ready(_) => {
                self.await_seek(number, &id);
                return self.go_on_at(number, partition, offset, port);
            }
        }
        self.await_seek(number, &id);
    }

    /// A lane's partition is another one by now, that begins at `offset`: the lane goes on there, and nothing that it
    /// reached is committed, also where it is given back. One that is only about to begin looks for its start again.
    pub(super) fn begin_anew(
        &mut self,
        now: Duration,
        number: u64,
        partition: &TopicPartition,
        offset: i64,
        port: &mut impl Port,
    ) {
        let is_in = self.is_in();
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        port.forget_finished(&lane.id);
        // That was about the old one.
        (lane.refused, lane.not_before, lane.failures) = (None, Duration::ZERO, (0, -1));
        match &lane.stage {
            Stage::Ended { unfinished, .. } => {
                lane.unfinished = *unfinished;
                self.end_anew(partition, offset);
            }
            Stage::Open | Stage::Ending(_) => {
                let goes_on = !matches!(&lane.stage, Stage::Ending(ending) if ending.restart.is_none());
                lane.anew = Some(offset);
                if is_in && goes_on {
                    self.seek(now, number, partition, offset, port);
                }
            }
            _ if !lane.told => {
                lane.stage = Stage::Finding { out_of_range: None };
                lane.committed = None;
                self.new_epoch(partition, port);
            }
            _ if is_in => {
                lane.anew = Some(offset);
                self.go_on_at(number, partition, offset, port);
                if let Some(old) = self.renew(partition, port) {
                    port.report(Report::Revoked { lanes: vec![old], drained: true, drain: Duration::ZERO });
                }
            }
            _ => self.end_anew(partition, offset),
        }
    }

    /// A lane begins in a partition that is another one by now: in a new epoch, as its offsets are those of other records.
    /// Answers which lane it takes the place of, if that was told to begin.
    fn renew(&mut self, partition: &TopicPartition, port: &mut impl Port) -> Option<LaneId> {
        let lane = self.lanes.get_mut(partition)?;
        if let Stage::Deciding(found) = &mut lane.stage {
            found.from = From::Beginning;
        }
        if std::mem::take(&mut lane.told) { self.new_epoch(partition, port) } else { None }
    }

    /// Answers which lane it was before.
    fn new_epoch(&mut self, partition: &TopicPartition, port: &mut impl Port) -> Option<LaneId> {
        let lane = self.lanes.get_mut(partition)?;
        self.last_epoch = Epoch(self.last_epoch.0 + 1);
        let new = LaneId { partition: partition.clone(), epoch: self.last_epoch };
        port.renew(&lane.id, &new);
        Some(std::mem::replace(&mut lane.id, new))
    }

    /// A lane has ended whose partition begins anew.
    fn end_anew(&mut self, partition: &TopicPartition, offset: i64) {
        self.disregard_commits(partition);
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        lane.committed = None;
        lane.stage = Stage::Ended { watermark: Some(Position::at(offset)), unfinished: lane.unfinished };
    }

    /// Nothing of a lane runs that is to go on elsewhere. Its offset is committed, and then it is opened.
    fn go_on_at(&mut self, number: u64, partition: &TopicPartition, offset: i64, port: &mut impl Port) {
        self.commit_seek(number, partition);
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        // Also what lies behind what was committed is to be committed.
        lane.committed = None;
        lane.stage = Stage::sought(offset);
        port.forget_finished(&lane.id);
    }

    pub(super) fn on_lane_failed(
        &mut self,
        now: Duration,
        id: &LaneId,
        out_of_range: bool,
        port: &mut impl Port,
    ) {
        let deadline = now + self.settings.drain;
        let Some(lane) = self.lanes.get_mut(&id.partition).filter(|lane| lane.id == *id) else { return };
        if let Stage::Open = lane.stage {
            lane.end(now, deadline, Some(Restart { out_of_range, seek: None }), port);
        }
    }

    /// Cancels lanes at the end of their drain, and leaves behind those that would not end even then.
    pub(super) fn end_overdue_lanes(&mut self, now: Duration, port: &mut impl Port) -> bool {
        let grace = self.settings.grace.mul_f32(CANCEL_SHARE);
        let mut stuck = Vec::new();
        let mut acted = false;
        for lane in self.lanes.values_mut() {
            let Stage::Ending(ending) = &mut lane.stage else { continue };
            if ending.cancelled.is_none() && now >= ending.deadline {
                ending.cancelled = Some(now);
                acted = true;
                port.cancel(&lane.id);
            }
            // Also one that was cancelled late (the process was suspended) gets time to end.
            let had_time = ending.cancelled.is_some_and(|since| now >= since + CANCEL_TIME);
            if had_time && now >= ending.deadline + grace {
                stuck.push((lane.id.clone(), ending.since, ending.restart, lane.anew));
            }
        }
        for (id, since, restart, anew) in stuck {
            let watermark = port.progress(&id);
            if let Some((number, offset)) = restart.and_then(|restart| restart.seek) {
                self.go_on_at(number, &id.partition, offset, port);
                if anew.is_some()
                    && let Some(old) = self.renew(&id.partition, port)
                {
                    let running = BTreeSet::from([old.clone()]);
                    let reason = "its topic was deleted and made again".to_owned();
                    self.losses.push(Loss { lanes: vec![old], running, reason });
                }
            } else if let Some(lane) = self.lanes.get_mut(&id.partition) {
                lane.unfinished = 1;
                lane.stage = match (restart, watermark) {
                    (Some(restart), Some(watermark)) => restart.stage(watermark),
                    _ => Stage::Ended { watermark, unfinished: 1 },
                };
                if let Some(offset) = anew {
                    self.end_anew(&id.partition, offset);
                }
            }
            self.leftovers.insert(id, Leftover { since, reported: false });
            acted = true;
        }
        let is_stuck = |leftover: &Leftover| !leftover.reported && now >= leftover.since + grace;
        let detached = self.leftovers.iter().filter(|(_, leftover)| is_stuck(leftover));
        let detached: Vec<LaneId> = detached.map(|(id, _)| id.clone()).collect();
        for id in detached {
            if let Some(leftover) = self.leftovers.get_mut(&id) {
                leftover.reported = true;
            }
            port.report(Report::Detached(id.clone()));
            self.has_ended(&id, port);
            acted = true;
        }
        acted
    }

    /// Whether lanes that were lost are still being ended.
    pub(super) fn awaits_leftovers(&self) -> bool {
        self.leftovers.values().any(|leftover| !leftover.reported)
    }

    /// Whether lanes were lost so shortly ago that their handlers may not have heard of it.
    pub(super) fn has_fresh_leftovers(&self, now: Duration) -> bool {
        self.leftovers.values().any(|leftover| now < leftover.since + CANCEL_TIME)
    }

    /// Leaves behind what has not ended, as there is no time left to wait for it.
    pub(super) fn detach_leftovers(&mut self, port: &mut impl Port) {
        for (id, leftover) in &mut self.leftovers {
            if !std::mem::replace(&mut leftover.reported, true) {
                port.report(Report::Detached(id.clone()));
            }
        }
    }

    /// Opens lanes whose start is known, whose partition membership has, and of which no earlier lane is
    /// still running here.
    pub(super) fn open_ready_lanes(&mut self, now: Duration, port: &mut impl Port) -> bool {
        if !matches!(self.phase, Phase::In) {
            return false;
        }
        let mut ready = Vec::new();
        for lane in self.lanes.values_mut() {
            let Stage::Ready(found) = lane.stage else { continue };
            let awaits_answer = self.hold.as_ref().is_some_and(|hold| hold.add.contains(&lane.id.partition));
            let occupied = self.leftovers.keys().any(|old| old.partition == lane.id.partition);
            if !awaits_answer && !occupied && now >= lane.not_before {
                ready.push((lane.id.clone(), found));
            }
        }
        if ready.is_empty() {
            return false;
        }
        // Told before the first record can be delivered.
        let is_new = |id: &LaneId| self.lanes.get(&id.partition).is_some_and(|lane| !lane.told);
        let new: Vec<_> = ready.iter().filter(|(id, _)| is_new(id)).cloned().collect();
        if !new.is_empty() {
            port.report(Report::Assigned(new));
        }
        for (id, found) in ready.iter().filter(|(_, found)| found.missing > 0) {
            let (what, missing, at) = (&id.partition, found.missing, found.position.offset);
            port.report(Report::Error(format!(
                "{what}: {missing} records are no longer in the log; it goes on at offset {at}"
            )));
        }
        let wanted: Vec<_> = ready.into_iter().map(|(id, found)| (id, found.position)).collect();
        let opened = port.open(&wanted);
        for ((id, position), opened) in wanted.into_iter().zip(opened) {
            let Some(lane) = self.lanes.get_mut(&id.partition) else { continue };
            lane.told = true;
            match opened {
                Ok(()) => {
                    lane.stage = Stage::Open;
                    lane.unfinished = 0;
                }
                Err(error) => {
                    lane.pause(now, position.offset);
                    let what = &id.partition;
                    port.report(Report::Error(format!(
                        "could not start reading {what}, trying again: {error}"
                    )));
                }
            }
        }
        true
    }
}

/// How long a commit is waited for in a hold that is refused because of its partition.
const REFUSED_PATIENCE: Duration = Duration::from_secs(1);
/// How long a lane waits before it is opened again after its queue failed.
const RESTART_PAUSE: Duration = Duration::from_millis(200);
/// The longest such wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long a lane that was cancelled has at least to end.
const CANCEL_TIME: Duration = Duration::from_millis(200);
/// The part of the grace after which a lane that was cancelled is left behind; the rest is for the last
/// commit and the leave.
const CANCEL_SHARE: f32 = 0.6;
