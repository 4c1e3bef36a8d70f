//! A producer that checks what became of every record.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use laneway_core::TopicPartition;

use crate::Error;
use crate::history::Recorder;
use crate::sys::{ProducerClient, Refused, Topic};

/// A header: name and value.
pub type Header<'a> = (&'a [u8], Option<&'a [u8]>);

const FLUSH: Duration = Duration::from_secs(60);
const TRANSACTION: Duration = Duration::from_secs(30);

/// A producer for tests: every record is acknowledged by all replicas, in order, once, and what was not is told
/// by [`flush`](Self::flush). It may be used from several threads.
pub struct Producer {
    // Topic handles go before the client.
    topics: Mutex<HashMap<String, Arc<Topic>>>,
    client: ProducerClient,
    state: Mutex<State>,
    recorder: Option<Recorder>,
}

#[derive(Default)]
struct State {
    delivered: u64,
    failed: u64,
    first_error: Option<Error>,
    in_transaction: bool,
    names: HashMap<(usize, i32), TopicPartition>,
    /// Delivered in the open transaction: in the history only once that is committed.
    pending: Vec<(TopicPartition, i64, Option<Vec<u8>>)>,
}

impl Producer {
    /// A producer to the cluster at `brokers`; `properties` are the client's, and go before our defaults.
    ///
    /// # Errors
    /// When a property is refused, or no client can be made.
    pub fn new(brokers: &str, properties: &[(&str, &str)]) -> Result<Self, Error> {
        let mut all = vec![
            ("client.id", "laneway-testing-producer"),
            ("bootstrap.servers", brokers),
            ("enable.idempotence", "true"),
            ("queue.buffering.max.messages", "200000"),
            ("reconnect.backoff.ms", "20"),
            ("reconnect.backoff.max.ms", "200"),
        ];
        all.extend_from_slice(properties);
        Ok(Self {
            topics: Mutex::default(),
            client: ProducerClient::new(&all)?,
            state: Mutex::default(),
            recorder: None,
        })
    }

    /// Records what is delivered as produced; in a transaction, when that is committed.
    pub fn recording(mut self, recorder: &Recorder) -> Self {
        self.recorder = Some(recorder.clone());
        self
    }

    /// Sends one record; it is copied, and on its way when this returns. Partition -1 leaves the choice to the
    /// key. `timestamp` is in milliseconds since 1970; without one the record gets the time of now. When too
    /// many records are on their way, this waits.
    ///
    /// # Errors
    /// When the record is refused here: too large, or a partition that is known not to exist. That it could not
    /// be delivered, [`flush`](Self::flush) says.
    pub fn send(
        &self,
        topic: &str,
        partition: i32,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: &[Header<'_>],
        timestamp: Option<i64>,
    ) -> Result<(), Error> {
        let handle = self.topic(topic)?;
        let deadline = Instant::now() + FLUSH;
        loop {
            match self.client.produce(&handle, partition, key, payload, headers, timestamp) {
                Ok(()) => return Ok(()),
                Err(Refused::Other(error)) => return Err(Error::new(format!("topic {topic}: {error}"))),
                Err(Refused::QueueFull) if Instant::now() < deadline => self.poll(Duration::from_millis(10)),
                Err(Refused::QueueFull) => {
                    return Err(Error::new(format!(
                        "topic {topic}: the queue was full for {FLUSH:?}: does a broker answer?"
                    )));
                }
            }
        }
    }

    /// Waits until every record is delivered, or given up. Gives how many were delivered since the last flush.
    ///
    /// # Errors
    /// When a record was not delivered: how many, and the first reason. Or when it takes longer than 60 s.
    pub fn flush(&self) -> Result<u64, Error> {
        let deadline = Instant::now() + FLUSH;
        while self.client.outstanding() > 0 {
            if Instant::now() >= deadline {
                let left = self.client.outstanding();
                return Err(Error::new(format!(
                    "{left} records neither delivered nor given up after {FLUSH:?}"
                )));
            }
            self.poll(Duration::from_millis(10));
        }
        let mut state = self.state();
        let delivered = std::mem::take(&mut state.delivered);
        let failed = std::mem::take(&mut state.failed);
        match state.first_error.take() {
            Some(first) => Err(Error::with_code(
                format!("{failed} records not delivered, {delivered} delivered; the first: {first}"),
                first.code().unwrap_or(0),
            )),
            None => Ok(delivered),
        }
    }

    /// Readies the producer for transactions; it needs the property `transactional.id`. Fences an earlier
    /// producer with the same one.
    ///
    /// # Errors
    /// When there is no such property, or the coordinator says no or does not answer.
    pub fn init_transactions(&self) -> Result<(), Error> {
        self.client.init_transactions(TRANSACTION)
    }

    /// Begins a transaction: what is sent from now on belongs to it.
    ///
    /// # Errors
    /// When one is open, or the producer was fenced.
    pub fn begin_transaction(&self) -> Result<(), Error> {
        self.client.begin_transaction()?;
        self.state().in_transaction = true;
        Ok(())
    }

    /// Flushes, and commits the open transaction.
    ///
    /// # Errors
    /// When a record was not delivered (then abort), or the commit fails.
    pub fn commit_transaction(&self) -> Result<(), Error> {
        self.flush()?;
        self.client.commit_transaction(TRANSACTION)?;
        let mut state = self.state();
        state.in_transaction = false;
        for (partition, offset, key) in std::mem::take(&mut state.pending) {
            if let Some(recorder) = &self.recorder {
                recorder.produced(&partition, offset, key.as_deref());
            }
        }
        Ok(())
    }

    /// Aborts the open transaction. What was sent in it may be in the log, where nobody who reads committed
    /// records sees it.
    ///
    /// # Errors
    /// When the coordinator says no or does not answer.
    pub fn abort_transaction(&self) -> Result<(), Error> {
        self.client.purge()?;
        // That records were not delivered is no matter in a transaction that is aborted.
        let _ = self.flush();
        self.client.abort_transaction(TRANSACTION)?;
        let mut state = self.state();
        state.in_transaction = false;
        state.pending.clear();
        Ok(())
    }

    fn topic(&self, name: &str) -> Result<Arc<Topic>, Error> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(name) {
            return Ok(Arc::clone(topic));
        }
        let topic = Arc::new(Topic::new(self.client.client(), name)?);
        topics.insert(name.to_owned(), Arc::clone(&topic));
        Ok(topic)
    }

    fn poll(&self, timeout: Duration) {
        self.client.poll(timeout, |report| {
            let state = &mut *self.state();
            match report {
                Ok(record) => {
                    state.delivered += 1;
                    let Some(recorder) = &self.recorder else { return };
                    let partition = state
                        .names
                        .entry((record.topic_id, record.partition))
                        .or_insert_with(|| TopicPartition::new(record.topic(), record.partition));
                    if state.in_transaction {
                        state.pending.push((
                            partition.clone(),
                            record.offset,
                            record.key.map(<[u8]>::to_vec),
                        ));
                    } else {
                        recorder.produced(partition, record.offset, record.key);
                    }
                }
                Err(error) => {
                    state.failed += 1;
                    state.first_error.get_or_insert(error);
                }
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}
