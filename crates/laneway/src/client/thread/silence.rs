//! Lanes of which nothing comes although there is something to read. librdkafka tells of no error then, and there have been
//! such states of it: so they are fetched anew, by a client that knows nothing of them.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use laneway_core::{LaneId, LaneStage, Pacing, TopicPartition};

use super::ClientThread;
use crate::event::Event;

/// Since when nothing came of a lane, and where it stood.
#[derive(Debug)]
pub(super) struct Silence {
    position: i64,
    since: Instant,
    /// How often it was fetched anew.
    times: u32,
}

impl Silence {
    fn patience(&self) -> Duration {
        grown(PATIENCE, self.times)
    }
}

impl ClientThread {
    /// To be called with the logs' ends, as they were told now: the leaders of these partitions answer.
    pub(super) fn look_for_silent_lanes(&mut self, ends: &HashMap<&TopicPartition, i64>) {
        let now = Instant::now();
        let mut before = std::mem::take(&mut self.silences);
        let mut silent = Vec::new();
        for (lane, stage, _) in self.member.lanes() {
            let Some(shared) = self.world.lanes.get(lane) else { continue };
            let position = shared.position();
            // Room for calls is not asked for: a lane that holds nothing reads also where there is none.
            let is_due = stage == LaneStage::Running
                && ends.get(&lane.partition).is_some_and(|end| *end > position)
                && shared.is_idle()
                && !shared.is_paused()
                && self.world.turns.reads(lane);
            if !is_due {
                continue;
            }
            let same = before.remove(lane).filter(|silence| silence.position == position);
            let mut silence = same.unwrap_or(Silence { position, since: now, times: 0 });
            let time = now - silence.since;
            if time >= silence.patience() {
                silence = Silence { position, since: now, times: silence.times + 1 };
                silent.push((lane.clone(), position, time));
            }
            self.silences.insert(lane.clone(), silence);
        }
        let topics: BTreeSet<_> = silent.iter().map(|(lane, ..)| lane.partition.topic.to_string()).collect();
        if !topics.is_empty() {
            self.world.forget_in_fetcher(&topics);
        }
        for (lane, position, time) in silent {
            let end = ends.get(&lane.partition).copied().unwrap_or(-1);
            self.event(Event::Error {
                message: format!(
                    "nothing came of {lane} for {} s, and its log goes on from offset {position} to {end}: it is fetched \
                     anew",
                    time.as_secs()
                ),
            });
            self.fetch_anew(&lane);
        }
    }

    /// By the client for lanes that are read much, for a while.
    fn fetch_anew(&mut self, lane: &LaneId) {
        let now = self.world.fixed.started.elapsed();
        self.world.paces.insert(lane.clone(), Pacing::new(now));
        self.world.go_back(lane);
    }
}

/// Silences, by lane.
pub(super) type Silences = HashMap<LaneId, Silence>;

/// A patience that is twice as long each time that it was in vain.
pub(super) fn grown(patience: Duration, times: u32) -> Duration {
    (patience * 2u32.pow(times.min(10))).min(LONGEST_PATIENCE)
}

/// How long nothing comes of a lane before it is fetched anew; then longer: it may be one record that takes long.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_PATIENCE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_so_that_what_takes_long_comes_at_last() {
        let patience = |times| Silence { position: 0, since: Instant::now(), times }.patience().as_secs();
        assert_eq!([0, 1, 2, 4, 5, 40].map(patience), [30, 60, 120, 480, 600, 600]);
    }
}
