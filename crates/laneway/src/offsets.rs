//! What a group has committed, asked from outside of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use laneway_core::TopicPartition;
use laneway_core::map::{Place, Void, decode};
use tokio::task::JoinSet;

use crate::builder::Builder;
use crate::client::{
    OTHERS, Patterns, Reaper, advice, is_alert, is_mark, is_refusal, is_transport, reason_of,
};
use crate::consumer::fetching_client;
use crate::error::{Error, ErrorKind};
use crate::properties::Clients;
use crate::retry_topics::RetryTopics;
use crate::sys::{Client, GroupOffset, KafkaError, NativeEvent, OffsetSpec, Queue, codes};

/// A partition, as a group has committed it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionOffsets {
    /// Which one.
    pub partition: TopicPartition,
    /// The committed offset, if there is one.
    pub committed: Option<i64>,
    /// The first and the next offset of its log, or why they could not be read. With `isolation.level=read_committed`,
    /// the default, the log ends before the first transaction that is open.
    pub log: Result<(i64, i64), String>,
    /// What is finished above the committed offset, if the commit says so; or why its metadata is void.
    pub map: Result<Option<OffsetMap>, String>,
}

/// The offset map of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffsetMap {
    /// How it is written: `run`, `bitmap`, `blocks` or `runs`.
    pub encoding: String,
    /// Its size as it is stored.
    pub bytes: usize,
    /// How many offsets are finished above the committed one.
    pub finished_ahead: u64,
    /// What is not finished between the committed offset and the highest one that is, `(first, last)`, both included.
    pub unfinished: Vec<(i64, i64)>,
}

impl PartitionOffsets {
    /// How far the end is from the committed offset, or from the log's start where there is none.
    pub fn lag(&self) -> Option<i64> {
        let (start, end) = self.log.as_ref().ok()?;
        Some(end.saturating_sub(self.committed.unwrap_or(*start)).max(0))
    }
}

impl Builder {
    /// What the group has committed: for all partitions of the topics, also those without a commit, or, without any
    /// topic, for all partitions that it has committed, in order. The group may be anybody's, and need not exist: then
    /// nothing is committed. Of the builder its brokers, group, topics, properties and token provider are looked at.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], [`ErrorKind::MissingTopic`], [`ErrorKind::NoBroker`] after 30 s without an answer, and
    /// [`ErrorKind::Refused`].
    ///
    /// # Cancellation
    /// Dropping the future ends the waiting; a thread goes on for up to 30 s.
    pub async fn offsets(&self) -> Result<Vec<PartitionOffsets>, Error> {
        self.check_addresses()?;
        let clients = Clients::new(self)?;
        let patterns = Patterns::new(&self.topics, None, &RetryTopics::default())?;
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Error::new(ErrorKind::Config, "offsets are asked for on a tokio runtime"))?;
        let client = fetching_client(&clients, clients.fetcher_config()?)
            .map_err(|error| Error::new(ErrorKind::Config, format!("could not make a client: {error}")))?;
        let mut keeper = JoinSet::new();
        let failed_token = Arc::new(std::sync::Mutex::new(None));
        if let Some(tokens) = &clients.tokens {
            let note = failed_token.clone();
            keeper.spawn_on(
                tokens.clone().keep(move |error| {
                    *note.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                }),
                &runtime,
            );
        }
        let asking = Asking {
            main: client.consumer_queue(),
            client,
            brokers: self.brokers.clone(),
            group: self.group.clone(),
            read_committed: clients.read_committed,
            until: Instant::now() + PATIENCE,
            last_error: None,
            refused: None,
        };
        let asked = runtime.spawn_blocking(move || asking.ask(&patterns)).await;
        let failed_token = failed_token.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match (asked, failed_token) {
            (Ok(Err(error)), Some(token)) => Err(Error::new(error.kind(), format!("{error}; {token}"))),
            (Ok(answer), _) => answer,
            (Err(error), _) => Err(Error::new(ErrorKind::Fatal, format!("the question was ended: {error}"))),
        }
    }
}

/// A question that is being asked.
struct Asking {
    client: Arc<Client>,
    /// Where errors of the client come.
    main: Queue,
    brokers: String,
    group: String,
    read_committed: bool,
    until: Instant,
    last_error: Option<String>,
    /// A broker does not let this client in; since when that is known.
    refused: Option<(Instant, String)>,
}

/// The bounds of logs, or why there are none.
type Bounds = HashMap<TopicPartition, Result<i64, String>>;

impl Asking {
    fn ask(mut self, patterns: &Patterns) -> Result<Vec<PartitionOffsets>, Error> {
        let answer = self.answer(patterns);
        // To destroy a client may take long.
        Reaper::default().take(self);
        answer
    }

    fn answer(&mut self, patterns: &Patterns) -> Result<Vec<PartitionOffsets>, Error> {
        self.retried(|client, left| client.reach(left.min(STEP)).map_err(Into::into))?;
        let wanted = if patterns.is_empty() { None } else { Some(self.partitions(patterns)?) };
        let mut committed = self.committed(wanted.as_deref())?;
        let partitions: BTreeSet<TopicPartition> = match wanted {
            Some(wanted) => wanted.into_iter().collect(),
            None => {
                committed.retain(|_, commit| commit.offset.is_some());
                committed.keys().cloned().collect()
            }
        };
        let all: Vec<TopicPartition> = partitions.into_iter().collect();
        let starts = self.bounds(&all, OffsetSpec::Earliest)?;
        let ends = self.bounds(&all, OffsetSpec::Latest)?;
        let bound = |bounds: &Bounds, partition: &TopicPartition| {
            bounds.get(partition).cloned().unwrap_or_else(|| Err("the broker did not tell".into()))
        };
        let found = all.into_iter().map(|partition| {
            let commit = committed.get(&partition);
            let offset = commit.and_then(|commit| commit.offset);
            let metadata = commit.map_or(&[][..], |commit| &commit.metadata);
            PartitionOffsets {
                committed: offset,
                log: bound(&starts, &partition)
                    .and_then(|start| bound(&ends, &partition).map(|end| (start, end))),
                map: offset.map_or(Ok(None), |offset| read_map(metadata, &self.group, &partition, offset)),
                partition,
            }
        });
        Ok(found.collect())
    }

    fn partitions(&mut self, patterns: &Patterns) -> Result<Vec<TopicPartition>, Error> {
        let seen = self.retried(|client, _| {
            let seen = patterns.look(client);
            match seen.error {
                Some(error) => Err(error.into()),
                None => Ok(seen),
            }
        })?;
        if let Some(topic) = seen.missing.first() {
            let message = if topic.starts_with('^') {
                format!("no topic's name matches \"{topic}\"")
            } else {
                format!("topic \"{topic}\" does not exist")
            };
            return Err(Error::new(ErrorKind::MissingTopic, message));
        }
        let all = seen.partitions.iter();
        Ok(all
            .flat_map(|(topic, count)| (0..*count).map(|it| TopicPartition::new(topic.as_str(), it)))
            .collect())
    }

    fn committed(
        &mut self,
        wanted: Option<&[TopicPartition]>,
    ) -> Result<BTreeMap<TopicPartition, GroupOffset>, Error> {
        let group = self.group.clone();
        let queue = self.client.new_queue();
        let found = self.retried(|client, left| {
            client.list_group_offsets(&group, wanted, &queue)?;
            match waited(left.max(ANSWER), || queue.poll_group_offsets()) {
                Some(Err(error)) if error.code == GROUP_ID_NOT_FOUND => Ok(Vec::new()),
                Some(answer) => Ok(answer?),
                // There is no second question while the first may still be answered: see `Client::list_group_offsets`.
                None => Err(Failed::ForGood(KafkaError::of(codes::_TIMED_OUT))),
            }
        })?;
        if let Some((partition, error)) =
            found.iter().find_map(|it| Some((&it.partition, it.error.as_ref()?)))
        {
            let message = format!("the committed offset of {partition} could not be read: {error}");
            return Err(Error::new(kind_of(error), message));
        }
        Ok(found.into_iter().map(|commit| (commit.partition.clone(), commit)).collect())
    }

    fn bounds(&mut self, partitions: &[TopicPartition], spec: OffsetSpec) -> Result<Bounds, Error> {
        if partitions.is_empty() {
            return Ok(Bounds::new());
        }
        let read_committed = self.read_committed;
        let queue = self.client.new_queue();
        let wanted: Vec<_> = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
        let found = self.retried(|client, _| {
            client.list_offsets(&wanted, read_committed, &queue, 0, ANSWER)?;
            let answer = waited(ANSWER + ANSWER / 2, || match queue.poll()? {
                NativeEvent::Offsets { result, .. } => Some(result),
                _ => None,
            });
            Ok(answer.unwrap_or_else(|| Err(KafkaError::of(codes::_TIMED_OUT)))?)
        })?;
        let bound = |position: laneway_core::Position, error: Option<KafkaError>| match error {
            Some(error) => Err(error.to_string()),
            None => Ok(position.offset),
        };
        Ok(found
            .into_iter()
            .map(|(partition, position, error)| (partition, bound(position, error)))
            .collect())
    }

    /// Asks until there is an answer, or what went wrong does not mend itself, or it has taken too long.
    fn retried<T>(
        &mut self,
        mut ask: impl FnMut(&Client, Duration) -> Result<T, Failed>,
    ) -> Result<T, Error> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            let error = match ask(&self.client, left.max(Duration::from_millis(1))) {
                Ok(answer) => return Ok(answer),
                Err(Failed::ForGood(error)) => {
                    self.look_at_errors();
                    return Err(self.no_answer(&error));
                }
                Err(Failed::Now(error)) => error,
            };
            self.look_at_errors();
            if let Some((_, message)) = self.refused.take_if(|(since, _)| since.elapsed() >= OTHERS) {
                let message = format!("the connection was refused: {message} (brokers: {})", self.brokers);
                return Err(Error::new(ErrorKind::Refused, message));
            }
            if !MENDS.contains(&error.code) {
                return Err(Error::new(kind_of(&error), format!("group \"{}\": {error}", self.group)));
            }
            if Instant::now() >= self.until {
                return Err(self.no_answer(&error));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn no_answer(&mut self, error: &KafkaError) -> Error {
        let last = self.last_error.take().unwrap_or_else(|| error.to_string());
        let message =
            format!("no answer from {} for {} s; the last error: {last}", self.brokers, PATIENCE.as_secs());
        Error::new(ErrorKind::NoBroker, message)
    }

    fn look_at_errors(&mut self) {
        while let Some(event) = self.main.poll() {
            let NativeEvent::Error { error, .. } = event else { continue };
            if error.code == codes::_ALL_BROKERS_DOWN {
                continue;
            }
            let certificate = self.client.certificate_refused();
            let said = reason_of(&error.message, certificate.as_deref());
            if is_alert(said) || (is_refusal(error.code) && !is_transport(said)) {
                let message = format!("{said}: {}", advice(said));
                self.refused.get_or_insert_with(|| (Instant::now(), message));
            }
            self.last_error = Some(said.to_owned());
        }
    }
}

/// Why there is no answer.
enum Failed {
    /// Perhaps there is one later.
    Now(KafkaError),
    /// There is not to be another question.
    ForGood(KafkaError),
}

impl From<KafkaError> for Failed {
    fn from(error: KafkaError) -> Self {
        Self::Now(error)
    }
}

fn waited<T>(time: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + time;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

fn kind_of(error: &KafkaError) -> ErrorKind {
    match error.code {
        codes::GROUP_AUTHORIZATION_FAILED
        | codes::TOPIC_AUTHORIZATION_FAILED
        | codes::CLUSTER_AUTHORIZATION_FAILED => ErrorKind::Refused,
        codes::INVALID_GROUP_ID | codes::_INVALID_ARG => ErrorKind::Config,
        _ => ErrorKind::Fatal,
    }
}

fn read_map(
    metadata: &[u8],
    group: &str,
    partition: &TopicPartition,
    committed: i64,
) -> Result<Option<OffsetMap>, String> {
    if metadata.is_empty() {
        return Ok(None);
    }
    let place = Place { group, topic: &partition.topic, partition: partition.partition };
    let text = std::str::from_utf8(metadata).map_err(|_| Void::Foreign.to_string())?;
    if is_mark(text) {
        return Ok(None);
    }
    let found = decode(text, place, committed).map_err(|void| void.to_string())?;
    Ok(Some(OffsetMap {
        encoding: found.encoding().map(|encoding| encoding.to_string()).unwrap_or_default(),
        bytes: metadata.len(),
        finished_ahead: found.finished_count(),
        unfinished: found.unfinished(),
    }))
}

/// How long is waited for answers in all.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long for one of them, where that has a limit.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a broker may take to be reached before the client's errors are looked at.
const STEP: Duration = Duration::from_secs(1);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(200);
/// How often is looked for an answer.
const LOOK: Duration = Duration::from_millis(5);

/// What passes.
const MENDS: [i32; 11] = [
    codes::_TRANSPORT,
    codes::_RESOLVE,
    codes::_TIMED_OUT,
    codes::_TIMED_OUT_QUEUE,
    codes::_WAIT_COORD,
    codes::_ALL_BROKERS_DOWN,
    codes::COORDINATOR_LOAD_IN_PROGRESS,
    codes::COORDINATOR_NOT_AVAILABLE,
    codes::NOT_COORDINATOR,
    codes::LEADER_NOT_AVAILABLE,
    codes::NOT_LEADER_FOR_PARTITION,
];
/// Of KIP-848; librdkafka's bindings may not know it.
const GROUP_ID_NOT_FOUND: i32 = 69;
