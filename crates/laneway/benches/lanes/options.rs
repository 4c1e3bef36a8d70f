//! What is asked for on the command line.

use crate::Failure;

pub(crate) struct Options {
    /// Names of what is measured, in their order.
    pub(crate) what: Vec<String>,
    /// Few records and runs.
    pub(crate) quick: bool,
    /// Whether docs/BENCHMARKS.md is written.
    pub(crate) writes: bool,
    records: Option<u64>,
    runs: Option<usize>,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut options = Self { what: Vec::new(), quick: false, writes: true, records: None, runs: None };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let value = arguments.next().and_then(|value| value.replace('_', "").parse::<u64>().ok());
                value.filter(|value| *value > 0).ok_or_else(|| format!("{argument} wants a number above 0"))
            };
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--no-doc" => options.writes = false,
                "--records" => options.records = Some(number()?),
                "--runs" => options.runs = Some(number()? as usize),
                what if ALL.contains(&what) => options.what.push(what.to_owned()),
                other => return Err(format!("\"{other}\" is unknown; {HELP}").into()),
            }
        }
        if options.what.is_empty() {
            options.what = ALL.iter().map(|what| what.to_string()).collect();
        }
        Ok(options)
    }

    /// Records of each partition.
    pub(crate) fn records(&self, quick: u64, full: u64) -> u64 {
        self.records.unwrap_or(if self.quick { quick } else { full })
    }

    /// Runs of each client.
    pub(crate) fn runs(&self, quick: usize, full: usize) -> usize {
        self.runs.unwrap_or(if self.quick { quick } else { full })
    }

    /// The command that gives one section, as it is told in the docs.
    pub(crate) fn command(&self, what: &str) -> String {
        let mut command = format!("cargo xtask bench {what}");
        if self.quick {
            command.push_str(" --quick");
        }
        for (name, value) in [("--records", self.records), ("--runs", self.runs.map(|runs| runs as u64))] {
            if let Some(value) = value {
                command.push_str(&format!(" {name} {value}"));
            }
        }
        command
    }
}

/// Everything there is to measure.
const ALL: &[&str] = &["prefetched", "broker", "idle", "start", "keyed", "maps", "growth"];

const HELP: &str = "\
wanted is any of: prefetched, broker, idle, start, keyed, maps, growth; and --quick, --records N (of each partition), --runs N, --no-doc";
