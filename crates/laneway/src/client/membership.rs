//! The membership client: it is in the group, and never fetches.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use laneway_core::{Answer, Position, Protocol, TopicPartition};

use super::reaper::Reaper;
use crate::fetcher::Wake;
use crate::sys::{Client, Config, KafkaError, NativeEvent, Queue};

/// One membership client, from its making to its closing.
pub(crate) struct Membership {
    // Queues are declared, and so dropped, before the client that they belong to.
    main: Queue,
    replies: Queue,
    closing: Option<Queue>,
    client: Arc<Client>,
}

impl Membership {
    /// Makes the client and subscribes it.
    pub(crate) fn join(config: Config, topics: &[String], wake: &Wake) -> Result<Self, String> {
        let client = Client::new(config)?;
        let main = client.consumer_queue();
        let replies = client.new_queue();
        main.on_ready(wake.clone());
        replies.on_ready(wake.clone());
        client.subscribe(topics).map_err(|error| error.to_string())?;
        Ok(Self { main, replies, closing: None, client })
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    pub(crate) fn replies(&self) -> &Queue {
        &self.replies
    }

    /// The next thing that any of its queues has to say. Polling the main queue is also what tells the
    /// group that this member lives (`max.poll.interval.ms`).
    pub(crate) fn poll(&self) -> Option<NativeEvent> {
        if let Some(closing) = &self.closing {
            return closing.poll();
        }
        self.main.poll().or_else(|| self.replies.poll())
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closing.is_some() && self.client.closed()
    }

    /// Begins to close. From here on the client is asked nothing but whether it is closed: it may never
    /// answer.
    pub(crate) fn begin_close(&mut self, wake: &Wake) -> Result<(), KafkaError> {
        let queue = self.client.new_queue();
        queue.on_ready(wake.clone());
        let begun = self.client.close_queue(&queue);
        self.closing = Some(queue);
        begun
    }

    /// Whether the broker knows this member.
    pub(crate) fn is_known(&self, protocol: Protocol) -> bool {
        if self.is_closing() {
            return false;
        }
        match protocol {
            Protocol::Consumer => self.client.generation() > 0,
            Protocol::Eager | Protocol::Cooperative => !self.client.member_id().is_empty(),
        }
    }

    pub(crate) fn assignment(&self) -> Option<BTreeSet<TopicPartition>> {
        if self.is_closing() {
            return None;
        }
        self.client.assignment().ok().map(BTreeSet::from_iter)
    }

    /// Answers a rebalance event. What comes is paused before it is assigned, so that nothing is fetched,
    /// and assigned at a number: at "invalid" the client would ask for the committed offset itself.
    pub(crate) fn answer(&self, answer: &Answer) -> Result<(), KafkaError> {
        match answer {
            Answer::Clear => self.client.assign(None),
            Answer::Assign(partitions) => self.client.assign(Some(&self.paused(partitions)?)),
            Answer::Add(partitions) => self.client.incremental_assign(&self.paused(partitions)?),
            Answer::Remove(partitions) => {
                let mut going: Vec<TopicPartition> = partitions.iter().cloned().collect();
                if let Some(assignment) = self.assignment() {
                    going.retain(|partition| assignment.contains(partition));
                }
                self.client.incremental_unassign(&going)
            }
        }
    }

    fn paused(
        &self,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<Vec<(TopicPartition, Position)>, KafkaError> {
        let list: Vec<TopicPartition> = partitions.iter().cloned().collect();
        for partition in &list {
            self.client.ensure_partition(partition)?;
        }
        if !list.is_empty() {
            self.client.pause(&list)?;
        }
        Ok(list.into_iter().map(|partition| (partition, Position::at(0))).collect())
    }

    /// Lets the client go, on a thread that may wait for it.
    pub(crate) fn discard(self, reaper: &Reaper) {
        reaper.run(move || {
            self.wait_until_closed();
            drop(self);
        });
    }

    /// A client that is destroyed while a broker owes it an answer runs in circles until then: once it terminates, timers
    /// that are due are not run, and not waited for either (rdkafka.c, `rd_kafka_thread_main`). So it gets the time that an
    /// answer may take, to leave the group in order if it still can.
    fn wait_until_closed(&self) {
        let Some(closing) = &self.closing else { return };
        let until = Instant::now() + LONGEST_ANSWER;
        while !self.client.closed() && self.client.fatal_error().is_none() && Instant::now() < until {
            match closing.poll() {
                // There is nothing that could be read for the group any more.
                Some(NativeEvent::Rebalance { .. } | NativeEvent::RebalanceError(_)) => {
                    self.client.assign(None).ok();
                }
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// Longer than a request may take (`socket.timeout.ms`).
const LONGEST_ANSWER: Duration = Duration::from_secs(65);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::sys::MockCluster;

    /// What the client refuses is an error that names the partition, and nothing is left paused or assigned of it. The
    /// member makes membership anew for it.
    #[test]
    fn an_answer_that_the_client_does_not_take_is_an_error() {
        let cluster = MockCluster::new("t", 1);
        let client = cluster.client(&[]);
        let membership =
            Membership { main: client.consumer_queue(), replies: client.new_queue(), closing: None, client };
        let partitions = BTreeSet::from([TopicPartition::new("t", 0)]);
        membership.answer(&Answer::Add(partitions.clone())).unwrap();
        let error = membership.answer(&Answer::Add(partitions.clone())).unwrap_err();
        assert!(error.message.contains("t [0]"), "{error}");
        assert_eq!(membership.assignment().unwrap(), partitions);
    }
}
