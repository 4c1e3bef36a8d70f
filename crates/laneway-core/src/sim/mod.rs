//! Whole groups of members in virtual time, from a seed: the same decisions that a client thread runs,
//! against a coordinator and clients that behave as Kafka's and librdkafka's do, with everything that can
//! go wrong, and a checker that watches the invariants as it goes.
//!
//! A run is a [`Run`]; one that fails tells its story, so that one can follow what happened.

mod broker;
mod check;
mod classic;
mod client;
mod consumer;
mod deeds;
mod faults;
mod lane;
mod plan;
mod process;
mod rng;
mod spread;
mod story;
mod wire;
mod work;
mod world;

use std::fmt;
use std::time::Duration;

use crate::member::Protocol;

/// One run: a group's life, decided by a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// The group's protocol.
    pub protocol: Protocol,
    /// What may happen.
    pub conditions: Conditions,
    /// A way in which the members are broken, to see that the checker notices.
    pub sabotage: Option<Sabotage>,
}

/// What may happen in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditions {
    /// Members join and stop, and handlers take less time than a drain has.
    Graceful,
    /// Also crashes, freezes, evictions, slow and lost commits, failing lanes, handlers that don't end.
    Faulty,
}

/// A way in which members are broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Commits during a hold are not sent.
    SkipHoldCommit,
    /// A revoke is answered before the lanes have ended.
    AnswerEarly,
    /// Members leave by closing their client, without unsubscribing first.
    CloseToLeave,
    /// What lanes finished that were lost is committed too.
    CommitLost,
    /// A record in flight is committed as if it were finished.
    CommitAhead,
    /// The client is not asked what it is assigned.
    Blind,
    /// The client is not asked in which generation it is.
    NoFence,
    /// Members are not told that time passes.
    NoTicks,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records that were handled.
    pub records: u64,
    /// How often a record was given to a handler again.
    pub repeats: u64,
    /// Rebalance events that were answered.
    pub rebalances: u64,
    /// Membership clients that were made anew.
    pub rejoins: u64,
    /// Processes that took part.
    pub members: u64,
    /// How long after the last change the group took to be whole and to catch up.
    pub longest_settling: Duration,
    /// The longest time from a stop to its end.
    pub longest_stop: Duration,
}

/// A run in which something was not as it must be.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The run.
    pub run: Run,
    /// What was wrong, with the invariant where one is named.
    pub what: String,
    /// What happened, by virtual time and process.
    pub story: String,
}

impl Run {
    /// Carries the run out.
    ///
    /// # Errors
    /// The first thing that was not as it must be, with the story up to it.
    pub fn carry_out(self) -> Result<Summary, Failure> {
        let (result, _) = world::World::new(self, false).live();
        result.map_err(|what| {
            // The same again, told.
            let (_, story) = world::World::new(self, true).live();
            Failure { run: self, what, story }
        })
    }

    /// Carries the run out and tells what happened, whether or not it failed.
    pub fn tell(self) -> String {
        let (result, story) = world::World::new(self, true).live();
        format!("{story}{result:?}\n")
    }
}

impl Summary {
    /// Adds another run's.
    pub fn add(&mut self, other: Self) {
        self.records += other.records;
        self.repeats += other.repeats;
        self.rebalances += other.rebalances;
        self.rejoins += other.rejoins;
        self.members += other.members;
        self.longest_settling = self.longest_settling.max(other.longest_settling);
        self.longest_stop = self.longest_stop.max(other.longest_stop);
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { seed, protocol, conditions, .. } = self.run;
        write!(f, "{}{protocol:?}, {conditions:?}, seed {seed}: {}", self.story, self.what)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, repeats, rebalances, rejoins, members, longest_settling, longest_stop } = self;
        write!(
            f,
            "{records} records, {repeats} repeats, {members} members, {rebalances} rebalances, \
             {rejoins} clients made anew, longest settling {longest_settling:.1?}, longest stop {longest_stop:.1?}"
        )
    }
}
