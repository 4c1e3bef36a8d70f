//! What a terminal is shown at one moment, as text: no more lines than it has rows, none wider than it is.

use std::time::Duration;

use super::show::Snapshot;
use super::watch::{Lane, Member, Presence, State};

/// A terminal's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// A whole frame, to be written at once: drawn over the one before.
pub(super) fn over(snapshot: &Snapshot, news: &[String], size: Size, color: bool) -> String {
    let mut text = format!("{BEGIN}{HOME}");
    for (number, line) in lines(snapshot, news, size).iter().enumerate() {
        if number > 0 {
            text.push_str("\r\n");
        }
        line.write(&mut text, size.columns, color);
        text.push_str(TO_END_OF_LINE);
    }
    text.push_str(BELOW);
    text.push_str(END);
    text
}

/// What stays in the terminal at the end.
pub(super) fn last(snapshot: &Snapshot, news: &[String], size: Size, color: bool) -> String {
    let mut all = vec![ended(snapshot), numbers(snapshot), verdicts(snapshot), Line::default()];
    let room = size.rows.saturating_sub(all.len() + 3).min(LAST_NEWS);
    all.extend(newest(news, room).rev());
    let (style, verdict) = match snapshot.is_clean() {
        true => (Style::Good, " Every record exactly once, through every rebalance."),
        false => (Style::Bad, " NOT CLEAN: not every record was finished exactly once."),
    };
    all.extend([Line::default(), Line::new(style, verdict)]);
    let mut text = String::new();
    for line in &all {
        line.write(&mut text, size.columns, color);
        text.push('\n');
    }
    text
}

fn lines(snapshot: &Snapshot, news: &[String], size: Size) -> Vec<Line> {
    let rows = size.rows.max(1);
    let mut all = match rows {
        1 => vec![verdicts(snapshot)],
        2 => vec![numbers(snapshot), verdicts(snapshot)],
        _ => vec![title(snapshot), numbers(snapshot), verdicts(snapshot)],
    };
    // By the number of partitions, and not by the lines of this moment: it is not to jump back and forth.
    let for_lanes = snapshot.partitions + 1;
    if rows >= all.len() + 2 + for_lanes + 1 + FEW_NEWS {
        all.push(Line::default());
        all.push(Line::new(Style::Dim, HEAD));
        let above = all.len();
        all.extend(snapshot.members.iter().flat_map(member_by_lane));
        all.extend(snapshot.nobodys.iter().map(|lane| lane_line("", Style::Dim, lane, false)));
        all.resize_with(all.len().max(above + for_lanes), Line::default);
    } else {
        let many = snapshot.members.len();
        let roomy = rows >= all.len() + many + 2 + FEW_NEWS;
        if roomy {
            all.push(Line::default());
        }
        let room = rows.saturating_sub(all.len());
        let shown = if many <= room { many } else { room.saturating_sub(1) };
        all.extend(snapshot.members.iter().take(shown).enumerate().map(member_in_short));
        if shown < many && room > 0 {
            all.push(Line::new(Style::Dim, &format!(" and {} members more", many - shown)));
        }
    }
    if rows > all.len() + 1 {
        all.push(Line::default());
        all.extend(newest(news, rows - all.len()));
    }
    all.truncate(rows);
    all
}

fn title(snapshot: &Snapshot) -> Line {
    let time = match snapshot.of_seconds {
        Some(of) if snapshot.seconds < of as f64 => format!("{:.0} of {of} s", snapshot.seconds),
        _ => format!("{:.0} s", snapshot.seconds),
    };
    let members = match snapshot.here() {
        1 => "1 member has".to_owned(),
        many => format!("{many} members share"),
    };
    let sharing = format!("{members} {} partitions", snapshot.partitions);
    let hint = if snapshot.ends { "ending, in order" } else { "Ctrl-C ends it" };
    let hint_style = if snapshot.ends { Style::Warn } else { Style::Dim };
    Line::new(Style::Bold, " laneway demo")
        .and(Style::Plain, &format!("   {time}   {sharing}   "))
        .and(hint_style, hint)
}

fn ended(snapshot: &Snapshot) -> Line {
    let what = format!("   {:.0} s   {} partitions", snapshot.seconds, snapshot.partitions);
    Line::new(Style::Bold, " laneway demo").and(Style::Plain, &what)
}

fn numbers(snapshot: &Snapshot) -> Line {
    let mut line = Line::new(Style::Plain, " ");
    if !snapshot.is_final {
        line = line
            .and(Style::Bold, &grouped(snapshot.records_per_second.round() as i64))
            .and(Style::Plain, " records/s   lag ")
            .and(Style::Bold, &grouped(signed(snapshot.lag())))
            .and(Style::Plain, "   ");
    }
    let (produced, finished) = (signed(snapshot.counts.produced), signed(snapshot.counts.finished));
    line.and(Style::Plain, &format!("{} produced   {} finished", grouped(produced), grouped(finished)))
}

fn verdicts(snapshot: &Snapshot) -> Line {
    let counts = [
        (snapshot.counts.duplicates, "duplicates"),
        (snapshot.counts.losses, "losses"),
        (snapshot.strays, "strays"),
    ];
    let mut line = Line::new(Style::Plain, " ");
    for (count, name) in counts {
        let style = if count == 0 { Style::Good } else { Style::Bad };
        line = line.and(style, &format!("{count} {name}")).and(Style::Plain, "   ");
    }
    line.and(Style::Plain, &format!("{} rebalances", snapshot.rebalances))
}

/// A line for each lane, the name beside the first one.
fn member_by_lane(member: &Member) -> Vec<Line> {
    let leaves = matches!(member.presence, Presence::Leaving(_));
    if member.lanes.is_empty() {
        return vec![
            Line::new(Style::Bold, &format!(" {:10} ", member.name)).and(Style::Dim, &without_lanes(member)),
        ];
    }
    let style = if leaves { Style::Warn } else { Style::Bold };
    let name = |number| if number == 0 { member.name.as_str() } else { "" };
    let lanes = member.lanes.iter().enumerate();
    lanes.map(|(number, lane)| lane_line(name(number), style, lane, leaves)).collect()
}

fn without_lanes(member: &Member) -> String {
    match member.presence {
        Presence::Away => "has left, and comes back soon".into(),
        Presence::Here(time) => format!("has no lane yet, joined {} ago", short(time)),
        Presence::Leaving(time) => format!("leaves, for {} now", short(time)),
    }
}

fn lane_line(name: &str, style: Style, lane: &Lane, leaves: bool) -> Line {
    let count = |count: Option<i64>| count.map_or_else(|| "-".into(), grouped);
    let rate = grouped(lane.rate.round() as i64);
    let numbers =
        format!(" {:>9} {:>9} {:>7} {rate:>9}  ", lane.partition, count(lane.offset), count(lane.lag));
    let from = lane.from.as_deref();
    let (state_style, state) = match lane.state {
        State::Starting => (Style::Note, "starting".to_owned()),
        State::Running => (Style::Plain, "running".to_owned()),
        State::Draining(time) => (Style::Warn, format!("draining {}", short(time))),
        State::Drained => (Style::Warn, "drained".to_owned()),
        State::Cancelling(time) => (Style::Bad, format!("cancelling {}", short(time))),
        State::Moving(time) => (Style::Note, format!("moving {}", short(time))),
    };
    let line = Line::new(style, &format!(" {name:10}")).and(Style::Plain, &numbers).and(state_style, &state);
    match from {
        Some(from) => line.and(Style::Note, &format!("  <- {from}")),
        None if leaves => line.and(Style::Warn, "  leaving"),
        None => line,
    }
}

/// A line for all lanes of a member.
fn member_in_short((_, member): (usize, &Member)) -> Line {
    let line = Line::new(Style::Bold, &format!(" {:10}", member.name));
    if member.lanes.is_empty() {
        return line.and(Style::Dim, &format!(" {}", without_lanes(member)));
    }
    let lag: i64 = member.lanes.iter().filter_map(|lane| lane.lag).sum();
    let rate: f64 = member.lanes.iter().map(|lane| lane.rate).sum();
    let lanes = match member.lanes.len() {
        1 => "   1 lane ".to_owned(),
        many => format!("{many:>4} lanes"),
    };
    let rate = grouped(rate.round() as i64);
    let mut line = line.and(Style::Plain, &format!(" {lanes} {rate:>9}/s  lag {:>7} ", grouped(lag)));
    if matches!(member.presence, Presence::Leaving(_)) {
        line = line.and(Style::Warn, " leaving");
    }
    let draining = |lane: &&Lane| matches!(lane.state, State::Draining(_) | State::Cancelling(_));
    let many = member.lanes.iter().filter(draining).count();
    if many > 0 {
        line = line.and(Style::Warn, &format!(" {many} draining"));
    }
    let moved = member.lanes.iter().filter(|lane| lane.from.is_some()).count();
    if moved > 0 {
        line = line.and(Style::Note, &format!(" +{moved} moved here"));
    }
    line
}

/// The newest at the top, as what is lower may be cut.
fn newest(news: &[String], room: usize) -> impl DoubleEndedIterator<Item = Line> {
    news.iter().rev().take(room).map(|line| Line::new(Style::Plain, line))
}

/// `0.4 s`
fn short(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// `12,345`
fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A line of pieces, each with a look of its own.
#[derive(Debug, Clone, Default)]
struct Line(Vec<(Style, String)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Bold,
    Dim,
    Good,
    Bad,
    Warn,
    Note,
}

impl Line {
    fn new(style: Style, text: &str) -> Self {
        Self::default().and(style, text)
    }

    fn and(mut self, style: Style, text: &str) -> Self {
        self.0.push((style, text.to_owned()));
        self
    }

    /// Writes as much as there are columns for. What would move the cursor is not written.
    fn write(&self, to: &mut String, columns: usize, color: bool) {
        let mut room = columns;
        for (style, text) in &self.0 {
            let code = style.code().filter(|_| color);
            if let Some(code) = code {
                to.push_str(code);
            }
            let printable = |character: char| if character.is_control() { ' ' } else { character };
            let before = to.len();
            to.extend(text.chars().take(room).map(printable));
            room -= to[before..].chars().count();
            if code.is_some() {
                to.push_str("\x1b[0m");
            }
        }
    }
}

impl Style {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("\x1b[1m"),
            Self::Dim => Some("\x1b[2m"),
            Self::Good => Some("\x1b[32m"),
            Self::Bad => Some("\x1b[1;31m"),
            Self::Warn => Some("\x1b[33m"),
            Self::Note => Some("\x1b[36m"),
        }
    }
}

/// Shown as a whole where the terminal knows how; no line wraps, whatever its width has become meanwhile.
const BEGIN: &str = "\x1b[?2026h\x1b[?7l";
const END: &str = "\x1b[?7h\x1b[?2026l";
const HOME: &str = "\x1b[H";
const TO_END_OF_LINE: &str = "\x1b[K";
const BELOW: &str = "\x1b[J";

const HEAD: &str = " member     partition    offset     lag records/s  state";
/// As many of the last events are shown beside the lanes at least, and at the end at most.
const FEW_NEWS: usize = 2;
const LAST_NEWS: usize = 6;

#[cfg(test)]
mod tests {
    use super::super::truth::Counts;
    use super::*;

    fn lane(partition: i32, state: State, from: Option<&str>) -> Lane {
        let from = from.map(str::to_owned);
        Lane { partition, offset: Some(12_345), lag: Some(7), rate: 166.6, state, from }
    }

    fn member(name: &str, presence: Presence, lanes: Vec<Lane>) -> Member {
        Member { name: name.into(), presence, lanes }
    }

    fn snapshot() -> Snapshot {
        let half = Duration::from_millis(500);
        let here = Presence::Here(Duration::from_secs(9));
        let running = |partition| lane(partition, State::Running, None);
        Snapshot {
            seconds: 12.0,
            partitions: 6,
            counts: Counts { produced: 1_234, finished: 1_200, duplicates: 0, losses: 0 },
            members: vec![
                member("member-1", here, vec![running(0), lane(3, State::Running, Some("member-2"))]),
                member("member-2", Presence::Leaving(half), vec![lane(1, State::Draining(half), None)]),
                member("member-3", Presence::Away, Vec::new()),
            ],
            nobodys: vec![lane(4, State::Moving(half), Some("member-2"))],
            ..Snapshot::default()
        }
    }

    fn news() -> Vec<String> {
        (0..50).map(|number| format!("{number:7}s  something happened")).collect()
    }

    /// The frame's lines as they are seen.
    fn seen(rows: usize, columns: usize) -> Vec<String> {
        let frame = over(&snapshot(), &news(), Size { rows, columns }, false);
        let plain =
            [BEGIN, END, HOME, TO_END_OF_LINE, BELOW].iter().fold(frame, |text, code| text.replace(code, ""));
        assert!(!plain.contains('\x1b'), "{plain:?}");
        plain.split("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn each_lane_has_a_line_with_its_state() {
        let lines = seen(24, 100);
        let line =
            |begins: &str| lines.iter().find(|line| line.starts_with(begins)).map_or("", String::as_str);
        let held = " member-1           0    12,345       7       167  running";
        assert_eq!(line(" member-1"), held);
        let moved = "                    3    12,345       7       167  running  <- member-2";
        assert_eq!(line(&moved[..22]), moved);
        assert!(line(" member-2").ends_with("draining 0.5 s  leaving"), "{}", line(" member-2"));
        assert!(line(" member-3").ends_with("has left, and comes back soon"));
        assert!(lines.iter().any(|line| line.contains(" 4 ") && line.ends_with("moving 0.5 s  <- member-2")));
        assert_eq!(lines.len(), 24);
        assert!(lines.last().is_some_and(|line| line.contains("something happened")));
    }

    #[test]
    fn no_frame_is_higher_or_wider_than_its_terminal() {
        for rows in 1..40 {
            for columns in [1, 2, 10, 40, 80, 200] {
                let lines = seen(rows, columns);
                assert!(lines.len() <= rows, "{rows} rows: {lines:#?}");
                assert!(
                    lines.iter().all(|line| line.chars().count() <= columns),
                    "{columns} columns: {lines:#?}"
                );
                assert!(lines.iter().any(|line| !line.is_empty()));
            }
        }
    }

    #[test]
    fn lanes_are_summed_up_where_there_are_few_rows() {
        let lines = seen(10, 100);
        assert!(
            lines[4].starts_with(" member-1      2 lanes       333/s  lag      14  +1 moved here"),
            "{lines:#?}"
        );
        assert!(lines[5].ends_with("leaving 1 draining"), "{lines:#?}");
        assert_eq!(seen(5, 100)[4], " and 2 members more");
        assert_eq!(seen(1, 100), [" 0 duplicates   0 losses   0 strays   0 rebalances"]);
    }

    #[test]
    fn colors_are_reset_at_once_and_are_not_there_where_they_are_not_wanted() {
        let size = Size { rows: 24, columns: 50 };
        let colored = over(&snapshot(), &news(), size, true);
        assert!(colored.contains("\x1b[33m"));
        for piece in colored.split("\x1b[0m").skip(1) {
            // At most one look at a time.
            assert!(
                piece.matches("m").count() < 40
                    && piece.split("\x1b[").filter(|code| is_color(code)).count() <= 1
            );
        }
        assert!(!over(&snapshot(), &news(), size, false).split("\x1b[").any(is_color));
        assert!(!last(&snapshot(), &news(), size, false).contains('\x1b'));
    }

    fn is_color(code: &str) -> bool {
        code.find(|character: char| !character.is_ascii_digit() && character != ';')
            .is_some_and(|end| code[end..].starts_with('m') && end > 0)
    }

    #[test]
    fn what_was_said_cannot_move_the_cursor() {
        let news = ["\x1b[2Jbad\nnews".to_owned()];
        let frame = over(&snapshot(), &news, Size { rows: 24, columns: 80 }, false);
        assert!(frame.contains(" [2Jbad news") && !frame.contains("\x1b[2J"));
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, -1_234_567].map(grouped), ["0", "999", "1,000", "-1,234,567"]);
    }
}
