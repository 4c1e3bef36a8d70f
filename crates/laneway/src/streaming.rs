//! Lanes as streams: for code that wants to pull records itself, as loops over split queues do. Both, side by side, and
//! what goes wrong in the one, counted: docs/SPLIT_QUEUES.md.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use laneway_core::{LaneId, TopicPartition};
use tokio::sync::mpsc;

use crate::consumer::{Running, Summary};
use crate::error::Error;
use crate::handle::Handle;
use crate::lane::{Chunk, Handed, Window};
use crate::record::{Batch, Record};

/// The lanes of a consumer, as they begin: a stream that ends when the consumer has ended. From
/// [`Consumer::into_lanes`].
///
/// Each partition that is assigned comes as a [`Lane`], with all its bookkeeping; one that is taken away ends its
/// stream. Read every lane in a task of its own, or side by side: a lane that is not read is not committed, and
/// nothing but its lag shows it.
///
/// ```no_run
/// # async fn work(_: &laneway::Record) -> Result<(), std::io::Error> { Ok(()) }
/// # async fn example(consumer: laneway::Consumer) -> Result<(), laneway::Error> {
/// let mut lanes = consumer.into_lanes()?;
/// while let Some(mut lane) = lanes.next().await {
///     tokio::spawn(async move {
///         while let Some(delivery) = lane.next().await {
///             // An error ends the loop and drops record and lane: the lane is offered again, from that record on.
///             work(delivery.record()).await?;
///             if delivery.ack().is_err() {
///                 break; // fenced: the partition is somebody else's by now, and the record comes again there
///             }
///         }
///         Ok::<_, std::io::Error>(())
///     });
/// }
/// let summary = lanes.finish().await?;
/// println!("{} records", summary.finished);
/// # Ok(())
/// # }
/// ```
///
/// The same job with partition queues that are split by hand, and what goes wrong there, counted on a real Kafka, is in
/// [docs/SPLIT_QUEUES.md](https://github.com/laneway-rs/laneway/blob/main/docs/SPLIT_QUEUES.md).
///
/// # What is dropped
/// - A *delivery* dropped without an ack stays unfinished: the committed offset does not pass it, an
///   [`Event::Error`] names it, and it comes again with all behind it when the partition is next read anew (a
///   rebalance, a restart, a lane that was dropped).
/// - A *lane* dropped before its stream ended is offered again, from the first record that is not acked, once the
///   deliveries that are out have come back. What was acked behind that one does not come again.
/// - `Lanes` dropped: the consumer stops, as by [`Handle::stop`]. Lanes that are out drain as in any stop.
///
/// [`Consumer::into_lanes`]: crate::Consumer::into_lanes
/// [`Event::Error`]: crate::Event::Error
#[must_use = "a consumer stops when its lanes are dropped"]
pub struct Lanes {
    begun: mpsc::UnboundedReceiver<Lane>,
    running: Running,
}

/// One partition's records, for one assignment of it: a stream that ends when the partition is taken away or the
/// consumer stops. From then on the deliveries that are out are waited for, to the drain deadline.
pub struct Lane {
    id: LaneId,
    from_lane: mpsc::Receiver<Handed>,
    window: Arc<Window>,
    current: Option<Current>,
}

struct Current {
    batch: Batch,
    chunk: Arc<Chunk>,
    next: usize,
}

/// A record that was handed out. It is to be acked, in any order and from anywhere; it outlives its lane's stream.
/// Dropped without an ack it stays unfinished: see [`Lanes`].
#[must_use = "a delivery that is dropped without an ack is not finished"]
pub struct Delivery {
    record: Record,
    ack: Ack,
}

/// What finishes a record, apart from the record itself. Dropped, the record stays unfinished.
#[must_use = "an ack that is dropped leaves its record unfinished"]
pub struct Ack {
    chunk: Arc<Chunk>,
    index: usize,
    is_given: bool,
}

/// An ack came too late: the lane was fenced. Its partition was given back or lost, or the drain deadline has
/// passed. The record does not count as finished, and comes again, perhaps to another member.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fenced {
    /// The record's partition.
    pub partition: TopicPartition,
    /// The record's offset.
    pub offset: i64,
}

impl Lanes {
    pub(crate) fn new(begun: mpsc::UnboundedReceiver<Lane>, running: Running) -> Self {
        Self { begun, running }
    }

    /// The next lane that begins; `None` when the consumer has ended. Cancel safe: no lane is lost.
    pub async fn next(&mut self) -> Option<Lane> {
        poll_fn(|context| self.begun.poll_recv(context)).await
    }

    /// A handle to stop the consumer and to look at it.
    pub fn handle(&self) -> Handle {
        self.running.handle()
    }

    /// Stops the consumer if it still runs, and waits until it has ended: with how it ended.
    ///
    /// # Errors
    /// When the consumer could not go on: see [`ErrorKind`](crate::ErrorKind).
    ///
    /// # Cancellation
    /// Dropping the future stops the consumer without waiting for it.
    pub async fn finish(self) -> Result<Summary, Error> {
        let Self { begun, running } = self;
        running.handle().stop();
        // Lanes that nobody took are given back at once.
        drop(begun);
        running.wait().await
    }
}

impl Stream for Lanes {
    type Item = Lane;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Lane>> {
        self.begun.poll_recv(context)
    }
}

impl Lane {
    pub(crate) fn new(id: LaneId, from_lane: mpsc::Receiver<Handed>, window: Arc<Window>) -> Self {
        Self { id, from_lane, window, current: None }
    }

    /// Which partition it reads, and for which assignment of it.
    pub fn id(&self) -> &LaneId {
        &self.id
    }

    /// The next record; `None` when the lane is to end. Cancel safe: no record is lost.
    pub async fn next(&mut self) -> Option<Delivery> {
        poll_fn(|context| self.poll_delivery(context)).await
    }

    /// Returns when acks no longer count: the partition was given back or lost. For work that is to be given up
    /// then; an ack says the same. Cancel safe.
    pub async fn fenced(&self) {
        self.window.fenced.wait().await;
    }

    fn poll_delivery(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            if let Some(current) = &mut self.current {
                while let Some(record) = current.batch.record(current.next) {
                    let index = current.next;
                    current.next += 1;
                    if current.chunk.hand_out(index) {
                        let ack = Ack { chunk: current.chunk.clone(), index, is_given: false };
                        return Poll::Ready(Some(Delivery { record, ack }));
                    }
                }
                self.current = None;
            }
            match self.from_lane.poll_recv(context) {
                Poll::Ready(Some((batch, chunk))) => self.current = Some(Current { batch, chunk, next: 0 }),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Stream for Lane {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.poll_delivery(context)
    }
}

impl Delivery {
    /// The record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The record counts as finished. It is committed when all before it in its partition are: once a second, and
    /// before the partition is given back.
    ///
    /// # Errors
    /// [`Fenced`] when it came too late. Then it does not count, and the record comes again.
    pub fn ack(self) -> Result<(), Fenced> {
        self.ack.give()
    }

    /// The record and what finishes it, apart: to hand on the one and keep the other.
    pub fn into_parts(self) -> (Record, Ack) {
        (self.record, self.ack)
    }

    /// Whether an ack would come too late.
    pub fn is_fenced(&self) -> bool {
        self.ack.is_fenced()
    }

    /// Returns when an ack would come too late: for work that is to be given up then. Cancel safe.
    pub async fn fenced(&self) {
        self.ack.fenced().await;
    }
}

impl Ack {
    /// The record counts as finished: see [`Delivery::ack`].
    ///
    /// # Errors
    /// [`Fenced`] when it came too late. Then it does not count, and the record comes again.
    pub fn give(mut self) -> Result<(), Fenced> {
        self.is_given = true;
        if self.chunk.ack(self.index) {
            return Ok(());
        }
        let partition = self.chunk.window().partition().clone();
        Err(Fenced { partition, offset: self.chunk.offset(self.index) })
    }

    /// Whether it would come too late.
    pub fn is_fenced(&self) -> bool {
        self.chunk.window().fenced.has_fallen()
    }

    /// Returns when it would come too late. Cancel safe.
    pub async fn fenced(&self) {
        self.chunk.window().fenced.wait().await;
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if !self.is_given {
            self.chunk.let_go(self.index);
        }
    }
}

impl fmt::Display for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, offset } = self;
        write!(
            f,
            "fenced: {partition} was given back or lost before offset {offset} was acked; it comes again"
        )
    }
}

impl std::error::Error for Fenced {}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").finish_non_exhaustive()
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lane({})", self.id)
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("record", &self.record).finish_non_exhaustive()
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ack").finish_non_exhaustive()
    }
}
