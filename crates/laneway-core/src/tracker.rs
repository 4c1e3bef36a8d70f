//! Which offset may be committed: what a lane delivered, what of it is finished, and the watermark below
//! which everything is.
//!
//! Offsets have gaps (compaction, transaction markers), so the tracker knows what was *delivered*: it
//! never reasons "last plus one" about what it has not seen.

use std::collections::VecDeque;

use crate::types::Position;

/// Tracks the records of one lane, for one epoch.
///
/// Delivering and finishing take constant time, amortised; memory is one slot for each record between the
/// watermark and the last one delivered.
#[derive(Debug)]
pub struct Tracker {
    slots: VecDeque<Slot>,
    /// The ticket of the first slot.
    base: u64,
    in_flight: usize,
    /// Behind the last record that was delivered, or the log's end where that was seen further on.
    position: i64,
    /// Leader epoch of the last record below the watermark.
    leader_epoch: Option<i32>,
}

/// Stands for one delivered record until it is finished. Of one tracker, and of no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

#[derive(Debug)]
struct Slot {
    offset: i64,
    leader_epoch: Option<i32>,
    finished: bool,
}

impl Tracker {
    /// A tracker for a lane that starts at `start`.
    pub fn new(start: Position) -> Self {
        Self {
            slots: VecDeque::new(),
            base: 0,
            in_flight: 0,
            position: start.offset,
            leader_epoch: start.leader_epoch,
        }
    }

    /// Notes that the record at `offset` goes to the handler. `None` if it is below the position: then it
    /// was delivered before (a log that was truncated can bring it again), and must be dropped.
    pub fn deliver(&mut self, offset: i64, leader_epoch: Option<i32>) -> Option<Ticket> {
        if offset < self.position {
            return None;
        }
        let ticket = Ticket(self.base + self.slots.len() as u64);
        self.slots.push_back(Slot { offset, leader_epoch, finished: false });
        self.position = offset + 1;
        self.in_flight += 1;
        Some(ticket)
    }

    /// Notes that a delivered record is finished. True if that moved the watermark. Finishing a record
    /// twice changes nothing.
    pub fn finish(&mut self, ticket: Ticket) -> bool {
        let Some(index) = ticket.0.checked_sub(self.base) else { return false };
        let Some(slot) = usize::try_from(index).ok().and_then(|index| self.slots.get_mut(index)) else {
            return false;
        };
        if slot.finished {
            return false;
        }
        slot.finished = true;
        self.in_flight -= 1;
        while self.slots.front().is_some_and(|front| front.finished) {
            if let Some(front) = self.slots.pop_front() {
                self.base += 1;
                self.leader_epoch = front.leader_epoch.or(self.leader_epoch);
            }
        }
        index == 0
    }

    /// Notes that the log was read up to `end`, whether or not there were records up to there. Never
    /// moves backwards.
    pub fn read_up_to(&mut self, end: i64) {
        self.position = self.position.max(end);
    }

    /// What may be committed: everything delivered below it is finished.
    pub fn watermark(&self) -> Position {
        let offset = self.slots.front().map_or(self.position, |first| first.offset);
        Position { offset, leader_epoch: self.leader_epoch }
    }

    /// The offset from which the next record is expected.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Records delivered and not finished.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Records finished above the watermark.
    pub fn finished_ahead(&self) -> usize {
        self.slots.len() - self.in_flight
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_watermark_waits_for_the_first_unfinished_record() {
        let mut tracker = Tracker::new(Position::at(10));
        let first = tracker.deliver(10, Some(3)).unwrap();
        let second = tracker.deliver(15, Some(4)).unwrap();
        assert!(!tracker.finish(second));
        assert_eq!(tracker.watermark(), Position::at(10));
        assert_eq!((tracker.in_flight(), tracker.finished_ahead()), (1, 1));
        assert!(tracker.finish(first));
        assert_eq!(tracker.watermark(), Position { offset: 16, leader_epoch: Some(4) });
    }

    #[test]
    fn a_record_below_the_position_is_not_delivered_again() {
        let mut tracker = Tracker::new(Position::at(5));
        assert!(tracker.deliver(4, None).is_none());
        tracker.deliver(5, None).unwrap();
        assert!(tracker.deliver(5, None).is_none());
    }

    #[test]
    fn a_log_end_behind_markers_is_committed_once_everything_is_finished() {
        let mut tracker = Tracker::new(Position::at(0));
        let only = tracker.deliver(0, None).unwrap();
        tracker.read_up_to(7);
        assert_eq!(tracker.watermark().offset, 0);
        tracker.finish(only);
        assert_eq!(tracker.watermark().offset, 7);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Deliver { gap: i64 },
        Again { back: i64 },
        Finish { pick: usize },
        End { ahead: i64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4i64).prop_map(|gap| Step::Deliver { gap }),
            1 => (1..5i64).prop_map(|back| Step::Again { back }),
            4 => (0..64usize).prop_map(|pick| Step::Finish { pick }),
            1 => (-3..6i64).prop_map(|ahead| Step::End { ahead }),
        ]
    }

    /// I1: the tracker agrees with a plain map of what was delivered, at every step.
    #[test]
    fn no_watermark_passes_a_record_that_is_not_finished() {
        proptest!(|(steps in proptest::collection::vec(step(), 0..200), start in 0..1_000i64)| {
            let mut tracker = Tracker::new(Position::at(start));
            let mut model: BTreeMap<i64, bool> = BTreeMap::new();
            let mut tickets: Vec<(i64, Ticket)> = Vec::new();
            let mut position = start;
            for step in steps {
                match step {
                    Step::Deliver { gap } => {
                        let offset = position + gap;
                        tickets.push((offset, tracker.deliver(offset, None).unwrap()));
                        model.insert(offset, false);
                        position = offset + 1;
                    }
                    Step::Again { back } => prop_assert!(tracker.deliver(position - back, None).is_none()),
                    Step::Finish { pick } if !tickets.is_empty() => {
                        let (offset, ticket) = tickets[pick % tickets.len()];
                        tracker.finish(ticket);
                        model.insert(offset, true);
                    }
                    Step::Finish { .. } => {}
                    Step::End { ahead } => {
                        tracker.read_up_to(position + ahead);
                        position = position.max(position + ahead);
                    }
                }
                let unfinished = model.iter().find(|(_, finished)| !**finished).map(|(offset, _)| *offset);
                prop_assert_eq!(tracker.watermark().offset, unfinished.unwrap_or(position));
                prop_assert_eq!(tracker.position(), position);
                prop_assert_eq!(tracker.in_flight(), model.values().filter(|finished| !**finished).count());
            }
        });
    }
}
