//! KIP-848: heartbeats that tell what is to be had, and acknowledge what is.

use super::super::wire::{Parts, Refusal, Request};
use super::classic::HEARTBEAT_INTERVAL;
use super::{Client, Out, State};

#[derive(Debug, Default)]
pub(super) struct Consumer {
    current: Parts,
    target: Option<Parts>,
    next_target: Option<Parts>,
    awaits_acknowledgement: bool,
    acknowledging: bool,
    /// The broker fenced it: it is to lose everything and to join again.
    must_rejoin: bool,
    is_rejoining: bool,
    sends_everything: bool,
}

impl Consumer {
    pub(super) fn forget_rejoin(&mut self) {
        (self.must_rejoin, self.is_rejoining) = (false, false);
    }
}

impl Client {
    pub(super) fn consumer_unsubscribe(&mut self) {
        self.subscribed = false;
        let rejoins = self.consumer.must_rejoin || self.consumer.is_rejoining;
        if !rejoins && self.has_joined() && !self.will_leave() {
            self.leaves_when_unassigned = true;
            self.revoke_all(false);
        }
    }

    fn will_leave(&self) -> bool {
        self.leaves_when_unassigned || self.leaving.is_some()
    }

    pub(super) fn consumer_reset(&mut self) {
        self.generation = 0;
        self.consumer = Consumer { is_rejoining: self.consumer.is_rejoining, ..Consumer::default() };
    }

    pub(super) fn consumer_rejoin(&mut self) {
        self.leave_if_due();
        self.consumer_reset();
        self.join = State::Init;
        self.hurry();
    }

    /// The next heartbeat goes out at once.
    pub(super) fn hurry(&mut self) {
        self.next_heartbeat = self.now;
    }

    pub(super) fn consumer_serve(&mut self) {
        if self.consumer.must_rejoin {
            if self.is_rebalancing() {
                return;
            }
            self.consumer.must_rejoin = false;
            self.consumer.is_rejoining = true;
            self.revoke_all(true);
        }
        let mut everything = self.consumer.sends_everything;
        if self.join == State::Init {
            self.consumer.is_rejoining = false;
            everything = true;
        }
        let acknowledges = self.join == State::Steady && self.consumer.awaits_acknowledgement;
        let may = self.subscribed
            && !self.heartbeat_in_flight
            && !self.consumer.is_rejoining
            && !self.will_leave()
            && self.now >= self.next_heartbeat;
        if !may {
            return;
        }
        self.next_heartbeat = self.now + HEARTBEAT_INTERVAL;
        self.heartbeat_in_flight = true;
        let owned = if acknowledges {
            self.consumer.acknowledging = true;
            self.consumer.target
        } else {
            everything.then_some(self.consumer.current)
        };
        let (id, epoch) = (self.id, self.generation.max(0));
        self.out.push(Out::Send(Request::Reconcile { id, epoch, owned }));
    }

    pub(super) fn consumer_assignment_done(&mut self) {
        let mut is_out = self.leave_if_due();
        is_out |= self.try_terminate();
        if is_out {
            return;
        }
        if self.join == State::Init {
            self.hurry();
        } else if std::mem::take(&mut self.rejoins) {
            self.rejoin();
        } else if self.consumer.awaits_acknowledgement {
            self.hurry();
        }
    }

    pub(super) fn on_reconciled(&mut self, result: Result<(i32, Option<Parts>), Refusal>) {
        if self.leaving.is_some() && matches!(result, Ok((..0, _))) {
            self.consumer_reset();
            self.leaving = None;
            self.try_terminate();
            return;
        }
        self.heartbeat_in_flight = false;
        let (epoch, assignment) = match result {
            Ok(answer) => answer,
            Err(Refusal::UnknownMember | Refusal::FencedEpoch) => {
                self.consumer.must_rejoin = true;
                return;
            }
            Err(_) => {
                self.consumer.sends_everything = true;
                self.coordinator = false;
                if self.leaving.is_some() {
                    self.leaving = Some(self.now);
                }
                return;
            }
        };
        self.generation = epoch;
        if self.will_leave() {
            return;
        }
        if let Some(parts) = assignment {
            let known = self.consumer.target.unwrap_or(self.consumer.current);
            self.consumer.next_target = (parts != known).then_some(parts);
        }
        if self.join == State::Steady && self.consumer.awaits_acknowledgement {
            if self.consumer.acknowledging {
                self.consumer.current = self.consumer.target.take().unwrap_or_default();
                self.consumer.awaits_acknowledgement = false;
            } else {
                self.hurry();
            }
        }
        if let (Some(parts), true) = (self.consumer.next_target, self.subscribed) {
            self.take_target(parts);
        } else {
            self.consumer.next_target = None;
        }
        self.consumer.sends_everything = false;
        self.consumer.acknowledging = false;
    }

    fn take_target(&mut self, parts: Parts) {
        if self.consumer.awaits_acknowledgement {
            return;
        }
        if parts == self.consumer.target.unwrap_or(self.consumer.current) {
            self.consumer.next_target = None;
        } else if matches!(self.join, State::Init | State::Steady) {
            self.consumer.awaits_acknowledgement = true;
            self.consumer.target = Some(parts);
            self.consumer.next_target = None;
            self.handle_assignment(parts);
        }
    }
}
