//! What a seed decides before a run begins: the group, its work, and what is done to it when.

use std::time::Duration;

use super::process::Work;
use super::rng::Rng;
use super::wire::Time;
use super::{Conditions, Run};
use crate::member::{Protocol, Settings};

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) partitions: i32,
    pub(super) members: usize,
    /// One record in each partition in that time.
    pub(super) interval: Duration,
    /// Until then records are written and things are done.
    pub(super) active: Time,
    pub(super) actions: Vec<(Time, Action)>,
    pub(super) work: Work,
    pub(super) settings: Settings,
}

/// What is done to a member, or to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Join,
    /// A member joins and is stopped so soon after.
    JoinBriefly(Duration),
    Stop,
    Crash,
    Freeze(Duration),
    /// The broker forgets a member.
    Evict,
    /// The client's metadata changes, so that it joins again, also in a hold.
    Metadata,
    /// A lane's queue fails.
    LaneFails {
        out_of_range: bool,
    },
    /// The client ends by a fatal error, with no event.
    Fatal,
    /// The same, with an error after which another client is let in.
    Broken,
    /// A member's client will never say that it has closed.
    CloseHangs,
    CoordinatorDown(Duration),
    SlowCommits(Duration, Duration),
    /// Answers to commits are lost.
    LoseAnswers(Duration),
    /// Commits of one of the topics are refused, as if it were gone.
    TopicRefused(Duration),
    StartsFail(Duration),
    StartsSlow(Duration),
    /// The next member that comes to this has that done to it.
    When(Moment, &'static Action),
}

/// A step that a member comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// It is told of partitions that come.
    Assigned,
    /// It is told of partitions that go.
    Revoked,
    /// Its client waits in JoinGroup or SyncGroup.
    Joining,
    /// It commits while an event is unanswered.
    CommittingHeld,
    /// It answered an event.
    Answered,
    /// It has unsubscribed.
    Leaving,
    /// It closes its client.
    Closing,
}

const MOMENTS: [Moment; 7] = [
    Moment::Assigned,
    Moment::Revoked,
    Moment::Joining,
    Moment::CommittingHeld,
    Moment::Answered,
    Moment::Leaving,
    Moment::Closing,
];

impl Plan {
    pub(super) fn new(run: &Run, rng: &mut Rng) -> Self {
        let faulty = run.conditions == Conditions::Faulty;
        let latency = (2, [15, 40, 120][rng.within(0..3) as usize]);
        let mut slow = if rng.chance(60) { rng.within(1..30) } else { 0 };
        let stuck = faulty && rng.chance(40);
        // Drains take long, but end.
        let long = faulty && !stuck && rng.chance(60);
        if long {
            slow = rng.within(20..100);
        }
        let work = Work {
            latency,
            slow,
            slow_for: if stuck {
                (1_000, 9_000)
            } else if long {
                (300, 2_800)
            } else {
                (100, 400)
            },
            deaf: if stuck && rng.chance(50) { 50 } else { 0 },
        };
        let settings = Settings {
            protocol: run.protocol,
            is_static: false,
            drain: DRAIN,
            grace: GRACE,
            commit_interval: Duration::from_millis(rng.within(100..1_500)),
        };
        let active = rng.ms(3_000..12_000);
        let mut plan = Self {
            partitions: rng.within(1..9) as i32,
            members: rng.within(1..5) as usize,
            // Handlers keep up, and catch up in the end.
            interval: Duration::from_millis(rng.within(latency.1.max(30)..250)),
            active,
            actions: Vec::new(),
            work,
            settings,
        };
        let spacing = [300, 800, 2_000][rng.within(0..3) as usize];
        let mut at = rng.ms(0..spacing);
        while at < active {
            let action = if faulty && rng.chance(45) { fault(run.protocol, rng) } else { change(rng) };
            plan.actions.push((at, action));
            at += rng.ms(1..spacing * 2);
        }
        plan
    }
}

fn change(rng: &mut Rng) -> Action {
    match rng.within(0..100) {
        0..40 => Action::Join,
        40..55 => Action::JoinBriefly(rng.ms(0..300)),
        55..80 => Action::Stop,
        _ => Action::When(moment(rng), &Action::Stop),
    }
}

fn fault(protocol: Protocol, rng: &mut Rng) -> Action {
    let long = rng.ms(500..4_000);
    match rng.within(0..100) {
        0..12 => Action::Crash,
        12..18 => Action::When(moment(rng), &Action::Crash),
        18..26 => Action::Freeze(rng.ms(500..14_000)),
        26..32 => Action::When(moment(rng), &LONG_FREEZE),
        32..40 => Action::Evict,
        40..50 => Action::When(moment(rng), &Action::Evict),
        50..54 if protocol != Protocol::Consumer => Action::Metadata,
        54..62 if protocol != Protocol::Consumer => Action::When(moment(rng), &Action::Metadata),
        62..68 => Action::LaneFails { out_of_range: rng.chance(30) },
        68..70 => Action::Fatal,
        70..72 => Action::Broken,
        72..76 => Action::CoordinatorDown(rng.ms(200..9_000)),
        76..79 => Action::CloseHangs,
        79..85 => Action::SlowCommits(rng.ms(100..2_500), long),
        85..88 => Action::LoseAnswers(long),
        88..91 => Action::TopicRefused(long),
        91..94 => Action::StartsFail(long),
        _ => Action::StartsSlow(long),
    }
}

fn moment(rng: &mut Rng) -> Moment {
    rng.pick(&MOMENTS).unwrap_or(Moment::Revoked)
}

/// Longer than a session.
const LONG_FREEZE: Action = Action::Freeze(Duration::from_millis(7_500));

pub(super) const DRAIN: Duration = Duration::from_secs(3);
pub(super) const GRACE: Duration = Duration::from_secs(5);
pub(super) const SESSION: Duration = Duration::from_secs(6);
/// Longer than drain and grace.
pub(super) const REBALANCE: Duration = Duration::from_secs(12);
