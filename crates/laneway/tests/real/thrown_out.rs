//! Groups that go on without a member in the middle of its hold, and coordinators that go.

use std::time::{Duration, Instant};

use laneway::Protocol;
use laneway_testing::history::{Expect, Recorder, check};
use laneway_testing::{RealKafka, unique, wait_until};

use crate::crashes::{finished_by, short_session};
use crate::support::{Member, PROTOCOLS, Scene, Spec, Work, own_kafka};

/// A lane that takes long for each record, so that a hold lasts.
fn slow(protocol: Protocol) -> Spec {
    Spec {
        work: Work::SleepAtFirst(Duration::from_secs(5)),
        properties: short_session(protocol),
        ..Spec::default()
    }
}

fn quick(protocol: Protocol) -> Spec {
    Spec { work: Work::Sleep(Duration::from_millis(1)), ..slow(protocol) }
}

fn drains(member: &Member) -> bool {
    member.handle.status().lanes.iter().any(|lane| lane.state == laneway::LaneState::Draining)
}

/// A process that is stopped in the middle of its hold, for longer than its session.
#[test]
fn a_member_frozen_in_a_hold_comes_back_and_nothing_is_lost() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::with_processes("frozen-hold", 4, protocol) else { return };
        scene.produce(8);
        let sleeper = scene.process("sleeper", &slow(protocol));
        wait_until(Duration::from_secs(30), "the quick lanes are through", || scene.unfinished() <= 4);
        let other = scene.member("other", &quick(protocol));
        let state = || scene.admin().describe_group(&scene.group).map_or(String::new(), |group| group.state);
        wait_until(Duration::from_secs(20), "the group waits for the sleeper", || {
            if protocol == Protocol::Eager { state() == "PreparingRebalance" } else { scene.listed() == 2 }
        });
        // It hears of it with its next heartbeat; its hold lasts for longer.
        std::thread::sleep(Duration::from_millis(1_200));
        sleeper.freeze().expect("frozen");
        wait_until(Duration::from_secs(30), "the other member has taken over", || other.lanes() == 4);
        scene.wait_until_finished(Duration::from_secs(30));
        sleeper.thaw().expect("thawed");
        scene.produce(400);
        scene.wait_until_finished(Duration::from_secs(60));
        wait_until(Duration::from_secs(20), "the sleeper is back in the group", || {
            scene.listed() == 2 && other.lanes() == 2
        });
        other.leave();
        sleeper.terminate().expect("terminated");
        assert!(sleeper.wait(Duration::from_secs(35)).expect("an end").success(), "{:?}", sleeper.stderr());
        let report = check(&scene.recorder.history(), &Expect::crashes().overlaps_allowed());
        println!("{protocol}, frozen in a hold: {report}");
        report.assert_ok();
        assert!(finished_by(&scene, "other") > 0);
    }
}

/// A process that does not run can reach no broker: that is no reason to give up, however long it takes.
#[test]
fn a_member_frozen_before_it_reached_a_broker_joins_when_it_goes_on() {
    let Some(kafka) = own_kafka() else { return };
    let file = std::env::temp_dir().join(unique("laneway-frozen-start"));
    let recorder = Recorder::to_file(&file).expect("a history file");
    let scene = Scene::on(&kafka, "frozen-start", 4, Protocol::Consumer, recorder, Some(file.clone()));
    scene.produce(40);
    kafka.freeze().expect("frozen");
    let member = scene.process("member", &quick(Protocol::Consumer));
    let is_client = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "laneway-client")
    };
    wait_until(Duration::from_secs(20), "its client thread runs", || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", member.pid())).expect("a process");
        tasks.flatten().any(|task| is_client(&task))
    });
    let began = Instant::now();
    member.freeze().expect("frozen");
    // How long it waits for a broker.
    wait_until(Duration::from_secs(60), "its patience is over", || began.elapsed() > Duration::from_secs(32));
    member.thaw().expect("thawed");
    kafka.thaw().expect("thawed");
    scene.wait_until_finished(Duration::from_secs(60));
    member.terminate().expect("terminated");
    assert!(member.wait(Duration::from_secs(35)).expect("an end").success(), "{:?}", member.stderr());
    std::fs::remove_file(&file).ok();
}

/// The broker is away for `longer` than the drain that goes on, if that is said.
fn coordinator_killed_in_a_hold(kafka: &RealKafka, protocol: Protocol, longer: Option<Duration>) {
    let scene = Scene::on(kafka, "coordinator", 4, protocol, Recorder::in_memory(), None);
    scene.produce(8);
    // With sessions as they are by default, so that the broker is back in time.
    let drain = if longer.is_some() { Duration::from_secs(6) } else { Spec::default().drain };
    let spec = |spec| Spec { properties: Vec::new(), drain, ..spec };
    let first = scene.member("first", &spec(slow(protocol)));
    wait_until(Duration::from_secs(30), "the quick lanes are through", || scene.unfinished() <= 4);
    let second = scene.member("second", &spec(quick(protocol)));
    wait_until(Duration::from_secs(20), "a drain goes on", || drains(&first));
    kafka.kill();
    if let Some(longer) = longer {
        let until = Instant::now() + drain + longer;
        wait_until(Duration::from_secs(60), "the hold's deadline is over", || Instant::now() >= until);
    }
    kafka.start_again().expect("the broker is back");
    let back = Instant::now();
    scene.produce(400);
    wait_until(Duration::from_secs(60), "both have lanes", || second.lanes() == 2 && first.lanes() == 2);
    scene.wait_until_finished(Duration::from_secs(90));
    println!("{protocol}: everything is finished {:?} after the broker was back", back.elapsed());
    first.handle.stop();
    second.leave();
    first.leave();
    let report = check(&scene.recorder.history(), &Expect::crashes());
    println!("{protocol}, coordinator gone in a hold: {report}");
    report.assert_ok();
}

#[test]
fn a_coordinator_killed_in_a_hold_and_started_again_loses_nothing() {
    let Some(kafka) = own_kafka() else { return };
    for protocol in PROTOCOLS {
        coordinator_killed_in_a_hold(&kafka, protocol, None);
    }
    kafka.kill();
}

#[test]
fn a_coordinator_that_is_away_for_longer_than_a_hold_lasts_has_nothing_repeated() {
    let Some(kafka) = own_kafka() else { return };
    // What is left of the hold after its drain, and the time to notice.
    coordinator_killed_in_a_hold(&kafka, Protocol::Eager, Some(Duration::from_secs(7)));
    kafka.kill();
}

/// `LANEWAY_ROUNDS` times for each protocol.
#[test]
#[ignore = "long: part of cargo xtask prove"]
fn prove_a_coordinator_killed_in_a_hold_again_and_again() {
    let Some(kafka) = own_kafka() else { return };
    let rounds = std::env::var("LANEWAY_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3);
    let only = std::env::var("LANEWAY_PROTOCOL").ok();
    let is_meant = |protocol: &Protocol| only.as_ref().is_none_or(|only| *only == protocol.to_string());
    for protocol in (0..rounds).flat_map(|_| PROTOCOLS).filter(is_meant) {
        coordinator_killed_in_a_hold(&kafka, protocol, None);
    }
    kafka.kill();
}
