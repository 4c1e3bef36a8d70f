//! How a consumer is set up.

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use laneway_core::TopicPartition;

use crate::assign::{self, Start};
use crate::config::{OffsetReset, Protocol};
use crate::consumer::Consumer;
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::failures::{GiveUp, StallAction, StormGuard};
use crate::fetcher::Fetcher;
use crate::hooks::{Hooks, LaneHooks};
use crate::lane::panic_text;
use crate::oauth::{Source, TokenProvider};
use crate::ordering::{KeyOf, Keyless, Ordering};
use crate::properties::shown_name;
use crate::record::Record;
use crate::retry_topics::RetryTopics;

/// Sets up a [`Consumer`]. Needs brokers, a group and at least one topic (or, without a group, partitions that are
/// assigned by hand); everything else has a default.
#[must_use]
pub struct Builder {
    pub(crate) brokers: String,
    pub(crate) group: String,
    pub(crate) topics: Vec<String>,
    pub(crate) assigned: Option<Vec<(TopicPartition, Start)>>,
    pub(crate) properties: Vec<(String, String)>,
    pub(crate) protocol: Protocol,
    pub(crate) instance_id: Option<String>,
    pub(crate) offset_reset: OffsetReset,
    pub(crate) drain_deadline: Duration,
    pub(crate) commit_interval: Duration,
    pub(crate) exit_at_end: bool,
    pub(crate) count: Option<u64>,
    pub(crate) stuck: StuckHandlers,
    pub(crate) on_event: EventSink,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) allow_long_drain: bool,
    pub(crate) membership_refresh: Option<Duration>,
    pub(crate) fetcher: Option<Box<dyn Fetcher>>,
    pub(crate) ordering: Ordering,
    pub(crate) keyless: Keyless,
    pub(crate) key_of: Option<KeyOf>,
    pub(crate) concurrency: Option<usize>,
    pub(crate) lane_concurrency: Option<usize>,
    pub(crate) attempts: Option<u32>,
    pub(crate) retry_for: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) give_up: Option<GiveUp>,
    pub(crate) dead_letters: Option<String>,
    pub(crate) retry_topics: RetryTopics,
    pub(crate) storm_guard: Option<StormGuard>,
    pub(crate) stall_after: Duration,
    pub(crate) memory: u64,
    pub(crate) stall: Option<(Duration, StallAction)>,
    pub(crate) offset_map_limit: usize,
    pub(crate) tokens: Option<Arc<dyn Source>>,
    pub(crate) hooks: Option<Arc<dyn Hooks>>,
}

pub(crate) type EventSink = Arc<dyn Fn(&Event) + Send + Sync>;

/// What happens to a handler that can't be cancelled (it blocks its thread) and outlives its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StuckHandlers {
    /// It is left running, fenced: nothing it does afterwards counts, its partition is not read by this
    /// consumer again before it has returned, and it is reported. Another member may meanwhile work on
    /// the same partition.
    #[default]
    Detach,
    /// The process is ended with exit code 3, so that no two members work on one partition.
    ExitProcess,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            brokers: String::new(),
            group: String::new(),
            topics: Vec::new(),
            assigned: None,
            properties: Vec::new(),
            protocol: Protocol::default(),
            instance_id: None,
            offset_reset: OffsetReset::default(),
            drain_deadline: Duration::from_secs(25),
            commit_interval: Duration::from_secs(1),
            exit_at_end: false,
            count: None,
            stuck: StuckHandlers::default(),
            on_event: Arc::new(|_| {}),
            backoff: (Duration::from_millis(100), Duration::from_secs(30)),
            allow_long_drain: false,
            membership_refresh: None,
            fetcher: None,
            ordering: Ordering::default(),
            keyless: Keyless::default(),
            key_of: None,
            concurrency: None,
            lane_concurrency: None,
            attempts: None,
            retry_for: None,
            timeout: None,
            give_up: None,
            dead_letters: None,
            retry_topics: RetryTopics::default(),
            storm_guard: None,
            stall_after: Duration::from_secs(60),
            memory: DEFAULT_MEMORY,
            stall: None,
            offset_map_limit: laneway_core::map::DEFAULT_LIMIT,
            tokens: None,
            hooks: None,
        }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Properties may hold secrets: only their names are shown. So does what is in front of an @ in an address.
        let properties: Vec<_> = self.properties.iter().map(|(key, _)| shown_name(key)).collect();
        let address = self.brokers.rsplit_once('@').map(|(_, address)| format!("...@{address}"));
        f.debug_struct("Builder")
            .field("brokers", address.as_ref().unwrap_or(&self.brokers))
            .field("group", &self.group)
            .field("topics", &self.topics)
            .field("assigned", &self.assigned)
            .field("properties", &properties)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Where the cluster is: `HOST:PORT`, several separated by commas.
    pub fn brokers(mut self, brokers: impl Into<String>) -> Self {
        self.brokers = brokers.into();
        self
    }

    /// The consumer group.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = group.into();
        self
    }

    /// The topics to read. A name that starts with `^` is a regular expression.
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics.extend(topics.into_iter().map(Into::into));
        self
    }

    /// Reads these partitions, each from where it says, without a group: in the place of [`Builder::group`] and
    /// [`Builder::topics`].
    ///
    /// There is no membership, no rebalance and no commit: nothing outlives the consumer, and who else reads the same
    /// partitions is nobody's business here. All else is as ever: a lane for each partition, its order, handlers and
    /// streams, failures and dead letters, [`Handle::seek`](crate::Handle::seek) and pauses, the end at the end, a stop
    /// that drains. A partition that does not exist ends the consumer at its start
    /// ([`ErrorKind::MissingTopic`](crate::ErrorKind::MissingTopic)). A topic that is deleted later is told of
    /// ([`Event::TopicMissing`]), and its lanes are read again where they stand until it is back.
    ///
    /// ```no_run
    /// # async fn example(position_of_last_time: i64) -> Result<(), laneway::Error> {
    /// use laneway::{Consumer, Record, Start, TopicPartition};
    ///
    /// let consumer = Consumer::builder()
    ///     .brokers("localhost:9092")
    ///     .assign([
    ///         (TopicPartition::new("orders", 0), Start::Offset(position_of_last_time)),
    ///         (TopicPartition::new("orders", 1), Start::Beginning),
    ///     ])
    ///     .exit_at_end(true)
    ///     .build()?;
    /// consumer.run(|record: Record| async move { println!("{}", record.offset()) }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn assign(mut self, partitions: impl IntoIterator<Item = (TopicPartition, Start)>) -> Self {
        self.assigned.get_or_insert_default().extend(partitions);
        self
    }

    /// A property of Kafka's client, as librdkafka spells it. It goes to the client that it concerns; one
    /// that contradicts what Laneway does is refused by [`Builder::build`].
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((key.into(), value.into()));
        self
    }

    /// The rebalance protocol. Default: [`Protocol::Cooperative`].
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Makes the member a static one (`group.instance.id`). Default: none.
    pub fn instance_id(mut self, id: impl Into<String>) -> Self {
        self.instance_id = Some(id.into());
        self
    }

    /// Where a partition starts that has no committed offset. Default: [`OffsetReset::Latest`], as Kafka's.
    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.offset_reset = reset;
        self
    }

    /// How long a revoke or a stop waits for records in flight. Default: 25 s. Ending what runs then, the
    /// last commit and the leave have 5 s more; both together must be shorter than
    /// `max.poll.interval.ms`.
    pub fn drain_deadline(mut self, deadline: Duration) -> Self {
        self.drain_deadline = deadline;
        self
    }

    /// How often finished work is committed. Default: 1 s.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.commit_interval = interval;
        self
    }

    /// Stop when every partition that this member holds is finished up to the end that it had when it was
    /// assigned. Default: off.
    pub fn exit_at_end(mut self, exit: bool) -> Self {
        self.exit_at_end = exit;
        self
    }

    /// Stop after `count` records finished: exactly that many different ones are handed out. Default: off.
    pub fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// What happens to handlers that block and outlive their deadline. Default: [`StuckHandlers::Detach`].
    pub fn stuck_handlers(mut self, stuck: StuckHandlers) -> Self {
        self.stuck = stuck;
        self
    }

    /// The first and the longest wait between two tries of a record that failed; it doubles in between.
    /// Default: 100 ms and 30 s.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = (first, longest);
        self
    }

    /// Which records are handled in their order. Default: [`Ordering::Partition`].
    pub fn ordering(mut self, ordering: Ordering) -> Self {
        self.ordering = ordering;
        self
    }

    /// What tells a record's key, for [`Ordering::Key`], where that is not the record's own key. `None`: it has none.
    /// It is called on the lane's task, perhaps more than once for a record, and must always tell the same. Where it
    /// panics the lane is read again, with a growing wait, and an event says so.
    ///
    /// ```
    /// # use std::borrow::Cow;
    /// // Records of one customer in their order; the customer stands before the colon of the key.
    /// let builder = laneway::Consumer::builder()
    ///     .ordering(laneway::Ordering::Key)
    ///     .key(|record| Some(Cow::Borrowed(record.key()?.split(|byte| *byte == b':').next()?)));
    /// ```
    pub fn key(
        mut self,
        key: impl for<'a> Fn(&'a Record) -> Option<Cow<'a, [u8]>> + Send + Sync + 'static,
    ) -> Self {
        self.key_of = Some(Arc::new(key));
        self
    }

    /// What becomes of records without a key, with [`Ordering::Key`]. Default: [`Keyless::Unordered`].
    pub fn keyless(mut self, keyless: Keyless) -> Self {
        self.keyless = keyless;
        self
    }

    /// Records in flight at once, in all lanes together (of a handler of batches: batches). A record that waits for
    /// its next try is not in flight. Default: no limit with [`Ordering::Partition`], which has one in each lane, and
    /// 256 otherwise. [`Handle::set_concurrency`](crate::Handle::set_concurrency) changes it.
    ///
    /// Where there is less room than work, a lane's share of it is its share of the records that wait, at least one in
    /// turn; and by key the busiest key goes on beside the others, not after them.
    pub fn concurrency(mut self, records: usize) -> Self {
        self.concurrency = Some(records);
        self
    }

    /// Records in flight at once in one lane. Default: no limit of its own.
    pub fn lane_concurrency(mut self, records: usize) -> Self {
        self.lane_concurrency = Some(records);
        self
    }

    /// How much memory may be used, in bytes, for all that is fetched ahead, handed out, queued and waiting. Default:
    /// 512 MiB; at least 1 MiB.
    ///
    /// Where it does not carry all partitions that have something to read, they take turns. Records that the user's
    /// code keeps beyond its call are the user's, and each may keep all that it was fetched with in memory: see
    /// [`Record`](crate::Record). A record that is larger than a quarter of the budget passes, alone, and is told
    /// of, once for each lane.
    /// How much larger compressed batches become is learnt from the first that come.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// How often a record is tried, the first try included, before it is given up. Tries are counted where it is
    /// handled: they start again after a move or a restart. Default: no limit; with [`Builder::retry_topics`], 1, and it
    /// holds in each of those topics anew.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// How long a record is tried, from its first failure on, before it is given up (in each of the
    /// [`Builder::retry_topics`] anew). Default: no limit.
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = Some(time);
        self
    }

    /// How long one try may take. Then its future is dropped, and the try has failed. What can't be cancelled (a call of
    /// [`Consumer::run_blocking`](crate::Consumer::run_blocking), a task that computes) keeps the record's place, and its
    /// key's, until it has returned: the failure is told then, and the next try begins. Default: no limit.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// What happens to a record that is given up. Default: [`GiveUp::DeadLetter`] if there is a topic for those, else
    /// [`GiveUp::Stop`].
    pub fn on_give_up(mut self, give_up: GiveUp) -> Self {
        self.give_up = Some(give_up);
        self
    }

    /// The topic that records go to which were given up. It must exist, and must not be one that is read.
    ///
    /// A dead letter has the record's key, payload and headers, and behind those `laneway.topic`,
    /// `laneway.partition`, `laneway.offset`, `laneway.timestamp` (milliseconds since 1970, if the record has one),
    /// `laneway.group`, `laneway.attempts`, `laneway.first-failure`, `laneway.last-failure` (milliseconds since 1970)
    /// and `laneway.error` (at most 4,096 bytes), their values as text. Of a record that went through
    /// [`Builder::retry_topics`] these say where it was first, and all its tries and errors together. It is written by an idempotent producer and
    /// acknowledged by all replicas in sync before the record counts as finished; while it can't be written the
    /// record waits, and an event says so.
    pub fn dead_letters(mut self, topic: impl Into<String>) -> Self {
        self.dead_letters = Some(topic.into());
        self
    }

    /// Topics that records wait in before they are tried again, each with how long: instead of waiting in place, where a
    /// record holds up those that keep their order with it. **Their order is lost:** a record that went to a retry topic
    /// is handled after others of its partition and its key that came later.
    ///
    /// A record that failed as often as [`Builder::attempts`] says (once, if that is not set) is written to the first of
    /// these topics, as a dead letter is, and counts as finished when the brokers have it. The consumer reads these
    /// topics beside the others, from their beginning; it hands a record out when it has waited, and if it fails again
    /// it goes to the next one. A handler that asks for a wait ([`Outcome::Retry`](crate::Outcome::Retry)) has it go to
    /// the first of the next ones that is as long, or to the last one. What fails in the last one is given up:
    /// [`Builder::on_give_up`]. A record that a handler gives up is not tried again.
    ///
    /// There it has the headers of a [dead letter](Builder::dead_letters) and `laneway.due` (milliseconds since 1970);
    /// topic, partition, offset and time in them are those of the record as it was first, tries are counted together,
    /// and there is one `laneway.error` for each topic in which it failed, the last one last (earlier ones cut to 1,024
    /// bytes, and no more than 16). A record without such headers, or with damaged ones, or of another group, is handled
    /// at once as at its first try, and an event says so.
    ///
    /// The topics must exist, must not be among those that are read otherwise, belong to this group alone, and keep
    /// their records for longer than they wait and lag. [`Builder::exit_at_end`] waits for what is in them when they are
    /// assigned, and not for what comes later.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let builder = laneway::Consumer::builder().retry_topics([
    ///     ("orders.retry.5s", Duration::from_secs(5)),
    ///     ("orders.retry.1m", Duration::from_secs(60)),
    /// ]);
    /// ```
    pub fn retry_topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = (T, Duration)>) -> Self {
        self.retry_topics.add(topics.into_iter().map(|(topic, delay)| (topic.into(), delay)));
        self
    }

    /// Keeps the consumer from draining a topic into the dead letters when everything fails. Default: none.
    pub fn storm_guard(mut self, guard: StormGuard) -> Self {
        self.storm_guard = Some(guard);
        self
    }

    /// How much of what is finished ahead of the committed offset may be remembered with it, in UTF-16 units of the
    /// commit's metadata: the broker's `offset.metadata.max.bytes`. Default: 4,096, as the broker's. 0: nothing is, and
    /// after a crash or a move all records behind the first unfinished one come again.
    pub fn offset_map_limit(mut self, units: usize) -> Self {
        self.offset_map_limit = units;
        self
    }

    /// After how long an event tells of a handler that is still at a record: with its partition, offset, key and age;
    /// again each time that the age has doubled. Default: 60 s.
    pub fn stall_after(mut self, time: Duration) -> Self {
        self.stall_after = time;
        self
    }

    /// How long a handler may be at a record (from the begin of a try, to a second or so) before it counts as stalled, and
    /// what is done then. Default: as long as it takes. A wait between tries, for a retry topic or for dead letters that
    /// can't be written is no stall. A handler that blocks its thread is seen after 5 s at the earliest.
    ///
    /// ```
    /// # use std::time::Duration;
    /// // A member whose handler hangs for ten minutes leaves, and ends with an error.
    /// let builder = laneway::Consumer::builder().stall(Duration::from_secs(600), laneway::StallAction::Leave);
    /// ```
    pub fn stall(mut self, limit: Duration, action: StallAction) -> Self {
        self.stall = Some((limit, action));
        self
    }

    /// Calls `sink` for everything that happens. It is called on the client thread and must return soon. Where it panics
    /// the log says so (`tracing`, as an error), and the consumer goes on.
    pub fn on_event(mut self, sink: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Arc::new(move |event| tell(&sink, event));
        self
    }

    /// Fetches with `fetcher` instead of librdkafka: for tests, and for faster ones.
    pub fn fetcher(mut self, fetcher: impl Fetcher + 'static) -> Self {
        self.fetcher = Some(Box::new(fetcher));
        self
    }

    /// Asks `provider` for the tokens of SASL OAUTHBEARER: one for both clients, in tasks of the runtime that the
    /// consumer runs on, and each time before the last one expires.
    pub fn token_provider(mut self, provider: impl TokenProvider) -> Self {
        self.tokens = Some(Arc::new(provider));
        self
    }

    /// Has `hooks` called around the coming and going of lanes: before a lane takes its first record, before its
    /// partition is given back, and after an assignment, a revoke or a loss. Default: none.
    pub fn hooks(mut self, hooks: impl LaneHooks) -> Self {
        self.hooks = Some(Arc::new(hooks));
        self
    }

    /// Allows drains longer than the rebalance timeout: only for tests of being thrown out.
    #[doc(hidden)]
    pub fn allow_drains_longer_than_the_rebalance_timeout(mut self) -> Self {
        self.allow_long_drain = true;
        self
    }

    /// Has membership look for changes of topics by itself, also in the middle of a hold: only for tests of
    /// what comes of that.
    #[doc(hidden)]
    pub fn membership_refreshes_metadata(mut self, each: Duration) -> Self {
        self.membership_refresh = Some(each);
        self
    }

    /// Checks everything and makes the consumer. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the setting, what was given and what is
    /// allowed.
    pub fn build(self) -> Result<Consumer, Error> {
        Consumer::new(self)
    }

    /// Checks what every question about a group needs.
    pub(crate) fn check_addresses(&self) -> Result<(), Error> {
        self.check_brokers()?;
        if self.group.is_empty() {
            let message = "no group: the name of a consumer group is wanted";
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(())
    }

    fn check_brokers(&self) -> Result<(), Error> {
        if self.brokers.is_empty() {
            let message = "no brokers: HOST:PORT is wanted, several separated by commas";
            return Err(Error::new(ErrorKind::Config, message));
        }
        // What is in front of it was meant to be somebody's name and password.
        if self.brokers.contains('@') {
            let message = "there is an @ in the brokers' addresses: HOST:PORT is wanted, several separated by commas; name \
                           and password are properties (sasl.username, sasl.password)";
            return Err(Error::new(ErrorKind::Config, message));
        }
        self.brokers.split(',').try_for_each(|broker| check_broker(broker.trim()))
    }

    /// Checks what only one of both can have: a group, or partitions that are assigned by hand.
    fn check_assigned(&self, given: &[(TopicPartition, Start)]) -> Result<(), Error> {
        let refuse = |message: &str| Err(Error::new(ErrorKind::Config, message));
        if !self.group.is_empty() {
            return refuse(
                "partitions are assigned by hand, and a group is given: a group assigns its partitions itself. Give \
                 a group and topics, or partitions without a group",
            );
        }
        if !self.topics.is_empty() {
            return refuse(
                "partitions are assigned by hand, and topics are given: only a group can assign all partitions of a \
                 topic. Give a group and topics, or partitions alone",
            );
        }
        if self.instance_id.is_some() {
            return refuse("an instance id is for members of a group, and partitions are assigned by hand");
        }
        if !self.retry_topics.is_empty() {
            return refuse("retry topics are read by a group, and partitions are assigned by hand");
        }
        if assign::checked(given)?.is_empty() {
            return refuse("no partition is assigned: at least one is wanted");
        }
        Ok(())
    }

    /// Cuts times that stand for "for ever" to one that can be added to any other, and to a time of day.
    pub(crate) fn in_bounds(mut self) -> Self {
        let cut = |time: Duration| time.min(LONGEST_TIME);
        self.drain_deadline = cut(self.drain_deadline);
        self.commit_interval = cut(self.commit_interval);
        self.backoff = (cut(self.backoff.0), cut(self.backoff.1));
        self.retry_for = self.retry_for.map(cut);
        self.timeout = self.timeout.map(cut);
        self.stall_after = cut(self.stall_after);
        self.stall = self.stall.map(|(limit, action)| (cut(limit), action));
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |message: String| Err(Error::new(ErrorKind::Config, message));
        if let Some(given) = &self.assigned {
            self.check_brokers()?;
            self.check_assigned(given)?;
        } else {
            self.check_addresses()?;
        }
        if self.topics.is_empty() && self.assigned.is_none() {
            return refuse(
                "no topics: at least one name, or a regular expression that starts with \"^\"".into(),
            );
        }
        if self.count == Some(0) {
            return refuse("a count of 0: at least 1 record is wanted".into());
        }
        for (what, given) in [("concurrency", self.concurrency), ("lane concurrency", self.lane_concurrency)]
        {
            if given == Some(0) {
                return refuse(format!("a {what} of 0: at least 1 record in flight is wanted"));
            }
        }
        if self.memory < LEAST_MEMORY {
            let given = self.memory;
            return refuse(format!("a memory of {given} bytes: at least {LEAST_MEMORY} (1 MiB) is wanted"));
        }
        if self.attempts == Some(0) {
            return refuse("0 attempts: at least 1 is wanted, the first included".into());
        }
        if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            return refuse("a timeout of 0: more than that is wanted, such as 60 s".into());
        }
        if self.give_up == Some(GiveUp::DeadLetter) && self.dead_letters.is_none() {
            return refuse("dead letters are wanted, and no topic for them is given".into());
        }
        self.retry_topics.check(self.dead_letters.as_deref())?;
        if self.storm_guard.is_some() && self.dead_letters.is_none() {
            return refuse("a storm guard guards dead letters, and no topic for them is given".into());
        }
        if self.stall_after.is_zero() {
            return refuse("a stall after 0 s: more than that is wanted, such as 60 s".into());
        }
        if self.stall.is_some_and(|(limit, _)| limit.is_zero()) {
            return refuse("a limit of 0 for stalls: more than that is wanted, such as 600 s".into());
        }
        if self.commit_interval.is_zero() {
            return refuse("a commit interval of 0: more than that is wanted, such as 1 s".into());
        }
        if self.backoff.0 > self.backoff.1 || self.backoff.0.is_zero() {
            let (first, longest) = self.backoff;
            return refuse(format!("a backoff from {first:?} to {longest:?}: from short to long is wanted"));
        }
        Ok(())
    }
}

/// Calls the user's sink on the client thread, which must outlive it. Of a panic the log alone can tell, as the sink is what
/// is told all else.
fn tell(sink: &impl Fn(&Event), event: &Event) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| sink(event))) {
        tracing::error!("the function for events panicked: {}; the event was {event:?}", panic_text(&*panic));
    }
}

/// Checks `HOST:PORT`, also with a protocol before it (`SSL://host:9093`) and with `[::1]:9092`.
fn check_broker(broker: &str) -> Result<(), Error> {
    let address = broker.split_once("://").map_or(broker, |(_, address)| address);
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_good = match address.rsplit_once(':') {
        Some((host, port)) => {
            let is_bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
            !host.is_empty() && is_bare && !host.contains(char::is_whitespace) && is_port(port)
        }
        None => false,
    };
    if is_good {
        return Ok(());
    }
    let message =
        format!("\"{broker}\" is not a broker's address: HOST:PORT is wanted, with a port from 1 to 65535");
    Err(Error::new(ErrorKind::Config, message))
}

/// A hundred years.
pub(crate) const LONGEST_TIME: Duration = Duration::from_secs(100 * 365 * 86_400);
const DEFAULT_MEMORY: u64 = 512 << 20;
const LEAST_MEMORY: u64 = 1 << 20;
