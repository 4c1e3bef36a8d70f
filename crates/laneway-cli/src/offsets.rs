//! `laneway offsets`: what a group has committed.

use std::io::{ErrorKind as IoError, Write};
use std::process::ExitCode;

use laneway::{Builder, Error, ErrorKind, PartitionOffsets};
use serde_json::{Value, json};

use crate::args::{Format, OffsetsArgs};
use crate::log;
use crate::run::{BAD_INPUT, FAILED, fail};
use crate::settings::resolve_offsets;
use crate::stderr::{self, say};
use crate::writer::standard_output;

/// Asks, shows, and says by the exit code how it went.
pub(crate) fn run(args: &OffsetsArgs) -> ExitCode {
    let code = show(args);
    stderr::flush();
    code
}

fn show(args: &OffsetsArgs) -> ExitCode {
    if let Err(error) = log::start() {
        return fail(BAD_INPUT, &error);
    }
    let builder = match resolve_offsets(args, &mut |line| say(&line)) {
        Ok(builder) => builder,
        Err(error) => return fail(BAD_INPUT, &error),
    };
    let found = match ask(&builder) {
        Ok(found) => found,
        Err(error) => {
            let is_input = matches!(error.kind(), ErrorKind::Config | ErrorKind::MissingTopic);
            return fail(if is_input { BAD_INPUT } else { FAILED }, &error.to_string());
        }
    };
    if found.iter().all(|partition| partition.committed.is_none()) {
        say("the group has committed nothing of this, or does not exist");
    }
    for offsets in &found {
        let of = &offsets.partition;
        if let Err(why) = &offsets.map {
            say(&format!("{}, partition {}: the commit's metadata is void: {why}", of.topic, of.partition));
        }
        if let Err(why) = &offsets.log {
            say(&format!("{}, partition {}: its end could not be read: {why}", of.topic, of.partition));
        }
    }
    let text = match args.format {
        Format::Text => table(&found),
        Format::Json => found.iter().map(|offsets| format!("{}\n", object(offsets))).collect(),
    };
    match standard_output().and_then(|mut out| out.write_all(text.as_bytes())) {
        Err(error) if error.kind() != IoError::BrokenPipe => {
            fail(FAILED, &format!("could not write to standard output: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn ask(builder: &Builder) -> Result<Vec<PartitionOffsets>, Error> {
    let failed = |error| Error::new(ErrorKind::Fatal, format!("could not start a runtime: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let found = runtime.block_on(builder.offsets());
    runtime.shutdown_background();
    found
}

fn object(offsets: &PartitionOffsets) -> Value {
    let map = offsets.map.as_ref().ok().and_then(Option::as_ref).map(|map| {
        json!({
            "encoding": map.encoding,
            "bytes": map.bytes,
            "finished_ahead": map.finished_ahead,
            "unfinished": map.unfinished,
        })
    });
    json!({
        "topic": &*offsets.partition.topic,
        "partition": offsets.partition.partition,
        "committed": offsets.committed,
        "end": end(offsets),
        "lag": offsets.lag(),
        "map": map,
    })
}

fn end(offsets: &PartitionOffsets) -> Option<i64> {
    offsets.log.as_ref().ok().map(|(_, end)| *end)
}

fn table(found: &[PartitionOffsets]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let shown = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(found.iter().map(|offsets| {
        let map = offsets.map.as_ref().ok().and_then(Option::as_ref);
        [
            offsets.partition.topic.to_string(),
            offsets.partition.partition.to_string(),
            shown(offsets.committed),
            shown(end(offsets)),
            shown(offsets.lag()),
            map.map_or_else(|| "-".to_owned(), |map| map.finished_ahead.to_string()),
            map.map_or_else(|| "-".to_owned(), |map| ranges(&map.unfinished)),
            map.map_or_else(|| "-".to_owned(), |map| format!("{}, {} bytes", map.encoding, map.bytes)),
        ]
    }));
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            // Numbers stand right.
            1..=5 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// `4, 7-9`, and how many more there are.
fn ranges(ranges: &[(i64, i64)]) -> String {
    let one = |(first, last): &(i64, i64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let shown: Vec<String> = ranges.iter().take(SHOWN_RANGES).map(one).collect();
    match ranges.len().saturating_sub(SHOWN_RANGES) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

const HEADINGS: [&str; 8] = ["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "AHEAD", "UNFINISHED", "MAP"];
/// Ranges that a row shows.
const SHOWN_RANGES: usize = 5;
