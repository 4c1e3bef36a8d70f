//! Where the logs end: for the lag that is shown, for lanes that are silent although there is more, and for a consumer that
//! is to end there.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use laneway_core::{Port, Position, Protocol, TopicPartition};

use super::ClientThread;
use crate::client::starts;
use crate::consumer::StopReason;
use crate::sys::{KafkaError, OffsetSpec};

impl ClientThread {
    /// Stops where everything is finished that was there; asks from time to time where the ends are.
    pub(super) fn look_at_ends(&mut self, now: Instant) {
        if self.exit_at_end && self.stop.is_none() && self.is_at_end(now) {
            self.begin_stop(StopReason::AtEnd);
        }
        if !self.world.lanes.is_empty() && now >= self.next_ends {
            self.next_ends = now + INTERVAL;
            self.ask_for_ends();
        }
    }

    pub(super) fn on_ends(&mut self, ends: &[(TopicPartition, Position, Option<KafkaError>)]) {
        let ends: HashMap<&TopicPartition, i64> = ends
            .iter()
            .filter(|(_, _, error)| error.is_none())
            .map(|(of, end, _)| (of, end.offset))
            .collect();
        for (lane, shared) in &self.world.lanes {
            if let Some(end) = ends.get(&lane.partition) {
                shared.end.store(*end, Ordering::Relaxed);
                self.world.ends.entry(lane.partition.clone()).or_insert(*end);
            }
        }
        self.look_for_silent_lanes(&ends);
    }

    /// Everything that is held is finished up to the end that it had when it was assigned.
    fn is_at_end(&mut self, now: Instant) -> bool {
        if !self.member.is_in() || !self.member.is_settled() {
            self.idle_since = None;
            return false;
        }
        if self.member.lanes().next().is_none() {
            let assigned_once = match self.protocol {
                Protocol::Consumer => self.world.member_is_known(),
                _ => self.member.totals().rebalances > 0,
            };
            let since = *self.idle_since.get_or_insert(now);
            return assigned_once && now.duration_since(since) >= IDLE_PATIENCE;
        }
        self.idle_since = None;
        self.world.lanes.iter().all(|(lane, shared)| {
            self.world.ends.get(&lane.partition).is_some_and(|end| shared.watermark().offset >= *end)
        })
    }

    fn ask_for_ends(&self) {
        let lanes = self.world.lanes.keys();
        let wanted: Vec<_> = lanes.map(|lane| (lane.partition.clone(), OffsetSpec::Latest)).collect();
        let read_committed = self.world.fixed.clients.read_committed;
        let asker = &self.world.asker;
        // The next time will do where this one can't be asked.
        let asked = asker.client().list_offsets(
            &wanted,
            read_committed,
            asker.answers(),
            ENDS_TOKEN,
            starts::TIMEOUT,
        );
        asked.ok();
    }
}

/// How often the logs' ends are asked for, for the lag that is shown.
const INTERVAL: Duration = Duration::from_secs(5);
/// The native token of that question; searches have tokens that are 0, 1 or 2 modulo 4, and handles higher ones.
pub(super) const ENDS_TOKEN: u64 = 3;
/// How long a member that is to end at the end may be without any lane.
const IDLE_PATIENCE: Duration = Duration::from_secs(5);
