//! Which topics membership is subscribed to, and when it is shown a change of them.

use laneway_core::{Input, Protocol};

use super::ClientThread;
use crate::client::topics::TopicsSeen;
use crate::error::ErrorKind;
use crate::event::Event;
use crate::sys::codes;

/// A change of topics that membership has not been shown yet.
pub(super) enum Change {
    Names,
    Partitions,
}

impl ClientThread {
    pub(super) fn on_topics(&mut self, seen: TopicsSeen) {
        if let Some(error) = seen.error {
            let refused = [codes::TOPIC_AUTHORIZATION_FAILED, codes::CLUSTER_AUTHORIZATION_FAILED];
            if refused.contains(&error.code) {
                // A broker answered, whatever it answered.
                self.reached = true;
                self.on_topic_refused(&error.message, true);
            }
            if self.last_error.is_none() || self.reached {
                self.last_error = Some(error.message);
            }
            return;
        }
        self.reached = true;
        let ends_by_itself = self.exit_at_end || self.world.fixed.quota.is_some();
        for topic in seen.missing {
            if ends_by_itself && self.world.known.is_none() {
                let message = format!("topic \"{topic}\" does not exist, or nothing matches it");
                self.world.trouble.get_or_insert((ErrorKind::MissingTopic, message));
            } else if self.missing_said.insert(topic.clone()) {
                self.event(Event::TopicMissing { topic });
            }
        }
        self.world.known.get_or_insert_with(|| seen.partitions.clone());
        if seen.partitions.is_empty() || self.world.trouble.is_some() {
            return;
        }
        let names: Vec<String> = seen.partitions.keys().cloned().collect();
        if self.world.subscription.is_empty() {
            self.world.subscription = names;
            self.input(Input::Join);
        } else if names != self.world.subscription {
            self.world.subscription = names;
            self.to_show = Some(Change::Names);
        } else if seen.partitions != self.partitions && self.to_show.is_none() {
            self.to_show = Some(Change::Partitions);
        }
        self.partitions = seen.partitions;
    }

    pub(super) fn show_topics_after_a_commit(&mut self) {
        if self.world.last_commit != self.shown_after {
            self.shown_after = self.world.last_commit;
            self.show_topics();
        }
    }

    /// Shows membership a change of topics. Only when no event is unanswered and the member is as steady
    /// as can be known: a change in the middle of a hold makes a classic member rejoin with its revoke
    /// unanswered.
    pub(super) fn show_topics(&mut self) {
        if self.member.is_held() || !self.member.is_in() {
            return;
        }
        let Some(membership) = &self.world.membership else { return };
        let shown = match self.to_show.take() {
            Some(Change::Names) => membership.client().subscribe(&self.world.subscription),
            // With KIP-848 the broker tells of new partitions.
            Some(Change::Partitions) if self.protocol != Protocol::Consumer => {
                self.topics.show(membership.client().clone());
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = shown {
            self.event(Event::Error {
                message: format!("could not subscribe to a change of topics: {error}"),
            });
        }
    }
}
