//! Stopping ends by its deadline, whatever the brokers and the rebalances are at.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use laneway::{Consumer, OffsetReset, Protocol, Summary};
use laneway_testing::history::{Expect, Recorder, check};
use laneway_testing::{RealKafka, unique, wait_until};

use crate::support::{Member, PROTOCOLS, Scene, Spec, Work, own_kafka, runtime};

/// What a stop has beyond the drain deadline, and what a busy machine adds.
const BEYOND: Duration = Duration::from_millis(5_300);

/// Members of each protocol that have finished everything, and committed nothing of it yet.
fn members_that_have_work(kafka: &RealKafka, spec: &Spec) -> Vec<(Scene, Member)> {
    let start = |protocol| {
        let scene = Scene::on(kafka, "stopped", 4, protocol, Recorder::in_memory(), None);
        scene.produce(40);
        let member = scene.member("only", spec);
        (scene, member)
    };
    let members: Vec<(Scene, Member)> = PROTOCOLS.into_iter().map(start).collect();
    for (scene, _) in &members {
        wait_until(Duration::from_secs(40), "it has its work", || scene.unfinished() <= 10);
    }
    members
}

/// Stops them all, and answers how each ended.
fn stop_all(members: Vec<(Scene, Member)>, drain: Duration) -> Vec<Summary> {
    let began = Instant::now();
    members.iter().for_each(|(_, member)| member.handle.stop());
    let end = |(scene, mut member): (Scene, Member)| {
        let summary = member.ended().expect("an end without an error");
        let took = began.elapsed();
        assert!(took < drain + BEYOND, "{}: the stop took {took:?}", scene.protocol);
        summary
    };
    members.into_iter().map(end).collect()
}

#[test]
fn a_stop_ends_by_its_deadline_with_a_frozen_broker_and_with_none() {
    let Some(kafka) = own_kafka() else { return };
    let drain = Duration::from_secs(1);
    // One lane is in a record for ever; what the others finished is committed late, so that it is still open.
    let spec = Spec { work: Work::SleepOn(0, Duration::from_secs(600)), drain, ..Spec::default() };
    let members = members_that_have_work(&kafka, &spec);
    kafka.freeze().expect("frozen");
    for summary in stop_all(members, drain) {
        assert_eq!(summary.unfinished, 1);
    }
    kafka.thaw().expect("thawed");
    let members = members_that_have_work(&kafka, &spec);
    kafka.kill();
    for summary in stop_all(members, drain) {
        assert_eq!(summary.unfinished, 1);
    }
}

/// Everything is finished, and the broker freezes before it could say that it took the commit.
#[test]
fn a_stop_ends_by_its_deadline_when_a_commit_is_never_answered() {
    let Some(kafka) = own_kafka() else { return };
    let drain = Duration::from_secs(1);
    let spec = Spec { commit_interval: Some(Duration::from_secs(60)), drain, ..Spec::default() };
    let members = members_that_have_work(&kafka, &spec);
    for (scene, _) in &members {
        scene.wait_until_finished(Duration::from_secs(20));
    }
    kafka.freeze().expect("frozen");
    for summary in stop_all(members, drain) {
        assert_eq!((summary.unfinished, summary.uncommitted), (0, 40));
    }
    kafka.thaw().expect("thawed");
    kafka.kill();
}

#[test]
fn a_stop_ends_at_once_where_no_broker_was_ever_reached() {
    // One that refuses, and one that takes connections and says nothing.
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let drain = Duration::from_secs(1);
    for address in [closed, silent.local_addr().expect("an address")] {
        for protocol in PROTOCOLS {
            let consumer = Consumer::builder()
                .brokers(address.to_string())
                .group(unique("nowhere"))
                .topics(["nothing"])
                .protocol(protocol)
                .offset_reset(OffsetReset::Earliest)
                .drain_deadline(drain)
                .build()
                .expect("a consumer");
            let handle = consumer.handle();
            let run = runtime().spawn(consumer.run(|_: laneway::Record| async {}));
            std::thread::sleep(Duration::from_millis(300));
            let began = Instant::now();
            handle.stop();
            runtime().block_on(run).expect("a task").expect("an end without an error");
            assert!(began.elapsed() < drain + BEYOND, "{protocol}: {:?}", began.elapsed());
        }
    }
}

/// A member is stopped so many milliseconds after another one has joined: before it hears of the rebalance,
/// while its revoke is held, while others drain, while it joins, right after. Then a new one joins, which no ghost
/// may hold up.
pub(crate) fn stops_around_a_rebalance(protocol: Protocol, delays: &[u64]) -> Option<(Duration, Duration)> {
    let scene = Scene::new("sweep", 12, protocol)?;
    let drain = Duration::from_secs(3);
    // A drain takes a while: a record takes up to 700 ms in some lanes.
    let slow = Spec { work: Work::SleepOnEven(Duration::from_millis(700)), drain, ..Spec::default() };
    let quick = Spec { work: Work::Sleep(Duration::from_millis(2)), ..slow.clone() };
    let stays = scene.member("stays", &slow);
    wait_until(Duration::from_secs(20), "the first one has its lanes", || stays.lanes() == 12);
    let (mut longest_leave, mut longest_join) = (Duration::ZERO, Duration::ZERO);
    for delay in delays {
        let leaves = scene.member(&format!("leaves{delay}"), &slow);
        scene.produce(48);
        wait_until(Duration::from_secs(20), "it has its lanes", || leaves.lanes() == 6 && stays.lanes() == 6);
        let comes = scene.member(&format!("comes{delay}"), &quick);
        std::thread::sleep(Duration::from_millis(*delay));
        let began = Instant::now();
        let summary = leaves.leave();
        longest_leave = longest_leave.max(began.elapsed());
        assert_eq!((summary.unfinished, summary.uncommitted), (0, 0), "{protocol}, {delay} ms");
        let began = Instant::now();
        let next = scene.member(&format!("next{delay}"), &quick);
        wait_until(Duration::from_secs(30), "the next one has its lanes", || next.lanes() == 4);
        longest_join = longest_join.max(began.elapsed());
        assert_eq!(scene.listed(), 3, "{protocol}, {delay} ms: a ghost");
        next.handle.stop();
        comes.leave();
        next.leave();
    }
    scene.wait_until_finished(Duration::from_secs(30));
    stays.leave();
    check(&scene.recorder.history(), &Expect::graceful()).assert_ok();
    assert!(longest_leave < drain + BEYOND, "{protocol}: a leave took {longest_leave:?}");
    println!("{protocol}: longest leave {longest_leave:.1?}, longest join after it {longest_join:.1?}");
    Some((longest_leave, longest_join))
}

fn stopped_around_a_rebalance(protocol: Protocol) {
    let Some((_, join)) = stops_around_a_rebalance(protocol, &[0, 150, 500, 1_100, 1_800]) else { return };
    assert!(join < Duration::from_secs(10), "{protocol}: a join took {join:?}");
}

#[test]
fn a_member_stopped_at_any_point_of_a_rebalance_leaves_no_ghost_eager() {
    stopped_around_a_rebalance(Protocol::Eager);
}

#[test]
fn a_member_stopped_at_any_point_of_a_rebalance_leaves_no_ghost_cooperative() {
    stopped_around_a_rebalance(Protocol::Cooperative);
}

#[test]
fn a_member_stopped_at_any_point_of_a_rebalance_leaves_no_ghost_consumer() {
    stopped_around_a_rebalance(Protocol::Consumer);
}
