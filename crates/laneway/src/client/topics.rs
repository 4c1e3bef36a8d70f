//! Which topics there are: looked for now and then, beside the client thread, by the client that fetches.
//! So that client knows its topics before it starts in them, and membership is shown a change only when
//! that does no harm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use regex::Regex;

use super::mailbox::{Mailbox, Message};
use crate::error::{Error, ErrorKind};
use crate::retry_topics::RetryTopics;
use crate::sys::{Client, KafkaError, TopicInfo, codes};

/// What is to be read: names, and expressions that names are matched against.
#[derive(Debug, Clone)]
pub(crate) struct Patterns {
    names: Vec<String>,
    expressions: Vec<Regex>,
    /// A topic that is not read and must exist.
    letters: Option<String>,
    /// Topics that are read beside the others, and must exist.
    retries: Vec<String>,
}

/// The topics as they are.
#[derive(Debug, Default)]
pub(crate) struct TopicsSeen {
    /// Topics that exist, with the number of their partitions.
    pub(crate) partitions: BTreeMap<String, i32>,
    /// Names that do not exist, and expressions that match nothing.
    pub(crate) missing: Vec<String>,
    /// The topics for dead letters and for retries that are not there.
    pub(crate) needed: Vec<String>,
    /// For which subscription: 0 for the first one.
    pub(crate) subscription: u64,
    /// Why it could not be found out, or not in part.
    pub(crate) error: Option<KafkaError>,
}

/// Looks for topics on a thread of its own, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct TopicWatch {
    commands: Sender<Command>,
}

enum Command {
    /// Look through this client.
    Through(Arc<Client>),
    /// Show a membership client the partitions as they are now, if it is steady still.
    Show(Arc<Client>, Arc<AtomicBool>),
    /// Look again now.
    Look,
    /// Look for these from now on.
    Watch(Patterns),
}

impl Patterns {
    pub(crate) fn new(
        topics: &[String],
        letters: Option<&str>,
        retries: &RetryTopics,
    ) -> Result<Self, Error> {
        let (letters, retries) = (letters.map(str::to_owned), retries.names().map(str::to_owned).collect());
        let mut patterns = Self { names: Vec::new(), expressions: Vec::new(), letters, retries };
        for topic in topics {
            if topic.starts_with('^') {
                let expression = Regex::new(topic).map_err(|error| {
                    let reason = error.to_string();
                    let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
                    let message = format!("topic \"{topic}\" is not a regular expression: {reason}");
                    Error::new(ErrorKind::Config, message)
                })?;
                patterns.expressions.push(expression);
            } else if is_topic_name(topic) {
                patterns.names.push(topic.clone());
            } else {
                let message = format!(
                    "\"{topic}\" is not a topic's name: 1 to 249 letters, digits, \".\", \"_\" and \"-\" are \
                     allowed, or a regular expression that starts with \"^\""
                );
                return Err(Error::new(ErrorKind::Config, message));
            }
        }
        for (what, topic) in patterns.needed() {
            patterns.check_needed(what, topic)?;
        }
        Ok(patterns)
    }

    /// Topics that are written to, and what for.
    fn needed(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let letters = self.letters.iter().map(|topic| ("dead letters", topic));
        letters.chain(self.retries.iter().map(|topic| ("retries", topic)))
    }

    fn check_needed(&self, what: &str, topic: &String) -> Result<(), Error> {
        let is_read = self.names.contains(topic) || self.expressions.iter().any(|it| it.is_match(topic));
        let message = if !is_topic_name(topic) {
            format!("\"{topic}\" is not a topic's name, which one for {what} must be")
        } else if is_read {
            format!("{what} can't go to \"{topic}\": it is one of the topics that are read")
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Config, message))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.expressions.is_empty()
    }

    pub(crate) fn look(&self, client: &Client) -> TopicsSeen {
        let mut seen = TopicsSeen::default();
        for name in &self.names {
            match client.metadata_of(name, TIMEOUT) {
                Ok(info) => seen.note(info, true),
                Err(error) => seen.error = Some(error),
            }
        }
        for (_, topic) in self.needed() {
            match client.metadata_of(topic, TIMEOUT) {
                Ok(info) => {
                    if info.error.as_ref().is_some_and(|error| error.code == codes::UNKNOWN_TOPIC_OR_PART) {
                        seen.needed.push(topic.clone());
                    } else if self.retries.contains(topic) {
                        seen.note(info, true);
                    }
                }
                Err(error) => seen.error = Some(error),
            }
        }
        if self.expressions.is_empty() || seen.error.is_some() {
            return seen;
        }
        match client.metadata_all(TIMEOUT) {
            Ok(all) => self.match_all(all, client, &mut seen),
            Err(error) => seen.error = Some(error),
        }
        seen
    }

    fn match_all(&self, all: Vec<TopicInfo>, client: &Client, seen: &mut TopicsSeen) {
        for expression in &self.expressions {
            let mut matched = false;
            for info in all.iter().filter(|info| expression.is_match(&info.name) && !is_internal(&info.name))
            {
                matched = true;
                if seen.partitions.contains_key(&info.name) {
                    continue;
                }
                // Asked for by name, the client knows the topic from now on.
                match client.metadata_of(&info.name, TIMEOUT) {
                    Ok(info) => seen.note(info, false),
                    Err(error) => seen.error = Some(error),
                }
            }
            if !matched {
                seen.missing.push(expression.as_str().to_owned());
            }
        }
    }
}

impl TopicsSeen {
    fn note(&mut self, info: TopicInfo, by_name: bool) {
        match info.error {
            None if info.partitions > 0 => {
                self.partitions.insert(info.name, info.partitions);
            }
            Some(error) if error.code == codes::UNKNOWN_TOPIC_OR_PART && by_name => {
                self.missing.push(info.name);
            }
            Some(error) if error.code == codes::UNKNOWN_TOPIC_OR_PART => {}
            // It is being made, or its leader is.
            None => {}
            Some(error) => {
                let message = format!("topic \"{}\": {error}", info.name);
                self.error = Some(KafkaError::new(error.code, message));
            }
        }
    }
}

impl TopicWatch {
    /// Starts to look, at once and then each `interval`; more often while anything is missing.
    pub(crate) fn start(
        client: Arc<Client>,
        patterns: Patterns,
        interval: Duration,
        mailbox: Mailbox,
    ) -> std::io::Result<Self> {
        let (commands, received) = channel();
        std::thread::Builder::new()
            .name("laneway-topics".into())
            .spawn(move || watch(client, patterns, interval, &mailbox, &received))?;
        Ok(Self { commands })
    }

    /// Has `membership` look at all topics again, so that it sees new partitions: unless it is not `steady` any more when
    /// it comes to that. [`Message::NotShown`] says so.
    pub(crate) fn show(&self, membership: Arc<Client>, steady: Arc<AtomicBool>) {
        self.commands.send(Command::Show(membership, steady)).ok();
    }

    /// Looks for other topics from now on: the next subscription.
    pub(crate) fn watch(&self, patterns: Patterns) {
        self.commands.send(Command::Watch(patterns)).ok();
    }

    /// Looks through another client from now on, at once.
    pub(crate) fn ask_through(&self, client: Arc<Client>) {
        self.commands.send(Command::Through(client)).ok();
    }

    /// Looks again at once. With what it finds the client also learns the leaders anew: its questions for
    /// offsets would go on with the old ones, after a broker was started again.
    pub(crate) fn look(&self) {
        self.commands.send(Command::Look).ok();
    }
}

fn watch(
    mut client: Arc<Client>,
    mut patterns: Patterns,
    interval: Duration,
    mailbox: &Mailbox,
    commands: &Receiver<Command>,
) {
    let mut subscription = 0;
    loop {
        let mut seen = patterns.look(&client);
        seen.subscription = subscription;
        let is_whole = seen.missing.is_empty() && seen.error.is_none() && !seen.partitions.is_empty();
        mailbox.post(Message::Topics(seen));
        let pause = if is_whole { interval } else { interval.min(SHORT_INTERVAL) };
        loop {
            match commands.recv_timeout(pause) {
                // Asking for all topics makes that client look at its subscription again.
                Ok(Command::Show(membership, steady)) if steady.load(Ordering::Acquire) => {
                    membership.metadata_all(TIMEOUT).ok();
                }
                Ok(Command::Show(..)) => mailbox.post(Message::NotShown),
                Ok(Command::Watch(new)) => {
                    patterns = new;
                    subscription += 1;
                    break;
                }
                Ok(Command::Through(other)) => {
                    client = other;
                    break;
                }
                Ok(Command::Look) | Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

fn is_topic_name(name: &str) -> bool {
    let is_allowed = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.chars().all(is_allowed)
}

/// Kafka's own topics, which no expression matches (as in the Java client).
fn is_internal(name: &str) -> bool {
    ["__consumer_offsets", "__transaction_state", "__share_group_state"].contains(&name)
}

/// How long one question for metadata may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How often topics are looked for while one is missing or no broker answers.
const SHORT_INTERVAL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::sys::MockCluster;

    #[test]
    fn who_is_not_steady_is_shown_nothing_and_that_is_told() {
        let cluster = MockCluster::new("t", 1);
        let (mailbox, messages) = Mailbox::new();
        let patterns = Patterns::new(&["t".into()], None, &RetryTopics::default()).unwrap();
        let client = cluster.client(&[]);
        let watch = TopicWatch::start(client.clone(), patterns, Duration::from_secs(60), mailbox).unwrap();
        let next = || messages.recv_timeout(Duration::from_secs(20));
        assert!(matches!(next(), Ok(Message::Topics(_))));
        watch.show(client.clone(), Arc::new(AtomicBool::new(true)));
        watch.show(client, Arc::default());
        assert!(matches!(next(), Ok(Message::NotShown)));
        watch.look();
        assert!(
            matches!(next(), Ok(Message::Topics(_))),
            "the first one was shown, and nothing was said of it"
        );
    }

    fn error_of(topic: &str) -> String {
        Patterns::new(&[topic.to_owned()], None, &RetryTopics::default()).expect_err(topic).to_string()
    }

    #[test]
    fn names_and_expressions_that_are_neither_are_refused_by_name() {
        assert!(error_of("^a(").contains("^a("));
        assert!(error_of("no spaces").contains("no spaces"));
        assert!(error_of("").contains("not a topic's name"));
        let topics = ["orders".into(), "^pay.*".into()];
        let retries = |topic: &str| {
            let mut retries = RetryTopics::default();
            retries.add([("orders.retry".into(), TIMEOUT), (topic.into(), TIMEOUT)]);
            retries
        };
        Patterns::new(&topics, Some("orders.dead"), &retries("orders.retry.2")).unwrap();
        for topic in ["orders", "payments", "no spaces"] {
            let error =
                Patterns::new(&topics, Some(topic), &RetryTopics::default()).expect_err(topic).to_string();
            assert!(error.contains(topic) && error.contains("dead letters"), "{error}");
            let error = Patterns::new(&topics, None, &retries(topic)).expect_err(topic).to_string();
            assert!(error.contains(topic) && error.contains("retries"), "{error}");
        }
    }
}
