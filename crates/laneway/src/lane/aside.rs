//! Records that wait for their next try, or behind one that is stuck, put aside: their places in their order are kept,
//! their bytes are not. When the first of them may run, the lane goes back to where it is, reads again, and takes what it
//! needs; then it goes on where it was. So what waits does not fill the memory that other keys need, however much it is.

use std::collections::{BTreeMap, HashMap, VecDeque};
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
    /// They are to run, and were not read again yet; of which batch.
    wanted: BTreeMap<i64, (Place, Item, Option<u64>)>,
    /// Batches that such are missing in.
    gathering: HashMap<u64, Gathering>,
    /// Batches that are whole again.
    gathered: VecDeque<Vec<(Place, Item)>>,
    last_batch: u64,
    again_bytes: u64,
    /// Behind the last record that was read, where that is not the lane's position: it reads again.
    read_at: Option<i64>,
    /// The queue goes, to be read from further back.
    goes_back: bool,
    /// Records finished when records were last put aside.
    finished_then: u64,
}

/// A batch that is to run.
struct Gathering {
    items: Vec<(Place, Item)>,
    missing: usize,
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
            gathering: HashMap::new(),
            gathered: VecDeque::new(),
            last_batch: 0,
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

    /// There is a queue again.
    pub(super) fn has_queue(&mut self) {
        self.goes_back = false;
    }

    /// A batch that was gathered.
    pub(super) fn take_gathered(&mut self) -> Option<Vec<(Place, Item)>> {
        self.gathered.pop_front()
    }

    pub(super) fn has_gathered(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// What is to run, and is missing or waits for what is missing.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &Item> {
        let gathering = self.gathering.values().flat_map(|gathering| &gathering.items);
        let gathered = gathering.chain(self.gathered.iter().flatten());
        self.wanted.values().map(|(_, item, _)| item).chain(gathered.map(|(_, item)| item))
    }

    /// A record was read again that was missing in a batch.
    fn gather(&mut self, batch: u64, place: Place, item: Item) {
        let Some(gathering) = self.gathering.get_mut(&batch) else { return };
        gathering.items.push((place, item));
        gathering.missing -= 1;
        if gathering.missing == 0
            && let Some(Gathering { mut items, .. }) = self.gathering.remove(&batch)
        {
            items.sort_by_key(|(_, item)| item.ticket);
            self.gathered.push_back(items);
        }
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

    /// A batch that may run. Gives it back if it is whole, or else once it is: see [`Aside::take_gathered`].
    pub(super) fn gather(&mut self, batch: Vec<(Place, Item)>) -> Option<Vec<(Place, Item)>> {
        if !batch.iter().any(|(_, item)| self.aside.is_aside(item)) {
            return Some(batch);
        }
        self.aside.last_batch += 1;
        let number = self.aside.last_batch;
        let wanted = batch.len();
        let mut items = Vec::with_capacity(wanted);
        for (place, item) in batch {
            if self.aside.is_aside(&item) {
                items.extend(self.bring_back(place, item, Some(number)));
            } else {
                items.push((place, item));
            }
        }
        let missing = wanted - items.len();
        if missing == 0 {
            return Some(items);
        }
        self.aside.gathering.insert(number, Gathering { items, missing });
        None
    }

    /// A record that may run, and was put aside. Gives it back whole if it was read again already.
    pub(super) fn bring_back(
        &mut self,
        place: Place,
        mut item: Item,
        batch: Option<u64>,
    ) -> Option<(Place, Item)> {
        if let Some(record) = self.aside.again.remove(&item.ticket) {
            self.aside.again_bytes -= record.size() as u64;
            self.aside.forget(item.ticket);
            item.record = record;
            return Some((place, item));
        }
        if let Some(offset) = self.aside.tickets.get(&item.ticket) {
            self.aside.wanted.insert(*offset, (place, item, batch));
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
        let offsets = first.offset()..=last.offset();
        self.aside.read_at = Some(last.offset() + 1);
        if self.aside.offsets.range(offsets).next().is_none() {
            return;
        }
        for record in (0..batch.len()).filter_map(|index| batch.record(index)) {
            let Some(ticket) = self.aside.offsets.get(&record.offset()).copied() else { continue };
            if let Some((place, mut item, batch)) = self.aside.wanted.remove(&record.offset()) {
                self.aside.forget(ticket);
                item.record = record.detached();
                self.held.bytes = self.held.bytes - ASIDE + item.cost();
                match batch {
                    None => self.parked.push((place, item)),
                    Some(batch) => self.aside.gather(batch, place, item),
                }
            } else if self.waits() < self.work.memory.most_waiting() / 2
                && !self.aside.again.contains_key(&ticket)
            {
                let record = record.detached();
                self.held.bytes = self.held.bytes - ASIDE + record.cost();
                self.aside.again_bytes += record.size() as u64;
                self.aside.again.insert(ticket, record);
            }
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
