//! The lane's task: takes records in batches, has them handled in the order that was asked for, as many at once
//! as there is room for, and ends when it is told to. Nothing on a record's way takes a lock.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use laneway_core::{LaneId, Place, Position, Schedule, Ticket};

use super::aside::Aside;
use super::attempt::{Answer, Job, attempt, contained, outcome_of, panic_text};
use super::delayed::{DELAYED_AT_ONCE, Delayed};
use super::message::EndGuard;
use super::slots::Slots;
use super::unit::{Call, Item, Unit};
use super::work::Work;
use super::{Appetite, FALLBACK_TICK, Finished, Held, LaneMessage, LaneShared, Order, Quota, Tell, hooked};
use crate::fetcher::{FetchError, FetchErrorKind, PartitionQueue};
use crate::handler::{Closing, Handler};
use crate::ordering::Ordering;
use crate::record::{Batch, COPIED, LentRecords, Record};

/// What a lane is made of.
pub(crate) struct Lane {
    pub(crate) shared: Arc<LaneShared>,
    /// None: its turn to read has not come.
    pub(crate) queue: Option<Box<dyn PartitionQueue>>,
    pub(crate) start: Position,
    /// What was finished above the start already.
    pub(crate) finished: Option<Finished>,
    pub(crate) work: Arc<Work>,
    pub(crate) quota: Option<Arc<Quota>>,
    pub(crate) tell: Tell,
}

impl Lane {
    /// Runs the lane to its end. `make` makes its handler, on the lane's task.
    pub(crate) fn run<H: Handler>(
        self,
        make: impl Fn(&LaneId) -> H + Send + Sync,
    ) -> impl Future<Output = ()> + Send {
        // Made here and not in the future: a future that is never polled must say that it ended, too.
        let guard = EndGuard::new(&self.shared, &self.tell);
        async move {
            let _ended = guard;
            let Self { shared, mut queue, finished, work, quota, tell, .. } = self;
            if !hooked::before_open(&shared, &work, &mut queue, &tell).await {
                return;
            }
            if let Some(handler) = made(make, &shared, &work, &mut queue, &tell).await {
                let batching = handler.batching();
                let mut running = Running {
                    slots: Slots::new(&shared),
                    calls: Vec::new(),
                    running: 0,
                    in_flight: 0,
                    room: 0,
                    schedule: Schedule::new(batching.limits()),
                    takes_batches: batching.limits().records > 1,
                    parked: Vec::new(),
                    delayed: work.retries.delay_in(&shared.id.partition.topic).map(Delayed::new),
                    done: Vec::new(),
                    fresh: Vec::new(),
                    finished,
                    started: Instant::now(),
                    now: Duration::ZERO,
                    next_look: LOOK,
                    idle_ticks: 1,
                    looked_at: None,
                    last: None,
                    succeeded: 0,
                    has_ended: false,
                    is_starved: false,
                    lacks_room: false,
                    told_lack: false,
                    leaves_room: false,
                    was_freed: false,
                    long_calls: 0,
                    ready_in_turn: 0,
                    told_waiting: 0,
                    share: 0,
                    gave: false,
                    is_short: false,
                    stands: None,
                    storm: None,
                    appetite: Appetite::default(),
                    held: Held::default(),
                    told: Held::default(),
                    ready_calls: 0,
                    aside: Aside::default(),
                    finished_here: 0,
                    shared: &shared,
                    work: &work,
                    quota: quota.as_deref(),
                    tell: &tell,
                    attempt: |job| attempt(&handler, &work, job),
                };
                running.read(queue).await;
                running.let_go();
                drop(running);
                contained(async { handler.close(closing(&shared)).await }).await.ok();
            }
            hooked::before_close(&shared, &work, &tell).await;
        }
    }
}

/// Has the handler made until that succeeds. `None`: the lane is to end.
async fn made<H>(
    make: impl Fn(&LaneId) -> H,
    shared: &LaneShared,
    work: &Work,
    queue: &mut Option<Box<dyn PartitionQueue>>,
    tell: &Tell,
) -> Option<H> {
    let mut times = 0;
    loop {
        let panic = match catch_unwind(AssertUnwindSafe(|| make(&shared.id))) {
            Ok(handler) => return Some(handler),
            Err(panic) => panic_text(&*panic),
        };
        times += 1;
        // It does not read: others may have its turn.
        shared.reading.set_full(true, &work.memory);
        let wait = work.failures.wait(times);
        tell(LaneMessage::Told(format!(
            "the handler of {} could not be made: {panic}; no record flows before it is: again in {wait:?}",
            shared.id
        )));
        tokio::select! {
            biased;
            () = shared.ordered(queue, tell) => return None,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

fn closing(shared: &LaneShared) -> Closing {
    Closing { deadline: shared.deadline(), lost: shared.is_lost() }
}

/// Too many records were given up while hardly any succeeded.
pub(super) struct Storm {
    /// Until then the lane begins nothing; then one record, and so on, until one succeeds.
    pub(super) until: Duration,
    pub(super) told: Duration,
}

/// A lane that runs.
pub(super) struct Running<'a, A, F> {
    /// What is worked on.
    pub(super) slots: Slots<F>,
    /// What waits in each slot.
    pub(super) calls: Vec<Option<Call>>,
    /// Calls of the handler that go on.
    running: usize,
    /// Their records, and those on their way to the dead letters.
    in_flight: usize,
    /// Room for calls that was taken from the process's limit and is not used.
    room: usize,
    pub(super) schedule: Schedule<Item>,
    pub(super) takes_batches: bool,
    /// Records that may run, but not be handed out before another one is given back.
    pub(super) parked: Vec<(Place, Item)>,
    /// Records that are not due yet, in the lane of a retry topic.
    pub(super) delayed: Option<Delayed>,
    /// Finished since the tracker was told.
    done: Vec<Ticket>,
    /// Tickets of the batch that is being read.
    fresh: Vec<(usize, Ticket)>,
    /// What was finished before the lane began.
    finished: Option<Finished>,
    pub(super) started: Instant,
    pub(super) now: Duration,
    next_look: Duration,
    /// How many slow ticks it sleeps at a time.
    idle_ticks: u32,
    /// The last record that was read when the lane last looked around, and the last one at all.
    looked_at: Option<Ticket>,
    last: Option<Ticket>,
    /// Records handled since the storm guard was told.
    pub(super) succeeded: u64,
    /// It reads nothing more, and begins nothing.
    pub(super) has_ended: bool,
    /// It could go on if there were room.
    is_starved: bool,
    /// It has nothing running, or less than its share of the room of all lanes together; and whether they know.
    lacks_room: bool,
    told_lack: bool,
    /// It was woken because there is room.
    was_freed: bool,
    /// Calls that had gone on for longer than a look ago when it last looked around.
    pub(super) long_calls: usize,
    /// Calls that were ready at once in this turn.
    ready_in_turn: usize,
    /// It could go on if there were room, and leaves what there is to others.
    leaves_room: bool,
    /// Records that wait here, as all lanes know, and its share of the room for that.
    told_waiting: u64,
    share: usize,
    /// It has given room to others in this turn, and takes none.
    gave: bool,
    /// It could read if there were memory.
    is_short: bool,
    /// Since when it does not read, as what waits takes all the room there is for that, and whether that was told.
    stands: Option<(Duration, bool)>,
    /// Too many records fail.
    pub(super) storm: Option<Storm>,
    pub(super) appetite: Appetite,
    /// What it holds, and what of that others know.
    pub(super) held: Held,
    told: Held,
    pub(super) aside: Aside,
    /// Records that were finished after they had waited.
    pub(super) finished_here: u64,
    /// Calls that were ready at once, since one was not.
    ready_calls: u32,
    pub(super) shared: &'a Arc<LaneShared>,
    pub(super) work: &'a Work,
    pub(super) quota: Option<&'a Quota>,
    pub(super) tell: &'a Tell,
    attempt: A,
}

impl<A, F> Running<'_, A, F>
where
    A: Fn(Job) -> F,
    F: Future<Output = Answer>,
{
    /// Reads and handles until the lane is told to end, and what is in flight has ended or is to be cancelled.
    async fn read(&mut self, mut queue: Option<Box<dyn PartitionQueue>>) {
        loop {
            let order = self.shared.order();
            if order == Order::Cancel {
                break;
            }
            self.now = self.started.elapsed();
            (self.is_starved, self.lacks_room, self.leaves_room) = (false, false, false);
            self.share = self.work.limit.share(self.told_waiting);
            if let Some(at) = self.shared.follow(&mut queue, self.tell, || self.aside.leave_off(self.shared))
            {
                self.aside.has_queue(at, self.shared);
            }
            let mut moved = self.poll_woken();
            if order == Order::Run && !self.has_ended {
                self.schedule.release(self.now);
                self.release_delayed();
                if self.shared.is_paused() {
                    // What others wait for is not to wake it.
                    self.is_short = false;
                    self.shared.reading.set_full(true, &self.work.memory);
                } else {
                    moved |= self.start_what_may_run();
                    if queue.is_none() && self.aside.wanted().len() > 0 {
                        self.aside.leave_off(self.shared);
                    }
                    moved |= self.take(queue.as_deref_mut());
                    if self.is_short && self.takes_batches {
                        moved |= self.start_what_may_run();
                    }
                    if queue.is_some() && !self.aside.is_empty() {
                        self.go_back();
                    }
                }
            } else {
                // The queue goes before the lane says that it has ended: there is one handle of a partition.
                queue = None;
            }
            self.settle();
            if order == Order::Drain && self.in_flight == 0 {
                break;
            }
            if moved {
                tokio::task::yield_now().await;
            } else {
                self.wait().await;
            }
        }
        drop(queue);
    }

    /// Polls what was woken.
    fn poll_woken(&mut self) -> bool {
        let woken = self.slots.take_woken();
        let moved = !woken.is_empty();
        for &at in &woken {
            if self.shared.order() == Order::Cancel {
                break;
            }
            let Some(outcome) = self.slots.poll(at) else { continue };
            if let Some(call) = self.calls.get_mut(at as usize).and_then(Option::take) {
                self.has_returned(&call.unit);
                self.over(call.unit, outcome);
            }
        }
        self.slots.give_back(woken);
        moved
    }

    /// Begins what is scheduled, as far as there is room.
    fn start_what_may_run(&mut self) -> bool {
        let mut moved = false;
        while self.shared.order() == Order::Run && !self.has_ended && !self.shared.is_paused() {
            let has_some = !self.parked.is_empty() || self.schedule.runnable() > 0 && self.may_want();
            if !has_some || !self.has_room() {
                break;
            }
            if self.takes_batches {
                let mut batch = self.parked_batch();
                if batch.is_empty() {
                    let Some(next) = self.next_batch() else { break };
                    batch = self.bring_back_batch(next);
                    if batch.is_empty() {
                        continue;
                    }
                }
                let counted = self.count_batch(batch);
                if counted.is_empty() {
                    break;
                }
                let records = counted.iter().map(|(item, _)| item.record.clone()).collect();
                self.start(Job::Many(records), Unit::Many(counted));
            } else {
                let Some((place, mut item)) =
                    self.parked.pop().or_else(|| self.schedule.take(self.at_once()))
                else {
                    break;
                };
                if self.aside.is_aside(&item) {
                    match self.bring_back(place, item) {
                        Some((_, back)) => item = back,
                        None => continue,
                    }
                }
                if !self.count(&mut item) {
                    self.parked.push((place, item));
                    break;
                }
                self.start(Job::One(item.record.clone()), Unit::One(item, place));
            }
            moved = true;
        }
        moved
    }

    /// Of what is parked, which is one record of each queue at most, as much as is one batch.
    fn parked_batch(&mut self) -> Vec<(Place, Item)> {
        let limits = self.schedule.limits();
        let (mut batch, mut bytes) = (Vec::<(Place, Item)>::new(), 0);
        for (place, item) in std::mem::take(&mut self.parked) {
            let size = item.record.size();
            let fits = batch.len() < limits.records && bytes + size <= limits.bytes;
            if batch.is_empty() || (fits && !limits.one_key) {
                bytes += size;
                batch.push((place, item));
            } else {
                self.parked.push((place, item));
            }
        }
        batch
    }

    /// What of a batch may be handed out, where that is limited. Of one queue nothing is before what is ahead of it.
    fn count_batch(&mut self, batch: Vec<(Place, Item)>) -> Vec<(Item, Place)> {
        let mut counted = Vec::with_capacity(batch.len());
        let mut refused = Vec::<(Place, Item)>::new();
        for (place, mut item) in batch {
            let is_behind = place != Place::FREE && refused.iter().any(|(ahead, _)| *ahead == place);
            if !is_behind && self.count(&mut item) {
                counted.push((item, place));
            } else {
                refused.push((place, item));
            }
        }
        if refused.is_empty() {
            return counted;
        }
        // Of each queue one is parked at most: what is behind it, or behind one that begins, goes back to its place.
        let (mut ahead, mut behind) =
            (counted.iter().map(|(_, place)| *place).collect::<Vec<_>>(), Vec::new());
        for (place, item) in refused {
            if place != Place::FREE && ahead.contains(&place) {
                behind.push((place, item));
            } else {
                ahead.push(place);
                self.parked.push((place, item));
            }
        }
        self.put_back(behind);
        counted
    }

    /// The next batch. What is there is one as well where there is no memory for what it still could get.
    fn next_batch(&mut self) -> Option<Vec<(Place, Item)>> {
        let next = self.schedule.take_batch(self.now);
        if self.is_short { next.or_else(|| self.schedule.take_rest()) } else { next }
    }

    /// How many records may be taken now: as many as there is work and memory for.
    fn appetite(&mut self) -> usize {
        self.is_short = false;
        let ahead = match self.work.ordering {
            Ordering::Partition => self.schedule.blocked().0 + self.schedule.runnable(),
            _ if self.takes_batches => self.schedule.runnable(),
            // Those behind each other count as well where they are many.
            _ => self.schedule.side_by_side().max(self.schedule.runnable() / MOST_BEHIND),
        };
        let is_delayed = self.delayed.as_ref().is_some_and(|delayed| delayed.held().0 > 0);
        // What is to run and was put aside: nothing but reading brings it back, whatever there is room for.
        if self.aside.comes_to_wanted() {
            return self.appetite.records(&self.work.memory, true).max(1);
        }
        if ahead >= self.work.read_ahead.max(self.schedule.limits().records)
            || !self.parked.is_empty()
            || is_delayed
        {
            return 0;
        }
        if self.work.memory.waits_too_much(self.waits()) {
            self.put_aside();
            if self.waits() >= self.work.memory.most_waiting() {
                self.stands.get_or_insert((self.now, false));
                return 0;
            }
        }
        self.stands = None;
        let most = self.appetite.records(&self.work.memory, self.held.bytes == 0);
        self.is_short = most == 0;
        // What waits until it is due takes room from others, and only the first one matters.
        if self.delayed.is_some() { most.min(DELAYED_AT_ONCE) } else { most }
    }

    /// Takes records from the queue as long as there is room for them, and begins those that may run at once.
    fn take(&mut self, queue: Option<&mut (dyn PartitionQueue + 'static)>) -> bool {
        let most = self.appetite();
        let waiting = if most == 0 { queue.as_ref().map_or(0, |queue| queue.waiting()) } else { 0 };
        let Some(queue) = queue.filter(|_| most > 0) else {
            self.shared.reading.set_full(most == 0, &self.work.memory);
            if waiting > 0
                && (self.shared.reading.has_more() | self.work.memory.saw(waiting, self.appetite.size()))
            {
                (self.tell)(LaneMessage::Crowded);
            }
            return false;
        };
        let (taken, _) = self.shared.take(queue, most, &mut self.appetite, &self.work.memory, self.tell);
        let moved = taken.batch.is_some() || taken.end.is_some();
        let mut fresh = std::mem::take(&mut self.fresh);
        // Some were read before.
        let mut is_again = false;
        // How many of them follow each other without one that is finished already.
        let mut in_a_row = usize::MAX;
        {
            let mut progress = self.shared.progress();
            for ticket in self.done.drain(..) {
                progress.tracker.finish(ticket);
            }
            if let Some(batch) = &taken.batch {
                for index in 0..batch.len() {
                    let position = batch.position(index);
                    let Some(ticket) = progress.tracker.deliver(position.offset, position.leader_epoch)
                    else {
                        is_again = true;
                        continue;
                    };
                    if self.finished.is_some() && Finished::take(&mut self.finished, position) {
                        progress.tracker.finish(ticket);
                        if !fresh.is_empty() {
                            in_a_row = in_a_row.min(fresh.len());
                        }
                        continue;
                    }
                    fresh.push((index, ticket));
                }
            }
            self.last = fresh.last().map(|(_, ticket)| *ticket).or(self.last);
            self.shared.begin_batch(&mut progress, fresh.first().map(|(_, ticket)| *ticket));
            if let Some(end) = taken.end {
                progress.tracker.read_up_to(end);
            }
        }
        if let Some(batch) = &taken.batch
            && self.aside.reads_again()
        {
            self.take_again(batch, is_again);
        }
        if let Some(batch) = &taken.batch {
            batch.lend(fresh.len(), |lent| self.admit(batch, lent, &fresh, in_a_row));
        }
        fresh.clear();
        self.fresh = fresh;
        if let Some(error) = taken.error {
            (self.tell)(LaneMessage::QueueFailed(self.shared.id.clone(), error));
            // What was read finishes; the lane is told to end, and is opened again.
            self.has_ended = true;
        }
        moved
    }

    fn admit(
        &mut self,
        batch: &Batch,
        lent: &mut LentRecords<'_, '_>,
        fresh: &[(usize, Ticket)],
        row: usize,
    ) {
        if self.delayed.is_some() {
            return self.delay(batch, fresh);
        }
        // Records that finish one after the other, from the first on, are published as they do.
        let mut in_a_row = true;
        // What waits, also in a handler, keeps all that it was fetched with in memory: then it is copied out first.
        // It is not where handlers are ready at once, here and in all lanes.
        let copies = self.ready_calls < PROVEN_READY || !self.work.memory.is_empty();
        for (number, &(index, ticket)) in fresh.iter().enumerate() {
            in_a_row &= number < row;
            if self.has_ended || self.shared.order() != Order::Run {
                return;
            }
            let Some(mut record) = lent.record(index) else { return };
            if copies {
                record = record.detached();
            }
            let is_idle = !self.takes_batches
                && match self.work.with_key(&record, |key| self.schedule.is_idle(key)) {
                    Ok(is_idle) => is_idle,
                    Err(panic) => return self.key_failed(&record, &panic),
                };
            let may_run = is_idle && !self.shared.is_paused();
            let is_counted = may_run && self.has_room() && self.quota.is_none_or(Quota::take);
            if !is_counted {
                in_a_row = false;
                let (key, bytes, now) = (record.clone(), record.size(), self.now);
                let item = Item { record, ticket, is_counted: false, tried: None };
                self.held.bytes += item.cost();
                if let Err(panic) = self.work.with_key(&key, |key| self.schedule.push(key, item, bytes, now))
                {
                    return self.key_failed(&key, &panic);
                }
                continue;
            }
            let again = copies.then(|| record.clone());
            let begun = self.poll_first(Job::One(record), 1);
            if let Ok(None) = begun {
                self.was_ready();
                self.count_finished();
                self.has_succeeded();
                self.finished_here += 1;
                if in_a_row {
                    self.shared.finished_at_once();
                } else {
                    self.done.push(ticket);
                }
                continue;
            }
            in_a_row = false;
            let Some(record) = again.or_else(|| batch.record(index)) else { return };
            let place = self.occupy(&record);
            let item = Item { record, ticket, is_counted: self.quota.is_some(), tried: None };
            self.held.bytes += item.cost();
            match begun {
                Ok(answer) => {
                    self.was_ready();
                    self.complete(item, place, outcome_of(answer).one());
                }
                Err(at) => self.remember(at, Unit::One(item, place)),
            }
        }
    }

    /// Nothing can be said of a record's order: the lane is opened again, from its first unfinished record on.
    pub(super) fn key_failed(&mut self, record: &Record, panic: &str) {
        let what = format!("{} at offset {}", self.shared.id.partition, record.offset());
        let error =
            FetchError::new(FetchErrorKind::Other, format!("{what}: the key function panicked: {panic}"));
        (self.tell)(LaneMessage::QueueFailed(self.shared.id.clone(), error));
        self.has_ended = true;
    }

    fn occupy(&mut self, record: &Record) -> Place {
        // It has told a key of this record before.
        self.work.with_key(record, |key| self.schedule.occupy(key)).unwrap_or(Place::FREE)
    }

    /// Room for one more call.
    #[inline]
    fn has_room(&mut self) -> bool {
        let limit = &self.work.limit;
        let has_some = self.room > 0 && self.running < limit.per_lane() && !limit.is_over();
        if has_some && !self.told_lack && self.storm.is_none() {
            (self.is_starved, self.lacks_room, self.leaves_room) = (false, false, false);
            return true;
        }
        self.look_for_room()
    }

    fn look_for_room(&mut self) -> bool {
        if self.storm.as_ref().is_some_and(|storm| self.now < storm.until) {
            (self.is_starved, self.lacks_room, self.leaves_room) = (false, false, false);
            return false;
        }
        if self.work.limit.is_over() {
            self.work.limit.give_back(std::mem::take(&mut self.room));
        }
        let is_below = self.running < self.work.limit.per_lane();
        // I8: handlers that take very long are not to keep the others of the lane from theirs.
        let is_short =
            is_below && !self.gave && self.running.saturating_sub(self.long_calls) < self.share.max(1);
        let may_take = is_short || is_below && !self.gave && !self.work.limit.is_wanted();
        if self.room == 0 && may_take {
            self.room = self.work.limit.take(1);
        }
        // Also where this lane has its share: that may be changed while nothing else happens.
        self.is_starved = self.room == 0 || !is_below;
        self.lacks_room = self.is_starved && is_short;
        self.leaves_room = self.is_starved && is_below && !may_take;
        if self.room > 0 && self.told_lack {
            self.told_lack = false;
            self.work.limit.is_short(false);
        }
        !self.is_starved
    }

    /// How many calls go on at once here, as long as all lanes have their share of the room.
    fn at_once(&self) -> usize {
        self.share.min(self.work.limit.per_lane()).max(self.running + self.room).max(1)
    }

    /// Counts a record among those that are handed out, where their number is limited.
    fn count(&mut self, item: &mut Item) -> bool {
        if let (Some(quota), false) = (self.quota, item.is_counted) {
            item.is_counted = quota.take();
            return item.is_counted;
        }
        true
    }

    /// Begins a job of so many records; for the handler there must be room, which is taken when it turns out that it waits.
    /// Then it answers in which slot.
    fn poll_first(&mut self, job: Job, count: usize) -> Result<Answer, u32> {
        if let Some(storm) = &mut self.storm
            && !matches!(job, Job::Letter(_))
        {
            storm.until = self.now.saturating_add(self.work.failures.longest);
        }
        self.shared.set_in_flight((self.in_flight + count) as u64);
        self.slots.start((self.attempt)(job))
    }

    /// A call of the handler was ready at its first poll, and leaves its room.
    fn was_ready(&mut self) {
        self.ready_calls = self.ready_calls.saturating_add(1);
        self.ready_in_turn += 1;
        // Handing room over costs more than a call that is ready at once: some of those go on in the same.
        if self.ready_in_turn.is_multiple_of(READY_BEFORE_OTHERS) {
            self.room -= 1;
            self.leave_room();
        }
    }

    /// What was begun, and waited, has returned.
    fn has_returned(&mut self, unit: &Unit) {
        self.in_flight -= unit.len();
        if !unit.is_letter() {
            self.running -= 1;
            self.leave_room();
        }
    }

    /// A call leaves its room, to this lane or to others.
    fn leave_room(&mut self) {
        // I8: a lane with much to do would else keep its room for ever, beside others that have none.
        if self.work.limit.is_wanted() && self.running + self.room >= self.share {
            self.gave = true;
            self.work.limit.give_back(1);
        } else {
            self.room += 1;
        }
    }

    pub(super) fn start(&mut self, job: Job, unit: Unit) {
        match self.poll_first(job, unit.len()) {
            Err(at) => self.remember(at, unit),
            Ok(outcome) => {
                if !unit.is_letter() {
                    self.was_ready();
                }
                self.over(unit, outcome);
            }
        }
    }

    /// What was begun waits in a slot.
    fn remember(&mut self, at: u32, unit: Unit) {
        self.in_flight += unit.len();
        if !unit.is_letter() {
            self.room -= 1;
            self.running += 1;
        }
        let at = at as usize;
        if self.calls.len() <= at {
            self.calls.resize_with(at + 1, || None);
        }
        self.calls[at] = Some(Call { unit, since: self.now, told: 0, is_stalled: false });
        self.ready_calls = 0;
    }

    fn over(&mut self, unit: Unit, answer: Answer) {
        let outcome = outcome_of(answer);
        match unit {
            Unit::Letter(item, place) => self.finish(&item, place),
            Unit::One(item, place) => self.complete(item, place, outcome.one()),
            Unit::Many(items) => {
                let outcomes = outcome.each(items.len());
                for ((item, place), outcome) in items.into_iter().zip(outcomes) {
                    self.complete(item, place, outcome);
                }
            }
        }
    }

    fn count_finished(&self) {
        if self.quota.is_some_and(Quota::finish) {
            (self.tell)(LaneMessage::CountReached);
        }
    }

    pub(super) fn finish(&mut self, item: &Item, place: Place) {
        self.held.bytes -= item.cost();
        self.finished_here += 1;
        self.done.push(item.ticket);
        self.count_finished();
        self.schedule.done(place, self.at_once(), self.now);
    }

    /// Bytes of what waits for something else, about.
    pub(super) fn waits(&self) -> u64 {
        let (records, bytes) = self.schedule.blocked();
        (bytes + self.schedule.waiting_bytes()) as u64
            + self.aside.again_bytes()
            + (records + self.schedule.waiting()) as u64 * COPIED
    }

    /// Publishes what was done in this turn.
    fn settle(&mut self) {
        if !self.done.is_empty() {
            let mut progress = self.shared.progress();
            for ticket in self.done.drain(..) {
                progress.tracker.finish(ticket);
            }
        }
        if let Some(guard) = &self.work.guard
            && self.succeeded > 0
        {
            guard.fill(std::mem::take(&mut self.succeeded));
        }
        self.shared.set_in_flight(self.in_flight as u64);
        let (delayed, delayed_bytes) = self.delayed.as_ref().map_or((0, 0), Delayed::held);
        self.shared.set_waiting((self.schedule.waiting() + delayed) as u64);
        self.held.waiting = self.waits() + delayed_bytes;
        if self.held != self.told {
            self.work.memory.hold(self.told, self.held);
            self.told = self.held;
        }
        (self.gave, self.ready_in_turn) = (false, 0);
        let could_run = self.schedule.runnable() + self.schedule.blocked().0 - self.schedule.held_up();
        let waiting = could_run.min(self.work.read_ahead * MOST_BEHIND) as u64;
        self.work.limit.wait(self.told_waiting, waiting);
        self.told_waiting = waiting;
        if self.lacks_room != self.told_lack {
            self.told_lack = self.lacks_room;
            self.work.limit.is_short(self.lacks_room);
        }
        if std::mem::take(&mut self.was_freed) && self.leaves_room {
            // It was woken for what is for others.
            self.work.limit.freed.notify_one();
        }
        // Others may need it.
        self.work.limit.give_back(std::mem::take(&mut self.room));
        if self.now >= self.next_look {
            self.next_look = self.now + LOOK;
            self.look_around();
        }
    }

    /// Copies records that have waited for a while out of what they were fetched with, and tells of handlers that
    /// take very long.
    fn look_around(&mut self) {
        if let Some(before) = self.looked_at {
            let held = &mut self.held;
            self.schedule.for_each(|item| {
                if item.ticket <= before {
                    item.detach(held);
                }
            });
        }
        self.looked_at = self.last;
        self.look_at_long_calls();
        self.tell_that_it_stands();
    }

    fn tell_that_it_stands(&mut self) {
        let (waits, most) = (self.waits(), self.work.memory.most_waiting());
        if let Some((since, is_told @ false)) = &mut self.stands
            && self.now >= *since + STANDING
        {
            *is_told = true;
            let partition = &self.shared.id.partition;
            (self.tell)(LaneMessage::Told(format!(
                "{partition}: nothing more is read for now: what waits for its next try, or behind a record that does, \
                 takes {waits} bytes, and the memory has room for {most} of that; give more memory"
            )));
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) {
        // Nothing runs that is to be looked at, and nothing is to be found but a wake-up that was lost.
        let is_idle = self.in_flight == 0
            && self.schedule.runnable() == 0
            && self.schedule.due().is_none()
            && self.parked.is_empty()
            && !self.is_short
            && !self.is_starved;
        let mut until = self.now + FALLBACK_TICK * if is_idle { self.idle_ticks } else { 1 };
        let is_paused = self.shared.is_paused();
        if self.shared.order() == Order::Run && !self.has_ended && !is_paused {
            let batch = if self.takes_batches && self.schedule.runnable() > 0 {
                self.schedule.batch_due()
            } else {
                None
            };
            // What is due already and did not move waits for something else.
            let delayed = self.delayed.as_ref().and_then(Delayed::due);
            let storm = self.storm.as_ref().map(|storm| storm.until);
            let due = [self.schedule.due(), batch, delayed, storm].into_iter().flatten();
            let due = due.filter(|due| *due > self.now);
            until = due.fold(until, Duration::min);
        }
        let given_back =
            self.quota.filter(|_| !self.parked.is_empty() && !is_paused).map(|quota| &quota.given_back);
        let quota = async {
            match given_back {
                Some(given_back) => given_back.notified().await,
                None => std::future::pending().await,
            }
        };
        // The slow tick covers a wake-up that was lost (rust-rdkafka#840).
        tokio::select! {
            () = self.shared.wake.notified() => {}
            () = self.work.limit.freed.notified(), if self.is_starved && !self.leaves_room => self.was_freed = true,
            () = self.work.memory.freed.notified(), if self.is_short => {}
            () = quota => {}
            () = tokio::time::sleep_until((self.started + until).into()) => {
                self.idle_ticks = (self.idle_ticks + 1).min(MOST_IDLE_TICKS);
                return;
            }
        }
        self.idle_ticks = 1;
    }

    /// What is not finished when the lane ends is given back.
    fn let_go(&mut self) {
        self.cancel_calls();
        self.lacks_room = false;
        self.settle();
        if let Some(quota) = self.quota {
            // What is cancelled was handed out, too.
            let mut counted = self.in_flight;
            self.schedule.for_each(|item| counted += usize::from(item.is_counted));
            let parked = self.parked.iter().map(|(_, item)| item);
            counted += parked.chain(self.aside.wanted()).filter(|item| item.is_counted).count();
            (0..counted).for_each(|_| quota.give_back());
        }
        self.work.limit.give_back(self.running);
        self.work.limit.wait(self.told_waiting, 0);
        self.work.memory.hold(self.told, Held::default());
    }
}

/// So many calls in a row that are ready at once make a handler one that is.
const PROVEN_READY: u32 = 64;
/// So many of them go on in the same room, also where other lanes lack some.
const READY_BEFORE_OTHERS: usize = 32;
/// How many slow ticks at a time a lane sleeps that has been idle for as many.
const MOST_IDLE_TICKS: u32 = 5;
/// How many records behind each other count as one that could run beside others, at most.
const MOST_BEHIND: usize = 16;
/// How long a lane does not read for want of room for what waits before that is told.
const STANDING: Duration = Duration::from_secs(10);
/// How often a lane looks around.
pub(super) const LOOK: Duration = Duration::from_secs(1);
