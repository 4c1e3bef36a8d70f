//! What is finished ahead of the watermark, on its way into commits and out of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use laneway_core::map::{FinishedAhead, Place, Text, decode, encode};
use laneway_core::{LaneId, Position, TopicPartition};

use crate::lane::{Finished, LaneShared};

/// Writes and reads offset maps.
pub(crate) struct Maps {
    group: String,
    /// UTF-16 units that a broker takes.
    limit: usize,
    /// In which characters it takes them.
    text: Text,
    /// The last commit held one in dense characters.
    was_dense: bool,
    /// A commit was refused as too large, and none was taken since: what is finished is not to wait until it is known how
    /// much the broker takes, so the next one goes without maps.
    is_bare: bool,
    /// Read and not yet given to their lanes.
    read: HashMap<TopicPartition, Finished>,
}

impl Maps {
    pub(crate) fn new(group: &str, limit: usize) -> Self {
        let group = group.to_owned();
        Self { group, limit, text: Text::Dense, was_dense: false, is_bare: false, read: HashMap::new() }
    }

    /// The metadata for an offset that is committed for a lane, and the leader epoch to commit with it.
    pub(crate) fn write(&mut self, at: Position, lane: &LaneShared) -> (Position, String) {
        if self.is_bare {
            Self::forget(at, lane);
            return (at, String::new());
        }
        let Some((ahead, leader_epoch)) = lane.ahead(at.offset) else {
            lane.forgotten.store(0, Ordering::Relaxed);
            return (at, String::new());
        };
        let map = encode(&ahead, place(&self.group, &lane.id.partition), self.limit, self.text);
        self.was_dense |= map.characters == Text::Dense && !map.text.is_empty();
        lane.forgotten.store(map.forgotten, Ordering::Relaxed);
        if map.text.is_empty() {
            return (at, map.text);
        }
        // A newer one does no harm to the offset, and says of which log the records of the map are.
        (Position { leader_epoch: at.leader_epoch.max(leader_epoch), ..at }, map.text)
    }

    /// Of these topics nothing that was read holds any more.
    pub(crate) fn forget_topics(&mut self, topics: &BTreeSet<String>) {
        self.read.retain(|partition, _| !topics.contains(&*partition.topic));
    }

    /// Whether a broker takes this text, as far as it is known.
    pub(crate) fn takes(&self, text: &str) -> bool {
        !self.is_bare && text.len() <= self.limit
    }

    /// Nothing of a map is committed: what it would say is counted.
    pub(crate) fn forget(at: Position, lane: &LaneShared) {
        let forgotten = lane.ahead(at.offset).map_or(0, |(ahead, _)| ahead.finished());
        lane.forgotten.store(forgotten, Ordering::Relaxed);
    }

    pub(crate) fn begin_commit(&mut self) {
        self.was_dense = false;
    }

    /// A commit was taken as it was.
    pub(crate) fn was_taken(&mut self) {
        self.is_bare = false;
    }

    /// A broker refused the metadata of the last commit as too large. Answers what is done about it.
    pub(crate) fn is_too_large(&mut self) -> String {
        self.is_bare = true;
        if self.was_dense {
            self.text = Text::Base64;
            return "offset maps are written in Base64 from now on".into();
        }
        self.limit = if self.limit > SMALLEST { self.limit / 2 } else { 0 };
        format!("offset maps are written in at most {} characters from now on", self.limit)
    }

    /// Takes in what was committed with an offset. An error: why it is void, and nothing of it is used.
    pub(crate) fn read(
        &mut self,
        partition: &TopicPartition,
        at: Position,
        metadata: &str,
        end: Option<i64>,
    ) -> Result<(), String> {
        self.read.remove(partition);
        let found =
            decode(metadata, place(&self.group, partition), at.offset).map_err(|why| why.to_string())?;
        if let (Some(highest), Some(end)) = (found.highest(), end)
            && highest >= end
        {
            return Err(format!(
                "it tells of offset {highest}, and the log ends at {end}: it is of another log"
            ));
        }
        self.read.insert(partition.clone(), Finished { found, leader_epoch: at.leader_epoch });
        Ok(())
    }

    /// What is finished of a lane that begins at `at`: as it was read, or as the lane knew that it takes the place of.
    pub(crate) fn of_lane(
        &mut self,
        lane: &LaneId,
        at: Position,
        before: Option<&Arc<LaneShared>>,
    ) -> Option<Finished> {
        let read = self.read.remove(&lane.partition).filter(|read| read.found.base() == at.offset);
        // From below where that lane stood everything is read again, whatever it made of the offsets between.
        let goes_on =
            |before: &&Arc<LaneShared>| before.id == *lane && before.watermark().offset <= at.offset;
        let before = before.filter(goes_on).and_then(|before| before.ahead(at.offset));
        match before {
            Some((ahead, leader_epoch)) => Some(Finished { found: FinishedAhead::of(&ahead), leader_epoch }),
            None => read,
        }
    }
}

fn place<'a>(group: &'a str, partition: &'a TopicPartition) -> Place<'a> {
    Place { group, topic: &partition.topic, partition: partition.partition }
}

/// Below this size a map that is refused is given up.
const SMALLEST: usize = 64;
