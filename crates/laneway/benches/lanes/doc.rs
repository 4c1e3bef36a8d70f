//! docs/BENCHMARKS.md: one section for each measurement, each saying what it was measured with.

use std::path::PathBuf;
use std::process::Command;

use crate::Failure;
use crate::plot::Plot;

pub(crate) struct Section {
    title: String,
    text: String,
    /// Names of files, and what is in them.
    plots: Vec<(String, String)>,
}

impl Section {
    /// A section that `command` gave.
    pub(crate) fn new(title: &str, command: &str) -> Self {
        let text = format!("{}\n", machine(command));
        Self { title: title.into(), text, plots: Vec::new() }
    }

    /// Adds a line.
    pub(crate) fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Adds a plot, which becomes a file beside the docs.
    pub(crate) fn plot(&mut self, file: &str, title: &str, plot: Plot) {
        self.push(&format!("![{title}]({file})"));
        self.plots.push((file.into(), plot.svg()));
    }

    pub(crate) fn text(&self) -> String {
        format!("## {}\n\n{}", self.title, self.text)
    }

    /// Puts it into the docs, in the place of what it was there before.
    pub(crate) fn write(&self) -> Result<(), Failure> {
        let path = docs().join("BENCHMARKS.md");
        let before = match std::fs::read_to_string(&path) {
            Ok(before) => before,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("{}: {error}", path.display()).into()),
        };
        let mut sections: Vec<String> =
            before.split("\n## ").skip(1).map(|text| text.trim().into()).collect();
        let starts = |text: &String, title: &str| text.starts_with(&format!("{title}\n"));
        sections.retain(|text| !starts(text, &self.title));
        sections.push(self.text().trim_start_matches("## ").trim().to_owned());
        // In the order in which they are measured.
        sections.sort_by_key(|text| ORDER.iter().position(|title| starts(text, title)));
        let mut whole = HEAD.to_owned();
        for section in sections {
            whole.push_str(&format!("\n## {section}\n"));
        }
        std::fs::write(&path, whole).map_err(|error| format!("{}: {error}", path.display()))?;
        for (file, svg) in &self.plots {
            let path = docs().join(file);
            std::fs::write(&path, svg).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        println!("bench: written to docs/BENCHMARKS.md");
        Ok(())
    }
}

/// The folder of the docs.
pub(crate) fn docs() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs"))
}

/// What a section was measured with.
fn machine(command: &str) -> String {
    let first_line = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok()?;
        let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        Some(String::from_utf8_lossy(&text).lines().next()?.to_owned())
    };
    let said = |program, argument| first_line(program, argument).unwrap_or_else(|| "unknown".into());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    let build = if cfg!(debug_assertions) { "a build for tests" } else { "a release build" };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "`{command}`, on {cores} cores that broker and client share, with a load of {} before it ({}; {}; {}; Apache Kafka \
         4.3.1; librdkafka {librdkafka}; {build}).\n",
        load.split(' ').next().unwrap_or("unknown"),
        said("uname", "-srm"),
        said("rustc", "--version"),
        said("java", "-version"),
    )
}

/// The titles of the sections.
const ORDER: &[&str] =
    &["Prefetched", "From a broker", "Idle lanes", "Start of lanes", "By key", "Offset maps", "How it grows"];

const HEAD: &str = "\
# Benchmarks

Written by `cargo xtask bench`, a section for each of its measurements; each says with which command, and on what machine.
Every client is measured in a process of its own, beside its peers in the same run. Figures of different sections, and of
different machines, are not to be compared with each other: what counts is what stands in one table.

What is not measured here: clients in other languages and of other makers; brokers on other machines, whose network costs
time and whose CPU would not be taken from the client; more than two cores; producers.
";
