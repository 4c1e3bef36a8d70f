//! A record as it was fetched: one pointer to the batch it came in, and its place there.

use std::fmt;
use std::slice;

use laneway_core::Position;

use crate::lane::NATIVE;
use crate::sys::{Counted, Lent, NativeBatch, NativeHeaders};

/// A record of a topic.
///
/// Zero-copy: it points into what was fetched, which stays in memory as long as any record of the same
/// batch does (and a batch may keep a whole fetch response alive). Copy out what must live long, with
/// [`Record::to_owned_record`]. Cloning costs one reference count.
#[derive(Clone)]
pub struct Record {
    batch: Batch,
    /// As wide as the pointer: written and moved at one width, which the processor can forward.
    index: usize,
}

/// What a record that was copied out takes beside its bytes, with its place in a queue and that queue.
pub(crate) const COPIED: u64 = 400;

/// Records that were fetched together, of one partition, in the order of their offsets.
///
/// Cloning costs one reference count.
#[derive(Clone)]
pub struct Batch(Counted<Repr>);

/// Records that are handed out one after the other.
pub(crate) struct LentRecords<'a, 'b> {
    lent: &'a mut Lent<'b, Repr>,
    len: usize,
}

enum Repr {
    Native(NativeBatch),
    Owned(Vec<OwnedRecord>),
}

/// A record on its own, as tests and records that wait long have it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnedRecord {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// The epoch of the leader that the record was fetched from, where the broker says.
    pub leader_epoch: Option<i32>,
    /// The record's time.
    pub timestamp: Timestamp,
    /// The key, if there is one.
    pub key: Option<Vec<u8>>,
    /// The payload (the value); none is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Headers in their order, names and values as bytes.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// The time of a record, in milliseconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Timestamp {
    /// The record has none.
    #[default]
    Unknown,
    /// Set by the producer.
    Create(i64),
    /// Set by the broker when it appended the record.
    LogAppend(i64),
}

/// A header of a record. Names are bytes too: Kafka does not promise UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header<'a> {
    /// The header's name.
    pub name: &'a [u8],
    /// The header's value, if there is one.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, in their order.
#[derive(Debug, Clone)]
pub struct Headers<'a>(HeadersRepr<'a>);

#[derive(Debug, Clone)]
enum HeadersRepr<'a> {
    Native(NativeHeaders<'a>),
    Owned(slice::Iter<'a, (Vec<u8>, Option<Vec<u8>>)>),
}

impl Record {
    /// A record that was not fetched.
    pub fn from_owned(record: OwnedRecord) -> Self {
        Self { batch: Batch::from_owned(vec![record]), index: 0 }
    }

    /// The topic's name.
    #[inline]
    pub fn topic(&self) -> &str {
        match &*self.batch.0 {
            Repr::Native(batch) => &batch.partition().topic,
            Repr::Owned(records) => &records[self.at()].topic,
        }
    }

    /// The partition's number.
    #[inline]
    pub fn partition(&self) -> i32 {
        match &*self.batch.0 {
            Repr::Native(batch) => batch.partition().partition,
            Repr::Owned(records) => records[self.at()].partition,
        }
    }

    /// The record's offset in its partition.
    #[inline]
    pub fn offset(&self) -> i64 {
        match &*self.batch.0 {
            Repr::Native(batch) => batch.offset(self.at()),
            Repr::Owned(records) => records[self.at()].offset,
        }
    }

    /// The epoch of the leader that the record was fetched from, where the broker says.
    #[inline]
    pub fn leader_epoch(&self) -> Option<i32> {
        match &*self.batch.0 {
            Repr::Native(batch) => batch.leader_epoch(self.at()),
            Repr::Owned(records) => records[self.at()].leader_epoch,
        }
    }

    /// The position behind this record: what is committed when it and all before it are finished.
    #[inline]
    pub fn position(&self) -> Position {
        Position { offset: self.offset() + 1, leader_epoch: self.leader_epoch() }
    }

    /// The record's time.
    #[inline]
    pub fn timestamp(&self) -> Timestamp {
        match &*self.batch.0 {
            Repr::Native(batch) => batch.timestamp(self.at()),
            Repr::Owned(records) => records[self.at()].timestamp,
        }
    }

    /// The key, if there is one. An empty key is one.
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        match &*self.batch.0 {
            Repr::Native(batch) => batch.key(self.at()),
            Repr::Owned(records) => records[self.at()].key.as_deref(),
        }
    }

    /// The payload (the value); none is a tombstone. An empty payload is none of those.
    #[inline]
    pub fn payload(&self) -> Option<&[u8]> {
        match &*self.batch.0 {
            Repr::Native(batch) => batch.payload(self.at()),
            Repr::Owned(records) => records[self.at()].payload.as_deref(),
        }
    }

    /// The headers, in their order; a name may come more than once.
    pub fn headers(&self) -> Headers<'_> {
        Headers(match &*self.batch.0 {
            Repr::Native(batch) => HeadersRepr::Native(batch.headers(self.at())),
            Repr::Owned(records) => HeadersRepr::Owned(records[self.at()].headers.iter()),
        })
    }

    /// Copies the record out of what it was fetched with, so that it no longer keeps that in memory.
    pub fn to_owned_record(&self) -> OwnedRecord {
        OwnedRecord {
            topic: self.topic().to_owned(),
            partition: self.partition(),
            offset: self.offset(),
            leader_epoch: self.leader_epoch(),
            timestamp: self.timestamp(),
            key: self.key().map(<[u8]>::to_vec),
            payload: self.payload().map(<[u8]>::to_vec),
            headers: self.headers().map(|h| (h.name.to_vec(), h.value.map(<[u8]>::to_vec))).collect(),
        }
    }

    /// Bytes of key and payload.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.key().map_or(0, <[u8]>::len) + self.payload().map_or(0, <[u8]>::len)
    }

    /// What it takes of memory, in bytes, with its place in a queue.
    pub(crate) fn cost(&self) -> u64 {
        let beside = match &*self.batch.0 {
            Repr::Native(_) => NATIVE + COPIED,
            Repr::Owned(_) => COPIED,
        };
        self.size() as u64 + beside
    }

    /// The same record, copied out of what it was fetched with, so that it no longer keeps that in memory.
    pub(crate) fn detached(&self) -> Self {
        match &*self.batch.0 {
            Repr::Owned(records) if records.len() == 1 => self.clone(),
            _ => Self::from_owned(self.to_owned_record()),
        }
    }

    #[inline]
    fn at(&self) -> usize {
        self.index
    }
}

/// Shows where the record is and how long its parts are, and nothing of what is in it.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}@{} (", self.topic(), self.partition(), self.offset())?;
        for (part, bytes) in [("key", self.key()), ("payload", self.payload())] {
            match bytes {
                Some(bytes) => write!(f, "{part} {} B, ", bytes.len())?,
                None => write!(f, "no {part}, ")?,
            }
        }
        write!(f, "{} headers)", self.headers().len())
    }
}

impl Batch {
    /// A batch of records that were not fetched.
    pub fn from_owned(records: Vec<OwnedRecord>) -> Self {
        Self(Counted::new(Repr::Owned(records)))
    }

    pub(crate) fn from_native(batch: NativeBatch) -> Self {
        Self(Counted::new(Repr::Native(batch)))
    }

    /// How many records there are.
    #[inline]
    pub fn len(&self) -> usize {
        match &*self.0 {
            Repr::Native(batch) => batch.len(),
            Repr::Owned(records) => records.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all keys and payloads.
    pub(crate) fn bytes(&self) -> u64 {
        let of = |key: Option<&[u8]>, payload: Option<&[u8]>| {
            (key.map_or(0, <[u8]>::len) + payload.map_or(0, <[u8]>::len)) as u64
        };
        match &*self.0 {
            Repr::Native(batch) => {
                (0..batch.len()).map(|index| of(batch.key(index), batch.payload(index))).sum()
            }
            Repr::Owned(records) => {
                records.iter().map(|it| of(it.key.as_deref(), it.payload.as_deref())).sum()
            }
        }
    }

    /// The position of the record at `index`, which there is.
    #[inline]
    pub(crate) fn position(&self, index: usize) -> Position {
        let (offset, leader_epoch) = match &*self.0 {
            Repr::Native(batch) => (batch.offset(index), batch.leader_epoch(index)),
            Repr::Owned(records) => (records[index].offset, records[index].leader_epoch),
        };
        Position { offset, leader_epoch }
    }

    /// The record at `index`, from 0, if there are as many.
    #[inline]
    pub fn record(&self, index: usize) -> Option<Record> {
        (index < self.len()).then(|| Record { batch: self.clone(), index })
    }

    /// Calls `with` with what gives records of this batch, up to `count` of them, that are counted together. So are those of
    /// them that are dropped on this thread meanwhile.
    pub(crate) fn lend<R>(&self, count: usize, with: impl FnOnce(&mut LentRecords<'_, '_>) -> R) -> R {
        self.0.lend(count, |lent| with(&mut LentRecords { lent, len: self.len() }))
    }
}

impl LentRecords<'_, '_> {
    /// The record at `index`, from 0, if there are as many.
    #[inline]
    pub(crate) fn record(&mut self, index: usize) -> Option<Record> {
        (index < self.len).then(|| Record { batch: Batch(self.lent.take()), index })
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch of {} records", self.len())
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        let (name, value) = match &mut self.0 {
            HeadersRepr::Native(headers) => headers.next()?,
            HeadersRepr::Owned(headers) => {
                let (name, value) = headers.next()?;
                (name.as_slice(), value.as_deref())
            }
        };
        Some(Header { name, value })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            HeadersRepr::Native(headers) => headers.size_hint(),
            HeadersRepr::Owned(headers) => headers.size_hint(),
        }
    }
}

impl ExactSizeIterator for Headers<'_> {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn record() -> OwnedRecord {
        OwnedRecord {
            topic: "orders".into(),
            partition: 3,
            offset: 41,
            leader_epoch: Some(2),
            timestamp: Timestamp::LogAppend(9),
            key: Some(Vec::new()),
            payload: Some(b"secret".to_vec()),
            headers: vec![(b"\xff".to_vec(), None), (Vec::new(), Some(b"v".to_vec()))],
        }
    }

    #[test]
    fn an_owned_record_reads_like_a_fetched_one() {
        let read = Record::from_owned(record());
        assert_eq!(read.to_owned_record(), record());
        assert_eq!(read.key(), Some(b"".as_slice()));
        assert_eq!(read.position(), Position { offset: 42, leader_epoch: Some(2) });
        assert_eq!(read.headers().len(), 2);
        assert_eq!(format!("{read:?}"), "orders-3@41 (key 0 B, payload 6 B, 2 headers)");
    }

    #[test]
    fn a_batch_has_as_many_records_as_it_says() {
        let batch = Batch::from_owned(vec![record(), record()]);
        assert_eq!((batch.len(), batch.is_empty()), (2, false));
        assert_eq!(batch.record(1).unwrap().offset(), 41);
        assert!(batch.record(2).is_none());
        assert!(Batch::from_owned(Vec::new()).is_empty());
    }

    #[test]
    fn records_may_be_sent_and_shared() {
        fn check<T: Send + Sync + Clone + 'static>() {}
        check::<Record>();
        check::<Batch>();
    }
}
