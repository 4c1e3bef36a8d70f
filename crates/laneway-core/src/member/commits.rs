//! What a member commits, when, and what it makes of the answer. Never more than one commit is in flight.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lanes::Lane;
use super::{CommitResult, Member, Phase, Protocol, Step, Then};
use crate::commit::{CommitFailure, Standing, Verdict, verdict};
use crate::port::{Port, Report};
use crate::types::{Epoch, Position, TopicPartition};

#[derive(Debug, Default)]
pub(super) struct Commits {
    sent: Option<Sent>,
    /// When the next commit is due by its interval.
    due: Duration,
    /// Not before this, after one was refused.
    not_before: Duration,
}

#[derive(Debug)]
struct Sent {
    token: u64,
    at: Duration,
    offsets: BTreeMap<TopicPartition, (Epoch, Position)>,
    /// The hold during which it was sent.
    during: Option<u64>,
    /// It was sent when every lane that the hold takes away had ended, or as a probe of a leaving member.
    settles: bool,
    reported_late: bool,
}

/// What was acknowledged, and the first refusal.
type Sorted = (Vec<(TopicPartition, Position)>, Option<(CommitFailure, String)>);

impl Commits {
    pub(super) fn is_busy(&self) -> bool {
        self.sent.is_some()
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
        let is_due = now >= self.commits.due || self.lanes.values().any(Lane::is_deciding);
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
        let gone = self.lanes.iter().filter(|(_, lane)| lane.is_gone(now)).map(|(of, _)| of.clone());
        self.lose(now, &gone.collect::<Vec<_>>(), "its topic does not exist any more", port);
        let offsets = self.uncommitted(port);
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
        let token = self.token();
        if let Err(error) = port.commit(token, &offsets) {
            self.commits.not_before = now + AGAIN;
            port.report(Report::CommitFailed(error));
            return false;
        }
        self.commits.due = now + self.settings.commit_interval;
        let offsets = offsets
            .into_iter()
            .filter_map(|(partition, position)| {
                let epoch = self.lanes.get(&partition)?.id.epoch;
                Some((partition, (epoch, position)))
            })
            .collect();
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
            Ok(partitions) => self.sort_answers(now, &sent, partitions),
            Err((CommitFailure::UnknownPartition, error)) => {
                let all = sent.offsets.keys().cloned();
                let refused = all.map(|of| (of, Some((CommitFailure::UnknownPartition, error.clone()))));
                self.sort_answers(now, &sent, refused.collect())
            }
            Err(refused) => (Vec::new(), Some(refused)),
        };
        if !acknowledged.is_empty() {
            port.report(Report::Committed(acknowledged));
        }
        let Some((failure, error)) = refused else {
            self.on_commit_whole(&sent, standing);
            return;
        };
        port.report(Report::CommitFailed(error.clone()));
        self.commits.not_before = now + AGAIN;
        match verdict(failure, standing) {
            // Nothing hurries: the watch for topics, or the group, will tell what became of it.
            Verdict::Retry if failure == CommitFailure::UnknownPartition && self.hold.is_none() => {
                self.commits.not_before = now + self.settings.commit_interval.max(AGAIN);
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
        now: Duration,
        sent: &Sent,
        answers: Vec<(TopicPartition, Option<(CommitFailure, String)>)>,
    ) -> Sorted {
        let mut acknowledged = Vec::new();
        let mut refused: Option<(CommitFailure, String)> = None;
        for (partition, failure) in answers {
            let Some((epoch, position)) = sent.offsets.get(&partition).copied() else { continue };
            let lane = self.lanes.get_mut(&partition).filter(|lane| lane.id.epoch == epoch);
            if let Some((failure, error)) = failure {
                if failure == CommitFailure::UnknownPartition {
                    lane.into_iter().for_each(|lane| lane.is_unknown(now));
                }
                // That a partition is gone says nothing about the member.
                if refused.as_ref().is_none_or(|(first, _)| *first == CommitFailure::UnknownPartition) {
                    refused = Some((failure, format!("{partition}: {error}")));
                }
                continue;
            }
            lane.into_iter().for_each(|lane| lane.acknowledge(position));
            acknowledged.push((partition, position));
        }
        (acknowledged, refused)
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
        }
    }
}

/// How soon a commit is tried again that was refused.
const AGAIN: Duration = Duration::from_millis(100);
/// After how long a commit that was not answered is reported.
const LATE: Duration = Duration::from_secs(10);
