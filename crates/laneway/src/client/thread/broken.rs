//! A client of the group that is at its end by its own fault: another one joins in its place.

use laneway_core::{Input, Port, Protocol};

use super::ClientThread;
use crate::event::Event;
use crate::sys::{KafkaError, codes};

/// What became of the clients of the group, by how many there were before each.
#[derive(Debug, Default)]
pub(super) struct Broken {
    /// The last one that the broker knew as a member.
    let_in: Option<u64>,
    /// The last one that was at its end.
    ended: Option<u64>,
}

impl ClientThread {
    /// Whether the broker knows the client of the group, where that matters once it is at its end.
    pub(super) fn note_whether_let_in(&mut self) {
        if self.protocol == Protocol::Consumer && self.world.member_is_known() {
            self.broken.let_in = Some(self.member.totals().rejoins);
        }
    }

    /// With KIP-848 librdkafka can send, where it is to join again, what no broker takes, and is at its end then
    /// (librdkafka#5541). A new client is not. False: that is not what happened; or it is final, as this one was never let
    /// in, or ends as it is, or can't be followed: a static member's name is taken for as long as the group has the old one.
    pub(super) fn is_followed(&mut self, error: &KafkaError) -> bool {
        if error.code != codes::INVALID_REQUEST || self.protocol != Protocol::Consumer {
            return false;
        }
        let this = Some(self.member.totals().rejoins);
        if self.broken.ended == this {
            return true;
        }
        if self.broken.let_in != this || self.stop.is_some() || self.is_static {
            return false;
        }
        self.broken.ended = this;
        let group = &self.world.fixed.group;
        let message =
            format!("the client of the group \"{group}\" is at its end: {error}: another one joins");
        self.event(Event::Error { message });
        self.input(Input::Broken(format!("the client of the group was at its end: {error}")));
        true
    }
}
