//! The membership client of one member, as librdkafka 2.12.1 behaves (rdkafka_cgrp.c): its join states,
//! when it tells of a rebalance, when it sends LeaveGroup, and when it does not.

mod classic;
mod consumer;

use std::time::Duration;

use super::wire::{Id, NOBODY, Parts, Refusal, Request, Response, Time};
use crate::commit::CommitFailure;
use crate::member::Protocol;

/// What a client does or tells.
#[derive(Debug)]
pub(super) enum Out {
    Send(Request),
    /// A rebalance event: partitions come, or go (and whether they are lost already).
    Assign(Parts),
    Revoke(Parts, bool),
    Committed(u64, Result<(), CommitFailure>),
    Closed,
}

/// How a rebalance event is answered.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reply {
    Assign(Parts),
    Clear,
    Add(Parts),
    Remove(Parts),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Join {
    Init,
    WaitJoin,
    WaitSync,
    WaitAssign,
    WaitUnassign,
    /// Unassigned as a whole, and in part: until no commit is unanswered.
    WaitUnassigned,
    WaitIncrUnassigned,
    Steady,
}

#[derive(Debug)]
pub(super) struct Client {
    protocol: Protocol,
    session: Duration,
    now: Time,
    id: Id,
    generation: i32,
    join: Join,
    subscribed: bool,
    /// What the group gave it, whether or not the application knows of it yet.
    given: Option<Parts>,
    /// What the application assigned.
    assigned: Parts,
    lost: bool,
    /// What is to be told as assigned when the revoke before it is done.
    then_assign: Option<Parts>,
    rejoins: bool,
    unsubscribes_next: bool,
    leaves_when_unassigned: bool,
    /// A leave was sent: until then its answer is waited for.
    leaving: Option<Time>,
    terminating: bool,
    closed: bool,
    awaits_answer: bool,
    next_join: Time,
    next_heartbeat: Time,
    heartbeat_in_flight: bool,
    session_until: Time,
    coordinator: bool,
    commits: Vec<Commit>,
    consumer: consumer::State,
    out: Vec<Out>,
}

#[derive(Debug)]
struct Commit {
    token: u64,
    offsets: Vec<(i32, i64)>,
    until: Time,
    /// Not sent yet, or to be sent again: there is no coordinator.
    deferred: bool,
}

impl Client {
    /// A client that subscribes at once. `id` is its own making with KIP-848, and unused else.
    pub(super) fn new(now: Time, protocol: Protocol, id: Id, session: Duration) -> Self {
        let is_consumer = protocol == Protocol::Consumer;
        Self {
            protocol,
            session,
            now,
            id: if is_consumer { id } else { NOBODY },
            generation: if is_consumer { 0 } else { -1 },
            join: Join::Init,
            subscribed: true,
            given: None,
            assigned: Parts::NONE,
            lost: false,
            then_assign: None,
            rejoins: false,
            unsubscribes_next: false,
            leaves_when_unassigned: false,
            leaving: None,
            terminating: false,
            closed: false,
            awaits_answer: false,
            next_join: now,
            next_heartbeat: now,
            heartbeat_in_flight: false,
            session_until: Time::MAX,
            coordinator: false,
            commits: Vec::new(),
            consumer: consumer::State::default(),
            out: Vec::new(),
        }
    }

    pub(super) fn take_out(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    pub(super) fn is_known(&self) -> bool {
        match self.protocol {
            Protocol::Consumer => self.generation > 0,
            Protocol::Eager | Protocol::Cooperative => self.id != NOBODY,
        }
    }

    pub(super) fn has_id(&self) -> bool {
        self.id != NOBODY
    }

    pub(super) fn assigned(&self) -> Parts {
        self.assigned
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.join, Join::WaitAssign | Join::WaitUnassign)
    }

    pub(super) fn is_joining(&self) -> bool {
        matches!(self.join, Join::WaitJoin | Join::WaitSync)
    }

    /// The application answers an event.
    pub(super) fn answer(&mut self, now: Time, reply: Reply) -> Result<(), String> {
        self.now = now;
        if self.terminating {
            self.then_assign = None;
            if self.join == Join::WaitAssign {
                self.join = Join::WaitUnassign;
            }
            self.unassign();
            self.serve_assignment();
            return Ok(());
        }
        match (self.protocol, reply) {
            (Protocol::Eager, Reply::Assign(parts)) => {
                self.assigned = parts;
                self.now_assigned();
            }
            (Protocol::Eager, Reply::Clear) => self.unassign(),
            (Protocol::Cooperative | Protocol::Consumer, Reply::Add(parts)) => {
                if !self.assigned.both(parts).is_empty() {
                    return Err(format!("{parts:?} added to {:?}", self.assigned));
                }
                self.assigned = self.assigned.union(parts);
                self.now_assigned();
            }
            (Protocol::Cooperative | Protocol::Consumer, Reply::Remove(parts)) => {
                if !parts.minus(self.assigned).is_empty() {
                    return Err(format!("{parts:?} removed from {:?}", self.assigned));
                }
                self.assigned = self.assigned.minus(parts);
                if self.join == Join::WaitUnassign {
                    self.join = Join::WaitIncrUnassigned;
                }
                self.lost = false;
            }
            (_, reply) => return Err(format!("{reply:?} in the wrong protocol")),
        }
        self.serve_assignment();
        self.serve();
        Ok(())
    }

    fn now_assigned(&mut self) {
        if self.join == Join::WaitAssign {
            self.join = Join::Steady;
        }
        self.lost = false;
    }

    fn unassign(&mut self) {
        self.assigned = Parts::NONE;
        if self.join == Join::WaitUnassign {
            self.join = Join::WaitUnassigned;
        }
        self.lost = false;
    }

    pub(super) fn commit(&mut self, now: Time, token: u64, offsets: Vec<(i32, i64)>, timeout: Duration) {
        self.now = now;
        self.commits.push(Commit { token, offsets, until: now + timeout, deferred: true });
        self.send_commits();
    }

    /// Tells of a commit that was never sent.
    pub(super) fn pretend_committed(&mut self, token: u64) {
        self.out.push(Out::Committed(token, Ok(())));
    }

    fn send_commits(&mut self) {
        if !self.coordinator {
            return;
        }
        let (id, generation) = (self.id, self.generation);
        for commit in self.commits.iter_mut().filter(|commit| commit.deferred) {
            commit.deferred = false;
            let (token, offsets) = (commit.token, commit.offsets.clone());
            self.out.push(Out::Send(Request::Commit { token, id, generation, offsets }));
        }
    }

    fn on_committed(&mut self, token: u64, result: Result<(), Refusal>) {
        let Some(index) = self.commits.iter().position(|commit| commit.token == token) else { return };
        match result {
            Err(Refusal::Unavailable) => {
                self.coordinator = false;
                self.commits[index].deferred = true;
                return;
            }
            Err(Refusal::UnknownMember) if self.protocol == Protocol::Consumer => self.hurry(),
            Err(Refusal::UnknownMember) => {
                self.id = NOBODY;
                self.revoke_all_unless_rebalancing(true);
            }
            Err(Refusal::IllegalGeneration) if !self.is_rebalancing() => {
                self.generation = -1;
                self.revoke_all_unless_rebalancing(true);
            }
            Err(Refusal::StaleEpoch) => self.hurry(),
            _ => {}
        }
        self.finish_commit(index, result.map_err(failure));
    }

    fn finish_commit(&mut self, index: usize, result: Result<(), CommitFailure>) {
        let commit = self.commits.remove(index);
        self.out.push(Out::Committed(commit.token, result));
        if self.commits.is_empty() {
            self.serve_assignment();
        }
    }

    pub(super) fn unsubscribe(&mut self, now: Time) {
        self.now = now;
        if self.protocol == Protocol::Consumer {
            self.consumer_unsubscribe();
        } else if self.is_rebalancing() {
            self.unsubscribes_next = true;
        } else if self.subscribed {
            self.classic_unsubscribe();
        }
        self.serve();
    }

    pub(super) fn begin_close(&mut self, now: Time) {
        self.now = now;
        self.terminating = true;
        self.consumer.forget_rejoin();
        if self.subscribed {
            match self.protocol {
                Protocol::Consumer => self.consumer_unsubscribe(),
                Protocol::Eager | Protocol::Cooperative => self.classic_unsubscribe(),
            }
        }
        if !self.is_held() {
            self.unassign();
        }
        self.serve_assignment();
        self.try_terminate();
    }

    /// It has raised a fatal error: its assignment is gone, and no event says so.
    pub(super) fn fail(&mut self) {
        self.assigned = Parts::NONE;
        self.given = None;
        self.subscribed = false;
        self.join = Join::Init;
    }

    /// What subscribed topics there are has changed, or so it seems.
    pub(super) fn metadata_changed(&mut self, now: Time) {
        self.now = now;
        if !self.subscribed || self.terminating {
            return;
        }
        match self.protocol {
            Protocol::Consumer => {}
            Protocol::Eager => self.revoke_all(false),
            Protocol::Cooperative => self.rejoin(),
        }
        self.serve();
    }

    pub(super) fn on_response(&mut self, now: Time, response: Response) {
        self.now = now;
        if self.closed {
            return;
        }
        match response {
            Response::Joined { id, generation, refusal } => self.on_joined(id, generation, refusal),
            Response::Synced(result) => self.on_synced(result),
            Response::Heartbeat(result) => self.on_heartbeat(result),
            Response::Left => {
                self.leaving = None;
                self.try_terminate();
            }
            Response::Committed { token, result } => self.on_committed(token, result),
            Response::Reconciled(result) => self.on_reconciled(result),
        }
        self.serve();
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Time, coordinator: bool) {
        self.now = now;
        self.coordinator = coordinator;
        if self.closed {
            return;
        }
        if self.leaving.is_some_and(|until| now >= until) {
            self.leaving = None;
        }
        while let Some(index) = self.commits.iter().position(|commit| now >= commit.until) {
            self.finish_commit(index, Err(CommitFailure::Other));
        }
        self.serve();
    }

    fn serve(&mut self) {
        self.try_terminate();
        if self.closed {
            return;
        }
        if self.join == Join::Steady && self.now >= self.session_until {
            self.session_until = Time::MAX;
            self.id = NOBODY;
            self.revoke_all_unless_rebalancing(true);
        }
        if self.coordinator {
            self.send_commits();
            match self.protocol {
                Protocol::Consumer => self.consumer_serve(),
                Protocol::Eager | Protocol::Cooperative => self.classic_serve(),
            }
        }
    }

    fn has_joined(&self) -> bool {
        self.is_known()
    }

    fn is_rebalancing(&self) -> bool {
        let in_state = match self.join {
            Join::Init | Join::Steady => false,
            Join::WaitJoin => self.has_joined(),
            _ => true,
        };
        in_state || self.then_assign.is_some() || self.rejoins
    }

    fn event(&mut self, assign: bool, parts: Parts) {
        if assign {
            self.join = Join::WaitAssign;
            self.out.push(Out::Assign(parts));
        } else {
            self.join = Join::WaitUnassign;
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

    fn handle_assignment(&mut self, parts: Parts) {
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

    fn revoke_all_unless_rebalancing(&mut self, lost: bool) {
        if !self.is_rebalancing() {
            self.revoke_all(lost);
        }
    }

    fn revoke_all(&mut self, lost: bool) {
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

    fn rejoin(&mut self) {
        match self.protocol {
            Protocol::Consumer => self.consumer_rejoin(),
            Protocol::Eager | Protocol::Cooperative => {
                if !self.subscribed {
                    self.leave_if_due();
                }
                self.join = Join::Init;
            }
        }
    }

    fn leave_if_due(&mut self) -> bool {
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
    fn serve_assignment(&mut self) {
        if !self.commits.is_empty() {
            return;
        }
        match self.join {
            Join::WaitUnassigned => {
                self.leave_if_due();
                self.next_join = self.now;
                self.rejoin();
            }
            Join::WaitIncrUnassigned => self.incremental_unassign_done(),
            Join::Init | Join::Steady => self.assignment_done(),
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
        } else if std::mem::take(&mut self.rejoins) {
            self.next_join = self.now;
            self.rejoin();
        } else if !is_consumer && self.unsubscribes_next {
            self.next_join = self.now;
            self.rejoin();
        } else {
            self.join = Join::Steady;
        }
    }

    fn assignment_done(&mut self) {
        if self.protocol == Protocol::Consumer {
            self.consumer_assignment_done();
            return;
        }
        if self.join == Join::Steady && (self.unsubscribes_next || std::mem::take(&mut self.rejoins)) {
            self.next_join = self.now;
            self.rejoin();
            return;
        }
        self.try_terminate();
    }

    fn try_terminate(&mut self) -> bool {
        let done = self.terminating && !self.is_held() && self.commits.is_empty() && self.leaving.is_none();
        if done && !self.closed {
            self.closed = true;
            self.out.push(Out::Closed);
        }
        done
    }

    pub(super) fn shown(&self) -> String {
        let Self { id, generation, join, given, assigned, .. } = self;
        let gone = if self.subscribed { "" } else { " unsubscribed" };
        format!("#{id} generation {generation} {join:?}{gone}, given {given:?}, assigned {assigned:?}")
    }
}

fn failure(refusal: Refusal) -> CommitFailure {
    match refusal {
        Refusal::UnknownMember => CommitFailure::UnknownMember,
        Refusal::IllegalGeneration => CommitFailure::IllegalGeneration,
        Refusal::RebalanceInProgress => CommitFailure::RebalanceInProgress,
        Refusal::StaleEpoch => CommitFailure::StaleEpoch,
        Refusal::FencedEpoch => CommitFailure::FencedEpoch,
        Refusal::MemberIdRequired | Refusal::Unavailable => CommitFailure::Other,
    }
}

/// How long the answer to a leave is waited for.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
