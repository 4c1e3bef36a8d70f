//! A rebalance event from its arrival to its answer: the hold.
//!
//! While an event is unanswered no JoinGroup goes out, so a commit takes no time. So nothing is answered
//! before the lanes that it takes away have ended and everything finished, in all lanes, is committed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Member, Phase, Protocol, Then};
use crate::port::{Answer, Port, Report};
use crate::types::TopicPartition;

#[derive(Debug)]
pub(super) struct Hold {
    /// Which hold of this member's it is.
    pub(super) number: u64,
    pub(super) since: Duration,
    /// The lanes that it takes away must have ended by this.
    pub(super) deadline: Duration,
    /// What comes with the answer, what came with an older event that was not answered included.
    pub(super) add: BTreeSet<TopicPartition>,
    /// What goes with the answer, likewise.
    pub(super) remove: BTreeSet<TopicPartition>,
    /// The event that is answered took partitions away.
    pub(super) revokes: bool,
    /// What it takes away is gone already: nothing is committed for it.
    pub(super) lost: bool,
    /// Everything that was finished when the last lane had ended is committed.
    pub(super) settled: bool,
}

pub(super) enum Event {
    Assign(Vec<TopicPartition>),
    Revoke { partitions: Vec<TopicPartition>, lost: bool },
}

impl Member {
    pub(super) fn on_event(&mut self, now: Duration, event: Event, port: &mut impl Port) {
        self.nameless_since = None;
        let superseded = self.hold.take();
        self.generation = self.ask_generation(port);
        self.start_hold(now, &event);
        match &self.phase {
            Phase::In => {}
            Phase::Leaving(leave) if leave.has_lanes() => {}
            // The lanes are gone, so there is nothing to wait for.
            _ => {
                self.answer_without_lanes(now, port);
                return;
            }
        }
        if let Some(old) = superseded {
            self.supersede(now, old, port);
        }
        let joining = matches!(self.phase, Phase::In);
        if self.settings.protocol == Protocol::Eager && matches!(event, Event::Assign(_)) {
            // A whole new assignment, and no revoke came before it: the client joined again in a hold.
            self.lose_all(now, "the group assigned anew without a revoke", port);
        }
        match event {
            Event::Assign(partitions) if joining => {
                self.lose(now, &partitions, "it was assigned again", port);
                for partition in partitions {
                    self.add_lane(partition);
                }
            }
            Event::Assign(_) => {}
            Event::Revoke { partitions, lost: true } => {
                self.lose(now, &partitions, "the group gave the partitions away", port);
            }
            Event::Revoke { partitions, lost: false } => {
                self.drain_lanes(now, &partitions, now + self.settings.drain, port);
            }
        }
    }

    fn start_hold(&mut self, now: Duration, event: &Event) {
        self.holds += 1;
        let (add, remove, lost) = match event {
            Event::Assign(partitions) => (partitions.iter().cloned().collect(), BTreeSet::new(), false),
            Event::Revoke { partitions, lost } => {
                (BTreeSet::new(), partitions.iter().cloned().collect(), *lost)
            }
        };
        self.hold = Some(Hold {
            number: self.holds,
            since: now,
            deadline: now + self.settings.drain + self.settings.grace,
            add,
            remove,
            revokes: matches!(event, Event::Revoke { .. }),
            lost,
            settled: false,
        });
    }

    /// An event came before the older one was answered: the group is in a new generation already, and
    /// what still drains may be anyone's.
    fn supersede(&mut self, now: Duration, old: Hold, port: &mut impl Port) {
        let drained: Vec<TopicPartition> = old.remove.iter().cloned().collect();
        self.lose(now, &drained, PASSED_ON, port);
        if self.settings.protocol == Protocol::Eager {
            let pending: Vec<TopicPartition> = old.add.into_iter().collect();
            self.lose(now, &pending, "the group went on before the partitions were taken", port);
            return;
        }
        if let Some(hold) = &mut self.hold {
            let removed = hold.remove.clone();
            hold.add.extend(old.add.into_iter().filter(|partition| !removed.contains(partition)));
            hold.remove.extend(old.remove);
        }
        self.join_anew_if_broken(now, port);
    }

    /// librdkafka never finds out of a hold that was passed over by itself: in cooperative it would skip every
    /// later rebalance.
    fn join_anew_if_broken(&mut self, now: Duration, port: &mut impl Port) {
        if self.settings.protocol == Protocol::Cooperative && matches!(self.phase, Phase::In) {
            self.leave(now, Then::Rejoin, port);
        }
    }

    fn ask_generation(&self, port: &impl Port) -> Option<i32> {
        if self.settings.protocol == Protocol::Consumer { None } else { port.generation() }
    }

    /// A change of metadata makes a client of the classic protocols join again although an event is unanswered
    /// (rdkafka_cgrp.c 6904–7010): the group is in a new generation, and what is to be given back may be
    /// anyone's; in eager everything, which is otherwise revoked before each generation. With KIP-848 the epoch
    /// moves without that.
    pub(super) fn lose_what_the_group_passed_on(&mut self, now: Duration, port: &mut impl Port) -> bool {
        let passed_on: Vec<TopicPartition> = match (self.settings.protocol, &self.hold) {
            (Protocol::Eager, _) => self.lanes.keys().cloned().collect(),
            (Protocol::Cooperative, Some(hold)) => hold.remove.iter().cloned().collect(),
            _ => Vec::new(),
        };
        if passed_on.is_empty() {
            return false;
        }
        let generation = self.ask_generation(port);
        if generation.is_none() || generation == self.generation {
            return false;
        }
        self.generation = generation;
        self.lose(now, &passed_on, PASSED_ON, port);
        self.join_anew_if_broken(now, port);
        true
    }

    pub(super) fn step_hold(&mut self, now: Duration, port: &mut impl Port) -> bool {
        if !matches!(self.phase, Phase::In) || !self.hold_may_be_answered(now, port) {
            return false;
        }
        self.answer_hold(now, port);
        true
    }

    fn hold_may_be_answered(&mut self, now: Duration, port: &mut impl Port) -> bool {
        let Some(hold) = &self.hold else { return false };
        let is_running =
            |partition: &TopicPartition| self.lanes.get(partition).is_some_and(|lane| !lane.has_ended());
        let overdue = now >= hold.deadline;
        if hold.remove.iter().any(is_running) {
            return false;
        }
        let is_leftover =
            |partition: &TopicPartition| self.leftovers.keys().any(|lane| lane.partition == *partition);
        if !overdue && now < hold.since + self.settings.grace && hold.remove.iter().any(is_leftover) {
            return false;
        }
        // Past the deadline a commit that is refused is given up, but not one that has no answer, or for which there
        // is no coordinator: the client does not join before that, whatever it is answered (rdkafka_assignment.c
        // 628–640), so waiting costs nothing.
        let given_up = overdue && (self.commits.was_refused() || !port.member_is_known());
        if !hold.settled && !hold.lost && !given_up {
            let settled = self.commit_rest(now, port);
            match &mut self.hold {
                Some(hold) => hold.settled |= settled,
                None => return false,
            }
            if !settled {
                return false;
            }
        }
        let Some(hold) = &self.hold else { return false };
        let starting =
            |partition: &TopicPartition| self.lanes.get(partition).is_some_and(|lane| lane.is_starting());
        now >= hold.since + self.settings.grace || !hold.add.iter().any(starting)
    }

    /// Gives up the lanes of a hold that have ended, and answers it.
    pub(super) fn answer_hold(&mut self, now: Duration, port: &mut impl Port) {
        let Some(hold) = self.hold.take() else { return };
        self.give_lanes(now, &hold.remove.iter().cloned().collect::<Vec<_>>(), hold.since, port);
        let mut answers = Vec::new();
        match (self.settings.protocol, hold.revokes) {
            (Protocol::Eager, true) => answers.push(Answer::Clear),
            (Protocol::Eager, false) => answers.push(Answer::Assign(hold.add)),
            (_, revokes) => {
                if revokes || !hold.remove.is_empty() {
                    answers.push(Answer::Remove(hold.remove));
                }
                if !revokes || !hold.add.is_empty() {
                    answers.push(Answer::Add(hold.add));
                }
            }
        }
        self.totals.rebalances += 1;
        for answer in answers {
            if let Err(error) = port.answer(&answer) {
                port.report(Report::Error(format!(
                    "the client did not take the answer to a rebalance: {error}"
                )));
                if matches!(self.phase, Phase::In) {
                    self.abandon(now, Then::Rejoin, &error, port);
                }
            }
        }
    }

    /// Ends the bookkeeping of lanes whose partitions are given back.
    pub(super) fn give_lanes(
        &mut self,
        now: Duration,
        partitions: &[TopicPartition],
        since: Duration,
        port: &mut impl Port,
    ) {
        let mut lanes = Vec::new();
        let mut drained = true;
        for partition in partitions {
            let Some(lane) = self.lanes.remove(partition) else { continue };
            drained &= lane.is_clean();
            let (unfinished, uncommitted) = lane.left_over();
            self.totals.unfinished += unfinished;
            self.totals.uncommitted += uncommitted;
            lanes.push(lane.id);
        }
        if !lanes.is_empty() {
            port.report(Report::Revoked { lanes, drained, drain: now.saturating_sub(since) });
        }
    }
}

/// Why lanes are lost of a hold that the group did not wait for.
const PASSED_ON: &str = "the group went on while the partitions were drained";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::commit::CommitFailure;
    use crate::member::{CommitResult, Input, Settings};
    use crate::port::Want;
    use crate::start::{Found, From};
    use crate::types::{LaneId, Position};

    /// A world in which nothing is answered but by the test.
    #[derive(Default)]
    struct Silent {
        commits: Vec<u64>,
        /// Of the last one.
        offsets: Vec<i64>,
        answers: Vec<Answer>,
        search: u64,
        opened: Vec<LaneId>,
        reports: Vec<Report>,
        forgotten: Vec<LaneId>,
    }

    impl Port for Silent {
        fn join(&mut self) {}
        fn member_is_known(&self) -> bool {
            true
        }
        fn generation(&self) -> Option<i32> {
            Some(1)
        }
        fn assignment(&self) -> Option<BTreeSet<TopicPartition>> {
            None
        }
        fn answer(&mut self, answer: &Answer) -> Result<(), String> {
            self.answers.push(answer.clone());
            Ok(())
        }
        fn commit(&mut self, token: u64, offsets: &[(LaneId, Position)]) -> Result<(), String> {
            self.commits.push(token);
            self.offsets = offsets.iter().map(|(_, position)| position.offset).collect();
            Ok(())
        }
        fn find_starts(&mut self, token: u64, _: &[Want]) {
            self.search = token;
        }
        fn unsubscribe(&mut self) {}
        fn begin_close(&mut self) {}
        fn discard(&mut self) {}
        fn open(&mut self, lanes: &[(LaneId, Position)]) -> Vec<Result<(), String>> {
            self.opened.extend(lanes.iter().map(|(lane, _)| lane.clone()));
            vec![Ok(()); lanes.len()]
        }
        fn drain(&mut self, _: &LaneId, _: Duration) {}
        fn cancel(&mut self, _: &LaneId) {}
        fn progress(&self, _: &LaneId) -> Option<Position> {
            None
        }
        fn forget_finished(&mut self, lane: &LaneId) {
            self.forgotten.push(lane.clone());
        }
        fn report(&mut self, report: Report) {
            self.reports.push(report);
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// A member whose lane has ended in a hold, and whose last commit has no answer long after the deadline.
    fn held(protocol: Protocol) -> (Member, Silent, TopicPartition) {
        let (mut member, mut port, partition) = reading(protocol);
        let revoke = Input::Revoke { partitions: vec![partition.clone()], lost: false };
        member.input(SECOND, revoke, &mut port);
        let (lane, watermark) = (port.opened[0].clone(), Position::at(7));
        member.input(2 * SECOND, Input::LaneEnded { lane, watermark, unfinished: 0 }, &mut port);
        member.input(60 * SECOND, Input::Tick, &mut port);
        assert_eq!((port.commits.len(), port.answers.len()), (1, 1), "{protocol:?}");
        (member, port, partition)
    }

    fn answer_commit(member: &mut Member, port: &mut Silent, result: CommitResult) {
        let token = *port.commits.last().unwrap();
        member.input(61 * SECOND, Input::Committed { token, result }, port);
    }

    /// A member that was assigned a partition, and looks for its start.
    fn starting(protocol: Protocol) -> (Member, Silent, TopicPartition) {
        let (drain, grace) = (10 * SECOND, 2 * SECOND);
        let mut member =
            Member::new(Settings { protocol, is_static: false, drain, grace, commit_interval: SECOND });
        let (mut port, partition) = (Silent::default(), TopicPartition::new("t", 0));
        member.input(Duration::ZERO, Input::Join, &mut port);
        member.input(Duration::ZERO, Input::Assign(vec![partition.clone()]), &mut port);
        (member, port, partition)
    }

    /// Likewise, whose lane has begun at 5.
    fn reading(protocol: Protocol) -> (Member, Silent, TopicPartition) {
        let (mut member, mut port, partition) = starting(protocol);
        let found = vec![(partition.clone(), Ok(Found::committed(Position::at(5))))];
        member.input(Duration::ZERO, Input::Starts { token: port.search, found }, &mut port);
        (member, port, partition)
    }

    fn anew(partition: &TopicPartition) -> Input {
        Input::Anew { lanes: vec![(1, partition.clone())], offset: 0 }
    }

    #[test]
    fn in_a_partition_that_is_another_one_by_now_a_lane_begins_in_a_new_epoch() {
        let (mut member, mut port, partition) = reading(Protocol::Cooperative);
        let old = port.opened[0].clone();
        member.input(SECOND, anew(&partition), &mut port);
        port.reports.clear();
        let ended = Input::LaneEnded { lane: old.clone(), watermark: Position::at(7), unfinished: 0 };
        member.input(2 * SECOND, ended, &mut port);
        let token = *port.commits.last().unwrap();
        member.input(2 * SECOND, Input::Committed { token, result: Ok(vec![(partition, None)]) }, &mut port);
        let new = port.opened[1].clone();
        assert!(new.partition == old.partition && new.epoch > old.epoch, "{new:?}");
        let told = |report: &&Report| matches!(report, Report::Revoked { .. } | Report::Assigned(_));
        let told: Vec<Report> = port.reports.iter().filter(told).cloned().collect();
        let revoked = Report::Revoked { lanes: vec![old], drained: true, drain: SECOND };
        let found = Found { position: Position::at(0), from: From::Beginning, missing: 0 };
        assert_eq!(told, [revoked, Report::Assigned(vec![(new, found)])]);
        assert_eq!(port.offsets, [0]);
    }

    #[test]
    fn what_a_lane_reached_in_a_partition_that_is_another_one_by_now_is_not_committed_by_a_stop_either() {
        let (mut member, mut port, partition) = reading(Protocol::Cooperative);
        member.input(SECOND, Input::Stop, &mut port);
        port.offsets.clear();
        member.input(SECOND, anew(&partition), &mut port);
        member.input(20 * SECOND, Input::Tick, &mut port);
        let (lane, watermark) = (port.opened[0].clone(), Position::at(7));
        member.input(21 * SECOND, Input::LaneEnded { lane, watermark, unfinished: 0 }, &mut port);
        member.input(22 * SECOND, Input::Tick, &mut port);
        assert!(port.offsets.iter().all(|offset| *offset == 0), "{:?}", port.offsets);
    }

    #[test]
    fn what_was_found_of_a_partition_that_is_another_one_by_now_is_looked_for_again() {
        let (mut member, mut port, partition) = starting(Protocol::Cooperative);
        let first = port.search;
        member.input(Duration::ZERO, anew(&partition), &mut port);
        let found = vec![(partition.clone(), Ok(Found::committed(Position::at(5))))];
        member.input(Duration::ZERO, Input::Starts { token: first, found }, &mut port);
        assert!(port.opened.is_empty() && port.search > first, "{:?}", port.opened);
        let found = vec![(partition, Ok(Found::committed(Position::at(0))))];
        member.input(Duration::ZERO, Input::Starts { token: port.search, found }, &mut port);
        assert_eq!(port.opened.len(), 1);
    }

    #[test]
    fn what_was_finished_counts_no_more_where_a_lane_goes_on_below_where_it_stood() {
        // The log was cut off below it; its start has moved past it; its queue failed, and nothing else.
        for (at, is_forgotten) in [(3, true), (9, false), (7, false)] {
            let (mut member, mut port, partition) = reading(Protocol::Cooperative);
            let (lane, watermark) = (port.opened[0].clone(), Position::at(7));
            member.input(SECOND, Input::LaneFailed { lane: lane.clone(), out_of_range: true }, &mut port);
            let ended = Input::LaneEnded { lane: lane.clone(), watermark, unfinished: 0 };
            member.input(SECOND, ended, &mut port);
            member.input(2 * SECOND, Input::Tick, &mut port);
            let found = Found { position: Position::at(at), from: From::End, missing: 0 };
            let found = vec![(partition, Ok(found))];
            member.input(2 * SECOND, Input::Starts { token: port.search, found }, &mut port);
            assert_eq!(port.forgotten == [lane], is_forgotten, "{at}");
        }
    }

    #[test]
    fn a_commit_without_an_answer_is_waited_for_past_the_deadline_of_the_hold() {
        for protocol in [Protocol::Eager, Protocol::Cooperative, Protocol::Consumer] {
            let (mut member, mut port, partition) = held(protocol);
            answer_commit(&mut member, &mut port, Err((CommitFailure::NoCoordinator, "it loads".into())));
            member.input(62 * SECOND, Input::Tick, &mut port);
            assert_eq!((port.commits.len(), port.answers.len()), (2, 1), "{protocol:?}");
            answer_commit(&mut member, &mut port, Ok(vec![(partition, None)]));
            assert_eq!(port.answers.len(), 2, "{protocol:?}");
            assert_eq!(member.totals().uncommitted, 0);
        }
    }

    #[test]
    fn a_commit_that_is_refused_past_the_deadline_of_the_hold_is_given_up() {
        let (mut member, mut port, _) = held(Protocol::Eager);
        answer_commit(&mut member, &mut port, Err((CommitFailure::Other, "no".into())));
        assert_eq!(port.answers.last(), Some(&Answer::Clear));
        assert_eq!(member.totals().uncommitted, 2);
    }
}
