//! How the demo looks: redrawn in place in a terminal, plain lines in a pipe, or JSON.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write, stdout};
use std::sync::atomic::Ordering;
use std::time::Instant;

use laneway::LaneState;
use serde_json::json;

use super::members::{Group, Slot};
use super::truth::Counts;

/// The numbers at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    seconds: f64,
    members: usize,
    counts: Counts,
    records_per_second: f64,
    rebalances: u64,
    strays: u64,
    /// For each member its name and what it holds.
    lanes: Vec<(String, String)>,
    news: Vec<String>,
    pub(super) is_final: bool,
}

impl Snapshot {
    pub(super) fn take(started: Instant, group: &Group, slots: &[Slot], last: Self) -> Self {
        let counts = group.truth.counts();
        let seconds = started.elapsed().as_secs_f64();
        let passed = (seconds - last.seconds).max(0.001);
        let news = group
            .log
            .take()
            .into_iter()
            .map(|(at, line)| format!("{:7.2}s  {line}", at.duration_since(started).as_secs_f64()))
            .collect();
        Self {
            seconds,
            members: slots.iter().filter(|slot| slot.is_taken()).count(),
            records_per_second: (counts.finished - last.counts.finished) as f64 / passed,
            rebalances: group.log.rebalances.load(Ordering::Relaxed),
            strays: group.strays.load(Ordering::Relaxed),
            lanes: slots.iter().map(|slot| (slot.name.clone(), holds(slot))).collect(),
            news,
            is_final: false,
            counts,
        }
    }

    /// Nothing was lost, done twice or astray, and in the end everything was finished.
    pub(super) fn is_clean(&self) -> bool {
        let Counts { produced, finished, duplicates, losses } = self.counts;
        duplicates == 0 && losses == 0 && self.strays == 0 && (!self.is_final || finished == produced)
    }

    fn lag(&self) -> u64 {
        self.counts.produced.saturating_sub(self.counts.finished)
    }

    fn json(&self) -> String {
        let mut object = json!({
            "seconds": (self.seconds * 10.0).round() / 10.0,
            "members": self.members,
            "produced": self.counts.produced,
            "finished": self.counts.finished,
            "lag": self.lag(),
            "records_per_second": self.records_per_second.round(),
            "rebalances": self.rebalances,
            "duplicates": self.counts.duplicates,
            "losses": self.counts.losses,
            "strays": self.strays,
        });
        if self.is_final {
            object["final"] = true.into();
        }
        object.to_string()
    }

    fn line(&self) -> String {
        format!(
            "{:4.0}s  {} members  {:6.0} records/s  lag {:5}  {:3} rebalances  duplicates {}  losses {}  strays {}",
            self.seconds,
            self.members,
            self.records_per_second,
            self.lag(),
            self.rebalances,
            self.counts.duplicates,
            self.counts.losses,
            self.strays
        )
    }

    fn summary(&self) -> String {
        let verdict = if self.is_clean() { "every record exactly once" } else { "NOT CLEAN" };
        format!(
            "{} records in {:.0} s, through {} rebalances: {} finished, {} duplicates, {} losses, {} strays: {verdict}",
            self.counts.produced,
            self.seconds,
            self.rebalances,
            self.counts.finished,
            self.counts.duplicates,
            self.counts.losses,
            self.strays
        )
    }
}

/// Which partitions a member has, in short.
fn holds(slot: &Slot) -> String {
    let Some(status) = slot.status() else { return "-".into() };
    let mut text = String::new();
    for lane in &status.lanes {
        let mark = match lane.state {
            LaneState::Running => "",
            LaneState::Starting => "+",
            _ => "~",
        };
        // Writing to a String can't fail.
        let _ = write!(text, "{mark}{} ", lane.lane.partition.partition);
    }
    if text.is_empty() { "joining".into() } else { text.trim_end().to_owned() }
}

/// Where the demo is shown.
pub(super) struct Screen {
    json: bool,
    redraws: bool,
    drawn: usize,
    news: Vec<String>,
    gone: bool,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        Self {
            json,
            redraws: !json && !dumb && stdout().is_terminal(),
            drawn: 0,
            news: Vec::new(),
            gone: false,
        }
    }

    /// Whoever was reading went away.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    pub(super) fn show(&mut self, snapshot: &Snapshot) -> std::io::Result<()> {
        if self.json {
            return self.print(&format!("{}\n", snapshot.json()));
        }
        if !self.redraws {
            let mut text: String = snapshot.news.iter().map(|line| format!("{line}\n")).collect();
            text.push_str(&snapshot.line());
            text.push('\n');
            return self.print(&text);
        }
        self.news.extend(snapshot.news.iter().cloned());
        let surplus = self.news.len().saturating_sub(NEWS);
        self.news.drain(..surplus);
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        let mut lines = vec![snapshot.line(), String::new()];
        lines.extend(snapshot.lanes.iter().map(|(name, lanes)| format!("  {name:10} {lanes}")));
        lines.push(String::new());
        lines.extend((0..NEWS).map(|index| self.news.get(index).cloned().unwrap_or_default()));
        for line in &lines {
            let line: String = line.chars().take(columns()).collect();
            text.push_str(&format!("\r\x1b[K{line}\n"));
        }
        self.drawn = lines.len();
        self.print(&text)
    }

    pub(super) fn finish(&mut self, snapshot: &Snapshot) -> std::io::Result<()> {
        if self.json {
            return self.print(&format!("{}\n", snapshot.json()));
        }
        let news: String = match self.redraws {
            true => String::new(),
            false => snapshot.news.iter().map(|line| format!("{line}\n")).collect(),
        };
        self.print(&format!("{news}\n{}\n", snapshot.summary()))
    }

    fn print(&mut self, text: &str) -> std::io::Result<()> {
        let mut out = stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(())
            }
            result => result,
        }
    }
}

fn columns() -> usize {
    std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(110)
}

/// Leaves the terminal as it was found: nothing was changed of it but where the cursor stands.
pub(super) fn restore_terminal() {
    println!();
}

/// How many of the last events are shown.
const NEWS: usize = 8;
