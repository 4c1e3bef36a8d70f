//! Runs: how many offsets are not finished, how many are, in turn; and how often the same comes again.

use super::ahead::Runs;
use super::bits::Bits;
use super::coder::{Bit, Decoder, Encoder, SLACK};
use super::{MAX_RUNS, MAX_SPAN};

/// So many offsets not finished, so many finished, and the same again so many times.
#[derive(Debug, Clone, Copy)]
struct Token {
    unfinished: u32,
    finished: u32,
    again: u32,
}

/// The most whole runs that fit into `room` bits, and those bits.
pub(super) fn encode(runs: &Runs<'_>, room: usize) -> Option<(usize, Bits)> {
    let mut count = runs.len().min(MAX_RUNS);
    while count > 0 {
        match attempt(runs, count, room) {
            Ok(payload) => return Some((count, payload)),
            Err(fitting) => count = fitting,
        }
    }
    None
}

/// How many different things there are to say; what comes again is said once.
pub(super) fn tokens(runs: &Runs<'_>) -> usize {
    let mut last = (0, 0);
    let mut tokens = 0;
    for lengths in runs.lengths() {
        tokens += usize::from(lengths != last);
        last = lengths;
    }
    tokens
}

/// The first `count` runs, or how many fit.
fn attempt(runs: &Runs<'_>, count: usize, room: usize) -> Result<Bits, usize> {
    let mut coder = Encoder::new();
    let mut model = Model::new();
    let mut lengths = runs.lengths().take(count).peekable();
    let (mut done, mut before_last) = (0, 0);
    while let Some((unfinished, finished)) = lengths.next() {
        let mut token = Token { unfinished, finished, again: 0 };
        while lengths.next_if_eq(&(unfinished, finished)).is_some() {
            token.again += 1;
        }
        model.encode(&mut coder, token);
        coder.bit(&mut model.end, lengths.peek().is_none());
        before_last = done;
        if coder.len() > room + SLACK {
            return Err(before_last);
        }
        done += token.again as usize + 1;
    }
    coder.finish().filter(|payload| payload.len() <= room).ok_or(before_last)
}

/// The finished runs, `[start, end)` behind the base. `None` if no map of ours says that.
pub(super) fn decode(payload: &Bits) -> Option<Vec<(u32, u32)>> {
    let mut coder = Decoder::new(payload);
    let mut model = Model::new();
    let mut ranges = Vec::new();
    let mut at = 0u64;
    loop {
        let token = model.decode(&mut coder);
        if coder.beyond() {
            return None;
        }
        let each = u64::from(token.unfinished) + u64::from(token.finished);
        let end = each.saturating_mul(u64::from(token.again) + 1).saturating_add(at);
        if end > MAX_SPAN as u64 || ranges.len() + token.again as usize >= MAX_RUNS {
            return None;
        }
        for _ in 0..=token.again {
            ranges.push(((at + u64::from(token.unfinished)) as u32, (at + each) as u32));
            at += each;
        }
        if coder.bit(&mut model.end) {
            return Some(ranges);
        }
    }
}

/// What is expected of the next token.
#[derive(Debug)]
struct Model {
    end: Bit,
    /// More than one offset is not finished.
    several: Bit,
    /// The token comes again.
    repeats: Bit,
    unfinished: Number,
    finished: Number,
    again: Number,
}

impl Model {
    fn new() -> Self {
        Self {
            end: Bit::expecting(49_152),
            several: Bit::expecting(45_000),
            repeats: Bit::expecting(52_000),
            unfinished: Number::new(),
            finished: Number::new(),
            again: Number::new(),
        }
    }

    fn encode(&mut self, coder: &mut Encoder, token: Token) {
        coder.bit(&mut self.several, token.unfinished > 1);
        if token.unfinished > 1 {
            self.unfinished.encode(coder, token.unfinished - 1);
        }
        self.finished.encode(coder, token.finished);
        coder.bit(&mut self.repeats, token.again > 0);
        if token.again > 0 {
            self.again.encode(coder, token.again);
        }
    }

    fn decode(&mut self, coder: &mut Decoder<'_>) -> Token {
        let several = coder.bit(&mut self.several);
        let unfinished = if several { self.unfinished.decode(coder).saturating_add(1) } else { 1 };
        let finished = self.finished.decode(coder);
        let repeats = coder.bit(&mut self.repeats);
        let again = if repeats { self.again.decode(coder) } else { 0 };
        Token { unfinished, finished, again }
    }
}

/// A number from 1 to 2^31 - 1: how many bits it has, learned; the second of them, learned by their number;
/// the rest as it is.
#[derive(Debug)]
struct Number {
    widths: [Bit; 32],
    seconds: [Bit; 32],
}

impl Number {
    fn new() -> Self {
        Self { widths: [Bit::EVEN; 32], seconds: [Bit::expecting(38_000); 32] }
    }

    fn encode(&mut self, coder: &mut Encoder, number: u32) {
        let width = (31 - (number | 1).leading_zeros()) & 31;
        let mut node = 1;
        for shift in (0..5).rev() {
            let bit = width >> shift & 1;
            coder.bit(&mut self.widths[node & 31], bit == 1);
            node = node << 1 | bit as usize;
        }
        if width > 0 {
            coder.bit(&mut self.seconds[width as usize], number >> (width - 1) & 1 == 1);
            coder.raw(u64::from(number), width - 1);
        }
    }

    fn decode(&mut self, coder: &mut Decoder<'_>) -> u32 {
        let mut node = 1;
        for _ in 0..5 {
            let bit = coder.bit(&mut self.widths[node & 31]);
            node = node << 1 | usize::from(bit);
        }
        let width = (node & 31) as u32;
        if width == 0 {
            return 1;
        }
        let second = u32::from(coder.bit(&mut self.seconds[width as usize]));
        let rest = coder.raw(width - 1) as u32;
        1 << width | second << (width - 1) | rest
    }
}
