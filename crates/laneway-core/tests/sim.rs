//! Whole groups in virtual time, from seeds; and members that are broken on purpose, each of which the
//! checker must catch. More seeds: the example `sim`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use laneway_core::Protocol;
use laneway_core::sim::{Conditions, Failure, Run, Sabotage, Summary};

const PROTOCOLS: [Protocol; 3] = [Protocol::Eager, Protocol::Cooperative, Protocol::Consumer];
/// Twice three times as many are run: 1,020.
const SEEDS: u64 = 170;

fn run_seeds(protocol: Protocol, conditions: Conditions) -> Summary {
    let mut total = Summary::default();
    for seed in 0..SEEDS {
        match (Run { seed, protocol, conditions, sabotage: None }).carry_out() {
            Ok(summary) => total.add(summary),
            Err(failure) => panic!("{failure}"),
        }
    }
    assert!(total.records > SEEDS * 50 && total.rebalances > SEEDS * 5, "little happened: {total}");
    total
}

/// I3: no duplicate, no loss, nothing finished and uncommitted at a hand-over, no ghost.
fn joins_and_leaves(protocol: Protocol) {
    let total = run_seeds(protocol, Conditions::Graceful);
    assert_eq!(total.repeats, 0, "{total}");
    assert_eq!(total.rejoins, 0, "{total}");
}

/// I1, I2, I4, I11, I13, and that the group is whole again in the end.
fn everything_that_can_go_wrong(protocol: Protocol) {
    let total = run_seeds(protocol, Conditions::Faulty);
    assert!(total.repeats > 0 && total.rejoins > 0, "little went wrong: {total}");
}

#[test]
fn i3_eager_joins_and_leaves_repeat_and_lose_nothing() {
    joins_and_leaves(Protocol::Eager);
}

#[test]
fn i3_cooperative_joins_and_leaves_repeat_and_lose_nothing() {
    joins_and_leaves(Protocol::Cooperative);
}

#[test]
fn i3_consumer_joins_and_leaves_repeat_and_lose_nothing() {
    joins_and_leaves(Protocol::Consumer);
}

#[test]
fn i4_an_eager_group_loses_nothing_whatever_goes_wrong() {
    everything_that_can_go_wrong(Protocol::Eager);
}

#[test]
fn i4_a_cooperative_group_loses_nothing_whatever_goes_wrong() {
    everything_that_can_go_wrong(Protocol::Cooperative);
}

#[test]
fn i4_a_consumer_group_loses_nothing_whatever_goes_wrong() {
    everything_that_can_go_wrong(Protocol::Consumer);
}

/// The first failure of members that are broken so.
fn caught(sabotage: Sabotage, protocol: Protocol, conditions: Conditions) -> Failure {
    let run = |seed| Run { seed, protocol, conditions, sabotage: Some(sabotage) };
    (0..300)
        .find_map(|seed| run(seed).carry_out().err())
        .unwrap_or_else(|| panic!("{sabotage:?} in {protocol:?} was not noticed in 300 seeds"))
}

fn assert_caught(sabotage: Sabotage, conditions: Conditions, signs: &[&str]) {
    for protocol in PROTOCOLS {
        let failure = caught(sabotage, protocol, conditions);
        let what = &failure.what;
        assert!(signs.iter().any(|sign| what.contains(sign)), "{sabotage:?} in {protocol:?}: {what}");
    }
}

#[test]
fn i1_a_commit_that_passes_a_record_in_flight_is_caught() {
    assert_caught(Sabotage::CommitAhead, Conditions::Graceful, &["I1: "]);
}

#[test]
fn i2_a_revoke_that_is_answered_while_lanes_run_is_caught() {
    assert_caught(Sabotage::AnswerEarly, Conditions::Graceful, &["I2: ", "I3: "]);
}

#[test]
fn i2_a_commit_of_lanes_that_were_lost_is_caught() {
    assert_caught(Sabotage::CommitLost, Conditions::Faulty, &["which is another's", "behind", "I4: "]);
}

/// A change of metadata in a hold: the client is in another generation, and what it commits undoes what the
/// new owner of a partition committed.
#[test]
fn i2_a_commit_in_a_generation_that_passed_over_the_hold_is_caught() {
    let run = |seed, protocol, sabotage| {
        Run { seed, protocol, conditions: Conditions::Faulty, sabotage }.carry_out().err()
    };
    let caught = |protocol| {
        let blind = |seed| run(seed, protocol, Some(Sabotage::NoFence)).map(|failure| (seed, failure));
        (0..4_000).find_map(blind).unwrap_or_else(|| panic!("not noticed in {protocol:?}"))
    };
    for protocol in [Protocol::Eager, Protocol::Cooperative] {
        let (seed, failure) = caught(protocol);
        println!("{protocol:?} {seed} {}", failure.what);
        assert!(run(seed, protocol, None).is_none(), "{protocol:?}, seed {seed}: broken without sabotage");
    }
}

#[test]
fn i3_a_hold_that_is_answered_without_its_commit_is_caught() {
    assert_caught(Sabotage::SkipHoldCommit, Conditions::Graceful, &["I3: ", "I4: "]);
}

#[test]
fn i3_leaving_by_closing_alone_is_caught() {
    let failure = caught(Sabotage::CloseToLeave, Protocol::Cooperative, Conditions::Graceful);
    assert!(failure.what.contains("ghosts") || failure.what.contains("liveness"), "{}", failure.what);
}

#[test]
fn i11_a_member_that_time_does_not_pass_for_is_caught() {
    // Without time nothing is compared with what is assigned either: that may be seen first.
    for protocol in PROTOCOLS {
        let run =
            |seed| Run { seed, protocol, conditions: Conditions::Faulty, sabotage: Some(Sabotage::NoTicks) };
        let mut failures = (0..300).filter_map(|seed| run(seed).carry_out().err());
        assert!(failures.any(|failure| failure.what.contains("I11: ")), "not noticed in {protocol:?}");
    }
}

#[test]
fn i13_reading_what_is_not_assigned_is_caught() {
    assert_caught(Sabotage::Blind, Conditions::Faulty, &["I13: "]);
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    for protocol in PROTOCOLS {
        let run = Run { seed: 7, protocol, conditions: Conditions::Faulty, sabotage: None };
        assert_eq!(run.tell(), run.tell());
        assert_eq!(run.carry_out().unwrap(), run.carry_out().unwrap());
    }
}

#[test]
fn a_failure_tells_its_seed_and_what_every_member_did() {
    let failure = caught(Sabotage::CommitAhead, Protocol::Eager, Conditions::Graceful);
    let text = failure.to_string();
    assert!(text.contains(&format!("seed {}", failure.run.seed)), "{text}");
    for told in ["m0      joins", "sends Join", "opens t-", "commits ["] {
        assert!(text.contains(told), "{told} is not in {text}");
    }
}
