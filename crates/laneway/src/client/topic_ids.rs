//! Which topic each name stands for: one that was deleted and made again is another, and nothing that is known of the
//! offsets of the old one holds for it.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::sys::TopicId;

/// The ids of the topics that are read.
#[derive(Debug, Default)]
pub(crate) struct TopicIds {
    known: HashMap<String, TopicId>,
    /// Of topics that are no more. A broker that is behind, or an answer that comes late, may still tell of them.
    former: BTreeSet<TopicId>,
    /// Since when topics are known to be others than before.
    made_again: HashMap<String, Instant>,
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
                self.made_again.insert(topic.clone(), now);
                made_again.insert(topic.clone());
            }
        }
        made_again
    }

    /// What is committed of a topic may be the former one's, unless it has the [`mark`](Self::mark). The group's offsets of
    /// a topic go when it is deleted, but a commit of a member that does not know of it yet can come after that, and stays.
    pub(crate) fn is_doubtful(&self, topic: &str, now: Instant) -> bool {
        self.was_made_again_within(topic, LATE, now)
    }

    /// What is committed as metadata with offsets of a topic that was made again not long ago, in the place of a map: of
    /// which topic they are. Longer than anybody may doubt it, who can have learnt of it later.
    pub(crate) fn mark(&self, topic: &str, now: Instant) -> Option<String> {
        // First, as it is asked for each partition of each commit, and hardly any topic was.
        let is_new = self.was_made_again_within(topic, 3 * LATE, now);
        self.known.get(topic).filter(|_| is_new).map(|id| format!("{MARK}{id}"))
    }

    fn was_made_again_within(&self, topic: &str, time: Duration, now: Instant) -> bool {
        self.made_again.get(topic).is_some_and(|noted| now < *noted + time)
    }
}

/// Whether a commit's metadata only says of which topic it is.
pub(crate) fn is_mark(metadata: &str) -> bool {
    let id = metadata.strip_prefix(MARK);
    id.is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// No offset map begins so.
const MARK: char = '#';
/// How long after one member learnt that a topic was made again another one may still commit what it read of the former
/// one. Who reads learns it by the next answer to a fetch, or where that topic is gone.
const LATE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

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
    fn what_is_committed_of_a_topic_that_was_made_again_is_doubtful_for_a_while_and_what_is_its_own_is_marked()
     {
        let said = |id| vec![("t".to_owned(), TopicId::of(id))];
        let (mut ids, now) = (TopicIds::default(), Instant::now());
        ids.note(&said(1), now);
        assert!(!ids.is_doubtful("t", now) && ids.mark("t", now).is_none());
        ids.note(&said(2), now);
        assert!(ids.is_doubtful("t", now) && !ids.is_doubtful("u", now) && ids.mark("u", now).is_none());
        let mark = ids.mark("t", now).unwrap();
        assert!(is_mark(&mark) && mark.ends_with("0002"), "{mark}");
        assert!(!is_mark("#") && !is_mark("#somebody else's") && !is_mark(&mark.replace('2', "x")));
        let later = now + LATE;
        assert!(!ids.is_doubtful("t", later), "whoever reads it has learnt it by then");
        assert_eq!(ids.mark("t", later), Some(mark), "another one may have learnt it later");
        assert!(ids.mark("t", now + 3 * LATE).is_none());
        ids.note(&said(3), later);
        assert!(ids.is_doubtful("t", later), "that is yet another one");
    }
}
