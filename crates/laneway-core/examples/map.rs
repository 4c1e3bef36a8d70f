//! Prints what offset maps take: for each pattern the entropy, ours, and those of Confluent's Parallel
//! Consumer; and how long they take.
//!
//! `cargo run --release -p laneway-core --example map`

use std::hint::black_box;
use std::time::Instant;

use laneway_core::map::{Ahead, DEFAULT_LIMIT, Place, Text, decode, encode};

pub(crate) const PLACE: Place<'static> = Place { group: "billing", topic: "orders", partition: 3 };
pub(crate) const BASE: i64 = 48_211_735;

/// Also the bench's (`cargo xtask bench maps`).
pub(crate) struct Pattern {
    pub(crate) name: &'static str,
    pub(crate) offsets: u32,
    pub(crate) unfinished: Which,
    /// The Parallel Consumer's bytes and characters.
    pub(crate) theirs: Option<(usize, usize)>,
}

#[derive(Clone, Copy)]
pub(crate) enum Which {
    First,
    Percent(u32),
    Every(u32),
    /// So many finished, so many not.
    Runs(u32, u32),
    /// The first ones finished, but for the base; the rest at random.
    HeadAndTail,
}

#[allow(dead_code, reason = "the bench uses its patterns without its main")]
fn main() {
    println!(
        "{:<38} {:>8} {:>13} {:>13}   encoding         push   encode   decode",
        "", "entropy", "ours", "theirs"
    );
    println!(
        "{:<38} {:>8} {:>13} {:>13}                      µs       µs       µs",
        "pattern (unfinished)", "bytes", "bytes  units", "bytes  units"
    );
    for pattern in &patterns() {
        print(pattern);
    }
    println!("\n10,000,000 offsets, 30 % at random, cut at {DEFAULT_LIMIT} units:");
    let records = records(10_000_000, Which::Percent(30), 1);
    for allowed in [Text::Base64, Text::Dense] {
        let ahead = push(&records);
        let map = encode(&ahead, PLACE, DEFAULT_LIMIT, allowed);
        let micros = time(|| encode(&ahead, PLACE, DEFAULT_LIMIT, allowed).units);
        println!(
            "  {allowed}: {} units, remembered {}, forgotten {}, {micros:.0} µs",
            map.units, map.remembered, map.forgotten
        );
    }
}

#[allow(dead_code, reason = "as for main")]
fn print(pattern: &Pattern) {
    // The sizes of random patterns are the largest of several.
    let worst = (1..=9)
        .map(|seed| {
            let records = records(pattern.offsets, pattern.unfinished, seed);
            let map = encode(&push(&records), PLACE, usize::MAX, Text::Base64);
            (map.bytes, map.units, records)
        })
        .max_by_key(|(bytes, units, _)| (*bytes, *units));
    let Some((bytes, units, records)) = worst else { return };
    let ahead = push(&records);
    let map = encode(&ahead, PLACE, usize::MAX, Text::Base64);
    let pushing = time(|| push(&records).finished());
    let encoding = time(|| encode(&ahead, PLACE, DEFAULT_LIMIT, Text::Dense).units);
    let decoding = time(|| decode(&map.text, PLACE, BASE).map_or(0, |found| found.ranges().len()));
    let theirs = pattern.theirs.map_or(String::new(), |(bytes, units)| format!("{bytes:>6} {units:>6}"));
    let worse =
        pattern.theirs.is_some_and(|(their_bytes, their_units)| bytes >= their_bytes || units >= their_units);
    println!(
        "{:<38} {:>8} {:>6} {:>6} {:>13}   {:<10} {:>8.1} {:>8.1} {:>8.1}{}",
        format!("{}: {}", thousands(pattern.offsets), pattern.name),
        entropy(pattern).map_or("-".to_owned(), |bits| format!("{:.1}", bits / 8.0)),
        bytes,
        units,
        theirs,
        map.encoding.map_or("none".to_owned(), |encoding| encoding.to_string()),
        pushing,
        encoding,
        decoding,
        if worse { "  NOT SMALLER" } else { "" }
    );
}

pub(crate) fn patterns() -> Vec<Pattern> {
    let pattern = |offsets, name, unfinished, theirs| Pattern { name, offsets, unfinished, theirs };
    vec![
        pattern(10_000, "one", Which::First, Some((5, 8))),
        pattern(10_000, "1 % at random", Which::Percent(1), Some((179, 240))),
        pattern(10_000, "10 % at random", Which::Percent(10), Some((710, 948))),
        pattern(10_000, "30 % at random", Which::Percent(30), Some((1_182, 1_576))),
        pattern(10_000, "50 % at random", Which::Percent(50), Some((1_254, 1_672))),
        pattern(10_000, "runs, 100 done, 10 not", Which::Runs(100, 10), Some((23, 32))),
        pattern(10_000, "every 1,000th", Which::Every(1_000), Some((41, 56))),
        pattern(100_000, "one", Which::First, Some((9, 12))),
        pattern(100_000, "1 % at random", Which::Percent(1), Some((1_440, 1_920))),
        pattern(100_000, "every 1,000th", Which::Every(1_000), Some((21, 28))),
        pattern(10_000, "90 % at random", Which::Percent(90), None),
        pattern(10_000, "every 10th", Which::Every(10), None),
        pattern(10_000, "every 2nd", Which::Every(2), None),
        pattern(10_000, "half of the upper half", Which::HeadAndTail, None),
        pattern(100, "30 % at random", Which::Percent(30), None),
    ]
}

/// The records from the base on, the base never finished.
pub(crate) fn records(offsets: u32, unfinished: Which, seed: u64) -> Vec<(i64, bool)> {
    let mut random = Random(seed);
    let mut left = match unfinished {
        Which::Percent(percent) => u64::from(offsets) * u64::from(percent) / 100 - 1,
        _ => 0,
    };
    let record = |offset: u32| {
        let open = match unfinished {
            Which::First => offset == 0,
            Which::Every(step) => offset.is_multiple_of(step),
            Which::Runs(done, not) => offset == 0 || offset % (done + not) >= done,
            Which::HeadAndTail => offset == 0 || (offset >= offsets / 2 && random.below(2) == 0),
            // Exactly so many, all choices as likely.
            Which::Percent(_) if offset == 0 => true,
            Which::Percent(_) => {
                let open = random.below(u64::from(offsets - offset)) < left;
                left -= u64::from(open);
                open
            }
        };
        (BASE + i64::from(offset), !open)
    };
    (0..offsets).map(record).collect()
}

pub(crate) fn push(records: &[(i64, bool)]) -> Ahead {
    let mut ahead = Ahead::new(BASE);
    ahead.extend(records.iter().copied());
    ahead
}

/// What it takes to tell which of the offsets behind the base are unfinished, if it is known how many.
pub(crate) fn entropy(pattern: &Pattern) -> Option<f64> {
    let Which::Percent(percent) = pattern.unfinished else { return None };
    let (of, choose) = (f64::from(pattern.offsets - 1), f64::from(pattern.offsets * percent / 100 - 1));
    let ways = |from: f64, count: f64| (0..count as u32).map(|at| (from - f64::from(at)).log2()).sum::<f64>();
    Some(ways(of, choose) - ways(choose, choose))
}

/// The median of many, in µs.
pub(crate) fn time<T>(mut what: impl FnMut() -> T) -> f64 {
    let mut nanos: Vec<u128> = (0..201)
        .map(|_| {
            let start = Instant::now();
            black_box(what());
            start.elapsed().as_nanos()
        })
        .collect();
    nanos.sort_unstable();
    nanos[100] as f64 / 1_000.0
}

pub(crate) fn thousands(number: u32) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
