//! Joining, asking for the assignment and heartbeats of the classic protocols.

use std::time::Duration;

use super::super::wire::{Id, NOBODY, Parts, Refusal, Request};
use super::{Client, Out, State};
use crate::member::Protocol;

impl Client {
    pub(super) fn classic_unsubscribe(&mut self) {
        self.subscribed = false;
        if self.has_joined() {
            self.leaves_when_unassigned = true;
        }
        if !self.lost {
            self.revoke_all(false);
        }
    }

    pub(super) fn classic_serve(&mut self) {
        match self.join {
            State::Init if !self.awaits_answer => {
                if std::mem::take(&mut self.unsubscribes_next) {
                    self.classic_unsubscribe();
                }
                if self.subscribed && self.join == State::Init && self.now >= self.next_join {
                    self.next_join = self.now + JOIN_INTERVAL;
                    self.join = State::WaitJoin;
                    self.awaits_answer = true;
                    let owned = match self.protocol {
                        Protocol::Cooperative => self.given.unwrap_or_default(),
                        Protocol::Eager | Protocol::Consumer => Parts::NONE,
                    };
                    let (id, generation) = (self.id, self.generation);
                    self.out.push(Out::Send(Request::Join { id, owned, generation }));
                }
            }
            State::Steady | State::WaitAssign | State::WaitUnassign => {
                let is_due = self.now >= self.next_heartbeat && !self.heartbeat_in_flight;
                if self.subscribed && is_due {
                    self.next_heartbeat = self.now + HEARTBEAT_INTERVAL;
                    self.heartbeat_in_flight = true;
                    let (id, generation) = (self.id, self.generation);
                    self.out.push(Out::Send(Request::Heartbeat { id, generation }));
                }
            }
            _ => {}
        }
    }

    pub(super) fn on_joined(&mut self, id: Id, generation: i32, refusal: Option<Refusal>) {
        self.awaits_answer = false;
        // A client that is closing ignores the answer, and never takes the new generation (2199–2201).
        if self.terminating || self.join != State::WaitJoin {
            return;
        }
        let Some(refusal) = refusal else {
            self.id = id;
            self.generation = generation;
            self.join = State::WaitSync;
            self.awaits_answer = true;
            self.out.push(Out::Send(Request::Sync { id, generation }));
            return;
        };
        self.next_join = self.now + JOIN_INTERVAL;
        match refusal {
            Refusal::UnknownMember => self.id = NOBODY,
            Refusal::IllegalGeneration => self.generation = -1,
            Refusal::MemberIdRequired => {
                self.id = id;
                self.next_join = self.now;
            }
            Refusal::Unavailable => self.coordinator = false,
            _ => {}
        }
        let loses = matches!(refusal, Refusal::IllegalGeneration | Refusal::MemberIdRequired);
        if self.protocol == Protocol::Cooperative && loses {
            self.revoke_all(true);
        } else {
            self.rejoin();
        }
    }

    pub(super) fn on_synced(&mut self, result: Result<Parts, Refusal>) {
        self.awaits_answer = false;
        if self.join != State::WaitSync {
            return;
        }
        let refusal = match result {
            Ok(parts) if !self.terminating => {
                self.session_until = self.now + self.session;
                self.handle_assignment(parts);
                return;
            }
            Ok(_) => None,
            Err(refusal) => Some(refusal),
        };
        match refusal {
            Some(Refusal::IllegalGeneration) => self.generation = -1,
            Some(Refusal::UnknownMember) => self.id = NOBODY,
            Some(Refusal::Unavailable) => self.coordinator = false,
            _ => {}
        }
        let loses = matches!(refusal, Some(Refusal::IllegalGeneration | Refusal::UnknownMember));
        if self.protocol == Protocol::Cooperative && loses {
            self.revoke_all(true);
        } else {
            self.rejoin();
        }
    }

    pub(super) fn on_heartbeat(&mut self, result: Result<(), Refusal>) {
        self.heartbeat_in_flight = false;
        let refusal = match result {
            Ok(()) => {
                self.session_until = self.now + self.session;
                return;
            }
            Err(refusal) => refusal,
        };
        if matches!(self.join, State::Init | State::WaitJoin | State::WaitSync) {
            return;
        }
        match refusal {
            Refusal::RebalanceInProgress => {
                self.session_until = self.now + self.session;
                if self.is_held() {
                    return;
                }
                if self.protocol == Protocol::Eager {
                    self.revoke_all_unless_rebalancing(false);
                } else if !self.is_rebalancing() {
                    self.rejoin();
                }
            }
            Refusal::UnknownMember => {
                self.id = NOBODY;
                self.revoke_all_unless_rebalancing(true);
            }
            Refusal::IllegalGeneration => {
                self.generation = -1;
                self.revoke_all_unless_rebalancing(true);
            }
            _ => self.coordinator = false,
        }
    }
}

/// At most one join in that time.
const JOIN_INTERVAL: Duration = Duration::from_secs(1);
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
