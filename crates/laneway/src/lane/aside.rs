//! Records that wait for their next try, or behind one that is stuck, put aside: their places in their order are kept,
//! their bytes are not. When the first of them may run, the lane goes back to where it is, reads again, and takes what it
//! needs; then it goes on where it was. So what waits does not fill the memory that other keys need, however much it is.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;

use laneway_core::{Place, Ticket};

use super::attempt::{Answer, Job};
use super::task::Running;
use super::unit::Item;
use super::{LaneMessage, LaneShared};
use crate::ordering::Ordering;
use crate::record::{Batch, OwnedRecord, Record};

/// What a lane has put aside.
pub(super) struct Aside {
    /// Stands for a record that was put aside.
    stand_in: Record,
    offsets: BTreeMap<i64, Ticket>,
    tickets: HashMap<Ticket, i64>,
    /// Read again, and not to run yet.
    again: HashMap<Ticket, Record>,
    /// They are to run, and were not read again yet.
    wanted: BTreeMap<i64, (Place, Item)>,
    again_bytes: u64,
    /// Behind the last record that was read, where that is not the lane's position: it reads again.
    read_at: Option<i64>,
    /// The queue goes, to be read from further back.
    goes_back: bool,
    /// Records finished when records were last put aside.
    finished_then: u64,
}

/// What a record that was put aside takes of memory.
const ASIDE: u64 = 256;

impl Default for Aside {
    fn default() -> Self {
        Self {
            stand_in: Record::from_owned(OwnedRecord::default()),
            offsets: BTreeMap::new(),
            tickets: HashMap::new(),
            again: HashMap::new(),
            again_bytes: 0,
            wanted: BTreeMap::new(),
            read_at: None,
            goes_back: false,
            finished_then: u64::MAX,
        }
    }
}

impl Aside {
    pub(super) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    pub(super) fn is_aside(&self, item: &Item) -> bool {
        !self.is_empty() && self.tickets.contains_key(&item.ticket)
    }

    /// Bytes of what was read again and is not to run yet.
    pub(super) fn again_bytes(&self) -> u64 {
        self.again_bytes
    }

    /// Where reading goes on when the queue is opened next, if not behind what was read last.
    pub(super) fn leave_off(&mut self, shared: &LaneShared) {
        let position = shared.position();
        let wanted = self.wanted.keys().next().copied();
        let next = wanted.into_iter().chain(self.read_at).min().filter(|next| *next < position);
        shared.reading.go_on_at(next);
        self.read_at = next;
    }

    /// There is a queue again, which begins at `at`.
    pub(super) fn has_queue(&mut self, at: i64, shared: &LaneShared) {
        self.goes_back = false;
        self.read_at = (at < shared.position()).then_some(at);
    }

    /// What is read may be something that was read before, or something that was put aside.
    pub(super) fn reads_again(&self) -> bool {
        !self.is_empty() || self.read_at.is_some()
    }

    /// What is to run, and was not read again yet.
    pub(super) fn wanted(&self) -> impl ExactSizeIterator<Item = &Item> {
        self.wanted.values().map(|(_, item)| item)
    }

    /// It is being read again, and what is to run lies ahead.
    pub(super) fn comes_to_wanted(&self) -> bool {
        self.read_at.is_some_and(|read_at| self.wanted.range(read_at..).next().is_some())
    }

    fn forget(&mut self, ticket: Ticket) {
        if let Some(offset) = self.tickets.remove(&ticket) {
            self.offsets.remove(&offset);
        }
    }
}

impl<A, F> Running<'_, A, F>
where
    A: Fn(Job) -> F,
    F: Future<Output = Answer>,
{
    /// Puts aside what waits, if something was finished since that was last done: else it would be the whole log that
    /// is read for nothing.
    pub(super) fn put_aside(&mut self) {
        let finished = self.finished_here;
        // In the order of the partition nothing else could run. The lane of a retry topic holds little, and does not read
        // on while its first record waits.
        let may = self.work.ordering != Ordering::Partition && self.delayed.is_none();
        if !may || finished == self.aside.finished_then {
            return;
        }
        self.aside.finished_then = finished;
        let (aside, held) = (&mut self.aside, &mut self.held.bytes);
        self.schedule.lighten(|item| {
            if !aside.is_aside(item) {
                let offset = item.record.offset();
                *held = *held - item.cost() + ASIDE;
                item.record = aside.stand_in.clone();
                aside.offsets.insert(offset, item.ticket);
                aside.tickets.insert(item.ticket, offset);
            }
            0
        });
    }

    /// Whether one more may be wanted: what is read again is held until there is room to handle it.
    pub(super) fn may_want(&self) -> bool {
        let wanted = self.aside.wanted().len();
        wanted == 0 || wanted < self.appetite.records(&self.work.memory, true)
    }

    /// A batch that may run. Gives back what of it is whole; of each queue that has one that was put aside, what is behind
    /// that one goes back to its place.
    pub(super) fn bring_back_batch(&mut self, batch: Vec<(Place, Item)>) -> Vec<(Place, Item)> {
        if !batch.iter().any(|(_, item)| self.aside.is_aside(item)) {
            return batch;
        }
        let (mut missing, mut behind) = (Vec::new(), Vec::new());
        let mut whole = Vec::with_capacity(batch.len());
        for (place, item) in batch {
            if missing.contains(&place) {
                behind.push((place, item));
            } else if !self.aside.is_aside(&item) {
                whole.push((place, item));
            } else if place != Place::FREE
                && !self.aside.again.contains_key(&item.ticket)
                && whole.iter().any(|(ahead, _)| *ahead == place)
            {
                // It is wanted when what is ahead of it has finished.
                missing.push(place);
                behind.push((place, item));
            } else if let Some(back) = self.bring_back(place, item) {
                whole.push(back);
            } else if place != Place::FREE {
                missing.push(place);
            }
        }
        self.put_back(behind);
        whole
    }

    /// Records of a batch go back to their places, each behind one of its queue that does not.
    pub(super) fn put_back(&mut self, behind: Vec<(Place, Item)>) {
        for (place, item) in behind.into_iter().rev() {
            let bytes = if self.aside.is_aside(&item) { 0 } else { item.record.size() };
            self.schedule.put_back(place, item, bytes);
        }
    }

    /// A record that may run, and was put aside. Gives it back whole if it was read again already.
    pub(super) fn bring_back(&mut self, place: Place, mut item: Item) -> Option<(Place, Item)> {
        if let Some(record) = self.aside.again.remove(&item.ticket) {
            self.aside.again_bytes -= record.size() as u64;
            self.aside.forget(item.ticket);
            item.record = record;
            return Some((place, item));
        }
        if let Some(offset) = self.aside.tickets.get(&item.ticket) {
            self.aside.wanted.insert(*offset, (place, item));
        }
        None
    }

    /// Takes from what was read what was put aside. `is_again`: some of it was read before.
    pub(super) fn take_again(&mut self, batch: &Batch, is_again: bool) {
        if !is_again {
            self.aside.read_at = None;
            return;
        }
        let (Some(first), Some(last)) = (batch.record(0), batch.record(batch.len().saturating_sub(1))) else {
            return;
        };
        let from = self.aside.read_at.replace(last.offset() + 1);
        let begin = from.unwrap_or(first.offset()).min(first.offset());
        if self.aside.offsets.range(begin..=last.offset()).next().is_none() {
            return;
        }
        for record in (0..batch.len()).filter_map(|index| batch.record(index)) {
            let Some(ticket) = self.aside.offsets.get(&record.offset()).copied() else { continue };
            if let Some((place, mut item)) = self.aside.wanted.remove(&record.offset()) {
                self.aside.forget(ticket);
                item.record = record.detached();
                self.held.bytes = self.held.bytes - ASIDE + item.cost();
                self.parked.push((place, item));
            } else if self.waits() < self.work.memory.most_waiting() / 2
                && !self.aside.again.contains_key(&ticket)
            {
                let record = record.detached();
                self.held.bytes = self.held.bytes - ASIDE + record.cost();
                self.aside.again_bytes += record.size() as u64;
                self.aside.again.insert(ticket, record);
            }
        }
        if let Some(from) = from {
            self.pass_over(from, last.offset());
        }
    }

    /// All from one offset to another was read again. What is to run, and did not come, is no longer in the log: it was
    /// compacted away.
    fn pass_over(&mut self, from: i64, last: i64) {
        if from > last {
            return;
        }
        let gone: Vec<i64> = self.aside.wanted.range(from..=last).map(|(offset, _)| *offset).collect();
        for offset in gone {
            let Some((place, item)) = self.aside.wanted.remove(&offset) else { continue };
            self.aside.forget(item.ticket);
            let partition = &self.shared.id.partition;
            (self.tell)(LaneMessage::Told(format!(
                "{partition} at offset {offset}: it is no longer in the log, and is passed over"
            )));
            // It has the bytes of a record again, to be finished as one.
            self.held.bytes = self.held.bytes - ASIDE + item.cost();
            self.finish(&item, place);
        }
    }

    /// Has the lane read from further back, where something that is to run was put aside.
    pub(super) fn go_back(&mut self) {
        let Some((first, _)) = self.aside.wanted.first_key_value() else { return };
        if !self.aside.goes_back && self.aside.read_at.is_none_or(|read_at| *first < read_at) {
            self.aside.goes_back = true;
            (self.tell)(LaneMessage::GoBack(self.shared.id.clone()));
        }
    }
}
