//! A fetcher that delivers what a test wants, when it wants it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use laneway::fetcher::{FetchError, FetchErrorKind, Fetcher, FetcherEvent, PartitionQueue, Taken, Wake};
use laneway::{Batch, OwnedRecord, Position, TopicPartition};

/// Takes the place of a consumer's fetcher ([`laneway::Builder::fetcher`]). Clones share one script, so a test
/// keeps one and gives one away.
#[derive(Clone, Default)]
pub struct ScriptedFetcher {
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    queues: BTreeMap<TopicPartition, VecDeque<Item>>,
    wakes: BTreeMap<TopicPartition, Wake>,
    starts: Vec<(TopicPartition, Position)>,
    stops: Vec<TopicPartition>,
    forgotten: Vec<String>,
    events: Vec<FetcherEvent>,
    open: usize,
    refuse_starts: usize,
}

enum Item {
    /// Taken in one piece.
    Batch(Vec<OwnedRecord>, Option<i64>),
    Error(FetchErrorKind),
}

struct ScriptedQueue {
    script: Arc<Mutex<Script>>,
    partition: TopicPartition,
}

impl ScriptedFetcher {
    /// One with nothing in its script.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that the partition's lane takes at once; `end` is the log's end, if that is reached behind
    /// them.
    pub fn deliver(
        &self,
        partition: &TopicPartition,
        offsets: impl IntoIterator<Item = i64>,
        end: Option<i64>,
    ) {
        let record = |offset| OwnedRecord {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            offset,
            ..OwnedRecord::default()
        };
        self.deliver_records(partition, offsets.into_iter().map(record).collect(), end);
    }

    /// Like [`ScriptedFetcher::deliver`], with records as they are given.
    pub fn deliver_records(&self, partition: &TopicPartition, records: Vec<OwnedRecord>, end: Option<i64>) {
        self.put(partition, Item::Batch(records, end));
    }

    /// The partition's queue fails, behind what was delivered.
    pub fn fail(&self, partition: &TopicPartition, kind: FetchErrorKind) {
        self.put(partition, Item::Error(kind));
    }

    /// A record goes round its partition's queue.
    pub fn stray(&self, partition: &TopicPartition, offset: i64) {
        self.script().events.push(FetcherEvent::Stray { partition: partition.clone(), offset });
    }

    /// The next `times` starts are refused.
    pub fn refuse_starts(&self, times: usize) {
        self.script().refuse_starts = times;
    }

    /// Where partitions were started, in order.
    pub fn starts(&self) -> Vec<(TopicPartition, Position)> {
        self.script().starts.clone()
    }

    /// Which partitions were stopped, in order.
    pub fn stops(&self) -> Vec<TopicPartition> {
        self.script().stops.clone()
    }

    /// Which topics it was told to forget, in order. All that it fetches is to be started again then.
    pub fn forgotten(&self) -> Vec<String> {
        self.script().forgotten.clone()
    }

    /// Queues that are held by lanes now.
    pub fn open_queues(&self) -> usize {
        self.script().open
    }

    fn put(&self, partition: &TopicPartition, item: Item) {
        let wake = {
            let mut script = self.script();
            script.queues.entry(partition.clone()).or_default().push_back(item);
            script.wakes.get(partition).cloned()
        };
        if let Some(wake) = wake {
            wake();
        }
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetcher for ScriptedFetcher {
    fn start(
        &mut self,
        partition: &TopicPartition,
        from: Position,
        wake: Wake,
    ) -> Result<Box<dyn PartitionQueue>, FetchError> {
        let mut script = self.script();
        if script.refuse_starts > 0 {
            script.refuse_starts -= 1;
            return Err(FetchError::new(
                FetchErrorKind::Other,
                format!("{partition}: refused by the script"),
            ));
        }
        script.starts.push((partition.clone(), from));
        script.wakes.insert(partition.clone(), wake);
        script.open += 1;
        Ok(Box::new(ScriptedQueue { script: self.script.clone(), partition: partition.clone() }))
    }

    fn stop(&mut self, partitions: &[TopicPartition]) -> Result<(), FetchError> {
        let mut script = self.script();
        for partition in partitions {
            script.wakes.remove(partition);
        }
        script.stops.extend_from_slice(partitions);
        Ok(())
    }

    fn forget(&mut self, topics: &BTreeSet<String>) -> BTreeSet<TopicPartition> {
        let mut script = self.script();
        script.forgotten.extend(topics.iter().cloned());
        script.wakes.keys().cloned().collect()
    }

    fn fetching(&self) -> Vec<TopicPartition> {
        self.script().wakes.keys().cloned().collect()
    }

    fn poll(&mut self) -> Vec<FetcherEvent> {
        std::mem::take(&mut self.script().events)
    }
}

impl PartitionQueue for ScriptedQueue {
    fn take(&mut self, _: usize) -> Taken {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Taken::default();
        match script.queues.get_mut(&self.partition).and_then(VecDeque::pop_front) {
            Some(Item::Batch(records, end)) => {
                taken.batch = (!records.is_empty()).then(|| Batch::from_owned(records));
                taken.end = end;
            }
            Some(Item::Error(kind)) => {
                taken.error =
                    Some(FetchError::new(kind, format!("{}: failed by the script", self.partition)));
            }
            None => {}
        }
        taken
    }
}

impl Drop for ScriptedQueue {
    fn drop(&mut self) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).open -= 1;
    }
}

impl fmt::Debug for ScriptedFetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedFetcher").finish_non_exhaustive()
    }
}
