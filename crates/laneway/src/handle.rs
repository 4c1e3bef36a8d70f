//! The handle that steers a running consumer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use laneway_core::TopicPartition;
use tokio::sync::{oneshot, watch};

#[cfg(doc)]
use crate::builder::Builder;
use crate::client::{Answer, Ask, Board, Mailbox, Message, Offsets};
#[cfg(doc)]
use crate::consumer::Consumer;
use crate::error::{Error, ErrorKind};
use crate::lane::Limit;
use crate::status::Status;
use crate::sys::OffsetSpec;

/// Steers a running consumer, from anywhere. Cheap to clone. Before [`Consumer::run`] (or
/// [`Consumer::into_lanes`]) is called a stop and the concurrency are remembered; whatever needs an answer waits for that
/// for 2 s, and is then refused with [`ErrorKind::NotRunning`]. (Outside of a tokio runtime it is refused at once.)
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
    pub(crate) mailbox: Mailbox,
    pub(crate) board: Arc<Board>,
    pub(crate) limit: Arc<Limit>,
    pub(crate) ended: watch::Receiver<bool>,
    pub(crate) group: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
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

impl Handle {
    /// Begins to stop: what is in flight is finished (to the drain deadline) and committed, the group is
    /// left. Returns at once; [`Consumer::run`] returns when it is done. May be called before there is an
    /// assignment, and more than once.
    pub fn stop(&self) {
        self.mailbox.stop();
    }

    /// Stops, and waits until the consumer has ended. Of one that was not run yet, nor is within 2 s, there is nothing to
    /// wait for: it will end as soon as it runs. Dropping the future only ends the waiting.
    pub async fn drain(&self) {
        self.stop();
        if self.runs().await.is_err() {
            return;
        }
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
    /// Finished is what a lane has told of, and a lane tells at the end of each turn of its task: all records whose
    /// handlers returned before the lane's current turn are covered. In a handler that is less than all that have
    /// returned: of the same lane those that returned in this very turn may be missing, and come with the next commit. The
    /// handler's own record is not finished before it returns.
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
    /// comes again. [`ErrorKind::Config`] without a group ([`Builder::assign`]). [`ErrorKind::Ended`] if the consumer
    /// ends first.
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
    /// **Do not await it in the partition's own handler, or in the loop that reads its stream:** the lane would wait for
    /// the handler, and the handler for the lane, until the drain deadline cancels it. Spawn a task that awaits the seek,
    /// and return:
    ///
    /// ```no_run
    /// # use laneway::{Handle, Record, TopicPartition};
    /// # fn handle(record: &Record, handle: &Handle, back_to: i64) {
    /// let (handle, partition) = (handle.clone(), TopicPartition::new(record.topic(), record.partition()));
    /// tokio::spawn(async move {
    ///     if let Err(error) = handle.seek(&partition, back_to).await {
    ///         eprintln!("could not go back: {error}");
    ///     }
    /// });
    /// # }
    /// ```
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
    /// A seek to where the lane has just begun, before it took anything, is done already.
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
    /// 10 s; [`ErrorKind::Config`] without a group ([`Builder::assign`]); [`ErrorKind::Ended`] if the consumer has ended.
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
    /// [`ErrorKind::Config`] for a negative timestamp; else as [`Handle::watermarks`].
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
    /// [`ErrorKind::Unanswered`] if the broker refuses, also if only for one partition, or does not answer within
    /// 10 s; [`ErrorKind::Ended`] if the consumer has ended.
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
    /// [`ErrorKind::Config`] for a name or an expression that is neither, for none at all, if the topic for dead
    /// letters is among them, and without a group ([`Builder::assign`]): nothing is changed. [`ErrorKind::Ended`] if the consumer has ended.
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
    /// rdkafka's `ConsumerGroupMetadata` can't be made from it (rdkafka 0.39 has no public way to), so its
    /// `send_offsets_to_transaction` can't be called with it. librdkafka's can, by rdkafka-sys:
    ///
    /// ```no_run
    /// # use std::ffi::CString;
    /// # use rdkafka::{TopicPartitionList, producer::{BaseProducer, Producer}};
    /// use rdkafka_sys as native;
    ///
    /// fn send(producer: &BaseProducer, offsets: &TopicPartitionList, member: &laneway::GroupMetadata) -> Result<(), String> {
    ///     let text = |text: &str| CString::new(text).map_err(|error| error.to_string());
    ///     let (group, id) = (text(&member.group)?, text(&member.member_id)?);
    ///     let instance = member.instance_id.as_deref().map(text).transpose()?;
    ///     let instance = instance.as_ref().map_or(std::ptr::null(), |instance| instance.as_ptr());
    ///     // SAFETY: all texts are terminated and copied; producer and offsets live; what is made here is destroyed.
    ///     unsafe {
    ///         let as_whom = native::rd_kafka_consumer_group_metadata_new_with_genid(
    ///             group.as_ptr(), member.generation, id.as_ptr(), instance,
    ///         );
    ///         let client = producer.client().native_ptr();
    ///         let error = native::rd_kafka_send_offsets_to_transaction(client, offsets.ptr(), as_whom, 10_000);
    ///         native::rd_kafka_consumer_group_metadata_destroy(as_whom);
    ///         if error.is_null() {
    ///             return Ok(());
    ///         }
    ///         let said = std::ffi::CStr::from_ptr(native::rd_kafka_error_string(error)).to_string_lossy().into_owned();
    ///         native::rd_kafka_error_destroy(error);
    ///         Err(said)
    ///     }
    /// }
    /// ```
    ///
    /// **That does not make it exactly-once.** Laneway itself goes on committing what is finished: a record whose
    /// transaction has committed and whose handler had not returned when the process died may come again, and a commit by
    /// the interval may put an offset below the transaction's over it, until the handler returns.
    ///
    /// # Errors
    /// [`ErrorKind::NotAssigned`] if the group does not know this member (yet); [`ErrorKind::Config`] without a group
    /// ([`Builder::assign`]); [`ErrorKind::Ended`] if the consumer has ended.
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

    /// Nobody answers before the consumer runs, and perhaps it never does. A task that is to run it may not have come to
    /// that yet. One that was dropped has ended.
    async fn runs(&self) -> Result<(), Error> {
        let (mut begun, mut ended) = (self.mailbox.begun(), self.ended.clone());
        if *begun.borrow() {
            return Ok(());
        }
        let patience = async {
            // Elsewhere nothing tells the time.
            if tokio::runtime::Handle::try_current().is_ok() {
                tokio::time::sleep(BEGINS).await;
            }
        };
        tokio::select! {
            biased;
            _ = begun.wait_for(|begun| *begun) => Ok(()),
            _ = ended.wait_for(|ended| *ended) => Ok(()),
            () = patience => {
                let message = "the consumer does not run yet, and can't be asked: call run or into_lanes first";
                Err(Error::new(ErrorKind::NotRunning, message))
            }
        }
    }

    async fn ask<T>(&self, ask: impl FnOnce(Answer<T>) -> Ask) -> Result<T, Error> {
        self.runs().await?;
        let (answer, answered) = oneshot::channel();
        self.mailbox.post(Message::Ask(ask(answer)));
        let ended = |_| Err(Error::new(ErrorKind::Ended, "the consumer ended before it could answer"));
        answered.await.unwrap_or_else(ended)
    }
}

/// How long a question waits for a consumer to run.
const BEGINS: Duration = Duration::from_secs(2);

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
