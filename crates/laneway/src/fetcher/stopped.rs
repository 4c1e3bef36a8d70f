//! What is left of partitions that a client has stopped fetching.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use laneway_core::TopicPartition;

use crate::sys::LeftQueue;

/// Partitions that are no longer fetched, and when their queues are emptied next.
///
/// A response that is being read when a partition is stopped is read to its end, and fills the partition's queue also
/// after the lane has emptied it and let it go (rdkafka_fetcher.c, `rd_kafka_fetch_reply_handle_partition`: the version
/// that it looks at is that of the last request). Nobody else looks into that queue before the partition is started again.
#[derive(Debug, Default)]
pub(super) struct Stopped(BTreeMap<TopicPartition, Left>);

#[derive(Debug)]
struct Left {
    queue: LeftQueue,
    times: Emptying,
}

/// When a queue is emptied.
#[derive(Debug, Clone, Copy)]
struct Emptying {
    next: Instant,
    /// How long it waits after that; it grows.
    wait: Duration,
}

impl Stopped {
    /// How many queues are kept. Each has a reference to its client.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn add(&mut self, left: Vec<(TopicPartition, LeftQueue)>, now: Instant) {
        let times = Emptying { next: now + FIRST_EMPTIED, wait: FIRST_EMPTIED };
        self.0.extend(left.into_iter().map(|(partition, queue)| (partition, Left { queue, times })));
    }

    pub(super) fn forget(&mut self, partition: &TopicPartition) {
        self.0.remove(partition);
    }

    /// Empties those that it is time for, again and again until no response can be under way any more.
    pub(super) fn empty(&mut self, now: Instant) {
        self.0.retain(|_, left| {
            if left.times.are_due(now) {
                left.queue.empty();
            }
            !left.times.are_over()
        });
    }
}

impl Emptying {
    fn are_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.wait *= 2;
            self.next = now + self.wait;
        }
        is_due
    }

    fn are_over(&self) -> bool {
        self.wait > LAST_EMPTIED
    }
}

/// How soon a queue is emptied again after its partition was stopped, and how long is waited for it at most: longer than
/// a request may take (`socket.timeout.ms`).
const FIRST_EMPTIED: Duration = Duration::from_millis(10);
const LAST_EMPTIED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_emptied_again_until_no_response_can_come_any_more() {
        let now = Instant::now();
        let mut times = Emptying { next: now + FIRST_EMPTIED, wait: FIRST_EMPTIED };
        assert!(!times.are_due(now));
        let is_due = |second: &u64| !times.are_over() && times.are_due(now + Duration::from_secs(*second));
        let seconds: Vec<u64> = (0..300).filter(is_due).collect();
        assert_eq!(seconds, [1, 2, 3, 4, 5, 6, 7, 9, 12, 18, 29, 50, 91]);
    }
}
