//! What processes do all the time: look for starts, and handle records.

use super::lane::Handler;
use super::story::Who;
use super::world::{Event, World};
use crate::member::Input;
use crate::port::Want;
use crate::start::{Found, Log, Reset, first_start, start_again};
use crate::types::{Epoch, Position};

impl World {
    pub(super) fn find_starts(&mut self, host: usize, token: u64, wanted: Vec<Want>) {
        let fails = self.now < self.weather.starts_fail || self.now < self.broker.down_until;
        let log = Log { start: 0, end: self.log_end() };
        let found = wanted.into_iter().map(|want| {
            let index = want.partition.partition.unsigned_abs() as usize;
            let found = match (self.broker.committed[index], want.out_of_range) {
                _ if fails => Err("the coordinator does not answer".to_owned()),
                (_, Some(stood)) => start_again(stood, log, Reset::Earliest).ok_or_else(String::new),
                (Some(offset), None) => Ok(Found::committed(Position::at(offset))),
                (None, None) => first_start(log, Reset::Earliest, false).ok_or_else(String::new),
            };
            (want.partition, found)
        });
        let found: Vec<_> = found.collect();
        let slow = self.now < self.weather.starts_slow;
        let delay = if slow { self.rng.ms(100..9_000) } else { self.rng.ms(1..10) };
        let at = self.now + delay;
        self.at(at, Event::Input(host, Input::Starts { token, found }));
    }

    /// How far the log of each partition goes, at the end of the run.
    pub(super) fn log_end(&self) -> i64 {
        i64::try_from(self.plan.active.as_millis() / self.plan.interval.as_millis()).unwrap_or(0)
    }

    pub(super) fn take(&mut self, host: usize, epoch: Epoch) {
        let end = self.log_end();
        let process = &mut self.hosts[host].process;
        let Some(lane) = process.lanes.get_mut(&epoch) else { return };
        if lane.drains || lane.failed || lane.in_flight.is_some() || lane.tracker.position() >= end {
            return;
        }
        let offset = lane.tracker.position();
        let written = self.plan.interval * u32::try_from(offset).unwrap_or(0);
        if written > self.now {
            let at = written + self.rng.ms(1..4);
            self.at(at, Event::Take { host, epoch });
            return;
        }
        let Some(ticket) = lane.tracker.deliver(offset, None) else { return };
        let partition = lane.partition;
        let work = process.work;
        let is_slow = process.rng.within(0..1_000) < work.slow;
        let (from, to) = if is_slow { work.slow_for } else { work.latency };
        let deaf = is_slow && process.rng.chance(work.deaf);
        self.serials += 1;
        let serial = self.serials;
        lane.in_flight = Some(Handler { offset, ticket, serial, deaf });
        let at = self.now + process.rng.ms(from..to);
        self.at(at, Event::Handled { host, epoch, serial });
        if is_slow && to > 400 {
            self.last_change = self.last_change.max(at);
            self.tell(Who::Host(host), |_| {
                format!("t-{partition}:{offset} takes until {at:?}, deaf: {deaf}")
            });
        }
        self.check.started(host, epoch, partition, offset);
    }

    pub(super) fn handled(&mut self, host: usize, epoch: Epoch, serial: u64) {
        let process = &mut self.hosts[host].process;
        process.now = self.now;
        let Some(lane) = process.lanes.get_mut(&epoch) else { return };
        let Some(handler) = lane.in_flight.take_if(|handler| handler.serial == serial) else { return };
        if lane.cancelled {
            lane.unfinished = true;
        } else {
            lane.tracker.finish(handler.ticket);
            let partition = lane.partition;
            self.check.finished(partition, handler.offset);
        }
        if lane.drains {
            let delay = process.rng.ms(0..5);
            process.end_lane(epoch, delay);
            self.flush(host);
        } else {
            self.take(host, epoch);
        }
    }
}
