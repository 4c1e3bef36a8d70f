//! A member that its group does not take because the others have another rebalance protocol.
//!
//! The members that are in the way may be about to leave: in a restart of all of them the first new one is there before
//! the last old one has drained. So it is told at once what the group has and what was asked for, and tried on for as
//! long as members may take to stop; then it is the end. In the classic protocols every try is answered with an error.
//!
//! A member of KIP-848 is refused in silence (librdkafka tries on, some times a second, and tells nobody), so the group is
//! asked what it is while it does not know the member. And there the tries do harm: at each of them the broker sends all
//! classic members that are joining away, before it finds that the group can't be converted (Kafka 4.3.1), so that a
//! rebalance among them never ends. So they are few, with pauses in which the others get through.

use std::time::{Duration, Instant};

use laneway_core::{Port, Protocol};

use super::ClientThread;
use crate::error::ErrorKind;
use crate::event::Event;
use crate::sys::{GroupInfo, KafkaError};

/// What is known of a group that does not take this member.
#[derive(Debug, Default)]
pub(super) struct Mismatch {
    /// Since when it does not.
    since: Option<Instant>,
    /// What the broker said at the last try; nothing with KIP-848.
    said: String,
    /// When the group was last asked what it is, and whether that is unanswered.
    asked: Option<Instant>,
    is_asked: bool,
    /// Since when the member waits to be known, with KIP-848.
    unknown_since: Option<Instant>,
    /// When it is tried again, with KIP-848: until then it has unsubscribed.
    next_try: Option<Instant>,
}

impl Mismatch {
    /// What it was asked may never be answered.
    pub(super) fn ask_again(&mut self) {
        self.is_asked = false;
    }
}

impl ClientThread {
    /// The broker has refused to let a classic member join. What the group is decides what is said.
    pub(super) fn on_inconsistent_protocol(&mut self, said: String) {
        self.mismatch.said = said;
        self.ask_what_the_group_is();
    }

    /// The group has taken the member in.
    pub(super) fn protocol_is_accepted(&mut self) {
        self.mismatch = Mismatch { is_asked: self.mismatch.is_asked, ..Mismatch::default() };
    }

    /// The group does not take this member, and it is in nobody's way if it just ends.
    pub(super) fn is_not_taken(&self) -> bool {
        self.mismatch.since.is_some() && self.world.lanes.is_empty()
    }

    /// Asks after a member of KIP-848 that the group does not know for long.
    pub(super) fn look_for_a_silent_refusal(&mut self, now: Instant) {
        if self.protocol != Protocol::Consumer {
            return;
        }
        let Some(membership) = self.world.membership.as_ref().filter(|it| !it.is_closing()) else { return };
        if let Some(at) = self.mismatch.next_try {
            if now >= at && self.stop.is_none() {
                (self.mismatch.next_try, self.mismatch.unknown_since) = (None, None);
                if let Err(error) = membership.client().subscribe(&self.world.subscription) {
                    self.event(Event::Error { message: format!("could not subscribe again: {error}") });
                }
            }
            return;
        }
        if self.world.member_is_known() {
            return self.protocol_is_accepted();
        }
        let since = *self.mismatch.unknown_since.get_or_insert(now);
        let is_due = self.mismatch.asked.is_none_or(|asked| now.duration_since(asked) >= PATIENCE);
        if is_due && now.duration_since(since) >= PATIENCE {
            self.ask_what_the_group_is();
        }
    }

    fn ask_what_the_group_is(&mut self) {
        if self.mismatch.is_asked {
            return;
        }
        self.mismatch.asked = Some(Instant::now());
        let (asker, group) = (&self.world.asker, &self.world.fixed.group);
        match asker.client().describe_group(group, asker.answers()) {
            Ok(()) => self.mismatch.is_asked = true,
            Err(error) => self.on_group(&Err(error)),
        }
    }

    /// The group said what it is.
    pub(super) fn on_group(&mut self, group: &Result<GroupInfo, KafkaError>) {
        self.mismatch.is_asked = false;
        if self.stop.is_some() {
            return;
        }
        let waits = match self.protocol {
            // What it has must be in the way: it is another kind of group, with members.
            Protocol::Consumer => {
                self.mismatch.unknown_since.is_some()
                    && !self.world.member_is_known()
                    && group.as_ref().is_ok_and(|it| !it.is_consumer && !it.members.is_empty())
            }
            Protocol::Eager | Protocol::Cooperative => !self.mismatch.said.is_empty(),
        };
        if !waits {
            self.mismatch.since = None;
            return;
        }
        if self.protocol == Protocol::Consumer {
            self.mismatch.next_try = Some(Instant::now() + PAUSE);
            if let Some(membership) = &self.world.membership
                && let Err(error) = membership.client().unsubscribe()
            {
                self.event(Event::Error { message: format!("could not unsubscribe for a while: {error}") });
            }
        }
        let message = mismatch(&self.world.fixed.group, self.protocol, &self.mismatch.said, group);
        let since = *self.mismatch.since.get_or_insert_with(Instant::now);
        if since.elapsed() < self.longest_stop {
            self.say_refused(message);
        } else {
            let message = format!("{message} (tried for {} s)", since.elapsed().as_secs());
            self.world.trouble.get_or_insert((ErrorKind::Refused, message));
        }
    }
}

/// What is said of a group that does not take a member for its protocol.
fn mismatch(group: &str, asked_for: Protocol, said: &str, found: &Result<GroupInfo, KafkaError>) -> String {
    let has = match found {
        Ok(found) => {
            let kind = match (found.is_consumer, found.assignor.as_str()) {
                (true, _) => "the consumer protocol (KIP-848)",
                (false, "cooperative-sticky") => "the classic cooperative protocol",
                (false, _) => "the classic eager protocol",
            };
            let assignor = match found.assignor.as_str() {
                "" => String::new(),
                assignor => format!(" with the assignor \"{assignor}\""),
            };
            let members = found.members.iter().take(SHOWN).map(|name| format!("\"{name}\""));
            let members: Vec<_> = members.collect();
            let more = if found.members.len() > SHOWN { ", ..." } else { "" };
            let (count, members) = (found.members.len(), members.join(", "));
            match count {
                0 => format!("it has {kind}{assignor}"),
                1 => format!("it has {kind}{assignor} and one member ({members})"),
                _ => format!("it has {kind}{assignor} and {count} members ({members}{more})"),
            }
        }
        Err(error) => format!("what it has could not be asked for ({error})"),
    };
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    let wanted = match asked_for {
        Protocol::Eager => "the classic eager one",
        Protocol::Cooperative => "the classic cooperative one (cooperative-sticky)",
        Protocol::Consumer => "KIP-848 (consumer)",
    };
    let is_of_the_broker =
        asked_for == Protocol::Consumer || found.as_ref().is_ok_and(|found| found.is_consumer);
    let way = if is_of_the_broker {
        "or let the brokers convert the group (group.consumer.migration.policy=bidirectional), which they can't where \
         librdkafka's cooperative-sticky assigns"
    } else {
        "or change over to the consumer protocol (KIP-848) and from there to this one, where the brokers can convert \
         the group"
    };
    let way = format!("stop all members before the first one with another protocol starts, {way}");
    format!(
        "the group \"{group}\" does not take this member{said}: {has}, and this member asks for {wanted}: {way}"
    )
}

/// How long a member of KIP-848 may be unknown before the group is asked what it is, and how often it is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a member of KIP-848 that is refused waits until it is tried again: the others join once in 2 s.
const PAUSE: Duration = Duration::from_secs(5);
/// How many members are named.
const SHOWN: usize = 3;
