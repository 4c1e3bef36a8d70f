//! How the demo looks: drawn in place in a terminal, plain lines in a pipe, or JSON.

use std::io::{Write, stdout};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use super::frame;
use super::members::{Group, Seat};
use super::terminal::{self, Drawing};
use super::truth::Counts;
use super::watch::{Lane, Member, Presence, Speed, Watch};

/// Everything at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) seconds: f64,
    /// How long it goes on, if that was asked for.
    pub(super) of_seconds: Option<u64>,
    pub(super) partitions: usize,
    pub(super) counts: Counts,
    pub(super) records_per_second: f64,
    pub(super) rebalances: u64,
    pub(super) strays: u64,
    pub(super) members: Vec<Member>,
    /// Lanes that no member has just now.
    pub(super) nobodys: Vec<Lane>,
    /// What was said since the last one.
    pub(super) news: Vec<String>,
    /// It has been told to end.
    pub(super) ends: bool,
    pub(super) is_final: bool,
}

/// Takes the snapshots.
pub(super) struct Camera {
    pub(super) group: Group,
    pub(super) seats: Vec<Arc<Seat>>,
    pub(super) partitions: usize,
    pub(super) of_seconds: Option<u64>,
    pub(super) started: Instant,
    pub(super) watch: Watch,
    pub(super) speed: Speed,
}

impl Camera {
    pub(super) fn take(&mut self) -> Snapshot {
        let now = Instant::now();
        let counts = self.group.truth.counts();
        self.speed.add(now, i64::try_from(counts.finished).unwrap_or(i64::MAX));
        let looks = self.seats.iter().map(|seat| (seat.name.clone(), seat.look())).collect();
        let (members, nobodys) = self.watch.look(now, &self.group.truth.produced_each(), looks);
        let since = |at: Instant| at.saturating_duration_since(self.started).as_secs_f64();
        let news = self.group.log.take();
        Snapshot {
            seconds: since(now),
            of_seconds: self.of_seconds,
            partitions: self.partitions,
            counts,
            records_per_second: self.speed.now(),
            rebalances: self.group.log.rebalances.load(Ordering::Relaxed),
            strays: self.group.strays.load(Ordering::Relaxed),
            members,
            nobodys,
            news: news.into_iter().map(|(at, line)| format!("{:7.2}s  {line}", since(at))).collect(),
            ends: false,
            is_final: false,
        }
    }
}

impl Snapshot {
    /// Members that are there.
    pub(super) fn here(&self) -> usize {
        self.members.iter().filter(|member| member.presence != Presence::Away).count()
    }

    /// Nothing was lost, done twice or astray, and in the end everything was finished.
    pub(super) fn is_clean(&self) -> bool {
        let Counts { produced, finished, duplicates, losses } = self.counts;
        duplicates == 0 && losses == 0 && self.strays == 0 && (!self.is_final || finished == produced)
    }

    pub(super) fn lag(&self) -> u64 {
        self.counts.produced.saturating_sub(self.counts.finished)
    }

    fn json(&self) -> String {
        let mut object = json!({
            "seconds": (self.seconds * 10.0).round() / 10.0,
            "members": self.here(),
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
            self.here(),
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

/// Where the demo is shown.
pub(super) struct Screen {
    how: How,
    gone: bool,
}

enum How {
    Json,
    Lines,
    Drawn {
        drawing: Drawing,
        color: bool,
        /// The last that was said.
        news: Vec<String>,
    },
}

impl Screen {
    pub(super) fn new(json: bool) -> std::io::Result<Self> {
        let how = if json {
            How::Json
        } else if terminal::can_draw() {
            How::Drawn { drawing: Drawing::begin()?, color: terminal::wants_color(), news: Vec::new() }
        } else {
            How::Lines
        };
        Ok(Self { how, gone: false })
    }

    /// How often it wants to be shown something.
    pub(super) fn shows_every(&self) -> Duration {
        match self.how {
            How::Drawn { .. } => Duration::from_millis(100),
            _ => Duration::from_secs(1),
        }
    }

    /// Whoever was reading went away.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    pub(super) fn show(&mut self, snapshot: &Snapshot) -> std::io::Result<()> {
        let shown = match &mut self.how {
            How::Json => print(&format!("{}\n", snapshot.json())),
            How::Lines => {
                let mut text: String = snapshot.news.iter().map(|line| format!("{line}\n")).collect();
                text.push_str(&snapshot.line());
                text.push('\n');
                print(&text)
            }
            How::Drawn { drawing, color, news } => {
                remember(news, snapshot);
                match drawing.frame(&frame::over(snapshot, news, terminal::size(), *color)) {
                    // A panic somewhere gave the terminal back, and what it said is to be read.
                    Ok(false) => {
                        self.how = How::Lines;
                        Ok(())
                    }
                    shown => shown.map(|_| ()),
                }
            }
        };
        self.unless_gone(shown)
    }

    pub(super) fn finish(&mut self, snapshot: &Snapshot) -> std::io::Result<()> {
        let text = match std::mem::replace(&mut self.how, How::Lines) {
            How::Json => format!("{}\n", snapshot.json()),
            How::Lines => {
                let news: String = snapshot.news.iter().map(|line| format!("{line}\n")).collect();
                format!("{news}\n{}\n", snapshot.summary())
            }
            How::Drawn { drawing, color, mut news } => {
                remember(&mut news, snapshot);
                drop(drawing);
                frame::last(snapshot, &news, terminal::size(), color)
            }
        };
        let shown = print(&text);
        self.unless_gone(shown)
    }

    /// Gives the terminal to the shell, as Ctrl-Z asks, until the shell gives it back.
    pub(super) fn suspend(&mut self) -> std::io::Result<()> {
        terminal::restore();
        crate::sys::stop_here();
        if let How::Drawn { drawing, .. } = &self.how {
            drawing.again()?;
        }
        Ok(())
    }

    fn unless_gone(&mut self, shown: std::io::Result<()>) -> std::io::Result<()> {
        match shown {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(())
            }
            shown => shown,
        }
    }
}

fn remember(news: &mut Vec<String>, snapshot: &Snapshot) {
    news.extend(snapshot.news.iter().cloned());
    news.drain(..news.len().saturating_sub(MOST_NEWS));
}

fn print(text: &str) -> std::io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// More are not remembered; no terminal has as many rows.
const MOST_NEWS: usize = 500;
