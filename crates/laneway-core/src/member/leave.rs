//! Leaving the group, for good or to join it anew with a new client. In an order that leaves no ghost behind:
//! known to the broker first; steady, or holding; drained and committed; then unsubscribed, and only when
//! the member is out, closed.

use std::time::Duration;

use super::{Member, Phase, Protocol};
use crate::port::Port;
use crate::types::TopicPartition;

/// What comes after a leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The end.
    End,
    /// Joining the group again, with a new membership client.
    Rejoin,
}

#[derive(Debug)]
pub(super) struct Leave {
    pub(super) then: Then,
    pub(super) since: Duration,
    pub(super) step: Step,
    /// When what is in flight is cancelled.
    drain_by: Duration,
    /// When the leave is over, whatever happens.
    hard: Duration,
    /// A commit said that it was steady when the drain began.
    pub(super) steady: bool,
    /// Until when a static member that may be joining waits for the next event before it closes.
    quiet_by: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The broker does not know the member yet: leaving now would leave a ghost.
    AwaitMember,
    /// Finding out whether the member is steady, while the lanes go on.
    Probe,
    /// The lanes end, and what they finished is committed.
    Drain,
    /// The lanes were lost, and end by force.
    Abandon,
    /// It has unsubscribed; the LeaveGroup goes out at the next steady point.
    AwaitLeft,
}

impl Leave {
    /// Whether lanes may still be running, so that events wait for them.
    pub(super) fn has_lanes(&self) -> bool {
        self.step != Step::AwaitLeft
    }
}

impl Member {
    pub(super) fn on_stop(&mut self, now: Duration) {
        let is_stopping = match &self.phase {
            Phase::Leaving(Leave { then, .. }) | Phase::Closing { then, .. } => *then == Then::End,
            _ => false,
        };
        if !is_stopping {
            // What was left over in earlier rebalances was told then; the stop answers for itself.
            (self.totals.unfinished, self.totals.uncommitted) = (0, 0);
        }
        match &mut self.phase {
            Phase::Idle => self.phase = Phase::Gone,
            Phase::In => {
                self.phase = Phase::Leaving(self.new_leave(now, Then::End, Step::AwaitMember));
            }
            Phase::Leaving(leave) => leave.then = Then::End,
            Phase::Closing { then, .. } => *then = Then::End,
            Phase::Gone => {}
        }
    }

    /// Leaves in an orderly way.
    pub(super) fn leave(&mut self, now: Duration, then: Then, port: &mut impl Port) {
        self.phase = Phase::Leaving(self.new_leave(now, then, Step::Drain));
        self.drain_all(now, port);
    }

    /// Lets everything go at once: nothing of this membership counts any more.
    pub(super) fn abandon(&mut self, now: Duration, then: Then, reason: &str, port: &mut impl Port) {
        let then = match &self.phase {
            Phase::Closing { .. } | Phase::Gone | Phase::Idle => return,
            Phase::Leaving(leave) if leave.then == Then::End => Then::End,
            _ => then,
        };
        self.lose_all(now, reason, port);
        self.nameless_since = None;
        let mut leave = self.new_leave(now, then, Step::Abandon);
        leave.hard = now + self.settings.grace.saturating_sub(SLACK);
        if let Phase::Leaving(begun) = &self.phase {
            leave.hard = leave.hard.min(begun.hard);
        }
        self.phase = Phase::Leaving(leave);
    }

    fn new_leave(&self, now: Duration, then: Then, step: Step) -> Leave {
        let drain_by = now + self.settings.drain;
        Leave {
            then,
            since: now,
            step,
            drain_by,
            hard: drain_by + self.settings.grace.saturating_sub(SLACK),
            steady: false,
            quiet_by: now,
        }
    }

    pub(super) fn step_leave(&mut self, now: Duration, port: &mut impl Port) -> bool {
        match &self.phase {
            Phase::Leaving(leave) => {
                let Leave { step, then, since, drain_by, hard, quiet_by, .. } = *leave;
                let next = match step {
                    Step::AwaitMember => self.await_member(now, drain_by, port),
                    Step::Probe => self.probe_steady(now, since, drain_by, port),
                    Step::Drain => self.drain_and_commit(now, since, drain_by, hard, port),
                    Step::Abandon => {
                        let has_time = now + CLOSE_RESERVE < hard || self.has_fresh_leftovers(now);
                        if self.awaits_leftovers() && has_time {
                            return false;
                        }
                        self.detach_leftovers(port);
                        self.close(now, then, hard, port);
                        return true;
                    }
                    Step::AwaitLeft => {
                        if self.has_left(now, quiet_by, port) || now + CLOSE_RESERVE >= hard {
                            self.close(now, then, hard, port);
                            return true;
                        }
                        None
                    }
                };
                let (Some(next), Phase::Leaving(leave)) = (next, &mut self.phase) else { return false };
                leave.step = next;
                true
            }
            Phase::Closing { then, by } if now >= *by => {
                let then = *then;
                self.end_client(then, port);
                true
            }
            _ => false,
        }
    }

    fn await_member(&mut self, now: Duration, drain_by: Duration, port: &impl Port) -> Option<Step> {
        (self.hold.is_some() || port.member_is_known() || now >= drain_by).then_some(Step::Probe)
    }

    fn probe_steady(
        &mut self,
        now: Duration,
        since: Duration,
        drain_by: Duration,
        port: &mut impl Port,
    ) -> Option<Step> {
        // A member that joins for long would use up its whole drain here: half of it is for the lanes.
        let patience = since + (drain_by - since) / 2;
        let needs_no_probe = self.settings.protocol == Protocol::Consumer || self.hold.is_some();
        if needs_no_probe || now >= patience || !self.probe(now, port) {
            self.drain_all_by(now, drain_by, port);
            return Some(Step::Drain);
        }
        None
    }

    fn drain_and_commit(
        &mut self,
        now: Duration,
        since: Duration,
        drain_by: Duration,
        hard: Duration,
        port: &mut impl Port,
    ) -> Option<Step> {
        self.drain_all_by(now, drain_by, port);
        if self.lanes.values().any(|lane| !lane.has_ended()) {
            return None;
        }
        if self.has_fresh_leftovers(now) {
            return None;
        }
        let in_time = now + COMMIT_RESERVE < hard;
        if in_time && (self.awaits_leftovers() || !self.commit_rest(now, port)) {
            return None;
        }
        self.detach_leftovers(port);
        let all: Vec<TopicPartition> = self.lanes.keys().cloned().collect();
        self.give_lanes(now, &all, since, port);
        // Kafka keeps a static member of a classic group: unsubscribing would send LeaveGroup.
        let stays = self.settings.is_static && self.settings.protocol != Protocol::Consumer;
        if !stays {
            port.unsubscribe();
        }
        if self.hold.is_some() {
            self.answer_without_lanes(now, port);
        }
        if let Phase::Leaving(leave) = &mut self.phase
            && !leave.steady
        {
            leave.quiet_by = now + QUIET;
        }
        Some(Step::AwaitLeft)
    }

    fn has_left(&self, now: Duration, quiet_by: Duration, port: &impl Port) -> bool {
        if self.settings.protocol == Protocol::Consumer {
            return port.assignment().is_none_or(|assignment| assignment.is_empty());
        }
        if self.settings.is_static { now >= quiet_by } else { !port.member_is_known() }
    }

    /// A static member stays in the group when its client is closed. In the middle of a rebalance the group would
    /// wait for it until its session is over, so it goes along first, without lanes, until it hears no more.
    pub(super) fn answer_without_lanes(&mut self, now: Duration, port: &mut impl Port) {
        self.answer_hold(now, port);
        if let Phase::Leaving(leave) = &mut self.phase {
            (leave.steady, leave.quiet_by) = (false, now + QUIET);
        }
    }

    fn drain_all(&mut self, now: Duration, port: &mut impl Port) {
        self.drain_all_by(now, now + self.settings.drain, port);
    }

    fn drain_all_by(&mut self, now: Duration, deadline: Duration, port: &mut impl Port) {
        let all: Vec<TopicPartition> = self.lanes.keys().cloned().collect();
        self.drain_lanes(now, &all, deadline, port);
    }

    fn close(&mut self, now: Duration, then: Then, by: Duration, port: &mut impl Port) {
        self.phase = Phase::Closing { then, by };
        port.begin_close();
        self.answer_hold(now, port);
    }

    pub(super) fn on_client_closed(&mut self, port: &mut impl Port) {
        if let Phase::Closing { then, .. } = self.phase {
            self.end_client(then, port);
        }
    }

    fn end_client(&mut self, then: Then, port: &mut impl Port) {
        self.hold = None;
        self.search = None;
        self.commits.forget();
        port.discard();
        self.phase = match then {
            Then::End => Phase::Gone,
            Then::Rejoin => {
                self.totals.rejoins += 1;
                port.join();
                Phase::In
            }
        };
    }
}

/// How long after its last answer a static member hears of the next round: more than the second from one join to
/// the next.
const QUIET: Duration = Duration::from_millis(1_500);
/// How much of the grace is left to a machine that is busy, and to destroying the clients.
const SLACK: Duration = Duration::from_millis(300);
/// How long before the end of a leave the last commit is given up.
const COMMIT_RESERVE: Duration = Duration::from_millis(500);
/// How long before the end of a leave the client is closed, left or not.
const CLOSE_RESERVE: Duration = Duration::from_millis(250);
