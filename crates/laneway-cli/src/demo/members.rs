//! The demo's members: consumers of one group in this process, that come and go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use laneway::{Consumer, Error, Event, Handle, OffsetReset, Protocol, Record, Status};
use tokio::task::JoinHandle;

use super::log::Log;
use super::pace::Pace;
use super::truth::Truth;

/// What all members have in common.
#[derive(Clone)]
pub(super) struct Group {
    pub(super) brokers: String,
    pub(super) topic: String,
    pub(super) truth: Arc<Truth>,
    pub(super) pace: Arc<Pace>,
    pub(super) strays: Arc<AtomicU64>,
    pub(super) log: Arc<Log>,
}

/// A place for a member, empty or taken.
pub(super) struct Slot {
    seat: Arc<Seat>,
    ended: Option<JoinHandle<Result<laneway::Summary, Error>>>,
}

/// What can be seen of a place from outside, while somebody joins or leaves there.
pub(super) struct Seat {
    pub(super) name: String,
    taken: Mutex<Option<Taken>>,
}

#[derive(Clone)]
struct Taken {
    handle: Handle,
    /// Since when, and whether it is leaving.
    since: Instant,
    leaves: bool,
}

/// A look at a member that is there.
pub(super) struct Look {
    pub(super) status: Status,
    pub(super) since: Instant,
    pub(super) leaves: bool,
}

impl Seat {
    pub(super) fn look(&self) -> Option<Look> {
        let Taken { handle, since, leaves } =
            self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(Look { status: handle.status(), since, leaves })
    }

    fn set(&self, taken: Option<Taken>) {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = taken;
    }
}

impl Slot {
    pub(super) fn new(name: String) -> Self {
        Self { seat: Arc::new(Seat { name, taken: Mutex::new(None) }), ended: None }
    }

    pub(super) fn seat(&self) -> Arc<Seat> {
        self.seat.clone()
    }

    pub(super) fn is_taken(&self) -> bool {
        self.ended.is_some()
    }

    /// Starts a member here.
    pub(super) fn join(&mut self, group: &Group) -> Result<(), Error> {
        let events = group.clone();
        let name = self.seat.name.clone();
        let consumer = Consumer::builder()
            .brokers(&group.brokers)
            .group("demo")
            .protocol(Protocol::Consumer)
            .topics([&group.topic])
            .property("client.id", &name)
            // The embedded Kafka answers a fetch at the end of this time, whatever came in meanwhile.
            .property("fetch.wait.max.ms", "20")
            .offset_reset(OffsetReset::Earliest)
            .drain_deadline(Duration::from_secs(5))
            .on_event(move |event| events.on_event(&name, event))
            .build()?;
        let handle = consumer.handle();
        let (truth, pace) = (group.truth.clone(), group.pace.clone());
        self.ended = Some(tokio::spawn(consumer.run(move |record: Record| {
            let (truth, pace) = (truth.clone(), pace.clone());
            async move {
                if let Some(time) = pace.of(record.partition(), record.offset()) {
                    tokio::time::sleep(time).await;
                }
                truth.finished(record.partition(), record.offset());
            }
        })));
        group.log.say(format!("{} joins", self.seat.name));
        self.seat.set(Some(Taken { handle, since: Instant::now(), leaves: false }));
        Ok(())
    }

    /// Stops the member that is here, and waits until it has left.
    pub(super) async fn leave(&mut self, group: &Group) -> Result<(), Error> {
        let Some(ended) = self.ended.take() else { return Ok(()) };
        let began = Instant::now();
        let taken = self.seat.taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(Taken { handle, .. }) = taken {
            group.log.say(format!("{} leaves", self.seat.name));
            handle.stop();
            self.seat.set(Some(Taken { handle, since: began, leaves: true }));
        }
        let ended = ended.await;
        self.seat.set(None);
        // A task that was aborted or panicked is not one of ours: the consumer contains its handlers.
        if let Ok(ended) = ended {
            ended?;
        }
        group.log.say(format!("{} has left, after {} ms", self.seat.name, began.elapsed().as_millis()));
        Ok(())
    }
}

impl Group {
    fn on_event(&self, member: &str, event: &Event) {
        match event {
            Event::Assigned { lanes } => {
                let partitions = lanes.iter().map(|start| start.lane.partition.partition);
                self.log.assigned(member, partitions);
            }
            Event::Revoked { lanes, drain, .. } => {
                let partitions = lanes.iter().map(|lane| lane.partition.partition);
                self.log.revoked(member, partitions, *drain);
            }
            Event::Lost { lanes, reason } => {
                self.log.say(format!("{member} lost {} lanes: {reason}", lanes.len()));
            }
            Event::Committed { offsets } => {
                for (partition, offset) in offsets {
                    self.truth.committed(partition.partition, *offset);
                }
            }
            Event::Stray { .. } => {
                self.strays.fetch_add(1, Ordering::Relaxed);
            }
            Event::Error { message } | Event::CommitFailed { error: message } => {
                self.log.say(format!("{member}: {message}"));
            }
            _ => {}
        }
    }
}
