//! The world of a member, as it is: the membership client, the fetcher, and the lanes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use laneway_core::{
    Answer, Deed, Found, From, LaneId, Look, Pace, Pacing, Port, Position, Protocol, Report, Reset,
    TopicPartition, Turns, Want,
};

use super::asker::Asker;
use super::by_hand::ByHand;
use super::maps::Maps;
use super::membership::Membership;
use super::reaper::Reaper;
use super::starts::{Rules, Search, SearchResult};
use super::topic_ids::TopicIds;
use crate::builder::{EventSink, StuckHandlers};
use crate::error::ErrorKind;
use crate::event::{Event, LaneStart, StartedFrom};
use crate::fetcher::{FetchError, FetchStart, Fetcher, PartitionQueue, Started, Wake, started};
use crate::hooks::After;
use crate::lane::{Lane, LaneShared, Order, Quota, Tell, Work};
use crate::properties::Clients;
use crate::sys::{Client, KafkaError, NativeEvent, TopicId};

/// Puts a lane's task on the caller's runtime.
pub(crate) type Spawn = Box<dyn Fn(Lane) + Send>;

/// What the client thread owns, and does what the member decides.
pub(crate) struct World {
    pub(super) membership: Option<Membership>,
    /// What takes the place of membership, without a group.
    pub(super) by_hand: Option<ByHand>,
    pub(super) fetcher: Box<dyn Fetcher>,
    pub(super) asker: Asker,
    /// Something that was asked of a broker was in vain: it is told again where there are brokers.
    pub(super) is_unheard: bool,
    pub(super) lanes: HashMap<LaneId, Arc<LaneShared>>,
    /// Lanes that have ended and may still be committed, or opened again.
    pub(super) ended: HashMap<TopicPartition, Arc<LaneShared>>,
    pub(super) maps: Maps,
    /// What the fetcher was told to fetch.
    pub(super) fetching: BTreeSet<TopicPartition>,
    /// Who of the lanes reads now, where not all can.
    pub(super) turns: Turns<LaneId>,
    /// How often more is asked for of each lane, and when that is looked at next.
    pub(super) paces: HashMap<LaneId, Pacing>,
    pub(super) next_pace: Duration,
    /// Bytes and records that were taken when that was last looked at.
    pub(super) taken: (u64, u64),
    /// When the first lane was opened.
    pub(super) first_open: Option<Duration>,
    pub(super) search: Option<Search>,
    /// The log's end of each partition when it was assigned.
    pub(super) ends: BTreeMap<TopicPartition, i64>,
    pub(super) subscription: Vec<String>,
    /// Partitions of each topic when the consumer started.
    pub(super) known: Option<BTreeMap<String, i32>>,
    pub(super) topic_ids: TopicIds,
    pub(super) on_event: EventSink,
    /// When a commit was last acknowledged.
    pub(super) last_commit: Option<Instant>,
    pub(super) trouble: Option<(ErrorKind, String)>,
    pub(super) reaper: Reaper,
    pub(super) finished_before: u64,
    /// Lanes that begin no new record.
    pub(super) paused: BTreeSet<LaneId>,
    /// Lanes of which it was told that they are assigned: of others nobody hears that they are gone.
    pub(super) told: BTreeSet<LaneId>,
    /// Lanes that are to go on elsewhere: what they finished ahead is not committed.
    pub(super) void: BTreeSet<LaneId>,
    /// What the member has answered.
    pub(super) answered: Vec<(u64, Result<(), String>)>,
    /// Calls the hooks that come after.
    pub(super) after: Option<After>,
    pub(super) fixed: Fixed,
}

/// What does not change.
pub(crate) struct Fixed {
    pub(super) started: Instant,
    pub(super) clients: Clients,
    pub(super) protocol: Protocol,
    pub(super) group: String,
    pub(super) reset: Reset,
    pub(super) work: Arc<Work>,
    pub(super) quota: Option<Arc<Quota>>,
    pub(super) spawn: Spawn,
    pub(super) wake: Wake,
    pub(super) tell: Tell,
    pub(super) stuck: StuckHandlers,
}

impl World {
    /// Asks through another client from now on.
    pub(super) fn ask_through(&mut self, client: Arc<Client>) {
        let former = self.asker.replace(client, self.fixed.wake.clone());
        self.reaper.take(former);
    }

    /// Takes in an answer. True if it was of the search.
    pub(super) fn take_search_answer(&mut self, event: &NativeEvent) -> bool {
        self.search.as_mut().is_some_and(|search| search.take(event))
    }

    /// The result of the search, if all its questions are answered.
    pub(super) fn finish_search(&mut self) -> Option<SearchResult> {
        let search = self.search.take_if(|search| search.is_answered())?;
        let made_again = self.note_topic_ids(search.ids());
        let now = Instant::now();
        let topics = search.wanted().map(|wanted| wanted.topic.clone());
        let doubtful = topics.filter(|topic| self.topic_ids.is_doubtful(topic, now));
        let anew = doubtful.map(|topic| (topic.clone(), self.topic_ids.mark(&topic, now))).collect();
        let unknown = BTreeMap::new();
        let known = self.known.as_ref().unwrap_or(&unknown);
        let (reset, retries) = (self.fixed.reset, &self.fixed.work.retries);
        let result = search.finish(Rules { reset, known, retries, made_again, anew });
        self.ends.extend(result.ends.clone());
        for (partition, at, metadata) in &result.metadata {
            if let Err(why) = self.maps.read(partition, *at, metadata, result.ends.get(partition).copied()) {
                self.error(format!(
                    "what was committed with offset {} of {partition} is not used: {why}; what was finished above it \
                     comes again",
                    at.offset
                ));
            }
        }
        for note in &result.notes {
            self.error(note.clone());
        }
        if let Some(reason) = &result.refused {
            self.trouble.get_or_insert((ErrorKind::NoOffset, reason.clone()));
        }
        Some(result)
    }

    /// Takes in which topics there are. Of those that were deleted and made again, which it answers with, nothing is
    /// known any more.
    pub(super) fn note_topic_ids(&mut self, ids: &[(String, TopicId)]) -> BTreeSet<String> {
        let mut made_again = self.topic_ids.note(ids, Instant::now());
        if let Some(letters) = &self.fixed.work.letters {
            letters.forget(&made_again);
            // It is not read.
            if let Some(topic) = letters.topic()
                && made_again.remove(topic)
            {
                let message = format!(
                    "topic \"{topic}\" was deleted and made again: dead letters go to the new one from now on"
                );
                self.error(message);
            }
        }
        if !made_again.is_empty() {
            self.forget_in_fetcher(&made_again);
        }
        self.maps.forget_topics(&made_again);
        self.ended.retain(|partition, _| !made_again.contains(&*partition.topic));
        self.ends.retain(|partition, _| !made_again.contains(&*partition.topic));
        for topic in &made_again {
            if let Some(known) = &mut self.known {
                known.insert(topic.clone(), 0);
            }
            let message =
                format!("topic \"{topic}\" was deleted and made again: it is read from its beginning");
            self.error(message);
        }
        made_again
    }

    /// The fetcher forgets these topics. Lanes, also of other topics, are started again for that, where they stand.
    pub(super) fn forget_in_fetcher(&mut self, topics: &BTreeSet<String>) {
        let moved = self.fetcher.forget(topics);
        let is_moved = |lane: &&LaneId| moved.contains(&lane.partition);
        let lanes: Vec<LaneId> = self.lanes.keys().filter(is_moved).cloned().collect();
        lanes.iter().for_each(|lane| self.go_back(lane));
    }

    /// What the membership client has ended itself with.
    pub(super) fn fatal_error(&self) -> Option<KafkaError> {
        self.membership.as_ref().filter(|membership| !membership.is_closing())?.client().fatal_error()
    }

    pub(super) fn event(&self, event: Event) {
        (self.on_event)(&event);
    }

    pub(super) fn error(&self, message: String) {
        self.event(Event::Error { message });
    }

    fn on_detached(&self, lane: &LaneId) {
        let message = format!("a handler of {lane} was cancelled, blocks its thread and does not end");
        if self.fixed.stuck == StuckHandlers::ExitProcess {
            // Nothing else keeps a second member from working on the partition beside it (I2).
            self.error(format!("{message}: ending the process"));
            self.event(Event::Stopped { reason: "a handler did not end".into() });
            std::process::exit(EXIT_STUCK);
        }
        self.error(format!("{message}: it is left behind, and nothing of it counts"));
    }

    pub(super) fn lane_has_ended(&mut self, lane: &LaneId) {
        if let Some(shared) = self.lanes.remove(lane) {
            self.turns.remove(lane);
            self.paces.remove(lane);
            self.finished_before += shared.finished();
            self.ended.insert(lane.partition.clone(), shared);
        }
    }

    /// Lanes that are no longer this member's. Answers which of them it was told to have.
    fn forget(&mut self, mut lanes: Vec<LaneId>) -> Option<Vec<LaneId>> {
        for lane in &lanes {
            self.paused.remove(lane);
            self.void.remove(lane);
            if self.ended.get(&lane.partition).is_some_and(|ended| ended.id == *lane) {
                self.ended.remove(&lane.partition);
            }
        }
        lanes.retain(|lane| self.told.remove(lane));
        Some(lanes).filter(|lanes| !lanes.is_empty())
    }

    pub(super) fn stop_fetching(&mut self, partitions: &[TopicPartition]) {
        if partitions.is_empty() {
            return;
        }
        if let Err(error) = self.fetcher.stop(partitions) {
            self.error(format!("could not stop fetching: {error}"));
        }
    }

    pub(super) fn pause(&mut self, lane: LaneId, paused: bool) {
        if let Some(shared) = self.lanes.get(&lane) {
            shared.pause(paused);
        }
        if paused {
            self.paused.insert(lane);
        } else {
            self.paused.remove(&lane);
        }
    }

    /// Has the fetcher start partitions, all at once. Answers with their queues.
    fn start_fetching(&mut self, starts: Vec<FetchStart>) -> HashMap<TopicPartition, Started> {
        if starts.is_empty() {
            return HashMap::new();
        }
        let all = self.fetcher.start_all(starts);
        self.fetching.extend(started(&all));
        all.into_iter().collect()
    }

    fn make_lane(&self, lane: &LaneId, at: Position) -> Arc<LaneShared> {
        let shared = Arc::new(LaneShared::new(lane.clone(), at));
        if let Some(end) = self.ends.get(&lane.partition) {
            shared.end.store(*end, Ordering::Relaxed);
        }
        shared
    }

    fn run_lane(&mut self, shared: Arc<LaneShared>, at: Position, queue: Option<Box<dyn PartitionQueue>>) {
        let lane = &shared.id;
        let before = self.ended.remove(&lane.partition);
        let is_void = self.void.remove(lane);
        let finished = self.maps.of_lane(lane, at, before.as_ref()).filter(|_| !is_void);
        if let Some(finished) = &finished {
            // Nobody has set it before: the lane is not there yet.
            shared.found.set(finished.clone()).ok();
        }
        shared.pause(self.paused.contains(lane));
        self.paces.insert(lane.clone(), Pacing::new(self.fixed.started.elapsed()));
        self.lanes.insert(lane.clone(), shared.clone());
        (self.fixed.spawn)(Lane {
            shared,
            queue,
            start: at,
            finished,
            work: self.fixed.work.clone(),
            quota: self.fixed.quota.clone(),
            tell: self.fixed.tell.clone(),
        });
    }

    /// Lanes have been there for a while, and no record has come of the first of them: others may be read as well.
    fn is_first_in_vain(&self) -> bool {
        self.first_open.is_some_and(|first| self.fixed.started.elapsed() >= first + FIRST_ALONE)
    }

    /// Has lanes begin and end their turns at reading. Answers those whose partition could not be started.
    pub(super) fn take_turns(&mut self) -> Vec<(LaneId, FetchError)> {
        let mut failed = Vec::new();
        let memory = self.fixed.work.memory.clone();
        self.taken = memory.learn(self.taken);
        let lanes = &self.lanes;
        let each = memory.ahead();
        let in_vain = self.is_first_in_vain();
        let is_tight = (self.turns.len() as u64).saturating_mul(each) > memory.most_ahead();
        let look = |lane: &LaneId| {
            let Some(shared) = lanes.get(lane) else { return Look::default() };
            // Where all can read it does not matter how much each has left. Nor is it known before any record has come.
            let cost = if is_tight || each == 0 { memory.ahead_of(shared.left(), in_vain) } else { each };
            shared.reading.look(&memory, cost)
        };
        let (mut stops, mut starts, mut starting) = (Vec::new(), Vec::new(), Vec::new());
        for deed in self.turns.next(self.fixed.started.elapsed(), look) {
            match deed {
                Deed::Stop(lane) => stops.push(lane),
                Deed::Start(lane) => {
                    let Some(shared) = self.lanes.get(&lane).cloned() else { continue };
                    let at = shared.reading.goes_on_at().map_or_else(|| shared.next(), Position::at);
                    let pace = self.paces.get(&lane).map_or(Pace::Busy, Pacing::pace);
                    starts.push(start_of(&shared, at, if is_tight { Pace::Busy } else { pace }));
                    starting.push((shared, at.offset));
                }
            }
        }
        self.close_queues(&stops);
        let mut started = self.start_fetching(starts);
        for (shared, at) in starting {
            match started.remove(&shared.id.partition) {
                Some(Ok(queue)) => {
                    shared.reading.give(queue, at);
                    shared.wake.notify_one();
                }
                Some(Err(error)) => {
                    self.turns.remove(&shared.id);
                    failed.push((shared.id.clone(), error));
                }
                None => {}
            }
        }
        memory.set_reading(self.turns.used(), is_tight);
        failed
    }

    /// Has lanes be asked for more as often as becomes them: those whose pace has changed are started again.
    pub(super) fn keep_paces(&mut self) {
        let now = self.fixed.started.elapsed();
        if now < self.next_pace {
            return;
        }
        self.next_pace = now + Pacing::LOOK;
        let memory = &self.fixed.work.memory;
        let mut changed = Vec::new();
        for (lane, pacing) in &mut self.paces {
            let Some(shared) = self.lanes.get(lane) else { continue };
            // What is full is not asked for in any case, and where there are turns each of them is to begin soon.
            if memory.is_tight() || shared.reading.is_full() {
                continue;
            }
            if pacing.look(now, shared.reading.parts()) {
                changed.push(lane.clone());
                if changed.len() == MOST_CHANGES {
                    break;
                }
            }
        }
        changed.retain(|lane| self.turns.stop(lane));
        self.close_queues(&changed);
    }

    /// Has lanes drop their queues, for which nothing is fetched any more.
    fn close_queues(&mut self, lanes: &[LaneId]) {
        let lanes: Vec<_> = lanes.iter().filter_map(|lane| self.lanes.get(lane)).cloned().collect();
        let partitions = lanes.iter().map(|shared| &shared.id.partition);
        let stopped: Vec<_> = partitions.filter(|it| self.fetching.remove(it)).cloned().collect();
        self.stop_fetching(&stopped);
        for shared in lanes {
            shared.reading.close();
            shared.wake.notify_one();
        }
    }

    /// A lane is to read from further back, or from somewhere else: it drops its queue, and is given another.
    pub(super) fn go_back(&mut self, lane: &LaneId) {
        if self.turns.stop(lane) {
            self.close_queues(std::slice::from_ref(lane));
        }
    }

    /// A lane has dropped its queue, as its turn is over.
    pub(super) fn turn_has_ended(&mut self, lane: &LaneId) {
        if let Some(shared) = self.lanes.get(lane) {
            self.turns.stopped(lane, shared.reading.is_full());
        }
    }

    fn order(&mut self, lane: &LaneId, order: Order, deadline: Instant) {
        self.turns.remove(lane);
        if self.fetching.remove(&lane.partition) {
            self.stop_fetching(std::slice::from_ref(&lane.partition));
        }
        if let Some(shared) = self.lanes.get(lane) {
            shared.give(order, deadline);
        }
    }
}

impl Port for World {
    fn join(&mut self) {
        if let Some(by_hand) = &mut self.by_hand {
            return by_hand.join();
        }
        let joined = self
            .fixed
            .clients
            .membership_config()
            .map_err(|error| error.to_string())
            .and_then(|config| Membership::join(config, &self.subscription, &self.fixed.wake));
        match joined {
            Ok(membership) => {
                if let Some(tokens) = &self.fixed.clients.tokens {
                    tokens.serve(membership.client());
                }
                self.membership = Some(membership);
            }
            Err(error) => {
                self.trouble =
                    Some((ErrorKind::Config, format!("could not make the membership client: {error}")))
            }
        }
    }

    fn member_is_known(&self) -> bool {
        self.by_hand.is_some()
            || self.membership.as_ref().is_some_and(|membership| membership.is_known(self.fixed.protocol))
    }

    fn generation(&self) -> Option<i32> {
        self.membership.as_ref().filter(|membership| !membership.is_closing())?.client().generation().into()
    }

    fn assignment(&self) -> Option<BTreeSet<TopicPartition>> {
        self.membership.as_ref()?.assignment()
    }

    fn answer(&mut self, answer: &Answer) -> Result<(), String> {
        match &self.membership {
            Some(membership) => membership.answer(answer).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    fn commit(&mut self, token: u64, offsets: &[(LaneId, Position)]) -> Result<(), String> {
        if let Some(by_hand) = &mut self.by_hand {
            by_hand.commit(token, offsets);
            return Ok(());
        }
        let membership = self.membership.as_ref().ok_or("there is no membership client")?;
        // I13: with an empty member id a commit would be taken as one from outside the group
        // (librdkafka#5585).
        if !membership.is_known(self.fixed.protocol) {
            return Err("the group does not know this member (yet, or any more)".into());
        }
        let now = Instant::now();
        self.maps.begin_commit();
        let commits: Vec<(TopicPartition, Position, String)> = offsets
            .iter()
            .map(|(lane, at)| {
                let ended = || self.ended.get(&lane.partition).filter(|ended| ended.id == *lane);
                let shared = self.lanes.get(lane).or_else(ended).filter(|lane| !self.void.contains(&lane.id));
                let mark = self.topic_ids.mark(&lane.partition.topic, now);
                let (at, metadata) = match (shared, mark.filter(|mark| self.maps.takes(mark))) {
                    (shared, Some(mark)) => {
                        shared.inspect(|shared| Maps::forget(*at, shared));
                        (*at, mark)
                    }
                    (Some(shared), None) => self.maps.write(*at, shared),
                    (None, None) => (*at, String::new()),
                };
                (lane.partition.clone(), at, metadata)
            })
            .collect();
        let sent = membership.client().commit(&commits, membership.replies(), token);
        sent.map_err(|error| error.to_string())
    }

    fn find_starts(&mut self, token: u64, wanted: &[Want]) {
        let read_committed = self.fixed.clients.read_committed;
        let given = self.by_hand.as_ref().map(|by_hand| &by_hand.assigned);
        self.search = Some(Search::ask(token, wanted, given, &self.asker, &self.fixed.wake, read_committed));
    }

    fn unsubscribe(&mut self) {
        if let Some(Err(error)) = self.membership.as_ref().map(|membership| membership.client().unsubscribe())
        {
            self.error(format!("could not leave the group: {error}"));
        }
    }

    fn begin_close(&mut self) {
        if let Some(by_hand) = &mut self.by_hand {
            return by_hand.close();
        }
        let is_dead = self.fatal_error().is_some();
        let Some(membership) = &mut self.membership else { return };
        // A client that a fatal error has ended can't be closed, and need not be.
        if let Err(error) = membership.begin_close(&self.fixed.wake)
            && !is_dead
        {
            self.error(format!("could not close the membership client: {error}"));
        }
    }

    fn discard(&mut self) {
        self.search = None;
        if let Some(membership) = self.membership.take() {
            membership.discard(&self.reaper);
        }
    }

    fn open(&mut self, lanes: &[(LaneId, Position)]) -> Vec<Result<(), String>> {
        let now = self.fixed.started.elapsed();
        self.first_open.get_or_insert(now);
        let in_vain = self.is_first_in_vain();
        let mut starts = Vec::with_capacity(lanes.len());
        let made: Vec<_> = lanes.iter().map(|(lane, at)| self.make_lane(lane, *at)).collect();
        for (shared, (lane, at)) in made.iter().zip(lanes) {
            let cost = self.fixed.work.memory.ahead_of(shared.left(), in_vain);
            if self.turns.add(lane.clone(), cost, now) {
                starts.push(start_of(shared, *at, Pace::Busy));
            }
        }
        let mut started = self.start_fetching(starts);
        let run = |(shared, (lane, at)): (Arc<LaneShared>, &(LaneId, Position))| {
            let queue = started.remove(&lane.partition).transpose().map_err(|error| {
                self.turns.remove(lane);
                error.to_string()
            })?;
            self.run_lane(shared, *at, queue);
            Ok(())
        };
        made.into_iter().zip(lanes).map(run).collect()
    }

    fn drain(&mut self, lane: &LaneId, deadline: Duration) {
        let deadline = self.fixed.started + deadline;
        self.order(lane, Order::Drain, deadline);
    }

    fn cancel(&mut self, lane: &LaneId) {
        self.order(lane, Order::Cancel, Instant::now() + crate::properties::GRACE);
    }

    fn progress(&self, lane: &LaneId) -> Option<Position> {
        self.lanes.get(lane).map(|shared| shared.watermark())
    }

    fn next(&self, lane: &LaneId) -> Option<i64> {
        // What is known to be finished further on would be passed over; a seek makes that void.
        let shared = self.lanes.get(lane).filter(|shared| shared.found.get().is_none())?;
        Some(shared.position())
    }

    fn ahead(&self, lane: &LaneId) -> u64 {
        if self.void.contains(lane) {
            return 0;
        }
        let ended = || self.ended.get(&lane.partition).filter(|ended| ended.id == *lane);
        self.lanes.get(lane).or_else(ended).map_or(0, |shared| shared.ahead_number())
    }

    fn renew(&mut self, old: &LaneId, new: &LaneId) {
        // Nothing is committed for the old one any more.
        self.void.remove(old);
        if self.paused.remove(old) {
            self.paused.insert(new.clone());
        }
    }

    fn forget_finished(&mut self, lane: &LaneId) {
        self.void.insert(lane.clone());
    }

    /// Told at once: that a lane ended must be known before anybody else can work on its partition.
    fn report(&mut self, report: Report) {
        let event = match report {
            Report::Assigned(opened) => {
                self.told.extend(opened.iter().map(|(lane, _)| lane.clone()));
                let start = |(lane, found): (LaneId, Found)| {
                    LaneStart::new(lane, found.position.offset, started_from(found.from))
                };
                Event::Assigned { lanes: opened.into_iter().map(start).collect() }
            }
            Report::Revoked { lanes, drained, drain } => match self.forget(lanes) {
                Some(lanes) => Event::Revoked { lanes, drained, drain },
                None => return,
            },
            Report::Lost { lanes, reason } => match self.forget(lanes) {
                Some(lanes) => Event::Lost { lanes, reason },
                None => return,
            },
            Report::Committed(_) if self.by_hand.is_some() => return,
            Report::Committed(offsets) => {
                self.last_commit = Some(Instant::now());
                let offsets = offsets.into_iter().map(|(of, position)| (of, position.offset)).collect();
                Event::Committed { offsets }
            }
            Report::CommitFailed(error) => {
                self.is_unheard = true;
                Event::CommitFailed { error }
            }
            Report::Detached(lane) => return self.on_detached(&lane),
            Report::Answered { number, result } => return self.answered.push((number, result)),
            Report::Error(message) => Event::Error { message },
        };
        if let Some(after) = &mut self.after {
            after.note(&event);
        }
        self.event(event);
    }
}

fn start_of(shared: &Arc<LaneShared>, from: Position, pace: Pace) -> FetchStart {
    let woken = Arc::downgrade(shared);
    let wake: Wake = Arc::new(move || {
        if let Some(shared) = woken.upgrade() {
            shared.wake.notify_one();
        }
    });
    FetchStart { partition: shared.id.partition.clone(), from, is_quiet: pace == Pace::Quiet, wake }
}

fn started_from(from: From) -> StartedFrom {
    match from {
        From::Committed => StartedFrom::Committed,
        From::Beginning => StartedFrom::Beginning,
        From::End => StartedFrom::End,
        From::Restart => StartedFrom::Restart,
        From::Seek => StartedFrom::Seek,
    }
}

/// How long others wait for the first record of the first lane that has something to read.
const FIRST_ALONE: Duration = Duration::from_millis(500);
/// So many lanes at once are started again for their pace, as each start takes a few requests.
const MOST_CHANGES: usize = 100;
/// The exit code of a process that a stuck handler ends: records were unfinished at the drain deadline.
const EXIT_STUCK: i32 = 3;
