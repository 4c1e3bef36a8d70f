//! Takes down what happens: in memory, or in a file that several processes append to.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use laneway_core::{LaneId, TopicPartition};

use super::{Event, History, What, file};
use crate::{Error, sys};

/// Takes down events; clones write into the same history. It may be used from all threads.
#[derive(Clone)]
pub struct Recorder {
    to: Arc<To>,
}

enum To {
    Memory(Mutex<Vec<Event>>),
    File(File, Box<Path>),
}

impl Recorder {
    /// A recorder that keeps its events.
    pub fn in_memory() -> Self {
        Self { to: Arc::new(To::Memory(Mutex::default())) }
    }

    /// A recorder that appends to a file, a line for each event, each with one write: so several processes may
    /// share the file, and one that is killed leaves whole lines. The file is made if it is not there.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub fn to_file(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|e| Error::new(format!("history {}: {e}", path.display())))?;
        Ok(Self { to: Arc::new(To::File(file, path.into())) })
    }

    /// What was taken down so far. Of a recorder in its file form, what all processes have written.
    ///
    /// # Panics
    /// When the file can't be read; [`History::read`] gives that as an error.
    #[track_caller]
    pub fn history(&self) -> History {
        match &*self.to {
            To::Memory(events) => History::new(events.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            To::File(_, path) => {
                let read = History::read(path);
                assert!(read.is_ok(), "{}", read.err().map(|e| e.to_string()).unwrap_or_default());
                read.unwrap_or_default()
            }
        }
    }

    /// A record is in Kafka. For records of a transaction: once that is committed.
    pub fn produced(&self, partition: &TopicPartition, offset: i64, key: Option<&[u8]>) {
        self.record(What::Produced { partition: partition.clone(), offset, key: key.map(number_of) });
    }

    /// A member was killed, or crashed: said by whoever killed it, right after.
    pub fn killed(&self, member: &str) {
        self.record(What::Killed { member: member.into() });
    }

    /// What a member does is taken down by what this gives. The name stands for one life of one process.
    pub fn member(&self, name: &str) -> MemberRecorder {
        MemberRecorder { recorder: self.clone(), name: name.into() }
    }

    /// Takes down anything, now.
    pub fn record(&self, what: What) {
        match &*self.to {
            To::Memory(events) => {
                // The time is taken under the lock: the order of times is the order of events.
                let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
                events.push(Event { at: now(), what });
            }
            To::File(file, path) => {
                let line = file::line(&Event { at: now(), what });
                if let Err(e) = (&*file).write_all(line.as_bytes()) {
                    eprintln!("history {}: {e}: {}", path.display(), line.trim_end());
                }
            }
        }
    }
}

/// Takes down what one member does.
#[derive(Clone)]
pub struct MemberRecorder {
    recorder: Recorder,
    name: Arc<str>,
}

impl MemberRecorder {
    /// The member's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A handler begins to work on a record.
    pub fn begun(&self, lane: &LaneId, offset: i64) {
        self.recorder.record(What::Begun { member: self.name.clone(), lane: lane.clone(), offset });
    }

    /// A record is finished.
    pub fn finished(&self, lane: &LaneId, offset: i64) {
        self.recorder.record(What::Finished { member: self.name.clone(), lane: lane.clone(), offset });
    }

    /// A handler failed or was cancelled; its record is not finished.
    pub fn cancelled(&self, lane: &LaneId, offset: i64) {
        self.recorder.record(What::Cancelled { member: self.name.clone(), lane: lane.clone(), offset });
    }

    /// A commit was acknowledged; `offset` is the next to be read.
    pub fn committed(&self, partition: &TopicPartition, offset: i64) {
        self.committed_with_map(partition, offset, &[]);
    }

    /// A commit was acknowledged that also says which offsets above its own are finished.
    pub fn committed_with_map(&self, partition: &TopicPartition, offset: i64, ahead: &[i64]) {
        self.recorder.record(What::Committed {
            member: self.name.clone(),
            partition: partition.clone(),
            offset,
            ahead: ahead.to_vec(),
        });
    }

    /// A lane is opened.
    pub fn assigned(&self, lane: &LaneId) {
        self.recorder.record(What::Assigned { member: self.name.clone(), lane: lane.clone() });
    }

    /// A lane is closed, and its partition about to be given back.
    pub fn revoked(&self, lane: &LaneId) {
        self.recorder.record(What::Revoked { member: self.name.clone(), lane: lane.clone() });
    }

    /// A lane is closed, as its partition was taken away.
    pub fn lost(&self, lane: &LaneId) {
        self.recorder.record(What::Lost { member: self.name.clone(), lane: lane.clone() });
    }

    /// A record arrived on a main queue.
    pub fn stray(&self, partition: &TopicPartition, offset: i64) {
        self.recorder.record(What::Stray { member: self.name.clone(), partition: partition.clone(), offset });
    }

    /// This member was killed.
    pub fn killed(&self) {
        self.recorder.killed(&self.name);
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.to {
            To::Memory(_) => f.write_str("Recorder(in memory)"),
            To::File(_, path) => write!(f, "Recorder({})", path.display()),
        }
    }
}

impl fmt::Debug for MemberRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemberRecorder({}, {:?})", self.name, self.recorder)
    }
}

fn now() -> Duration {
    Duration::from_nanos(sys::monotonic_ns())
}

/// The number that stands for a key: the same in every process of this build.
fn number_of(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
