//! A member of a group, from joining to having left: which lanes it has, what it answers to every
//! rebalance event and when, what it commits, and how it leaves.
//!
//! It is driven by [`Member::input`] and asks what must be done of a [`Port`]. It keeps, in this order of
//! importance: nothing is committed for a lane that was lost; no event is answered while a lane that it
//! takes away is running; everything finished is committed before any event is answered; leaving ends by
//! its deadline.

mod commits;
mod hold;
mod lanes;
mod leave;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::commit::CommitFailure;
use crate::port::{Port, Report, Want};
use crate::start::Found;
use crate::types::{Epoch, LaneId, Position, TopicPartition};

use commits::Commits;
use hold::Hold;
use lanes::{Lane, Loss, Stage};
pub use leave::Then;
use leave::{Leave, Step};

/// The rebalance protocol of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Classic: a rebalance takes everything away.
    Eager,
    /// Classic: a rebalance takes away what moves.
    Cooperative,
    /// KIP-848.
    Consumer,
}

/// How a member behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The group's protocol.
    pub protocol: Protocol,
    /// A static member of a classic group stays in it when it stops.
    pub is_static: bool,
    /// How long a drain waits for what is in flight.
    pub drain: Duration,
    /// How long ending what outlived the drain, the last commit and the leave have beyond it.
    pub grace: Duration,
    /// How often finished work is committed.
    pub commit_interval: Duration,
}

/// Something that the member hears of.
#[derive(Debug, Clone)]
pub enum Input {
    /// There are topics to subscribe to: join.
    Join,
    /// Partitions come (all of them in eager).
    Assign(Vec<TopicPartition>),
    /// Partitions go. `lost`: the group has given them away already.
    Revoke {
        /// Which ones.
        partitions: Vec<TopicPartition>,
        /// Whether they are gone already.
        lost: bool,
    },
    /// A commit was answered.
    Committed {
        /// Which one.
        token: u64,
        /// As a whole, then by partition.
        result: CommitResult,
    },
    /// Starts were found, or not.
    Starts {
        /// Which search.
        token: u64,
        /// For each partition that was asked for.
        found: Vec<(TopicPartition, Result<Found, String>)>,
    },
    /// A lane has ended: its handler is not running, and its queue is gone.
    LaneEnded {
        /// The lane.
        lane: LaneId,
        /// What it may commit.
        watermark: Position,
        /// Records that it had in flight and did not finish.
        unfinished: u64,
    },
    /// A lane's queue failed, or it must be read again from where it stands.
    LaneFailed {
        /// The lane.
        lane: LaneId,
        /// The broker said that its position is not in the log.
        out_of_range: bool,
    },
    /// The membership client ended for good by itself (fenced, refused).
    Fatal(String),
    /// The membership client is of no use any more, and another one may be: what it held is lost, and the group is joined
    /// anew.
    Broken(String),
    /// Commit where the member stands although nothing moved: a commit that is acknowledged says that it is
    /// steady, and nothing else does.
    Probe,
    /// Commit what is finished now without waiting for the interval. Answered by `Report::Answered` once it is
    /// acknowledged.
    CommitNow {
        /// Which one.
        number: u64,
    },
    /// A lane is to go on elsewhere: what it has in flight finishes, the offset is committed, and it is opened there.
    /// Answered by `Report::Answered` once the offset is committed.
    Seek {
        /// Which one.
        number: u64,
        /// The lane's partition.
        partition: TopicPartition,
        /// Where it goes on.
        offset: i64,
    },
    /// Partitions are others by now (their topic was deleted and made again): their lanes go on at `offset` in new epochs,
    /// and nothing that they reached is committed, also where they are being given back.
    Anew {
        /// The partitions, each with a number that no seek has.
        lanes: Vec<(u64, TopicPartition)>,
        /// Where they begin.
        offset: i64,
    },
    /// Stop: drain, commit, leave.
    Stop,
    /// Closing the membership client is done.
    ClientClosed,
    /// This process did not run (it was stopped, or the machine was) for longer than its session lasts: the
    /// group has gone on without it, although its client does not know that yet.
    Slept(Duration),
    /// Time has passed. At least every 100 ms, or every few seconds while the member is at rest.
    Tick,
}

/// How a commit was answered.
pub type CommitResult =
    Result<Vec<(TopicPartition, Option<(CommitFailure, String)>)>, (CommitFailure, String)>;

/// Where the member is.
#[derive(Debug)]
enum Phase {
    /// It has not joined.
    Idle,
    /// It is in the group, or about to be.
    In,
    /// It is on its way out.
    Leaving(Leave),
    /// It is out, and its client is being closed.
    Closing { then: Then, by: Duration },
    /// It has ended.
    Gone,
}

/// A member of a group.
#[derive(Debug)]
pub struct Member {
    settings: Settings,
    phase: Phase,
    lanes: BTreeMap<TopicPartition, Lane>,
    /// Lanes that were cancelled and whose partition is not theirs any more, and since when: nothing of
    /// them counts, but until they have ended their partition is not opened again here.
    leftovers: BTreeMap<LaneId, Leftover>,
    /// What was lost and is still being ended.
    losses: Vec<Loss>,
    hold: Option<Hold>,
    holds: u64,
    last_epoch: Epoch,
    /// The generation that the client was in when it told of the last event, in the classic protocols.
    generation: Option<i32>,
    commits: Commits,
    search: Option<Search>,
    next_search: Duration,
    last_token: u64,
    /// Since when the client has lanes and no member id, with no event.
    nameless_since: Option<Duration>,
    /// Until then what is assigned and has no lane is left alone.
    heal_after: Duration,
    totals: Totals,
}

/// A search for starts that was not answered yet.
#[derive(Debug)]
struct Search {
    token: u64,
    /// For which lanes. A partition that was lost and assigned again meanwhile is another's answer.
    epochs: BTreeMap<TopicPartition, Epoch>,
}

#[derive(Debug)]
struct Leftover {
    since: Duration,
    reported: bool,
}

/// What a member's life came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rebalance events that were answered.
    pub rebalances: u64,
    /// Records that were in flight when their lane was ended by force, since the stop began if it has.
    pub unfinished: u64,
    /// Offsets that were finished and not committed when their lane ended, likewise.
    pub uncommitted: u64,
    /// Membership clients that had to be made anew.
    pub rejoins: u64,
}

impl Member {
    /// A member that has not joined yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            phase: Phase::Idle,
            lanes: BTreeMap::new(),
            leftovers: BTreeMap::new(),
            losses: Vec::new(),
            hold: None,
            holds: 0,
            last_epoch: Epoch(0),
            generation: None,
            commits: Commits::default(),
            search: None,
            next_search: Duration::ZERO,
            last_token: 0,
            nameless_since: None,
            heal_after: Duration::ZERO,
            totals: Totals::default(),
        }
    }

    /// Takes in what happened at `now`, and asks of `port` what must be done about it.
    pub fn input(&mut self, now: Duration, input: Input, port: &mut impl Port) {
        match input {
            Input::Join => self.join(port),
            Input::Assign(partitions) => self.on_event(now, hold::Event::Assign(partitions), port),
            Input::Revoke { partitions, lost } => {
                self.on_event(now, hold::Event::Revoke { partitions, lost }, port);
            }
            Input::Committed { token, result } => self.on_committed(now, token, result, port),
            Input::Starts { token, found } => self.on_starts(now, token, found, port),
            Input::LaneEnded { lane, watermark, unfinished } => {
                self.on_lane_ended(now, &lane, watermark, unfinished, port);
            }
            Input::LaneFailed { lane, out_of_range } => self.on_lane_failed(now, &lane, out_of_range, port),
            Input::Fatal(reason) => self.abandon(now, Then::End, &reason, port),
            Input::Broken(reason) => self.abandon(now, Then::Rejoin, &reason, port),
            Input::Probe => {
                if self.is_in() && !self.is_held() {
                    self.probe(now, port);
                }
            }
            Input::CommitNow { number } => self.commit_now(number, port),
            Input::Seek { number, partition, offset } => self.seek(now, number, &partition, offset, port),
            Input::Anew { lanes, offset } => {
                for (number, partition) in lanes {
                    self.begin_anew(now, number, &partition, offset, port);
                }
            }
            Input::Stop => self.on_stop(now),
            Input::ClientClosed => self.on_client_closed(port),
            Input::Slept(time) => self.on_slept(now, time, port),
            Input::Tick => self.reconcile(now, port),
        }
        self.answer_waiting(port);
        while self.step(now, port) {}
        self.answer_waiting(port);
    }

    /// Whether the member has ended: nothing of it is left but lanes that would not end.
    pub fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }

    /// Whether the member is in the group, or on its way in.
    pub fn is_in(&self) -> bool {
        matches!(self.phase, Phase::In)
    }

    /// Whether a rebalance event is unanswered.
    pub fn is_held(&self) -> bool {
        self.hold.is_some()
    }

    /// Whether every partition that is held has its lane open.
    pub fn is_settled(&self) -> bool {
        self.hold.is_none() && self.lanes.values().all(|lane| matches!(lane.stage, Stage::Open))
    }

    /// Whether nothing is under way: no event, no lane that begins or ends, and nothing that is finished and not
    /// committed. What happens next is an input, or what lanes finish.
    pub fn is_at_rest(&self, port: &impl Port) -> bool {
        self.is_in()
            && self.is_settled()
            && self.leftovers.is_empty()
            && !self.commits.is_busy()
            && self.lanes.values().all(|lane| lane.uncommitted(port).is_none())
    }

    /// The lanes that the member has, each with its state and its committed offset.
    pub fn lanes(&self) -> impl Iterator<Item = (&LaneId, LaneStage, Option<i64>)> {
        self.lanes.values().map(|lane| (&lane.id, lane.stage.shown(), lane.committed))
    }

    /// Lanes that were left behind, still running.
    pub fn detached(&self) -> usize {
        self.leftovers.values().filter(|leftover| leftover.reported).count()
    }

    /// What the member's life came to so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    fn join(&mut self, port: &mut impl Port) {
        if matches!(self.phase, Phase::Idle) {
            self.phase = Phase::In;
            port.join();
        }
    }

    /// Does one thing that can be done now, if there is one.
    fn step(&mut self, now: Duration, port: &mut impl Port) -> bool {
        self.end_overdue_lanes(now, port)
            || self.search_for_starts(now, port)
            || self.step_hold(now, port)
            || self.commit_if_due(now, port)
            || self.step_leave(now, port)
            || self.open_ready_lanes(now, port)
    }

    /// I13: what is read here is a subset of what membership is assigned, and what membership is assigned
    /// is read.
    fn reconcile(&mut self, now: Duration, port: &mut impl Port) {
        let is_leaving = match &self.phase {
            Phase::In => false,
            Phase::Leaving(leave) if leave.has_lanes() => true,
            _ => return,
        };
        self.lose_what_the_group_passed_on(now, port);
        let classic = self.settings.protocol != Protocol::Consumer;
        if !port.member_is_known() {
            // librdkafka skips UNKNOWN_MEMBER_ID during a hold (librdkafka#5604): an empty id is the sign.
            if self.hold.as_ref().is_some_and(|hold| !hold.lost) {
                self.abandon(now, Then::Rejoin, "the group went on without this member", port);
                return;
            }
            if classic && self.hold.is_none() {
                if !self.lanes.is_empty() {
                    self.nameless_since.get_or_insert(now);
                    self.lose_all(now, "the group no longer knows this member", port);
                }
                let is_over = |since: Duration| now.saturating_sub(since) >= NAMELESS_PATIENCE;
                if !is_leaving && self.nameless_since.is_some_and(is_over) {
                    self.abandon(now, Then::Rejoin, "no event followed the loss of membership", port);
                }
                // What it is assigned is void until an event says otherwise.
                return;
            }
        }
        self.nameless_since = None;
        if self.hold.is_some() {
            return;
        }
        let Some(assignment) = port.assignment() else { return };
        let gone: Vec<TopicPartition> =
            self.lanes.keys().filter(|partition| !assignment.contains(*partition)).cloned().collect();
        self.lose(now, &gone, "it is no longer assigned, and no event said so", port);
        if is_leaving {
            return;
        }
        for partition in assignment {
            if !self.lanes.contains_key(&partition) && now >= self.heal_after {
                self.add_lane(partition);
            }
        }
    }

    /// What was assigned is somebody else's by now. The client will hear of it with its next heartbeat;
    /// until then its assignment says nothing.
    fn on_slept(&mut self, now: Duration, time: Duration, port: &mut impl Port) {
        self.heal_after = now + HEAL_PAUSE;
        let seconds = time.as_secs();
        self.lose_all(
            now,
            &format!("this process did not run for {seconds} s, longer than its session"),
            port,
        );
    }

    fn on_starts(
        &mut self,
        now: Duration,
        token: u64,
        found: Vec<(TopicPartition, Result<Found, String>)>,
        port: &mut impl Port,
    ) {
        let Some(search) = self.search.take_if(|search| search.token == token) else { return };
        let mut failures = Vec::new();
        for (partition, found) in found {
            let asked = search.epochs.get(&partition);
            let lane = self.lanes.get_mut(&partition).filter(|lane| Some(&lane.id.epoch) == asked);
            let Some(lane) = lane else { continue };
            let Stage::Finding { out_of_range } = lane.stage else { continue };
            if let (Some(stood), Ok(found)) = (out_of_range, &found)
                && found.position.offset < stood.offset
            {
                // What is there by now, up to where the lane stood, are other records.
                port.forget_finished(&lane.id);
            }
            match found {
                Ok(found) if found.from.must_be_committed() => lane.stage = Stage::Deciding(found),
                Ok(found) => {
                    lane.committed.get_or_insert(found.position.offset);
                    lane.stage = Stage::Ready(found);
                }
                Err(error) => failures.push(format!("{partition}: {error}")),
            }
        }
        if !failures.is_empty() {
            self.next_search = now + SEARCH_AGAIN;
            let failures = failures.join("; ");
            port.report(Report::Error(format!("could not find where to start, trying again: {failures}")));
        }
    }

    fn search_for_starts(&mut self, now: Duration, port: &mut impl Port) -> bool {
        if self.search.is_some() || now < self.next_search || !matches!(self.phase, Phase::In) {
            return false;
        }
        let wanted: Vec<Want> = self.lanes.values().filter_map(|lane| lane.wants_start(now)).collect();
        if wanted.is_empty() {
            return false;
        }
        let token = self.token();
        let epoch = |want: &Want| Some((want.partition.clone(), self.lanes.get(&want.partition)?.id.epoch));
        let epochs = wanted.iter().filter_map(epoch).collect();
        self.search = Some(Search { token, epochs });
        port.find_starts(token, &wanted);
        true
    }

    fn token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }
}

/// Where a lane is in its life, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneStage {
    /// Its start is being found.
    Starting,
    /// It is open.
    Running,
    /// It takes nothing new.
    Draining,
    /// What it had in flight is being cancelled.
    Cancelling,
}

/// How long a member that had lanes may be without a member id and an event before its client is made
/// anew. Longer than a client waits from one join to the next: it may be on its way back in.
const NAMELESS_PATIENCE: Duration = Duration::from_secs(3);
/// How long after a sleep the client's assignment is not believed.
const HEAL_PAUSE: Duration = Duration::from_secs(5);
/// How long after a search for starts failed it is made again.
const SEARCH_AGAIN: Duration = Duration::from_millis(500);
