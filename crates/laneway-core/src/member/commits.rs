//! What a member commits, when, and what it makes of the answer. Never more than one commit is in flight.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::lanes::Lane;
use super::{CommitResult, Member, Phase, Protocol, Step, Then};
use crate::commit::{CommitFailure, Standing, Verdict, verdict};
use crate::port::{Port, Report};
use crate::types::{Epoch, LaneId, Position, TopicPartition};

#[derive(Debug, Default)]
pub(super) struct Commits {
    sent: Option<Sent>,
    /// When the next commit is due by its interval.
    due: Duration,
    /// Not before this, after one was refused.
    not_before: Duration,
    /// The last one was refused, by a coordinator.
    refused: bool,
    /// Topics of a commit that was refused because of a partition: each is committed alone, to find which one.
    suspects: BTreeSet<Arc<str>>,
    waiting: Vec<Waiting>,
}

/// Somebody waits until something is committed.
#[derive(Debug)]
struct Waiting {
    number: u64,
    /// Commits with a higher token carry what is waited for. A seek has none until its lane has ended.
    after: Option<u64>,
    /// Of which lanes it is not committed yet.
    owed: BTreeSet<LaneId>,
}

#[derive(Debug)]
struct Sent {
    token: u64,
    at: Duration,
    offsets: BTreeMap<TopicPartition, (Epoch, Position)>,
    /// The hold during which it was sent.
    during: Option<u64>,
    /// It was sent when every lane that the hold takes away had ended, or as a probe of a leaving member, and
    /// left nothing out.
    settles: bool,
    reported_late: bool,
}

/// What was acknowledged, and the first refusal.
type Sorted = (Vec<(TopicPartition, Position)>, Option<(CommitFailure, String)>);

impl Commits {
    pub(super) fn is_busy(&self) -> bool {
        self.sent.is_some()
    }

    /// Whether the last one that was answered, or could not be sent, was refused.
    pub(super) fn was_refused(&self) -> bool {
        self.sent.is_none() && self.refused
    }

    /// The client that was to answer is gone.
    pub(super) fn forget(&mut self) {
        self.sent = None;
    }
}

impl Member {
    pub(super) fn uncommitted(&self, port: &impl Port) -> Vec<(TopicPartition, Position)> {
        self.lanes
            .iter()
            .filter_map(|(partition, lane)| Some((partition.clone(), lane.uncommitted(port)?)))
            .collect()
    }

    fn committable(&self, port: &impl Port) -> Vec<(TopicPartition, Position)> {
        self.lanes
            .iter()
            .filter_map(|(partition, lane)| Some((partition.clone(), lane.committable(port)?)))
            .collect()
    }

    /// The commit that is due by time, and at once that of a start that was decided.
    pub(super) fn commit_if_due(&mut self, now: Duration, port: &mut impl Port) -> bool {
        if let Some(sent) = &mut self.commits.sent {
            if !sent.reported_late && now >= sent.at + LATE {
                sent.reported_late = true;
                let late = LATE.as_secs();
                port.report(Report::CommitFailed(format!("no answer for {late} s, still waiting for it")));
            }
            return false;
        }
        let is_member = matches!(self.phase, Phase::In | Phase::Leaving(_));
        let is_due = now >= self.commits.due
            || self.commits.waiting.iter().any(|waiting| waiting.after.is_some())
            || self.lanes.values().any(Lane::is_deciding);
        if !is_member || !is_due || now < self.commits.not_before {
            return false;
        }
        let mut offsets = self.uncommitted(port);
        if let (true, Some(hold)) = (offsets.is_empty(), &self.hold) {
            // In a long hold a refused commit is a sign of having been thrown out.
            let gone = hold.remove.clone();
            offsets = self.committable(port);
            if self.settings.protocol != Protocol::Consumer {
                // Heartbeats are another, and say it by an empty member id. Where the client joined again
                // in this hold, this would go out in the new generation, and undo its new owner's commits.
                offsets.retain(|(partition, _)| !gone.contains(partition));
            }
        }
        !offsets.is_empty() && self.send_commit(now, offsets, false, port)
    }

    /// Commits all that is finished at the end of a hold or of a leave. True when there is nothing left
    /// to commit, or it was acknowledged.
    pub(super) fn commit_rest(&mut self, now: Duration, port: &mut impl Port) -> bool {
        if self.commits.is_busy() {
            return false;
        }
        // What the broker refuses for good is not waited for. Lanes that stay are tried again later.
        let refused = self.lanes.iter().filter_map(|(of, lane)| Some((of.clone(), lane.is_refused(now)?)));
        let refused: BTreeMap<TopicPartition, String> = refused.collect();
        for (partition, error) in &refused {
            if self.lanes.get(partition).is_some_and(|lane| lane.has_ended()) {
                let reason = format!("what it finished can't be committed: {error}");
                self.lose(now, std::slice::from_ref(partition), &reason, port);
            }
        }
        let mut offsets = self.uncommitted(port);
        offsets.retain(|(partition, _)| !refused.contains_key(partition));
        if offsets.is_empty() {
            return true;
        }
        if now >= self.commits.not_before {
            self.send_commit(now, offsets, true, port);
        }
        false
    }

    /// Sends a commit that says whether the member is steady: in classic protocols nothing else does.
    /// False if there is nothing that could be committed.
    pub(super) fn probe(&mut self, now: Duration, port: &mut impl Port) -> bool {
        let offsets = self.committable(port);
        if offsets.is_empty() {
            return false;
        }
        if !self.commits.is_busy() && now >= self.commits.not_before {
            self.send_commit(now, offsets, true, port);
        }
        true
    }

    fn send_commit(
        &mut self,
        now: Duration,
        offsets: Vec<(TopicPartition, Position)>,
        settles: bool,
        port: &mut impl Port,
    ) -> bool {
        // I13: the broker does not check what is committed without a member id (librdkafka#5585).
        if !port.member_is_known() || self.lose_what_the_group_passed_on(now, port) {
            return false;
        }
        let all = offsets.len();
        let offsets = self.without_suspects(offsets);
        let settles = settles && offsets.len() == all;
        let token = self.token();
        let mut of_lanes = Vec::with_capacity(offsets.len());
        for (partition, position) in &offsets {
            // Before it is sent: what finishes meanwhile is not in it.
            if let Some(lane) = self.lanes.get_mut(partition) {
                lane.commit_is_sent(port);
                of_lanes.push((lane.id.clone(), *position));
            }
        }
        if let Err(error) = port.commit(token, &of_lanes) {
            self.commits.refused = true;
            self.commits.not_before = now + AGAIN;
            port.report(Report::CommitFailed(error));
            return false;
        }
        self.commits.due = now + self.settings.commit_interval;
        let offsets =
            of_lanes.into_iter().map(|(lane, position)| (lane.partition, (lane.epoch, position))).collect();
        let during = self.hold.as_ref().map(|hold| hold.number);
        self.commits.sent = Some(Sent { token, at: now, offsets, during, settles, reported_late: false });
        true
    }

    pub(super) fn on_committed(
        &mut self,
        now: Duration,
        token: u64,
        result: CommitResult,
        port: &mut impl Port,
    ) {
        let Some(sent) = self.commits.sent.take_if(|sent| sent.token == token) else { return };
        let standing = match (sent.during, &self.hold) {
            (None, None) => Standing::Free,
            (Some(during), Some(hold)) if hold.number == during => Standing::Held,
            _ => Standing::Past,
        };
        let (acknowledged, refused) = match result {
            Ok(partitions) => self.sort_answers(&sent, partitions),
            Err(refused) => (Vec::new(), Some(refused)),
        };
        if !acknowledged.is_empty() {
            port.report(Report::Committed(acknowledged));
        }
        let is_refusal = |(failure, _): &(CommitFailure, String)| *failure != CommitFailure::NoCoordinator;
        self.commits.refused = refused.as_ref().is_some_and(is_refusal);
        let Some((failure, error)) = refused else {
            self.clear_suspicion(&sent, None);
            self.on_commit_whole(&sent, standing);
            return;
        };
        let mut topics = sent.offsets.keys().map(|of| &of.topic);
        let error = match topics.next().filter(|first| topics.all(|topic| topic == *first)) {
            Some(topic) if failure == CommitFailure::Partition => format!("{topic}: {error}"),
            _ => error,
        };
        port.report(Report::CommitFailed(error.clone()));
        self.commits.not_before = now + AGAIN;
        match verdict(failure, standing) {
            Verdict::Retry if failure == CommitFailure::Partition => {
                self.clear_suspicion(&sent, Some((now, error)));
            }
            Verdict::Retry if failure == CommitFailure::TooLarge => {
                self.commits.due = self.commits.not_before
            }
            Verdict::Retry => {}
            Verdict::AwaitEvent if matches!(self.phase, Phase::In) => {
                self.commits.not_before = now + self.settings.commit_interval.max(AGAIN);
            }
            Verdict::AwaitEvent => {}
            Verdict::ThrownOut => {
                self.abandon(
                    now,
                    Then::Rejoin,
                    &format!("the group went on without this member: {error}"),
                    port,
                );
            }
            Verdict::Fatal => self.abandon(now, Then::End, &error, port),
        }
    }

    fn sort_answers(
        &mut self,
        sent: &Sent,
        answers: Vec<(TopicPartition, Option<(CommitFailure, String)>)>,
    ) -> Sorted {
        let mut acknowledged = Vec::new();
        let mut refused = None;
        for (partition, failure) in answers {
            let Some((epoch, position)) = sent.offsets.get(&partition).copied() else { continue };
            if let Some((failure, error)) = failure {
                refused = refused.or(Some((failure, format!("{partition}: {error}"))));
                continue;
            }
            if let Some(lane) = self.lanes.get_mut(&partition).filter(|lane| lane.id.epoch == epoch) {
                lane.acknowledge(position);
                for waiting in &mut self.commits.waiting {
                    if waiting.after.is_some_and(|after| sent.token > after) {
                        waiting.owed.remove(&lane.id);
                    }
                }
            }
            acknowledged.push((partition, position));
        }
        (acknowledged, refused)
    }

    pub(super) fn commit_now(&mut self, number: u64, port: &impl Port) {
        let after = Some(self.token());
        let owed = self.lanes.values().filter(|lane| lane.uncommitted(port).is_some());
        let owed = owed.map(|lane| lane.id.clone()).collect();
        self.commits.waiting.push(Waiting { number, after, owed });
    }

    /// A seek is under way: it is answered once its offset is committed.
    pub(super) fn await_seek(&mut self, number: u64, lane: &LaneId) {
        self.commits.waiting.push(Waiting { number, after: None, owed: BTreeSet::from([lane.clone()]) });
    }

    /// The lane of a seek has ended: its offset is committed next, and a commit that is in flight says nothing of it.
    pub(super) fn commit_seek(&mut self, number: u64, partition: &TopicPartition) {
        let after = Some(self.token());
        self.disregard_commits(partition);
        if let Some(waiting) = self.commits.waiting.iter_mut().find(|waiting| waiting.number == number) {
            waiting.after = after;
        }
    }

    /// A commit that is in flight says nothing of this partition.
    pub(super) fn disregard_commits(&mut self, partition: &TopicPartition) {
        if let Some(sent) = &mut self.commits.sent {
            sent.offsets.remove(partition);
        }
    }

    /// Answers those whose commits are acknowledged, or will not be.
    pub(super) fn answer_waiting(&mut self, port: &mut impl Port) {
        let mut answers = Vec::new();
        let lanes = &self.lanes;
        self.commits.waiting.retain_mut(|Waiting { number, after, owed }| {
            let mut lost = None;
            owed.retain(|id| {
                let lane = lanes.get(&id.partition).filter(|lane| lane.id == *id);
                let is_owed = match (lane, &after) {
                    (Some(lane), Some(_)) => Some(lane.uncommitted(port).is_some()),
                    (Some(lane), None) => lane.is_to_seek(*number).then_some(true),
                    (None, _) => None,
                };
                if is_owed.is_none() {
                    lost.get_or_insert_with(|| {
                        format!("{} was lost, given back, or told to go on elsewhere before", id.partition)
                    });
                }
                is_owed.unwrap_or(false)
            });
            match lost {
                Some(lost) => answers.push((*number, Err(lost))),
                None if owed.is_empty() => answers.push((*number, Ok(()))),
                None => return true,
            }
            false
        });
        answers.into_iter().for_each(|(number, result)| port.report(Report::Answered { number, result }));
    }

    /// What is committed now: one topic alone, while it is not known which one was refused. One that is refused
    /// takes turns with all the others, so that it does not spoil their commits.
    fn without_suspects(
        &mut self,
        mut offsets: Vec<(TopicPartition, Position)>,
    ) -> Vec<(TopicPartition, Position)> {
        let topics: BTreeSet<Arc<str>> = offsets.iter().map(|(of, _)| of.topic.clone()).collect();
        self.commits.suspects.retain(|topic| topics.contains(topic));
        if let Some(suspect) = self.commits.suspects.first() {
            offsets.retain(|(of, _)| of.topic == *suspect);
            return offsets;
        }
        let refused = self.lanes.iter().filter(|(_, lane)| lane.refused.is_some());
        let refused: BTreeSet<Arc<str>> = refused.map(|(of, _)| of.topic.clone()).collect();
        if topics.iter().any(|topic| !refused.contains(topic)) {
            self.commits.suspects = topics.intersection(&refused).cloned().collect();
            offsets.retain(|(of, _)| !refused.contains(&of.topic));
        }
        offsets
    }

    /// A commit was taken, or refused because of a partition.
    fn clear_suspicion(&mut self, sent: &Sent, refused: Option<(Duration, String)>) {
        let topics: BTreeSet<Arc<str>> = sent.offsets.keys().map(|of| of.topic.clone()).collect();
        let Some((now, error)) = refused else {
            self.commits.suspects.retain(|topic| !topics.contains(topic));
            if !self.commits.suspects.is_empty() {
                self.commits.due = Duration::ZERO;
            }
            return;
        };
        if topics.len() > 1 {
            self.commits.suspects = topics;
            (self.commits.due, self.commits.not_before) = (now, now);
            return;
        }
        self.commits.suspects.retain(|topic| !topics.contains(topic));
        for (partition, (epoch, _)) in &sent.offsets {
            if let Some(lane) = self.lanes.get_mut(partition).filter(|lane| lane.id.epoch == *epoch) {
                lane.refused.get_or_insert((now, error.clone()));
            }
        }
    }

    fn on_commit_whole(&mut self, sent: &Sent, standing: Standing) {
        if let (Standing::Held, true, Some(hold)) = (standing, sent.settles, &mut self.hold) {
            hold.settled = true;
        }
        if let (Standing::Free, Phase::Leaving(leave)) = (standing, &mut self.phase)
            && leave.step == Step::Probe
            && sent.at >= leave.since
        {
            leave.step = Step::Drain;
            leave.steady = true;
        }
    }
}

/// How soon a commit is tried again that was refused.
const AGAIN: Duration = Duration::from_millis(100);
/// After how long a commit that was not answered is reported.
const LATE: Duration = Duration::from_secs(10);
