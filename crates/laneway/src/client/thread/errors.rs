//! What is done about the errors of both clients.
//!
//! What the brokers refuse (credentials, certificates, permissions) is final at the start, and waited for later.
//! "The start" of a connection lasts until a broker has let this consumer in once, that of the group until it
//! was assigned something once, and that of a topic until one of its records was finished, but at
//! most for [`READING_STARTS`] after the first lanes began.

use std::time::{Duration, Instant};

use laneway_core::{CommitFailure, Input, LaneId, TopicPartition};

use super::ClientThread;
use crate::error::ErrorKind;
use crate::event::Event;
use crate::fetcher::{FetchError, FetchErrorKind};
use crate::sys::{KafkaError, codes};

impl ClientThread {
    pub(super) fn on_fetch_error(&mut self, error: &FetchError) {
        if error.kind != FetchErrorKind::BrokersDown {
            self.last_error = Some(error.message.clone());
        }
        if error.kind == FetchErrorKind::Refused || is_alert(&error.message) {
            return match error.message.as_str() {
                // Also this client, in no group, looks for the group's coordinator. Membership tells of it, in its turn.
                said if said.contains("Group authorization failed") => {}
                said if said.contains("opic authorization failed") => self.on_topic_refused(said, true),
                said => self.on_connection_refused(said),
            };
        }
        // It says how many are down, and not why: an error before it did.
        if error.kind == FetchErrorKind::BrokersDown {
            self.say_brokers_are_down();
        }
    }

    pub(super) fn on_membership_error(&mut self, error: KafkaError, fatal: bool) {
        if error.code != codes::_ALL_BROKERS_DOWN {
            self.last_error = Some(error.message.clone());
        }
        match error.code {
            codes::GROUP_AUTHORIZATION_FAILED => return self.on_group_refused(&error.message, fatal),
            codes::TOPIC_AUTHORIZATION_FAILED => return self.on_topic_refused(&error.message, true),
            codes::INCONSISTENT_GROUP_PROTOCOL => return self.on_inconsistent_protocol(error.message),
            code if is_refusal(code) || is_alert(&error.message) => {
                return self.on_connection_refused(&error.message);
            }
            _ if fatal && self.is_followed(&error) => return,
            _ => {}
        }
        let kind = match error.code {
            // With KIP-848 it is the second one of a name that is refused.
            codes::FENCED_INSTANCE_ID | codes::UNRELEASED_INSTANCE_ID => Some(ErrorKind::Fenced),
            _ if fatal => Some(ErrorKind::Fatal),
            codes::_ALL_BROKERS_DOWN => {
                self.say_brokers_are_down();
                None
            }
            // Told by the watch for topics, or mended by the client itself.
            codes::UNKNOWN_TOPIC_OR_PART | codes::_TRANSPORT | codes::_RESOLVE | codes::_TIMED_OUT => None,
            _ => {
                self.event(Event::Error { message: format!("membership: {error}") });
                None
            }
        };
        if let Some(kind) = kind {
            self.world.trouble.get_or_insert((kind, error.message));
        }
    }

    /// A broker does not take the credentials or the certificate, or has one that is not to be trusted.
    fn on_connection_refused(&mut self, said: &str) {
        let membership = self.world.membership.as_ref().map(|membership| membership.client());
        let reasons = [Some(self.world.asker.client()), membership];
        let reason = reasons.into_iter().flatten().find_map(|client| client.certificate_refused());
        let said = reason_of(said, reason.as_deref());
        let message = format!("the connection was refused: {said}: {}", advice(said));
        self.last_error = Some(message.clone());
        if self.reached {
            self.say_refused(message);
        } else if !is_transport(said) {
            // Another broker may let us in: it gets a moment.
            self.refused.get_or_insert_with(|| (Instant::now(), message));
        }
    }

    /// At the start, no broker has let us in, and one has refused to.
    pub(super) fn end_if_refused(&mut self) {
        if self.reached {
            self.refused = None;
        } else if let Some((_, message)) = self.refused.take_if(|(since, _)| since.elapsed() >= OTHERS) {
            let message = format!("{message} (brokers: {})", self.brokers);
            self.world.trouble.get_or_insert((ErrorKind::Refused, message));
        }
    }

    fn on_group_refused(&mut self, said: &str, fatal: bool) {
        let message = format!(
            "the broker does not let this client into the group \"{}\": {said}: allow its principal to READ the \
             group",
            self.world.fixed.group
        );
        // With KIP-848 librdkafka itself is at its end (rdkafka_cgrp.c,
        // `rd_kafka_cgrp_handle_ConsumerGroupHeartbeat`).
        if fatal || self.member.totals().rebalances == 0 {
            self.world.trouble.get_or_insert((ErrorKind::Refused, message));
        } else {
            self.say_refused(message);
        }
    }

    /// `said` names the topic.
    pub(super) fn on_topic_refused(&mut self, said: &str, at_the_start: bool) {
        let message = format!(
            "the broker does not let this client read a topic: {said}: allow its principal to READ the topic (which \
             includes to DESCRIBE it)"
        );
        if at_the_start && self.member.totals().rebalances == 0 {
            self.world.trouble.get_or_insert((ErrorKind::Refused, message));
        } else {
            self.say_refused(message);
        }
    }

    /// A lane may not read its partition: final if none of its topic ever could, else tried again after a while.
    pub(super) fn on_lane_refused(&mut self, lane: LaneId, said: &str) {
        if self.topic_starts(&lane.partition.topic) {
            let message = format!(
                "the broker does not let this client read {}: {said}: allow its principal to READ the topic",
                lane.partition
            );
            self.world.trouble.get_or_insert((ErrorKind::Refused, message));
            return;
        }
        self.on_topic_refused(said, false);
        self.refused_lanes.push((Instant::now(), lane));
    }

    pub(super) fn start_refused_lanes_again(&mut self) {
        let (due, later) = std::mem::take(&mut self.refused_lanes)
            .into_iter()
            .partition(|(since, _): &(Instant, LaneId)| since.elapsed() >= READ_AGAIN);
        self.refused_lanes = later;
        for (_, lane) in due {
            self.input(Input::LaneFailed { lane, out_of_range: false });
        }
    }

    /// A commit needs the permission to read as well, and the first one comes before the first record: that of
    /// where a partition starts. A refused one is tried again, and told, by the member; here it is final at the
    /// start.
    pub(super) fn on_commit_refused(&mut self, topic: &str, error: &KafkaError) {
        if error.code == codes::GROUP_AUTHORIZATION_FAILED {
            // The heartbeats are refused as well, but of that librdkafka says nothing.
            self.on_group_refused(&error.message, false);
        }
        if error.code == codes::TOPIC_AUTHORIZATION_FAILED && self.topic_starts(topic) {
            let message = format!(
                "the broker does not let this client read topic \"{topic}\": {error}: allow its principal to READ \
                 the topic"
            );
            self.world.trouble.get_or_insert((ErrorKind::Refused, message));
        }
    }

    fn topic_starts(&self, topic: &str) -> bool {
        let mut lanes = self.world.lanes.iter().filter(|(lane, _)| *lane.partition.topic == *topic);
        self.reading_since.is_none_or(|since| since.elapsed() < READING_STARTS)
            && lanes.all(|(_, shared)| shared.finished() == 0)
    }

    pub(super) fn on_no_token(&mut self, message: String) {
        self.last_error = Some(message.clone());
        self.event(Event::Error { message });
    }

    pub(super) fn say_refused(&mut self, message: String) {
        self.say_now_and_then(format!("{message}; trying on"));
    }

    /// What does not change is said once a minute.
    pub(super) fn say_now_and_then(&mut self, message: String) {
        let now = Instant::now();
        self.refusals_said.retain(|(said, _)| now.duration_since(*said) < SAY_AGAIN);
        // What differs is how long librdkafka waited, in parentheses.
        let gist = message.split(" (").next().unwrap_or_default().to_owned();
        if !self.refusals_said.iter().any(|(_, said)| *said == gist) {
            self.refusals_said.push((now, gist));
            self.event(Event::Error { message });
        }
    }

    fn say_brokers_are_down(&mut self) {
        let is_new = self.down_said.is_none_or(|said| said.elapsed() >= SAY_AGAIN);
        if self.reached && is_new {
            self.down_said = Some(Instant::now());
            let error = self.last_error.clone().filter(|error| !error.is_empty());
            let error = error.unwrap_or_else(|| "the connections to all of them ended".into());
            self.event(Event::BrokersDown { error });
        }
    }
}

/// What a refused commit says. One partition that is refused makes the whole carry its error, and every other
/// partition too, also those that were taken (rdkafka_request.c 1745–1750, rdkafka_cgrp.c 3812): which ones it is
/// about can't be told. An error about the member goes before one about a partition.
pub(super) fn commit_refusal(
    error: &KafkaError,
    partitions: &[(TopicPartition, i64, Option<KafkaError>)],
) -> (CommitFailure, String) {
    let of_partitions = partitions.iter().filter_map(|(.., error)| error.as_ref()).map(commit_failure);
    let about_member = of_partitions.into_iter().find(|(failure, _)| *failure != CommitFailure::Partition);
    about_member.unwrap_or_else(|| commit_failure(error))
}

/// A broker does not take the credentials, or this client not its certificate.
pub(crate) fn is_refusal(code: i32) -> bool {
    let refusals = [
        codes::SASL_AUTHENTICATION_FAILED,
        codes::UNSUPPORTED_SASL_MECHANISM,
        codes::_AUTHENTICATION,
        codes::_SSL,
    ];
    refusals.contains(&code)
}

/// What was said of a connection, or why its certificate was refused, where that is what was said.
pub(crate) fn reason_of<'a>(said: &'a str, certificate: Option<&'a str>) -> &'a str {
    certificate.filter(|_| said.contains("certificate verify failed")).unwrap_or(said)
}

/// A TLS alert: the other side has ended the connection, and says why. With TLS 1.3 that it does not like our
/// certificate comes when the connection already stands, as an error of the transport.
pub(crate) fn is_alert(message: &str) -> bool {
    message.contains("SSL alert number") || message.contains("alert certificate")
}

/// librdkafka calls it a failed authentication too when the connection breaks in the middle of the handshake
/// (rdkafka_broker.c, `rd_kafka_broker_handle_SaslHandshake`): that is a broker that stops, not one that refuses.
pub(crate) fn is_transport(message: &str) -> bool {
    ["Local: ", "SSL transport error", "Disconnected"].iter().any(|sign| message.contains(sign))
}

/// What to do about a refused connection.
pub(crate) fn advice(said: &str) -> &'static str {
    if said.contains("has expired") || said.contains("not yet valid") {
        "renew it, or mend the clock of this machine"
    } else if said.contains("for another") {
        "reach the broker by a name or an address that is in its certificate"
    } else if said.contains("wrong version number") {
        "the listener does not speak TLS: set security.protocol to what it speaks"
    } else if said.contains("mechanism handshake failed") {
        "set sasl.mechanism to one that the broker has; where the listener has no SASL at all, set security.protocol \
         to what it speaks (plaintext or ssl)"
    } else if said.contains("SASL") {
        "look at the credentials (sasl.username and sasl.password, or the token)"
    } else if is_alert(said) {
        "the broker does not take this client's certificate: look at ssl.certificate.location and ssl.key.location"
    } else {
        "look at ssl.ca.location: the broker's certificate must be signed by an authority that is in it"
    }
}

/// What an error of a commit says, as far as it matters, and its text.
fn commit_failure(error: &KafkaError) -> (CommitFailure, String) {
    let failure = match error.code {
        codes::UNKNOWN_MEMBER_ID => CommitFailure::UnknownMember,
        codes::ILLEGAL_GENERATION => CommitFailure::IllegalGeneration,
        codes::REBALANCE_IN_PROGRESS => CommitFailure::RebalanceInProgress,
        codes::FENCED_INSTANCE_ID => CommitFailure::FencedInstance,
        codes::STALE_MEMBER_EPOCH => CommitFailure::StaleEpoch,
        codes::UNKNOWN_TOPIC_OR_PART | codes::UNKNOWN_TOPIC_ID | codes::TOPIC_AUTHORIZATION_FAILED => {
            CommitFailure::Partition
        }
        codes::FENCED_MEMBER_EPOCH => CommitFailure::FencedEpoch,
        codes::OFFSET_METADATA_TOO_LARGE => CommitFailure::TooLarge,
        codes::COORDINATOR_LOAD_IN_PROGRESS
        | codes::COORDINATOR_NOT_AVAILABLE
        | codes::NOT_COORDINATOR
        | codes::REQUEST_TIMED_OUT
        | codes::_WAIT_COORD
        | codes::_TRANSPORT
        | codes::_TIMED_OUT => CommitFailure::NoCoordinator,
        _ => CommitFailure::Other,
    };
    (failure, error.to_string())
}

/// How often it is said that no broker can be reached, or that one refuses something.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// How long other brokers may take to let us in after one has refused to.
pub(crate) const OTHERS: Duration = Duration::from_secs(2);
/// How long reading a topic is at its start, if nothing of it is finished meanwhile.
const READING_STARTS: Duration = Duration::from_secs(10);
/// After how long a lane is read again that may not read.
const READ_AGAIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_breaks_in_a_handshake_is_not_one_that_is_refused() {
        // Such as librdkafka says them when a broker is killed.
        for broken in [
            "sasl_ssl://h:1/1: SASL PLAIN mechanism handshake failed: Local: Broker transport failure: broker's \
             supported mechanisms:  (after 2ms in state AUTH_HANDSHAKE)",
            "ssl://h:1/1: SSL handshake failed: SSL transport error: Broken pipe (after 1ms in state SSL_HANDSHAKE)",
            "ssl://h:1/1: SSL handshake failed: Disconnected: connection reset by peer",
        ] {
            assert!(is_transport(broken) && !is_alert(broken), "{broken}");
        }
        let refused = "sasl_plaintext://h:1/1: SASL authentication error: Authentication failed: Invalid username or \
                       password (after 318ms in state AUTH_REQ)";
        assert!(!is_transport(refused));
    }

    #[test]
    fn a_mechanism_that_is_refused_may_be_a_listener_without_sasl() {
        // What a broker says of a handshake at a listener without SASL.
        let refused = "sasl_plaintext://h:1/1: SASL PLAIN mechanism handshake failed: Broker: Request not valid in \
                       current SASL state: broker's supported mechanisms:  (after 2ms in state AUTH_HANDSHAKE)";
        let advice = advice(refused);
        assert!(advice.contains("sasl.mechanism") && advice.contains("no SASL at all"), "{advice}");
    }
}
