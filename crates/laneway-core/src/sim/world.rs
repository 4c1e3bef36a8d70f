//! A run: the calendar of what is to happen, and everything it happens to.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use super::broker::{Broker, Taken, Timing, Turn};
use super::check::Check;
use super::client::Client;
use super::plan::{Action, Moment, Plan, REBALANCE, SESSION};
use super::process::{Process, ended, parts};
use super::rng::Rng;
use super::story::{Story, Who};
use super::wire::{Conn, Parts, Request, Response, Time};
use super::{Conditions, Run, Sabotage, Summary};
use crate::member::{Input, Member, Protocol};
use crate::port::Want;
use crate::types::Epoch;

#[derive(Debug)]
pub(super) struct World {
    pub(super) run: Run,
    pub(super) now: Time,
    calendar: BinaryHeap<Reverse<(Time, u64)>>,
    /// What is in the calendar, by its number from `events_from` on.
    events: VecDeque<Option<Event>>,
    events_from: u64,
    pub(super) plan: Plan,
    pub(super) rng: Rng,
    pub(super) hosts: Vec<Host>,
    pub(super) broker: Broker,
    pub(super) check: Check,
    pub(super) story: Story,
    pub(super) weather: Weather,
    pub(super) serials: u64,
    /// Everybody is to stop.
    pub(super) is_ending: bool,
    /// When something was last done to the group, or ended that was.
    pub(super) last_change: Time,
}

/// What goes wrong for everybody, and until when.
#[derive(Debug, Default)]
pub(super) struct Weather {
    pub(super) answers_lost: Time,
    pub(super) starts_fail: Time,
    pub(super) starts_slow: Time,
    pub(super) armed: Vec<(Moment, Action)>,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) member: Member,
    pub(super) process: Process,
    pub(super) crashed: bool,
    /// Its client joined again in the middle of a hold, and it can't know until it is told of this event.
    pub(super) misled: Option<u64>,
    /// What it committed meanwhile.
    pub(super) misled_commits: BTreeSet<u64>,
    /// Events that its clients told of, and that reached it.
    pub(super) events: (u64, u64),
    pub(super) frozen_until: Time,
    /// When it was told to stop, and when it must be gone.
    pub(super) stop: Option<(Time, Time)>,
    pub(super) gone: bool,
    /// When the last of each kind arrives: requests, answers, and what the client tells.
    pub(super) arrivals: [Time; 3],
}

#[derive(Debug)]
pub(super) enum Event {
    Tick(usize),
    BrokerTick,
    Request(Conn, Request),
    Response(Conn, Response),
    Disconnect(Conn),
    /// What a client tells its member.
    Told(Conn, Input),
    /// What comes from elsewhere.
    Input(usize, Input),
    FindStarts {
        host: usize,
        token: u64,
        wanted: Vec<Want>,
    },
    Take {
        host: usize,
        epoch: Epoch,
    },
    Handled {
        host: usize,
        epoch: Epoch,
        serial: u64,
    },
    LaneEnds {
        host: usize,
        epoch: Epoch,
    },
    Act(Action, Option<usize>),
}

impl Event {
    /// The process that must be awake for it.
    fn host(&self) -> Option<usize> {
        match self {
            Self::Tick(host)
            | Self::Input(host, _)
            | Self::Take { host, .. }
            | Self::Handled { host, .. }
            | Self::LaneEnds { host, .. } => Some(*host),
            Self::Response(conn, _) | Self::Told(conn, _) => Some(conn.host),
            Self::BrokerTick
            | Self::Request(..)
            | Self::Disconnect(_)
            | Self::FindStarts { .. }
            | Self::Act(..) => None,
        }
    }
}

impl World {
    pub(super) fn new(run: Run, told: bool) -> Self {
        let mut rng = Rng::new(run.seed);
        let plan = Plan::new(&run, &mut rng);
        let timing = Timing { session: SESSION, rebalance: REBALANCE };
        let mut broker = Broker::new(run.protocol, plan.partitions, timing);
        for committed in &mut broker.committed {
            *committed = rng.chance(50).then_some(0);
        }
        Self {
            run,
            now: Time::ZERO,
            calendar: BinaryHeap::new(),
            events: VecDeque::new(),
            events_from: 0,
            rng,
            hosts: Vec::new(),
            broker,
            check: Check::new(run.conditions, plan.partitions),
            story: Story::new(told),
            weather: Weather::default(),
            serials: 0,
            is_ending: false,
            last_change: plan.active,
            plan,
        }
    }

    /// The run, and its story if it is told.
    pub(super) fn live(mut self) -> (Result<Summary, String>, String) {
        let result = self.whole_life();
        (result, self.story.into_text())
    }

    fn whole_life(&mut self) -> Result<Summary, String> {
        self.tell(Who::World, |world| {
            let Plan { partitions, members, interval, active, .. } = &world.plan;
            let work = world.plan.work;
            format!("{partitions} partitions, {members} members, a record each {interval:?}, for {active:?}; {work:?}")
        });
        self.at(Time::ZERO, Event::BrokerTick);
        for _ in 0..self.plan.members {
            let at = self.rng.ms(0..500);
            self.at(at, Event::Act(Action::Join, None));
        }
        for (at, action) in self.plan.actions.clone() {
            self.at(at, Event::Act(action, None));
        }
        let active = self.plan.active;
        self.go_on(active, |_| false)?;
        self.weather.armed.clear();
        self.keep_somebody();
        // Whatever was begun has ended by then.
        let bound = match self.run.conditions {
            Conditions::Graceful => Duration::from_secs(15),
            Conditions::Faulty => Duration::from_secs(60),
        };
        // A slow record is a change too, but a group that gives itself new ones for ever must not last.
        let latest = self.plan.active + LONGEST_LIFE;
        loop {
            let until = (self.last_change + bound).min(latest);
            self.go_on(until, Self::is_settled)?;
            if self.is_settled() {
                break;
            }
            if self.now >= (self.last_change + bound).min(latest) {
                return Err(self.not_settled());
            }
        }
        let took = self.now.saturating_sub(self.last_change);
        self.check.settled_after(took);
        self.end()
    }

    /// Everybody stops, and nothing may be left.
    fn end(&mut self) -> Result<Summary, String> {
        self.tell(Who::World, |_| "settled; now everybody stops".to_owned());
        self.is_ending = true;
        let staying: Vec<usize> =
            (0..self.hosts.len()).filter(|host| self.hosts[*host].takes_part()).collect();
        for host in staying {
            let at = self.now + self.rng.ms(0..1_500);
            self.at(at, Event::Act(Action::Stop, Some(host)));
        }
        let until = self.now + Duration::from_secs(30);
        let all_gone = |world: &Self| world.hosts.iter().all(|host| host.gone || host.crashed);
        self.go_on(until, all_gone)?;
        if !all_gone(self) {
            return Err("I11: a member did not end".to_owned());
        }
        let until = self.now + Duration::from_millis(100);
        self.go_on(until, |_| false)?;
        let left = self.broker.members();
        if self.run.conditions == Conditions::Graceful && !(left.is_empty() && self.broker.is_quiet()) {
            return Err(format!("ghosts: {}", self.broker.shown()));
        }
        let end = self.log_end();
        self.check.finish(end);
        for host in &self.hosts {
            let totals = host.member.totals();
            self.check.summary.rebalances += totals.rebalances;
            self.check.summary.rejoins += totals.rejoins;
        }
        self.check.summary.members = self.hosts.len() as u64;
        match self.check.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(self.check.summary),
        }
    }

    /// Lets things happen until a time, or until something is so.
    fn go_on(&mut self, until: Time, enough: impl Fn(&Self) -> bool) -> Result<(), String> {
        let mut next_look = self.now;
        while let Some(Reverse((at, _))) = self.calendar.peek() {
            let at = *at;
            if at > until {
                break;
            }
            if at >= next_look {
                if enough(self) {
                    return Ok(());
                }
                next_look = at + Duration::from_millis(100);
            }
            self.next(at);
            if let Some(failure) = self.check.failure.take() {
                return Err(failure);
            }
        }
        self.now = self.now.max(until);
        Ok(())
    }

    pub(super) fn at(&mut self, at: Time, event: Event) {
        let number = self.events_from + self.events.len() as u64;
        self.events.push_back(Some(event));
        self.calendar.push(Reverse((at, number)));
    }

    fn next(&mut self, at: Time) {
        let Some(Reverse((_, number))) = self.calendar.pop() else { return };
        let index = usize::try_from(number - self.events_from).unwrap_or(0);
        let event = self.events.get_mut(index).and_then(Option::take);
        while self.events.front().is_some_and(Option::is_none) {
            self.events.pop_front();
            self.events_from += 1;
        }
        self.now = at;
        let Some(event) = event else { return };
        if let Some(host) = event.host().and_then(|host| self.hosts.get(host)) {
            if host.crashed {
                return;
            }
            if at < host.frozen_until {
                let thaw = host.frozen_until;
                self.at(thaw, event);
                return;
            }
        }
        self.happen(event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(host) => self.tick(host),
            Event::BrokerTick => {
                let turn = self.broker.tick(self.now);
                self.take_turn(turn);
                let at = self.now + Duration::from_millis(50);
                self.at(at, Event::BrokerTick);
            }
            Event::Request(conn, request) => {
                let turn = self.broker.receive(self.now, conn, request);
                self.take_turn(turn);
            }
            Event::Response(conn, response) => {
                let now = self.now;
                self.with_client(conn, |client| client.on_response(now, response));
                self.flush(conn.host);
            }
            Event::Disconnect(conn) => self.broker.disconnect(conn),
            Event::Told(conn, input) => {
                let process = &mut self.hosts[conn.host].process;
                if process.conn() == conn && process.client.is_some() {
                    self.told(conn.host, input);
                }
            }
            Event::Input(host, input) => self.input(host, input),
            Event::FindStarts { host, token, wanted } => self.find_starts(host, token, wanted),
            Event::Take { host, epoch } => self.take(host, epoch),
            Event::Handled { host, epoch, serial } => self.handled(host, epoch, serial),
            Event::LaneEnds { host, epoch } => {
                if let Some(lane) = self.hosts[host].process.lanes.remove(&epoch) {
                    self.check.ended(host, epoch, lane.partition);
                    self.input(host, ended(&lane));
                }
            }
            Event::Act(action, host) => self.act(action, host),
        }
    }

    fn with_client(&mut self, conn: Conn, then: impl FnOnce(&mut Client)) {
        let process = &mut self.hosts[conn.host].process;
        if process.conn() != conn {
            return;
        }
        if let Some(client) = &mut process.client {
            then(client);
        }
    }

    fn tick(&mut self, host: usize) {
        let now = self.now;
        let coordinator = now >= self.broker.down_until;
        let conn = self.hosts[host].process.conn();
        self.with_client(conn, |client| client.tick(now, coordinator));
        self.flush(host);
        if self.hosts[host].process.client.as_ref().is_some_and(Client::is_joining) {
            self.moment(host, Moment::Joining);
        }
        let before = self.readable(host);
        if self.run.sabotage != Some(Sabotage::NoTicks) {
            self.input(host, Input::Tick);
            if self.rng.chance(1) {
                self.input(host, Input::Probe);
            }
        }
        self.judge(host, before);
        if !self.hosts[host].gone {
            let at = now + Duration::from_millis(100);
            self.at(at, Event::Tick(host));
        }
    }

    /// I11 and I13, after a tick.
    fn judge(&mut self, host: usize, before: Option<Parts>) {
        let Host { member, stop, gone, .. } = &mut self.hosts[host];
        if *gone {
            return;
        }
        *gone = member.is_gone();
        if let (Some((since, _)), true) = (*stop, *gone) {
            let took = self.now.saturating_sub(since);
            self.check.summary.longest_stop = self.check.summary.longest_stop.max(took);
        }
        if let Some((since, _)) = stop.filter(|(_, by)| self.now > *by) {
            let late = self.now.saturating_sub(since);
            self.check.fail(|| format!("I11: m{host} was told to stop {late:?} ago, and is still there"));
        }
        // What it did at this tick may have changed it: then the next one will tell.
        let (Some(before), Some(after)) = (before, self.readable(host)) else { return };
        let may_read = before.union(after);
        let lanes = &self.hosts[host].process.lanes;
        let stray = lanes.values().find(|lane| !lane.drains && !may_read.contains(lane.partition));
        if let Some(lane) = stray {
            let lane = &lane.id;
            self.check.fail(|| format!("I13: m{host} reads {lane}, it may read {may_read:?}"));
        }
    }

    /// What a process may read, as far as its client tells; `None` while an event is unanswered.
    fn readable(&self, host: usize) -> Option<Parts> {
        let Host { member, process, .. } = &self.hosts[host];
        let client = process.client.as_ref()?;
        if self.run.protocol != Protocol::Consumer && !client.has_id() {
            return Some(Parts::NONE);
        }
        let is_held = member.is_held() || client.is_held();
        (!is_held).then(|| client.assigned())
    }

    pub(super) fn input(&mut self, host: usize, input: Input) {
        let Host { member, process, .. } = &mut self.hosts[host];
        process.now = self.now;
        member.input(self.now, input, process);
        self.flush(host);
    }

    /// What the client tells reaches its member.
    fn told(&mut self, host: usize, input: Input) {
        self.tell(Who::Host(host), |_| format!("is told: {input:?}"));
        let Host { misled, events, .. } = &mut self.hosts[host];
        events.1 += u64::from(matches!(input, Input::Assign(_) | Input::Revoke { .. }));
        if misled.is_some_and(|event| events.1 >= event) {
            *misled = None;
            let conn = self.hosts[host].process.conn();
            let owned = |partition: &i32| self.broker.owner(*partition) == Some(conn);
            let owned = (0..self.plan.partitions).filter(owned).collect();
            self.check.excuse_no_longer(host, owned);
        }
        let moment = match &input {
            Input::Assign(_) => Some(Moment::Assigned),
            Input::Revoke { .. } => Some(Moment::Revoked),
            _ => None,
        };
        if let (Some(Sabotage::AnswerEarly), Input::Revoke { partitions, .. }) = (self.run.sabotage, &input) {
            let gone = parts(partitions);
            let process = &mut self.hosts[host].process;
            process.now = self.now;
            process.answer_early(gone);
        }
        self.input(host, input);
        if let Some(moment) = moment {
            self.moment(host, moment);
        }
    }

    /// What comes of the broker's work reaches those it is for.
    pub(super) fn take_turn(&mut self, turn: Turn) {
        for taken in turn.committed {
            let Taken { conn, token, partition, offset } = taken;
            let owner = self.broker.owner(partition);
            self.broker.committed[partition.unsigned_abs() as usize] = Some(offset);
            let misled = self.hosts[conn.host].misled_commits.contains(&token);
            self.check.committed(taken, owner, misled);
        }
        for conn in turn.evicted {
            self.tell(Who::Broker, |world| format!("throws m{} out; {}", conn.host, world.broker.shown()));
            self.check.excuse(conn.host);
        }
        for (conn, answer) in turn.answers {
            if !matches!(answer, Response::Heartbeat(Ok(())) | Response::Reconciled(Ok((_, None)))) {
                self.tell(Who::Broker, |_| format!("to m{}.{}: {answer:?}", conn.host, conn.client));
            }
            let is_lost = self.now < self.weather.answers_lost && self.rng.chance(50);
            if is_lost && matches!(answer, Response::Committed { .. }) {
                self.tell(Who::World, |_| format!("loses {answer:?}"));
                continue;
            }
            let at = self.arrival(conn.host, 1, 4);
            self.at(at, Event::Response(conn, answer));
        }
    }

    /// When what is sent now arrives: in its order.
    pub(super) fn arrival(&mut self, host: usize, kind: usize, longest: u64) -> Time {
        let at = self.now + self.rng.ms(0..longest);
        let last = &mut self.hosts[host].arrivals[kind];
        *last = at.max(*last);
        *last
    }

    fn is_settled(&self) -> bool {
        let mut conns: Vec<Conn> = Vec::new();
        for host in self.hosts.iter().filter(|host| !host.crashed && !host.gone) {
            if !host.takes_part() || !host.member.is_settled() || host.frozen_until > self.now {
                return false;
            }
            conns.push(host.process.conn());
        }
        self.now >= self.last_change
            && self.broker.is_quiet()
            && self.broker.members().len() == conns.len()
            && conns.iter().all(|conn| self.broker.is_member(*conn))
            && self.check.is_whole(self.log_end(), |partition| self.broker.owner(partition))
    }

    fn not_settled(&mut self) -> String {
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, host)| !host.crashed && !host.gone)
            .map(|(index, host)| {
                let client = host.process.client.as_ref().map(Client::shown);
                let member = &host.member;
                let lanes: Vec<_> = member.lanes().collect();
                let (held, is_in) = (member.is_held(), member.is_in());
                format!("\n  m{index} in {is_in}, held {held}, lanes {lanes:?}, client {client:?}")
            })
            .collect();
        let end = self.log_end();
        let since = self.last_change;
        let (broker, lanes) = (self.broker.shown(), self.check.shown(end));
        format!("liveness: not whole since {since:?}\n  {lanes}\n  {broker}{}", hosts.join(""))
    }

    pub(super) fn tell(&mut self, who: Who, what: impl FnOnce(&Self) -> String) {
        // The story is borrowed apart from what it tells of.
        let mut story = std::mem::take(&mut self.story);
        story.tell(self.now, who, || what(self));
        self.story = story;
    }
}

impl Host {
    /// Whether it is to be in the group at the end.
    pub(super) fn takes_part(&self) -> bool {
        !self.crashed && !self.gone && self.stop.is_none() && !self.process.ended
    }
}

/// After the last thing was done on purpose, the group is whole by then, whatever handlers do.
const LONGEST_LIFE: Duration = Duration::from_secs(150);
