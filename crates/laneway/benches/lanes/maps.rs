//! How large offset maps are, and how long a commit's metadata takes.

use std::hint::black_box;

use laneway_core::map::{DEFAULT_LIMIT, Text, encode};
use laneway_core::{Position, Tracker};

use crate::Failure;
use crate::doc::Section;
use crate::options::Options;
use crate::patterns::{BASE, PLACE, Pattern, entropy, patterns, push, records, thousands, time};
use crate::stats::verdict;

pub(crate) fn measure(options: &Options) -> Result<Section, Failure> {
    let mut section = Section::new("Offset maps", &options.command("maps"));
    section.push(
        "What is finished above the committed offset, in the commit's metadata. The least that any code can take for so many \
         unfinished ones at random places is the entropy (for other patterns there is no such bound). Beside it ours, packed \
         and as Base64 (which is what the Parallel Consumer writes; ours has a denser text where that is too long), and the \
         packed bytes and characters of Confluent's Parallel Consumer. Of random patterns the largest of nine. The time \
         is that of a commit's whole metadata: what the lane's tracker knows, encoded, as text; the median of 201.\n",
    );
    section
        .push("| offsets | unfinished | entropy | Laneway, bytes / characters | Parallel Consumer | time |");
    section.push("| --- | --- | --- | --- | --- | --- |");
    let (mut slowest, mut is_smaller) = (0.0_f64, true);
    for pattern in patterns() {
        let (bytes, units) = largest(&pattern);
        let micros = metadata_of_a_tracker(&pattern)?;
        if pattern.offsets == 10_000 {
            slowest = slowest.max(micros);
        }
        is_smaller &= pattern.theirs.is_none_or(|(theirs, text)| bytes < theirs && units < text);
        section.push(&format!(
            "| {} | {} | {} | {bytes} / {units} | {} | {micros:.1} µs |",
            thousands(pattern.offsets),
            pattern.name,
            entropy(&pattern).map_or("".into(), |bits| format!("{:.1} bytes", bits / 8.0)),
            pattern.theirs.map_or("".into(), |(bytes, units)| format!("{bytes} / {units}")),
        ));
    }
    section.push(&format!(
        "\nSmaller than the Parallel Consumer's on every pattern: {}. A commit of 10,000 offsets in at most 20 µs, on the \
         slowest pattern {slowest:.1} µs: {}.",
        verdict(is_smaller),
        verdict(slowest <= 20.0),
    ));
    Ok(section)
}

/// The largest map of several seeds.
fn largest(pattern: &Pattern) -> (usize, usize) {
    let maps = (1..=9).map(|seed| {
        let records = records(pattern.offsets, pattern.unfinished, seed);
        let map = encode(&push(&records), PLACE, usize::MAX, Text::Base64);
        (map.bytes, map.units)
    });
    maps.max().unwrap_or_default()
}

/// Microseconds.
fn metadata_of_a_tracker(pattern: &Pattern) -> Result<f64, Failure> {
    let mut tracker = Tracker::new(Position::at(BASE));
    for (offset, is_finished) in records(pattern.offsets, pattern.unfinished, 1) {
        let ticket = tracker.deliver(offset, None).ok_or("the tracker refused an offset")?;
        if is_finished {
            tracker.finish(ticket);
        }
    }
    Ok(time(|| {
        let at = tracker.watermark();
        tracker
            .ahead(at.offset)
            .map(|(ahead, _)| black_box(encode(&ahead, PLACE, DEFAULT_LIMIT, Text::Dense)))
    }))
}
