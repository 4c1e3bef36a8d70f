//! Members that are killed or frozen, and brokers that are.

use std::time::Duration;

use laneway::{OffsetReset, Protocol};
use laneway_testing::history::{Expect, What, check};
use laneway_testing::wait_until;

use crate::support::{PROTOCOLS, Scene, Spec, Work, own_kafka};

/// A short session where the client decides it; with KIP-848 the broker does.
pub(crate) fn short_session(protocol: Protocol) -> Vec<(String, String)> {
    match protocol {
        Protocol::Consumer => Vec::new(),
        _ => vec![("session.timeout.ms".into(), "6000".into())],
    }
}

pub(crate) fn finished_by(scene: &Scene, name: &str) -> usize {
    let history = scene.recorder.history();
    let is_by = |what: &What| matches!(what, What::Finished { member, .. } if &**member == name);
    history.events().iter().filter(|event| is_by(&event.what)).count()
}

#[test]
fn a_killed_member_loses_nothing_and_repeats_only_what_was_not_committed() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::with_processes("killed", 6, protocol) else { return };
        let spec = Spec {
            work: Work::Sleep(Duration::from_millis(2)),
            properties: short_session(protocol),
            ..Spec::default()
        };
        let victim = scene.process("victim", &spec);
        let survivor = scene.process("survivor", &spec);
        let traffic = scene.traffic(500);
        wait_until(Duration::from_secs(30), "both members work", || {
            finished_by(&scene, "victim") > 300 && finished_by(&scene, "survivor") > 300
        });
        victim.kill().expect("killed");
        scene.recorder.killed("victim");
        traffic.end();
        scene.wait_until_finished(Duration::from_secs(60));
        survivor.terminate().expect("terminated");
        assert!(survivor.wait(Duration::from_secs(35)).expect("an end").success(), "{:?}", survivor.stderr());
        let report = check(&scene.recorder.history(), &Expect::crashes());
        report.assert_ok();
        println!("{protocol}, killed: {report}");
    }
}

#[test]
fn what_came_before_the_first_commit_of_a_killed_member_is_not_lost_with_latest() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::with_processes("latest", 2, protocol) else { return };
        let stuck = Spec {
            work: Work::Sleep(Duration::from_secs(600)),
            reset: OffsetReset::Latest,
            properties: short_session(protocol),
            ..Spec::default()
        };
        let victim = scene.process("victim", &stuck);
        let begins = |what: &What| matches!(what, What::Assigned { .. });
        wait_until(Duration::from_secs(30), "the victim has its lanes", || {
            scene.recorder.history().events().iter().filter(|event| begins(&event.what)).count() == 2
        });
        scene.produce(50);
        wait_until(Duration::from_secs(30), "the victim has begun", || {
            scene.recorder.history().events().iter().any(|event| matches!(event.what, What::Begun { .. }))
        });
        victim.kill().expect("killed");
        scene.recorder.killed("victim");
        let next = scene.process("next", &Spec { work: Work::Nothing, ..stuck });
        scene.wait_until_finished(Duration::from_secs(60));
        next.terminate().expect("terminated");
        next.wait(Duration::from_secs(35)).expect("an end");
        check(&scene.recorder.history(), &Expect::crashes()).assert_ok();
    }
}

#[test]
fn a_member_frozen_past_its_session_and_thawed_loses_nothing() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::with_processes("frozen", 6, protocol) else { return };
        let spec = Spec {
            work: Work::Sleep(Duration::from_millis(2)),
            properties: short_session(protocol),
            ..Spec::default()
        };
        let sleeper = scene.process("sleeper", &spec);
        let other = scene.process("other", &spec);
        let traffic = scene.traffic(400);
        wait_until(Duration::from_secs(30), "both members work", || {
            finished_by(&scene, "sleeper") > 200 && finished_by(&scene, "other") > 200
        });
        sleeper.freeze().expect("frozen");
        let at_freeze = finished_by(&scene, "other");
        wait_until(Duration::from_secs(30), "the other member has taken over", || {
            scene.listed() == 1 && finished_by(&scene, "other") > at_freeze + 1_500
        });
        let before = finished_by(&scene, "sleeper");
        sleeper.thaw().expect("thawed");
        wait_until(Duration::from_secs(30), "the sleeper is back in the group, and works", || {
            scene.listed() == 2 && finished_by(&scene, "sleeper") > before + 200
        });
        traffic.end();
        scene.wait_until_finished(Duration::from_secs(60));
        for process in [&sleeper, &other] {
            process.terminate().expect("terminated");
            assert!(
                process.wait(Duration::from_secs(35)).expect("an end").success(),
                "{:?}",
                process.stderr()
            );
        }
        let report = check(&scene.recorder.history(), &Expect::crashes().overlaps_allowed());
        report.assert_ok();
        println!("{protocol}, frozen: {report}");
    }
}

#[test]
fn a_broker_killed_and_started_again_loses_and_repeats_nothing() {
    let Some(kafka) = own_kafka() else { return };
    for protocol in PROTOCOLS {
        let recorder = laneway_testing::history::Recorder::in_memory();
        let scene = Scene::on(&kafka, "broker", 4, protocol, recorder, None);
        let spec = Spec { work: Work::Sleep(Duration::from_millis(2)), ..Spec::default() };
        scene.produce(6_000);
        let member = scene.member("only", &spec);
        wait_until(Duration::from_secs(30), "work is under way", || finished_by(&scene, "only") > 1_000);
        kafka.kill();
        kafka.start_again().expect("the broker is back");
        scene.wait_until_finished(Duration::from_secs(90));
        member.leave();
        let report = check(&scene.recorder.history(), &Expect::graceful());
        report.assert_ok();
    }
}

/// A drain outlasts the rebalance timeout (only a hidden switch allows that): the group goes on without the
/// member in the middle of its hold. It must notice, let everything go, and come back with a new client.
pub(crate) fn thrown_out_in_a_hold(protocol: Protocol) {
    let Some(scene) = Scene::new("thrown", 4, protocol) else { return };
    let stuck = Spec {
        work: Work::SleepOn(0, Duration::from_secs(9)),
        drain: Duration::from_secs(10),
        properties: vec![("max.poll.interval.ms".into(), "6000".into())],
        allow_long_drain: true,
        ..Spec::default()
    };
    scene.produce(400);
    let slow = scene.member("slow", &stuck);
    wait_until(Duration::from_secs(30), "the other lanes are through", || scene.unfinished() <= 100);
    let quick = scene.member("quick", &Spec { work: Work::Nothing, ..stuck.clone() });
    let others = scene.traffic(100);
    wait_until(Duration::from_secs(60), "both members have lanes again", || {
        slow.lanes() + quick.lanes() == 4 && quick.lanes() > 0 && slow.handle.status().rebalances > 1
    });
    others.end();
    // What is left on the slow lane is for whoever is quick.
    slow.handle.stop();
    let mut slow = slow;
    slow.ended().expect("a member that ends without an error");
    scene.wait_until_finished(Duration::from_secs(60));
    quick.leave();
    let report = check(&scene.recorder.history(), &Expect::crashes().overlaps_allowed());
    report.assert_ok();
    println!("{protocol}, thrown out: {report}");
}

#[test]
fn a_member_thrown_out_in_a_hold_comes_back_and_nothing_is_lost() {
    // In the other protocols nobody waits for the one that holds, unless somebody else joins: see the proof.
    thrown_out_in_a_hold(Protocol::Eager);
}
