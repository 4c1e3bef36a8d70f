//! What the demo has seen of its lanes over time: who had one before, since when it drains, how fast it is.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use laneway::LaneState;

use super::members::Look;

/// A member as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) presence: Presence,
    pub(super) lanes: Vec<Lane>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Away,
    /// For how long.
    Here(Duration),
    Leaving(Duration),
}

/// A lane as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lane {
    pub(super) partition: i32,
    pub(super) offset: Option<i64>,
    pub(super) lag: Option<i64>,
    pub(super) rate: f64,
    pub(super) state: State,
    /// Who had it before, for a while.
    pub(super) from: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Starting,
    Running,
    /// For how long.
    Draining(Duration),
    /// It waits for the others of its member.
    Drained,
    Cancelling(Duration),
    /// Nobody has it.
    Moving(Duration),
}

/// Remembers what it has seen.
#[derive(Default)]
pub(super) struct Watch {
    lanes: BTreeMap<i32, Seen>,
}

struct Seen {
    owner: Option<String>,
    state: LaneState,
    /// Since when it is so.
    since: Instant,
    from: Option<(String, Instant)>,
    offset: Option<i64>,
    in_flight: u64,
    speed: Speed,
}

impl Watch {
    /// Takes a look at every member: the members with their lanes, and the lanes that nobody has.
    /// Lag is told by what was produced: what a consumer knows of its lanes' ends is as old as its last fetch.
    pub(super) fn look(
        &mut self,
        now: Instant,
        produced: &[u64],
        looks: Vec<(String, Option<Look>)>,
    ) -> (Vec<Member>, Vec<Lane>) {
        let mut found: Vec<(Member, Vec<i32>)> = Vec::new();
        for (name, look) in looks {
            let (mut presence, mut held) = (Presence::Away, Vec::new());
            if let Some(Look { status, since, leaves }) = look {
                let time = now.saturating_duration_since(since);
                presence = if leaves { Presence::Leaving(time) } else { Presence::Here(time) };
                for lane in &status.lanes {
                    let partition = lane.lane.partition.partition;
                    held.push(partition);
                    let seen = self.lanes.entry(partition).or_insert_with(|| Seen::new(now));
                    seen.is_held(now, &name, lane.state);
                    seen.offset = lane.watermark.or(seen.offset);
                    seen.in_flight = lane.in_flight;
                    if let Some(offset) = lane.watermark {
                        seen.speed.add(now, offset);
                    }
                }
            }
            found.push((Member { name, presence, lanes: Vec::new() }, held));
        }
        let mut nobodys = Vec::new();
        for (partition, seen) in &mut self.lanes {
            if !found.iter().any(|(_, held)| held.contains(partition)) {
                seen.is_free(now);
                nobodys.push(seen.shown(now, *partition, produced));
            }
        }
        let mut members = Vec::new();
        for (mut member, held) in found {
            let shown = held.iter().filter_map(|partition| Some((partition, self.lanes.get(partition)?)));
            member.lanes = shown.map(|(partition, seen)| seen.shown(now, *partition, produced)).collect();
            members.push(member);
        }
        (members, nobodys)
    }
}

impl Seen {
    fn new(now: Instant) -> Self {
        Self {
            owner: None,
            state: LaneState::Starting,
            since: now,
            from: None,
            offset: None,
            in_flight: 0,
            speed: Speed::default(),
        }
    }

    fn is_held(&mut self, now: Instant, member: &str, state: LaneState) {
        if self.owner.as_deref() == Some(member) {
            if self.state != state {
                (self.state, self.since) = (state, now);
            }
            return;
        }
        match self.owner.replace(member.to_owned()) {
            Some(before) => self.from = Some((before, now)),
            // From nobody: who had it before that is known already.
            None => {
                self.from =
                    self.from.take().filter(|(before, _)| before != member).map(|(before, _)| (before, now));
            }
        }
        (self.state, self.since) = (state, now);
    }

    fn is_free(&mut self, now: Instant) {
        if let Some(before) = self.owner.take() {
            self.from = Some((before, now));
            self.since = now;
        }
    }

    fn shown(&self, now: Instant, partition: i32, produced: &[u64]) -> Lane {
        let time = now.saturating_duration_since(self.since);
        let is_free = self.owner.is_none();
        let end = usize::try_from(partition).ok().and_then(|index| produced.get(index));
        let end = end.and_then(|end| i64::try_from(*end).ok());
        let state = match self.state {
            _ if is_free => State::Moving(time),
            LaneState::Starting => State::Starting,
            LaneState::Running => State::Running,
            LaneState::Draining if self.in_flight == 0 => State::Drained,
            LaneState::Draining => State::Draining(time),
            _ => State::Cancelling(time),
        };
        let from =
            self.from.as_ref().filter(|(_, at)| is_free || now.saturating_duration_since(*at) < MOVED_FOR);
        Lane {
            partition,
            offset: self.offset,
            lag: end.zip(self.offset).map(|(end, offset)| end.max(offset) - offset),
            rate: if is_free { 0.0 } else { self.speed.now() },
            state,
            from: from.map(|(before, _)| before.clone()),
        }
    }
}

/// How fast something grows, over the last second.
#[derive(Debug, Default)]
pub(super) struct Speed(VecDeque<(Instant, i64)>);

impl Speed {
    /// Of something that begins at 0.
    pub(super) fn from_nothing(at: Instant) -> Self {
        Self(VecDeque::from([(at, 0)]))
    }

    pub(super) fn add(&mut self, at: Instant, count: i64) {
        self.0.push_back((at, count));
        while self.0.len() > 2
            && self.0.get(1).is_some_and(|(then, _)| at.duration_since(*then) >= SPEED_OVER)
        {
            self.0.pop_front();
        }
    }

    /// A second.
    pub(super) fn now(&self) -> f64 {
        let (Some((first, from)), Some((last, to))) = (self.0.front(), self.0.back()) else { return 0.0 };
        let passed = last.duration_since(*first).as_secs_f64();
        if passed > 0.0 { (to - from).max(0) as f64 / passed } else { 0.0 }
    }
}

/// How long a lane says where it came from.
const MOVED_FOR: Duration = Duration::from_secs(2);
const SPEED_OVER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn seen_after(now: Instant, seen: &Seen, milliseconds: u64) -> Lane {
        seen.shown(now + Duration::from_millis(milliseconds), 3, &[])
    }

    #[test]
    fn a_lane_that_moved_says_from_whom_for_a_while() {
        let now = Instant::now();
        let mut seen = Seen::new(now);
        seen.is_held(now, "m1", LaneState::Running);
        assert_eq!(seen_after(now, &seen, 0).from, None);
        seen.is_held(now, "m1", LaneState::Draining);
        assert_eq!(seen_after(now, &seen, 700).state, State::Drained);
        seen.in_flight = 1;
        assert_eq!(seen_after(now, &seen, 700).state, State::Draining(Duration::from_millis(700)));
        seen.is_free(now);
        let free = seen_after(now, &seen, 30_000);
        assert_eq!((free.state, free.from.as_deref()), (State::Moving(Duration::from_secs(30)), Some("m1")));
        seen.is_held(now, "m3", LaneState::Running);
        assert_eq!(seen_after(now, &seen, 1_000).from.as_deref(), Some("m1"));
        assert_eq!(seen_after(now, &seen, 2_000).from, None);
        // Given back and taken again by the same: it moved nowhere.
        seen.is_free(now);
        seen.is_held(now, "m3", LaneState::Running);
        assert_eq!(seen_after(now, &seen, 0).from, None);
    }

    #[test]
    fn speed_is_that_of_the_last_second_and_never_negative() {
        let now = Instant::now();
        let mut speed = Speed::default();
        for tenth in 0..100 {
            speed.add(now + Duration::from_millis(tenth * 100), i64::try_from(tenth * tenth).unwrap_or(0));
        }
        assert!((speed.now() - f64::from(99 * 99 - 89 * 89)).abs() < 1.0, "{}", speed.now());
        speed.add(now + Duration::from_secs(20), 0);
        assert!(speed.now() < 1.0);
    }
}
