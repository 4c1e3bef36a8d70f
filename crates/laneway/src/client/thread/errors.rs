//! What is done about the errors of both clients.

use std::time::{Duration, Instant};

use laneway_core::{CommitFailure, TopicPartition};

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
        match error.kind {
            // It says how many are down, and not why: an error before it did.
            FetchErrorKind::BrokersDown => self.say_brokers_are_down(),
            FetchErrorKind::Refused => {
                self.world.trouble.get_or_insert((ErrorKind::Refused, error.message.clone()));
            }
            _ => {}
        }
    }

    pub(super) fn on_membership_error(&mut self, error: KafkaError, fatal: bool) {
        if error.code != codes::_ALL_BROKERS_DOWN {
            self.last_error = Some(error.message.clone());
        }
        let kind = match error.code {
            // With KIP-848 it is the second one of a name that is refused.
            codes::FENCED_INSTANCE_ID | codes::UNRELEASED_INSTANCE_ID => Some(ErrorKind::Fenced),
            codes::GROUP_AUTHORIZATION_FAILED | codes::TOPIC_AUTHORIZATION_FAILED => Some(ErrorKind::Refused),
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

    fn say_brokers_are_down(&mut self) {
        let is_new = self.down_said.is_none_or(|said| said.elapsed() >= SAY_AGAIN);
        if self.reached && is_new {
            self.down_said = Some(Instant::now());
            let error = self.last_error.clone().unwrap_or_default();
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
        _ => CommitFailure::Other,
    };
    (failure, error.to_string())
}

/// How often it is said that no broker can be reached.
const SAY_AGAIN: Duration = Duration::from_secs(60);
