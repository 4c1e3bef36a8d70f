//! The offset map: text as it comes, content under a checksum that matches, and records there and back.
//!
//! `cargo +nightly fuzz run map`
#![no_main]

use std::collections::BTreeMap;

use laneway_core::map::{Ahead, Place, Text, decode, encode};
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/laneway-core/tests/map_forge/mod.rs"]
mod map_forge;

const PLACE: Place<'static> = Place { group: "g", topic: "t", partition: 0 };
const BASE: i64 = 1_000;

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 6 {
        0 => {
            let _ = decode(&String::from_utf8_lossy(data), PLACE, BASE);
        }
        kind @ 1..5 => {
            let header: &[bool] = match kind {
                1 => &[false],
                2 => &[true, false, false],
                3 => &[true, false, true],
                _ => &[true, true, false],
            };
            let payload: Vec<bool> = data.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)).collect();
            if let Ok(found) = decode(&map_forge::forge(header, &payload, PLACE, BASE, false), PLACE, BASE) {
                assert!(found.ranges().windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            }
        }
        _ => there_and_back(data),
    }
});

/// Each byte is a stretch of records: whether they are finished, how many they are, and the gap before them.
fn there_and_back(data: &[u8]) {
    let limit = data.len();
    let mut model = BTreeMap::from([(BASE, false)]);
    let mut at = BASE;
    for byte in data {
        at += i64::from(byte >> 5 & 3);
        for _ in 0..=byte & 31 {
            at += 1;
            model.insert(at, byte >> 7 == 1);
        }
    }
    let mut ahead = Ahead::new(BASE);
    ahead.extend(model.iter().map(|(offset, finished)| (*offset, *finished)));
    for allowed in [Text::Base64, Text::Dense] {
        let map = encode(&ahead, PLACE, limit, allowed);
        assert!(map.text.encode_utf16().count() <= limit);
        if map.text.is_empty() {
            continue;
        }
        let Ok(mut found) = decode(&map.text, PLACE, BASE) else { panic!("{} is not read", map.text) };
        let highest = found.highest().unwrap_or(BASE);
        let mut remembered = 0;
        for (offset, finished) in &model {
            assert_eq!(found.contains(*offset), *finished && *offset <= highest);
            remembered += u64::from(*finished && *offset <= highest);
        }
        assert_eq!(remembered, map.remembered);
    }
}
