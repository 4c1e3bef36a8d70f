//! A [`Fetcher`] on librdkafka: clients that never subscribe, told their partitions by hand.
//!
//! A librdkafka client has one request for records under way at each broker. It leaves out the partitions whose queues
//! are full, and waits at the broker until one of the others has something: so beside partitions without records, one
//! whose queue has just been emptied would get nothing for half a second. Where the wait is short there are requests
//! all the time. So there are two clients: one whose requests hardly wait, for what has much to read, and one for the
//! rest. Most of the time the first one has nothing to fetch, and asks for nothing.
//!
//! A client keeps the leader epochs of its topics for as long as it lives, and takes lower ones for old news, also those of
//! another topic of the same name (rdkafka_topic.c, `rd_kafka_toppar_leader_update`): it would go on asking with an epoch
//! that no broker knows. So a client that knows a topic that was made again is replaced.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use laneway_core::{Position, TopicPartition};

use super::stopped::Stopped;
use super::{
    FetchError, FetchErrorKind, FetchStart, Fetcher, FetcherEvent, PartitionQueue, Started, Taken, Wake,
    started,
};
use crate::client::Reaper;
use crate::record::Batch;
use crate::sys::{Client, KafkaError, NativeEvent, PartitionHandle, Queue, codes};

/// Fetches with native clients of its own.
pub(crate) struct NativeFetcher {
    busy: Source,
    /// For what brings little. Where there is none, the other one fetches everything.
    quiet: Option<Source>,
    /// Clients that were replaced, until nothing is left of them.
    former: Vec<Native>,
    reaper: Reaper,
}

/// A client that is made when it is needed, first or anew.
struct Source {
    native: Option<Native>,
    make: MakeClient,
}

/// A client, and what it delivers to nobody.
#[derive(Debug)]
struct Native {
    client: Arc<Client>,
    main: Queue,
    /// What it was told to fetch.
    fetches: BTreeSet<TopicPartition>,
    /// What it was told to stop fetching.
    stopped: Stopped,
    /// The topics that it knows: those that it was ever told to fetch anything of. `None`: all, as it looks for topics.
    topics: Option<BTreeSet<Arc<str>>>,
}

/// Makes a client that fetches.
pub(crate) type MakeClient = Box<dyn Fn() -> Result<Arc<Client>, String> + Send>;

/// The split queue of one partition, for one assignment of it.
#[derive(Debug)]
struct NativePartition {
    handle: PartitionHandle,
    /// An error ended the queue: what librdkafka fetched past it is not delivered.
    is_ended: bool,
}

impl NativeFetcher {
    /// Takes a client that nobody subscribes or assigns anything, and that looks for topics. It was made with
    /// `auto.offset.reset=error`, so that a reset is seen and not done, and `enable.partition.eof=true`; others like it
    /// are made with `make`.
    pub(crate) fn new(client: Arc<Client>, make: MakeClient, reaper: Reaper) -> Self {
        let first = Native::new(client, None);
        let busy = Source { native: Some(first), make };
        Self { busy, quiet: None, former: Vec::new(), reaper }
    }

    /// Has a second client, whose requests wait, for what brings little.
    pub(crate) fn with_quiet(self, make: MakeClient) -> Self {
        Self { quiet: Some(Source { native: None, make }), ..self }
    }

    fn clients(&self) -> impl Iterator<Item = &Native> {
        let sources = std::iter::once(&self.busy).chain(&self.quiet);
        sources.filter_map(|source| source.native.as_ref()).chain(&self.former)
    }

    /// Lets those go that were replaced and fetch nothing, and of which nobody has a queue or a record. The first one
    /// stays, as it is asked for topics and offsets.
    fn let_go(&mut self) {
        let (over, former) = std::mem::take(&mut self.former).into_iter().partition(Native::is_over);
        self.former = former;
        over.into_iter().for_each(|native: Native| self.reaper.take(native));
    }
}

impl Source {
    /// The client, made now if there is none.
    fn native(&mut self) -> Result<&mut Native, String> {
        match &mut self.native {
            Some(native) => Ok(native),
            none => Ok(none.insert(Native::new((self.make)()?, Some(BTreeSet::new())))),
        }
    }

    fn start_all(&mut self, starts: Vec<FetchStart>) -> Vec<(TopicPartition, Started)> {
        if starts.is_empty() {
            return Vec::new();
        }
        match self.native() {
            Ok(native) => native.start_all(starts),
            Err(error) => {
                let what = format!("a client that fetches could not be made: {error}");
                let refused = |start: FetchStart| {
                    (start.partition, Err(FetchError::new(FetchErrorKind::Other, what.clone())))
                };
                starts.into_iter().map(refused).collect()
            }
        }
    }
}

impl Native {
    fn new(client: Arc<Client>, topics: Option<BTreeSet<Arc<str>>>) -> Self {
        let main = client.consumer_queue();
        Self { client, main, fetches: BTreeSet::new(), stopped: Stopped::default(), topics }
    }

    fn knows(&self, topics: &BTreeSet<String>) -> bool {
        self.topics.as_ref().is_none_or(|known| known.iter().any(|topic| topics.contains(&**topic)))
    }

    fn is_over(&self) -> bool {
        // Each of the queues that are left has a reference.
        self.fetches.is_empty() && Arc::strong_count(&self.client) == OWN + self.stopped.len()
    }

    fn start_all(&mut self, starts: Vec<FetchStart>) -> Vec<(TopicPartition, Started)> {
        if let Some(topics) = &mut self.topics {
            topics.extend(starts.iter().map(|start| start.partition.topic.clone()));
        }
        starts.iter().for_each(|start| self.stopped.forget(&start.partition));
        let (validated, others): (Vec<_>, Vec<_>) = starts.into_iter().partition(is_validated);
        let mut all = self.start_alike(others);
        all.extend(self.start_alike(validated));
        self.fetches.extend(started(&all));
        all
    }

    /// Starts partitions that are all validated, or none of them is. The client takes all of them or none, so where it
    /// refuses they are assigned one by one: one that it refuses is to keep no other from its start.
    fn start_alike(&self, starts: Vec<FetchStart>) -> Vec<(TopicPartition, Started)> {
        let mut started = Vec::with_capacity(starts.len());
        let mut split = Vec::with_capacity(starts.len());
        for start in starts {
            // In this order: what is assigned before its queue is split is delivered to the main queue.
            match self.split(&start) {
                Ok(handle) => split.push((start, handle)),
                Err(error) => started.push(refused(start, &error)),
            }
        }
        let all = self.assign(split.iter().map(|(start, _)| start));
        let is_alone = split.len() == 1;
        for (start, handle) in split {
            let assigned = if all.is_ok() || is_alone { all.clone() } else { self.assign([&start]) };
            started.push(match assigned {
                Ok(()) => (start.partition, Ok(Box::new(NativePartition { handle, is_ended: false }))),
                Err(error) => refused(start, &error),
            });
        }
        started
    }

    fn split(&self, start: &FetchStart) -> Result<PartitionHandle, KafkaError> {
        if start.from.offset < 0 {
            // librdkafka takes negative numbers for words, such as "the end", and would decide by itself.
            return Err(KafkaError::new(codes::_INVALID_ARG, "an offset is not negative"));
        }
        let handle = self.client.partition_handle(&start.partition)?;
        handle.on_ready(start.wake.clone());
        Ok(handle)
    }

    fn assign<'a>(&self, starts: impl IntoIterator<Item = &'a FetchStart>) -> Result<(), KafkaError> {
        let mut validates = false;
        let position = |start: &FetchStart| {
            validates |= is_validated(start);
            (start.partition.clone(), start.from)
        };
        let positions: Vec<_> = starts.into_iter().map(position).collect();
        match validates {
            _ if positions.is_empty() => Ok(()),
            true => self.client.assign_validated(&positions),
            false => self.client.incremental_assign(&positions),
        }
    }

    /// The client stops all of them or none: where it refuses, they are stopped one by one. Tells of the first that could
    /// not be.
    fn stop(&mut self, partitions: &[TopicPartition]) -> Result<(), FetchError> {
        if partitions.is_empty() {
            return Ok(());
        }
        let mut left = Vec::with_capacity(partitions.len());
        for partition in partitions {
            if self.fetches.remove(partition)
                && let Ok(queue) = self.client.left_queue(partition)
            {
                left.push((partition.clone(), queue));
            }
        }
        if self.client.incremental_unassign(partitions).is_ok() {
            self.stopped.add(left, Instant::now());
            return Ok(());
        }
        let stop = |partition: &TopicPartition| {
            let stopped = self.client.incremental_unassign(std::slice::from_ref(partition));
            stopped
                .map_err(|error| fetch_error(&format!("{partition}: fetching could not be stopped"), &error))
        };
        // All of them, whatever becomes of one.
        partitions.iter().map(stop).fold(Ok(()), Result::and)
    }

    fn poll(&mut self) -> Vec<FetcherEvent> {
        let mut events = Vec::new();
        self.stopped.empty(Instant::now());
        while let Some(event) = self.main.poll() {
            match event {
                NativeEvent::Record(partition, offset) => {
                    events.push(FetcherEvent::Stray { partition, offset });
                }
                NativeEvent::RecordError(partition, error) if error.code != codes::_PARTITION_EOF => {
                    events.push(FetcherEvent::Error(fetch_error(&partition.to_string(), &error)));
                }
                NativeEvent::Error { error, .. } | NativeEvent::RebalanceError(error) => {
                    events.push(FetcherEvent::Error(FetchError::new(kind(error.code), error.message)));
                }
                NativeEvent::Statistics(json) => events.push(FetcherEvent::Statistics(json)),
                _ => {}
            }
        }
        events
    }
}

impl Fetcher for NativeFetcher {
    fn start(&mut self, partition: &TopicPartition, from: Position, wake: Wake) -> Started {
        let start = FetchStart { partition: partition.clone(), from, is_quiet: false, wake };
        let started = self.busy.start_all(vec![start]).pop();
        started
            .map_or_else(|| Err(FetchError::new(FetchErrorKind::Other, "it was not started")), |(_, it)| it)
    }

    fn start_all(&mut self, starts: Vec<FetchStart>) -> Vec<(TopicPartition, Started)> {
        let (quiet, busy): (Vec<_>, Vec<_>) = starts.into_iter().partition(|start| start.is_quiet);
        let mut started = self.busy.start_all(busy);
        started.extend(self.quiet.as_mut().unwrap_or(&mut self.busy).start_all(quiet));
        started
    }

    fn stop(&mut self, partitions: &[TopicPartition]) -> Result<(), FetchError> {
        let (mut left, mut stopped) = (partitions.to_vec(), Ok(()));
        let others = self.quiet.iter_mut().filter_map(|source| source.native.as_mut());
        for native in others.chain(&mut self.former) {
            let its;
            (its, left) = left.into_iter().partition(|partition| native.fetches.contains(partition));
            stopped = stopped.and(native.stop(&its));
        }
        let Some(native) = &mut self.busy.native else { return stopped };
        native.stop(&left).and(stopped)
    }

    fn fetching(&self) -> Vec<TopicPartition> {
        self.clients().flat_map(|native| native.client.assignment().unwrap_or_default()).collect()
    }

    fn poll(&mut self) -> Vec<FetcherEvent> {
        let sources = std::iter::once(&mut self.busy).chain(&mut self.quiet);
        let clients = sources.filter_map(|source| source.native.as_mut()).chain(&mut self.former);
        let events = clients.flat_map(Native::poll).collect();
        self.let_go();
        events
    }

    fn forget(&mut self, topics: &BTreeSet<String>) -> BTreeSet<TopicPartition> {
        let sources = std::iter::once(&mut self.busy).chain(&mut self.quiet);
        let knowing = sources.filter_map(|source| source.native.take_if(|native| native.knows(topics)));
        let knowing: Vec<Native> = knowing.collect();
        let moved = knowing.iter().flat_map(|native| native.fetches.clone()).collect();
        self.former.extend(knowing);
        moved
    }
}

impl PartitionQueue for NativePartition {
    fn take(&mut self, max: usize) -> Taken {
        if self.is_ended {
            return Taken::default();
        }
        let taken = self.handle.take(max);
        self.is_ended = taken.error.is_some();
        let error = taken.error.map(|(error, offset)| {
            let partition = self.handle.partition();
            let place = if offset < 0 { partition.to_string() } else { format!("{partition}@{offset}") };
            fetch_error(&place, &error)
        });
        let batch = taken.batch.map(Batch::from_native);
        Taken { batch, end: taken.end, is_last: taken.is_last, error }
    }

    fn waiting(&self) -> usize {
        self.handle.waiting()
    }
}

/// What was read up to where it starts may be in the log no more.
fn is_validated(start: &FetchStart) -> bool {
    start.from.leader_epoch.is_some() && start.from.offset > 0
}

fn refused(start: FetchStart, error: &KafkaError) -> (TopicPartition, Started) {
    let error = start_error(&start, error);
    (start.partition, Err(error))
}

fn start_error(start: &FetchStart, error: &KafkaError) -> FetchError {
    let FetchStart { partition, from, .. } = start;
    fetch_error(&format!("{partition}: the fetch at offset {} could not be started", from.offset), error)
}

fn fetch_error(what: &str, error: &KafkaError) -> FetchError {
    let kind = truncated_to(error).map_or_else(|| kind(error.code), FetchErrorKind::Truncated);
    FetchError::new(kind, format!("{what}: {error} ({})", error.name()))
}

/// Up to where the log still is what was read before, by the brokers' leader epochs. It stands only in the text of the
/// error (rdkafka_offset.c, `rd_kafka_toppar_handle_OffsetForLeaderEpoch`). Where the log has no such epoch at all, it is
/// another one: from its beginning.
fn truncated_to(error: &KafkaError) -> Option<i64> {
    let is_one = [codes::_AUTO_OFFSET_RESET, codes::_LOG_TRUNCATION].contains(&error.code)
        && ["log truncation detected", "No epoch found"].iter().any(|sign| error.message.contains(sign));
    let (_, end) = error.message.split_once("broker end offset is ").filter(|_| is_one)?;
    let end = end.split_once(' ')?.0.parse::<i64>().ok()?;
    Some(end.max(0))
}

fn kind(code: i32) -> FetchErrorKind {
    match code {
        // With `auto.offset.reset=error` both come as the first one.
        codes::_AUTO_OFFSET_RESET | codes::OFFSET_OUT_OF_RANGE | codes::_LOG_TRUNCATION => {
            FetchErrorKind::OffsetOutOfRange
        }
        // An unknown "magic" is told as not implemented, and a batch that ends too soon as an underflow.
        codes::_BAD_MSG
        | codes::_BAD_COMPRESSION
        | codes::_NOT_IMPLEMENTED
        | codes::_UNDERFLOW
        | codes::CORRUPT_MESSAGE => FetchErrorKind::Damaged,
        codes::UNKNOWN_TOPIC_OR_PART
        | codes::_UNKNOWN_TOPIC
        | codes::_UNKNOWN_PARTITION
        | codes::UNKNOWN_TOPIC_ID => FetchErrorKind::UnknownPartition,
        codes::TOPIC_AUTHORIZATION_FAILED
        | codes::GROUP_AUTHORIZATION_FAILED
        | codes::CLUSTER_AUTHORIZATION_FAILED
        | codes::SASL_AUTHENTICATION_FAILED
        | codes::UNSUPPORTED_SASL_MECHANISM
        | codes::_AUTHENTICATION
        | codes::_SSL => FetchErrorKind::Refused,
        codes::_ALL_BROKERS_DOWN => FetchErrorKind::BrokersDown,
        _ => FetchErrorKind::Other,
    }
}

/// So many references to a client are a [`Native`]'s own: its queue has one.
const OWN: usize = 2;

#[cfg(test)]
mod tests;
