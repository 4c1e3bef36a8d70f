//! The client thread's loop: hears of everything, lets the member decide, and tells what happened.

mod anew;
mod asked;
mod broken;
mod by_hand;
mod ends;
mod errors;
mod life;
mod protocol;
mod queues;
mod rest;
mod silence;
mod stalls;
mod subscription;

pub(crate) use errors::{OTHERS, advice, is_alert, is_refusal, is_transport, reason_of};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use laneway_core::{Input, LaneId, Member, Port, Protocol, Reset, Settings, TopicPartition, Turns};

use crate::client::asker::Asker;
use crate::client::board::{Board, Shown, ShownLane};
use crate::client::by_hand::ByHand;
use crate::client::mailbox::{Mailbox, Message};
use crate::client::maps::Maps;
use crate::client::reaper::Reaper;
use crate::client::starts::SearchResult;
use crate::client::topic_ids::TopicIds;
use crate::client::topics::{Patterns, TopicWatch};
use crate::client::world::{Fixed, Spawn, World};
use anew::InVain;
use asked::Asked;
use broken::Broken;
use errors::commit_refusal;
use protocol::Mismatch;
use queues::Truncated;
use silence::Silences;
use stalls::Stalls;
use subscription::Change;

use crate::assign::Assigned;
use crate::builder::{EventSink, StuckHandlers};
use crate::consumer::{StopReason, Summary};
use crate::dead_letters::{Letters, Topics};
use crate::error::{Error, ErrorKind};
use crate::event::{Event, NativeClient};
use crate::failures::StallAction;
use crate::fetcher::{Fetcher, FetcherEvent};
use crate::hooks::After;
use crate::lane::{LaneMessage, Order, Quota, Tell, Work};
use crate::properties::Clients;
use crate::sys::{Client, NativeEvent, codes};

/// Everything a consumer runs with.
pub(crate) struct Setup {
    pub(crate) clients: Clients,
    pub(crate) patterns: Patterns,
    /// Without a group: what is read.
    pub(crate) assigned: Option<Assigned>,
    pub(crate) brokers: String,
    pub(crate) group: String,
    pub(crate) settings: Settings,
    pub(crate) reset: Reset,
    /// How records are worked on; what is for dead letters comes to it here.
    pub(crate) work: Work,
    pub(crate) dead_letters: Option<String>,
    pub(crate) stall: Option<(Duration, StallAction)>,
    pub(crate) offset_map_limit: usize,
    pub(crate) exit_at_end: bool,
    pub(crate) quota: Option<Arc<Quota>>,
    pub(crate) stuck: StuckHandlers,
    pub(crate) on_event: EventSink,
    pub(crate) board: Arc<Board>,
    pub(crate) spawn: Spawn,
    /// What lanes run on.
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) fetcher: Box<dyn Fetcher>,
    /// Looks for topics; the fetcher's own client, where it has one.
    pub(crate) topic_client: Arc<Client>,
    /// Destroys clients, the fetcher's as well.
    pub(crate) reaper: Reaper,
}

/// How a consumer's thread ends.
pub(crate) type Ended = Result<Summary, Error>;

/// Starts the client thread. `done` is called with how it ended, last.
pub(crate) fn spawn(
    setup: Setup,
    mailbox: Mailbox,
    received: Receiver<Message>,
    done: impl FnOnce(Ended) + Send + 'static,
) -> std::io::Result<()> {
    let run = move || life::live(|| ClientThread::new(setup, mailbox, received), done);
    std::thread::Builder::new().name("laneway-client".into()).spawn(run)?;
    Ok(())
}

struct ClientThread {
    member: Member,
    world: World,
    received: Receiver<Message>,
    topics: TopicWatch,
    protocol: Protocol,
    is_static: bool,
    brokers: String,
    exit_at_end: bool,
    board: Arc<Board>,
    stop: Option<(StopReason, Instant)>,
    longest_stop: Duration,
    /// A change of topics that membership has not been shown yet.
    to_show: Option<Change>,
    /// For who shows it, on another thread: no rebalance has begun.
    steady: Arc<AtomicBool>,
    /// When it joins: there are topics to subscribe to.
    join_at: Option<Instant>,
    partitions: BTreeMap<String, i32>,
    missing_said: BTreeSet<String>,
    last_error: Option<String>,
    reached: bool,
    /// Until when one must have been.
    reach_by: Instant,
    down_said: Option<Instant>,
    /// No broker has let us in yet, and one has refused to: since when, and what it said.
    refused: Option<(Instant, String)>,
    refusals_said: Vec<(Instant, String)>,
    mismatch: Mismatch,
    /// Lanes that may not read, since when.
    refused_lanes: Vec<(Instant, LaneId)>,
    /// Since when there are, or were, lanes.
    reading_since: Option<Instant>,
    /// Since when the member is in the group without any lane.
    idle_since: Option<Instant>,
    next_ends: Instant,
    next_tick: Instant,
    /// Turns have ended since it was last looked at who reads.
    turns_are_due: bool,
    last_look: Instant,
    strays: u64,
    shown_after: Option<Instant>,
    member_id: String,
    /// The member id and the generation at the last rebalance event.
    standing: (String, i32),
    failed: Option<Error>,
    asked: Asked,
    truncated: Truncated,
    silences: Silences,
    broken: Broken,
    in_vain: InVain,
    /// When clients may be told again where there are brokers.
    next_brokers: Instant,
    stalls: Stalls,
    /// Of which subscription the topics were seen when it began.
    known_of: Option<u64>,
}

impl ClientThread {
    fn new(setup: Setup, mailbox: Mailbox, received: Receiver<Message>) -> Result<Self, Error> {
        mailbox.attach();
        let interval = setup.clients.topic_interval;
        let client = setup.topic_client;
        let topics = TopicWatch::start(client.clone(), setup.patterns, interval, mailbox.clone())
            .map_err(|error| Error::new(ErrorKind::Fatal, format!("could not start a thread: {error}")))?;
        let now = Instant::now();
        let to_lanes = mailbox.clone();
        let tell: Tell = Arc::new(move |message| to_lanes.post(Message::Lane(message)));
        let (protocol, is_static) = (setup.settings.protocol, setup.settings.is_static);
        let longest_stop = setup.settings.drain + setup.settings.grace;
        let mut work = setup.work;
        if setup.dead_letters.is_some() || !work.retries.is_empty() {
            let clients = setup.clients.clone();
            let tokens = clients.tokens.clone();
            let make = move || clients.producer_config().map_err(|error| error.to_string());
            let to = Topics::new(setup.dead_letters.as_deref(), &work.retries);
            let letters =
                to.and_then(|to| Letters::new(to, &setup.group, make, tokens, mailbox.waker(), tell.clone()));
            work.letters = Some(Arc::new(letters.map_err(|error| {
                let what = "could not make the producer of dead letters and retries";
                Error::new(ErrorKind::Config, format!("{what}: {error}"))
            })?));
        }
        let after = work
            .hooks
            .clone()
            .map(|hooks| After::start(hooks, &setup.runtime, work.stall_after, tell.clone()));
        let fixed = Fixed {
            started: now,
            clients: setup.clients,
            protocol,
            group: setup.group,
            reset: setup.reset,
            work: Arc::new(work),
            quota: setup.quota,
            spawn: setup.spawn,
            wake: mailbox.waker(),
            tell,
            stuck: setup.stuck,
        };
        let world = World {
            membership: None,
            by_hand: setup.assigned.map(ByHand::new),
            fetcher: setup.fetcher,
            asker: Asker::new(client, mailbox.waker()),
            is_unheard: false,
            lanes: HashMap::new(),
            ended: HashMap::new(),
            maps: Maps::new(&fixed.group, setup.offset_map_limit),
            fetching: BTreeSet::new(),
            turns: Turns::new(fixed.work.memory.most_ahead()),
            paces: HashMap::new(),
            next_pace: Duration::ZERO,
            taken: (0, 0),
            first_open: None,
            search: None,
            ends: BTreeMap::new(),
            subscription: Vec::new(),
            known: None,
            topic_ids: TopicIds::default(),
            on_event: setup.on_event,
            last_commit: None,
            trouble: None,
            reaper: setup.reaper,
            finished_before: 0,
            paused: BTreeSet::new(),
            void: BTreeSet::new(),
            told: BTreeSet::new(),
            answered: Vec::new(),
            after,
            fixed,
        };
        Ok(Self {
            member: Member::new(setup.settings),
            world,
            received,
            topics,
            protocol,
            is_static,
            brokers: setup.brokers,
            exit_at_end: setup.exit_at_end,
            board: setup.board,
            stop: None,
            longest_stop,
            to_show: None,
            steady: Arc::default(),
            join_at: None,
            partitions: BTreeMap::new(),
            missing_said: BTreeSet::new(),
            last_error: None,
            reached: false,
            reach_by: now + NO_BROKER,
            down_said: None,
            refused: None,
            refusals_said: Vec::new(),
            mismatch: Mismatch::default(),
            refused_lanes: Vec::new(),
            reading_since: None,
            idle_since: None,
            next_ends: now,
            next_tick: now,
            turns_are_due: false,
            last_look: now,
            strays: 0,
            shown_after: None,
            member_id: String::new(),
            standing: (String::new(), -1),
            failed: None,
            asked: Asked::default(),
            truncated: Truncated::default(),
            silences: Silences::default(),
            broken: Broken::default(),
            in_vain: InVain::default(),
            next_brokers: now + anew::BROKERS_TOLD,
            stalls: Stalls::new(setup.stall),
            known_of: None,
        })
    }

    /// Until the member is gone.
    fn run(&mut self) {
        while !self.member.is_gone() {
            // However much lanes have to tell, all else has its turn.
            let has_more = (0..MOST_MESSAGES).all(|_| {
                let message = self.received.try_recv();
                message.map(|message| self.on_message(message)).is_ok()
            });
            if std::mem::take(&mut self.turns_are_due) {
                self.take_turns();
            }
            let now = Instant::now();
            let slept = now.duration_since(std::mem::replace(&mut self.last_look, now));
            if self.world.fixed.clients.session.is_some_and(|session| slept >= session) {
                self.input(Input::Slept(slept));
            }
            if slept >= ASLEEP {
                // Where this thread did not run, no broker had a chance to be reached.
                self.reach_by += slept;
            }
            self.poll_clients();
            let now = Instant::now();
            if now >= self.next_tick {
                self.next_tick = now + if self.member.is_in() { TICK } else { LEAVING_TICK };
                let taken = self.world.taken;
                self.tick(now);
                if self.world.taken == taken && self.rests() {
                    self.next_tick = now + self.resting_tick();
                }
            }
            self.show_topics_after_a_commit();
            self.answer_asked();
            self.fail_in_trouble();
            if !has_more && !self.world.by_hand.as_ref().is_some_and(ByHand::has_more) {
                std::thread::park_timeout(self.next_tick.saturating_duration_since(Instant::now()));
            }
        }
        self.answer_asked();
        self.show();
    }

    fn input(&mut self, input: Input) {
        if !matches!(input, Input::Tick) {
            self.rouse();
        }
        let now = self.world.fixed.started.elapsed();
        self.member.input(now, input, &mut self.world);
        self.steady.store(self.is_steady(), Ordering::Release);
        if let Some(after) = &mut self.world.after {
            after.send();
        }
    }

    fn on_message(&mut self, message: Message) {
        self.rouse();
        match message {
            Message::Stop => self.begin_stop(StopReason::Asked),
            Message::Ask(ask) => self.on_ask(ask),
            Message::Topics(seen) => self.on_topics(seen),
            Message::NotShown => {
                self.to_show.get_or_insert(Change::Partitions);
            }
            Message::Lane(LaneMessage::Ended { lane, watermark, unfinished, panicked }) => {
                if self.world.lanes.get(&lane).is_some_and(|shared| shared.order() == Order::Run) {
                    self.lose_lane(&lane, panicked);
                }
                self.truncated.forget(&lane);
                self.input(Input::LaneEnded { lane: lane.clone(), watermark, unfinished });
                self.world.lane_has_ended(&lane);
            }
            Message::NoToken(error) => self.on_no_token(error),
            Message::Lane(LaneMessage::QueueFailed(lane, error)) => self.on_queue_failed(lane, &error),
            Message::Lane(LaneMessage::LetGo(lane)) => {
                self.event(Event::Error {
                    message: format!(
                        "the stream of {lane} was dropped before it ended; the lane is offered again"
                    ),
                });
                self.input(Input::LaneFailed { lane, out_of_range: false });
            }
            Message::Lane(LaneMessage::GaveUp(message)) => {
                self.event(Event::Error {
                    message: format!("{message}; it is given up, and the consumer stops"),
                });
                let message = format!("a record was given up, and comes again: {message}");
                self.world.trouble.get_or_insert((ErrorKind::GaveUp, message));
            }
            Message::Lane(LaneMessage::Stalled { lane, offset, key, age }) => {
                self.on_stalled(lane, offset, key, age);
            }
            Message::Lane(LaneMessage::Told(message)) => self.event(Event::Error { message }),
            Message::Lane(LaneMessage::QueueClosed(lane)) => {
                self.world.turn_has_ended(&lane);
                self.turns_are_due = true;
            }
            Message::Lane(LaneMessage::GoBack(lane)) => self.world.go_back(&lane),
            Message::Lane(LaneMessage::Crowded) => {
                self.next_tick = self.next_tick.min(Instant::now() + CROWDED_TICK);
            }
            Message::Lane(LaneMessage::CountReached) => self.begin_stop(StopReason::Count),
        }
    }

    /// Nobody told a lane to end, and it has: its task panicked, or its runtime was shut down under it, and no lane can run
    /// any more. What they finished is committed, and the group is left.
    fn lose_lane(&mut self, lane: &LaneId, panicked: bool) {
        let why = if panicked {
            "its task panicked, outside of what a panic is an answer of; what it said went to the panic hook"
        } else {
            "the runtime that lanes run on was shut down"
        };
        let message = format!("{lane} ended by itself: {why}");
        self.failed.get_or_insert_with(|| Error::new(ErrorKind::Fatal, message));
        self.input(Input::Stop);
    }

    fn begin_stop(&mut self, reason: StopReason) {
        if self.stop.is_none() {
            self.stop = Some((reason, Instant::now()));
            if self.is_not_taken() {
                self.input(Input::Fatal("the group does not take this member".into()));
            }
        }
        self.input(Input::Stop);
    }

    fn poll_clients(&mut self) {
        for input in self.world.by_hand.as_mut().map(ByHand::take).unwrap_or_default() {
            self.input(input);
        }
        while let Some(event) = self.world.membership.as_ref().and_then(|membership| membership.poll()) {
            self.on_native(event);
        }
        while let Some(event) = self.world.asker.next_answer() {
            self.on_native(event);
        }
        if let Some(result) = self.world.finish_search() {
            self.on_search(result);
        }
        for event in self.world.fetcher.poll() {
            match event {
                FetcherEvent::Stray { partition, offset } => self.on_stray(partition, offset),
                FetcherEvent::Error(error) => self.on_fetch_error(&error),
                FetcherEvent::Statistics(json) => {
                    self.event(Event::Statistics { client: NativeClient::Fetcher, json });
                }
            }
        }
        if let Some(letters) = &self.world.fixed.work.letters {
            letters.poll();
        }
        if self.world.membership.as_ref().is_some_and(|membership| membership.is_closed()) {
            self.input(Input::ClientClosed);
        }
    }

    fn on_native(&mut self, event: NativeEvent) {
        if self.world.take_search_answer(&event) || self.take_answer(&event) {
            return;
        }
        match event {
            NativeEvent::Rebalance { assign: true, partitions } => {
                self.note_standing();
                self.protocol_is_accepted();
                self.input(Input::Assign(partitions));
            }
            NativeEvent::Rebalance { assign: false, partitions } => {
                let lost = self.is_lost();
                self.note_standing();
                self.input(Input::Revoke { partitions, lost });
            }
            NativeEvent::Commit { token, error, partitions } => {
                for (partition, _, refused) in &partitions {
                    if let Some(refused) = refused.as_ref().or(error.as_ref()) {
                        self.on_commit_refused(&partition.topic, refused);
                    }
                }
                let mut codes = partitions.iter().filter_map(|(.., error)| error.as_ref()).chain(&error);
                if codes.any(|error| error.code == codes::OFFSET_METADATA_TOO_LARGE) {
                    let done = self.world.maps.is_too_large();
                    self.event(Event::Error {
                        message: format!("the broker takes no metadata of this size: {done}"),
                    });
                }
                let result = match error {
                    Some(error) => Err(commit_refusal(&error, &partitions)),
                    None => {
                        self.world.maps.was_taken();
                        Ok(partitions.into_iter().map(|(partition, ..)| (partition, None)).collect())
                    }
                };
                self.input(Input::Committed { token, result });
            }
            NativeEvent::Offsets { result: Ok(ends), .. } => self.on_ends(&ends),
            NativeEvent::TopicIds { token, result } => {
                self.on_topic_ids(token, result);
            }
            NativeEvent::Group(group) => self.on_group(&group),
            NativeEvent::Error { error, fatal } => self.on_membership_error(error, fatal),
            NativeEvent::Statistics(json) => {
                self.event(Event::Statistics { client: NativeClient::Membership, json });
            }
            NativeEvent::RebalanceError(error) => self.on_membership_error(error, false),
            NativeEvent::Record(partition, offset) => self.on_stray(partition, offset),
            NativeEvent::RecordError(_, error) => self.on_membership_error(error, false),
            NativeEvent::Offsets { .. } | NativeEvent::TokenRefresh | NativeEvent::Other => {}
        }
    }

    /// Whether the group has given away what an event takes away. `assignment_lost()` alone says too much: a
    /// topic that was deleted sets it for the whole client (rdkafka_cgrp.c 6976). Then the member is the same,
    /// in the same generation, and what still exists can be drained and committed.
    fn is_lost(&self) -> bool {
        let Some(membership) = self.world.membership.as_ref().filter(|it| !it.is_closing()) else {
            return false;
        };
        let client = membership.client();
        client.assignment_lost()
            && (self.protocol == Protocol::Consumer
                || client.fatal_error().is_some()
                || self.standing != (client.member_id(), client.generation()))
    }

    /// Remembers as whom, and in which generation, the client told of an event.
    fn note_standing(&mut self) {
        if let Some(membership) = self.world.membership.as_ref().filter(|it| !it.is_closing()) {
            let client = membership.client();
            self.standing = (client.member_id(), client.generation());
        }
    }

    fn on_search(&mut self, result: SearchResult) {
        if result.found.iter().any(|(_, found)| found.is_err()) {
            self.topics.look();
        }
        let is_in_vain = result.refused.is_none() && result.found.iter().all(|(_, found)| found.is_err());
        self.begin_anew(&result.made_again);
        self.input(Input::Starts { token: result.token, found: result.found });
        self.has_searched(is_in_vain);
    }

    /// I6: a record that came round its partition's queue is counted and fetched again.
    fn on_stray(&mut self, partition: TopicPartition, offset: i64) {
        self.strays += 1;
        let lane = self.world.lanes.keys().find(|lane| lane.partition == partition).cloned();
        self.event(Event::Stray { partition, offset });
        if let Some(lane) = lane {
            self.input(Input::LaneFailed { lane, out_of_range: false });
        }
    }

    fn tick(&mut self, now: Instant) {
        self.join_if_due(now);
        self.note_whether_let_in();
        self.input(Input::Tick);
        self.end_overdue_asks(now);
        self.check_fetcher();
        self.world.keep_paces();
        self.take_turns();
        self.look_for_blocked_lanes(now);
        self.tell_of_brokers(now);
        self.end_if_refused();
        self.look_for_a_silent_refusal(now);
        self.start_refused_lanes_again();
        if let Some(error) = self.world.fatal_error() {
            self.on_membership_error(error, true);
        }
        let lanes_open = !self.world.lanes.is_empty();
        if lanes_open {
            self.reading_since.get_or_insert(now);
        }
        match self.to_show {
            Some(_) if lanes_open => self.input(Input::Probe),
            Some(_) => self.show_topics(),
            None => {}
        }
        if !self.reached && Instant::now() >= self.reach_by {
            let last = self.last_error.clone().unwrap_or_else(|| "no answer".into());
            let message = format!(
                "no broker was reached at {} for {} s; the last error: {last}",
                self.brokers,
                NO_BROKER.as_secs()
            );
            self.world.trouble.get_or_insert((ErrorKind::NoBroker, message));
        }
        self.look_at_ends(now);
        self.show();
    }

    /// Lanes begin and end their turns at reading, where the memory does not carry all at once.
    fn take_turns(&mut self) {
        for (lane, error) in self.world.take_turns() {
            self.on_queue_failed(lane, &error);
        }
    }

    /// I13: the fetcher fetches what it was told to, and nothing else.
    fn check_fetcher(&mut self) {
        for partition in self.world.fetcher.fetching() {
            if !self.world.fetching.contains(&partition) {
                self.world.stop_fetching(std::slice::from_ref(&partition));
                let message = format!("{partition} was fetched without a lane, and was stopped");
                self.event(Event::Error { message });
            }
        }
    }

    fn show(&mut self) {
        if let Some(membership) = self.world.membership.as_ref().filter(|it| !it.is_closing()) {
            self.member_id = membership.client().member_id();
        }
        let has_group = self.world.by_hand.is_none();
        let lanes = self
            .member
            .lanes()
            .map(|(id, stage, committed)| ShownLane {
                id: id.clone(),
                stage,
                committed: committed.filter(|_| has_group),
                shared: self.world.lanes.get(id).cloned(),
                paused: self.world.paused.contains(id),
            })
            .collect();
        self.board.show(Shown {
            member_id: self.member_id.clone(),
            lanes,
            rebalances: self.member.totals().rebalances,
            finished_before: self.world.finished_before,
            strays: self.strays,
            last_commit: self.world.last_commit,
            rebalancing: self.member.is_held(),
            detached: self.member.detached() as u64,
            memory: self.world.fixed.work.memory.status(),
        });
    }

    fn fail_in_trouble(&mut self) {
        let Some((kind, message)) = self.world.trouble.take() else { return };
        if self.failed.is_some() {
            return;
        }
        self.failed = Some(Error::new(kind, message.clone()));
        // Nothing can be committed any more: the client is done for, or nobody knows the member and nobody will.
        let is_over = match kind {
            ErrorKind::Fenced | ErrorKind::Fatal => true,
            ErrorKind::Refused => !self.world.member_is_known() || self.world.fatal_error().is_some(),
            _ => false,
        };
        if is_over {
            self.input(Input::Fatal(message));
        }
        if !is_over || self.world.lanes.is_empty() {
            self.input(Input::Stop);
        }
    }

    fn event(&self, event: Event) {
        self.world.event(event);
    }

    fn end(mut self) -> Ended {
        let totals = self.member.totals();
        let detached = self.member.detached() as u64;
        let reason = match (&self.failed, self.stop) {
            (Some(error), _) => error.to_string(),
            (None, Some((StopReason::AtEnd, _))) => "everything is finished up to the end".into(),
            (None, Some((StopReason::Count, _))) => "as many records as wanted are finished".into(),
            (None, _) => "asked to stop".into(),
        };
        let (why, since) = self.stop.unwrap_or((StopReason::Asked, Instant::now()));
        let status = self.board.status();
        let on_event = self.world.on_event.clone();
        let failed = self.failed.take();
        let World { fetcher, reaper, membership, asker, fixed, after, .. } = self.world;
        reaper.take((fetcher, membership, asker, fixed.work));
        drop(self.topics);
        // Whatever the native clients do, the stop ends by its deadline.
        let by = self.stop.map(|(_, asked)| asked + self.longest_stop.saturating_sub(REAP_SLACK));
        let given_up = after.and_then(|after| after.finish(by.unwrap_or_else(|| Instant::now() + REAP)));
        let told = self.received.try_iter().filter_map(|message| match message {
            Message::Lane(LaneMessage::Told(message)) => Some(message),
            _ => None,
        });
        told.chain(given_up).for_each(|message| on_event(&Event::Error { message }));
        let patience = Instant::now() + REAP;
        let left = reaper.wait(by.map_or(patience, |by| by.min(patience)));
        if left > 0 {
            let message = format!(
                "{left} native clients did not end in time, and were left to end by themselves: the group can list their \
                 member until its session is over"
            );
            on_event(&Event::Error { message });
        }
        on_event(&Event::Stopped { reason });
        match failed {
            Some(error) => Err(error),
            None => Ok(Summary {
                reason: why,
                finished: status.finished,
                unfinished: totals.unfinished,
                uncommitted: totals.uncommitted,
                detached,
                stop: since.elapsed(),
            }),
        }
    }
}

/// So many messages are taken before the rest has its turn.
const MOST_MESSAGES: usize = 4_096;
/// How often the member looks around.
const TICK: Duration = Duration::from_millis(100);
/// How often it does while it joins or leaves: nothing but asking tells that the group has let it go.
const LEAVING_TICK: Duration = Duration::from_millis(10);
/// How soon it does where more may be fetched ahead than was thought.
const CROWDED_TICK: Duration = Duration::from_millis(5);
/// How long no broker may be reached at the start.
const NO_BROKER: Duration = Duration::from_secs(30);
/// What is longer between two looks than this thread waits while no broker has been reached.
const ASLEEP: Duration = Duration::from_secs(1);
/// How long the native clients may take to be destroyed before they are left to it.
const REAP: Duration = Duration::from_millis(1_000);
/// How long before the end of a stop that is given up, on a machine that is busy.
const REAP_SLACK: Duration = Duration::from_millis(150);
