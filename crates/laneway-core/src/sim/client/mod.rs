//! The membership client of one member, as librdkafka 2.12.1 behaves (rdkafka_cgrp.c): its join states,
//! when it tells of a rebalance, when it sends LeaveGroup, and when it does not.

mod classic;
mod consumer;
mod rebalance;

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
enum State {
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
    join: State,
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
    consumer: consumer::Consumer,
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
            join: State::Init,
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
            consumer: consumer::Consumer::default(),
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

    pub(super) fn generation(&self) -> i32 {
        self.generation
    }

    pub(super) fn has_id(&self) -> bool {
        self.id != NOBODY
    }

    pub(super) fn assigned(&self) -> Parts {
        self.assigned
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.join, State::WaitAssign | State::WaitUnassign)
    }

    pub(super) fn is_joining(&self) -> bool {
        matches!(self.join, State::WaitJoin | State::WaitSync)
    }

    /// The application answers an event.
    pub(super) fn answer(&mut self, now: Time, reply: Reply) -> Result<(), String> {
        self.now = now;
        if self.terminating {
            self.then_assign = None;
            if self.join == State::WaitAssign {
                self.join = State::WaitUnassign;
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
                if self.join == State::WaitUnassign {
                    self.join = State::WaitIncrUnassigned;
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
        if self.join == State::WaitAssign {
            self.join = State::Steady;
        }
        self.lost = false;
    }

    fn unassign(&mut self) {
        self.assigned = Parts::NONE;
        if self.join == State::WaitUnassign {
            self.join = State::WaitUnassigned;
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
        self.join = State::Init;
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
            self.finish_commit(index, Err(CommitFailure::NoCoordinator));
        }
        self.serve();
    }

    fn serve(&mut self) {
        self.try_terminate();
        if self.closed {
            return;
        }
        if self.join == State::Steady && self.now >= self.session_until {
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
            State::Init | State::Steady => false,
            State::WaitJoin => self.has_joined(),
            _ => true,
        };
        in_state || self.then_assign.is_some() || self.rejoins
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
        Refusal::Partition => CommitFailure::Partition,
        Refusal::Unavailable => CommitFailure::NoCoordinator,
        Refusal::MemberIdRequired => CommitFailure::Other,
    }
}
