//! What is done when a lane's queue fails.

use std::collections::{BTreeMap, BTreeSet};

use laneway_core::{Input, LaneId, LaneStage};

use super::ClientThread;
use crate::client::starts::IDS_TIMEOUT;
use crate::event::Event;
use crate::fetcher::{FetchError, FetchErrorKind};
use crate::sys::{KafkaError, TopicId};

/// Lanes whose logs are shorter than what was read of them, by the question whether their topics are still the same: to
/// where they were truncated, and what was said.
#[derive(Debug, Default)]
pub(super) struct Truncated {
    last: u64,
    lanes: BTreeMap<u64, (LaneId, i64, String)>,
}

impl Truncated {
    /// The lane is read again in any case.
    pub(super) fn forget(&mut self, lane: &LaneId) {
        self.lanes.retain(|_, (pending, ..)| pending != lane);
    }
}

impl ClientThread {
    pub(super) fn on_queue_failed(&mut self, lane: LaneId, error: &FetchError) {
        match error.kind {
            FetchErrorKind::Refused => return self.on_lane_refused(lane, &error.message),
            FetchErrorKind::Truncated(end) => return self.on_truncation(lane, end, &error.message),
            FetchErrorKind::Damaged => self.say_now_and_then(format!(
                "{error}; {lane} stands there, and nothing behind it is delivered: it is read again every 10 s at most. \
                 To go past it, seek to an offset behind the batch"
            )),
            _ => self.event(Event::Error {
                message: format!("{error}; reading again from where {lane} stands"),
            }),
        }
        let out_of_range = error.kind == FetchErrorKind::OffsetOutOfRange;
        self.input(Input::LaneFailed { lane, out_of_range });
    }

    /// The log of a topic that was deleted and made again is shorter as well, and is to be read from its beginning.
    fn on_truncation(&mut self, lane: LaneId, end: i64, said: &str) {
        if self.is_running(&lane) {
            self.truncated.last += 1;
            let token = TOPIC_IDS + self.truncated.last;
            let topic = lane.partition.topic.to_string();
            self.truncated.lanes.insert(token, (lane, end, said.to_owned()));
            self.ask_which_topics(&BTreeSet::from([topic.as_str()]), token);
        }
    }

    /// Asks which topics these are.
    pub(super) fn ask_for_topic_ids(&mut self, topics: &BTreeSet<&str>) {
        self.ask_which_topics(topics, TOPIC_IDS);
    }

    fn ask_which_topics(&mut self, topics: &BTreeSet<&str>, token: u64) {
        let asker = &self.world.asker;
        if let Err(error) = asker.client().topic_ids(topics, asker.answers(), token, IDS_TIMEOUT) {
            self.on_topic_ids(token, Err(error));
        }
    }

    pub(super) fn on_topic_ids(&mut self, token: u64, result: Result<Vec<(String, TopicId)>, KafkaError>) {
        let pending = self.truncated.lanes.remove(&token);
        let ids = match (result, &pending) {
            (Ok(ids), _) => ids,
            // The look at the topics finds a broker that answers; the lane is read again meanwhile.
            (Err(_), Some((lane, ..))) => {
                self.topics.look();
                return self.input(Input::LaneFailed { lane: lane.clone(), out_of_range: false });
            }
            (Err(_), None) => return,
        };
        let made_again = self.world.note_topic_ids(&ids);
        self.begin_anew(&made_again);
        if let Some((lane, end, said)) = pending
            && !made_again.contains(&*lane.partition.topic)
            && self.is_running(&lane)
        {
            self.go_on_where_it_was_truncated(&lane, end, &said);
        }
    }

    /// It has not been told to end, or to go on elsewhere, since.
    fn is_running(&self, lane: &LaneId) -> bool {
        self.member.lanes().any(|(id, stage, _)| id == lane && stage == LaneStage::Running)
    }

    /// Lanes of topics that were made again go on at their beginning, in new epochs. All at once: whatever is committed from
    /// now on is of the new ones.
    pub(super) fn begin_anew(&mut self, topics: &BTreeSet<String>) {
        let lanes = self.member.lanes().map(|(lane, ..)| &lane.partition);
        let partitions: BTreeSet<_> = lanes.filter(|it| topics.contains(&*it.topic)).cloned().collect();
        if partitions.is_empty() {
            return;
        }
        self.truncated.lanes.retain(|_, (lane, ..)| !partitions.contains(&lane.partition));
        let lanes = partitions.into_iter().map(|partition| (self.asked.number(), partition)).collect();
        self.input(Input::Anew { lanes, offset: 0 });
    }

    /// What was read up to the lane's position is in the log no longer than up to `end`, and others have written there
    /// since: they are read from there, also where the log is longer again than what was read. As with a seek, that is
    /// committed first although it is less than what was, and nothing that was finished above it counts.
    fn go_on_where_it_was_truncated(&mut self, lane: &LaneId, end: i64, said: &str) {
        self.event(Event::Error {
            message: format!(
                "the log of {} was truncated to offset {end}, and is read on there: {said}",
                lane.partition
            ),
        });
        self.go_on_at(lane.partition.clone(), end);
    }
}

/// Tokens of questions for topics' ids are higher: those of a search are its own.
const TOPIC_IDS: u64 = 1 << 31;
