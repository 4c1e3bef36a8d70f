//! The demo's members: consumers of one group in this process, that come and go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use laneway::{Consumer, Error, Event, Handle, OffsetReset, Protocol, Record, Status};
use tokio::task::JoinHandle;

use super::truth::Truth;

/// What all members have in common.
#[derive(Clone)]
pub(super) struct Group {
    pub(super) brokers: String,
    pub(super) topic: String,
    pub(super) truth: Arc<Truth>,
    pub(super) strays: Arc<AtomicU64>,
    pub(super) log: Arc<Log>,
}

/// What happened of late, for the eye.
#[derive(Debug, Default)]
pub(super) struct Log {
    lines: Mutex<Vec<(Instant, String)>>,
    /// Rebalances: moves of partitions that were completed.
    pub(super) rebalances: AtomicU64,
}

/// A place for a member, empty or taken.
pub(super) struct Slot {
    pub(super) name: String,
    member: Option<Member>,
}

struct Member {
    handle: Handle,
    ended: JoinHandle<Result<laneway::Summary, Error>>,
}

impl Slot {
    pub(super) fn new(name: String) -> Self {
        Self { name, member: None }
    }

    pub(super) fn is_taken(&self) -> bool {
        self.member.is_some()
    }

    pub(super) fn status(&self) -> Option<Status> {
        self.member.as_ref().map(|member| member.handle.status())
    }

    /// Starts a member here.
    pub(super) fn join(&mut self, group: &Group) -> Result<(), Error> {
        let events = group.clone();
        let name = self.name.clone();
        let consumer = Consumer::builder()
            .brokers(&group.brokers)
            .group("demo")
            .protocol(Protocol::Consumer)
            .topics([&group.topic])
            .property("client.id", &self.name)
            .offset_reset(OffsetReset::Earliest)
            .drain_deadline(Duration::from_secs(5))
            .on_event(move |event| events.on_event(&name, event))
            .build()?;
        let handle = consumer.handle();
        let truth = group.truth.clone();
        let ended = tokio::spawn(consumer.run(move |record: Record| {
            let truth = truth.clone();
            async move {
                // Most records take no time, and some a little, as it is in life.
                if record.offset() % 50 == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                truth.finished(record.partition(), record.offset());
            }
        }));
        group.log.say(format!("{} joins", self.name));
        self.member = Some(Member { handle, ended });
        Ok(())
    }

    /// Stops the member that is here, and waits until it has left.
    pub(super) async fn leave(&mut self, group: &Group) -> Result<(), Error> {
        let Some(member) = self.member.take() else { return Ok(()) };
        let began = Instant::now();
        member.handle.stop();
        // A task that was aborted or panicked is not one of ours: the consumer contains its handlers.
        if let Ok(ended) = member.ended.await {
            ended?;
        }
        group.log.say(format!("{} has left, after {} ms", self.name, began.elapsed().as_millis()));
        Ok(())
    }
}

impl Group {
    fn on_event(&self, member: &str, event: &Event) {
        match event {
            Event::Assigned { lanes } => {
                self.log.rebalances.fetch_add(1, Ordering::Relaxed);
                self.log.say(format!("{member} is assigned {} lanes", lanes.len()));
            }
            Event::Revoked { lanes, drain, .. } => {
                self.log.rebalances.fetch_add(1, Ordering::Relaxed);
                let drain = drain.as_millis();
                self.log.say(format!("{member} gave {} lanes back, drained in {drain} ms", lanes.len()));
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

impl Log {
    pub(super) fn say(&self, line: String) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), line));
    }

    /// Takes what was said since the last time.
    pub(super) fn take(&self) -> Vec<(Instant, String)> {
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
