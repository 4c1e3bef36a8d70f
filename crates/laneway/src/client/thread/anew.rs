//! Questions in vain. A client of librdkafka can lose its way to all brokers for good, while others have theirs: a broker
//! that tells of topics and of no broker, as one does that is just starting, has it forget all that it knew
//! (librdkafka#5301). So where nothing comes of what is asked, it is asked by another client. Lanes that the lost one
//! fetches are then found to be silent, and fetched anew as well.

use std::time::{Duration, Instant};

use super::ClientThread;
use super::silence::grown;
use crate::consumer::fetching_client;
use crate::event::Event;

/// Since when what is asked of the brokers is in vain.
#[derive(Debug, Default)]
pub(super) struct InVain {
    searches: Option<Instant>,
    looks: Option<Instant>,
    /// How often another client was made for it.
    times: u32,
}

fn note(since: &mut Option<Instant>, is_in_vain: bool) {
    *since = if is_in_vain { since.or_else(|| Some(Instant::now())) } else { None };
}

impl ClientThread {
    /// Starts were found, or none of them was.
    pub(super) fn has_searched(&mut self, is_in_vain: bool) {
        note(&mut self.in_vain.searches, is_in_vain);
        if !is_in_vain {
            self.in_vain.times = 0;
        }
        self.world.is_unheard |= is_in_vain;
        self.ask_anew_if_in_vain();
    }

    /// The topics were looked at, or could not be.
    pub(super) fn has_looked(&mut self, is_in_vain: bool) {
        note(&mut self.in_vain.looks, is_in_vain);
        if self.member.is_settled() {
            // Nothing is searched for any more.
            self.in_vain.searches = None;
        }
        self.world.is_unheard |= is_in_vain;
        self.ask_anew_if_in_vain();
    }

    /// Clients that may have forgotten all brokers are told of those that they began with. Membership can't be replaced for
    /// that: what its lanes finished is to be committed.
    pub(super) fn tell_of_brokers(&mut self, now: Instant) {
        let membership = self.world.membership.as_ref().map(|membership| membership.client());
        let is_out = self.member.is_in()
            && self.world.lanes.is_empty()
            && membership.is_some_and(|client| client.generation() < 0);
        if now < self.next_brokers || !(is_out || self.world.is_unheard) {
            return;
        }
        self.next_brokers = now + BROKERS_TOLD;
        for client in membership.into_iter().chain([self.world.asker.client()]) {
            client.add_brokers(&self.brokers);
        }
        self.world.is_unheard = false;
    }

    fn ask_anew_if_in_vain(&mut self) {
        let Some(since) = [self.in_vain.searches, self.in_vain.looks].into_iter().flatten().min() else {
            return;
        };
        let time = since.elapsed();
        if time < grown(PATIENCE, self.in_vain.times) {
            return;
        }
        // However it goes now, it is not tried again at once.
        self.in_vain = InVain { times: self.in_vain.times + 1, ..InVain::default() };
        let clients = &self.world.fixed.clients;
        let config = clients.fetcher_config().map_err(|error| error.to_string());
        let seconds = time.as_secs();
        let message = match config.and_then(|config| fetching_client(clients, config)) {
            Ok(client) => {
                self.world.ask_through(client.clone());
                self.topics.ask_through(client);
                self.mismatch.ask_again();
                format!(
                    "nothing came of what the brokers were asked for {seconds} s: another client asks them"
                )
            }
            Err(error) => format!(
                "nothing came of what the brokers were asked for {seconds} s, and no other client could be made to ask \
                 them: {error}"
            ),
        };
        self.event(Event::Error { message });
    }
}

/// How often clients are told, at most: they keep each time what they are told.
pub(super) const BROKERS_TOLD: Duration = Duration::from_secs(30);
/// How long questions may be in vain: more than it takes to start a broker again, and to find the leaders. Then longer.
const PATIENCE: Duration = Duration::from_secs(45);
