//! Records that were given up, written to a topic of their own.

use std::collections::HashMap;
use std::ffi::CString;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use crate::fetcher::Wake;
use crate::lane::{Failure, LaneMessage, Tell};
use crate::oauth::Tokens;
use crate::record::{Record, Timestamp};
use crate::sys::{Config, KafkaError, Produced, Producer, topic_name};

/// Writes dead letters. Each is acknowledged by the brokers before its record counts as finished.
pub(crate) struct Letters {
    topic: String,
    native_topic: CString,
    group: String,
    make: Box<dyn Fn() -> Result<Config, String> + Send + Sync>,
    tokens: Option<Tokens>,
    wake: Wake,
    tell: Tell,
    open: Mutex<Open>,
}

struct Open {
    /// Made anew after a fatal error.
    producer: Arc<Producer>,
    last_token: u64,
    waiting: HashMap<u64, oneshot::Sender<Result<(), KafkaError>>>,
}

impl Letters {
    /// Makes the producer; `make` gives its configuration. Connects to nothing yet.
    pub(crate) fn new(
        topic: &str,
        group: &str,
        make: impl Fn() -> Result<Config, String> + Send + Sync + 'static,
        tokens: Option<Tokens>,
        wake: Wake,
        tell: Tell,
    ) -> Result<Self, String> {
        let producer = producer(&make, tokens.as_ref(), &wake)?;
        let open = Mutex::new(Open { producer, last_token: 0, waiting: HashMap::new() });
        Ok(Self {
            topic: topic.to_owned(),
            native_topic: topic_name(topic).map_err(|error| error.to_string())?,
            group: group.to_owned(),
            make: Box::new(make),
            tokens,
            wake,
            tell,
            open,
        })
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
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
        if open.producer.fatal_error().is_some()
            && let Ok(producer) = producer(&self.make, self.tokens.as_ref(), &self.wake)
        {
            // The others are told that they were not delivered, when the old one is dropped, or not at all: they
            // are sent again.
            open.waiting.clear();
            let old = std::mem::replace(&mut open.producer, producer);
            drop(open);
            // It may take its time.
            std::thread::spawn(move || drop(old));
        }
    }

    /// Writes a record, again and again until the brokers have it.
    pub(crate) async fn send(&self, record: &Record, failure: &Failure) {
        let mut wait = FIRST_WAIT;
        let what = format!("{}-{} at offset {}", record.topic(), record.partition(), record.offset());
        loop {
            let error = match self.try_send(record, failure) {
                Ok(mut report) => loop {
                    match tokio::time::timeout(SAY_AGAIN, &mut report).await {
                        Ok(Ok(Ok(()))) => return,
                        Ok(Ok(Err(error))) => break error.to_string(),
                        Ok(Err(_)) => break "the producer was made anew".to_owned(),
                        Err(_) => self.say(&format!(
                            "{what}: its dead letter is not yet written to {}; still waiting",
                            self.topic
                        )),
                    }
                },
                Err(error) => error.to_string(),
            };
            self.say(&format!(
                "{what}: its dead letter could not be written to {}: {error}; trying again in {wait:?}",
                self.topic
            ));
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn try_send(
        &self,
        record: &Record,
        failure: &Failure,
    ) -> Result<oneshot::Receiver<Result<(), KafkaError>>, KafkaError> {
        let added = self.headers(record, failure);
        let mut headers: Vec<(&[u8], Option<&[u8]>)> =
            record.headers().map(|header| (header.name, header.value)).collect();
        headers.extend(added.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))));
        let produced = Produced {
            topic: &self.native_topic,
            key: record.key(),
            payload: record.payload(),
            headers: &headers,
        };
        let (report, reported) = oneshot::channel();
        let (producer, token) = {
            let mut open = self.open();
            open.last_token += 1;
            let token = open.last_token;
            open.waiting.insert(token, report);
            (open.producer.clone(), token)
        };
        let sent = producer.produce(&produced, token);
        if sent.is_err() {
            self.open().waiting.remove(&token);
        }
        sent.map(|()| reported)
    }

    /// Laneway's own headers. Their names are a contract: see the manual.
    fn headers(&self, record: &Record, failure: &Failure) -> Vec<(&'static str, String)> {
        let (times, first, last) = (failure.tried.times, failure.tried.first, failure.tried.last);
        let mut headers = vec![
            ("laneway.topic", record.topic().to_owned()),
            ("laneway.partition", record.partition().to_string()),
            ("laneway.offset", record.offset().to_string()),
            ("laneway.group", self.group.clone()),
            ("laneway.attempts", times.to_string()),
            ("laneway.first-failure", milliseconds(first)),
            ("laneway.last-failure", milliseconds(last)),
            ("laneway.error", bounded(&failure.error)),
        ];
        if let Timestamp::Create(time) | Timestamp::LogAppend(time) = record.timestamp() {
            headers.insert(3, ("laneway.timestamp", time.to_string()));
        }
        if self.group.is_empty() {
            headers.retain(|(name, _)| *name != "laneway.group");
        }
        headers
    }

    fn say(&self, message: &str) {
        (self.tell)(LaneMessage::Told(message.to_owned()));
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letters").field("topic", &self.topic).finish_non_exhaustive()
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
fn milliseconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis()).to_string()
}

/// An error's text, cut to a size that a header can have.
fn bounded(text: &str) -> String {
    if text.len() <= LONGEST_ERROR {
        return text.to_owned();
    }
    let mut end = LONGEST_ERROR;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &text[..end])
}

/// The first and the longest wait between two tries to write one.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How often it is said that one is not written yet.
const SAY_AGAIN: Duration = Duration::from_secs(30);
/// Bytes of an error's text that a dead letter carries.
const LONGEST_ERROR: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errors_text_is_cut_between_characters() {
        assert_eq!(bounded("short"), "short");
        let long = "ä".repeat(3_000);
        let cut = bounded(&long);
        assert!(cut.len() <= LONGEST_ERROR + 3 && cut.ends_with("ä..."), "{}", cut.len());
    }
}
