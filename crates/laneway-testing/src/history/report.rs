//! What came out of a check, in numbers and in sentences.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use laneway_core::TopicPartition;

/// How many violations of one invariant are told in full; the others are counted.
const TOLD: usize = 10;

/// What a consumer promises (the invariants that a history shows).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Invariant {
    /// No commit passes a record that is not finished.
    I1,
    /// No handler of an epoch runs after it ended; one member works on a partition at a time.
    I2,
    /// Grace causes no duplicate and no loss.
    I3,
    /// After a crash only what was not committed comes again, and none is lost.
    I4,
    /// Records run in the order that was asked for.
    I5,
    /// Main queues deliver nothing.
    I6,
    /// The history itself makes no sense: the recording is at fault, or worse.
    History,
}

/// One way in which an invariant was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which invariant.
    pub invariant: Invariant,
    /// A sentence: what, where, when (time since the history's begin).
    pub text: String,
}

/// Numbers of a history.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Records that were to be finished.
    pub records: u64,
    /// Records that were finished at least once.
    pub finished: u64,
    /// Times that a record was run again after it had been finished.
    pub duplicates: u64,
    /// Records that were never finished though they were to be.
    pub losses: u64,
    /// Times that a member began to work on a partition while another lane of it was at work.
    pub overlaps: u64,
    /// Records that arrived on a main queue.
    pub strays: u64,
    /// Commits.
    pub commits: u64,
    /// Lanes that were opened.
    pub lanes: u64,
}

/// A time in which a partition had records and none was finished.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Silence {
    /// How long it was.
    pub length: Duration,
    /// When it began, since the history's begin.
    pub from: Duration,
}

/// What came out of a [`check`](super::check). Shown as text, it says everything.
#[derive(Clone, Default, Debug)]
pub struct Report {
    /// The first violations of each invariant.
    pub violations: Vec<Violation>,
    /// How many there were of each.
    pub violation_counts: BTreeMap<Invariant, u64>,
    /// Numbers.
    pub counts: Counts,
    /// The longest silence of each partition, counted from the first lane that was opened on.
    pub silences: BTreeMap<TopicPartition, Silence>,
}

impl Report {
    /// Whether every promise was kept.
    pub fn is_ok(&self) -> bool {
        self.violation_counts.is_empty()
    }

    /// Whether an invariant was broken.
    pub fn broken(&self, invariant: Invariant) -> bool {
        self.violation_counts.contains_key(&invariant)
    }

    /// # Panics
    /// When a promise was broken; the message is the whole report.
    #[track_caller]
    pub fn assert_ok(&self) {
        assert!(self.is_ok(), "{self}");
    }

    /// The longest time in which this partition had records and none was finished.
    pub fn longest_silence(&self, partition: &TopicPartition) -> Duration {
        self.silences.get(partition).map_or(Duration::ZERO, |silence| silence.length)
    }

    /// The longest silence of all partitions, and which one had it.
    pub fn longest_silence_of_all(&self) -> Option<(&TopicPartition, &Silence)> {
        self.silences.iter().max_by_key(|(_, silence)| silence.length)
    }

    pub(super) fn add(&mut self, invariant: Invariant, text: impl FnOnce() -> String) {
        let count = self.violation_counts.entry(invariant).or_default();
        *count += 1;
        if *count <= TOLD as u64 {
            self.violations.push(Violation { invariant, text: text() });
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counts;
        writeln!(
            f,
            "{} of {} records finished; {} duplicates, {} losses, {} overlaps, {} strays; {} lanes, {} commits",
            c.finished, c.records, c.duplicates, c.losses, c.overlaps, c.strays, c.lanes, c.commits
        )?;
        if let Some((partition, silence)) = self.longest_silence_of_all() {
            writeln!(f, "longest silence: {:?} on {partition}, from {:?} on", silence.length, silence.from)?;
        }
        for (invariant, count) in &self.violation_counts {
            writeln!(f, "{invariant:?} broken {count} times:")?;
            for violation in self.violations.iter().filter(|v| v.invariant == *invariant) {
                writeln!(f, "  {}", violation.text)?;
            }
        }
        Ok(())
    }
}
