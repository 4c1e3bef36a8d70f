//! Which lanes are read, where there is not room for all at once: those that have something to read take turns.
//!
//! A lane that is at its log's end costs nothing, and stays. So do all as long as there is room. Where more have
//! something to read than there is room for, each reads for a while and then waits behind the others.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Who reads, and who waits for it.
#[derive(Debug)]
pub struct Turns<L> {
    /// So many may read at once.
    most: usize,
    lanes: BTreeMap<L, Stage>,
    waiting: VecDeque<L>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is in `waiting`.
    Waiting,
    /// It reads, and has had something to read since then; `None`: it is at its log's end.
    Reading(Option<Duration>),
    /// It was told to stop, and has not yet.
    Stopping,
    /// It does not read, and has no room to.
    Resting,
}

/// How a lane that reads, or rests, is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// It has read everything there is.
    pub is_at_end: bool,
    /// It has read something in this turn.
    pub has_read: bool,
    /// It has no room to read anything now.
    pub is_full: bool,
    /// What it has not read keeps too much else in memory.
    pub holds_up: bool,
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
    /// Nobody yet; `most` (at least one) may read at once.
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), lanes: BTreeMap::new(), waiting: VecDeque::new() }
    }

    /// So many lanes may read at once from now on.
    pub fn set_most(&mut self, most: usize) {
        self.most = most.max(1);
    }

    /// Whether there are lanes for which there is no room at once.
    pub fn is_tight(&self) -> bool {
        self.lanes.len() > self.most
    }

    /// Lanes that read and have something to read, or have not stopped yet.
    pub fn reading(&self) -> usize {
        let counts = |stage: &&Stage| matches!(stage, Stage::Reading(Some(_)) | Stage::Stopping);
        self.lanes.values().filter(counts).count()
    }

    /// Lanes that wait for their turn.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A new lane. True: it begins to read at once; else it waits for its turn.
    pub fn add(&mut self, lane: L, now: Duration) -> bool {
        self.remove(&lane);
        let starts = self.waiting.is_empty() && self.reading() < self.most;
        if starts {
            self.lanes.insert(lane, Stage::Reading(Some(now)));
        } else {
            self.wait(lane);
        }
        starts
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
        match self.lanes.get_mut(lane) {
            Some(stage @ Stage::Reading(_)) => {
                *stage = Stage::Stopping;
                true
            }
            _ => false,
        }
    }

    /// A lane that was told to stop has.
    pub fn stopped(&mut self, lane: &L, is_full: bool) {
        match self.lanes.get_mut(lane) {
            Some(stage @ Stage::Stopping) if is_full => *stage = Stage::Resting,
            Some(Stage::Stopping) => self.wait(lane.clone()),
            _ => {}
        }
    }

    fn wait(&mut self, lane: L) {
        self.lanes.insert(lane.clone(), Stage::Waiting);
        self.waiting.push_back(lane);
    }

    /// What is to be done now. Asks how the lanes are doing that read or rest.
    pub fn next(&mut self, now: Duration, mut look: impl FnMut(&L) -> Look) -> Vec<Deed<L>> {
        let mut deeds = Vec::new();
        let mut rested = Vec::new();
        // By when they began: those that read, and those of them whose turn may end.
        let mut reading = Vec::new();
        for (lane, stage) in &mut self.lanes {
            match stage {
                Stage::Reading(since) => {
                    let look = look(lane);
                    *since = if look.is_at_end { None } else { Some(since.unwrap_or(now)) };
                    if look.holds_up && look.is_full {
                        *stage = Stage::Stopping;
                        deeds.push(Deed::Stop(lane.clone()));
                    } else if let Some(since) = *since {
                        reading.push((since, lane.clone(), look));
                    }
                }
                Stage::Resting if !look(lane).is_full => rested.push(lane.clone()),
                Stage::Resting | Stage::Waiting | Stage::Stopping => {}
            }
        }
        rested.into_iter().for_each(|lane| self.wait(lane));
        reading.sort_by_key(|(since, ..)| *since);
        let mut active = self.reading();
        let mut stop = |lanes: &mut BTreeMap<L, Stage>, lane: L| {
            lanes.insert(lane.clone(), Stage::Stopping);
            deeds.push(Deed::Stop(lane));
        };
        // Lanes that were at their ends may all have something to read at once: the last ones wait.
        let stopping = active - reading.len();
        while reading.len() + stopping > self.most
            && let Some((_, lane, _)) = reading.pop()
        {
            stop(&mut self.lanes, lane);
        }
        let free = self.most.saturating_sub(active);
        let mut wanted = self.waiting.len().saturating_sub(free + stopping);
        for (since, lane, look) in reading {
            if wanted == 0 {
                break;
            }
            let age = now.saturating_sub(since);
            if look.is_full || (look.has_read && age >= TURN) || age >= LONGEST_TURN {
                stop(&mut self.lanes, lane);
                wanted -= 1;
            }
        }
        while active < self.most
            && let Some(lane) = self.waiting.pop_front()
        {
            self.lanes.insert(lane.clone(), Stage::Reading(Some(now)));
            deeds.push(Deed::Start(lane));
            active += 1;
        }
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

    const BUSY: Look = Look { is_at_end: false, has_read: true, is_full: false, holds_up: false };

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
        assert!((0..3).all(|lane| turns.add(lane, Duration::ZERO)));
        assert!(run(&mut turns, seconds(100.0), |_| BUSY).is_empty());
        assert_eq!((turns.reading(), turns.waiting()), (3, 0));
    }

    #[test]
    fn a_lane_at_its_end_makes_room_and_stays() {
        let mut turns = Turns::new(1);
        assert!(turns.add(0, Duration::ZERO));
        assert!(!turns.add(1, Duration::ZERO));
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
        assert!(turns.add(0, Duration::ZERO) && turns.add(1, Duration::ZERO));
        let full = Look { is_full: true, holds_up: true, ..BUSY };
        assert_eq!(turns.next(seconds(1.0), |lane| if *lane == 0 { full } else { BUSY }), [Deed::Stop(0)]);
        turns.stopped(&0, true);
        assert!(run(&mut turns, seconds(1.0), |lane| if *lane == 0 { full } else { BUSY }).is_empty());
        assert_eq!(run(&mut turns, seconds(2.0), |_| BUSY), [0]);
    }

    #[test]
    fn a_turn_in_which_nothing_came_lasts_longer() {
        let mut turns = Turns::new(1);
        assert!(turns.add(0, Duration::ZERO));
        turns.add(1, Duration::ZERO);
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
            states in prop::collection::vec((any::<u32>(), 0..4u8), 400),
        ) {
            let mut turns = Turns::new(most);
            let mut looks = vec![BUSY; lanes as usize];
            let mut last_read = vec![0usize; lanes as usize];
            let mut reads: Vec<bool> = (0..lanes).map(|lane| turns.add(lane, Duration::ZERO)).collect();
            for (step, (lane, state)) in states.into_iter().enumerate() {
                let now = Duration::from_millis(100 * (step as u64 + 1));
                let changed = (lane % lanes) as usize;
                looks[changed] = Look { is_at_end: state == 1, is_full: state == 2, holds_up: state == 2, ..BUSY };
                for deed in turns.next(now, |lane| looks[*lane as usize]) {
                    match deed {
                        Deed::Start(lane) => {
                            prop_assert!(!std::mem::replace(&mut reads[lane as usize], true));
                        }
                        Deed::Stop(lane) => {
                            prop_assert!(std::mem::replace(&mut reads[lane as usize], false));
                            turns.stopped(&lane, looks[lane as usize].is_full);
                        }
                    }
                }
                prop_assert!(turns.reading() <= most);
                let busy = (0..lanes as usize).filter(|lane| reads[*lane] && !looks[*lane].is_at_end).count();
                prop_assert!(busy <= most);
                for lane in 0..lanes as usize {
                    if reads[lane] || looks[lane].is_full {
                        last_read[lane] = step;
                    }
                    let rounds = lanes as usize / most + 3;
                    prop_assert!(step - last_read[lane] <= rounds * 7, "lane {lane} waited since {}", last_read[lane]);
                }
            }
        }
    }
}
