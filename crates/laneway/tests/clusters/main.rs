//! Clusters of three nodes that change under a consumer: coordinators that move, nodes that freeze and die, racks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dead_letters;
#[path = "../logged/mod.rs"]
mod logged;
mod made_again;
#[path = "../real/support.rs"]
#[allow(dead_code)]
mod support;
mod truncated;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use laneway::Protocol;
use laneway_testing::history::{Expect, Recorder, What, check};
use laneway_testing::{RealKafka, RealOptions, unique, wait_until};

use support::{Member, PROTOCOLS, Scene, Spec, Work};

const SOON: Duration = Duration::from_secs(60);

/// Three nodes, each in a rack of its own. Whoever holds it has it for itself, with all nodes up.
struct Cluster {
    nodes: &'static [RealKafka],
    _alone: MutexGuard<'static, ()>,
}

fn cluster() -> Option<Cluster> {
    static NODES: OnceLock<Option<Vec<RealKafka>>> = OnceLock::new();
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let nodes = NODES.get_or_init(|| {
        if let Err(why) = RealKafka::available() {
            let required = std::env::var_os("LANEWAY_REQUIRE_REAL_KAFKA").is_some_and(|v| v == "1");
            assert!(!required, "LANEWAY_REQUIRE_REAL_KAFKA=1, but: {why}");
            eprintln!("skipped, no real Kafka here: {why}");
            return None;
        }
        let property = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
        let options = RealOptions {
            properties: vec![
                property("broker.rack", "rack-{node}"),
                property("replica.selector.class", selector),
                property("controller.quorum.election.timeout.ms", "500"),
                property("controller.quorum.fetch.timeout.ms", "1000"),
                property("replica.lag.time.max.ms", "3000"),
            ],
            ..RealOptions::default()
        };
        Some(RealKafka::start_cluster(3, options).expect("a cluster"))
    });
    let nodes = nodes.as_ref()?;
    // One that a test froze, and failed.
    nodes.iter().for_each(|node| drop(node.thaw()));
    for node in nodes.iter().filter(|node| node.pid().is_none()) {
        node.begin_to_start_again().expect("a node");
    }
    for node in nodes {
        node.wait_until_ready(3).expect("all nodes up");
    }
    Some(Cluster { nodes, _alone: alone })
}

impl Cluster {
    fn brokers(&self) -> String {
        self.nodes.iter().map(RealKafka::brokers).collect::<Vec<_>>().join(",")
    }

    fn scene(&self, name: &str, partitions: i32, protocol: Protocol) -> Scene {
        let mut scene = Scene::on(&self.nodes[0], name, partitions, protocol, Recorder::in_memory(), None);
        scene.brokers = self.brokers();
        scene
    }

    /// The node that coordinates the scene's group.
    fn coordinator(&self, scene: &Scene) -> &'static RealKafka {
        let id = scene.admin().describe_group(&scene.group).expect("a group").coordinator;
        &self.nodes[usize::try_from(id).expect("a coordinator") - 1]
    }
}

fn two_members(scene: &Scene) -> [Member; 2] {
    two_members_with(scene, None)
}

fn two_members_with(scene: &Scene, property: Option<(String, String)>) -> [Member; 2] {
    let backoff = ("reconnect.backoff.max.ms".into(), "500".into());
    let spec = Spec {
        work: Work::Sleep(Duration::from_millis(2)),
        properties: [backoff].into_iter().chain(property).collect(),
        ..Spec::default()
    };
    let members = ["one", "two"].map(|name| scene.member(name, &spec));
    wait_until(SOON, "lanes for both members", || members.iter().all(|member| member.lanes() > 0));
    members
}

/// Records that were finished, repeats included.
fn finished(scene: &Scene) -> usize {
    let history = scene.recorder.history();
    history.events().iter().filter(|event| matches!(event.what, What::Finished { .. })).count()
}

/// Records that were finished so far and may come again: everything above what is committed.
fn uncommitted(scene: &Scene) -> u64 {
    let mut committed = HashMap::new();
    let history = scene.recorder.history();
    for event in history.events() {
        if let What::Committed { partition, offset, .. } = &event.what {
            committed.insert(partition.clone(), *offset);
        }
    }
    let committed: i64 = committed.values().sum();
    u64::try_from(finished(scene)).unwrap() - u64::try_from(committed).unwrap()
}

fn coordinator_moves(protocol: Protocol) {
    let Some(cluster) = cluster() else { return };
    let scene = cluster.scene("moves", 6, protocol);
    let members = two_members(&scene);
    let traffic = scene.traffic(400);
    wait_until(SOON, "work is under way", || finished(&scene) > 300);
    let first = cluster.coordinator(&scene);
    first.kill();
    let begun = Instant::now();
    wait_until(SOON, "another coordinator", || {
        scene.admin().describe_group(&scene.group).is_ok_and(|group| {
            group.coordinator > 0 && cluster.nodes[group.coordinator as usize - 1].pid().is_some()
        })
    });
    let before = finished(&scene);
    wait_until(SOON, "work goes on", || finished(&scene) > before + 300);
    println!("{protocol}: work goes on {:?} after the coordinator was killed", begun.elapsed());
    first.begin_to_start_again().expect("the node comes back");
    first.wait_until_ready(3).expect("the node is back");
    // The other member now asks for committed offsets again: of the first coordinator, if that was kept, which is
    // up and refuses.
    let [one, two] = members;
    assert_eq!(two.leave().uncommitted, 0);
    wait_until(SOON, "all lanes with the other member", || one.lanes() == 6);
    traffic.end();
    scene.wait_until_finished(SOON);
    assert_eq!(one.leave().uncommitted, 0);
    let report = check(&scene.recorder.history(), &Expect::graceful());
    report.assert_ok();
    println!("{protocol}, the coordinator killed: {report}");
}

#[test]
fn a_coordinator_that_is_killed_moves_and_nothing_is_lost_or_repeated() {
    coordinator_moves(Protocol::Cooperative);
}

#[test]
#[ignore = "long: part of cargo xtask prove"]
fn prove_clusters_a_coordinator_that_moves() {
    PROTOCOLS.into_iter().for_each(coordinator_moves);
}

fn one_frozen_and_one_killed(protocol: Protocol) {
    let Some(cluster) = cluster() else { return };
    let scene = cluster.scene("frozen", 6, protocol);
    scene.produce(4_000);
    let members = two_members(&scene);
    wait_until(SOON, "work is under way", || finished(&scene) > 300);
    // Neither is the one that is left, so there is no majority: nothing is written until one is back.
    let (frozen, killed) = (&cluster.nodes[0], &cluster.nodes[1]);
    frozen.freeze().expect("frozen");
    killed.kill();
    let quiet = Instant::now() + Duration::from_secs(5);
    wait_until(SOON, "a while without a majority", || Instant::now() >= quiet);
    frozen.thaw().expect("thawed");
    killed.start_again().expect("the node is back");
    scene.wait_until_finished(SOON * 2);
    for member in members {
        assert_eq!(member.leave().uncommitted, 0);
    }
    let report = check(&scene.recorder.history(), &Expect::crashes());
    report.assert_ok();
    println!("{protocol}, one frozen and one killed: {report}");
}

#[test]
#[ignore = "long: part of cargo xtask prove"]
fn prove_clusters_one_node_frozen_and_one_killed() {
    PROTOCOLS.into_iter().for_each(one_frozen_and_one_killed);
}

fn all_down(protocol: Protocol, down: Duration, session: Option<Duration>) {
    let Some(cluster) = cluster() else { return };
    let scene = cluster.scene("down", 6, protocol);
    scene.produce(4_000);
    let session = session.filter(|_| protocol != Protocol::Consumer);
    let session = session.map(|session| ("session.timeout.ms".into(), session.as_millis().to_string()));
    let members = two_members_with(&scene, session);
    wait_until(SOON, "work is under way", || finished(&scene) > 300);
    for node in cluster.nodes {
        node.kill();
    }
    let until = Instant::now() + down;
    wait_until(SOON * 2, "a while without a node", || Instant::now() >= until);
    // All that was fetched before went on being worked on, and could not be committed.
    let uncommitted = uncommitted(&scene);
    for node in cluster.nodes {
        node.begin_to_start_again().expect("a node that starts");
    }
    for node in cluster.nodes {
        node.wait_until_ready(3).expect("the node is back");
    }
    let back = Instant::now();
    // More than was fetched before.
    scene.produce(600);
    scene.wait_until_finished(SOON * 2);
    println!("{protocol}: everything is finished {:?} after the cluster was back", back.elapsed());
    for member in members {
        assert_eq!(member.leave().uncommitted, 0);
    }
    let report = check(&scene.recorder.history(), &Expect::crashes());
    report.assert_ok();
    println!("{protocol}, all down for {down:?}: {report}");
    let repeated = report.counts.duplicates;
    assert!(
        repeated <= uncommitted,
        "{repeated} records came again, and only {uncommitted} were not committed"
    );
}

#[test]
#[ignore = "long: part of cargo xtask prove"]
fn prove_clusters_all_nodes_down_for_20_s() {
    PROTOCOLS.into_iter().for_each(|protocol| all_down(protocol, Duration::from_secs(20), None));
}

#[test]
#[ignore = "long: part of cargo xtask prove"]
fn prove_clusters_all_nodes_down_for_a_minute() {
    PROTOCOLS.into_iter().for_each(|protocol| all_down(protocol, Duration::from_secs(60), None));
}

/// Outages that are longer than a session, again and again: `LANEWAY_ROUNDS` of them for each protocol.
#[test]
#[ignore = "long: part of cargo xtask prove"]
fn prove_clusters_all_nodes_down_for_longer_than_a_session() {
    let rounds = std::env::var("LANEWAY_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3);
    let only = std::env::var("LANEWAY_PROTOCOL").ok();
    for round in 0..rounds {
        for protocol in PROTOCOLS {
            if only.as_ref().is_none_or(|only| *only == protocol.to_string()) {
                println!("round {round}");
                all_down(protocol, Duration::from_secs(10), Some(Duration::from_secs(6)));
            }
        }
    }
}

fn in_rack(rack: i32) -> Spec {
    let property = |key: &str, value: String| (key.to_owned(), value);
    Spec {
        properties: vec![property("client.rack", format!("rack-{rack}")), property("debug", "fetch".into())],
        ..Spec::default()
    }
}

/// How many records of a topic came from a node: `.../2: Enqueue 7 message(s) (... ) on TOPIC [0] ...`.
fn fetched_from(topic: &str, node: i32) -> usize {
    let logs = logged::logs();
    let (from, of) = (format!("/{node}: Enqueue "), format!(" on {topic} [0]"));
    let count = |line: &str| line.split_once(&from)?.1.split(' ').next()?.parse::<usize>().ok();
    logs.lines().filter(|line| line.contains(&of)).filter_map(count).sum()
}

#[test]
fn a_consumer_fetches_from_the_replica_in_its_rack_and_goes_on_when_that_dies() {
    let Some(cluster) = cluster() else { return };
    logged::keep();
    let mut scene = cluster.scene("rack", 1, Protocol::Cooperative);
    // Led by the first node, and a replica on the second, where the consumer is.
    scene.topic = unique("rack");
    scene.admin().create_topic_on(&scene.topic, &[vec![1, 2, 3]]).expect("a topic");
    let member = scene.member("near", &in_rack(2));
    scene.produce(100);
    scene.wait_until_finished(SOON);
    let traffic = scene.traffic(200);
    wait_until(SOON, "records from the second node", || fetched_from(&scene.topic, 2) > 100);
    let from_the_leader = fetched_from(&scene.topic, 1);
    wait_until(SOON, "more of them", || fetched_from(&scene.topic, 2) > 400);
    assert_eq!(fetched_from(&scene.topic, 1), from_the_leader);
    cluster.nodes[1].kill();
    let before = finished(&scene);
    wait_until(SOON, "work goes on", || finished(&scene) > before + 300);
    cluster.nodes[1].begin_to_start_again().expect("the node comes back");
    traffic.end();
    scene.wait_until_finished(SOON);
    member.leave();
    check(&scene.recorder.history(), &Expect::graceful()).assert_ok();
}

#[test]
fn an_assignor_that_knows_racks_assigns_what_is_near() {
    let Some(cluster) = cluster() else { return };
    let mut scene = cluster.scene("near", 4, Protocol::Eager);
    scene.topic = unique("near");
    // Without racks the range assignor would give the first two to the first member.
    scene.admin().create_topic_on(&scene.topic, &[vec![2], vec![1], vec![2], vec![1]]).expect("a topic");
    let members = [scene.member("a", &in_rack(1)), scene.member("b", &in_rack(2))];
    let near = |member: &Member, partitions: [i32; 2]| {
        let lanes = member.handle.status().lanes;
        let mut found: Vec<i32> = lanes.iter().map(|lane| lane.lane.partition.partition).collect();
        found.sort_unstable();
        found == partitions
    };
    wait_until(SOON, "each has what is in its rack", || {
        near(&members[0], [1, 3]) && near(&members[1], [0, 2])
    });
    for member in members {
        member.leave();
    }
}
