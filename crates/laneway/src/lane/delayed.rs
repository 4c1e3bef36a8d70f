//! The lane of a retry topic: its records wait until they are due. All of them wait equally long, so they are due in
//! their order, and nothing is read beyond those that wait.

use std::collections::VecDeque;
use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use laneway_core::{Failed, Ticket};

use super::LaneMessage;
use super::attempt::{Answer, Job};
use super::task::Running;
use super::unit::Item;
use crate::record::{Batch, Record};

/// Records that are not due yet.
pub(super) struct Delayed {
    /// How long they wait at most, whatever their headers and other people's clocks say.
    delay: Duration,
    waiting: VecDeque<(Duration, Item)>,
}

impl Delayed {
    pub(super) fn new(delay: Duration) -> Self {
        Self { delay, waiting: VecDeque::new() }
    }

    /// How many records wait, and their bytes.
    pub(super) fn held(&self) -> (usize, u64) {
        (self.waiting.len(), self.waiting.iter().map(|(_, item)| item.cost()).sum())
    }

    /// When the first one is due.
    pub(super) fn due(&self) -> Option<Duration> {
        self.waiting.front().map(|(due, _)| *due)
    }

    fn pop_due(&mut self, now: Duration) -> Option<Item> {
        self.due().filter(|due| *due <= now)?;
        self.waiting.pop_front().map(|(_, item)| item)
    }
}

impl<A, F> Running<'_, A, F>
where
    A: Fn(Job) -> F,
    F: Future<Output = Answer>,
{
    /// Has records that were read wait until they are due.
    pub(super) fn delay(&mut self, batch: &Batch, fresh: &[(usize, Ticket)]) {
        // Both clocks at the same time: what came before in this turn is not waited for less.
        let (now, today) = (self.started.elapsed(), SystemTime::now());
        for &(index, ticket) in fresh {
            let Some(record) = batch.record(index) else { continue };
            let wait = self.wait_of(&record, today);
            let item = Item { record: record.detached(), ticket, is_counted: false, tried: None };
            self.held.bytes += item.cost();
            if let Some(delayed) = &mut self.delayed {
                delayed.waiting.push_back((now + wait.min(delayed.delay), item));
            }
        }
    }

    /// Lets those run that are due.
    pub(super) fn release_delayed(&mut self) {
        while let Some(item) = self.delayed.as_mut().and_then(|delayed| delayed.pop_due(self.now)) {
            let (record, bytes, now) = (item.record.clone(), item.record.size(), self.now);
            if let Err(panic) = self.work.with_key(&record, |key| self.schedule.push(key, item, bytes, now)) {
                return self.key_failed(&record, &panic);
            }
        }
    }

    /// What a record of a retry topic says of its failures so far, and how many headers of its own it has. `None`: it
    /// says nothing that this consumer has written, and counts as one that was not tried yet.
    pub(super) fn failures_so_far(&self, record: &Record) -> Result<(Failed, usize), String> {
        let group = self.work.letters.as_ref().map_or("", |letters| letters.group());
        match Failed::read(record.headers().map(|header| (header.name, header.value))) {
            Ok(Some((failed, own))) if failed.group == group => Ok((failed, own)),
            Ok(Some((failed, _))) => Err(format!("it is of group \"{}\"", failed.group.escape_debug())),
            Ok(None) => Err("it has none".into()),
            Err(why) => Err(why),
        }
    }

    fn wait_of(&self, record: &Record, today: SystemTime) -> Duration {
        match self.failures_so_far(record) {
            Ok((failed, _)) => {
                let due = failed.due.and_then(|due| u64::try_from(due).ok()).unwrap_or_default();
                let now = today.duration_since(UNIX_EPOCH).unwrap_or_default();
                Duration::from_millis(due).saturating_sub(now)
            }
            Err(why) => {
                let what = format!("{} at offset {}", self.shared.id.partition, record.offset());
                (self.tell)(LaneMessage::Told(format!(
                    "{what}: what its headers say of failures is not used: {why}; it is handled now, as at its first try"
                )));
                Duration::ZERO
            }
        }
    }
}

/// Records that wait at once.
pub(super) const DELAYED_AT_ONCE: usize = 16;
