//! When a rebalance is told of, what follows when it was answered, and when LeaveGroup is sent.

use std::time::Duration;

use super::super::wire::{NOBODY, Parts, Request};
use super::{Client, Out, State};
use crate::member::Protocol;

impl Client {
    fn event(&mut self, assign: bool, parts: Parts) {
        if assign {
            self.join = State::WaitAssign;
            self.out.push(Out::Assign(parts));
        } else {
            self.join = State::WaitUnassign;
            self.out.push(Out::Revoke(parts, self.lost));
        }
    }

    /// Tells of a part that comes or goes.
    fn event_incremental(&mut self, assign: bool, parts: Parts, rejoins: bool) {
        self.rejoins = rejoins;
        self.event(assign, parts);
        let given = self.given.unwrap_or_default();
        let given = if assign { given.union(parts) } else { given.minus(parts) };
        self.given = (!given.is_empty()).then_some(given);
    }

    /// Tells of the whole.
    fn event_whole(&mut self, assign: bool, parts: Parts) {
        self.event(assign, parts);
        self.given = assign.then_some(parts);
    }

    pub(super) fn handle_assignment(&mut self, parts: Parts) {
        if self.protocol == Protocol::Eager {
            self.event_whole(true, parts);
            return;
        }
        let old = self.given.unwrap_or_default();
        let (added, revoked) = (parts.minus(old), old.minus(parts));
        if revoked.is_empty() {
            self.event_incremental(true, added, false);
        } else {
            self.then_assign = Some(added);
            self.event_incremental(false, revoked, false);
        }
    }

    pub(super) fn revoke_all_unless_rebalancing(&mut self, lost: bool) {
        if !self.is_rebalancing() {
            self.revoke_all(lost);
        }
    }

    pub(super) fn revoke_all(&mut self, lost: bool) {
        if self.protocol == Protocol::Eager {
            self.lost |= lost;
            match self.given {
                Some(given) if !self.is_held() => self.event_whole(false, given),
                _ => {
                    self.next_join = self.now;
                    self.rejoin();
                }
            }
            return;
        }
        match self.given {
            Some(given) => {
                self.lost |= lost;
                self.event_incremental(false, given, !self.terminating);
            }
            // A ghost: it has left nothing, and its client ends.
            None if self.terminating => {}
            None => self.rejoin(),
        }
    }

    pub(super) fn rejoin(&mut self) {
        match self.protocol {
            Protocol::Consumer => self.consumer_rejoin(),
            Protocol::Eager | Protocol::Cooperative => {
                if !self.subscribed {
                    self.leave_if_due();
                }
                self.join = State::Init;
            }
        }
    }

    pub(super) fn leave_if_due(&mut self) -> bool {
        if !std::mem::take(&mut self.leaves_when_unassigned) {
            return false;
        }
        let id = self.id;
        let request = match self.protocol {
            Protocol::Consumer => Request::Reconcile { id, epoch: -1, owned: None },
            Protocol::Eager | Protocol::Cooperative => {
                self.id = NOBODY;
                Request::Leave { id }
            }
        };
        if self.leaving.is_some() {
            return true;
        }
        if self.coordinator {
            self.leaving = Some(self.now + LEAVE_TIMEOUT);
            self.out.push(Out::Send(request));
        } else if self.protocol == Protocol::Consumer {
            self.consumer_reset();
        }
        true
    }

    /// The assignment has changed, or the last commit was answered.
    pub(super) fn serve_assignment(&mut self) {
        if !self.commits.is_empty() {
            return;
        }
        match self.join {
            State::WaitUnassigned => {
                self.leave_if_due();
                self.next_join = self.now;
                self.rejoin();
            }
            State::WaitIncrUnassigned => self.incremental_unassign_done(),
            State::Init | State::Steady => self.assignment_done(),
            _ => {}
        }
    }

    fn incremental_unassign_done(&mut self) {
        let is_consumer = self.protocol == Protocol::Consumer;
        if self.terminating {
            self.unassign();
            if is_consumer {
                self.leave_if_due();
            }
        } else if let Some(added) = self.then_assign.take() {
            // In cooperative what was given back is for others: a second round gives it to them.
            self.event_incremental(true, added, !is_consumer);
        } else if std::mem::take(&mut self.rejoins) || (!is_consumer && self.unsubscribes_next) {
            self.next_join = self.now;
            self.rejoin();
        } else {
            self.join = State::Steady;
        }
    }

    fn assignment_done(&mut self) {
        if self.protocol == Protocol::Consumer {
            self.consumer_assignment_done();
            return;
        }
        if self.join == State::Steady && (self.unsubscribes_next || std::mem::take(&mut self.rejoins)) {
            self.next_join = self.now;
            self.rejoin();
            return;
        }
        self.try_terminate();
    }
}

/// How long the answer to a leave is waited for.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
