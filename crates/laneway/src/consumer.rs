//! A consumer, and what runs it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use laneway_core::{LaneId, Reset, Settings};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::apart::{Blocking, BlockingBatches, Spawned};
use crate::assign;
use crate::builder::Builder;
use crate::client::{Board, Mailbox, Message, Patterns, Reaper, Setup, Spawn, spawn as start_thread};
use crate::config::{OffsetReset, Protocol};
use crate::error::{Error, ErrorKind};
use crate::failures::{Bucket, GiveUp};
use crate::fetcher::{MakeClient, NativeFetcher};
use crate::handle::Handle;
use crate::handler::{
    BatchOutcome, Batches, Batching, Closing, Handler, IntoBatchOutcome, IntoOutcome, MakeHandler, Outcome,
};
use crate::lane::{Failures, Lane, Limit, Memory, Quota, Work};
use crate::ordering::Ordering;
use crate::properties::{Clients, GRACE};
use crate::record::Record;
use crate::streaming::{self, Lanes};
use crate::sys::{Client, Config};

/// A member of a consumer group that reads each partition it is assigned in a lane of its own.
///
/// Made by [`Consumer::builder`]; nothing is connected to before [`Consumer::run`].
pub struct Consumer {
    builder: Builder,
    clients: Clients,
    patterns: Patterns,
    received: Receiver<Message>,
    mailbox: Mailbox,
    board: Arc<Board>,
    limit: Arc<Limit>,
    ended: watch::Sender<bool>,
}

/// How a consumer ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Summary {
    /// Why it stopped.
    pub reason: StopReason,
    /// Records that were finished, counted as in [`Status::finished`](crate::Status::finished): with those that were passed
    /// over because they were finished before.
    pub finished: u64,
    /// Records that were in flight when the stop ended their lane by force. They come again.
    pub unfinished: u64,
    /// Offsets that were finished and could not be committed by the end of the stop. They come again.
    pub uncommitted: u64,
    /// Handlers that were still running when the consumer ended.
    pub detached: u64,
    /// How long the stop took.
    pub stop: Duration,
}

/// Why a consumer stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// [`Handle::stop`] was called, or the future of [`Consumer::run`] was dropped.
    Asked,
    /// Everything was finished up to the end ([`Builder::exit_at_end`]).
    AtEnd,
    /// As many records as wanted were finished ([`Builder::count`]).
    Count,
}

impl Consumer {
    /// Begins to set up a consumer.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(builder: Builder) -> Result<Self, Error> {
        let builder = builder.in_bounds();
        builder.check()?;
        let clients = Clients::new(&builder)?;
        let assigned = builder.assigned.iter().flatten().map(|(partition, _)| partition.topic.to_string());
        let topics: BTreeSet<String> = builder.topics.iter().cloned().chain(assigned).collect();
        let topics: Vec<String> = topics.into_iter().collect();
        let patterns = Patterns::new(&topics, builder.dead_letters.as_deref(), &builder.retry_topics)?;
        let (mailbox, received) = Mailbox::new();
        let (ended, _) = watch::channel(false);
        let default = if builder.ordering == Ordering::Partition { usize::MAX } else { DEFAULT_CONCURRENCY };
        let most = builder.concurrency.unwrap_or(default);
        let limit = Arc::new(Limit::new(most, builder.lane_concurrency.unwrap_or(usize::MAX)));
        Ok(Self { builder, clients, patterns, received, mailbox, board: Arc::default(), limit, ended })
    }

    /// A handle to stop the consumer and to look at it.
    pub fn handle(&self) -> Handle {
        Handle {
            mailbox: self.mailbox.clone(),
            board: self.board.clone(),
            limit: self.limit.clone(),
            ended: self.ended.subscribe(),
            group: self.builder.group.as_str().into(),
            instance_id: self.builder.instance_id.as_deref().map(Arc::from),
        }
    }

    /// Reads and handles until the consumer is stopped, or ends by itself as set up, or can't go on.
    ///
    /// Every lane runs as a task on the runtime that polls this first.
    ///
    /// # Errors
    /// When the consumer can't go on: see [`ErrorKind`]. What was finished was committed as far as the
    /// group let it be.
    ///
    /// # Cancellation
    /// Dropping the future stops the consumer as [`Handle::stop`] does, without waiting for it.
    pub fn run<H: Handler>(self, handler: H) -> impl Future<Output = Result<Summary, Error>> {
        self.run_lanes(OneForAll(Arc::new(handler)))
    }

    /// Like [`Consumer::run`], with a closure that is given batches.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn insert(_: &[laneway::Record]) -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn example(consumer: laneway::Consumer) -> Result<(), laneway::Error> {
    /// let batching = laneway::Batching::of(500).bytes(1 << 20).linger(Duration::from_millis(50));
    /// consumer.run_batches(batching, |records| async move { insert(&records).await }).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Consumer::run`].
    pub fn run_batches<F, Fut, O>(
        self,
        batching: Batching,
        handle: F,
    ) -> impl Future<Output = Result<Summary, Error>>
    where
        F: Fn(Vec<Record>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = O> + Send,
        O: IntoBatchOutcome,
    {
        self.run(Batches::new(batching, handle))
    }

    /// Like [`Consumer::run`], with each call in a task of its own: for handlers that compute for long between their
    /// await points, so that those of one lane run on all cores (with an ordering that lets several run at once).
    ///
    /// # Errors
    /// As [`Consumer::run`].
    pub fn run_spawned<F, Fut, O>(self, call: F) -> impl Future<Output = Result<Summary, Error>>
    where
        F: Fn(Record) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = O> + Send + 'static,
        O: IntoOutcome + 'static,
    {
        self.run_lanes(Spawned::new(call))
    }

    /// Like [`Consumer::run`], with a closure that blocks its thread: each call is made on the runtime's blocking pool
    /// (some microseconds a call; batches are cheaper). See [`Blocking`] for calls that outlive the drain deadline.
    ///
    /// ```no_run
    /// # fn write(_: &laneway::Record) -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn example(consumer: laneway::Consumer) -> Result<(), laneway::Error> {
    /// consumer.run_blocking(|record| write(&record)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Consumer::run`].
    pub fn run_blocking<F, O>(self, call: F) -> impl Future<Output = Result<Summary, Error>>
    where
        F: Fn(Record) -> O + Send + Sync + 'static,
        O: IntoOutcome + 'static,
    {
        self.run_lanes(Blocking::new(call))
    }

    /// Like [`Consumer::run_batches`], with a closure that blocks its thread.
    ///
    /// # Errors
    /// As [`Consumer::run`].
    pub fn run_blocking_batches<F, O>(
        self,
        batching: Batching,
        call: F,
    ) -> impl Future<Output = Result<Summary, Error>>
    where
        F: Fn(Vec<Record>) -> O + Send + Sync + 'static,
        O: IntoBatchOutcome + 'static,
    {
        self.run_lanes(BlockingBatches::new(batching, call))
    }

    /// Like [`Consumer::run`], with a handler of its own for each lane.
    ///
    /// # Errors
    /// As [`Consumer::run`].
    pub fn run_lanes<M: MakeHandler>(self, handlers: M) -> impl Future<Output = Result<Summary, Error>> {
        // Here and not when it is first polled: a handle may be asked as soon as a task that runs this was spawned.
        self.mailbox.begin();
        async move {
            let runtime = current_runtime()?;
            let handlers = Arc::new(handlers);
            let spawn = move |lane: Lane| {
                let handlers = handlers.clone();
                runtime.spawn(lane.run(move |id| handlers.make(id)));
            };
            self.start(Box::new(spawn))?.wait().await
        }
    }

    /// Reads, and gives the lanes as streams: for code that pulls records itself. See [`Lanes`].
    ///
    /// Called on a tokio runtime, on which each lane has a small task.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] outside of a runtime, or together with [`Builder::count`] (a stream hands out as many
    /// records as are taken from it) or [`Builder::retry_topics`].
    pub fn into_lanes(self) -> Result<Lanes, Error> {
        if self.builder.count.is_some() {
            let message =
                "a count is for handlers: take as many records as are wanted from the lanes, and stop";
            return Err(Error::new(ErrorKind::Config, message));
        }
        if !self.builder.retry_topics.is_empty() {
            let message =
                "retry topics are for handlers: what fails in a stream is for its reader to write there";
            return Err(Error::new(ErrorKind::Config, message));
        }
        let runtime = current_runtime()?;
        let (begins, begun) = mpsc::unbounded_channel();
        let spawn = move |lane: Lane| {
            let id = lane.shared.id.clone();
            let (task, from_lane, window) = lane.stream();
            // Where nobody takes lanes any more the consumer is about to stop.
            begins.send(streaming::Lane::new(id, from_lane, window)).ok();
            runtime.spawn(task);
        };
        Ok(Lanes::new(begun, self.start(Box::new(spawn))?))
    }

    /// Starts the client thread.
    fn start(self, spawn: Spawn) -> Result<Running, Error> {
        self.mailbox.begin();
        let handle = self.handle();
        let Self { builder, clients, patterns, received, mailbox, board, limit, ended } = self;
        let topic_client = fetching_client(&clients, clients.fetcher_config()?)
            .map_err(|error| Error::new(ErrorKind::Config, format!("could not make the fetcher: {error}")))?;
        let reaper = Reaper::default();
        let fetcher = builder
            .fetcher
            .unwrap_or_else(|| Box::new(native_fetcher(&clients, topic_client.clone(), reaper.clone())));
        let mut keeper = JoinSet::new();
        if let Some(tokens) = clients.tokens.clone() {
            let to_thread = mailbox.clone();
            keeper.spawn(tokens.keep(move |error| to_thread.post(Message::NoToken(error))));
        }
        let memory = Arc::new(Memory::new(builder.memory, clients.prefetch()));
        let setup = Setup {
            clients,
            patterns,
            assigned: builder.assigned.as_deref().map(assign::checked).transpose()?,
            settings: Settings {
                protocol: match builder.protocol {
                    // The member of no group is always steady, as that of one is with KIP-848.
                    _ if builder.assigned.is_some() => laneway_core::Protocol::Consumer,
                    Protocol::Eager => laneway_core::Protocol::Eager,
                    Protocol::Cooperative => laneway_core::Protocol::Cooperative,
                    Protocol::Consumer => laneway_core::Protocol::Consumer,
                },
                is_static: builder.instance_id.is_some(),
                drain: builder.drain_deadline,
                grace: GRACE,
                commit_interval: builder.commit_interval,
            },
            reset: match builder.offset_reset {
                OffsetReset::Earliest => Reset::Earliest,
                OffsetReset::Latest => Reset::Latest,
                OffsetReset::Error => Reset::Refuse,
            },
            work: Work {
                ordering: builder.ordering,
                keyless: builder.keyless,
                key_of: builder.key_of,
                read_ahead: READ_AHEAD.max(limit.most().min(MOST_READ_AHEAD) * 2),
                memory,
                limit,
                failures: Failures {
                    attempts: match (builder.attempts, builder.retry_for) {
                        (None, None) if !builder.retry_topics.is_empty() => Some(1),
                        (attempts, _) => attempts,
                    },
                    first: builder.backoff.0,
                    longest: builder.backoff.1,
                    retry_for: builder.retry_for,
                    timeout: builder.timeout,
                    give_up: builder.give_up.unwrap_or(match builder.dead_letters {
                        Some(_) => GiveUp::DeadLetter,
                        None => GiveUp::Stop,
                    }),
                },
                letters: None,
                retries: builder.retry_topics,
                guard: builder.storm_guard.map(Bucket::new),
                hooks: builder.hooks,
                stall_after: builder.stall_after,
                stall: builder.stall.map(|(limit, _)| limit),
            },
            dead_letters: builder.dead_letters,
            stall: builder.stall,
            offset_map_limit: builder.offset_map_limit,
            exit_at_end: builder.exit_at_end,
            quota: builder.count.map(|count| Arc::new(Quota::new(count))),
            stuck: builder.stuck,
            on_event: builder.on_event,
            board,
            brokers: builder.brokers,
            group: builder.group,
            spawn,
            runtime: current_runtime()?,
            fetcher,
            topic_client,
            reaper,
        };
        let how = Arc::new(Mutex::new(None));
        let put = how.clone();
        let has_ended = ended.subscribe();
        let done = move |it| {
            drop(keeper);
            *put.lock().unwrap_or_else(PoisonError::into_inner) = Some(it);
            ended.send_replace(true);
        };
        start_thread(setup, mailbox.clone(), received, done)
            .map_err(|error| Error::new(ErrorKind::Fatal, format!("could not start a thread: {error}")))?;
        Ok(Running { handle, how, has_ended, _stop: StopIfDropped(mailbox) })
    }
}

/// Fetches with librdkafka. The first of its clients is there, as it is what looks for topics.
fn native_fetcher(clients: &Clients, first: Arc<Client>, reaper: Reaper) -> NativeFetcher {
    let make = |config: fn(&Clients) -> Result<Config, Error>| -> MakeClient {
        let clients = clients.clone();
        Box::new(move || fetching_client(&clients, config(&clients).map_err(|error| error.to_string())?))
    };
    let fetcher = NativeFetcher::new(first, make(Clients::fetcher_config), reaper);
    if clients.has_quiet_fetcher() {
        fetcher.with_quiet(make(Clients::quiet_fetcher_config))
    } else {
        fetcher
    }
}

/// A client that is in no group, and is given its tokens: it fetches, or only asks.
pub(crate) fn fetching_client(clients: &Clients, config: Config) -> Result<Arc<Client>, String> {
    let client = Client::new(config)?;
    if let Some(tokens) = &clients.tokens {
        tokens.serve(&client);
    }
    Ok(client)
}

fn current_runtime() -> Result<tokio::runtime::Handle, Error> {
    tokio::runtime::Handle::try_current().map_err(|_| {
        Error::new(ErrorKind::Config, "lanes are tasks of a tokio runtime: run the consumer on one")
    })
}

/// A consumer whose client thread runs. Dropped, it is stopped.
pub(crate) struct Running {
    handle: Handle,
    how: Arc<Mutex<Option<Result<Summary, Error>>>>,
    has_ended: watch::Receiver<bool>,
    _stop: StopIfDropped,
}

impl Running {
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    pub(crate) async fn wait(mut self) -> Result<Summary, Error> {
        // An error means that the thread is gone.
        self.has_ended.wait_for(|ended| *ended).await.ok();
        let how = self.how.lock().unwrap_or_else(PoisonError::into_inner).take();
        how.unwrap_or_else(|| Err(Error::new(ErrorKind::Fatal, "the client thread ended without a word")))
    }
}

/// Stops the consumer. One that has ended is not reached any more.
struct StopIfDropped(Mailbox);

impl Drop for StopIfDropped {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// One handler that all lanes share.
struct OneForAll<H>(Arc<H>);

/// A lane's part in it.
struct Shared<H>(Arc<H>);

impl<H: Handler> MakeHandler for OneForAll<H> {
    type Handler = Shared<H>;

    fn make(&self, _: &LaneId) -> Shared<H> {
        Shared(self.0.clone())
    }
}

impl<H: Handler> Handler for Shared<H> {
    fn handle(&self, record: Record) -> impl Future<Output = Outcome> + Send {
        self.0.handle(record)
    }

    fn batching(&self) -> Batching {
        self.0.batching()
    }

    fn handle_batch(&self, records: Vec<Record>) -> impl Future<Output = BatchOutcome> + Send {
        self.0.handle_batch(records)
    }

    fn given_up(&self) -> impl Future<Output = ()> + Send {
        self.0.given_up()
    }

    fn close(&self, closing: Closing) -> impl Future<Output = ()> + Send {
        self.0.close(closing)
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("builder", &self.builder).finish_non_exhaustive()
    }
}

/// Records in flight at once where their order is not the partition's.
const DEFAULT_CONCURRENCY: usize = 256;
/// Records that a lane reads ahead, at least, of those that could run.
const READ_AHEAD: usize = 512;
/// The concurrency beyond which it does not read ahead more.
const MOST_READ_AHEAD: usize = 16_384;
