//! Which topics membership is subscribed to, and when it is shown a change of them.

use std::time::{Duration, Instant};

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
        if seen.subscription != self.asked.subscriptions {
            return;
        }
        if let Some(error) = seen.error {
            let refused = [codes::TOPIC_AUTHORIZATION_FAILED, codes::CLUSTER_AUTHORIZATION_FAILED];
            // Others were told by a broker.
            self.has_looked(error.code < 0);
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
        self.has_looked(false);
        self.reached = true;
        let letters = self.world.fixed.work.letters.clone();
        let written = letters.as_ref().and_then(|letters| letters.topic());
        self.ask_for_topic_ids(&seen.partitions.keys().map(String::as_str).chain(written).collect());
        if !seen.needed.is_empty() && self.world.known.is_none() {
            let all: Vec<String> = seen.needed.iter().map(|topic| format!("\"{topic}\"")).collect();
            let message = format!(
                "topics that records which fail go to (dead letters, retries) do not exist, and must be made first: {}",
                all.join(", ")
            );
            self.world.trouble.get_or_insert((ErrorKind::MissingTopic, message));
        }
        if self.world.by_hand.is_some() {
            return self.on_assigned_topics(seen);
        }
        let ends_by_itself = self.exit_at_end || self.world.fixed.quota.is_some();
        // At the start nobody waits for those.
        let needed = if self.world.known.is_none() { Vec::new() } else { seen.needed };
        for topic in seen.missing.into_iter().chain(needed) {
            if ends_by_itself && self.world.known.is_none() {
                let message = format!("topic \"{topic}\" does not exist, or nothing matches it");
                self.world.trouble.get_or_insert((ErrorKind::MissingTopic, message));
            } else if self.missing_said.insert(topic.clone()) {
                self.event(Event::TopicMissing { topic });
            }
        }
        let known = self.world.known.get_or_insert_default();
        if self.known_of.replace(seen.subscription) != Some(seen.subscription) {
            for (topic, partitions) in &seen.partitions {
                known.entry(topic.clone()).or_insert(*partitions);
            }
        }
        if seen.partitions.is_empty() || self.world.trouble.is_some() {
            return;
        }
        let names: Vec<String> = seen.partitions.keys().cloned().collect();
        if self.world.subscription.is_empty() {
            self.world.subscription = names;
            let started = self.world.fixed.started;
            let pause = if self.protocol == Protocol::Consumer { Duration::ZERO } else { JOIN_PAUSE };
            self.join_at = Some(started + pause);
        } else if names != self.world.subscription {
            self.world.subscription = names;
            self.to_show = Some(Change::Names);
        } else if seen.partitions != self.partitions && self.to_show.is_none() {
            self.to_show = Some(Change::Partitions);
        }
        self.partitions = seen.partitions;
    }

    /// Joins the group, once there is something to subscribe to and nobody has stopped it meanwhile.
    pub(super) fn join_if_due(&mut self, now: Instant) {
        if self.join_at.take_if(|at| now >= *at).is_some() {
            self.input(Input::Join);
        }
    }

    pub(super) fn show_topics_after_a_commit(&mut self) {
        if self.world.last_commit != self.shown_after {
            self.shown_after = self.world.last_commit;
            self.show_topics();
        }
    }

    /// No event is unanswered.
    pub(super) fn is_steady(&self) -> bool {
        self.member.is_in() && !self.member.is_held()
    }

    /// Shows membership a change of topics. Only when no event is unanswered and the member is as steady
    /// as can be known: a change in the middle of a hold makes a classic member rejoin with its revoke
    /// unanswered.
    pub(super) fn show_topics(&mut self) {
        if !self.is_steady() {
            return;
        }
        let Some(membership) = &self.world.membership else { return };
        let shown = match self.to_show.take() {
            Some(Change::Names) => membership.client().subscribe(&self.world.subscription),
            // With KIP-848 the broker tells of new partitions.
            Some(Change::Partitions) if self.protocol != Protocol::Consumer => {
                self.topics.show(membership.client().clone(), self.steady.clone());
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

/// How long after its start a member of the classic protocols joins. One that is stopped at once never does: its
/// join would stop the whole group, which gives it partitions, and those of one that leaves are given to the next
/// one that joins, again and again while nobody works on them.
const JOIN_PAUSE: Duration = Duration::from_millis(350);
