//! The long matrix: `cargo xtask prove`. Each test adds a line to the report.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use laneway::Protocol;

use crate::crashes::thrown_out_in_a_hold;
use crate::moves::{Churn, Churned, churn, staying_lanes_beside_a_drain};
use crate::support::PROTOCOLS;

/// Adds a line to the report and to the output.
fn report(line: &str) {
    println!("{line}");
    if let Ok(path) = std::env::var("LANEWAY_REPORT") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the report");
        writeln!(file, "{line}").expect("a line in the report");
    }
}

fn prove_churn(name: &str, churn_of: &Churn) {
    for protocol in PROTOCOLS {
        let Some(churned) = churn(protocol, churn_of) else { return };
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
        assert!(
            longest_leave < churn_of.drain + Duration::from_millis(5_200),
            "a leave took {longest_leave:?}"
        );
        assert!(silence < Duration::from_secs(10), "a partition was silent for {silence:?}");
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
    };
    prove_churn("5 members, a change per 0.6–2.5 s", &churn_of);
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
    };
    prove_churn("8 members, a change per 0.2–1 s", &churn_of);
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
