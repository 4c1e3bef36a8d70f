//! Which lanes are read, where there is not room for all at once: those that have something to read take turns.
//!
//! A lane that is at its log's end costs nothing, and stays. So do all as long as there is room. Where more have
//! something to read than there is room for, each reads for a while and then waits behind the others.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Who reads, and who waits for it.
#[derive(Debug)]
pub struct Turns<L> {
    /// What those that read may cost, all together.
    room: u64,
    lanes: BTreeMap<L, Stage>,
    waiting: VecDeque<L>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is in `waiting`.
    Waiting,
    /// It reads, and has had something to read since then; `None`: it is at its log's end. And what it costs.
    Reading(Option<Duration>, u64),
    /// It was told to stop, and has not yet, so that it still costs as much.
    Stopping(u64),
    /// It does not read, and has no room to.
    Resting,
}

/// How a lane is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// It has read everything there is.
    pub is_at_end: bool,
    /// It has read something in this turn.
    pub has_read: bool,
    /// It has no room to read anything now.
    pub is_full: bool,
    /// Lanes can hold no more, all together: those that read go on, and none begins.
    pub none_begins: bool,
    /// What it has not read keeps too much else in memory.
    pub holds_up: bool,
    /// What it costs to have it read.
    pub cost: u64,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed<L> {
    /// The lane's turn begins.
    Start(L),
    /// The lane's turn ends: [`Turns::stopped`] is to be called when it has.
    Stop(L),
}

impl<L: Ord + Clone> Turns<L> {
    /// Nobody yet; those that read may cost so much, all together. One may always read.
    pub fn new(room: u64) -> Self {
        Self { room, lanes: BTreeMap::new(), waiting: VecDeque::new() }
    }

    /// What those cost that read and have something to read, or have not stopped yet.
    pub fn used(&self) -> u64 {
        let cost = |stage: &Stage| match stage {
            Stage::Reading(Some(_), cost) | Stage::Stopping(cost) => *cost,
            _ => 0,
        };
        self.lanes.values().map(cost).sum()
    }

    /// How many lanes there are, whatever they do.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// A new lane, and what it costs. True: it begins to read at once; else it waits for its turn.
    pub fn add(&mut self, lane: L, cost: u64, now: Duration) -> bool {
        self.remove(&lane);
        let used = self.used();
        let starts = self.waiting.is_empty() && (used == 0 || used + cost <= self.room);
        if starts {
            self.lanes.insert(lane, Stage::Reading(Some(now), cost));
        } else {
            self.wait(lane);
        }
        starts
    }

    /// Whether the lane reads.
    pub fn reads(&self, lane: &L) -> bool {
        matches!(self.lanes.get(lane), Some(Stage::Reading(..)))
    }

    /// The lane is no more.
    pub fn remove(&mut self, lane: &L) {
        if self.lanes.remove(lane) == Some(Stage::Waiting) {
            self.waiting.retain(|waiting| waiting != lane);
        }
    }

    /// The lane is to stop reading, and to read again. True: it reads now, and [`stopped`](Self::stopped) is to be
    /// called.
    pub fn stop(&mut self, lane: &L) -> bool {
        if let Some(stage) = self.lanes.get_mut(lane)
            && let Stage::Reading(_, cost) = *stage
        {
            *stage = Stage::Stopping(cost);
            return true;
        }
        false
    }

    /// A lane that was told to stop has.
    pub fn stopped(&mut self, lane: &L, is_full: bool) {
        match self.lanes.get_mut(lane) {
            Some(stage @ Stage::Stopping(_)) if is_full => *stage = Stage::Resting,
            Some(Stage::Stopping(_)) => self.wait(lane.clone()),
            _ => {}
        }
    }

    fn wait(&mut self, lane: L) {
        self.lanes.insert(lane.clone(), Stage::Waiting);
        self.waiting.push_back(lane);
    }

    /// What is to be done now. Asks how lanes are doing.
    pub fn next(&mut self, now: Duration, mut look: impl FnMut(&L) -> Look) -> Vec<Deed<L>> {
        let mut stops = Vec::new();
        let mut rested = Vec::new();
        // By when they began: those that have something to read.
        let mut reading = Vec::new();
        for (lane, stage) in &mut self.lanes {
            match stage {
                Stage::Reading(since, cost) => {
                    let look = look(lane);
                    *since = if look.is_at_end { None } else { Some(since.unwrap_or(now)) };
                    *cost = look.cost;
                    if look.holds_up && look.is_full {
                        stops.push(lane.clone());
                    } else if let Some(since) = *since {
                        reading.push((since, lane.clone(), look));
                    }
                }
                Stage::Resting if !look(lane).is_full => rested.push(lane.clone()),
                Stage::Resting | Stage::Waiting | Stage::Stopping(_) => {}
            }
        }
        rested.into_iter().for_each(|lane| self.wait(lane));
        reading.sort_by_key(|(since, ..)| *since);
        // Lanes that were at their ends may all have something to read at once: the last ones wait.
        let mut used = self.used();
        while used > self.room
            && reading.len() > 1
            && let Some((_, lane, look)) = reading.pop()
        {
            used = used.saturating_sub(look.cost);
            stops.push(lane);
        }
        // Turns end only for as much as those that wait can use.
        let waiting: Vec<Look> = self.waiting.iter().map(&mut look).collect();
        let can_begin = |look: &Look| !look.is_full && !look.none_begins;
        let wants = waiting.iter().filter(|look| can_begin(look));
        let wanted = wants.map(|look| look.cost.max(1)).fold(0, u64::saturating_add);
        let mut lacking = wanted.saturating_sub(self.room.saturating_sub(self.used()));
        for (since, lane, look) in reading {
            if lacking == 0 {
                break;
            }
            let age = now.saturating_sub(since);
            if look.is_full || (look.has_read && age >= TURN) || age >= LONGEST_TURN {
                lacking = lacking.saturating_sub(look.cost.max(1));
                stops.push(lane);
            }
        }
        let mut deeds = Vec::new();
        for lane in stops {
            if self.stop(&lane) {
                deeds.push(Deed::Stop(lane));
            }
        }
        let mut used = self.used();
        // One that can read nothing now would only be stopped again, and keeps its place.
        for (lane, look) in self.waiting.iter().zip(&waiting).filter(|(_, look)| can_begin(look)) {
            if used > 0 && used + look.cost > self.room {
                break;
            }
            used += look.cost;
            self.lanes.insert(lane.clone(), Stage::Reading(Some(now), look.cost));
            deeds.push(Deed::Start(lane.clone()));
        }
        self.waiting.retain(|lane| self.lanes.get(lane) == Some(&Stage::Waiting));
        deeds
    }
}

/// How long a turn takes, where others wait.
const TURN: Duration = Duration::from_millis(500);
/// How long one takes in which nothing could be read.
const LONGEST_TURN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    const BUSY: Look = Look {
        is_at_end: false,
        has_read: true,
        is_full: false,
        none_begins: false,
        holds_up: false,
        cost: 1,
    };

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// Does what is asked for at once. Answers who began.
    fn run(turns: &mut Turns<u32>, now: Duration, mut look: impl FnMut(&u32) -> Look) -> Vec<u32> {
        let mut began = Vec::new();
        loop {
            let deeds = turns.next(now, &mut look);
            if deeds.is_empty() {
                return began;
            }
            for deed in deeds {
                match deed {
                    Deed::Start(lane) => began.push(lane),
                    Deed::Stop(lane) => {
                        let is_full = look(&lane).is_full;
                        turns.stopped(&lane, is_full);
                    }
                }
            }
        }
    }

    #[test]
    fn all_read_where_there_is_room_for_all() {
        let mut turns = Turns::new(3);
        assert!((0..3).all(|lane| turns.add(lane, 1, Duration::ZERO)));
        assert!(run(&mut turns, seconds(100.0), |_| BUSY).is_empty());
        assert_eq!((turns.used(), turns.waiting.len()), (3, 0));
    }

    #[test]
    fn a_lane_at_its_end_makes_room_and_stays() {
        let mut turns = Turns::new(1);
        assert!(turns.add(0, 1, Duration::ZERO));
        assert!(!turns.add(1, 1, Duration::ZERO));
        let at_end = |lane: &u32| Look { is_at_end: *lane == 0, ..BUSY };
        assert_eq!(run(&mut turns, seconds(0.1), at_end), [1]);
        // It has something to read again, and the other one has had its turn.
        assert_eq!(turns.next(seconds(0.2), |_| BUSY), [Deed::Stop(0)]);
        turns.stopped(&0, false);
        assert!(turns.next(seconds(0.3), |_| BUSY).is_empty());
        assert_eq!(turns.next(seconds(0.7), |_| BUSY), [Deed::Stop(1)]);
        assert!(turns.next(seconds(0.7), |_| BUSY).is_empty(), "one that has not stopped yet has its room");
        turns.stopped(&1, false);
        assert_eq!(turns.next(seconds(0.7), |_| BUSY), [Deed::Start(0)]);
    }

    #[test]
    fn a_lane_without_room_rests_until_it_has_some() {
        let mut turns = Turns::new(2);
        assert!(turns.add(0, 1, Duration::ZERO) && turns.add(1, 1, Duration::ZERO));
        let full = Look { is_full: true, holds_up: true, ..BUSY };
        assert_eq!(turns.next(seconds(1.0), |lane| if *lane == 0 { full } else { BUSY }), [Deed::Stop(0)]);
        turns.stopped(&0, true);
        assert!(run(&mut turns, seconds(1.0), |lane| if *lane == 0 { full } else { BUSY }).is_empty());
        assert_eq!(run(&mut turns, seconds(2.0), |_| BUSY), [0]);
    }

    #[test]
    fn a_lane_without_room_does_not_begin_and_keeps_no_other_from_it() {
        let mut turns = Turns::new(1);
        assert!(
            turns.add(0, 1, Duration::ZERO)
                && !turns.add(1, 1, Duration::ZERO)
                && !turns.add(2, 1, Duration::ZERO)
        );
        let look = |lane: &u32| Look { is_full: *lane == 1, ..BUSY };
        assert_eq!(run(&mut turns, seconds(0.5), look), [2]);
        assert_eq!(run(&mut turns, seconds(1.0), look), [0]);
        assert_eq!(run(&mut turns, seconds(1.5), |_| BUSY), [1], "it has room again, and has kept its place");
        assert_eq!(run(&mut turns, seconds(2.0), |_| BUSY), [2]);
    }

    #[test]
    fn where_none_begins_those_that_read_go_on_and_those_that_wait_keep_their_places() {
        let mut turns = Turns::new(1);
        assert!(
            turns.add(2, 1, Duration::ZERO)
                && !turns.add(1, 1, Duration::ZERO)
                && !turns.add(0, 1, Duration::ZERO)
        );
        let none = Look { none_begins: true, ..BUSY };
        assert!(run(&mut turns, seconds(5.0), |_| none).is_empty() && turns.reads(&2));
        assert_eq!(run(&mut turns, seconds(6.0), |_| BUSY), [1]);
        assert_eq!(run(&mut turns, seconds(7.0), |_| BUSY), [0]);
    }

    #[test]
    fn a_turn_in_which_nothing_came_lasts_longer() {
        let mut turns = Turns::new(1);
        assert!(turns.add(0, 1, Duration::ZERO));
        turns.add(1, 1, Duration::ZERO);
        let nothing = Look { has_read: false, ..BUSY };
        assert!(run(&mut turns, seconds(9.9), |_| nothing).is_empty());
        assert_eq!(run(&mut turns, seconds(10.0), |_| nothing), [1]);
    }

    proptest! {
        /// None waits more than a few turns, and never do more read than there is room for, for longer than it takes
        /// to notice.
        #[test]
        fn turns_are_fair(
            most in 1..8usize,
            lanes in 1..40u32,
            states in prop::collection::vec((any::<u32>(), 0..10u8), 400),
        ) {
            let mut turns = Turns::new(most as u64);
            let mut looks = vec![BUSY; lanes as usize];
            let mut last_read = vec![0usize; lanes as usize];
            let mut none_begins = false;
            let mut reads: Vec<bool> = (0..lanes).map(|lane| turns.add(lane, 1, Duration::ZERO)).collect();
            for (step, (lane, state)) in states.into_iter().enumerate() {
                let now = Duration::from_millis(100 * (step as u64 + 1));
                let changed = (lane % lanes) as usize;
                match state {
                    0 => none_begins = !none_begins,
                    1..3 => looks[changed] = Look { is_at_end: true, ..BUSY },
                    3..6 => looks[changed] = Look { is_full: true, holds_up: true, ..BUSY },
                    _ => looks[changed] = BUSY,
                }
                for deed in turns.next(now, |lane| Look { none_begins, ..looks[*lane as usize] }) {
                    match deed {
                        Deed::Start(lane) => {
                            prop_assert!(!none_begins && !looks[lane as usize].is_full);
                            prop_assert!(!std::mem::replace(&mut reads[lane as usize], true));
                        }
                        Deed::Stop(lane) => {
                            prop_assert!(std::mem::replace(&mut reads[lane as usize], false));
                            turns.stopped(&lane, looks[lane as usize].is_full);
                        }
                    }
                }
                prop_assert!(turns.used() <= most as u64);
                let busy = (0..lanes as usize).filter(|lane| reads[*lane] && !looks[*lane].is_at_end).count();
                prop_assert!(busy <= most);
                for lane in 0..lanes as usize {
                    if reads[lane] || looks[lane].is_full || none_begins {
                        last_read[lane] = step;
                    }
                    let rounds = lanes as usize / most + 3;
                    prop_assert!(step - last_read[lane] <= rounds * 7, "lane {lane} waited since {}", last_read[lane]);
                }
            }
        }
    }
}
