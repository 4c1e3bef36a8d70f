//! One process of a run, as its member sees it: the port to its client, its starts and its lanes. What
//! takes time is put on the run's calendar.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Sabotage;
use super::client::{Client, Reply};
use super::lane::Lane;
use super::rng::Rng;
use super::wire::{Conn, Parts, Time};
use super::world::Event;
use crate::member::{Input, Protocol};
use crate::port::{Answer, Port, Report, Want};
use crate::types::{Epoch, LaneId, Position, TopicPartition};

/// What a process did, for the run to judge and to carry out.
#[derive(Debug)]
pub(super) enum Deed {
    At(Time, Event),
    Joined(Conn),
    Opened {
        epoch: Epoch,
        partition: i32,
        offset: i64,
    },
    /// It answered an event: what it gave back.
    Gave(Parts),
    Answered(Answer),
    Committing {
        token: u64,
        during_hold: bool,
        offsets: Vec<(i32, i64)>,
    },
    Nameless,
    Unsubscribed,
    Closing,
    Discarded(Conn),
    Reported(Report),
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) host: usize,
    pub(super) now: Time,
    pub(super) client: Option<Client>,
    pub(super) clients: u32,
    pub(super) lanes: BTreeMap<Epoch, Lane>,
    pub(super) deeds: Vec<Deed>,
    pub(super) rng: Rng,
    pub(super) work: Work,
    pub(super) sabotage: Option<Sabotage>,
    /// Its client never says that it has closed.
    pub(super) hangs: bool,
    /// Its client failed for good.
    pub(super) ended: bool,
    /// The commits that were sent, by token.
    sent: BTreeMap<u64, Parts>,
    /// Offsets of lanes that were lost, kept by a sabotaged process.
    lost: Vec<(i32, i64)>,
    protocol: Protocol,
    session: Duration,
    request_timeout: Duration,
    /// Even partitions are of the first, odd ones of the second.
    topics: [Arc<str>; 2],
}

/// How a process's handlers behave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    /// How long a record takes, in milliseconds.
    pub(super) latency: (u64, u64),
    /// How many of a thousand take `slow_for` instead.
    pub(super) slow: u64,
    pub(super) slow_for: (u64, u64),
    /// How many of a hundred of the slow ones can't be cancelled.
    pub(super) deaf: u64,
}

impl Process {
    pub(super) fn new(host: usize, protocol: Protocol, rng: Rng, work: Work, session: Duration) -> Self {
        Self {
            host,
            now: Time::ZERO,
            client: None,
            clients: 0,
            lanes: BTreeMap::new(),
            deeds: Vec::new(),
            rng,
            work,
            sabotage: None,
            hangs: false,
            ended: false,
            sent: BTreeMap::new(),
            lost: Vec::new(),
            protocol,
            session,
            request_timeout: session,
            topics: [Arc::from("t"), Arc::from("u")],
        }
    }

    pub(super) fn conn(&self) -> Conn {
        Conn { host: self.host, client: self.clients }
    }

    pub(super) fn names(&self, parts: Parts) -> Vec<TopicPartition> {
        let topic = |partition: i32| self.topics[partition.unsigned_abs() as usize % 2].clone();
        parts.iter().map(|partition| TopicPartition::new(topic(partition), partition)).collect()
    }

    /// What a commit was for.
    pub(super) fn names_of_commit(&mut self, token: u64) -> Vec<TopicPartition> {
        let parts = self.sent.remove(&token).unwrap_or_default();
        self.names(parts)
    }

    fn after(&mut self, delay: Duration, event: Event) {
        let at = self.now + delay;
        self.deeds.push(Deed::At(at, event));
    }

    /// Makes a lane that has nothing in flight any more end.
    pub(super) fn end_lane(&mut self, epoch: Epoch, delay: Duration) {
        let Some(lane) = self.lanes.get_mut(&epoch).filter(|lane| !lane.ends) else { return };
        lane.ends = true;
        let event = Event::LaneEnds { host: self.host, epoch };
        self.after(delay, event);
    }

    fn reply(&mut self, answer: &Answer) -> Result<(), String> {
        let held = self.client.as_ref().map(Client::assigned).unwrap_or_default();
        let reply = match answer {
            Answer::Assign(partitions) => Reply::Assign(parts(partitions)),
            Answer::Clear => Reply::Clear,
            Answer::Add(partitions) => Reply::Add(parts(partitions)),
            // The client refuses a list that names what is not assigned, so it is cut down to what is.
            Answer::Remove(partitions) => Reply::Remove(parts(partitions).both(held)),
        };
        let gave = match reply {
            Reply::Assign(kept) => held.minus(kept),
            Reply::Clear => held,
            Reply::Add(_) => Parts::NONE,
            Reply::Remove(gone) => gone,
        };
        let client = self.client.as_mut().ok_or("there is no client")?;
        client.answer(self.now, reply)?;
        self.deeds.push(Deed::Gave(gave));
        Ok(())
    }

    /// Answers an event at once, in place of the member.
    pub(super) fn answer_early(&mut self, gone: Parts) {
        let answer = match self.protocol {
            Protocol::Eager => Answer::Clear,
            Protocol::Cooperative | Protocol::Consumer => {
                Answer::Remove(self.names(gone).into_iter().collect())
            }
        };
        let _ = self.reply(&answer);
    }

    fn open_one(&mut self, lane: &LaneId, at: Position) -> Result<(), String> {
        if self.sabotage.is_none() && self.work.deaf > 0 && self.rng.chance(1) {
            return Err("the fetcher does not know the topic".to_owned());
        }
        let partition = lane.partition.partition;
        self.lanes.insert(lane.epoch, Lane::new(lane.clone(), at));
        self.deeds.push(Deed::Opened { epoch: lane.epoch, partition, offset: at.offset });
        let delay = self.rng.ms(2..30);
        let event = Event::Take { host: self.host, epoch: lane.epoch };
        self.after(delay, event);
        Ok(())
    }
}

impl Port for Process {
    fn join(&mut self) {
        self.clients += 1;
        self.ended = false;
        let conn = self.conn();
        let id = u32::try_from(conn.host).unwrap_or(0) * 1_000 + conn.client;
        self.client = Some(Client::new(self.now, self.protocol, id, self.session));
        self.deeds.push(Deed::Joined(conn));
    }

    fn member_is_known(&self) -> bool {
        self.client.as_ref().is_some_and(Client::is_known)
    }

    fn generation(&self) -> Option<i32> {
        if self.sabotage == Some(Sabotage::NoFence) {
            return None;
        }
        self.client.as_ref().map(Client::generation)
    }

    fn assignment(&self) -> Option<BTreeSet<TopicPartition>> {
        if self.sabotage == Some(Sabotage::Blind) {
            return None;
        }
        let client = self.client.as_ref()?;
        Some(self.names(client.assigned()).into_iter().collect())
    }

    fn answer(&mut self, answer: &Answer) -> Result<(), String> {
        self.deeds.push(Deed::Answered(answer.clone()));
        if self.sabotage == Some(Sabotage::AnswerEarly) && matches!(answer, Answer::Clear | Answer::Remove(_))
        {
            return Ok(());
        }
        self.reply(answer)
    }

    fn commit(&mut self, token: u64, offsets: &[(LaneId, Position)]) -> Result<(), String> {
        let mut offsets: Vec<(i32, i64)> =
            offsets.iter().map(|(lane, position)| (lane.partition.partition, position.offset)).collect();
        self.sent.insert(token, offsets.iter().map(|(partition, _)| *partition).collect());
        let client = self.client.as_mut().ok_or("there is no client")?;
        let during_hold = client.is_held();
        if !client.has_id() {
            self.deeds.push(Deed::Nameless);
        }
        match self.sabotage {
            Some(Sabotage::SkipHoldCommit) if during_hold => {
                client.pretend_committed(token);
                return Ok(());
            }
            Some(Sabotage::CommitLost) => offsets.append(&mut self.lost),
            Some(Sabotage::CommitAhead) => {
                for (partition, offset) in &mut offsets {
                    let busy = |lane: &&Lane| lane.partition == *partition && lane.in_flight.is_some();
                    *offset += i64::from(self.lanes.values().any(|lane| busy(&lane)));
                }
            }
            _ => {}
        }
        client.commit(self.now, token, offsets.clone(), self.request_timeout);
        self.deeds.push(Deed::Committing { token, during_hold, offsets });
        Ok(())
    }

    fn find_starts(&mut self, token: u64, wanted: &[Want]) {
        let delay = self.rng.ms(1..15);
        let event = Event::FindStarts { host: self.host, token, wanted: wanted.to_vec() };
        self.after(delay, event);
    }

    fn unsubscribe(&mut self) {
        self.deeds.push(Deed::Unsubscribed);
        if self.sabotage == Some(Sabotage::CloseToLeave) {
            return;
        }
        if let Some(client) = &mut self.client {
            client.unsubscribe(self.now);
        }
    }

    fn begin_close(&mut self) {
        self.deeds.push(Deed::Closing);
        if let Some(client) = &mut self.client {
            client.begin_close(self.now);
        }
    }

    fn discard(&mut self) {
        if self.client.take().is_some() {
            let conn = self.conn();
            self.deeds.push(Deed::Discarded(conn));
        }
    }

    fn open(&mut self, lanes: &[(LaneId, Position)]) -> Vec<Result<(), String>> {
        lanes.iter().map(|(lane, at)| self.open_one(lane, *at)).collect()
    }

    fn drain(&mut self, lane: &LaneId, _deadline: Duration) {
        let Some(open) = self.lanes.get_mut(&lane.epoch) else { return };
        open.drains = true;
        if open.in_flight.is_none() {
            let delay = self.rng.ms(0..8);
            self.end_lane(lane.epoch, delay);
        }
    }

    fn cancel(&mut self, lane: &LaneId) {
        let Some(open) = self.lanes.get_mut(&lane.epoch) else { return };
        open.drains = true;
        open.cancelled = true;
        if open.in_flight.is_some_and(|handler| handler.deaf) {
            return;
        }
        open.unfinished |= open.in_flight.take().is_some();
        let partition = open.partition;
        self.lost.push((partition, open.tracker.watermark().offset));
        let delay = self.rng.ms(0..20);
        self.end_lane(lane.epoch, delay);
    }

    fn progress(&self, lane: &LaneId) -> Option<Position> {
        self.lanes.get(&lane.epoch).map(|lane| lane.tracker.watermark())
    }

    fn report(&mut self, report: Report) {
        self.deeds.push(Deed::Reported(report));
    }
}

/// What the lane tells when it has ended.
pub(super) fn ended(lane: &Lane) -> Input {
    Input::LaneEnded {
        lane: lane.id.clone(),
        watermark: lane.tracker.watermark(),
        unfinished: u64::from(lane.unfinished),
    }
}

pub(super) fn parts<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Parts {
    partitions.into_iter().map(|partition| partition.partition).collect()
}
