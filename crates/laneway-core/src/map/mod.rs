//! The offset map: what is finished above the watermark, in few characters, for the commit's metadata.
//!
//! A commit says that everything below one offset is finished. What is finished above it is forgotten by a
//! crash, and done again, unless the commit's metadata says so: that is the map.
//!
//! ```
//! use laneway_core::map::{Ahead, DEFAULT_LIMIT, Place, Text, decode, encode};
//!
//! let place = Place { group: "billing", topic: "orders", partition: 3 };
//! let mut ahead = Ahead::new(100);
//! for offset in 100..200 {
//!     ahead.push(offset, offset != 100 && offset != 150);
//! }
//! let map = encode(&ahead, place, DEFAULT_LIMIT, Text::Dense);
//! assert_eq!((map.remembered, map.forgotten), (98, 0));
//!
//! let mut found = decode(&map.text, place, 100)?;
//! assert!(found.contains(101) && !found.contains(150));
//! assert_eq!(found.unfinished(), [(100, 100), (150, 150)]);
//!
//! // Anywhere else it is void.
//! assert!(decode(&map.text, place, 101).is_err());
//! assert!(decode(&map.text, Place { partition: 4, ..place }, 100).is_err());
//! # Ok::<(), laneway_core::map::Void>(())
//! ```
//!
//! # The format
//!
//! A map is a string of bits. What is not written is 0, and zeros at the end are never written, so the last
//! bit is a 1.
//!
//! | bits | what |
//! | --- | --- |
//! | 1 or 3 | version and encoding: `0` one run, `100` bitmap, `101` blocks, `110` runs; `111` is for later versions |
//! | 17, 21 or 32 | checksum: 17 for one run; 21 for a bitmap; for blocks and runs 21 while fewer than 64 bits follow, else 32 |
//! | the rest | what is finished, from the offset behind the base on |
//!
//! The base, the offset that is committed, is never finished, and the last offset of a map is: neither is
//! written.
//!
//! - **One run** (nothing is unfinished but the base): how many are finished, in binary without its leading 1,
//!   and then a 1.
//! - **Bitmap**: a bit for each offset, 1 for finished. It ends with the last 1.
//! - **Blocks**: through a range coder, the number of offsets, the density to begin with, and for each block of
//!   64 whether it is all the same; else how many of it are finished, expected by the binomial distribution at
//!   the density so far, and which of the ways to choose so many it is. For what is random, that is the
//!   entropy, at a price per block and not per offset.
//! - **Runs**: through the range coder with adaptive bits: how many are not finished, how many are, how often
//!   the same comes again, whether that was all. For what is sparse, regular or long.
//!
//! The smallest is taken. Which can win is estimated from the runs and from counts per block; what can't is
//! not tried.
//!
//! As text, the first character carries three bits, and is one of ``!$&;>^|~``: no Base64 begins so, nor JSON,
//! nor XML, nor a word. Then follow 6 bits a character, in Base64's alphabet and without padding; or, if that
//! is too long, 15 bits, as one of 32,768 characters: U+3400–4BFF, U+4E00–9DFF, U+AC00–C3FF. They are assigned
//! since Unicode 3.0, are one UTF-16 unit (which is what a broker's limit counts), need no surrogates, are no
//! controls, and NFC leaves them as they are.
//!
//! # When it does not fit
//!
//! It is cut from the top, at the end of a finished run: the most finished records that any encoding fits
//! into the limit are remembered, and the others are counted.
//!
//! # How strong the checksum is
//!
//! It is a CRC (CRC-17 and CRC-21 of CAN FD, CRC-32C) over the group, the topic, the partition, the base, the
//! encoding, and what is finished, so whatever differs by one burst no longer than the checksum is refused *for
//! certain*: a map at another partition (below 131,072) of its topic, and one whose commit was moved to a base
//! that differs in no more than 17 (21, 32) neighbouring bits, as nearly all do that are near. Everything else
//! is taken for valid once in 131,072 times (one run), 2,097,152 times (bitmaps, and small maps), or
//! 4,294,967,296 times (from about 11 bytes on). It is against accidents, and no secret: whoever may write
//! commits may write maps.
//!
//! Why it is not longer everywhere: the map of one unfinished record among 10,000 is 4 bytes with it, and a
//! bitmap is what it is when nothing smaller exists. Where there is room, it has 32 bits.
//!
//! # What it does not know
//!
//! Whether the log is still the same. A log that was truncated and written again holds other records at the
//! same offsets; they have a higher leader epoch than any that was known at the commit. So whoever skips does
//! not skip a record whose leader epoch is higher than the commit's; and a map that ends above the log's end
//! is of another log.
//!
//! # What hostile text can do
//!
//! Nothing but waste a little. Reading ends where the text does (what a range coder makes of the zeros behind
//! its end is refused), and whatever it says, it takes a few milliseconds and 3 MiB at most beside what its own
//! length takes: no map has more than 2^17 runs, 2^16 blocks and 2^31 offsets. Writing keeps to that too: the
//! rest is forgotten, and counted.

mod ahead;
mod bits;
mod blocks;
mod coder;
mod crc;
mod found;
mod runs;
mod text;

use std::fmt;

pub use ahead::Ahead;
pub use found::FinishedAhead;

use ahead::Runs;
use bits::Bits;
use crc::{CRC_17, CRC_21, CRC_32, Crc};

/// The broker's limit for metadata if it was not configured: `offset.metadata.max.bytes`, in UTF-16 units.
pub const DEFAULT_LIMIT: usize = 4_096;

/// Where a map belongs, beside the base offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place<'a> {
    /// The consumer group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
}

/// Which characters a broker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Text {
    /// ASCII: 6 bits a character.
    Base64,
    /// Characters of the basic plane: 15 bits each, one UTF-16 unit, three bytes.
    Dense,
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base64 => "base64",
            Self::Dense => "dense",
        })
    }
}

/// How a map says what is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// One finished run behind the base.
    Run,
    /// A bit for each offset.
    Bitmap,
    /// Counts and ranks of 64 offsets each.
    Blocks,
    /// Lengths of runs.
    Runs,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Run => "run",
            Self::Bitmap => "bitmap",
            Self::Blocks => "blocks",
            Self::Runs => "runs",
        })
    }
}

/// A map, ready to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Encoded {
    /// The commit's metadata. Empty if there is nothing to remember, or no room for it.
    pub text: String,
    /// Which encoding was the smallest; `None` if the text is empty.
    pub encoding: Option<Encoding>,
    /// In which characters it is written.
    pub characters: Text,
    /// UTF-16 units of the text.
    pub units: usize,
    /// The size before it became text: header, checksum and all.
    pub bytes: usize,
    /// Finished records above the base that are in the map.
    pub remembered: u64,
    /// Finished records above the base that are not: they come again after a crash.
    pub forgotten: u64,
}

/// Why metadata is not a map for this commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Void {
    /// Somebody else's, or none at all.
    Foreign,
    /// Of a version that is not known here.
    Later,
    /// What it says makes no sense.
    Damaged,
    /// The checksum does not match.
    Mismatch,
}

impl fmt::Display for Void {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "it is not an offset map of Laneway's",
            Self::Later => "a version of Laneway wrote it that is not known here",
            Self::Damaged => "it is damaged",
            Self::Mismatch => {
                "its checksum does not match: it is damaged, or belongs to another group, topic or partition, or \
                 the committed offset was moved since"
            }
        })
    }
}

impl std::error::Error for Void {}

/// Writes the map of `ahead`, in at most `limit` UTF-16 units. Base64 is taken while it fits; `allowed` says
/// whether there may be something denser before anything is cut.
pub fn encode(ahead: &Ahead, place: Place<'_>, limit: usize, allowed: Text) -> Encoded {
    let runs = ahead.runs();
    let Some(draft) = smallest(&runs, allowed.room(limit)) else {
        return Encoded {
            text: String::new(),
            encoding: None,
            characters: Text::Base64,
            units: 0,
            bytes: 0,
            remembered: 0,
            forgotten: ahead.finished(),
        };
    };
    let bits = draft.seal(place, ahead.base());
    let characters = if Text::Base64.units(bits.len()) <= limit { Text::Base64 } else { allowed };
    let remembered = runs.records(draft.runs);
    Encoded {
        text: characters.write(&bits),
        encoding: Some(draft.encoding),
        characters,
        units: characters.units(bits.len()),
        bytes: bits.len().div_ceil(8),
        remembered,
        forgotten: ahead.finished() - remembered,
    }
}

/// Reads the metadata of the commit at `base`.
///
/// # Errors
///
/// Whatever is not a map of this group, topic, partition and offset is void, with the reason: nothing of it
/// may be skipped. So is an empty text.
pub fn decode(text: &str, place: Place<'_>, base: i64) -> Result<FinishedAhead, Void> {
    let bits = text::read(text).map_err(|ours| if ours { Void::Damaged } else { Void::Foreign })?;
    let (encoding, header) = match bits.get(0, 3) {
        0..4 => (Encoding::Run, 1),
        4 => (Encoding::Bitmap, 3),
        5 => (Encoding::Blocks, 3),
        6 => (Encoding::Runs, 3),
        _ => return Err(Void::Later),
    };
    let rest = bits.len().saturating_sub(header);
    let crc = [&CRC_17, &CRC_21, &CRC_32]
        .into_iter()
        .find(|crc| checksum(encoding, rest.saturating_sub(crc.width)).width == crc.width)
        .ok_or(Void::Damaged)?;
    let payload = bits.tail(header + crc.width);
    if bits.get(header, crc.width) != u64::from(seal(crc, encoding, &payload, place, base)) {
        return Err(Void::Mismatch);
    }
    let ranges = match encoding {
        Encoding::Run => one_run(&payload),
        Encoding::Bitmap => blocks::ranges(payload.words()),
        Encoding::Blocks => blocks::decode(&payload),
        Encoding::Runs => runs::decode(&payload),
    };
    FinishedAhead::new(base, encoding, ranges.ok_or(Void::Damaged)?).ok_or(Void::Damaged)
}

/// No map reaches further than this above its base.
const MAX_SPAN: i64 = 1 << 31;

/// No map has more finished runs.
const MAX_RUNS: usize = 1 << 17;

/// A map without its header and checksum.
#[derive(Debug)]
struct Draft {
    encoding: Encoding,
    /// How many runs it holds.
    runs: usize,
    payload: Bits,
}

impl Draft {
    fn len(&self) -> usize {
        header(self.encoding).1 + checksum(self.encoding, self.payload.len()).width + self.payload.len()
    }

    fn seal(&self, place: Place<'_>, base: i64) -> Bits {
        let (code, width) = header(self.encoding);
        let crc = checksum(self.encoding, self.payload.len());
        let mut bits = Bits::with_capacity(self.len());
        bits.push(code, width);
        bits.push(u64::from(seal(crc, self.encoding, &self.payload, place, base)), crc.width);
        for word in self.payload.words() {
            bits.push(*word, 64);
        }
        bits.strip();
        bits
    }
}

fn header(encoding: Encoding) -> (u64, usize) {
    match encoding {
        Encoding::Run => (0, 1),
        Encoding::Bitmap => (4, 3),
        Encoding::Blocks => (5, 3),
        Encoding::Runs => (6, 3),
    }
}

/// What guards so many bits.
fn checksum(encoding: Encoding, payload: usize) -> &'static Crc {
    match encoding {
        Encoding::Run => &CRC_17,
        Encoding::Bitmap => &CRC_21,
        Encoding::Blocks | Encoding::Runs if payload < 64 => &CRC_21,
        Encoding::Blocks | Encoding::Runs => &CRC_32,
    }
}

fn seal(crc: &Crc, encoding: Encoding, payload: &Bits, place: Place<'_>, base: i64) -> u32 {
    // 0xFF is in no text, so no group and topic look like another two.
    let mut state = crc.bytes(crc.start(), place.group.as_bytes());
    state = crc.bytes(state, &[0xFF]);
    state = crc.bytes(state, place.topic.as_bytes());
    state = crc.bytes(state, &[0xFF, header(encoding).0 as u8]);
    state = crc.bytes(state, &place.partition.to_be_bytes());
    state = crc.word(state, base as u64);
    crc.end(payload.words().iter().fold(state, |state, word| crc.word(state, *word)))
}

/// What remembers the most in `room` bits, and among those the smallest.
fn smallest(runs: &Runs<'_>, room: usize) -> Option<Draft> {
    let least = 3 + CRC_21.width;
    let bitmap_room = room.saturating_sub(least);
    let coded_room = match room.saturating_sub(3 + CRC_32.width) {
        0..64 => bitmap_room.min(63),
        enough => enough,
    };
    let single = single(runs, room.saturating_sub(1 + CRC_17.width));
    if single.is_some() && runs.len() == 1 {
        return single;
    }
    let tokens = runs::tokens(runs);
    let span = runs.end(runs.len()) as usize;
    let mut best = single;
    let mut offer = |draft: Option<Draft>| {
        let key = |draft: &Draft| (runs.records(draft.runs), usize::MAX - draft.len());
        if draft.as_ref().map(key) > best.as_ref().map(key) {
            best = draft;
        }
    };
    if tokens <= 128 + span / 64 {
        let coded = runs::encode(runs, coded_room);
        offer(coded.map(|(runs, payload)| Draft { encoding: Encoding::Runs, runs, payload }));
    }
    // Below that, runs are shorter for certain; above, a bitmap may be.
    let blocks = span.div_ceil(64).min(blocks::MAX_BLOCKS);
    let dense = blocks <= 64 * tokens;
    if !dense {
        return best;
    }
    let words = blocks::words(runs, blocks);
    if tokens > 16 && blocks::estimate(&words) + 16.0 < (blocks * 64) as f64 {
        let coded = blocks::encode(&words, runs, coded_room);
        offer(coded.map(|(runs, payload)| Draft { encoding: Encoding::Blocks, runs, payload }));
    }
    offer(bitmap(words, runs, bitmap_room));
    best
}

fn single(runs: &Runs<'_>, room: usize) -> Option<Draft> {
    let (1, finished) = runs.lengths().next()? else { return None };
    let width = finished.ilog2() as usize;
    let mut payload = Bits::default();
    payload.push(u64::from(finished), width);
    payload.push(1, 1);
    (payload.len() <= room).then_some(Draft { encoding: Encoding::Run, runs: 1, payload })
}

fn one_run(payload: &Bits) -> Option<Vec<(u32, u32)>> {
    let width = payload.len().checked_sub(1).filter(|width| *width <= 30)?;
    let finished = 1 << width | payload.get(0, width) as u32;
    Some(vec![(1, 1 + finished)])
}

fn bitmap(mut words: Vec<u64>, runs: &Runs<'_>, room: usize) -> Option<Draft> {
    let count = runs.below(room.min(words.len() * 64) as u64 + 1).min(MAX_RUNS);
    let bits = (runs.end(count) as usize).checked_sub(1)?;
    words.truncate(bits.div_ceil(64));
    if let Some(last) = words.last_mut() {
        *last &= u64::MAX << (bits.wrapping_neg() % 64);
    }
    let mut payload = Bits::from_words(words);
    payload.strip();
    Some(Draft { encoding: Encoding::Bitmap, runs: count, payload })
}
