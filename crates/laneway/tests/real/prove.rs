//! The long matrix: `cargo xtask prove`. Each test adds a line to the report.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use laneway::Protocol;

use crate::crashes::thrown_out_in_a_hold;
use crate::deadlines::stops_around_a_rebalance;
use crate::moves::{Churn, Churned, brief_members, churn, staying_lanes_beside_a_drain};
use crate::superseded::passed_over;
use crate::support::PROTOCOLS;

/// Adds a line to the report and to the output.
pub(crate) fn report(line: &str) {
    println!("{line}");
    if let Ok(path) = std::env::var("LANEWAY_REPORT") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the report");
        writeln!(file, "{line}").expect("a line in the report");
    }
}

/// No partition may be silent for longer than that, in seconds, in each protocol.
fn prove_churn(name: &str, churn_of: &Churn, silent: [f64; 3]) {
    prove_churned(name, churn_of.drain, silent, |protocol| churn(protocol, churn_of));
}

fn prove_churned(name: &str, drain: Duration, silent: [f64; 3], churn: impl Fn(Protocol) -> Option<Churned>) {
    for (protocol, silent) in PROTOCOLS.into_iter().zip(silent) {
        let Some(churned) = churn(protocol) else { return };
        let Churned { report: history, longest_leave, changes } = churned;
        let counts = history.counts;
        let silence = history.longest_silence_of_all().map_or(Duration::ZERO, |(_, silence)| silence.length);
        let mut line = format!("| {name} | {protocol} | {changes} | {} | ", counts.finished);
        let _ = write!(
            line,
            "{} / {} / {} / {} | {:.1} s | {:.1} s |",
            counts.duplicates,
            counts.losses,
            counts.overlaps,
            counts.strays,
            silence.as_secs_f64(),
            longest_leave.as_secs_f64()
        );
        report(&line);
        history.assert_ok();
        assert!(longest_leave < drain + Duration::from_millis(5_200), "a leave took {longest_leave:?}");
        let seconds = silence.as_secs_f64();
        assert!(seconds < silent, "{protocol}: a partition was silent for {seconds:.1} s, not {silent} s");
    }
}

#[test]
#[ignore = "long: cargo xtask prove"]
fn prove_1_churn() {
    let churn_of = Churn {
        members: 5,
        partitions: 24,
        changes: 38,
        pause: (600, 2_500),
        drain: Duration::from_millis(200),
        slow: Duration::ZERO,
    };
    prove_churn("5 members, a change per 0.6–2.5 s", &churn_of, [2.9, 3.0, 7.4]);
}

#[test]
#[ignore = "long: cargo xtask prove"]
fn prove_2_hard_churn() {
    let churn_of = Churn {
        members: 8,
        partitions: 24,
        changes: 150,
        pause: (200, 1_000),
        drain: Duration::from_millis(300),
        slow: Duration::ZERO,
    };
    prove_churn("8 members, a change per 0.2–1 s", &churn_of, [3.5, 6.0, 5.4]);
}

#[test]
#[ignore = "long: cargo xtask prove"]
fn prove_2_long_drains() {
    let churn_of = Churn {
        members: 5,
        partitions: 24,
        changes: 30,
        pause: (600, 2_500),
        drain: Duration::from_secs(7),
        slow: Duration::from_secs(5),
    };
    prove_churn("5 members, at every fifth change one drains for 5 s", &churn_of, [10.0, 8.0, 9.3]);
}

#[test]
#[ignore = "long: cargo xtask prove"]
fn prove_2_members_stopped_at_once() {
    let drain = Duration::from_millis(500);
    prove_churned(
        "stopped 0–300 ms after their start, beside 3 that work",
        drain,
        [3.0, 3.9, 3.5],
        |protocol| brief_members(protocol, 30, (0, 300)),
    );
}

/// What is free goes to the newest member, by Kafka's own assignors: as long as such members follow each other
/// without a pause, nobody works on it. So this silence is told and not judged.
#[test]
#[ignore = "long: cargo xtask prove"]
fn prove_2_members_stopped_while_they_join() {
    let drain = Duration::from_millis(500);
    let silent = [f64::INFINITY; 3];
    prove_churned(
        "stopped 350–650 ms after their start, without a pause, beside 3 that work",
        drain,
        silent,
        |protocol| brief_members(protocol, 15, (350, 650)),
    );
}

#[test]
#[ignore = "long: cargo xtask prove"]
fn prove_5_stops_at_every_point_of_a_rebalance() {
    let delays: Vec<u64> = (0..12).map(|step| step * 200).collect();
    for protocol in PROTOCOLS {
        let Some((leave, join)) = stops_around_a_rebalance(protocol, &delays) else { return };
        report(&format!(
            "\n12 members stopped 0 to 2.2 s after another one had joined ({protocol}), beside drains of up to 0.7 s: no \
             duplicate, loss or ghost; longest leave {:.1} s; the next member had its lanes within {:.1} s.",
            leave.as_secs_f64(),
            join.as_secs_f64()
        ));
    }
}

#[test]
#[ignore = "long: cargo xtask prove"]
fn prove_6_holds_that_the_group_passed_over() {
    for protocol in PROTOCOLS {
        let mut counts = (0, 0);
        for _ in 0..3 {
            let Some(report) = passed_over(protocol) else { return };
            counts = (counts.0 + report.counts.duplicates, counts.1 + report.counts.overlaps);
        }
        report(&format!(
            "\nThree holds of 4 s in the middle of which membership saw a new partition and joined again (only a hidden \
             switch lets it, {protocol}): nothing lost; {} records of the lanes that drained came again, {} while the \
             member before was still at them.",
            counts.0, counts.1
        ));
    }
}

#[test]
#[ignore = "long: cargo xtask prove"]
fn prove_3_lanes_that_stay() {
    for protocol in [Protocol::Cooperative, Protocol::Consumer] {
        let Some(gap) = staying_lanes_beside_a_drain(protocol, Duration::from_secs(5)) else { return };
        report(&format!(
            "\nWhile another member's lane drained for 5 s ({protocol}), the longest time without progress of a \
             staying lane was {} ms.",
            gap.as_millis()
        ));
    }
}

#[test]
#[ignore = "long: cargo xtask prove"]
fn prove_4_holds_that_last_longer_than_the_rebalance_timeout() {
    for protocol in PROTOCOLS {
        thrown_out_in_a_hold(protocol);
    }
    report(
        "\nA drain of 9 s with `max.poll.interval.ms` 6 s: nothing lost, the group whole again, in all protocols.",
    );
}
