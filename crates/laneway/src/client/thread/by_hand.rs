//! Topics and questions of a consumer whose partitions are assigned by hand.

use laneway_core::Input;

use super::ClientThread;
use crate::client::topics::TopicsSeen;
use crate::error::{Error, ErrorKind};
use crate::event::Event;

impl ClientThread {
    /// Begins once all of its topics are seen, or ends where a partition is not there. Later, what goes is told, and
    /// its lanes are read again until it is back.
    pub(super) fn on_assigned_topics(&mut self, seen: TopicsSeen) {
        if self.world.known.is_some() {
            for topic in seen.missing {
                if self.missing_said.insert(topic.clone()) {
                    self.event(Event::TopicMissing { topic });
                }
            }
            return;
        }
        let Some(by_hand) = &self.world.by_hand else { return };
        let mut absent = Vec::new();
        for partition in by_hand.assigned.keys() {
            match seen.partitions.get(&*partition.topic) {
                Some(count) if partition.partition < *count => {}
                Some(count) => absent.push(format!("{partition} (the topic has {count} partitions)")),
                None if seen.missing.iter().any(|topic| **topic == *partition.topic) => {
                    absent.push(format!("{partition} (there is no such topic)"));
                }
                // It is being made: the next look tells.
                None => return,
            }
        }
        if !absent.is_empty() {
            let message = format!("partitions that were assigned do not exist: {}", absent.join(", "));
            self.world.trouble.get_or_insert((ErrorKind::MissingTopic, message));
            return;
        }
        self.partitions = seen.partitions.clone();
        self.world.known = Some(seen.partitions);
        if self.world.trouble.is_none() {
            self.input(Input::Join);
        }
    }

    /// Why something can't be asked that is about a group, where there is none.
    pub(super) fn needs_a_group(&self, what: &str) -> Result<(), Error> {
        if self.world.by_hand.is_none() {
            return Ok(());
        }
        let message = format!("{what}: this consumer has no group, as its partitions are assigned by hand");
        Err(Error::new(ErrorKind::Config, message))
    }
}
