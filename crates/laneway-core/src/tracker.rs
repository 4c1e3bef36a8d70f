//! Which offset may be committed: what a lane delivered, what of it is finished, and the watermark below
//! which everything is.
//!
//! Offsets have gaps (compaction, transaction markers), so the tracker knows what was *delivered*: it
//! never reasons "last plus one" about what it has not seen.

use std::collections::VecDeque;

use crate::map::Ahead;
use crate::types::Position;

/// Tracks the records of one lane, for one epoch.
///
/// Delivering and finishing take constant time, amortised. Memory is one bit for each record between the
/// watermark and the last one delivered, and a few words for each gap between offsets.
#[derive(Debug)]
pub struct Tracker {
    /// A bit for each ticket from `base`: whether it is finished.
    words: VecDeque<u64>,
    /// The ticket of the first bit.
    base: u64,
    /// The first ticket that is not finished.
    low: u64,
    /// The next ticket.
    next: u64,
    /// Which offsets tickets stand for.
    runs: VecDeque<Run>,
    in_flight: u64,
    /// Behind the last record that was delivered, or the log's end where that was seen further on.
    position: i64,
    /// Leader epoch of the last record below the watermark.
    leader_epoch: Option<i32>,
}

/// Stands for one delivered record until it is finished. Of one tracker, and of no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Consecutive tickets of consecutive offsets, up to the next run.
#[derive(Debug, Clone, Copy)]
struct Run {
    ticket: u64,
    offset: i64,
    leader_epoch: Option<i32>,
}

impl Tracker {
    /// A tracker for a lane that starts at `start`.
    pub fn new(start: Position) -> Self {
        Self {
            words: VecDeque::new(),
            base: 0,
            low: 0,
            next: 0,
            runs: VecDeque::new(),
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
        let ticket = self.next;
        let follows = self.runs.back().is_some_and(|run| {
            run.leader_epoch == leader_epoch
                && run.offset + ticket.wrapping_sub(run.ticket).cast_signed() == offset
        });
        if !follows {
            if self.low == ticket {
                // What the last run stood for is finished.
                self.runs.clear();
            }
            self.runs.push_back(Run { ticket, offset, leader_epoch });
        }
        if ticket - self.base >= self.words.len() as u64 * BITS {
            self.words.push_back(0);
        }
        self.next += 1;
        self.position = offset + 1;
        self.in_flight += 1;
        Some(Ticket(ticket))
    }

    /// Notes that a delivered record is finished. True if that moved the watermark. Finishing a record
    /// twice changes nothing.
    pub fn finish(&mut self, ticket: Ticket) -> bool {
        let Ticket(ticket) = ticket;
        if ticket < self.low || ticket >= self.next {
            return false;
        }
        let at = ticket - self.base;
        let Some(word) = self.words.get_mut(index(at / BITS)) else { return false };
        let bit = 1 << (at % BITS);
        if *word & bit != 0 {
            return false;
        }
        *word |= bit;
        self.in_flight -= 1;
        if ticket != self.low {
            return false;
        }
        self.advance();
        true
    }

    /// Finishes `count` records that were delivered one after the other, from `first` on.
    pub fn finish_run(&mut self, first: Ticket, count: u64) {
        let end = (first.0 + count).min(self.next);
        let mut ticket = first.0.max(self.low);
        while ticket < end {
            let at = ticket - self.base;
            let Some(word) = self.words.get_mut(index(at / BITS)) else { break };
            let bits = (end - ticket).min(BITS - at % BITS);
            let run = (u64::MAX >> (BITS - bits)) << (at % BITS);
            self.in_flight -= u64::from((run & !*word).count_ones());
            *word |= run;
            ticket += bits;
        }
        self.advance();
    }

    /// Records finished so far.
    pub fn finished(&self) -> u64 {
        self.next - self.in_flight
    }

    /// Moves the watermark over all that is finished.
    fn advance(&mut self) {
        while self.low < self.next {
            let at = self.low - self.base;
            let Some(word) = self.words.front() else { return };
            let finished = u64::from((word >> at).trailing_ones()).min(BITS - at);
            self.low += finished;
            if at + finished < BITS {
                break;
            }
            self.words.pop_front();
            self.base += BITS;
        }
        while let Some(run) = self.runs.front().copied() {
            if run.ticket < self.low {
                self.leader_epoch = run.leader_epoch.or(self.leader_epoch);
            }
            // The run of the first unfinished ticket stays, and the last one: it may go on.
            if self.runs.get(1).is_none_or(|next| next.ticket > self.low) {
                return;
            }
            self.runs.pop_front();
        }
    }

    /// Notes that the log was read up to `end`, whether or not there were records up to there. Never
    /// moves backwards.
    pub fn read_up_to(&mut self, end: i64) {
        self.position = self.position.max(end);
    }

    /// What may be committed: everything delivered below it is finished.
    pub fn watermark(&self) -> Position {
        let first = self.runs.front().filter(|_| self.low < self.next);
        let offset = first.map_or(self.position, |run| run.offset + (self.low - run.ticket).cast_signed());
        Position { offset, leader_epoch: self.leader_epoch }
    }

    /// The offset from which the next record is expected.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// The position, with the leader epoch of the last record that was delivered.
    pub fn next(&self) -> Position {
        let leader_epoch = self.runs.back().and_then(|run| run.leader_epoch).or(self.leader_epoch);
        Position { offset: self.position, leader_epoch }
    }

    /// Records delivered and not finished.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Records finished above the watermark.
    pub fn finished_ahead(&self) -> u64 {
        self.next - self.low - self.in_flight
    }

    /// What is finished above `base`, which is not above the watermark; `None` if nothing is. With the highest
    /// leader epoch of what is in it.
    pub fn ahead(&self, base: i64) -> Option<(Ahead, Option<i32>)> {
        let mut ahead = Ahead::new(base);
        let mut leader_epoch = self.leader_epoch;
        // What was finished since the watermark was at the base. That one itself a map can't tell.
        let watermark = self.watermark().offset;
        for first in (base + 1..watermark).step_by(64) {
            ahead.push_word(
                first,
                usize::try_from(watermark - first).map_or(64, |count| count.min(64)),
                u64::MAX,
            );
        }
        let end = self.highest_finished().map_or(self.low, |ticket| ticket + 1);
        let mut ticket = self.low;
        for (index, run) in self.runs.iter().enumerate() {
            let run_end = self.runs.get(index + 1).map_or(self.next, |next| next.ticket).min(end);
            while ticket < run_end {
                let at = ticket - self.base;
                let count = (BITS - at % BITS).min(run_end - ticket);
                let word = self.words.get(self::index(at / BITS)).copied().unwrap_or(0) >> (at % BITS);
                let states = word & (u64::MAX >> (BITS - count));
                let first = run.offset + (ticket - run.ticket).cast_signed();
                ahead.push_word(first, self::index(count), states);
                if states != 0 {
                    leader_epoch = leader_epoch.max(run.leader_epoch);
                }
                ticket += count;
            }
        }
        (ahead.finished() > 0).then_some((ahead, leader_epoch))
    }

    fn highest_finished(&self) -> Option<u64> {
        let (index, word) = self.words.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
        let ticket = self.base + index as u64 * BITS + u64::from(word.ilog2());
        (ticket >= self.low).then_some(ticket)
    }
}

fn index(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// Tickets to a word.
const BITS: u64 = 64;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::map::{DEFAULT_LIMIT, FinishedAhead, Place, Text, decode, encode};

    proptest! {
        #[test]
        fn a_run_finishes_what_its_records_would_one_by_one(
            before in prop::collection::vec(0_usize..400, 0..60),
            runs in prop::collection::vec((0_usize..400, 0_u64..400), 1..6),
            gap in 2_i64..9,
        ) {
            let (mut one_by_one, mut at_once) = (Tracker::new(Position::at(0)), Tracker::new(Position::at(0)));
            let offsets = (0..400).map(|number| number + number / 70 * gap);
            let tickets: Vec<_> = offsets.map(|offset| {
                at_once.deliver(offset, Some(1)).unwrap();
                one_by_one.deliver(offset, Some(1)).unwrap()
            }).collect();
            for index in before {
                one_by_one.finish(tickets[index]);
                at_once.finish(tickets[index]);
            }
            for (first, count) in runs {
                for ticket in tickets.iter().skip(first).take(usize::try_from(count).unwrap()) {
                    one_by_one.finish(*ticket);
                }
                at_once.finish_run(tickets[first], count);
                prop_assert_eq!(at_once.watermark(), one_by_one.watermark());
                prop_assert_eq!(at_once.finished(), one_by_one.finished());
                prop_assert_eq!(at_once.finished_ahead(), one_by_one.finished_ahead());
                prop_assert_eq!(at_once.ahead(0).map(|it| it.0.finished()), one_by_one.ahead(0).map(|it| it.0.finished()));
            }
        }
    }

    #[test]
    fn what_was_finished_since_the_commit_is_ahead_of_it() {
        let mut tracker = Tracker::new(Position::at(0));
        let tickets: Vec<_> = (0..300).map(|offset| tracker.deliver(offset, Some(2)).unwrap()).collect();
        for ticket in tickets.iter().take(200).chain(&tickets[250..260]) {
            tracker.finish(*ticket);
        }
        let (ahead, epoch) = tracker.ahead(100).unwrap();
        assert_eq!((ahead.base(), ahead.finished(), epoch), (100, 99 + 10, Some(2)));
        let (ahead, _) = tracker.ahead(200).unwrap();
        assert_eq!(ahead.finished(), 10);
        assert!(Tracker::new(Position::at(5)).ahead(5).is_none());
    }

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
        proptest!(|(steps in proptest::collection::vec(step(), 0..400), start in 0..1_000i64)| {
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
                let open = model.values().filter(|finished| !**finished).count();
                prop_assert_eq!(tracker.in_flight(), open as u64);
                let mark = tracker.watermark().offset;
                let ahead = model.iter().filter(|(offset, finished)| **finished && **offset > mark);
                let ahead: Vec<i64> = ahead.map(|(offset, _)| *offset).collect();
                prop_assert_eq!(tracker.finished_ahead(), ahead.len() as u64);
                let place = Place { group: "g", topic: "t", partition: 0 };
                let found = tracker.ahead(mark).map(|(ahead, _)| {
                    let map = encode(&ahead, place, DEFAULT_LIMIT, Text::Dense);
                    prop_assert_eq!((map.remembered, map.forgotten), (ahead.finished(), 0));
                    let found = decode(&map.text, place, mark).unwrap();
                    let straight = FinishedAhead::of(&ahead);
                    prop_assert_eq!(straight.ranges(), found.ranges());
                    Ok(found)
                });
                let mut found = found.transpose()?.unwrap_or_else(|| FinishedAhead::nothing(mark));
                for (offset, finished) in model.range(mark..) {
                    prop_assert_eq!(found.contains(*offset), *finished, "{}", offset);
                }
            }
        });
    }
}
