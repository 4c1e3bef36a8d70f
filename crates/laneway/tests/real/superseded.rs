//! What happens to the group while a drain goes on: members and partitions that come, topics that are made and
//! deleted.

use std::time::{Duration, Instant};

use laneway::{Protocol, TopicPartition};
use laneway_testing::history::{Expect, History, Recorder, Report, What, check};
use laneway_testing::{Producer, unique, wait_until};

use crate::support::{Member, PROTOCOLS, Scene, Spec, Work};

/// How long the drain lasts that things happen in.
const DRAIN: Duration = Duration::from_secs(4);

/// A member whose lanes on even partitions take a drain's time for each record, and which looks for topics
/// often.
fn slow() -> Spec {
    Spec {
        work: Work::SleepOnEven(DRAIN),
        properties: vec![("topic.metadata.refresh.interval.ms".into(), "300".into())],
        ..Spec::default()
    }
}

fn quick() -> Spec {
    Spec { work: Work::Sleep(Duration::from_millis(1)), ..slow() }
}

fn produce(scene: &Scene, topic: &str, partitions: i32, each: usize) {
    let producer = Producer::new(&scene.brokers, &[]).expect("a producer").recording(&scene.recorder);
    for number in 0..i32::try_from(each).unwrap() * partitions {
        producer.send(topic, number % partitions, None, Some(b"payload"), &[], None).expect("sent");
    }
    producer.flush().expect("delivered");
}

/// Whether a lane waits for what is in flight.
fn drains(member: &Member) -> bool {
    member.handle.status().lanes.iter().any(|lane| lane.state == laneway::LaneState::Draining)
}

/// A member of slow lanes has begun to give some of them to another one, and `meanwhile` happens. Answers the
/// history when everything that is left is finished.
fn in_a_drain(
    scene: &Scene,
    spec: impl Fn(Spec) -> Spec,
    meanwhile: impl FnOnce(&Scene, &Member),
) -> History {
    produce(scene, &scene.topic, scene.partitions, 2);
    let first = scene.member("first", &spec(slow()));
    wait_until(Duration::from_secs(20), "the slow lanes are at work", || {
        first.handle.status().lanes.iter().filter(|lane| lane.in_flight > 0).count() >= 2
    });
    let second = scene.member("second", &spec(quick()));
    wait_until(Duration::from_secs(20), "a drain goes on", || drains(&first));
    meanwhile(scene, &first);
    scene.wait_until_finished(Duration::from_secs(60));
    wait_until(Duration::from_secs(20), "both have lanes", || first.lanes() > 0 && second.lanes() > 0);
    let began = Instant::now();
    first.handle.stop();
    second.leave();
    first.leave();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{}: leaving took {took:?}", scene.protocol);
    wait_until(Duration::from_secs(2), "no ghost is listed", || scene.listed() == 0);
    scene.recorder.history()
}

fn lost(history: &History) -> Vec<TopicPartition> {
    let lost = |what: &What| match what {
        What::Lost { lane, .. } => Some(lane.partition.clone()),
        _ => None,
    };
    history.events().iter().filter_map(|event| lost(&event.what)).collect()
}

fn told(protocol: Protocol, what: &str, report: &Report) {
    println!("{protocol}, {what}: {report}");
    report.assert_ok();
}

#[test]
fn a_partition_that_is_added_in_a_drain_is_read_and_disturbs_nothing() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::new("grown", 4, protocol) else { return };
        let history = in_a_drain(
            &scene,
            |spec| spec,
            |scene, _| {
                scene.admin().create_partitions(&scene.topic, 6).expect("two more partitions");
                let producer =
                    Producer::new(&scene.brokers, &[]).expect("a producer").recording(&scene.recorder);
                for partition in [4, 5, 5, 5] {
                    producer.send(&scene.topic, partition, None, Some(b"new"), &[], None).expect("sent");
                }
                producer.flush().expect("delivered");
            },
        );
        told(protocol, "a partition added in a drain", &check(&history, &Expect::graceful()));
        assert_eq!(lost(&history), []);
    }
}

#[test]
fn a_topic_that_is_made_in_a_drain_is_read_and_disturbs_nothing() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::new("matched", 4, protocol) else { return };
        let pattern = format!("^{}.*", scene.topic);
        let spec = |spec| Spec { topics: Some(pattern.clone()), ..spec };
        let history = in_a_drain(&scene, spec, |scene, _| {
            let topic = format!("{}-more", scene.topic);
            scene.admin().create_topic(&topic, 2, &[]).expect("a topic");
            produce(scene, &topic, 2, 1);
        });
        told(protocol, "a topic made in a drain", &check(&history, &Expect::graceful()));
        assert_eq!(lost(&history), []);
    }
}

#[test]
fn a_topic_that_is_deleted_in_a_drain_takes_nothing_with_it() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::new("deleted", 4, protocol) else { return };
        let doomed = format!("{}-doomed", scene.topic);
        scene.admin().create_topic(&doomed, 4, &[]).expect("a topic");
        // Not recorded: what becomes of them is open.
        let unrecorded = Scene { recorder: Recorder::in_memory(), topic: unique("none"), ..copy(&scene) };
        produce(&unrecorded, &doomed, 4, 2);
        let pattern = format!("^{}.*", scene.topic);
        let spec = |spec| Spec { topics: Some(pattern.clone()), ..spec };
        let began = Instant::now();
        let history = in_a_drain(&scene, spec, |scene, _| {
            scene.admin().delete_topic(&doomed).expect("deleted");
        });
        assert!(began.elapsed() < Duration::from_secs(45), "{protocol}: it took {:?}", began.elapsed());
        let kept: Vec<_> =
            history.events().iter().filter(|event| !is_of(&event.what, &doomed)).cloned().collect();
        let history = History::new(kept);
        told(protocol, "a topic deleted in a drain", &check(&history, &Expect::graceful()));
        assert_eq!(lost(&history), [], "{protocol}");
    }
}

fn copy(scene: &Scene) -> Scene {
    Scene {
        brokers: scene.brokers.clone(),
        topic: scene.topic.clone(),
        group: scene.group.clone(),
        partitions: scene.partitions,
        protocol: scene.protocol,
        recorder: scene.recorder.clone(),
        file: None,
    }
}

fn is_of(what: &What, topic: &str) -> bool {
    let partition = match what {
        What::Produced { partition, .. }
        | What::Committed { partition, .. }
        | What::Stray { partition, .. } => partition,
        What::Begun { lane, .. }
        | What::Finished { lane, .. }
        | What::Cancelled { lane, .. }
        | What::Assigned { lane, .. }
        | What::Revoked { lane, .. }
        | What::Lost { lane, .. } => &lane.partition,
        What::Killed { .. } => return false,
    };
    &*partition.topic == topic
}

/// Two more members come one after the other, one of them leaves again, all while the first one drains.
#[test]
fn rebalances_in_a_drain_repeat_and_lose_nothing() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::new("during", 6, protocol) else { return };
        let history = in_a_drain(
            &scene,
            |spec| spec,
            |scene, _| {
                let third = scene.member("third", &quick());
                let fourth = scene.member("fourth", &quick());
                std::thread::sleep(Duration::from_millis(700));
                third.handle.stop();
                fourth.handle.stop();
                let began = Instant::now();
                third.leave();
                fourth.leave();
                assert!(
                    began.elapsed() < DRAIN + Duration::from_secs(5),
                    "{protocol}: {:?}",
                    began.elapsed()
                );
            },
        );
        told(protocol, "rebalances in a drain", &check(&history, &Expect::graceful()));
        assert_eq!(lost(&history), []);
    }
}

/// Membership that looks for partitions by itself (only a hidden switch allows that) finds one in the middle of
/// a hold. In the classic protocols it joins again and the group goes on: the lanes that drain are lost, at once,
/// nothing of them is committed, and membership is whole again. With KIP-848 nothing happens.
pub(crate) fn passed_over(protocol: Protocol) -> Option<Report> {
    let scene = Scene::new("passed", 4, protocol)?;
    let spec = |spec: Spec| Spec { membership_refresh: Some(Duration::from_millis(500)), ..spec };
    let history = in_a_drain(&scene, spec, |scene, first| {
        scene.admin().create_partitions(&scene.topic, 6).expect("two more partitions");
        produce(scene, &scene.topic, 6, 1);
        if protocol != Protocol::Consumer {
            wait_until(DRAIN, "the drain is given up", || !drains(first));
        }
    });
    let report = check(&history, &Expect::crashes().overlaps_allowed());
    told(protocol, "a hold passed over", &report);
    if protocol == Protocol::Consumer {
        assert_eq!((lost(&history), report.counts.duplicates), (vec![], 0));
    }
    Some(report)
}

#[test]
fn a_hold_that_the_group_passed_over_costs_its_own_lanes_alone() {
    PROTOCOLS.into_iter().for_each(|protocol| drop(passed_over(protocol)));
}
