//! Records that failed, written to a topic of their own: that of dead letters, or one that they wait in.

use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use laneway_core::Failed;
use tokio::sync::oneshot;

use crate::fetcher::Wake;
use crate::lane::{LaneMessage, Tell, Tried};
use crate::oauth::Tokens;
use crate::record::{Record, Timestamp};
use crate::retry_topics::RetryTopics;
use crate::sys::{Config, KafkaError, Produced, Producer, topic_name};

/// Writes records that failed. Each is acknowledged by the brokers before it counts as finished.
pub(crate) struct Letters {
    to: Topics,
    group: String,
    make: Box<dyn Fn() -> Result<Config, String> + Send + Sync>,
    tokens: Option<Tokens>,
    wake: Wake,
    tell: Tell,
    open: Mutex<Open>,
}

/// Where they are written to.
pub(crate) struct Topics {
    dead: Option<Topic>,
    retries: Vec<Topic>,
}

struct Topic {
    name: String,
    native: CString,
}

/// Which of those topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Dead,
    /// The retry topic with this number, and how long to wait there.
    Retry(usize, Duration),
}

/// What goes with a record, and where.
pub(crate) struct Letter {
    to: To,
    failed: Failed,
    /// How many of the record's headers are its own; those behind them say what `failed` now says.
    own: usize,
}

struct Open {
    /// Made anew after a fatal error, and where one of the topics was made again.
    producer: Arc<Producer>,
    is_outdated: bool,
    last_token: u64,
    waiting: HashMap<u64, oneshot::Sender<Result<(), KafkaError>>>,
}

impl Letters {
    /// Makes the producer; `make` gives its configuration. Connects to nothing yet.
    pub(crate) fn new(
        to: Topics,
        group: &str,
        make: impl Fn() -> Result<Config, String> + Send + Sync + 'static,
        tokens: Option<Tokens>,
        wake: Wake,
        tell: Tell,
    ) -> Result<Self, String> {
        let producer = producer(&make, tokens.as_ref(), &wake)?;
        let open = Open { producer, is_outdated: false, last_token: 0, waiting: HashMap::new() };
        let open = Mutex::new(open);
        Ok(Self { to, group: group.to_owned(), make: Box::new(make), tokens, wake, tell, open })
    }

    /// The topic of dead letters.
    pub(crate) fn topic(&self) -> Option<&str> {
        self.to.dead.as_ref().map(|topic| topic.name.as_str())
    }

    /// Topics were deleted and made again. A producer that knew the old ones takes the leaders of the new ones for old news
    /// where their epochs are lower (rdkafka_topic.c, `rd_kafka_toppar_leader_update`): if it writes to one of them, another
    /// one does from now on.
    pub(crate) fn forget(&self, topics: &BTreeSet<String>) {
        if self.to.all().any(|topic| topics.contains(&topic.name)) {
            self.open().is_outdated = true;
            (self.wake)();
        }
    }

    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    /// Hands reports to those who wait for them. Called by the client thread.
    pub(crate) fn poll(&self) {
        let mut open = self.open();
        for report in open.producer.reports() {
            if let Some(waiting) = open.waiting.remove(&report.token) {
                // Who does not wait any more was cancelled: the record comes again.
                waiting.send(report.result).ok();
            }
        }
        if (open.is_outdated || open.producer.fatal_error().is_some())
            && let Ok(producer) = producer(&self.make, self.tokens.as_ref(), &self.wake)
        {
            // The others are told that they were not delivered, when the old one is dropped, or not at all: they
            // are sent again.
            open.waiting.clear();
            open.is_outdated = false;
            let old = std::mem::replace(&mut open.producer, producer);
            drop(open);
            // It may take its time.
            std::thread::spawn(move || drop(old));
        }
    }

    /// Writes a record, again and again until the brokers have it.
    pub(crate) async fn send(&self, record: &Record, letter: &Letter) {
        let Some(topic) = self.to.get(letter.to) else { return };
        let mut headers: Vec<(&[u8], Option<&[u8]>)> =
            record.headers().take(letter.own).map(|header| (header.name, header.value)).collect();
        let failed = Failed { group: self.group.clone(), ..letter.failed.clone() };
        let added = failed.headers();
        headers.extend(added.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))));
        let produced = Produced {
            topic: &topic.native,
            key: record.key(),
            payload: record.payload(),
            headers: &headers,
        };
        let mut wait = FIRST_WAIT;
        let what = format!("{}-{} at offset {}", record.topic(), record.partition(), record.offset());
        let what = match letter.to {
            To::Dead => format!("{what}: its dead letter"),
            To::Retry(..) => format!("{what}: it failed, and"),
        };
        let to = &topic.name;
        loop {
            let error = match self.try_send(&produced) {
                Ok(mut report) => loop {
                    match tokio::time::timeout(SAY_AGAIN, &mut report).await {
                        Ok(Ok(Ok(()))) => return,
                        Ok(Ok(Err(error))) => break error.to_string(),
                        Ok(Err(_)) => break "the producer was made anew".to_owned(),
                        Err(_) => self.say(&format!("{what} is not yet written to {to}; still waiting")),
                    }
                },
                Err(error) => error.to_string(),
            };
            self.say(&format!("{what} could not be written to {to}: {error}; trying again in {wait:?}"));
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn try_send(
        &self,
        produced: &Produced<'_>,
    ) -> Result<oneshot::Receiver<Result<(), KafkaError>>, KafkaError> {
        let (report, reported) = oneshot::channel();
        let (producer, token) = {
            let mut open = self.open();
            open.last_token += 1;
            let token = open.last_token;
            open.waiting.insert(token, report);
            (open.producer.clone(), token)
        };
        let sent = producer.produce(produced, token);
        if sent.is_err() {
            self.open().waiting.remove(&token);
        }
        sent.map(|()| reported)
    }

    fn say(&self, message: &str) {
        (self.tell)(LaneMessage::Told(message.to_owned()));
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Topics {
    pub(crate) fn new(dead: Option<&str>, retries: &RetryTopics) -> Result<Self, String> {
        let topic = |name: &str| {
            let native = topic_name(name).map_err(|error| error.to_string())?;
            Ok::<_, String>(Topic { name: name.to_owned(), native })
        };
        let retries = retries.names().map(topic).collect::<Result<_, _>>()?;
        Ok(Self { dead: dead.map(topic).transpose()?, retries })
    }

    fn all(&self) -> impl Iterator<Item = &Topic> {
        self.dead.iter().chain(&self.retries)
    }

    fn get(&self, to: To) -> Option<&Topic> {
        match to {
            To::Dead => self.dead.as_ref(),
            To::Retry(at, _) => self.retries.get(at),
        }
    }
}

impl Letter {
    /// Of a record that failed with `error`; `before` is what it says of failures before, and how many headers of its
    /// own it has.
    pub(crate) fn new(
        record: &Record,
        before: Option<(Failed, usize)>,
        tried: &Tried,
        error: &str,
        to: To,
    ) -> Self {
        let (mut failed, own) =
            before.unwrap_or_else(|| (first_failure_of(record, tried), record.headers().len()));
        failed.attempts = failed.attempts.saturating_add(tried.times);
        failed.last_failure = milliseconds(tried.last);
        failed.add_error(error);
        failed.due = match to {
            To::Dead => None,
            To::Retry(_, delay) => Some(milliseconds(tried.last + delay)),
        };
        Self { to, failed, own }
    }
}

fn first_failure_of(record: &Record, tried: &Tried) -> Failed {
    Failed {
        topic: record.topic().to_owned(),
        partition: record.partition(),
        offset: record.offset(),
        timestamp: match record.timestamp() {
            Timestamp::Create(time) | Timestamp::LogAppend(time) => Some(time),
            Timestamp::Unknown => None,
        },
        group: String::new(),
        attempts: 0,
        first_failure: milliseconds(tried.first),
        last_failure: 0,
        due: None,
        errors: Vec::new(),
    }
}

impl fmt::Debug for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letters").field("topic", &self.topic()).finish_non_exhaustive()
    }
}

fn producer(
    make: &(impl Fn() -> Result<Config, String> + ?Sized),
    tokens: Option<&Tokens>,
    wake: &Wake,
) -> Result<Arc<Producer>, String> {
    let producer = Arc::new(Producer::new(make()?)?);
    producer.on_ready(wake.clone());
    if let Some(tokens) = tokens {
        tokens.serve(&producer);
    }
    Ok(producer)
}

/// Milliseconds since 1970 (UTC).
fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The first and the longest wait between two tries to write one.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How often it is said that one is not written yet.
const SAY_AGAIN: Duration = Duration::from_secs(30);
