//! A range coder: numbers become bits at the price of their probabilities, to a fraction of a bit.

use super::bits::Bits;

/// Writes. The number so far lies in `[low, low + range)`, below the words in `out`.
#[derive(Debug)]
pub(super) struct Encoder {
    low: u64,
    range: u64,
    out: Vec<u32>,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { low: 0, range: u64::MAX, out: Vec::with_capacity(64) }
    }

    /// A bit that `model` expects, and learns from.
    #[inline]
    pub(super) fn bit(&mut self, model: &mut Bit, bit: bool) {
        let split = (self.range >> 16) * u64::from(model.zero);
        if bit {
            self.add(split);
            self.range -= split;
        } else {
            self.range = split;
        }
        self.renormalise();
        model.learn(bit);
    }

    /// What covers `[from, to)` of `[0, total)`; `total` is at most 2^16.
    #[inline]
    pub(super) fn slice(&mut self, from: u32, to: u32, total: u32) {
        let unit = self.range / u64::from(total);
        self.add(unit * u64::from(from));
        self.range = unit * u64::from(to - from);
        self.renormalise();
    }

    /// One of `total` numbers that are all as likely.
    #[inline]
    pub(super) fn uniform(&mut self, value: u64, total: u64) {
        let rest = rest_bits(total);
        let top = (value >> rest) as u32;
        self.slice(top, top + 1, ((total - 1) >> rest) as u32 + 1);
        self.raw(value, rest);
    }

    /// The lowest `count` bits of `value`, as they are.
    #[inline]
    pub(super) fn raw(&mut self, value: u64, mut count: u32) {
        while count > 0 {
            let now = count.min(16);
            count -= now;
            self.range >>= now;
            self.add(self.range * ((value >> count) & ((1 << now) - 1)));
            self.renormalise();
        }
    }

    /// How many bits it is by now, at most.
    pub(super) fn len(&self) -> usize {
        self.out.len() * 32 + self.range.leading_zeros() as usize + 2
    }

    /// The shortest bits that mean all that was written, when zeros follow. `None` if it ends in more zeros
    /// than a reader believes.
    pub(super) fn finish(mut self) -> Option<Bits> {
        let written = self.out.len() * 32;
        let mut last = self.low;
        for zeros in (0..64).rev() {
            let mask = (1u64 << zeros) - 1;
            let (rounded, carry) = self.low.overflowing_add(mask);
            let rounded = rounded & !mask;
            if rounded.wrapping_sub(self.low) < self.range {
                if carry {
                    self.carry();
                }
                last = rounded;
                break;
            }
        }
        self.out.extend([(last >> 32) as u32, last as u32]);
        let word = |pair: &[u32]| u64::from(pair[0]) << 32 | pair.get(1).copied().map_or(0, u64::from);
        let mut bits = Bits::from_words(self.out.chunks(2).map(word).collect());
        bits.strip();
        (written <= bits.len() + ZEROS).then_some(bits)
    }

    #[inline]
    fn add(&mut self, more: u64) {
        let (low, carry) = self.low.overflowing_add(more);
        self.low = low;
        if carry {
            self.carry();
        }
    }

    #[cold]
    fn carry(&mut self) {
        for word in self.out.iter_mut().rev() {
            *word = word.wrapping_add(1);
            if *word != 0 {
                break;
            }
        }
    }

    #[inline]
    fn renormalise(&mut self) {
        if self.range < 1 << 32 {
            self.out.push((self.low >> 32) as u32);
            self.low <<= 32;
            self.range <<= 32;
        }
    }
}

/// By so many bits the end may come out shorter than it looked, if it is lucky with its zeros.
pub(super) const SLACK: usize = 16;

/// As many zeros at the end are believed: so what a text can make a reader do is bounded by its length.
const ZEROS: usize = 96;

/// Reads what an [`Encoder`] wrote. Whatever it is given, it gives answers, and never fails.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    bits: &'a Bits,
    at: usize,
    /// Where the number lies within the range.
    code: u64,
    range: u64,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bits: &'a Bits) -> Self {
        Self { bits, at: 64, code: bits.get(0, 64), range: u64::MAX }
    }

    pub(super) fn bit(&mut self, model: &mut Bit) -> bool {
        let split = (self.range >> 16) * u64::from(model.zero);
        let bit = self.code >= split;
        if bit {
            self.code -= split;
            self.range -= split;
        } else {
            self.range = split;
        }
        self.renormalise();
        model.learn(bit);
        bit
    }

    /// Where in `[0, total)` it is; `take` the slice that holds it next.
    pub(super) fn peek(&self, total: u32) -> u32 {
        (self.code / (self.range / u64::from(total))).min(u64::from(total - 1)) as u32
    }

    pub(super) fn take(&mut self, from: u32, to: u32, total: u32) {
        let unit = self.range / u64::from(total);
        self.code -= unit * u64::from(from);
        self.range = unit * u64::from(to - from);
        self.renormalise();
    }

    pub(super) fn uniform(&mut self, total: u64) -> u64 {
        let rest = rest_bits(total);
        let tops = ((total - 1) >> rest) as u32 + 1;
        let top = self.peek(tops);
        self.take(top, top + 1, tops);
        let value = u64::from(top) << rest | self.raw(rest);
        value.min(total - 1)
    }

    pub(super) fn raw(&mut self, mut count: u32) -> u64 {
        let mut value = 0;
        while count > 0 {
            let now = count.min(16);
            count -= now;
            self.range >>= now;
            let part = (self.code / self.range).min((1 << now) - 1);
            self.code -= self.range * part;
            value = value << now | part;
            self.renormalise();
        }
        value
    }

    /// True if more was read than can have been written.
    pub(super) fn beyond(&self) -> bool {
        self.at > self.bits.len() + ZEROS + 64
    }

    fn renormalise(&mut self) {
        if self.range < 1 << 32 {
            self.code = self.code << 32 | self.bits.get(self.at, 32);
            self.at += 32;
            self.range <<= 32;
        }
    }
}

/// How many of the lowest bits of a number below `total` go as they are.
fn rest_bits(total: u64) -> u32 {
    (64 - (total - 1).leading_zeros()).saturating_sub(16)
}

/// What is expected of a bit, learned from those before it: as the mean of all at first, then of the last
/// hundred or so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bit {
    /// The probability of a 0, of 65,536.
    zero: u16,
    seen: u8,
}

impl Bit {
    /// Both are as likely.
    pub(super) const EVEN: Self = Self { zero: 1 << 15, seen: 0 };

    /// A 0 is expected, `zero` of 65,536.
    pub(super) const fn expecting(zero: u16) -> Self {
        Self { zero, seen: 2 }
    }

    #[inline]
    fn learn(&mut self, bit: bool) {
        let rate = RATES[usize::from(self.seen & 127)];
        let zero = u32::from(self.zero);
        let zero = if bit { zero - ((zero * rate) >> 16) } else { zero + (((65_536 - zero) * rate) >> 16) };
        self.zero = zero.clamp(32, 65_536 - 32) as u16;
        self.seen = (self.seen + 1).min(LAST_RATE);
    }
}

const LAST_RATE: u8 = 120;

/// How much of the difference is learned, after so many bits: 1 / (seen + 2), of 65,536.
const RATES: [u32; 128] = {
    let mut rates = [0; 128];
    let mut seen = 0;
    while seen < 128 {
        rates[seen] = 65_536 / (seen as u32 + 2);
        seen += 1;
    }
    rates
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Symbol {
        Bit(bool),
        Slice(u32, u32, u32),
        Uniform(u64, u64),
        Raw(u64, u32),
    }

    fn symbol() -> impl Strategy<Value = Symbol> {
        prop_oneof![
            any::<bool>().prop_map(Symbol::Bit),
            Just(Symbol::Bit(true)),
            (1..65_536u32, any::<u32>(), any::<u32>()).prop_map(|(total, from, len)| {
                let from = from % total;
                Symbol::Slice(from, from + 1 + len % (total - from), total)
            }),
            Just(Symbol::Slice(65_535, 65_536, 65_536)),
            (1..u64::MAX, any::<u64>()).prop_map(|(total, value)| Symbol::Uniform(value % total, total)),
            (any::<u64>(), 0..64u32)
                .prop_map(|(value, count)| Symbol::Raw(value & ((1 << count) - 1), count)),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(symbols in proptest::collection::vec(symbol(), 0..300)) {
            let mut encoder = Encoder::new();
            let mut model = Bit::EVEN;
            for symbol in &symbols {
                match *symbol {
                    Symbol::Bit(bit) => encoder.bit(&mut model, bit),
                    Symbol::Slice(from, to, total) => encoder.slice(from, to, total),
                    Symbol::Uniform(value, total) => encoder.uniform(value, total),
                    Symbol::Raw(value, count) => encoder.raw(value, count),
                }
            }
            let most = encoder.len();
            let Some(bits) = encoder.finish() else { return Ok(()) };
            prop_assert!(bits.len() <= most, "{} bits, {most} were announced", bits.len());
            let mut decoder = Decoder::new(&bits);
            let mut model = Bit::EVEN;
            for symbol in &symbols {
                match *symbol {
                    Symbol::Bit(bit) => prop_assert_eq!(decoder.bit(&mut model), bit),
                    Symbol::Slice(from, to, total) => {
                        prop_assert!((from..to).contains(&decoder.peek(total)));
                        decoder.take(from, to, total);
                    }
                    Symbol::Uniform(value, total) => prop_assert_eq!(decoder.uniform(total), value),
                    Symbol::Raw(value, count) => prop_assert_eq!(decoder.raw(count), value),
                }
            }
            prop_assert!(!decoder.beyond());
        }
    }
}
