//! A plain consumer: to read back what is in a topic, or as a stranger in a group.

use std::fmt;
use std::time::{Duration, Instant};

use laneway_core::TopicPartition;

use crate::sys::{ConsumerClient, List};
use crate::{Admin, Error};

/// A plain consumer. It commits nothing on its own. Dropping one that is in a group leaves the group.
pub struct Reader {
    client: ConsumerClient,
}

/// A record, copied out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadRecord {
    /// Where it is.
    pub partition: TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its payload; `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Its headers, in their order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Milliseconds since 1970, if it has a time.
    pub timestamp: Option<i64>,
}

impl Reader {
    /// Reads these partitions from these offsets on, in no group.
    ///
    /// # Errors
    /// When no client can be made, or a property is refused.
    pub fn assign(
        brokers: &str,
        from: &[(TopicPartition, i64)],
        properties: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let mut list = List::new()?;
        for (partition, offset) in from {
            list.add_offset(partition, *offset, &[])?;
        }
        let reader = Self::new(brokers, "laneway-testing-reader", properties)?;
        reader.client.assign(&list)?;
        Ok(reader)
    }

    /// Joins a group, as a member that knows nothing of Laneway. It is in the group while it is polled.
    ///
    /// # Errors
    /// When no client can be made, or a property is refused.
    pub fn subscribe(
        brokers: &str,
        group: &str,
        topics: &[&str],
        properties: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let reader = Self::new(brokers, group, properties)?;
        reader.client.subscribe(topics)?;
        Ok(reader)
    }

    fn new(brokers: &str, group: &str, properties: &[(&str, &str)]) -> Result<Self, Error> {
        let mut all = vec![
            ("bootstrap.servers", brokers),
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "earliest"),
            ("fetch.queue.backoff.ms", "10"),
            ("reconnect.backoff.ms", "20"),
            ("reconnect.backoff.max.ms", "200"),
        ];
        all.extend_from_slice(properties);
        Ok(Self { client: ConsumerClient::new(&all)? })
    }

    /// Everything that is in a partition, from its first record to the end that it has now, by the committed
    /// records alone where there are transactions. Offsets may have gaps.
    ///
    /// # Errors
    /// When the end is not reached within `timeout`, or reading fails.
    pub fn read_all(
        brokers: &str,
        partition: &TopicPartition,
        timeout: Duration,
    ) -> Result<Vec<ReadRecord>, Error> {
        let deadline = Instant::now() + timeout;
        let admin = Admin::new(brokers)?;
        let asked = std::slice::from_ref(partition);
        let start = admin.start_offsets(asked)?.get(partition).copied().unwrap_or(0);
        let end = admin.end_offsets(asked)?.get(partition).copied().unwrap_or(0);
        let mut found = Vec::new();
        if start >= end {
            return Ok(found);
        }
        // The end of the partition is told as an error: so control records and gaps at the end don't hang this.
        let told = [("enable.partition.eof", "true"), ("isolation.level", "read_committed")];
        let reader = Self::assign(brokers, &[(partition.clone(), start)], &told)?;
        while Instant::now() < deadline {
            match reader.poll(Duration::from_millis(100)) {
                Ok(Some(record)) if record.offset >= end => return Ok(found),
                Ok(Some(record)) => found.push(record),
                Ok(None) => {}
                Err(error) if error.code() == Some(PARTITION_EOF) => return Ok(found),
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(format!(
            "{partition} read up to {} records in {timeout:?}, not to its end {end}",
            found.len()
        )))
    }

    /// The next record, or `None` if there is none within `timeout`.
    ///
    /// # Errors
    /// What the client reports; reading can go on.
    pub fn poll(&self, timeout: Duration) -> Result<Option<ReadRecord>, Error> {
        self.client.poll(timeout)
    }

    /// What it is assigned now.
    ///
    /// # Errors
    /// When the client can't say.
    pub fn assignment(&self) -> Result<Vec<TopicPartition>, Error> {
        self.client.assignment()
    }

    /// The id it has in its group; empty if it has none.
    pub fn member_id(&self) -> String {
        self.client.member_id()
    }

    /// Commits offsets, and waits for the answer.
    ///
    /// # Errors
    /// When the commit is refused, or not answered.
    pub fn commit(&self, offsets: &[(TopicPartition, i64)]) -> Result<(), Error> {
        let mut list = List::new()?;
        for (partition, offset) in offsets {
            list.add_offset(partition, *offset, &[])?;
        }
        self.client.commit(&list)
    }
}

const PARTITION_EOF: i32 = -191;

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
