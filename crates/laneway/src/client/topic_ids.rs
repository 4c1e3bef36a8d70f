//! Which topic each name stands for: one that was deleted and made again is another, and nothing that is known of the
//! offsets of the old one holds for it.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use laneway_core::TopicPartition;

use crate::sys::TopicId;

/// The ids of the topics that are read.
#[derive(Debug, Default)]
pub(crate) struct TopicIds {
    known: HashMap<String, TopicId>,
    /// Of topics that are no more. A broker that is behind, or an answer that comes late, may still tell of them.
    former: BTreeSet<TopicId>,
    made_again: HashMap<String, MadeAgain>,
}

#[derive(Debug)]
struct MadeAgain {
    noted: Instant,
    /// What this member has committed of it since: whether a broker has acknowledged that.
    commits: HashMap<i32, bool>,
}

impl TopicIds {
    /// Takes in what brokers say. Answers which topics were made again since they were seen first.
    pub(crate) fn note(&mut self, ids: &[(String, TopicId)], now: Instant) -> BTreeSet<String> {
        let mut made_again = BTreeSet::new();
        for (topic, id) in ids {
            if self.former.contains(id) {
                continue;
            }
            if let Some(former) = self.known.insert(topic.clone(), *id).filter(|former| former != id) {
                self.former.insert(former);
                let new = MadeAgain { noted: now, commits: HashMap::new() };
                self.made_again.insert(topic.clone(), new);
                made_again.insert(topic.clone());
            }
        }
        made_again
    }

    /// What is committed of it may be the former topic's. The group's offsets of a topic go when it is deleted, but a
    /// commit of a member that does not know of it yet can come after that, and stays.
    pub(crate) fn is_doubtful(&self, partition: &TopicPartition, now: Instant) -> bool {
        self.made_again.get(&*partition.topic).is_some_and(|topic| {
            now < topic.noted + LATE && topic.commits.get(&partition.partition) != Some(&true)
        })
    }

    /// A commit of it is on its way.
    pub(crate) fn commits(&mut self, partition: &TopicPartition) {
        if let Some(topic) = self.made_again.get_mut(&*partition.topic) {
            topic.commits.entry(partition.partition).or_insert(false);
        }
    }

    /// What this member commits of it is acknowledged.
    pub(crate) fn has_committed(&mut self, partition: &TopicPartition) {
        let topic = self.made_again.get_mut(&*partition.topic);
        if let Some(is_acknowledged) = topic.and_then(|topic| topic.commits.get_mut(&partition.partition)) {
            *is_acknowledged = true;
        }
    }
}

/// How long after one member learnt that a topic was made again another one may still commit what it read of the former
/// one. Who reads learns it by the next answer to a fetch, or where that topic is gone.
const LATE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_made_again_once_whatever_is_still_said_of_the_old_one() {
        let said = |topic: &str, id| vec![(topic.to_owned(), TopicId::of(id))];
        let (mut ids, now) = (TopicIds::default(), Instant::now());
        let mut note = |said: &[(String, TopicId)]| ids.note(said, now);
        assert!(note(&said("t", 1)).is_empty());
        assert!(note(&said("t", 1)).is_empty());
        assert!(note(&[]).is_empty(), "it was deleted");
        assert_eq!(note(&said("t", 2)), BTreeSet::from(["t".to_owned()]));
        assert!(note(&said("t", 1)).is_empty(), "that is the old one");
        assert!(note(&said("t", 2)).is_empty());
        assert!(note(&said("u", 3)).is_empty());
        assert_eq!(note(&said("t", 4)), BTreeSet::from(["t".to_owned()]));
    }
    #[test]
    fn what_is_committed_of_a_topic_that_was_made_again_is_doubtful_until_it_is_known_to_be_its_own() {
        let said = |id| vec![("t".to_owned(), TopicId::of(id))];
        let (mut ids, now) = (TopicIds::default(), Instant::now());
        let (zero, one) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
        ids.note(&said(1), now);
        ids.commits(&zero);
        assert!(!ids.is_doubtful(&zero, now));
        ids.note(&said(2), now);
        ids.has_committed(&zero);
        assert!(ids.is_doubtful(&zero, now), "that was the former topic's commit");
        ids.commits(&zero);
        assert!(ids.is_doubtful(&zero, now), "nobody has acknowledged it");
        ids.has_committed(&zero);
        assert!(!ids.is_doubtful(&zero, now));
        assert!(ids.is_doubtful(&one, now));
        assert!(!ids.is_doubtful(&TopicPartition::new("u", 1), now));
        assert!(!ids.is_doubtful(&one, now + LATE), "whoever reads it has learnt it by then");
        ids.note(&said(3), now);
        assert!(ids.is_doubtful(&zero, now), "that is yet another one");
    }
}
