//! A consumer: what runs it, and the handle that steers it.

use std::fmt;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use laneway_core::{LaneId, Reset, Settings};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::builder::Builder;
use crate::client::{Board, Mailbox, Message, Patterns, Setup, spawn};
use crate::config::{OffsetReset, Protocol};
use crate::error::{Error, ErrorKind};
use crate::fetcher::NativeFetcher;
use crate::handler::{Closing, Handler, MakeHandler, Outcome};
use crate::lane::{Backoff, Lane, Quota};
use crate::properties::{Clients, GRACE};
use crate::record::Record;
use crate::status::Status;
use crate::sys::Client;

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
    ended: watch::Sender<bool>,
}

/// Steers a running consumer, from anywhere. Cheap to clone.
///
/// ```no_run
/// # async fn example(consumer: laneway::Consumer) -> Result<(), laneway::Error> {
/// let handle = consumer.handle();
/// let running = tokio::spawn(consumer.run(|_: laneway::Record| async {}));
/// for lane in handle.status().lanes {
///     println!("{}: lag {:?}", lane.lane, lane.lag);
/// }
/// handle.drain().await; // stopped, drained, committed, out of the group
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Handle {
    mailbox: Mailbox,
    board: Arc<Board>,
    ended: watch::Receiver<bool>,
}

/// How a consumer ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Summary {
    /// Why it stopped.
    pub reason: StopReason,
    /// Records that were finished.
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
        builder.check()?;
        let clients = Clients::new(&builder)?;
        let patterns = Patterns::new(&builder.topics)?;
        let (mailbox, received) = Mailbox::new();
        let (ended, _) = watch::channel(false);
        Ok(Self { builder, clients, patterns, received, mailbox, board: Arc::default(), ended })
    }

    /// A handle to stop the consumer and to look at it.
    pub fn handle(&self) -> Handle {
        Handle { mailbox: self.mailbox.clone(), board: self.board.clone(), ended: self.ended.subscribe() }
    }

    /// Reads and handles until the consumer is stopped, or ends by itself as set up, or can't go on.
    ///
    /// Every lane runs as a task on the runtime that this is called on.
    ///
    /// # Errors
    /// When the consumer can't go on: see [`ErrorKind`]. What was finished was committed as far as the
    /// group let it be.
    ///
    /// # Cancellation
    /// Dropping the future stops the consumer as [`Handle::stop`] does, without waiting for it.
    pub async fn run<H: Handler>(self, handler: H) -> Result<Summary, Error> {
        self.run_lanes(OneForAll(Arc::new(handler))).await
    }

    /// Like [`Consumer::run`], with a handler of its own for each lane.
    ///
    /// # Errors
    /// As [`Consumer::run`].
    pub async fn run_lanes<M: MakeHandler>(self, handlers: M) -> Result<Summary, Error> {
        let Self { builder, clients, patterns, received, mailbox, board, ended } = self;
        let topic_client = Client::new(clients.fetcher_config()?)
            .map_err(|error| Error::new(ErrorKind::Config, format!("could not make the fetcher: {error}")))?;
        if let Some(tokens) = &clients.tokens {
            tokens.serve(&topic_client);
        }
        let fetcher = builder.fetcher.unwrap_or_else(|| Box::new(NativeFetcher::new(topic_client.clone())));
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| {
            Error::new(ErrorKind::Config, "lanes are tasks of a tokio runtime: run the consumer on one")
        })?;
        let mut keeper = JoinSet::new();
        if let Some(tokens) = clients.tokens.clone() {
            let to_thread = mailbox.clone();
            keeper.spawn(tokens.keep(move |error| to_thread.post(Message::NoToken(error))));
        }
        let handlers = Arc::new(handlers);
        let setup = Setup {
            clients,
            patterns,
            settings: Settings {
                protocol: match builder.protocol {
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
            backoff: Backoff { first: builder.backoff.0, longest: builder.backoff.1 },
            exit_at_end: builder.exit_at_end,
            quota: builder.count.map(|count| Arc::new(Quota::new(count))),
            stuck: builder.stuck,
            on_event: builder.on_event,
            board,
            brokers: builder.brokers,
            group: builder.group,
            spawn: Box::new(move |lane: Lane| {
                let handlers = handlers.clone();
                runtime.spawn(lane.run(move |id| handlers.make(id)));
            }),
            fetcher,
            topic_client,
        };
        let mut stop_if_dropped = StopIfDropped(Some(mailbox.clone()));
        let result = Arc::new(Mutex::new(None));
        let put = result.clone();
        let mut has_ended = ended.subscribe();
        let done = move |how| {
            drop(keeper);
            *put.lock().unwrap_or_else(PoisonError::into_inner) = Some(how);
            ended.send_replace(true);
        };
        spawn(setup, mailbox, received, done)
            .map_err(|error| Error::new(ErrorKind::Fatal, format!("could not start a thread: {error}")))?;
        let waited = has_ended.wait_for(|ended| *ended).await;
        stop_if_dropped.0 = None;
        let how = result.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (waited.is_ok(), how) {
            (_, Some(how)) => how,
            _ => Err(Error::new(ErrorKind::Fatal, "the client thread ended without a word")),
        }
    }
}

struct StopIfDropped(Option<Mailbox>);

impl Drop for StopIfDropped {
    fn drop(&mut self) {
        if let Some(mailbox) = &self.0 {
            mailbox.stop();
        }
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

    fn close(&self, closing: Closing) -> impl Future<Output = ()> + Send {
        self.0.close(closing)
    }
}

impl Handle {
    /// Begins to stop: what is in flight is finished (to the drain deadline) and committed, the group is
    /// left. Returns at once; [`Consumer::run`] returns when it is done. May be called before there is an
    /// assignment, and more than once.
    pub fn stop(&self) {
        self.mailbox.stop();
    }

    /// Stops, and waits until the consumer has ended. Dropping the future only ends the waiting.
    pub async fn drain(&self) {
        self.stop();
        // An error means that the consumer is gone, which is what is waited for.
        self.ended.clone().wait_for(|ended| *ended).await.ok();
    }

    /// A look at the consumer, at most 100 ms old where it is about rebalances and commits, and of now
    /// where it is about offsets.
    pub fn status(&self) -> Status {
        self.board.status()
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("builder", &self.builder).finish_non_exhaustive()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
