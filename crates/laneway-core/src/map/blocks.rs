//! Blocks: 64 offsets at a time, how many of them are finished, and which of the ways to choose so many it
//! is. It reaches the entropy of what is random, at a price per block and not per offset.

use super::MAX_RUNS;
use super::ahead::Runs;
use super::bits::Bits;
use super::coder::{Bit, Decoder, Encoder, SLACK};

/// More blocks than this are not looked at.
pub(super) const MAX_BLOCKS: usize = 1 << 16;

/// The most whole runs that fit into `room` bits, and those bits. `words` has a bit for each offset behind
/// the base.
pub(super) fn encode(words: &[u64], runs: &Runs<'_>, room: usize) -> Option<(usize, Bits)> {
    let mut count = runs.below(words.len() as u64 * 64 + 1).min(MAX_RUNS);
    while count > 0 {
        let bits = runs.end(count) as usize - 1;
        let blocks = bits.div_ceil(64);
        match attempt(words, bits, room) {
            Ok(payload) => return Some((count, payload)),
            Err(fitting) => count = runs.below(fitting.min(blocks - 1) as u64 * 64 + 1),
        }
    }
    None
}

/// The first `bits` of `words`, at least one, or the number of blocks that fit.
fn attempt(words: &[u64], bits: usize, room: usize) -> Result<Bits, usize> {
    let blocks = bits.div_ceil(64);
    let behind = (u64::MAX >> 1) >> ((bits - 1) % 64);
    let mut coder = Encoder::new();
    let len = bits.ilog2();
    coder.uniform(u64::from(len), LENGTHS);
    coder.raw(bits as u64, len);
    let (mut ones, mut mixed) = (0, 0);
    for word in &words[..blocks] {
        let count = word.count_ones() % 64;
        mixed += u32::from(count != 0);
        ones += count;
    }
    let start = level((ones * 1024).checked_div(mixed).unwrap_or(0));
    coder.uniform(start as u64, LEVELS as u64);
    let mut model = Model::new(start);
    let word = |at: usize| match words[at] {
        // What is behind the end is as most are.
        last if at + 1 == blocks && start >= LEVELS / 2 => last | behind,
        last if at + 1 == blocks => last & !behind,
        word => word,
    };
    for at in 0..blocks {
        let word = word(at);
        let count = word.count_ones();
        let [extreme, full] = &mut model.kinds[model.before];
        coder.bit(extreme, count % 64 == 0);
        if count % 64 == 0 {
            coder.bit(full, count == 64);
            model.before = if count == 64 { FULL } else { EMPTY };
            continue;
        }
        let slices = &COUNTS[level(model.density)];
        coder.slice(slices[count as usize - 1], slices[count as usize], 1 << 16);
        let (rarer, rare) = if count > 32 { (!word, 64 - count) } else { (word, count) };
        coder.uniform(rank(rarer), WAYS[rare as usize][64]);
        model.learn(count);
        if coder.len() > room + SLACK {
            return Err(at);
        }
    }
    coder.finish().filter(|payload| payload.len() <= room).ok_or(blocks - 1)
}

/// The finished runs, `[start, end)` behind the base. `None` if no map of ours says that.
pub(super) fn decode(payload: &Bits) -> Option<Vec<(u32, u32)>> {
    let mut coder = Decoder::new(payload);
    let len = coder.uniform(LENGTHS) as u32;
    let bits = (1 << len | coder.raw(len)) as usize;
    let blocks = bits.div_ceil(64);
    if blocks > MAX_BLOCKS {
        return None;
    }
    let mut model = Model::new(coder.uniform(LEVELS as u64) as usize);
    let mut words = Vec::with_capacity(blocks);
    for _ in 0..blocks {
        let [extreme, full] = &mut model.kinds[model.before];
        if coder.bit(extreme) {
            let full = coder.bit(full);
            model.before = if full { FULL } else { EMPTY };
            words.push(if full { u64::MAX } else { 0 });
            continue;
        }
        let slices = &COUNTS[level(model.density)];
        let place = coder.peek(1 << 16);
        let count = slices.partition_point(|slice| *slice <= place);
        coder.take(slices[count - 1], slices[count], 1 << 16);
        let rare = count.min(64 - count);
        let word = unrank(coder.uniform(WAYS[rare][64]), rare);
        words.push(if count > 32 { !word } else { word });
        model.learn(count as u32);
        if coder.beyond() {
            return None;
        }
    }
    if let Some(last) = words.last_mut() {
        *last &= u64::MAX << (blocks * 64 - bits);
    }
    ranges(&words)
}

/// The runs of set bits; the first bit is the first offset behind the base.
pub(super) fn ranges(words: &[u64]) -> Option<Vec<(u32, u32)>> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let (mut rest, mut at) = (*word, u32::try_from(at * 64 + 1).ok()?);
        while rest != 0 {
            at += rest.leading_zeros();
            rest <<= rest.leading_zeros();
            let ones = rest.leading_ones();
            match ranges.last_mut() {
                Some(last) if last.1 == at => last.1 += ones,
                _ => ranges.push((at, at + ones)),
            }
            at += ones;
            rest = rest.checked_shl(ones).unwrap_or(0);
        }
        if ranges.len() > MAX_RUNS {
            return None;
        }
    }
    Some(ranges)
}

/// A bit for each offset behind the base, finished ones set, of the first `words * 64`.
pub(super) fn words(runs: &Runs<'_>, words: usize) -> Vec<u64> {
    let mut made = vec![0u64; words];
    let (mut word, mut edges) = (0, 0u64);
    for edge in runs.edges {
        let at = *edge as usize - 1;
        if at / 64 != word {
            let Some(slot) = made.get_mut(word) else { break };
            *slot = edges;
            (word, edges) = (at / 64, 0);
        }
        edges ^= 1 << 63 >> (at % 64);
    }
    if let Some(slot) = made.get_mut(word) {
        *slot = edges;
    }
    let mut state = 0u64;
    for word in &mut made {
        let mut filled = *word;
        for shift in [1, 2, 4, 8, 16, 32] {
            filled ^= filled >> shift;
        }
        *word = filled ^ state;
        state = 0u64.wrapping_sub(*word & 1);
    }
    made
}

/// About how many bits it takes to say these words.
pub(super) fn estimate(words: &[u64]) -> f64 {
    let group = |group: &[u64]| {
        let ones = f64::from(group.iter().map(|word| word.count_ones()).sum::<u32>());
        let all = group.len() as f64 * 64.0;
        let part = |of: f64| if of == 0.0 { 0.0 } else { of * (all / of).log2() };
        part(ones) + part(all - ones)
    };
    24.0 + words.chunks(8).map(|words| group(words) + 0.5).sum::<f64>()
}

/// What is expected of the next block.
#[derive(Debug)]
struct Model {
    /// By the kind of the block before: whether it is all the same, and then whether it is full.
    kinds: [[Bit; 2]; 3],
    before: usize,
    /// How much of a mixed block is finished, of 65,536.
    density: u32,
    seen: u32,
}

const MIXED: usize = 0;
const EMPTY: usize = 1;
const FULL: usize = 2;

impl Model {
    fn new(level: usize) -> Self {
        let kinds = [[Bit::EVEN; 2]; 3];
        Self { kinds, before: MIXED, density: DENSITIES[level], seen: 8 }
    }

    fn learn(&mut self, count: u32) {
        self.before = MIXED;
        self.seen = (self.seen + 1).min(48);
        self.density = (self.density * (self.seen - 1) + count * 1024) / self.seen;
    }
}

/// Numbers of offsets have 1 to 23 bits.
const LENGTHS: u64 = 23;
const LEVELS: usize = 32;

/// Densities at which counts are expected: the square of sin((i + 1/2) π / 64), of 65,536, so that what a
/// density between two of them costs is the same everywhere.
const DENSITIES: [u32; LEVELS] = [
    39, 355, 982, 1915, 3146, 4662, 6448, 8489, 10762, 13248, 15922, 18758, 21729, 24806, 27960, 31160,
    34376, 37576, 40730, 43807, 46778, 49614, 52288, 54774, 57047, 59088, 60874, 62390, 63621, 64554, 65181,
    65497,
];

/// Where one becomes the next: the square of sin(i π / 64).
const BORDERS: [u32; LEVELS - 1] = [
    158, 630, 1411, 2494, 3869, 5522, 7438, 9598, 11980, 14563, 17321, 20228, 23256, 26375, 29556, 32768,
    35980, 39161, 42280, 45308, 48215, 50973, 53556, 55938, 58098, 60014, 61667, 63042, 64125, 64906, 65378,
];

fn level(density: u32) -> usize {
    BORDERS.partition_point(|border| *border <= density)
}

/// By level: what of 65,536 belongs to counts of 1, to 2, ... to 63, one after the other: the binomial
/// distribution, and never less than 16.
static COUNTS: [[u32; 64]; LEVELS] = {
    let mut counts = [[0; 64]; LEVELS];
    let mut level = 0;
    while level < LEVELS {
        let odds = DENSITIES[level] as f64 / (65_536 - DENSITIES[level]) as f64;
        let mut weights = [0.0; 64];
        let (mut weight, mut sum) = (1.0, 0.0);
        let mut count = 1;
        while count < 64 {
            weight = weight * odds * (65 - count) as f64 / count as f64;
            weights[count] = weight;
            sum += weight;
            count += 1;
        }
        let mut so_far = 0.0;
        let mut count = 1;
        while count < 63 {
            so_far += weights[count];
            counts[level][count] = 16 * count as u32 + (so_far / sum * (65_536 - 16 * 63) as f64) as u32;
            count += 1;
        }
        counts[level][63] = 65_536;
        level += 1;
    }
    counts
};

/// `WAYS[k][n]`: in how many ways `k` of `n` can be chosen.
static WAYS: [[u64; 65]; 33] = {
    let mut ways = [[0; 65]; 33];
    let mut of = 0;
    while of <= 64 {
        ways[0][of] = 1;
        let mut choose = 1;
        while choose <= 32 && of > 0 {
            ways[choose][of] = ways[choose - 1][of - 1] + ways[choose][of - 1];
            choose += 1;
        }
        of += 1;
    }
    ways
};

/// Which of the words with as many ones it is.
fn rank(mut word: u64) -> u64 {
    let mut rank = 0;
    for ways in &WAYS[1..] {
        if word == 0 {
            break;
        }
        rank += ways[word.trailing_zeros() as usize];
        word &= word - 1;
    }
    rank
}

fn unrank(mut rank: u64, ones: usize) -> u64 {
    let (mut word, mut at) = (0, 64);
    for ways in WAYS[1..=ones].iter().rev() {
        while at > 0 {
            at -= 1;
            if ways[at] <= rank {
                break;
            }
        }
        rank = rank.saturating_sub(ways[at]);
        word |= 1 << at;
    }
    word
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_tables_are_part_of_the_format_and_stay_as_they_are() {
        let mut sum = 0u64;
        for (at, slice) in COUNTS.iter().flatten().enumerate() {
            sum = sum.wrapping_mul(31).wrapping_add(u64::from(*slice) ^ at as u64);
        }
        assert_eq!(sum, 16_408_524_062_325_806_950);
        for slices in &COUNTS {
            assert!(slices.windows(2).all(|pair| pair[0] < pair[1]));
        }
        assert_eq!(WAYS[32][64], 1_832_624_140_942_590_534);
    }

    proptest! {
        #[test]
        fn words_have_ranks(a in any::<u64>(), b in any::<u64>()) {
            for word in [a, a & b, a & b & a.rotate_left(9), 1 << (a % 64)] {
                let word = if word.count_ones() > 32 { !word } else { word };
                let ones = word.count_ones() as usize;
                prop_assert!(rank(word) < WAYS[ones][64]);
                prop_assert_eq!(unrank(rank(word), ones), word);
            }
        }
    }
}
