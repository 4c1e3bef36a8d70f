//! Which record may run next: queues of records that must keep their order, made and dropped as needed.
//!
//! A record's *queue* is its partition's, its key's, or none at all. Of one queue nothing runs before what is
//! ahead of it has finished; queues know nothing of each other. A record that failed keeps its place: it waits
//! at the head of its queue until it is due.

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

/// Where a record that runs belongs: needed to say that it has finished, or must run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(Option<u32>);

impl Place {
    /// Of a record that has no queue.
    pub const FREE: Self = Self(None);
}

/// How records are put together where they are handled several at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Records of a batch, at most.
    pub records: usize,
    /// Bytes of a batch, at most; a single record may have more.
    pub bytes: usize,
    /// How long the first record of a batch waits for others.
    pub linger: Duration,
    /// All records of a batch are of one queue.
    pub one_key: bool,
}

/// Records that are to run, in an order that keeps each queue's.
///
/// Everything takes constant time, amortised, apart from waits, which take the logarithm of their number.
/// Memory is that of the records in it, and of the queues that have any or run any.
#[derive(Debug)]
pub struct Schedule<T> {
    keys: HashMap<Box<[u8]>, u32>,
    queues: Vec<Queue<T>>,
    free: Vec<u32>,
    ready: VecDeque<Ready<T>>,
    /// How many of those there stand for a queue that went on without its turn.
    stale: usize,
    /// Queues with a whole batch, where batches are of one queue.
    full: VecDeque<(u32, u64)>,
    waits: BinaryHeap<Wait<T>>,
    /// The queue that had most in it, of those that were looked at.
    longest: u32,
    limits: BatchLimits,
    last_token: u64,
    /// What could run now.
    runnable: usize,
    runnable_bytes: usize,
    /// What waits for the head of its queue, which runs or waits itself.
    blocked: usize,
    blocked_bytes: usize,
    waiting: usize,
    waiting_bytes: usize,
    /// What is blocked by a record that waits.
    held_up: usize,
}

#[derive(Debug)]
struct Queue<T> {
    key: Box<[u8]>,
    pending: VecDeque<(T, usize)>,
    bytes: usize,
    /// Those that are to run again, before all others, when they are due.
    again: VecDeque<(T, usize)>,
    due: Duration,
    is_waiting: bool,
    /// How many of it run.
    busy: u32,
    /// It is in `ready` under this token.
    ready: Option<u64>,
}

#[derive(Debug)]
struct Ready<T> {
    what: What<T>,
    since: Duration,
}

#[derive(Debug)]
enum What<T> {
    Lone(T, usize),
    Queue(u32, u64),
}

#[derive(Debug)]
struct Wait<T> {
    due: Duration,
    order: u64,
    what: What<T>,
}

impl<T> Schedule<T> {
    /// An empty schedule.
    pub fn new(limits: BatchLimits) -> Self {
        Self {
            keys: HashMap::new(),
            queues: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            stale: 0,
            full: VecDeque::new(),
            waits: BinaryHeap::new(),
            longest: 0,
            limits,
            last_token: 0,
            runnable: 0,
            runnable_bytes: 0,
            blocked: 0,
            blocked_bytes: 0,
            waiting: 0,
            waiting_bytes: 0,
            held_up: 0,
        }
    }

    /// Whether a record of this queue could run at once, with nothing ahead of it.
    pub fn is_idle(&self, key: Option<&[u8]>) -> bool {
        self.ready.is_empty() && key.is_none_or(|key| self.keys.is_empty() || !self.keys.contains_key(key))
    }

    /// Notes that a record of an idle queue is running.
    pub fn occupy(&mut self, key: Option<&[u8]>) -> Place {
        let Some(key) = key else { return Place::FREE };
        let queue = self.queue(key);
        self.queues[queue as usize].busy += 1;
        Place(Some(queue))
    }

    /// Adds a record at the end of its queue; `None`: it has none, and may run at any time.
    pub fn push(&mut self, key: Option<&[u8]>, item: T, bytes: usize, now: Duration) {
        let Some(key) = key else {
            self.runnable += 1;
            self.runnable_bytes += bytes;
            self.ready.push_back(Ready { what: What::Lone(item, bytes), since: now });
            return;
        };
        let at = self.queue(key);
        let queue = &mut self.queues[at as usize];
        queue.pending.push_back((item, bytes));
        queue.bytes += bytes;
        if queue.busy > 0 || queue.is_waiting {
            self.blocked += 1;
            self.blocked_bytes += bytes;
            self.held_up += usize::from(queue.is_waiting);
            return;
        }
        self.runnable += 1;
        self.runnable_bytes += bytes;
        match queue.ready {
            None => self.make_ready(at, now),
            Some(token) => {
                self.look_at_length(at);
                if self.limits.one_key && self.is_full(at) {
                    self.full.push_back((at, token));
                }
            }
        }
    }

    /// The next record that may run. `at_once` is how many may, it and those that run already included.
    ///
    /// That is the first one that could, but for a queue that takes longer by itself than everything that there is, spread
    /// over all that run at once: whenever such a one waits for others, all are through later. There are never as many of
    /// those as may run at once, unless there is nothing else, so the others go on beside them.
    pub fn take(&mut self, at_once: usize) -> Option<(Place, T)> {
        if self.is_long(self.longest, at_once)
            && let Some(token) = self.queues[self.longest as usize].ready
            && let Some(taken) = self.open(self.longest, token)
        {
            self.stale += 1;
            self.drop_stale();
            return Some(taken);
        }
        loop {
            let next = self.ready.pop_front()?;
            match next.what {
                What::Lone(item, bytes) => {
                    self.took(bytes);
                    return Some((Place::FREE, item));
                }
                What::Queue(at, token) => {
                    if let Some(taken) = self.open(at, token) {
                        return Some(taken);
                    }
                    self.stale = self.stale.saturating_sub(1);
                }
            }
        }
    }

    /// The next batch, if there is a whole one, or one that has lingered long enough.
    pub fn take_batch(&mut self, now: Duration) -> Option<Vec<(Place, T)>> {
        if self.limits.one_key {
            while let Some((at, token)) = self.full.pop_front() {
                if let Some(batch) = self.batch_of(at, token) {
                    return Some(batch);
                }
            }
            while let Some(first) = self.ready.front() {
                if let What::Queue(at, token) = first.what
                    && self.queues[at as usize].ready != Some(token)
                {
                    self.ready.pop_front();
                    continue;
                }
                let due = first.since.saturating_add(self.limits.linger);
                return if now < due { None } else { self.take_rest() };
            }
            return None;
        }
        let is_whole = self.runnable >= self.limits.records || self.runnable_bytes >= self.limits.bytes;
        if !is_whole && self.batch_due().is_none_or(|due| now < due) {
            return None;
        }
        self.mixed_batch()
    }

    /// A batch of what could run now, whether or not it is whole.
    pub fn take_rest(&mut self) -> Option<Vec<(Place, T)>> {
        if !self.limits.one_key {
            return self.mixed_batch();
        }
        while let Some(next) = self.ready.pop_front() {
            match next.what {
                What::Lone(item, bytes) => {
                    self.took(bytes);
                    return Some(vec![(Place::FREE, item)]);
                }
                What::Queue(at, token) => {
                    if let Some(batch) = self.batch_of(at, token) {
                        return Some(batch);
                    }
                }
            }
        }
        None
    }

    fn mixed_batch(&mut self) -> Option<Vec<(Place, T)>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.ready.pop_front() {
            let since = next.since;
            match next.what {
                What::Lone(item, size) => {
                    if !self.fits(batch.len(), bytes, size) {
                        self.ready.push_front(Ready { what: What::Lone(item, size), since });
                        break;
                    }
                    bytes += size;
                    self.took(size);
                    batch.push((Place::FREE, item));
                }
                What::Queue(at, token) => {
                    let queue = &self.queues[at as usize];
                    if queue.ready != Some(token) {
                        continue;
                    }
                    let first = queue.pending.front().map_or(0, |(_, size)| *size);
                    if !self.fits(batch.len(), bytes, first) {
                        self.ready.push_front(Ready { what: What::Queue(at, token), since });
                        break;
                    }
                    bytes = self.fill(at, &mut batch, bytes);
                }
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    fn batch_of(&mut self, at: u32, token: u64) -> Option<Vec<(Place, T)>> {
        if self.queues[at as usize].ready != Some(token) {
            return None;
        }
        let mut batch = Vec::new();
        self.fill(at, &mut batch, 0);
        Some(batch)
    }

    /// Moves as many records of a ready queue to `batch` as it has room for. Answers its bytes.
    fn fill(&mut self, at: u32, batch: &mut Vec<(Place, T)>, mut bytes: usize) -> usize {
        self.queues[at as usize].ready = None;
        while let Some((_, size)) = self.queues[at as usize].pending.front() {
            let size = *size;
            if !self.fits(batch.len(), bytes, size) {
                break;
            }
            let queue = &mut self.queues[at as usize];
            let Some((item, _)) = queue.pending.pop_front() else { break };
            queue.bytes -= size;
            queue.busy += 1;
            bytes += size;
            self.took(size);
            batch.push((Place(Some(at)), item));
        }
        self.block_rest(at);
        bytes
    }

    fn fits(&self, records: usize, bytes: usize, more: usize) -> bool {
        records == 0 || (records < self.limits.records && bytes.saturating_add(more) <= self.limits.bytes)
    }

    /// When the batch that is being put together has lingered long enough.
    pub fn batch_due(&self) -> Option<Duration> {
        self.ready
            .iter()
            .find(|ready| is_current(&self.queues, ready))
            .map(|first| first.since.saturating_add(self.limits.linger))
    }

    /// A record that ran has finished: its queue goes on, or is dropped if there is nothing more in it. `at_once` as in
    /// [`take`](Self::take).
    pub fn done(&mut self, place: Place, at_once: usize, now: Duration) {
        let Place(Some(at)) = place else { return };
        self.queues[at as usize].busy -= 1;
        self.go_on(at, now);
        if self.is_long(at, at_once)
            && let Some(next) = self.ready.pop_back()
        {
            self.ready.push_front(next);
        }
    }

    /// Whether a queue that is ready takes longer by itself than everything, spread over all that run at once.
    fn is_long(&self, at: u32, at_once: usize) -> bool {
        let is_one_by_one = self.limits.records == 1;
        let queue = self.queues.get(at as usize).filter(|queue| is_one_by_one && queue.ready.is_some());
        queue.is_some_and(|queue| queue.pending.len().saturating_mul(at_once) >= self.runnable + self.blocked)
    }

    /// Drops what is stale at the front, and all of it where it is most of what is there.
    fn drop_stale(&mut self) {
        let queues = &self.queues;
        let is_stale = |ready: &Ready<T>| !is_current(queues, ready);
        while self.ready.front().is_some_and(is_stale) {
            self.ready.pop_front();
            self.stale = self.stale.saturating_sub(1);
        }
        if self.stale > self.ready.len() / 2 {
            self.ready.retain(|ready| !is_stale(ready));
            self.stale = 0;
        }
    }

    fn look_at_length(&mut self, at: u32) {
        let length = |at: u32| self.queues.get(at as usize).map_or(0, |queue| queue.pending.len());
        if length(at) > length(self.longest) {
            self.longest = at;
        }
    }

    /// A record that ran must run again, at `due`, before anything behind it in its queue. Of one batch they are
    /// told in their order.
    pub fn retry(&mut self, place: Place, item: T, bytes: usize, due: Duration) {
        self.waiting += 1;
        self.waiting_bytes += bytes;
        let Place(Some(at)) = place else {
            self.wait(due, What::Lone(item, bytes));
            return;
        };
        let queue = &mut self.queues[at as usize];
        queue.again.push_back((item, bytes));
        queue.due = queue.due.max(due);
        queue.busy -= 1;
        self.go_on(at, due);
    }

    /// A record that was taken, behind another one of its queue that runs, goes back to the head of it. Several are told
    /// from the last one on.
    pub fn put_back(&mut self, place: Place, item: T, bytes: usize) {
        let Place(Some(at)) = place else { return };
        let queue = &mut self.queues[at as usize];
        queue.pending.push_front((item, bytes));
        queue.bytes += bytes;
        queue.busy -= 1;
        self.blocked += 1;
        self.blocked_bytes += bytes;
    }

    /// When the next record that waits is due.
    pub fn due(&self) -> Option<Duration> {
        self.waits.peek().map(|wait| wait.due)
    }

    /// Lets run again what is due.
    pub fn release(&mut self, now: Duration) {
        while self.waits.peek().is_some_and(|wait| wait.due <= now) {
            let Some(Wait { what, .. }) = self.waits.pop() else { return };
            // It has lingered already.
            let since = now.saturating_sub(self.limits.linger);
            match what {
                What::Lone(item, bytes) => {
                    self.waiting -= 1;
                    self.waiting_bytes -= bytes;
                    self.runnable += 1;
                    self.runnable_bytes += bytes;
                    self.ready.push_back(Ready { what: What::Lone(item, bytes), since });
                }
                What::Queue(at, _) => {
                    let queue = &mut self.queues[at as usize];
                    queue.is_waiting = false;
                    let (records, bytes) = (queue.pending.len(), queue.bytes);
                    self.waiting -= queue.again.len();
                    while let Some((item, bytes)) = queue.again.pop_back() {
                        self.waiting_bytes -= bytes;
                        queue.bytes += bytes;
                        queue.pending.push_front((item, bytes));
                    }
                    self.blocked -= records;
                    self.blocked_bytes -= bytes;
                    self.held_up -= records;
                    self.runnable += queue.pending.len();
                    self.runnable_bytes += queue.bytes;
                    self.make_ready(at, since);
                }
            }
        }
    }

    fn wait(&mut self, due: Duration, what: What<T>) {
        self.last_token += 1;
        self.waits.push(Wait { due, order: self.last_token, what });
    }

    /// Records that could run now.
    pub fn runnable(&self) -> usize {
        self.runnable
    }

    /// Records that could run side by side now, where they are not put together.
    pub fn side_by_side(&self) -> usize {
        self.ready.len() - self.stale.min(self.ready.len())
    }

    /// How batches are put together.
    pub fn limits(&self) -> BatchLimits {
        self.limits
    }

    /// Records that wait for one ahead of them in their queue, and their bytes.
    pub fn blocked(&self) -> (usize, usize) {
        (self.blocked, self.blocked_bytes)
    }

    /// How many of those wait for one that waits to run again.
    pub fn held_up(&self) -> usize {
        self.held_up
    }

    /// Records that wait to run again.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes of the records that wait to run again.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Queues that there are now.
    pub fn queues(&self) -> usize {
        self.keys.len()
    }

    /// Visits every record that is held, and does not run.
    pub fn for_each(&mut self, mut visit: impl FnMut(&mut T)) {
        for ready in &mut self.ready {
            if let What::Lone(item, _) = &mut ready.what {
                visit(item);
            }
        }
        for queue in &mut self.queues {
            queue.again.iter_mut().chain(&mut queue.pending).for_each(|(item, _)| visit(item));
        }
        let mut waits = std::mem::take(&mut self.waits).into_vec();
        for wait in &mut waits {
            if let What::Lone(item, _) = &mut wait.what {
                visit(item);
            }
        }
        self.waits = waits.into();
    }

    /// Visits the records that wait to run again, or for one ahead of them, in the order of each queue. What is answered
    /// is what they have from now on, in bytes.
    pub fn lighten(&mut self, mut visit: impl FnMut(&mut T) -> usize) {
        let mut waits = std::mem::take(&mut self.waits).into_vec();
        let lone = waits.iter_mut().filter_map(|wait| match &mut wait.what {
            What::Lone(item, bytes) => Some((item, bytes)),
            What::Queue(..) => None,
        });
        let again = self.queues.iter_mut().flat_map(|queue| &mut queue.again);
        for (item, bytes) in lone.chain(again.map(|(item, bytes)| (item, bytes))) {
            let now = visit(item);
            self.waiting_bytes = self.waiting_bytes - *bytes + now;
            *bytes = now;
        }
        self.waits = waits.into();
        for queue in self.queues.iter_mut().filter(|queue| queue.busy > 0 || queue.is_waiting) {
            for (item, bytes) in &mut queue.pending {
                let now = visit(item);
                self.blocked_bytes = self.blocked_bytes - *bytes + now;
                queue.bytes = queue.bytes - *bytes + now;
                *bytes = now;
            }
        }
    }

    fn queue(&mut self, key: &[u8]) -> u32 {
        if let Some(at) = self.keys.get(key) {
            return *at;
        }
        let key: Box<[u8]> = key.into();
        let queue = Queue {
            key: key.clone(),
            pending: VecDeque::new(),
            bytes: 0,
            again: VecDeque::new(),
            due: Duration::ZERO,
            is_waiting: false,
            busy: 0,
            ready: None,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.queues[at as usize] = queue;
                at
            }
            None => {
                self.queues.push(queue);
                u32::try_from(self.queues.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.keys.insert(key, at);
        at
    }

    /// Takes the first record of a queue that is ready under `token`.
    fn open(&mut self, at: u32, token: u64) -> Option<(Place, T)> {
        let queue = &mut self.queues[at as usize];
        if queue.ready != Some(token) {
            return None;
        }
        queue.ready = None;
        let (item, bytes) = queue.pending.pop_front()?;
        queue.bytes -= bytes;
        queue.busy += 1;
        self.took(bytes);
        self.block_rest(at);
        Some((Place(Some(at)), item))
    }

    /// What is left in a queue of which something runs is blocked.
    fn block_rest(&mut self, at: u32) {
        let queue = &self.queues[at as usize];
        let (records, bytes) = (queue.pending.len(), queue.bytes);
        self.runnable -= records;
        self.runnable_bytes -= bytes;
        self.blocked += records;
        self.blocked_bytes += bytes;
    }

    fn took(&mut self, bytes: usize) {
        self.runnable -= 1;
        self.runnable_bytes -= bytes;
    }

    fn go_on(&mut self, at: u32, now: Duration) {
        let queue = &mut self.queues[at as usize];
        if queue.busy > 0 {
            return;
        }
        if !queue.again.is_empty() {
            queue.is_waiting = true;
            self.held_up += queue.pending.len();
            let due = std::mem::take(&mut queue.due);
            self.wait(due, What::Queue(at, 0));
            return;
        }
        if queue.pending.is_empty() {
            let key = std::mem::take(&mut queue.key);
            queue.pending = VecDeque::new();
            self.keys.remove(&key);
            self.free.push(at);
            if self.keys.is_empty() {
                self.queues.clear();
                self.free.clear();
                // What is left of them there is stale.
                self.ready.retain(|ready| matches!(ready.what, What::Lone(..)));
                self.stale = 0;
                self.full.clear();
            }
            return;
        }
        let (records, bytes) = (queue.pending.len(), queue.bytes);
        self.blocked -= records;
        self.blocked_bytes -= bytes;
        self.runnable += records;
        self.runnable_bytes += bytes;
        self.make_ready(at, now);
    }

    fn make_ready(&mut self, at: u32, now: Duration) {
        self.last_token += 1;
        let token = self.last_token;
        self.queues[at as usize].ready = Some(token);
        self.ready.push_back(Ready { what: What::Queue(at, token), since: now });
        self.look_at_length(at);
        if self.limits.one_key && self.is_full(at) {
            self.full.push_back((at, token));
        }
    }

    fn is_full(&self, at: u32) -> bool {
        let queue = &self.queues[at as usize];
        queue.pending.len() >= self.limits.records || queue.bytes >= self.limits.bytes
    }
}

/// Whether it still stands for something that could run.
fn is_current<T>(queues: &[Queue<T>], ready: &Ready<T>) -> bool {
    match ready.what {
        What::Lone(..) => true,
        What::Queue(at, token) => queues.get(at as usize).is_some_and(|queue| queue.ready == Some(token)),
    }
}

impl<T> PartialEq for Wait<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl<T> Eq for Wait<T> {}

impl<T> PartialOrd for Wait<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The greatest is the one that is due first; of those, the one that has waited longest.
impl<T> Ord for Wait<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.order).cmp(&(self.due, self.order))
    }
}

#[cfg(test)]
mod tests;
