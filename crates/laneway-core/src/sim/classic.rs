//! A group of the classic protocols, as a broker keeps it.
//!
//! JoinGroup waits until every member has joined again, or until the rebalance timeout throws out those
//! who have not. A member that was given its id and did not come back with it (KIP-394) is waited for too.

use std::collections::BTreeMap;

use super::broker::{Timing, Turn};
use super::spread;
use super::wire::{Conn, Id, NOBODY, Parts, Refusal, Request, Response, Time};

#[derive(Debug)]
pub(super) struct Classic {
    cooperative: bool,
    partitions: i32,
    timing: Timing,
    state: State,
    generation: i32,
    members: BTreeMap<Id, Member>,
    /// Given an id, and not joined with it yet; and until when they are waited for.
    pending: BTreeMap<Id, Time>,
    leader: Id,
    last_id: Id,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Stable,
    /// Waiting for members to join, until then.
    Preparing(Time),
    /// Waiting for members to ask for their assignment, until then.
    Completing(Time),
}

#[derive(Debug)]
struct Member {
    conn: Conn,
    session: Time,
    joining: bool,
    syncing: bool,
    owned: Parts,
    owned_generation: i32,
    assigned: Parts,
}

impl Classic {
    pub(super) fn new(cooperative: bool, partitions: i32, timing: Timing) -> Self {
        Self {
            cooperative,
            partitions,
            timing,
            state: State::Stable,
            generation: 0,
            members: BTreeMap::new(),
            pending: BTreeMap::new(),
            leader: NOBODY,
            last_id: 0,
        }
    }

    /// Serves a request. `None`: it waits, and is answered by the turn of a later one.
    pub(super) fn serve(
        &mut self,
        now: Time,
        conn: Conn,
        request: &Request,
        turn: &mut Turn,
    ) -> Option<Response> {
        match request {
            Request::Join { id, owned, generation } => self.join(now, conn, *id, (*owned, *generation), turn),
            Request::Sync { id, generation } => self.sync(now, *id, *generation, turn),
            Request::Heartbeat { id, generation } => {
                Some(Response::Heartbeat(self.heartbeat(now, *id, *generation)))
            }
            Request::Leave { id } => {
                self.pending.remove(id);
                self.remove(now, *id, turn);
                Some(Response::Left)
            }
            Request::Commit { .. } | Request::Reconcile { .. } => None,
        }
    }

    fn join(
        &mut self,
        now: Time,
        conn: Conn,
        id: Id,
        (owned, owned_generation): (Parts, i32),
        turn: &mut Turn,
    ) -> Option<Response> {
        if id == NOBODY {
            self.last_id += 1;
            self.pending.insert(self.last_id, now + self.timing.session);
            let refusal = Some(Refusal::MemberIdRequired);
            return Some(Response::Joined { id: self.last_id, generation: -1, refusal });
        }
        let session = now + self.timing.session;
        let is_new = self.pending.remove(&id).is_some();
        let mut changed = is_new || id == self.leader;
        match self.members.get_mut(&id) {
            Some(member) => {
                changed |= member.owned != owned;
                changed |= self.cooperative && member.owned_generation != owned_generation;
                member.conn = conn;
                member.owned = owned;
                member.owned_generation = owned_generation;
                member.session = session;
            }
            None if is_new => {
                let assigned = Parts::NONE;
                let (joining, syncing) = (false, false);
                let member = Member { conn, session, joining, syncing, owned, owned_generation, assigned };
                self.members.insert(id, member);
            }
            None => {
                let refusal = Some(Refusal::UnknownMember);
                return Some(Response::Joined { id, generation: -1, refusal });
            }
        }
        if !changed && !matches!(self.state, State::Preparing(_)) {
            // Nothing about it is new: it is told of the generation that there is.
            return Some(Response::Joined { id, generation: self.generation, refusal: None });
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.joining = true;
        }
        self.prepare(now, turn);
        None
    }

    fn sync(&mut self, now: Time, id: Id, generation: i32, turn: &mut Turn) -> Option<Response> {
        if let Err(refusal) = self.check(id, generation) {
            return Some(Response::Synced(Err(refusal)));
        }
        match self.state {
            State::Preparing(_) => return Some(Response::Synced(Err(Refusal::RebalanceInProgress))),
            State::Stable => {
                self.touch(now, id);
                return self.members.get(&id).map(|member| Response::Synced(Ok(member.assigned)));
            }
            State::Completing(_) => {}
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.syncing = true;
        }
        if id == self.leader {
            self.assign();
            self.state = State::Stable;
            let session = now + self.timing.session;
            for member in self.members.values_mut() {
                member.session = session;
                if std::mem::take(&mut member.syncing) {
                    turn.answers.push((member.conn, Response::Synced(Ok(member.assigned))));
                }
            }
        }
        None
    }

    fn heartbeat(&mut self, now: Time, id: Id, generation: i32) -> Result<(), Refusal> {
        self.check(id, generation)?;
        self.touch(now, id);
        match self.state {
            State::Preparing(_) => Err(Refusal::RebalanceInProgress),
            State::Completing(_) | State::Stable => Ok(()),
        }
    }

    pub(super) fn may_commit(&mut self, now: Time, id: Id, generation: i32) -> Result<(), Refusal> {
        self.check(id, generation)?;
        self.touch(now, id);
        match self.state {
            State::Completing(_) => Err(Refusal::RebalanceInProgress),
            State::Preparing(_) | State::Stable => Ok(()),
        }
    }

    fn check(&self, id: Id, generation: i32) -> Result<(), Refusal> {
        if !self.members.contains_key(&id) {
            return Err(Refusal::UnknownMember);
        }
        if generation != self.generation {
            return Err(Refusal::IllegalGeneration);
        }
        Ok(())
    }

    fn touch(&mut self, now: Time, id: Id) {
        if let Some(member) = self.members.get_mut(&id) {
            member.session = now + self.timing.session;
        }
    }

    /// Begins a rebalance, or goes on with the one that is going on.
    fn prepare(&mut self, now: Time, turn: &mut Turn) {
        if !matches!(self.state, State::Preparing(_)) {
            for member in self.members.values_mut() {
                if std::mem::take(&mut member.syncing) {
                    turn.answers.push((member.conn, Response::Synced(Err(Refusal::RebalanceInProgress))));
                }
            }
            self.state = State::Preparing(now + self.timing.rebalance);
        }
        let everybody_joined = self.members.values().all(|member| member.joining);
        if everybody_joined && self.pending.is_empty() {
            self.complete(now, turn);
        }
    }

    fn complete(&mut self, now: Time, turn: &mut Turn) {
        self.members.retain(|_, member| {
            if !member.joining {
                turn.evicted.push(member.conn);
            }
            member.joining
        });
        self.generation += 1;
        if !self.members.contains_key(&self.leader) {
            self.leader = self.members.keys().next().copied().unwrap_or(NOBODY);
        }
        if self.members.is_empty() {
            self.state = State::Stable;
            return;
        }
        self.state = State::Completing(now + self.timing.rebalance);
        for (id, member) in &mut self.members {
            member.joining = false;
            member.session = now + self.timing.session;
            let joined = Response::Joined { id: *id, generation: self.generation, refusal: None };
            turn.answers.push((member.conn, joined));
        }
    }

    fn assign(&mut self) {
        let ids: Vec<Id> = self.members.keys().copied().collect();
        let shares = if self.cooperative {
            self.cooperative_shares()
        } else {
            spread::rotating(&ids, self.partitions, self.generation)
        };
        for (member, share) in self.members.values_mut().zip(shares) {
            member.assigned = share;
        }
    }

    /// What moves is taken from who has it now, and given to its new owner by the next round.
    fn cooperative_shares(&self) -> Vec<Parts> {
        let claims: Vec<(Parts, i32)> =
            self.members.values().map(|member| (member.owned, member.owned_generation)).collect();
        let owned: Vec<Parts> = claims
            .iter()
            .enumerate()
            .map(|(me, (mine, generation))| {
                let better = |(other, (_, theirs)): &(usize, &(Parts, i32))| {
                    theirs > generation || (theirs == generation && *other < me)
                };
                let taken = claims.iter().enumerate().filter(better);
                mine.minus(taken.fold(Parts::NONE, |taken, (_, (theirs, _))| taken.union(*theirs)))
            })
            .collect();
        let everybodys = owned.iter().fold(Parts::NONE, |all, mine| all.union(*mine));
        let targets = spread::sticky(&owned, self.partitions);
        targets.iter().zip(&owned).map(|(target, mine)| target.minus(everybodys.minus(*mine))).collect()
    }

    /// Takes a member out, if it is in.
    fn remove(&mut self, now: Time, id: Id, turn: &mut Turn) {
        if self.members.remove(&id).is_some() {
            self.prepare(now, turn);
        } else if matches!(self.state, State::Preparing(_)) {
            // It was waited for, as a pending one.
            self.prepare(now, turn);
        }
    }

    pub(super) fn tick(&mut self, now: Time, turn: &mut Turn) {
        let given_up: Vec<Id> =
            self.pending.iter().filter(|(_, until)| now >= **until).map(|(id, _)| *id).collect();
        for id in given_up {
            self.pending.remove(&id);
            self.remove(now, id, turn);
        }
        let silent = |member: &Member| !member.joining && !member.syncing && now >= member.session;
        let expired: Vec<Id> =
            self.members.iter().filter(|(_, member)| silent(member)).map(|(id, _)| *id).collect();
        for id in expired {
            self.throw_out(now, id, turn);
        }
        match self.state {
            State::Preparing(until) if now >= until => self.complete(now, turn),
            State::Completing(until) if now >= until => {
                let late: Vec<Id> =
                    self.members.iter().filter(|(_, member)| !member.syncing).map(|(id, _)| *id).collect();
                for id in late {
                    self.throw_out(now, id, turn);
                }
            }
            _ => {}
        }
    }

    fn throw_out(&mut self, now: Time, id: Id, turn: &mut Turn) {
        if let Some(member) = self.members.get(&id) {
            turn.evicted.push(member.conn);
            if member.joining {
                let refusal = Some(Refusal::UnknownMember);
                turn.answers.push((member.conn, Response::Joined { id, generation: -1, refusal }));
            }
            if member.syncing {
                turn.answers.push((member.conn, Response::Synced(Err(Refusal::UnknownMember))));
            }
        }
        self.remove(now, id, turn);
    }

    /// Forgets a member as if its session had ended.
    pub(super) fn evict(&mut self, now: Time, conn: Conn, turn: &mut Turn) {
        let id = self.members.iter().find(|(_, member)| member.conn == conn).map(|(id, _)| *id);
        if let Some(id) = id {
            self.throw_out(now, id, turn);
        }
    }

    /// Another coordinator took the group over: every session begins anew, and nobody waits at it.
    pub(super) fn failed_over(&mut self, now: Time) {
        for member in self.members.values_mut() {
            member.session = now + self.timing.session;
            (member.joining, member.syncing) = (false, false);
        }
        for until in self.pending.values_mut() {
            *until = now + self.timing.session;
        }
        if let State::Preparing(until) | State::Completing(until) = &mut self.state {
            *until = now + self.timing.rebalance;
        }
    }

    pub(super) fn owner(&self, partition: i32) -> Option<Conn> {
        self.members.values().find(|member| member.assigned.contains(partition)).map(|member| member.conn)
    }

    pub(super) fn is_member(&self, conn: Conn) -> bool {
        self.members.values().any(|member| member.conn == conn)
    }

    pub(super) fn conns(&self) -> Vec<Conn> {
        self.members.values().map(|member| member.conn).collect()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.state == State::Stable && self.pending.is_empty()
    }

    pub(super) fn shown(&self) -> String {
        let members: Vec<String> = self
            .members
            .iter()
            .map(|(id, member)| {
                let waits = if member.joining {
                    " joining"
                } else if member.syncing {
                    " syncing"
                } else {
                    ""
                };
                format!("m{}.{}#{id} {:?}{waits}", member.conn.host, member.conn.client, member.assigned)
            })
            .collect();
        let pending: Vec<&Id> = self.pending.keys().collect();
        let state = self.state;
        format!("generation {} {state:?}: {}; pending {pending:?}", self.generation, members.join(", "))
    }
}
