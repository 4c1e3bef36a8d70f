//! A search for where partitions start: the committed offsets, and both ends of each log, asked for at
//! once and put together when all have answered.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use laneway_core::{Found, Log, Position, Reset, TopicPartition, Want, first_start, start_again};

use crate::fetcher::Wake;
use crate::retry_topics::RetryTopics;
use crate::sys::{Client, Committed, KafkaError, NativeEvent, OffsetSpec, Queue, codes};

/// One search that is under way.
#[derive(Debug)]
pub(crate) struct Search {
    token: u64,
    asked: Instant,
    wanted: Vec<Want>,
    committed: Answer<Option<(Position, String)>>,
    /// Brings what is committed, from the thread that waits for it.
    awaited: Receiver<Result<Committed, KafkaError>>,
    starts: Answer<Position>,
    ends: Answer<Position>,
}

/// What has come of one of the questions: by partition, or why it failed as a whole.
type Answer<T> = Option<Result<HashMap<TopicPartition, Result<T, KafkaError>>, KafkaError>>;

/// How a search ended.
#[derive(Debug)]
pub(crate) struct SearchResult {
    pub(crate) token: u64,
    pub(crate) found: Vec<(TopicPartition, Result<Found, String>)>,
    /// What was committed with offsets that were found, where there was anything.
    pub(crate) metadata: Vec<(TopicPartition, Position, String)>,
    /// The logs' ends, where they were told.
    pub(crate) ends: BTreeMap<TopicPartition, i64>,
    /// A partition has no start, and none is to be made up for it.
    pub(crate) refused: Option<String>,
}

/// What decides where nothing is committed.
pub(crate) struct Rules<'a> {
    pub(crate) reset: Reset,
    /// Partitions of each topic when this consumer started.
    pub(crate) known: &'a BTreeMap<String, i32>,
    /// Topics that are read from their beginning, whatever is wanted of others: members write to them before the one
    /// that reads them has begun.
    pub(crate) retries: &'a RetryTopics,
}

/// The questions of a search that a queue answers; a native token is the search's, times four, plus one of these.
const STARTS: u64 = 1;
const ENDS: u64 = 2;

impl Search {
    /// Asks all three questions. `wake` is called when what is committed is known.
    pub(crate) fn ask(
        token: u64,
        wanted: &[Want],
        client: &Arc<Client>,
        queue: &Queue,
        wake: &Wake,
        read_committed: bool,
    ) -> Self {
        let partitions: Vec<TopicPartition> = wanted.iter().map(|want| want.partition.clone()).collect();
        let asked = |question: u64| token * 4 + question;
        let failed = |result: Result<(), KafkaError>| result.err();
        let list = |spec, question| {
            let wanted: Vec<_> = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
            client.list_offsets(&wanted, read_committed, queue, asked(question), TIMEOUT)
        };
        let (answer, awaited) = channel();
        let wake = wake.clone();
        let asked_committed = ask_committed(client, partitions.clone(), move |committed| {
            // The search may be over before.
            answer.send(committed).ok();
            wake();
        });
        Self {
            token,
            asked: Instant::now(),
            wanted: wanted.to_vec(),
            committed: asked_committed
                .err()
                .map(|error| Err(KafkaError::new(codes::_FAIL, error.to_string()))),
            awaited,
            starts: failed(list(OffsetSpec::Earliest, STARTS)).map(Err),
            ends: failed(list(OffsetSpec::Latest, ENDS)).map(Err),
        }
    }

    /// Takes in an answer. True if it was of this search.
    pub(crate) fn take(&mut self, event: &NativeEvent) -> bool {
        match event {
            NativeEvent::Offsets { token, result } if *token == self.token * 4 + STARTS => {
                self.starts = Some(by_partition(result));
                true
            }
            NativeEvent::Offsets { token, result } if *token == self.token * 4 + ENDS => {
                self.ends = Some(by_partition(result));
                true
            }
            _ => false,
        }
    }

    /// All questions are answered, or the rest is no longer waited for.
    pub(crate) fn is_answered(&mut self) -> bool {
        if let Ok(committed) = self.awaited.try_recv() {
            self.committed = Some(by_partition(&committed));
        }
        let answered = self.committed.is_some() && self.starts.is_some() && self.ends.is_some();
        answered || self.asked.elapsed() >= TIMEOUT
    }

    /// Puts the answers together.
    pub(crate) fn finish(self, rules: &Rules<'_>) -> SearchResult {
        let mut result = SearchResult {
            token: self.token,
            found: Vec::with_capacity(self.wanted.len()),
            metadata: Vec::new(),
            ends: BTreeMap::new(),
            refused: None,
        };
        for want in &self.wanted {
            if let Ok(end) = answer(&self.ends, &want.partition, "its end") {
                result.ends.insert(want.partition.clone(), end.offset);
            }
            let found = self.find(want, rules);
            if let (None, Ok(Some((position, metadata)))) =
                (want.out_of_range, answer(&self.committed, &want.partition, "its committed offset"))
                && !metadata.is_empty()
            {
                result.metadata.push((want.partition.clone(), position, metadata));
            }
            if let Err(NotFound::Refused(reason)) = &found {
                result.refused.get_or_insert_with(|| reason.clone());
            }
            result.found.push((want.partition.clone(), found.map_err(NotFound::text)));
        }
        result
    }

    fn find(&self, want: &Want, rules: &Rules<'_>) -> Result<Found, NotFound> {
        let partition = &want.partition;
        let is_retry = rules.retries.delay_in(&partition.topic).is_some();
        let reset = if is_retry { Reset::Earliest } else { rules.reset };
        if let Some(stood) = want.out_of_range {
            let log = self.log(partition)?;
            return start_again(stood, log, reset).ok_or_else(|| {
                let (stood, start, end) = (stood.offset, log.start, log.end);
                NotFound::Refused(format!(
                    "the offset {stood} of {partition} is not in its log ({start} to {end}), and the offset \
                     reset is \"error\": move the group's offset, or choose earliest or latest"
                ))
            });
        }
        if let Some((position, _)) = answer(&self.committed, partition, "its committed offset")? {
            return Ok(Found::committed(position));
        }
        let appeared = rules.known.get(&*partition.topic).is_none_or(|count| partition.partition >= *count);
        first_start(self.log(partition)?, reset, appeared).ok_or_else(|| {
            NotFound::Refused(format!(
                "the group has no committed offset for {partition}, and the offset reset is \"error\": set the \
                 group's offset, or choose earliest or latest"
            ))
        })
    }

    fn log(&self, partition: &TopicPartition) -> Result<Log, String> {
        let start = answer(&self.starts, partition, "its log's start")?.offset;
        let end = answer(&self.ends, partition, "its log's end")?.offset;
        Ok(Log { start, end })
    }
}

/// Asks what is committed on a thread of its own, as the question waits: see [`Client::committed`]. An error: there is
/// no such thread, and `answer` was dropped.
pub(crate) fn ask_committed(
    client: &Arc<Client>,
    partitions: Vec<TopicPartition>,
    answer: impl FnOnce(Result<Committed, KafkaError>) + Send + 'static,
) -> std::io::Result<()> {
    let client = client.clone();
    let ask = move || answer(client.committed(&partitions, TIMEOUT));
    std::thread::Builder::new().name("laneway-committed".into()).spawn(ask).map(drop)
}

#[derive(Debug)]
enum NotFound {
    /// A later try may find it.
    Failed(String),
    /// It is not to be made up.
    Refused(String),
}

impl NotFound {
    fn text(self) -> String {
        match self {
            Self::Failed(text) | Self::Refused(text) => text,
        }
    }
}

impl From<String> for NotFound {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

type Answers<T> = Vec<(TopicPartition, T, Option<KafkaError>)>;

fn by_partition<T: Clone>(
    result: &Result<Answers<T>, KafkaError>,
) -> Result<HashMap<TopicPartition, Result<T, KafkaError>>, KafkaError> {
    let list = result.as_ref().map_err(Clone::clone)?;
    Ok(list
        .iter()
        .map(|(partition, value, error)| (partition.clone(), error.clone().map_or(Ok(value.clone()), Err)))
        .collect())
}

fn answer<T: Clone>(from: &Answer<T>, partition: &TopicPartition, what: &str) -> Result<T, String> {
    match from {
        Some(Ok(answers)) => match answers.get(partition) {
            Some(Ok(value)) => Ok(value.clone()),
            Some(Err(error)) => Err(format!("{what} could not be read: {error}")),
            None => Err(format!("{what} was not told")),
        },
        Some(Err(error)) => Err(format!("{what} could not be read: {error}")),
        None => Err(format!("{what} is still asked for")),
    }
}

/// How long one question may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
