//! What becomes of a record that a handler is through with.

use std::future::Future;
use std::time::Duration;

use laneway_core::Place;

use super::Order;
use super::attempt::{Answer, Job};
use super::failures::Tried;
use super::message::LaneMessage;
use super::task::{Running, Storm};
use super::unit::{Item, Unit};
use crate::dead_letters::{Letter, To};
use crate::failures::{Bucket, GiveUp};
use crate::handler::Outcome;

impl<A, F> Running<'_, A, F>
where
    A: Fn(Job) -> F,
    F: Future<Output = Answer>,
{
    pub(super) fn complete(&mut self, item: Item, place: Place, outcome: Outcome) {
        match outcome {
            Outcome::Done => {
                self.has_succeeded();
                self.finish(&item, place);
            }
            Outcome::Retry { error, after } => self.failed(item, place, error, after),
            Outcome::DeadLetter { reason } => self.give_up(item, place, reason, GiveUp::DeadLetter),
            Outcome::Skip { reason } => self.give_up(item, place, reason, GiveUp::Skip),
            Outcome::Stop { reason } => self.give_up(item, place, reason, GiveUp::Stop),
            Outcome::Abandon => {
                self.has_ended = true;
                self.let_go_of(&item);
            }
        }
    }

    fn failed(&mut self, mut item: Item, place: Place, error: String, after: Option<Duration>) {
        let failures = &self.work.failures;
        let tried = item.tried.get_or_insert_with(|| Box::new(Tried::new()));
        if tried.would_be_enough(failures) {
            let topic = &self.shared.id.partition.topic;
            match self.work.retries.next(topic, after) {
                Some((at, delay)) => self.try_later(item, place, &error, at, delay),
                None => self.give_up(item, place, error, failures.give_up),
            }
            return;
        }
        tried.fail();
        let wait = after.map_or_else(|| failures.wait(tried.times), |after| after.max(LEAST_WAIT));
        let message = format!("{}: {error}; trying again in {wait:?}", self.name(&item));
        (self.tell)(LaneMessage::Told(message));
        if self.shared.order() != Order::Run {
            // There is no next try in a lane that ends.
            self.let_go_of(&item);
            return;
        }
        self.wait_for_next_try(item, place, wait);
    }

    /// A record was handled: no storm is on any more.
    #[inline]
    pub(super) fn has_succeeded(&mut self) {
        self.succeeded += 1;
        self.storm = None;
    }

    /// A record goes to a retry topic.
    fn try_later(&mut self, item: Item, place: Place, error: &str, at: usize, delay: Duration) {
        let what = self.name(&item);
        (self.tell)(LaneMessage::Told(format!(
            "{what}: {error}; trying again in {delay:?}, in a retry topic"
        )));
        self.write(item, place, error, To::Retry(at, delay));
    }

    /// Has a record written to another topic, and finished when it is there.
    fn write(&mut self, mut item: Item, place: Place, error: &str, to: To) {
        let mut tried = item.tried.take().map_or_else(Tried::new, |tried| *tried);
        tried.fail();
        let before = self.delayed.is_some().then(|| self.failures_so_far(&item.record).ok()).flatten();
        let letter = Letter::new(&item.record, before, &tried, error, to);
        self.start(Job::Letter(Box::new((item.record.clone(), letter))), Unit::Letter(item, place));
    }

    fn wait_for_next_try(&mut self, mut item: Item, place: Place, wait: Duration) {
        // What waits is copied out of what it was fetched with, which it would keep in memory.
        item.detach(&mut self.held);
        let bytes = item.record.size();
        self.schedule.retry(place, item, bytes, self.now.saturating_add(wait));
    }

    /// The consumer is to stop for a record, which is not finished.
    fn stop_for(&mut self, item: &Item, why: String) {
        (self.tell)(LaneMessage::GaveUp(why));
        self.has_ended = true;
        self.let_go_of(item);
    }

    /// The last try of a record failed.
    fn give_up(&mut self, item: Item, place: Place, reason: String, how: GiveUp) {
        let what = self.name(&item);
        let has_topic = self.work.letters.as_ref().is_some_and(|letters| letters.topic().is_some());
        let how = match how {
            GiveUp::DeadLetter if !has_topic => self.work.failures.give_up,
            how => how,
        };
        match how {
            GiveUp::DeadLetter if has_topic => {
                if let Some(guard) = &self.work.guard
                    && !guard.take()
                {
                    return self.hold_back(item, place, &reason, guard);
                }
                (self.tell)(LaneMessage::Told(format!("{what}: {reason}; it becomes a dead letter")));
                self.write(item, place, &reason, To::Dead);
            }
            GiveUp::Skip => {
                (self.tell)(LaneMessage::Told(format!("{what}: {reason}; it is skipped")));
                self.finish(&item, place);
            }
            GiveUp::Stop | GiveUp::DeadLetter => {
                self.stop_for(&item, format!("{what}: {reason}"));
            }
        }
    }

    /// Too many records were given up while hardly any succeeded: this one does not become a dead letter now.
    fn hold_back(&mut self, mut item: Item, place: Place, reason: &str, guard: &Bucket) {
        let (what, letters) = (self.name(&item), guard.letters());
        let why =
            format!("{what}: {reason}; more than {letters} records were given up while hardly any succeeded");
        if !guard.waits() {
            return self.stop_for(&item, why);
        }
        item.tried.get_or_insert_with(|| Box::new(Tried::new())).fail();
        let wait = self.work.failures.longest.max(LEAST_WAIT);
        let told = match &self.storm {
            // Once for all that were in flight together.
            Some(storm) if self.now < storm.told + wait / 2 => storm.told,
            _ => {
                (self.tell)(LaneMessage::Told(format!(
                    "{why}: its lane begins nothing for {wait:?}, and then one record after each such time until one \
                     succeeds"
                )));
                self.now
            }
        };
        self.storm = Some(Storm { until: self.now.saturating_add(wait), told });
        self.wait_for_next_try(item, place, wait);
    }

    /// What still runs when the lane ends is dropped. That is the handler's code, and may panic.
    pub(super) fn cancel_calls(&mut self) {
        for (at, call) in self.calls.drain(..).enumerate() {
            let Some(call) = call else { continue };
            if let (Err(panic), Some(record)) = (self.slots.cancel(at), call.unit.first()) {
                let (lane, offset) = (&self.shared.id.partition, record.offset());
                (self.tell)(LaneMessage::Told(format!(
                    "{lane} at offset {offset}: the handler panicked when it was cancelled: {panic}"
                )));
            }
        }
    }

    /// A record will not be finished here.
    fn let_go_of(&self, item: &Item) {
        if let (Some(quota), true) = (self.quota, item.is_counted) {
            quota.give_back();
        }
    }

    fn name(&self, item: &Item) -> String {
        format!("{} at offset {}", self.shared.id.partition, item.record.offset())
    }
}

/// The least that is waited between two tries, also where a handler wants none: each one is told of.
const LEAST_WAIT: Duration = Duration::from_millis(10);
