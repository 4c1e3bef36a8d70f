//! A subscription that is changed while it runs, on a real Kafka.

use std::time::Duration;

use laneway::{LaneId, Protocol};
use laneway_testing::history::{Expect, What, check};
use laneway_testing::{Producer, unique, wait_until};

use crate::support::{Member, PROTOCOLS, Scene, Spec, Work, runtime};

/// A topic is added, taken away in the middle of its records, and added again: each of its records is finished once,
/// and the lanes of the other topic go on. (In eager, Kafka takes those away as well, at each change; still nothing is
/// lost or repeated.)
#[test]
fn a_topic_comes_and_goes_and_the_other_topics_lanes_stay() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::new("kept", 2, protocol) else { return };
        let other = unique("other");
        scene.admin().create_topic(&other, 2, &[]).expect("a topic");
        let spec = Spec { work: Work::Sleep(Duration::from_millis(4)), ..Spec::default() };
        let member = scene.member("one", &spec);
        let traffic = scene.traffic(100);
        wait_until(LONG, "the first topic is read", || member.lanes() == 2);
        let kept = lanes_of(&member, &scene.topic);
        let subscribe = |topics: &[&str]| {
            runtime().block_on(member.handle.subscribe(topics.iter().copied())).expect("taken");
        };

        subscribe(&[&scene.topic, &other]);
        let producer = Producer::new(&scene.brokers, &[]).expect("a producer").recording(&scene.recorder);
        for number in 0..2_000 {
            producer.send(&other, number % 2, None, Some(b"x"), &[], None).expect("sent");
        }
        producer.flush().expect("delivered");
        let finished = || {
            let of_other =
                |what: &What| matches!(what, What::Finished { lane, .. } if *lane.partition.topic == *other);
            scene.recorder.history().events().iter().filter(|event| of_other(&event.what)).count()
        };
        wait_until(LONG, "the other topic is being read", || finished() > 20);
        stayed(protocol, &member, &scene.topic, &kept);

        subscribe(&[&scene.topic]);
        wait_until(LONG, "it is given back", || lanes_of(&member, &other).is_empty());
        let so_far = finished();
        assert!(so_far < 2_000, "{protocol}: it was through before it was taken away");
        stayed(protocol, &member, &scene.topic, &kept);

        subscribe(&[&format!("^{}$", scene.topic), &format!("^{other}$")]);
        wait_until(LONG, "the rest of it is read", || finished() == 2_000);
        stayed(protocol, &member, &scene.topic, &kept);
        traffic.end();
        scene.wait_until_finished(LONG);
        member.leave();
        let report = check(&scene.recorder.history(), &Expect::graceful());
        println!("{protocol}: {so_far} of 2000 before it was taken away; {report}");
        report.assert_ok();
    }
}

fn lanes_of(member: &Member, topic: &str) -> Vec<LaneId> {
    let lanes = member.handle.status().lanes.into_iter().map(|lane| lane.lane);
    lanes.filter(|lane| *lane.partition.topic == *topic).collect()
}

/// The lanes are the same as ever: of the same assignment, not new ones.
fn stayed(protocol: Protocol, member: &Member, topic: &str, before: &[LaneId]) {
    if protocol == Protocol::Eager {
        wait_until(LONG, "they are back", || lanes_of(member, topic).len() == before.len());
    } else {
        assert_eq!(lanes_of(member, topic), before, "{protocol}");
    }
}

const LONG: Duration = Duration::from_secs(40);
