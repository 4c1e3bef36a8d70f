//! The offset map against a plain set: what was finished is found again, nothing else is, and whatever was
//! not written for exactly this commit is void.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use laneway_core::map::{
    Ahead, DEFAULT_LIMIT, Encoded, Encoding, FinishedAhead, Place, Text, Void, decode, encode,
};
use proptest::prelude::*;

const PLACE: Place<'static> = Place { group: "billing", topic: "orders", partition: 3 };
const BASE: i64 = 48_211_735;

/// Records by offset, and whether they are finished.
type Model = BTreeMap<i64, bool>;

/// One by one or all at once, it is the same map.
fn map(model: &Model, limit: usize, allowed: Text) -> Encoded {
    let (mut single, mut many) = (Ahead::new(BASE), Ahead::new(BASE));
    for (offset, finished) in model {
        single.push(*offset, *finished);
    }
    many.extend(model.iter().map(|(offset, finished)| (*offset, *finished)));
    let map = encode(&many, PLACE, limit, allowed);
    assert_eq!(map, encode(&single, PLACE, limit, allowed));
    map
}

/// What every map must be: not too long, without forbidden characters, and true to the model.
fn check(model: &Model, map: &Encoded, limit: usize, allowed: Text) -> Option<FinishedAhead> {
    let finished = model.iter().filter(|(offset, finished)| **finished && **offset != BASE).count() as u64;
    assert_eq!(map.remembered + map.forgotten, finished + u64::from(model.get(&BASE) == Some(&true)));
    assert_eq!(map.text.encode_utf16().count(), map.units);
    assert!(map.units <= limit);
    assert!(!map.text.chars().any(|character| character.is_control() || character.len_utf16() > 1));
    assert!(allowed == Text::Dense || map.text.is_ascii());
    if map.text.is_empty() {
        assert_eq!((map.remembered, map.encoding), (0, None));
        return None;
    }
    let mut found = decode(&map.text, PLACE, BASE).unwrap();
    assert_eq!(found.encoding(), map.encoding);
    // In order from the base: everything finished up to the highest, and nothing of what is not.
    let highest = found.highest().unwrap();
    let mut remembered = 0;
    for (offset, finished) in model {
        let said = found.contains(*offset);
        assert_eq!(said, *finished && *offset != BASE && *offset <= highest, "at {offset}");
        remembered += u64::from(said);
    }
    assert_eq!(remembered, map.remembered);
    // Both kinds of ranges cover what lies between the base and the highest, once.
    let mut all: Vec<(i64, i64)> = found.ranges().iter().copied().chain(found.unfinished()).collect();
    all.sort_unstable();
    assert_eq!((all.first().unwrap().0, all.last().unwrap().1), (BASE, highest));
    assert!(all.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
    let ranged: u64 = found.ranges().iter().map(|(first, last)| (last - first + 1) as u64).sum();
    assert_eq!(found.finished_count(), ranged);
    Some(found)
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

    /// `offsets` records, of which exactly `open` are not finished, the base among them.
    fn records(&mut self, offsets: u64, open: u64) -> Model {
        let mut left = open - 1;
        let mut record = |at: u64| {
            let unfinished = at == 0 || self.below(offsets - at) < left;
            left -= u64::from(unfinished && at != 0);
            (BASE + at as i64, !unfinished)
        };
        (0..offsets).map(&mut record).collect()
    }
}

fn records(offsets: i64, unfinished: impl Fn(i64) -> bool) -> Model {
    (0..offsets).map(|at| (BASE + at, !unfinished(at))).collect()
}

/// One of each encoding and text, and some more.
fn samples() -> Vec<Encoded> {
    let mut random = Random(7);
    let models = [
        records(10_000, |at| at == 0),
        records(2, |at| at == 0),
        records(10_000, |at| at % 1_000 == 0),
        records(10_000, |at| at < 40 || at % 110 >= 100),
        random.records(200, 100),
        random.records(2_000, 1_000),
        random.records(3_000, 300),
        random.records(3_000, 30),
        random.records(10_000, 3_000),
    ];
    let mut maps = Vec::new();
    for model in &models {
        let plain = map(model, DEFAULT_LIMIT, Text::Base64);
        let dense = map(model, plain.units - 1, Text::Dense);
        maps.extend([plain, dense].into_iter().filter(|map| !map.text.is_empty()));
    }
    for encoding in [Encoding::Run, Encoding::Bitmap, Encoding::Blocks, Encoding::Runs] {
        assert!(maps.iter().any(|map| map.encoding == Some(encoding)), "no sample of {encoding}");
    }
    for characters in [Text::Base64, Text::Dense] {
        assert!(maps.iter().any(|map| map.characters == characters), "no sample of {characters}");
    }
    maps
}

/// Records with gaps, in stretches that are finished, unfinished or mixed.
fn model() -> impl Strategy<Value = Model> {
    let stretch = (0..60i64, 1..200usize, 0..=16u32, 0..5i64, any::<u64>());
    proptest::collection::vec(stretch, 0..12).prop_map(|stretches| {
        let mut model = Model::from([(BASE, false)]);
        let mut at = BASE;
        for (skip, len, density, gaps, seed) in stretches {
            let mut random = Random(seed);
            at += skip * skip * skip;
            for _ in 0..len {
                at += 1 + random.below(gaps as u64 + 1).saturating_sub(1) as i64;
                model.insert(at, random.below(16) < u64::from(density));
            }
        }
        model
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_finished_is_found_again_and_nothing_else(model in model()) {
        for allowed in [Text::Base64, Text::Dense] {
            let map = map(&model, usize::MAX, allowed);
            prop_assert_eq!(map.forgotten, 0);
            prop_assert_eq!(map.characters, Text::Base64);
            check(&model, &map, usize::MAX, allowed);
        }
    }

    #[test]
    fn what_does_not_fit_is_forgotten_from_the_top_and_counted(model in model(), limit in 0..300usize) {
        let whole = map(&model, usize::MAX, Text::Base64);
        let mut before = 0;
        for (limit, allowed) in [(limit / 2, Text::Base64), (limit, Text::Base64), (limit, Text::Dense)] {
            let map = map(&model, limit, allowed);
            check(&model, &map, limit, allowed);
            // More room never means less memory (but for the odd bit of a range coder's end).
            prop_assert!(map.remembered + 8 >= before, "{} after {before}", map.remembered);
            before = map.remembered;
            if whole.units <= limit {
                prop_assert_eq!(&map, &whole);
            }
        }
    }

    #[test]
    fn a_cursor_that_goes_back_and_forth_agrees_with_a_search(model in model(), asked in
        proptest::collection::vec(-5..20_000i64, 0..100)
    ) {
        let map = map(&model, usize::MAX, Text::Base64);
        if let Ok(mut found) = decode(&map.text, PLACE, BASE) {
            let ranges = found.ranges().to_vec();
            for offset in asked.into_iter().map(|at| BASE + at) {
                let plain = ranges.iter().any(|(first, last)| (*first..=*last).contains(&offset));
                prop_assert_eq!(found.contains(offset), plain);
            }
        }
    }

    #[test]
    fn any_text_at_all_is_void_and_does_no_harm(text in ".{0,80}", marker in "[!$&;>^|~]", more in "[A-Za-z0-9+/]{0,90}") {
        prop_assert!(decode(&text, PLACE, BASE).is_err());
        let text = marker + &more;
        prop_assert!(decode(&text, PLACE, BASE).is_err());
    }
}

#[test]
fn a_map_is_smaller_than_the_parallel_consumers_whatever_the_pattern() {
    let at_random = |offsets: u64, percent: u64, bytes, units| {
        for seed in 0..5 {
            let model = Random(seed).records(offsets, offsets * percent / 100);
            smaller(&format!("{offsets}, {percent} %"), &model, bytes, units);
        }
    };
    smaller("one", &records(10_000, |at| at == 0), 5, 8);
    at_random(10_000, 1, 179, 240);
    at_random(10_000, 10, 710, 948);
    at_random(10_000, 30, 1_182, 1_576);
    at_random(10_000, 50, 1_254, 1_672);
    smaller("runs", &records(10_000, |at| at == 0 || at % 110 >= 100), 23, 32);
    smaller("every 1,000th", &records(10_000, |at| at % 1_000 == 0), 41, 56);
    smaller("one of 100,000", &records(100_000, |at| at == 0), 9, 12);
    at_random(100_000, 1, 1_440, 1_920);
    smaller("every 1,000th of 100,000", &records(100_000, |at| at % 1_000 == 0), 21, 28);
}

fn smaller(name: &str, model: &Model, bytes: usize, units: usize) {
    let map = map(model, DEFAULT_LIMIT, Text::Base64);
    assert!(map.bytes < bytes && map.units < units, "{name}: {} bytes, {} units", map.bytes, map.units);
    assert_eq!(map.forgotten, 0);
    check(model, &map, DEFAULT_LIMIT, Text::Base64);
}

#[test]
fn what_is_random_takes_its_entropy_and_little_more() {
    for (percent, bytes) in [(1u64, 100.9), (10, 585.2), (30, 1_101.0)] {
        let model = Random(11).records(10_000, 100 * percent);
        let map = map(&model, usize::MAX, Text::Base64);
        let most = bytes * 1.01 + 13.0;
        assert!((map.bytes as f64) < most, "{percent} %: {} bytes, {most} at most", map.bytes);
    }
}

#[test]
fn what_is_too_long_for_base64_is_written_denser_before_anything_is_cut() {
    let model = Random(3).records(50_000, 25_000);
    let plain = map(&model, DEFAULT_LIMIT, Text::Base64);
    let dense = map(&model, DEFAULT_LIMIT, Text::Dense);
    assert!(plain.forgotten > 0 && plain.remembered > 12_000);
    assert_eq!((dense.forgotten, dense.characters), (0, Text::Dense));
    for (map, allowed) in [(plain, Text::Base64), (dense, Text::Dense)] {
        check(&model, &map, DEFAULT_LIMIT, allowed);
    }
}

#[test]
fn a_cut_map_uses_the_room_it_has() {
    for (offsets, open) in [(200_000, 100_000), (200_000, 40_000), (1_000_000, 10_000)] {
        let model = Random(5).records(offsets, open);
        for allowed in [Text::Base64, Text::Dense] {
            let map = map(&model, DEFAULT_LIMIT, allowed);
            check(&model, &map, DEFAULT_LIMIT, allowed);
            assert!(map.forgotten > 0 && map.units + 12 >= DEFAULT_LIMIT, "{} units", map.units);
        }
    }
}

#[test]
fn a_map_of_another_place_is_void() {
    for map in samples() {
        let refused = |place: Place<'_>, base: i64| {
            assert_eq!(decode(&map.text, place, base), Err(Void::Mismatch), "{place:?} at {base}");
        };
        assert!(decode(&map.text, PLACE, BASE).is_ok());
        for partition in (0..100_000).filter(|partition| *partition != PLACE.partition).step_by(97) {
            refused(Place { partition, ..PLACE }, BASE);
        }
        for power in 0..63 {
            refused(PLACE, BASE ^ (1 << power));
        }
        for moved in (-1_000..1_000).filter(|moved| *moved != 0) {
            refused(PLACE, BASE + moved);
        }
        for (group, topic) in [
            ("billing2", "orders"),
            ("billing", "order"),
            ("billingo", "rders"),
            ("orders", "billing"),
            ("", ""),
        ] {
            refused(Place { group, topic, ..PLACE }, BASE);
        }
    }
}

#[test]
fn every_damage_to_one_character_is_noticed() {
    let base64: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let dense = "㐀㐁䯿一丁鷿가각쏿".chars().collect::<Vec<_>>();
    let other = "!$&;>^|~=-_ \0\n{é\u{1F600}".chars().collect::<Vec<_>>();
    for map in samples() {
        let text: Vec<char> = map.text.chars().collect();
        let void = |text: Vec<char>| {
            let text: String = text.into_iter().collect();
            assert!(
                text == map.text || decode(&text, PLACE, BASE).is_err(),
                "{text} instead of {}",
                map.text
            );
        };
        for at in (0..text.len()).step_by(text.len() / 300 + 1).chain([0, text.len() - 1]) {
            for put in base64.iter().chain(&dense).chain(&other) {
                let with = |kept: usize| [&text[..at], &[*put], &text[at + kept..]].concat();
                void(with(1));
                void(with(0));
            }
            void([&text[..at], &text[at + 1..]].concat());
            void(text[..at].to_vec());
        }
        for put in base64.iter().chain(&dense).chain(&other) {
            void([&text[..], &[*put]].concat());
            void([&text[..], &[*put, *put]].concat());
        }
    }
}

/// Hundreds of thousands of them, all that can happen to a text; what gets past the checksum by chance must
/// be as rare as it is said to be.
#[test]
fn random_damage_is_refused() {
    let maps = samples();
    let mut random = Random(42);
    let mut accepted = 0;
    for _ in 0..300_000 {
        let map = &maps[random.below(maps.len() as u64) as usize];
        let mut text: Vec<char> = map.text.chars().collect();
        for _ in 0..=random.below(4) {
            let at = random.below(text.len() as u64 + 1) as usize;
            let from = &maps[random.below(maps.len() as u64) as usize].text;
            let any = from.chars().nth(random.below(8) as usize).unwrap_or('A');
            match random.below(5) {
                0 => text.truncate(at),
                1 => text.insert(at, any),
                2 if at < text.len() => text[at] = any,
                3 if at < text.len() => {
                    text.remove(at);
                }
                _ => text.extend(from.chars().skip(random.below(30) as usize).take(5)),
            }
        }
        let text: String = text.into_iter().collect();
        let intact = maps.iter().any(|map| map.text == text);
        accepted += u32::from(!intact && decode(&text, PLACE, BASE).is_ok());
    }
    // At 1 in 131,072 it would be two or three of them, if all were of the smallest kind.
    assert!(accepted <= 6, "{accepted} were accepted");
}

#[test]
fn what_others_write_is_foreign() {
    let theirs = [
        "",
        " ",
        "AAAA",
        "bAAKAAo=",
        "UjMwMA==",
        "{\"offset\":1}",
        "consumer-1-2f6c",
        "hello",
        "é",
        "\0",
        "一二三",
        "=",
        "<a/>",
        "-1",
        "0",
        "#",
        "\"!\"",
        "\u{1F600}",
    ];
    for text in theirs {
        assert_eq!(decode(text, PLACE, BASE), Err(Void::Foreign), "{text:?}");
    }
}

#[test]
fn a_later_version_and_damage_have_names_of_their_own() {
    assert_eq!(decode("~AAAB", PLACE, BASE), Err(Void::Later));
    for text in ["!not base 64", "!AAAA", "!一A", "!A一", "!A="] {
        assert_eq!(decode(text, PLACE, BASE), Err(Void::Damaged), "{text}");
    }
    assert_eq!(decode("!B", PLACE, BASE), Err(Void::Mismatch));
    for void in [Void::Foreign, Void::Later, Void::Damaged, Void::Mismatch] {
        assert!(void.to_string().starts_with("it") || void == Void::Later);
    }
}

#[test]
fn the_format_stays_what_it_is() {
    let short =
        ["&LEpw+", "&䨥刾", "!Exs", "!㶍瘀", "|s5IxtbVv", "|迉䁭沭됀", "|3jfl5760sIyYZg", "|댛뵹믖脈髃一"];
    let maps = samples();
    assert_eq!(maps.iter().map(|map| map.text.as_str()).take(short.len()).collect::<Vec<_>>(), short);
    // The long ones, FNV-1a.
    let text = maps.iter().flat_map(|map| map.text.bytes());
    let hash = text
        .fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    assert_eq!((maps.len(), hash), (18, 10_319_287_033_731_304_421));
}

#[test]
fn gaps_cost_nothing_and_lie_about_nothing() {
    // Transaction markers after every tenth record: the same runs, whatever the markers are taken for.
    let gaps: Model =
        records(5_000, |at| at < 1_000).into_iter().filter(|(at, _)| (at - BASE) % 11 != 10).collect();
    let map = map(&gaps, DEFAULT_LIMIT, Text::Base64);
    assert!(map.bytes <= 9, "{} bytes", map.bytes);
    check(&gaps, &map, DEFAULT_LIMIT, Text::Base64);
    assert_eq!(map.remembered, gaps.values().filter(|finished| **finished).count() as u64);
}

#[test]
fn what_has_more_runs_than_a_map_takes_is_cut_there() {
    let mut random = Random(9);
    let models = [
        records(400_000, |at| at % 2 == 0),
        random.records(600_000, 300_000),
        random.records(800_000, 200_000),
    ];
    for model in models {
        let map = map(&model, usize::MAX, Text::Base64);
        assert!(map.forgotten > 0, "{} is not cut", map.units);
        let found = check(&model, &map, usize::MAX, Text::Base64).unwrap();
        assert_eq!(found.ranges().len(), 1 << 17);
    }
}

#[test]
fn nothing_finished_or_no_room_is_no_map() {
    for model in [Model::new(), records(1, |_| true), records(1_000, |_| true)] {
        let map = map(&model, DEFAULT_LIMIT, Text::Dense);
        assert_eq!((map.text.as_str(), map.remembered, map.forgotten), ("", 0, 0));
    }
    for limit in 0..4 {
        let map = map(&records(100, |at| at == 0), limit, Text::Base64);
        assert_eq!((map.text.as_str(), map.remembered, map.forgotten), ("", 0, 99));
    }
}

#[test]
fn what_is_out_of_order_or_out_of_reach_is_forgotten_and_counted() {
    let mut wrong = Ahead::new(BASE);
    for (offset, finished) in [(BASE, false), (BASE + 5, true), (BASE + 4, false), (BASE + 6, true)] {
        wrong.push(offset, finished);
    }
    let map = encode(&wrong, PLACE, DEFAULT_LIMIT, Text::Base64);
    assert_eq!((map.text.as_str(), map.forgotten), ("", 2));

    let mut far = Ahead::new(BASE);
    for offset in [1, (1 << 31) - 1, 1 << 31, 1 << 40] {
        far.push(BASE + offset, offset != 5);
    }
    far.push(i64::MAX, true);
    let map = encode(&far, PLACE, DEFAULT_LIMIT, Text::Base64);
    assert_eq!((map.remembered, map.forgotten), (2, 3));
    let found = decode(&map.text, PLACE, BASE).unwrap();
    assert_eq!(found.highest(), Some(BASE + (1 << 31) - 1));

    let mut low = Ahead::new(i64::MIN);
    low.push(i64::MIN + 1, true);
    low.push(i64::MAX, true);
    let map = encode(&low, PLACE, DEFAULT_LIMIT, Text::Base64);
    assert_eq!((map.remembered, map.forgotten), (1, 1));
    assert!(decode(&map.text, PLACE, i64::MIN).is_ok());
}

#[test]
fn a_base_that_is_said_to_be_finished_comes_again() {
    let map = map(&records(10, |_| false), DEFAULT_LIMIT, Text::Base64);
    assert_eq!((map.remembered, map.forgotten), (9, 1));
    assert!(!decode(&map.text, PLACE, BASE).unwrap().contains(BASE));
}
