//! A group of KIP-848, as a broker keeps it: every member is told what it is to have, gives back first
//! what it has too much, and gets what it lacks when that is free.

use std::collections::BTreeMap;

use super::broker::{Timing, Turn};
use super::spread;
use super::wire::{Conn, Id, Parts, Refusal, Response, Time};

#[derive(Debug)]
pub(super) struct Consumer {
    partitions: i32,
    timing: Timing,
    /// The group's epoch: every change of members is a new one.
    epoch: i32,
    members: BTreeMap<Id, Member>,
}

#[derive(Debug)]
struct Member {
    conn: Conn,
    epoch: i32,
    previous: i32,
    target: Parts,
    assigned: Parts,
    /// Taken away, and not given back yet.
    revoking: Parts,
    session: Time,
    /// When it must have given back.
    revoke_by: Option<Time>,
}

impl Consumer {
    pub(super) fn new(partitions: i32, timing: Timing) -> Self {
        Self { partitions, timing, epoch: 0, members: BTreeMap::new() }
    }

    pub(super) fn heartbeat(
        &mut self,
        now: Time,
        conn: Conn,
        id: Id,
        epoch: i32,
        owned: Option<Parts>,
    ) -> Response {
        Response::Reconciled(self.reconcile(now, conn, id, epoch, owned))
    }

    fn reconcile(
        &mut self,
        now: Time,
        conn: Conn,
        id: Id,
        epoch: i32,
        owned: Option<Parts>,
    ) -> Result<(i32, Option<Parts>), Refusal> {
        if epoch < 0 {
            self.remove(id);
            return Ok((epoch, None));
        }
        if epoch == 0 && !self.members.contains_key(&id) {
            let none = Parts::NONE;
            let session = now + self.timing.session;
            let member = Member {
                conn,
                epoch: 0,
                previous: 0,
                target: none,
                assigned: none,
                revoking: none,
                session,
                revoke_by: None,
            };
            self.members.insert(id, member);
            self.spread();
        }
        let taken = self.taken_by_others(id);
        let Some(member) = self.members.get_mut(&id) else { return Err(Refusal::UnknownMember) };
        let repeats =
            epoch == member.previous && owned.is_some_and(|owned| owned.minus(member.assigned).is_empty());
        if epoch != 0 && epoch != member.epoch && !repeats {
            return Err(Refusal::FencedEpoch);
        }
        member.session = now + self.timing.session;
        let before = member.assigned;
        member.next(now, self.epoch, taken, owned, self.timing);
        let told = epoch == 0 || owned.is_some() || member.assigned != before;
        Ok((member.epoch, told.then_some(member.assigned)))
    }

    pub(super) fn may_commit(&self, id: Id, epoch: i32) -> Result<(), Refusal> {
        let Some(member) = self.members.get(&id) else { return Err(Refusal::UnknownMember) };
        if epoch == member.epoch { Ok(()) } else { Err(Refusal::StaleEpoch) }
    }

    fn taken_by_others(&self, id: Id) -> Parts {
        let others = self.members.iter().filter(|(other, _)| **other != id);
        others.fold(Parts::NONE, |taken, (_, member)| taken.union(member.assigned).union(member.revoking))
    }

    fn spread(&mut self) {
        self.epoch += 1;
        if self.members.is_empty() {
            return;
        }
        let have: Vec<Parts> = self.members.values().map(|member| member.target).collect();
        let targets = spread::sticky(&have, self.partitions);
        for (member, target) in self.members.values_mut().zip(targets) {
            member.target = target;
        }
    }

    fn remove(&mut self, id: Id) {
        if self.members.remove(&id).is_some() {
            self.spread();
        }
    }

    pub(super) fn tick(&mut self, now: Time, turn: &mut Turn) {
        let late = |member: &Member| now >= member.session || member.revoke_by.is_some_and(|by| now >= by);
        let fenced: Vec<(Id, Conn)> = self
            .members
            .iter()
            .filter(|(_, member)| late(member))
            .map(|(id, member)| (*id, member.conn))
            .collect();
        for (id, conn) in fenced {
            turn.evicted.push(conn);
            self.remove(id);
        }
    }

    pub(super) fn evict(&mut self, conn: Conn, turn: &mut Turn) {
        let id = self.members.iter().find(|(_, member)| member.conn == conn).map(|(id, _)| *id);
        if let Some(id) = id {
            turn.evicted.push(conn);
            self.remove(id);
        }
    }

    pub(super) fn failed_over(&mut self, now: Time) {
        for member in self.members.values_mut() {
            member.session = now + self.timing.session;
            member.revoke_by = member.revoke_by.map(|_| now + self.timing.rebalance);
        }
    }

    pub(super) fn owner(&self, partition: i32) -> Option<Conn> {
        let has = |member: &&Member| member.assigned.union(member.revoking).contains(partition);
        self.members.values().find(has).map(|member| member.conn)
    }

    pub(super) fn is_member(&self, conn: Conn) -> bool {
        self.members.values().any(|member| member.conn == conn)
    }

    pub(super) fn conns(&self) -> Vec<Conn> {
        self.members.values().map(|member| member.conn).collect()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.members.values().all(|member| member.revoking.is_empty() && member.assigned == member.target)
    }

    pub(super) fn shown(&self) -> String {
        let members: Vec<String> = self
            .members
            .values()
            .map(|member| {
                let Member { epoch, assigned, revoking, target, .. } = member;
                let conn = member.conn;
                format!("m{}.{}@{epoch} {assigned:?} -{revoking:?} of {target:?}", conn.host, conn.client)
            })
            .collect();
        format!("epoch {}: {}", self.epoch, members.join(", "))
    }
}

impl Member {
    /// Goes on towards the target: gives back first, and takes only what is free.
    fn next(&mut self, now: Time, group: i32, taken: Parts, owned: Option<Parts>, timing: Timing) {
        if !self.revoking.is_empty() {
            let acknowledged = owned.is_some_and(|owned| owned.both(self.revoking).is_empty());
            if !acknowledged && self.epoch != 0 {
                return;
            }
            self.revoking = Parts::NONE;
            self.revoke_by = None;
        }
        let surplus = self.assigned.minus(self.target);
        if !surplus.is_empty() {
            self.revoking = surplus;
            self.assigned = self.assigned.minus(surplus);
            self.revoke_by = Some(now + timing.rebalance);
            return;
        }
        self.assigned = self.assigned.union(self.target.minus(taken));
        if self.epoch != group {
            self.previous = self.epoch;
            self.epoch = group;
        }
    }
}
