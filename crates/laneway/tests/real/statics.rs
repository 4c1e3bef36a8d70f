//! Static members: stopped they stay in the group, started again they go on, and nobody else notices.

use std::time::Duration;

use laneway::{ErrorKind, Protocol};
use laneway_testing::history::{Expect, What, check};
use laneway_testing::wait_until;

use crate::support::{PROTOCOLS, Scene, Spec, Work};

fn named(instance: &str) -> Spec {
    Spec {
        work: Work::Sleep(Duration::from_millis(1)),
        instance: Some(instance.into()),
        properties: Vec::new(),
        ..Spec::default()
    }
}

/// Lanes that began or ended at a member.
fn moves_of(scene: &Scene, name: &str) -> usize {
    let is_by = |what: &What| match what {
        What::Assigned { member, .. } | What::Revoked { member, .. } | What::Lost { member, .. } => {
            &**member == name
        }
        _ => false,
    };
    scene.recorder.history().events().iter().filter(|event| is_by(&event.what)).count()
}

#[test]
fn a_static_member_that_is_stopped_and_started_again_moves_nothing() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::new("static", 6, protocol) else { return };
        let other = scene.member("other", &named("other"));
        let first = scene.member("first", &named("roamer"));
        wait_until(Duration::from_secs(30), "both have their lanes", || {
            other.lanes() == 3 && first.lanes() == 3
        });
        let traffic = scene.traffic(500);
        wait_until(Duration::from_secs(20), "work is under way", || {
            scene.recorder.history().events().iter().any(|event| matches!(event.what, What::Committed { .. }))
        });
        let (lanes, rebalances, moves) = (first.partitions(), other.rebalances(), moves_of(&scene, "other"));
        let summary = first.leave();
        assert_eq!((summary.unfinished, summary.uncommitted), (0, 0), "{protocol}");
        assert!(summary.stop < Duration::from_secs(5), "{protocol}: leaving took {:?}", summary.stop);
        assert_eq!(scene.listed(), 2, "{protocol}: a static member stays in the group");
        // Longer than two heartbeats of the slowest protocol: the other would have heard by now.
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(scene.listed(), 2, "{protocol}");
        let second = scene.member("second", &named("roamer"));
        wait_until(Duration::from_secs(20), "it has its lanes again", || second.partitions() == lanes);
        traffic.end();
        scene.wait_until_finished(Duration::from_secs(30));
        let history = || {
            format!(
                "{:#?}",
                scene
                    .recorder
                    .history()
                    .events()
                    .iter()
                    .map(|event| &event.what)
                    .filter(|what| !matches!(
                        what,
                        What::Begun { .. } | What::Finished { .. } | What::Produced { .. }
                    ))
                    .collect::<Vec<_>>()
            )
        };
        assert_eq!(other.rebalances(), rebalances, "{protocol}: the other member noticed: {}", history());
        assert_eq!(moves_of(&scene, "other"), moves, "{protocol}: lanes of the other member moved");
        assert_eq!(scene.listed(), 2, "{protocol}");
        second.leave();
        other.leave();
        check(&scene.recorder.history(), &Expect::graceful()).assert_ok();
    }
}

/// Stopped in the middle of a rebalance it goes along to its end: else the group would wait for its session.
#[test]
fn a_static_member_that_is_stopped_in_a_hold_does_not_hold_up_the_group() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::new("static-hold", 6, protocol) else { return };
        let slow = |spec| Spec { work: Work::SleepAtFirst(Duration::from_secs(3)), ..spec };
        let first = scene.member("first", &slow(named("first")));
        let second = scene.member("second", &named("second"));
        wait_until(Duration::from_secs(30), "both have their lanes", || {
            first.lanes() == 3 && second.lanes() == 3
        });
        scene.produce(12);
        let is_slow = || first.handle.status().lanes.iter().any(|lane| lane.in_flight > 0);
        wait_until(Duration::from_secs(20), "a slow record is at work", is_slow);
        let third = scene.member("third", &named("third"));
        let holds = || {
            first.handle.status().lanes.iter().any(|lane| lane.state == laneway::LaneState::Draining)
                || third.rebalances() > 0
        };
        wait_until(Duration::from_secs(10), "a rebalance goes on", holds);
        let summary = first.leave();
        assert_eq!((summary.unfinished, summary.uncommitted), (0, 0), "{protocol}");
        wait_until(Duration::from_secs(10), "the others work", || second.lanes() > 0 && third.lanes() > 0);
        assert_eq!(scene.listed(), 3, "{protocol}");
        scene.produce(60);
        let again = scene.member("again", &named("first"));
        wait_until(Duration::from_secs(10), "all lanes are open", || {
            second.lanes() + third.lanes() + again.lanes() == 6
        });
        scene.wait_until_finished(Duration::from_secs(30));
        for member in [second, third, again] {
            member.leave();
        }
        check(&scene.recorder.history(), &Expect::graceful()).assert_ok();
    }
}

/// A second process with the same name. In the classic protocols it takes the place, and the first one is
/// fenced; with KIP-848 the broker refuses the second as long as the first one is there.
#[test]
fn a_static_member_is_fenced_by_its_twin() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::new("twin", 4, protocol) else { return };
        let traffic = scene.traffic(400);
        let mut first = scene.member("first", &named("twin"));
        wait_until(Duration::from_secs(30), "the first one works", || first.lanes() == 4);
        let mut second = scene.member("second", &named("twin"));
        let (fenced, stays) = match protocol {
            Protocol::Consumer => (&mut second, &mut first),
            _ => (&mut first, &mut second),
        };
        let error = fenced.ended().expect_err("the fenced one ends with an error");
        assert_eq!(error.kind(), ErrorKind::Fenced, "{protocol}: {error}");
        wait_until(Duration::from_secs(20), "the other one works", || stays.lanes() == 4);
        traffic.end();
        scene.wait_until_finished(Duration::from_secs(30));
        assert_eq!(scene.listed(), 1, "{protocol}");
        stays.handle.stop();
        stays.ended().expect("an end without an error");
        let report = check(&scene.recorder.history(), &Expect::crashes().overlaps_allowed());
        report.assert_ok();
        println!("{protocol}, fenced: {report}");
    }
}
