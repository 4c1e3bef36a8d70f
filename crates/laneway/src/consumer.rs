//! A consumer: what runs it, and the handle that steers it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use laneway_core::{LaneId, Reset, Settings, TopicPartition};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::apart::{Blocking, BlockingBatches, Spawned};
use crate::builder::Builder;
use crate::client::{
    Answer, Ask, Board, Mailbox, Message, Offsets, Patterns, Setup, Spawn, spawn as start_thread,
};
use crate::config::{OffsetReset, Protocol};
use crate::error::{Error, ErrorKind};
use crate::failures::{Bucket, GiveUp};
use crate::fetcher::NativeFetcher;
use crate::handler::{
    BatchOutcome, Batches, Batching, Closing, Handler, IntoBatchOutcome, IntoOutcome, MakeHandler, Outcome,
};
use crate::lane::{Failures, Lane, Limit, Quota, Work};
use crate::ordering::Ordering;
use crate::properties::{Clients, GRACE};
use crate::record::Record;
use crate::status::Status;
use crate::streaming::{self, Lanes};
use crate::sys::{Client, OffsetSpec};

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
    limit: Arc<Limit>,
    ended: watch::Receiver<bool>,
    group: Arc<str>,
    instance_id: Option<Arc<str>>,
}

/// As whom, and in which generation, a consumer is in its group: what a producer of one's own needs to commit offsets
/// within a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMetadata {
    /// The group's id.
    pub group: String,
    /// The group's generation; with KIP-848 the member's epoch.
    pub generation: i32,
    /// The member's id.
    pub member_id: String,
    /// The `group.instance.id`, of a static member.
    pub instance_id: Option<String>,
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
        let patterns = Patterns::new(&builder.topics, builder.dead_letters.as_deref())?;
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
    pub async fn run_batches<F, Fut, O>(self, batching: Batching, handle: F) -> Result<Summary, Error>
    where
        F: Fn(Vec<Record>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = O> + Send,
        O: IntoBatchOutcome,
    {
        self.run(Batches::new(batching, handle)).await
    }

    /// Like [`Consumer::run`], with each call in a task of its own: for handlers that compute for long between their
    /// await points, so that those of one lane run on all cores (with an ordering that lets several run at once).
    ///
    /// # Errors
    /// As [`Consumer::run`].
    pub async fn run_spawned<F, Fut, O>(self, call: F) -> Result<Summary, Error>
    where
        F: Fn(Record) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = O> + Send + 'static,
        O: IntoOutcome + 'static,
    {
        self.run_lanes(Spawned::new(call)).await
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
    pub async fn run_blocking<F, O>(self, call: F) -> Result<Summary, Error>
    where
        F: Fn(Record) -> O + Send + Sync + 'static,
        O: IntoOutcome + 'static,
    {
        self.run_lanes(Blocking::new(call)).await
    }

    /// Like [`Consumer::run_batches`], with a closure that blocks its thread.
    ///
    /// # Errors
    /// As [`Consumer::run`].
    pub async fn run_blocking_batches<F, O>(self, batching: Batching, call: F) -> Result<Summary, Error>
    where
        F: Fn(Vec<Record>) -> O + Send + Sync + 'static,
        O: IntoBatchOutcome + 'static,
    {
        self.run_lanes(BlockingBatches::new(batching, call)).await
    }

    /// Like [`Consumer::run`], with a handler of its own for each lane.
    ///
    /// # Errors
    /// As [`Consumer::run`].
    pub async fn run_lanes<M: MakeHandler>(self, handlers: M) -> Result<Summary, Error> {
        let runtime = current_runtime()?;
        let handlers = Arc::new(handlers);
        let spawn = move |lane: Lane| {
            let handlers = handlers.clone();
            runtime.spawn(lane.run(move |id| handlers.make(id)));
        };
        self.start(Box::new(spawn))?.wait().await
    }

    /// Reads, and gives the lanes as streams: for code that pulls records itself. See [`Lanes`].
    ///
    /// Called on a tokio runtime, on which each lane has a small task.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] outside of a runtime, or together with [`Builder::count`]: a stream hands out as many
    /// records as are taken from it.
    pub fn into_lanes(self) -> Result<Lanes, Error> {
        if self.builder.count.is_some() {
            let message =
                "a count is for handlers: take as many records as are wanted from the lanes, and stop";
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
        let handle = self.handle();
        let Self { builder, clients, patterns, received, mailbox, board, limit, ended } = self;
        let topic_client = Client::new(clients.fetcher_config()?)
            .map_err(|error| Error::new(ErrorKind::Config, format!("could not make the fetcher: {error}")))?;
        if let Some(tokens) = &clients.tokens {
            tokens.serve(&topic_client);
        }
        let fetcher = builder.fetcher.unwrap_or_else(|| Box::new(NativeFetcher::new(topic_client.clone())));
        let mut keeper = JoinSet::new();
        if let Some(tokens) = clients.tokens.clone() {
            let to_thread = mailbox.clone();
            keeper.spawn(tokens.keep(move |error| to_thread.post(Message::NoToken(error))));
        }
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
            work: Work {
                ordering: builder.ordering,
                keyless: builder.keyless,
                key_of: builder.key_of,
                read_ahead: READ_AHEAD.max(limit.most().min(MOST_READ_AHEAD) * 2),
                blocked_bytes: BLOCKED_BYTES,
                limit,
                failures: Failures {
                    attempts: builder.attempts,
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
                guard: builder.storm_guard.map(Bucket::new),
                stall_after: builder.stall_after,
            },
            dead_letters: builder.dead_letters,
            offset_map_limit: builder.offset_map_limit,
            exit_at_end: builder.exit_at_end,
            quota: builder.count.map(|count| Arc::new(Quota::new(count))),
            stuck: builder.stuck,
            on_event: builder.on_event,
            board,
            brokers: builder.brokers,
            group: builder.group,
            spawn,
            fetcher,
            topic_client,
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

    /// Changes how many records may be in flight at once in all lanes ([`Builder::concurrency`]); 0 counts as 1. What is
    /// in flight beyond it finishes.
    pub fn set_concurrency(&self, records: usize) {
        self.limit.set(records.max(1));
    }

    /// Likewise, in each lane ([`Builder::lane_concurrency`]).
    pub fn set_lane_concurrency(&self, records: usize) {
        self.limit.set_per_lane(records.max(1));
    }

    /// A look at the consumer, at most 100 ms old where it is about rebalances and commits, and of now
    /// where it is about offsets.
    pub fn status(&self) -> Status {
        self.board.status()
    }

    /// Commits everything that is finished now, and waits until it is acknowledged. What finishes meanwhile may be
    /// committed with it.
    ///
    /// It goes the way of all commits: never more than one is in flight, one that is refused is tried again, and
    /// during a rebalance it waits for its turn. So it may take as long as the group does: put a timeout around it
    /// where that is too long.
    ///
    /// ```no_run
    /// # async fn example(handle: laneway::Handle) -> Result<(), laneway::Error> {
    /// handle.commit_now().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotAssigned`] if a partition was lost before its commit was acknowledged: what was finished of it
    /// comes again. [`ErrorKind::Ended`] if the consumer ends first.
    ///
    /// # Cancellation
    /// Dropping the future only ends the waiting: once it was polled, the commit is on its way.
    pub async fn commit_now(&self) -> Result<(), Error> {
        self.ask(Ask::Commit).await
    }

    /// Has lanes begin no new record. What is in flight finishes, and is committed; what was fetched is kept, and the
    /// lane stays open. Records that are about to begin at the very moment may still do so; a lane that is read as a
    /// stream ([`Consumer::into_lanes`]) still gives what it has read ahead.
    ///
    /// It lasts until [`Handle::resume`], through restarts of the lane, but no longer than the partition is assigned
    /// to this member, as in Kafka's own consumer: with the eager protocol every rebalance ends it. A lane that is
    /// paused is not at its end before it is there: [`Builder::exit_at_end`] waits for it to be resumed.
    ///
    /// ```no_run
    /// # use laneway::TopicPartition;
    /// # async fn example(handle: laneway::Handle) -> Result<(), laneway::Error> {
    /// let partition = TopicPartition::new("orders", 3);
    /// handle.pause(&[partition.clone()]).await?;
    /// assert!(handle.status().lanes.iter().any(|lane| lane.paused));
    /// handle.resume(&[partition]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotAssigned`] if one of the partitions is not assigned to this member: then none is paused.
    /// [`ErrorKind::Ended`] if the consumer has ended.
    ///
    /// # Cancellation
    /// Dropping the future only ends the waiting.
    pub async fn pause(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.ask(|answer| Ask::Pause(partitions.to_vec(), true, answer)).await
    }

    /// Lets lanes go on that were paused. Does nothing to those that were not.
    ///
    /// # Errors
    /// As [`Handle::pause`].
    ///
    /// # Cancellation
    /// Dropping the future only ends the waiting.
    pub async fn resume(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.ask(|answer| Ask::Pause(partitions.to_vec(), false, answer)).await
    }

    /// Has a lane go on at `offset`, ahead of where it stands or behind it, and waits until that is committed.
    ///
    /// The lane begins nothing new and finishes what it has in flight, to the drain deadline
    /// ([`Builder::drain_deadline`]); then `offset` is committed, and the lane is opened there. What it had finished
    /// above `offset` is forgotten, and comes again. An offset that is not in the log is dealt with as one that was
    /// committed is ([`Builder::offset_reset`]). A seek during another one of the same lane takes its place.
    ///
    /// ```no_run
    /// # use laneway::TopicPartition;
    /// # async fn example(handle: laneway::Handle, an_hour_ago_ms: i64) -> Result<(), laneway::Error> {
    /// let partition = TopicPartition::new("orders", 3);
    /// let found = handle.offsets_for_times(&[(partition.clone(), an_hour_ago_ms)]).await?;
    /// if let Some(Some(offset)) = found.get(&partition) {
    ///     handle.seek(&partition, *offset).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotAssigned`] if the partition is not assigned to this member, or is lost or given back before the
    /// offset is committed, or another seek takes this one's place; [`ErrorKind::Config`] for a negative offset;
    /// [`ErrorKind::Ended`] if the consumer ends first.
    ///
    /// # Cancellation
    /// Dropping the future only ends the waiting: once it was polled, the lane is on its way.
    pub async fn seek(&self, partition: &TopicPartition, offset: i64) -> Result<(), Error> {
        if offset < 0 {
            let message = format!("{offset} is not an offset of {partition} to go on at: 0 is the lowest");
            return Err(Error::new(ErrorKind::Config, message));
        }
        self.ask(|answer| Ask::Seek(partition.clone(), offset, answer)).await
    }

    /// What the group has committed of any partitions, assigned to this member or not, as the coordinator knows it;
    /// `None` where nothing is committed. (Of the lanes here [`Handle::status`] tells it, and their position, without
    /// asking a broker.)
    ///
    /// ```no_run
    /// # use laneway::TopicPartition;
    /// # async fn example(handle: laneway::Handle) -> Result<(), laneway::Error> {
    /// for (partition, offset) in handle.committed(&[TopicPartition::new("orders", 3)]).await? {
    ///     println!("{partition}: {offset:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unanswered`] if the broker refuses, also if only for one partition, or does not answer within
    /// 10 s; [`ErrorKind::Ended`] if the consumer has ended.
    ///
    /// # Cancellation
    /// Dropping the future drops the answer.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Option<i64>>, Error> {
        let partitions: BTreeSet<TopicPartition> = partitions.iter().cloned().collect();
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.ask(|answer| Ask::Committed(partitions.into_iter().collect(), answer)).await
    }

    /// For each partition the offset of the first record whose timestamp (milliseconds since 1970) is not below the
    /// one that is given; `None` where there is no such record. Any partitions, assigned to this member or not.
    ///
    /// ```no_run
    /// # use laneway::TopicPartition;
    /// # async fn example(handle: laneway::Handle) -> Result<(), laneway::Error> {
    /// let partition = TopicPartition::new("orders", 3);
    /// let found = handle.offsets_for_times(&[(partition.clone(), 1_700_000_000_000)]).await?;
    /// println!("{:?}", found[&partition]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a negative timestamp; else as [`Handle::committed`].
    ///
    /// # Cancellation
    /// Dropping the future drops the answer.
    pub async fn offsets_for_times(
        &self,
        times: &[(TopicPartition, i64)],
    ) -> Result<BTreeMap<TopicPartition, Option<i64>>, Error> {
        if let Some((partition, time)) = times.iter().find(|(_, time)| *time < 0) {
            let message = format!("{time} is not a time to look for in {partition}: it is below 0");
            return Err(Error::new(ErrorKind::Config, message));
        }
        let wanted: BTreeMap<TopicPartition, i64> = times.iter().cloned().collect();
        let wanted = wanted.into_iter().map(|(partition, time)| (partition, OffsetSpec::AtTime(time)));
        self.offsets(wanted.collect()).await
    }

    /// The bounds of the logs of any partitions, as their leaders know them: the offset of the first record that there
    /// still is, and the one behind the last (with `read_committed`: behind the last that is stable).
    ///
    /// ```no_run
    /// # use laneway::TopicPartition;
    /// # async fn example(handle: laneway::Handle) -> Result<(), laneway::Error> {
    /// let partition = TopicPartition::new("orders", 3);
    /// let (low, high) = handle.watermarks(&[partition.clone()]).await?[&partition];
    /// println!("{} offsets", high - low);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Handle::committed`].
    ///
    /// # Cancellation
    /// Dropping the future drops the answer.
    pub async fn watermarks(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, (i64, i64)>, Error> {
        let partitions: BTreeSet<TopicPartition> = partitions.iter().cloned().collect();
        let wanted = |spec| partitions.iter().map(|partition| (partition.clone(), spec)).collect();
        let (low, high) = tokio::join!(
            self.offsets(wanted(OffsetSpec::Earliest)),
            self.offsets(wanted(OffsetSpec::Latest)),
        );
        let (low, high) = (low?, high?);
        let bounds = |partition: TopicPartition| {
            let bound = |of: &Offsets| of.get(&partition).copied().flatten();
            match (bound(&low), bound(&high)) {
                (Some(low), Some(high)) => Ok((partition, (low, high))),
                _ => {
                    let message = format!("the broker did not tell the bounds of {partition}");
                    Err(Error::new(ErrorKind::Unanswered, message))
                }
            }
        };
        partitions.iter().cloned().map(bounds).collect()
    }

    /// Changes what is read: names, and expressions that begin with `^`, in the place of all those before. Returns once
    /// they are taken; they are looked up, and the group is told when the member is steady, so that nothing is lost in
    /// a rebalance that goes on. Partitions of topics that are no longer read are given back as in any rebalance. As
    /// long as none of the topics exists, what was read before is read on.
    ///
    /// ```no_run
    /// # async fn example(handle: laneway::Handle) -> Result<(), laneway::Error> {
    /// handle.subscribe(["orders", "^payments\\..*"]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a name or an expression that is neither, for none at all, and if the topic for dead
    /// letters is among them: nothing is changed. [`ErrorKind::Ended`] if the consumer has ended.
    ///
    /// # Cancellation
    /// Dropping the future only ends the waiting.
    pub async fn subscribe(
        &self,
        topics: impl IntoIterator<Item = impl Into<String>> + Send,
    ) -> Result<(), Error> {
        let topics = topics.into_iter().map(Into::into).collect();
        self.ask(|answer| Ask::Subscribe(topics, answer)).await
    }

    /// As whom this consumer is in its group now: for a producer of one's own that commits offsets within its
    /// transactions. It changes with each rebalance.
    ///
    /// ```no_run
    /// # async fn example(handle: laneway::Handle) -> Result<(), laneway::Error> {
    /// let member = handle.group_metadata().await?;
    /// println!("{} in generation {}", member.member_id, member.generation);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotAssigned`] if the group does not know this member (yet); [`ErrorKind::Ended`] if the consumer
    /// has ended.
    ///
    /// # Cancellation
    /// Dropping the future drops the answer.
    pub async fn group_metadata(&self) -> Result<GroupMetadata, Error> {
        let (generation, member_id) = self.ask(Ask::Standing).await?;
        let instance_id = self.instance_id.as_deref().map(str::to_owned);
        Ok(GroupMetadata { group: self.group.to_string(), generation, member_id, instance_id })
    }

    async fn offsets(&self, wanted: Vec<(TopicPartition, OffsetSpec)>) -> Result<Offsets, Error> {
        if wanted.is_empty() {
            return Ok(Offsets::new());
        }
        self.ask(|answer| Ask::Offsets(wanted, answer)).await
    }

    async fn ask<T>(&self, ask: impl FnOnce(Answer<T>) -> Ask) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.mailbox.post(Message::Ask(ask(answer)));
        let ended = |_| Err(Error::new(ErrorKind::Ended, "the consumer ended before it could answer"));
        answered.await.unwrap_or_else(ended)
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

/// Records in flight at once where their order is not the partition's.
const DEFAULT_CONCURRENCY: usize = 256;
/// Records that a lane reads ahead, at least, of those that could run.
const READ_AHEAD: usize = 512;
/// The concurrency beyond which it does not read ahead more.
const MOST_READ_AHEAD: usize = 16_384;
/// Bytes of records in a lane that wait for one ahead of them.
const BLOCKED_BYTES: usize = 32 << 20;
