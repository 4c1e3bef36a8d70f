//! The coordinator: one group, its committed offsets, and its clients' connections, of each of which one
//! request is served at a time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::classic::Classic;
use super::consumer::Consumer;
use super::wire::{Conn, Refusal, Request, Response, Time};
use crate::member::Protocol;

#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) session: Duration,
    pub(super) rebalance: Duration,
}

/// What comes of a request, or of time.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) answers: Vec<(Conn, Response)>,
    pub(super) evicted: Vec<Conn>,
    /// Commits that were taken.
    pub(super) committed: Vec<Taken>,
}

/// An offset that was committed, by whom, and in which of its commits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) conn: Conn,
    pub(super) token: u64,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

#[derive(Debug)]
pub(super) struct Broker {
    group: Group,
    conns: BTreeMap<Conn, Line>,
    /// By partition.
    pub(super) committed: Vec<Option<i64>>,
    /// The coordinator is not there until then.
    pub(super) down_until: Time,
    /// Commits take so much longer, until then.
    pub(super) slow: (Duration, Time),
    /// Commits of the second topic are refused until then, as if it were gone.
    pub(super) refused_until: Time,
}

#[derive(Debug)]
enum Group {
    Classic(Classic),
    Consumer(Consumer),
}

#[derive(Debug, Default)]
struct Line {
    requests: VecDeque<Request>,
    /// The request that is being served, and waits for its answer.
    waits: Option<Request>,
    /// The first request is a slow one: it is served then.
    not_before: Option<Time>,
}

impl Broker {
    pub(super) fn new(protocol: Protocol, partitions: i32, timing: Timing) -> Self {
        let group = match protocol {
            Protocol::Eager => Group::Classic(Classic::new(false, partitions, timing)),
            Protocol::Cooperative => Group::Classic(Classic::new(true, partitions, timing)),
            Protocol::Consumer => Group::Consumer(Consumer::new(partitions, timing)),
        };
        let committed = (0..partitions).map(|_| None).collect();
        let never = Time::ZERO;
        Self {
            group,
            conns: BTreeMap::new(),
            committed,
            down_until: never,
            slow: (never, never),
            refused_until: never,
        }
    }

    pub(super) fn connect(&mut self, conn: Conn) {
        self.conns.insert(conn, Line::default());
    }

    pub(super) fn disconnect(&mut self, conn: Conn) {
        self.conns.remove(&conn);
    }

    pub(super) fn receive(&mut self, now: Time, conn: Conn, request: Request) -> Turn {
        let mut turn = Turn::default();
        if let Some(line) = self.conns.get_mut(&conn) {
            line.requests.push_back(request);
            self.serve(now, conn, &mut turn);
            self.serve_unblocked(now, &mut turn);
        }
        turn
    }

    /// Serves what can be served of one connection.
    fn serve(&mut self, now: Time, conn: Conn, turn: &mut Turn) {
        while let Some(line) = self.conns.get_mut(&conn) {
            if line.waits.is_some() {
                return;
            }
            let Some(request) = line.requests.front() else { return };
            if let (Request::Commit { .. }, (by, until)) = (request, self.slow) {
                let start = *line.not_before.get_or_insert(if now < until { now + by } else { now });
                if now < start {
                    return;
                }
            }
            let Some(request) = line.requests.pop_front() else { return };
            line.not_before = None;
            let answer = if now < self.down_until {
                Some(unavailable(&request))
            } else {
                line.waits = Some(request.clone());
                self.answer(now, conn, &request, turn)
            };
            if let Some(answer) = answer {
                if let Some(line) = self.conns.get_mut(&conn) {
                    line.waits = None;
                }
                turn.answers.push((conn, answer));
            }
        }
    }

    /// Answers that come of another's request let the connections go on.
    fn serve_unblocked(&mut self, now: Time, turn: &mut Turn) {
        let mut seen = 0;
        while let Some((conn, answer)) = turn.answers.get(seen) {
            seen += 1;
            let conn = *conn;
            if !matches!(answer, Response::Joined { .. } | Response::Synced(_)) {
                continue;
            }
            if let Some(line) = self.conns.get_mut(&conn) {
                line.waits = None;
                self.serve(now, conn, turn);
            }
        }
    }

    fn answer(&mut self, now: Time, conn: Conn, request: &Request, turn: &mut Turn) -> Option<Response> {
        match (request, &mut self.group) {
            (Request::Commit { token, id, generation, offsets }, group) => {
                let result = match group {
                    Group::Classic(group) => group.may_commit(now, *id, *generation),
                    Group::Consumer(group) => group.may_commit(*id, *generation),
                };
                let is_refused = |partition: i32| now < self.refused_until && partition % 2 == 1;
                if result.is_ok() {
                    let taken = offsets.iter().filter(|(partition, _)| !is_refused(*partition));
                    turn.committed.extend(taken.map(|&(partition, offset)| Taken {
                        conn,
                        token: *token,
                        partition,
                        offset,
                    }));
                }
                let refuses = offsets.iter().any(|(partition, _)| is_refused(*partition));
                let result = if refuses { result.and(Err(Refusal::Partition)) } else { result };
                Some(Response::Committed { token: *token, result })
            }
            (Request::Reconcile { id, epoch, owned }, Group::Consumer(group)) => {
                Some(group.heartbeat(now, conn, *id, *epoch, *owned))
            }
            (request, Group::Classic(group)) => group.serve(now, conn, request, turn),
            (request, Group::Consumer(_)) => Some(unavailable(request)),
        }
    }

    pub(super) fn tick(&mut self, now: Time) -> Turn {
        let mut turn = Turn::default();
        if now >= self.down_until {
            match &mut self.group {
                Group::Classic(group) => group.tick(now, &mut turn),
                Group::Consumer(group) => group.tick(now, &mut turn),
            }
        }
        let slow: Vec<Conn> =
            self.conns.iter().filter(|(_, line)| line.not_before.is_some()).map(|(conn, _)| *conn).collect();
        for conn in slow {
            self.serve(now, conn, &mut turn);
        }
        self.serve_unblocked(now, &mut turn);
        turn
    }

    /// The coordinator goes away, and comes back (or another in its place) after a while.
    pub(super) fn go_down(&mut self, now: Time, length: Duration) -> Turn {
        let mut turn = Turn::default();
        let length = length.max(self.down_until.saturating_sub(now));
        self.down_until = now + length;
        match &mut self.group {
            Group::Classic(group) => group.failed_over(now + length),
            Group::Consumer(group) => group.failed_over(now + length),
        }
        let waiting =
            self.conns.iter().filter_map(|(conn, line)| Some((*conn, unavailable(line.waits.as_ref()?))));
        turn.answers.extend(waiting);
        self.serve_unblocked(now, &mut turn);
        turn
    }

    /// Forgets a member as if its session had ended.
    pub(super) fn evict(&mut self, now: Time, conn: Conn) -> Turn {
        let mut turn = Turn::default();
        if now < self.down_until {
            return turn;
        }
        match &mut self.group {
            Group::Classic(group) => group.evict(now, conn, &mut turn),
            Group::Consumer(group) => group.evict(conn, &mut turn),
        }
        self.serve_unblocked(now, &mut turn);
        turn
    }

    /// Who has a partition, in the group's own eyes.
    pub(super) fn owner(&self, partition: i32) -> Option<Conn> {
        match &self.group {
            Group::Classic(group) => group.owner(partition),
            Group::Consumer(group) => group.owner(partition),
        }
    }

    pub(super) fn is_member(&self, conn: Conn) -> bool {
        match &self.group {
            Group::Classic(group) => group.is_member(conn),
            Group::Consumer(group) => group.is_member(conn),
        }
    }

    /// The members, each by its connection.
    pub(super) fn members(&self) -> Vec<Conn> {
        match &self.group {
            Group::Classic(group) => group.conns(),
            Group::Consumer(group) => group.conns(),
        }
    }

    /// Whether no rebalance is going on, and nobody is waited for.
    pub(super) fn is_quiet(&self) -> bool {
        match &self.group {
            Group::Classic(group) => group.is_quiet(),
            Group::Consumer(group) => group.is_quiet(),
        }
    }

    pub(super) fn shown(&self) -> String {
        match &self.group {
            Group::Classic(group) => group.shown(),
            Group::Consumer(group) => group.shown(),
        }
    }
}

fn unavailable(request: &Request) -> Response {
    let refusal = Refusal::Unavailable;
    match request {
        Request::Join { id, .. } => Response::Joined { id: *id, generation: -1, refusal: Some(refusal) },
        Request::Sync { .. } => Response::Synced(Err(refusal)),
        Request::Heartbeat { .. } => Response::Heartbeat(Err(refusal)),
        Request::Leave { .. } => Response::Left,
        Request::Commit { token, .. } => Response::Committed { token: *token, result: Err(refusal) },
        Request::Reconcile { .. } => Response::Reconciled(Err(refusal)),
    }
}
