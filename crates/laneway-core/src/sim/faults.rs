//! What the plan does to the group.

use std::collections::BTreeSet;
use std::time::Duration;

use super::plan::{Action, Moment, SESSION};
use super::process::Process;
use super::story::Who;
use super::world::{Event, Host, World};
use crate::member::{Input, Member, Protocol};

impl World {
    /// Does something to a member, or to any that is there.
    pub(super) fn act(&mut self, action: Action, to: Option<usize>) {
        let there = |host: &Host| !host.crashed && !host.gone;
        let host = to.filter(|host| there(&self.hosts[*host])).or_else(|| {
            let all: Vec<usize> = (0..self.hosts.len()).filter(|host| there(&self.hosts[*host])).collect();
            if to.is_some() || all.is_empty() { None } else { self.rng.pick(&all) }
        });
        match action {
            Action::Join => {
                self.join();
            }
            Action::JoinBriefly(length) => {
                let host = self.join();
                let at = self.now + length;
                self.at(at, Event::Act(Action::Stop, Some(host)));
            }
            Action::CoordinatorDown(length) => {
                self.tell(Who::World, |_| format!("the coordinator goes down for {length:?}"));
                let turn = self.broker.go_down(self.now, length);
                self.take_turn(turn);
                self.changed(length + SESSION);
            }
            Action::SlowCommits(by, length) => {
                self.tell(Who::World, |_| format!("commits take {by:?} for {length:?}"));
                self.broker.slow = (by, self.now + length);
                self.changed(length + by);
            }
            Action::LoseAnswers(length) => {
                self.tell(Who::World, |_| format!("answers to commits are lost for {length:?}"));
                self.weather.answers_lost = self.now + length;
                self.changed(length + SESSION);
            }
            Action::TopicRefused(length) => {
                self.tell(Who::World, |_| format!("commits of a topic are refused for {length:?}"));
                self.broker.refused_until = self.now + length;
                self.changed(length);
            }
            Action::StartsFail(length) => {
                self.tell(Who::World, |_| format!("no starts are found for {length:?}"));
                self.weather.starts_fail = self.now + length;
                self.changed(length);
            }
            Action::StartsSlow(length) => {
                self.tell(Who::World, |_| format!("starts are found slowly for {length:?}"));
                self.weather.starts_slow = self.now + length;
                self.changed(length);
            }
            Action::When(moment, action) => self.weather.armed.push((moment, *action)),
            _ => {
                if let Some(host) = host {
                    self.act_on(action, host);
                    self.keep_somebody();
                }
            }
        }
    }

    /// Once everything is done that is to be done, somebody must be there to do the rest.
    pub(super) fn keep_somebody(&mut self) {
        let is_over = self.now >= self.plan.active && !self.is_ending;
        if is_over && !self.hosts.iter().any(Host::takes_part) {
            self.join();
        }
    }

    fn act_on(&mut self, action: Action, host: usize) {
        self.tell(Who::Host(host), |_| format!("-- {action:?}"));
        self.changed(Duration::ZERO);
        let now = self.now;
        match action {
            Action::Stop => self.stop(host),
            Action::Crash => {
                self.hosts[host].crashed = true;
                self.check.crashed(host);
                let conn = self.hosts[host].process.conn();
                let at = self.arrival(host, 0, 4);
                self.at(at, Event::Disconnect(conn));
                self.changed(SESSION);
            }
            Action::Freeze(length) => {
                let Host { frozen_until, stop, .. } = &mut self.hosts[host];
                *frozen_until = (*frozen_until).max(now + length);
                if let Some((_, by)) = stop {
                    *by += length;
                }
                self.changed(length);
            }
            Action::CloseHangs => self.hosts[host].process.hangs = true,
            Action::Evict => {
                let conn = self.hosts[host].process.conn();
                let turn = self.broker.evict(now, conn);
                self.take_turn(turn);
            }
            Action::Metadata => {
                let Some(client) = &mut self.hosts[host].process.client else { return };
                if client.is_held() && self.run.protocol != Protocol::Consumer {
                    self.mislead(host);
                }
                let Some(client) = &mut self.hosts[host].process.client else { return };
                client.metadata_changed(now);
                self.flush(host);
            }
            Action::LaneFails { out_of_range } => {
                let lanes = &mut self.hosts[host].process.lanes;
                let Some(lane) = lanes.values_mut().find(|lane| !lane.drains) else { return };
                lane.failed = true;
                let lane = lane.id.clone();
                self.at(now, Event::Input(host, Input::LaneFailed { lane, out_of_range }));
            }
            Action::Fatal | Action::Broken => {
                let is_the_end = action == Action::Fatal;
                let conn = self.hosts[host].process.conn();
                let process = &mut self.hosts[host].process;
                let Some(client) = &mut process.client else { return };
                client.fail();
                process.ended |= is_the_end;
                let turn = self.broker.evict(now, conn);
                self.take_turn(turn);
                self.check.excuse(host);
                let at = now + self.rng.ms(0..400);
                let said = if is_the_end { Input::Fatal } else { Input::Broken };
                self.at(at, Event::Told(conn, said("fenced".to_owned())));
            }
            _ => {}
        }
    }

    pub(super) fn join(&mut self) -> usize {
        let host = self.hosts.len();
        let rng = self.rng.fork();
        let mut process = Process::new(host, self.run.protocol, rng, self.plan.work, SESSION);
        process.sabotage = self.run.sabotage;
        self.hosts.push(Host {
            member: Member::new(self.plan.settings.clone()),
            process,
            crashed: false,
            misled: None,
            misled_commits: BTreeSet::new(),
            events: (0, 0),
            frozen_until: Duration::ZERO,
            stop: None,
            gone: false,
            arrivals: [Duration::ZERO; 3],
        });
        self.changed(Duration::ZERO);
        self.input(host, Input::Join);
        self.at(self.now, Event::Tick(host));
        host
    }

    fn stop(&mut self, host: usize) {
        let now = self.now;
        let settings = &self.plan.settings;
        let Host { stop, frozen_until, .. } = &mut self.hosts[host];
        if stop.is_some() {
            return;
        }
        // What is frozen hears of it when it thaws.
        let heard = now.max(*frozen_until);
        *stop = Some((heard, heard + settings.drain + settings.grace + Self::tolerance()));
        self.at(heard, Event::Input(host, Input::Stop));
        self.changed(heard.saturating_sub(now) + Duration::from_secs(1));
    }

    /// Until its next event a member can't know that its partitions may be anyone's. In the classic protocols it
    /// can when it commits: then its client is in another generation.
    pub(super) fn mislead(&mut self, host: usize) {
        match self.run.protocol {
            Protocol::Consumer => self.check.excuse(host),
            Protocol::Eager | Protocol::Cooperative => self.check.excuse_lanes(host),
        }
        let Host { misled, events, .. } = &mut self.hosts[host];
        *misled = Some(events.0 + 1);
    }

    /// Something was done, and is over after that.
    fn changed(&mut self, length: Duration) {
        self.last_change = self.last_change.max(self.now + length);
    }

    /// A member comes to a step: what waits for that is done to it, now or a little later.
    pub(super) fn moment(&mut self, host: usize, moment: Moment) {
        let Some(index) = self.weather.armed.iter().position(|(armed, _)| *armed == moment) else { return };
        if !self.rng.chance(40) {
            return;
        }
        let (_, action) = self.weather.armed.remove(index);
        let longest = if self.rng.chance(50) { 3 } else { 400 };
        let at = self.now + self.rng.ms(0..longest);
        self.at(at, Event::Act(action, Some(host)));
    }
}
