//! A search for where partitions start: the committed offsets, and both ends of each log, asked for at
//! once and put together when all have answered. Without a group it is said where they start, and nothing is committed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use laneway_core::{Found, From, Log, Position, Reset, TopicPartition, Want, first_start, start_again};

use super::asker::Asker;
use super::topic_ids::is_mark;
use crate::assign::{Assigned, Start};
use crate::fetcher::Wake;
use crate::retry_topics::RetryTopics;
use crate::sys::{Client, Committed, KafkaError, NativeEvent, OffsetSpec, TopicId, codes};

/// One search that is under way.
#[derive(Debug)]
pub(crate) struct Search {
    token: u64,
    asked: Instant,
    wanted: Vec<Want>,
    /// Without a group: where partitions start.
    given: Option<Assigned>,
    committed: Answer<Option<(Position, String)>>,
    /// Brings what is committed, from the thread that waits for it.
    awaited: Receiver<Result<Committed, KafkaError>>,
    starts: Answer<Position>,
    ends: Answer<Position>,
    /// The first records that are not older than what is given.
    times: Answer<Position>,
    /// Which topics they are of.
    ids: Option<Result<Vec<(String, TopicId)>, KafkaError>>,
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
    /// Where what is found is not what was wanted, and why.
    pub(crate) notes: Vec<String>,
    /// Topics that turned out to be new ones.
    pub(crate) made_again: BTreeSet<String>,
}

/// What decides where nothing is committed.
pub(crate) struct Rules<'a> {
    pub(crate) reset: Reset,
    /// Partitions of each topic when this consumer started.
    pub(crate) known: &'a BTreeMap<String, i32>,
    /// Topics that are read from their beginning, whatever is wanted of others: members write to them before the one
    /// that reads them has begun.
    pub(crate) retries: &'a RetryTopics,
    /// Topics that turned out to be new ones.
    pub(crate) made_again: BTreeSet<String>,
    /// Topics that were deleted and made again a short time ago: they are read from their beginning, as what is committed,
    /// or was wanted, is the former topic's, or may be; unless it has this mark.
    pub(crate) anew: BTreeMap<Arc<str>, Option<String>>,
}

/// The questions of a search that a queue answers; a native token is the search's, times four, plus one of these.
const STARTS: u64 = 1;
const ENDS: u64 = 2;
const TIMES: u64 = 0;

impl Search {
    /// Asks all questions. `wake` is called when what is committed is known.
    pub(crate) fn ask(
        token: u64,
        wanted: &[Want],
        given: Option<&Assigned>,
        asker: &Asker,
        wake: &Wake,
        read_committed: bool,
    ) -> Self {
        let (client, queue) = (asker.client(), asker.answers());
        let partitions: Vec<TopicPartition> = wanted.iter().map(|want| want.partition.clone()).collect();
        let asked = |question: u64| token * 4 + question;
        let failed = |result: Result<(), KafkaError>| result.err();
        let ask = |wanted: &[(TopicPartition, OffsetSpec)], question| {
            client.list_offsets(wanted, read_committed, queue, asked(question), TIMEOUT)
        };
        let list = |spec, question| {
            let wanted: Vec<_> = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
            ask(&wanted, question)
        };
        let time_of = |partition: &TopicPartition| match given?.get(partition)? {
            Start::Time(time) => Some((partition.clone(), OffsetSpec::AtTime(*time))),
            _ => None,
        };
        let times: Vec<_> = partitions.iter().filter_map(time_of).collect();
        let topics = partitions.iter().map(|partition| &*partition.topic).collect();
        let (answer, awaited) = channel();
        let committed = if given.is_some() {
            Some(Ok(HashMap::new()))
        } else {
            let wake = wake.clone();
            let asked = ask_committed(client, partitions.clone(), move |committed| {
                // The search may be over before.
                answer.send(committed).ok();
                wake();
            });
            asked.err().map(|error| Err(KafkaError::new(codes::_FAIL, error.to_string())))
        };
        Self {
            token,
            asked: Instant::now(),
            wanted: wanted.to_vec(),
            given: given.cloned(),
            committed,
            awaited,
            starts: failed(list(OffsetSpec::Earliest, STARTS)).map(Err),
            ends: failed(list(OffsetSpec::Latest, ENDS)).map(Err),
            times: if times.is_empty() {
                Some(Ok(HashMap::new()))
            } else {
                failed(ask(&times, TIMES)).map(Err)
            },
            ids: failed(client.topic_ids(&topics, queue, token, IDS_TIMEOUT)).map(Err),
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
            NativeEvent::Offsets { token, result } if *token == self.token * 4 + TIMES => {
                self.times = Some(by_partition(result));
                true
            }
            NativeEvent::TopicIds { token, result } if *token == self.token => {
                self.ids = Some(result.clone());
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
        let listed = [&self.starts, &self.ends, &self.times].into_iter().all(Option::is_some);
        let (answered, waited) = (self.committed.is_some() && listed, self.asked.elapsed());
        // An offset that is in no log is judged by which topic it is of. Elsewhere that can be told later.
        let patience =
            if self.wanted.iter().any(|want| want.out_of_range.is_some()) { TIMEOUT } else { PATIENCE };
        (answered && (self.ids.is_some() || waited >= patience)) || waited >= TIMEOUT
    }

    /// The ids of the topics, where a broker told them.
    pub(crate) fn ids(&self) -> &[(String, TopicId)] {
        self.ids.as_ref().and_then(|ids| ids.as_deref().ok()).unwrap_or_default()
    }

    /// Puts the answers together.
    pub(crate) fn finish(self, rules: Rules<'_>) -> SearchResult {
        let mut result = SearchResult {
            token: self.token,
            found: Vec::with_capacity(self.wanted.len()),
            metadata: Vec::new(),
            ends: BTreeMap::new(),
            refused: None,
            notes: Vec::new(),
            made_again: BTreeSet::new(),
        };
        for want in &self.wanted {
            if let Ok(end) = answer(&self.ends, &want.partition, "its end") {
                result.ends.insert(want.partition.clone(), end.offset);
            }
            let found = self.find(want, &rules);
            let is_new = self.begins_anew(&want.partition, &rules).unwrap_or(true);
            if let (None, false, Ok(Some((position, metadata)))) =
                (want.out_of_range, is_new, answer(&self.committed, &want.partition, "its committed offset"))
                && !(metadata.is_empty() || is_mark(&metadata))
            {
                result.metadata.push((want.partition.clone(), position, metadata));
            }
            if let (Some(stood), Ok(Found { position, from: From::End, missing: 0 })) =
                (want.out_of_range, &found)
            {
                result.notes.push(above_the_end(&want.partition, stood.offset, position.offset));
            }
            let found = match found {
                Ok(found) => Ok(found),
                Err(NotFound::Failed(why)) => Err(why),
                Err(NotFound::Refused(why)) => {
                    // Nobody looks again.
                    result.refused.get_or_insert(why);
                    continue;
                }
            };
            result.found.push((want.partition.clone(), found));
        }
        result.made_again = rules.made_again;
        result
    }

    /// Whether what is committed, or was wanted, may be a former topic's.
    fn begins_anew(&self, partition: &TopicPartition, rules: &Rules<'_>) -> Result<bool, String> {
        let Some(mark) = rules.anew.get(&partition.topic) else { return Ok(false) };
        if self.given.is_some() {
            return Ok(true);
        }
        let committed = answer(&self.committed, partition, "its committed offset")?;
        Ok(committed.is_none_or(|(_, metadata)| Some(&metadata) != mark.as_ref()))
    }

    pub(crate) fn wanted(&self) -> impl Iterator<Item = &TopicPartition> {
        self.wanted.iter().map(|want| &want.partition)
    }

    fn find(&self, want: &Want, rules: &Rules<'_>) -> Result<Found, NotFound> {
        let partition = &want.partition;
        let is_retry = rules.retries.delay_in(&partition.topic).is_some();
        let reset = if is_retry { Reset::Earliest } else { rules.reset };
        if self.begins_anew(partition, rules)? {
            let log = self.log(partition)?;
            return Ok(Found { position: Position::at(log.start), from: From::Beginning, missing: 0 });
        }
        if let Some(stood) = want.out_of_range {
            if let Some(Err(error)) = &self.ids {
                return Err(NotFound::Failed(format!("which topic it is of could not be asked: {error}")));
            }
            let log = self.log(partition)?;
            return start_again(stood, log, reset).ok_or_else(|| {
                let (stood, start, end) = (stood.offset, log.start, log.end);
                let advice = if self.given.is_some() { "start elsewhere" } else { "move the group's offset" };
                NotFound::Refused(format!(
                    "the offset {stood} of {partition} is not in its log ({start} to {end}), and the offset \
                     reset is \"error\": {advice}, or choose earliest or latest"
                ))
            });
        }
        if let Some(start) = self.given.as_ref().and_then(|given| given.get(partition)) {
            return Ok(self.find_given(partition, *start)?);
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

    fn find_given(&self, partition: &TopicPartition, start: Start) -> Result<Found, String> {
        let found = |offset, from| Ok(Found { position: Position::at(offset), from, missing: 0 });
        match start {
            Start::Offset(offset) => found(offset, From::Seek),
            Start::Beginning => found(self.log(partition)?.start, From::Beginning),
            Start::End => found(self.log(partition)?.end, From::End),
            Start::Time(_) => match answer(&self.times, partition, "its offset at a time")?.offset {
                offset if offset >= 0 => found(offset, From::Seek),
                _ => found(self.log(partition)?.end, From::End),
            },
        }
    }

    fn log(&self, partition: &TopicPartition) -> Result<Log, String> {
        let start = answer(&self.starts, partition, "its log's start")?.offset;
        let end = answer(&self.ends, partition, "its log's end")?.offset;
        Ok(Log { start, end })
    }
}

/// Of a log that was cut off, where no leader epoch tells where.
fn above_the_end(partition: &TopicPartition, offset: i64, end: i64) -> String {
    format!(
        "the log of {partition} ends at {end}, below the offset {offset}: it is read on at its end. If it was cut \
         off and has grown again since, what was written meanwhile is left out"
    )
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

impl std::convert::From<String> for NotFound {
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

/// How long a search waits for which topics its partitions are of, when it knows all else.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long the question for topics' ids may take: it is asked again.
pub(crate) const IDS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one question may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
