//! What handles ask, and their answers. The client thread waits for none of them.

use std::collections::HashMap;
use std::time::Instant;

use laneway_core::{Input, LaneId, Port, TopicPartition};

use super::ClientThread;
use crate::client::asks::{Answer, Ask, Offsets};
use crate::client::starts::{TIMEOUT, ask_committed};
use crate::client::topics::Patterns;
use crate::error::{Error, ErrorKind};
use crate::sys::{KafkaError, NativeEvent};

/// What is not answered yet.
#[derive(Debug, Default)]
pub(super) struct Asked {
    last: u64,
    /// By the member.
    member: HashMap<u64, Answer<()>>,
    /// By a broker, and until when that is waited for.
    broker: HashMap<u64, (Instant, Answer<Offsets>)>,
    /// How often the subscription was changed.
    pub(super) subscriptions: u64,
}

impl Asked {
    /// Nobody waits for anything.
    pub(super) fn is_answered(&self) -> bool {
        self.member.is_empty() && self.broker.is_empty()
    }

    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl ClientThread {
    pub(super) fn on_ask(&mut self, ask: Ask) {
        match ask {
            Ask::Commit(answer) => {
                if let Err(error) = self.needs_a_group("there is nothing to commit to") {
                    answer.send(Err(error)).ok();
                    return;
                }
                let number = self.asked.number();
                self.asked.member.insert(number, answer);
                self.input(Input::CommitNow { number });
            }
            Ask::Seek(partition, offset, answer) => {
                let number = self.asked.number();
                self.asked.member.insert(number, answer);
                self.input(Input::Seek { number, partition, offset });
            }
            Ask::Pause(partitions, paused, answer) => {
                answer.send(self.pause(&partitions, paused)).ok();
            }
            Ask::Committed(partitions, answer) => {
                if let Err(error) = self.needs_a_group("nothing is committed") {
                    answer.send(Err(error)).ok();
                    return;
                }
                let give = move |committed| {
                    let offset = |found: &Option<(laneway_core::Position, String)>| {
                        found.as_ref().map(|(position, _)| position.offset)
                    };
                    answer.send(offsets(&committed, offset)).ok();
                };
                // Without a thread the answer is dropped, which says that there is none.
                ask_committed(self.world.asker.client(), partitions, give).ok();
            }
            Ask::Offsets(wanted, answer) => {
                let token = self.await_broker(answer);
                let read_committed = self.world.fixed.clients.read_committed;
                let asker = &self.world.asker;
                let queue = asker.answers();
                let sent = asker.client().list_offsets(&wanted, read_committed, queue, token, TIMEOUT);
                self.fail_if_not_sent(token, sent);
            }
            Ask::Subscribe(topics, answer) => {
                answer.send(self.subscribe(&topics)).ok();
            }
            Ask::Standing(answer) => {
                answer.send(self.group_standing()).ok();
            }
        }
        self.answer_asked();
    }

    /// A seek that nobody asked for.
    pub(super) fn go_on_at(&mut self, partition: TopicPartition, offset: i64) {
        let number = self.asked.number();
        self.input(Input::Seek { number, partition, offset });
    }

    /// Gives back what the member has answered.
    pub(super) fn answer_asked(&mut self) {
        for (number, result) in std::mem::take(&mut self.world.answered) {
            if let Some(answer) = self.asked.member.remove(&number) {
                answer.send(result.map_err(not_assigned)).ok();
            }
        }
    }

    /// Takes in what a broker answers. True if a handle asked it, however long ago.
    pub(super) fn take_answer(&mut self, event: &NativeEvent) -> bool {
        let (token, result) = match event {
            NativeEvent::Offsets { token, result } => {
                (*token, offsets(result, |found| (found.offset >= 0).then_some(found.offset)))
            }
            _ => return false,
        };
        if !is_of_a_handle(token) {
            return false;
        }
        if let Some((_, answer)) = self.asked.broker.remove(&token) {
            answer.send(result).ok();
        }
        true
    }

    /// Brokers are not waited for forever, and not by those who no longer wait themselves.
    pub(super) fn end_overdue_asks(&mut self, now: Instant) {
        let over = |answer: &Answer<Offsets>, by: Instant| answer.is_closed() || now >= by;
        for (_, (_, answer)) in self.asked.broker.extract_if(|_, (by, answer)| over(answer, *by)) {
            let message = format!("no broker answered for {} s", TIMEOUT.as_secs());
            answer.send(Err(Error::new(ErrorKind::Unanswered, message))).ok();
        }
    }

    fn await_broker(&mut self, answer: Answer<Offsets>) -> u64 {
        let token = token_of(self.asked.number());
        self.asked.broker.insert(token, (Instant::now() + TIMEOUT, answer));
        token
    }

    fn fail_if_not_sent(&mut self, token: u64, sent: Result<(), KafkaError>) {
        if let Err(error) = sent
            && let Some((_, answer)) = self.asked.broker.remove(&token)
        {
            answer.send(Err(Error::new(ErrorKind::Unanswered, error.to_string()))).ok();
        }
    }

    /// All of them, or none.
    fn pause(&mut self, partitions: &[TopicPartition], paused: bool) -> Result<(), Error> {
        let lane_of = |partition: &TopicPartition| {
            let mut lanes = self.member.lanes().filter(|(id, ..)| id.partition == *partition);
            let lane: Option<LaneId> = lanes.next().map(|(id, ..)| id.clone());
            lane.ok_or_else(|| not_assigned(format!("{partition} is not assigned to this member")))
        };
        let lanes: Vec<LaneId> = partitions.iter().map(lane_of).collect::<Result<_, _>>()?;
        lanes.into_iter().for_each(|lane| self.world.pause(lane, paused));
        self.show();
        Ok(())
    }

    fn subscribe(&mut self, topics: &[String]) -> Result<(), Error> {
        self.needs_a_group("there is no subscription to change")?;
        let work = &self.world.fixed.work;
        let letters = work.letters.as_ref().and_then(|letters| letters.topic());
        if topics.is_empty() {
            return Err(Error::new(ErrorKind::Config, "no topic is given: stop the consumer to read none"));
        }
        let patterns = Patterns::new(topics, letters, &work.retries)?;
        self.asked.subscriptions += 1;
        self.missing_said.clear();
        self.topics.watch(patterns);
        Ok(())
    }

    fn group_standing(&self) -> Result<(i32, String), Error> {
        self.needs_a_group("there is no member to tell of")?;
        let membership = self.world.membership.as_ref().filter(|_| self.world.member_is_known());
        let membership =
            membership.ok_or_else(|| not_assigned("the group does not know this member".into()))?;
        Ok((membership.client().generation(), membership.client().member_id()))
    }
}

fn not_assigned(message: String) -> Error {
    Error::new(ErrorKind::NotAssigned, message)
}

type Found<T> = Result<Vec<(TopicPartition, T, Option<KafkaError>)>, KafkaError>;

fn offsets<T>(found: &Found<T>, offset: impl Fn(&T) -> Option<i64>) -> Result<Offsets, Error> {
    let unanswered = |message: String| Error::new(ErrorKind::Unanswered, message);
    let found = found.as_ref().map_err(|error| unanswered(error.to_string()))?;
    let each = found.iter().map(|(partition, found, error)| match error {
        Some(error) => Err(unanswered(format!("{partition}: {error}"))),
        None => Ok((partition.clone(), offset(found))),
    });
    each.collect()
}

/// The native token of a handle's question: 3 modulo 4, as neither a search's nor that for ends (which is 3) is.
fn token_of(number: u64) -> u64 {
    number * 4 + super::ends::ENDS_TOKEN
}

fn is_of_a_handle(token: u64) -> bool {
    token > super::ends::ENDS_TOKEN && token % 4 == super::ends::ENDS_TOKEN
}
