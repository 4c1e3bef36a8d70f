//! Maps that were made to do harm: their checksum matches, and their content is anything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod map_forge;

use laneway_core::map::{Ahead, Encoding, FinishedAhead, Place, Text, Void, decode, encode};
use map_forge::forge;

const PLACE: Place<'static> = Place { group: "billing", topic: "orders", partition: 3 };
const BASE: i64 = 48_211_735;

const RUN: [bool; 1] = [false];
const BITMAP: [bool; 3] = [true, false, false];
const BLOCKS: [bool; 3] = [true, false, true];
const RUNS: [bool; 3] = [true, true, false];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What any map must be that is taken: ordered runs behind the base, within reach.
fn check(found: &FinishedAhead) {
    let ranges = found.ranges();
    assert!(!ranges.is_empty() && ranges.len() <= 1 << 17);
    assert!(ranges[0].0 > BASE && ranges[ranges.len() - 1].1 < BASE + (1 << 31));
    assert!(ranges.iter().all(|(first, last)| first <= last));
    assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
}

/// The documented format, written by somebody else, is read; and what was read is written the same way.
#[test]
fn a_map_that_was_written_from_the_description_is_read() {
    let nine = [false, false, true, true];
    let text = forge(&RUN, &nine, PLACE, BASE, false);
    let found = decode(&text, PLACE, BASE).unwrap();
    assert_eq!((found.ranges(), found.encoding()), (&[(BASE + 1, BASE + 9)][..], Some(Encoding::Run)));
    let mut ahead = Ahead::new(BASE);
    ahead.extend((1..10).map(|at| (BASE + at, true)));
    assert_eq!(encode(&ahead, PLACE, 100, Text::Base64).text, text);

    let mixed = [false, true, false, true, true, false, true, true, false, false, true, false, true];
    for dense in [false, true] {
        let text = forge(&BITMAP, &mixed, PLACE, BASE, dense);
        let found = decode(&text, PLACE, BASE).unwrap();
        let said: Vec<bool> = (1..=13).map(|at| found.clone().contains(BASE + at)).collect();
        assert_eq!((said, found.encoding()), (mixed.to_vec(), Some(Encoding::Bitmap)));
    }
    assert_eq!(decode(&forge(&[true; 3], &mixed, PLACE, BASE, false), PLACE, BASE), Err(Void::Later));
}

#[test]
fn no_content_does_harm() {
    let mut random = Random(1);
    let mut taken = 0;
    for round in 0..300_000 {
        let len = 1 + random.below(if round % 100 == 0 { 3_000 } else { 150 });
        // Of many zeros, many ones, or neither.
        let density = random.below(3);
        let mut word = || match density {
            0 => random.next() & random.next() & random.next(),
            1 => random.next() | random.next() | random.next(),
            _ => random.next(),
        };
        let payload: Vec<bool> = (0..len).map(|_| word() & 1 == 1).collect();
        let header: &[bool] = [&RUN[..], &BITMAP, &BLOCKS, &RUNS, &RUNS][round % 5];
        let text = forge(header, &payload, PLACE, BASE, round % 2 == 0);
        match decode(&text, PLACE, BASE) {
            Ok(found) => {
                check(&found);
                taken += 1;
            }
            Err(void) => assert_eq!(void, Void::Damaged, "{text}"),
        }
    }
    assert!(taken > 60_000, "{taken} were taken: the others tell nothing");
}

#[test]
fn a_map_that_reaches_too_far_is_damaged() {
    // 2^30 offsets are within reach, 2^31 are not.
    for (zeros, expected) in
        [(30, None), (31, Some(Void::Damaged)), (62, Some(Void::Damaged)), (500, Some(Void::Damaged))]
    {
        let mut payload = vec![false; zeros];
        payload.push(true);
        let decoded = decode(&forge(&RUN, &payload, PLACE, BASE, false), PLACE, BASE);
        assert_eq!(decoded.err(), expected, "{zeros}");
    }
    let end = i64::MAX - 5;
    let text = forge(&RUN, &[false, false, true, true], PLACE, end, false);
    assert_eq!(decode(&text, PLACE, end), Err(Void::Damaged));
    // Nothing but zeros.
    for header in [&BITMAP[..], &BLOCKS, &RUNS, &RUN] {
        if let Ok(found) = decode(&forge(header, &[], PLACE, BASE, false), PLACE, BASE) {
            check(&found);
        }
    }
}
