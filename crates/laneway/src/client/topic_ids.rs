//! Which topic each name stands for: one that was deleted and made again is another, and nothing that is known of the
//! offsets of the old one holds for it.

use std::collections::{BTreeSet, HashMap};

use crate::sys::TopicId;

/// The ids of the topics that are read.
#[derive(Debug, Default)]
pub(crate) struct TopicIds {
    known: HashMap<String, TopicId>,
    /// Of topics that are no more. A broker that is behind, or an answer that comes late, may still tell of them.
    former: BTreeSet<TopicId>,
}

impl TopicIds {
    /// Takes in what brokers say. Answers which topics were made again since they were seen first.
    pub(crate) fn note(&mut self, ids: &[(String, TopicId)]) -> BTreeSet<String> {
        let mut made_again = BTreeSet::new();
        for (topic, id) in ids {
            if self.former.contains(id) {
                continue;
            }
            if let Some(former) = self.known.insert(topic.clone(), *id).filter(|former| former != id) {
                self.former.insert(former);
                made_again.insert(topic.clone());
            }
        }
        made_again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_made_again_once_whatever_is_still_said_of_the_old_one() {
        let said = |topic: &str, id| vec![(topic.to_owned(), TopicId::of(id))];
        let mut ids = TopicIds::default();
        assert!(ids.note(&said("t", 1)).is_empty());
        assert!(ids.note(&said("t", 1)).is_empty());
        assert!(ids.note(&[]).is_empty(), "it was deleted");
        assert_eq!(ids.note(&said("t", 2)), BTreeSet::from(["t".to_owned()]));
        assert!(ids.note(&said("t", 1)).is_empty(), "that is the old one");
        assert!(ids.note(&said("t", 2)).is_empty());
        assert!(ids.note(&said("u", 3)).is_empty());
        assert_eq!(ids.note(&said("t", 4)), BTreeSet::from(["t".to_owned()]));
    }
}
