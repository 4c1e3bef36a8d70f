//! Groups whose members do not all have the same protocol: refused where that can't be, told in words, and changed over
//! where it can.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use laneway::{Consumer, Error, ErrorKind, Event, Handle, OffsetReset, Protocol, Record, Summary};
use laneway_testing::history::{Expect, Recorder, check};
use laneway_testing::{GroupKind, RealKafka, RealOptions, real_kafka_or_skip, wait_until};

use crate::support::{Member, Scene, Spec, Work, runtime};

const LONG: Duration = Duration::from_secs(60);

/// One whose brokers convert no group.
fn unconverting_kafka() -> Option<&'static RealKafka> {
    static OWN: OnceLock<RealKafka> = OnceLock::new();
    real_kafka_or_skip()?;
    let properties = vec![("group.consumer.migration.policy".to_owned(), "disabled".to_owned())];
    let options = RealOptions { properties, ..RealOptions::default() };
    Some(OWN.get_or_init(|| RealKafka::start(options).expect("a broker")))
}

/// A member that comes to a group of others, and what it says.
struct Newcomer {
    handle: Handle,
    run: tokio::task::JoinHandle<Result<Summary, Error>>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Newcomer {
    /// It is tried for 5 s beyond the drain deadline.
    fn new(scene: &Scene, protocol: Protocol, drain: Duration) -> Self {
        let said = Arc::new(Mutex::new(Vec::new()));
        let kept = said.clone();
        let consumer = Consumer::builder()
            .brokers(&scene.brokers)
            .group(&scene.group)
            .topics([&scene.topic])
            .protocol(protocol)
            .offset_reset(OffsetReset::Earliest)
            .drain_deadline(drain)
            .property("client.id", "newcomer")
            .on_event(move |event| {
                if let Event::Error { message } = event {
                    kept.lock().unwrap().push(message.clone());
                }
            })
            .build()
            .expect("a consumer");
        let handle = consumer.handle();
        Self { handle, run: runtime().spawn(consumer.run(|_: Record| async {})), said }
    }

    fn told(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    fn ended(self) -> Result<Summary, Error> {
        runtime().block_on(self.run).expect("a task")
    }
}

/// A member of a group that has another protocol, and the newcomer that the group does not take.
fn in_the_way(
    kafka: &'static RealKafka,
    has: Protocol,
    drain: Duration,
    asks: Protocol,
) -> (Scene, Member, Newcomer) {
    let scene = Scene::on(kafka, "mixed", 4, has, Recorder::in_memory(), None);
    let settled = scene.member("settled", &Spec::default());
    wait_until(LONG, "the first member has its lanes", || settled.lanes() == 4);
    let newcomer = Newcomer::new(&scene, asks, drain);
    let words = [scene.group.as_str(), "(\"settled\")", described(has), asked(asks), "stop all members"];
    wait_until(LONG, "what is in the way is told", || {
        let told = newcomer.told();
        words.iter().all(|word| told.contains(word)) && told.contains("trying on")
    });
    (scene, settled, newcomer)
}

fn described(has: Protocol) -> &'static str {
    match has {
        Protocol::Eager => "it has the classic eager protocol with the assignor \"range\"",
        Protocol::Cooperative => {
            "it has the classic cooperative protocol with the assignor \"cooperative-sticky\""
        }
        _ => "it has the consumer protocol (KIP-848)",
    }
}

fn asked(asks: Protocol) -> &'static str {
    match asks {
        Protocol::Eager => "asks for the classic eager one",
        Protocol::Cooperative => "asks for the classic cooperative one",
        _ => "asks for KIP-848",
    }
}

fn refused(kafka: &'static RealKafka, has: Protocol, asks: Protocol) {
    let (scene, settled, newcomer) = in_the_way(kafka, has, Duration::from_secs(1), asks);
    let rebalances = settled.rebalances();
    let said = newcomer.said.clone();
    let error = newcomer.ended().expect_err("an end with an error");
    println!("{has}, then {asks}: {error}");
    assert_eq!(error.kind(), ErrorKind::Refused);
    for word in [scene.group.as_str(), described(has), asked(asks), "stop all members"] {
        assert!(error.to_string().contains(word), "{word} is missing: {error}");
    }
    let said = said.lock().unwrap().clone();
    assert!(said.len() <= 2, "it was told again and again: {said:#?}");
    assert_eq!((settled.lanes(), settled.rebalances()), (4, rebalances), "the others are not disturbed");
    settled.leave();
}

/// The others leave while the newcomer is tried on.
fn joins_after_all(kafka: &'static RealKafka, has: Protocol, asks: Protocol) {
    let (scene, settled, newcomer) = in_the_way(kafka, has, Duration::from_secs(20), asks);
    scene.produce(100);
    scene.wait_until_finished(LONG);
    settled.leave();
    scene.produce(100);
    wait_until(LONG, "the newcomer works", || newcomer.handle.status().finished == 100);
    newcomer.handle.stop();
    let summary = newcomer.ended().expect("an end without an error");
    assert_eq!((summary.finished, summary.uncommitted), (100, 0));
}

#[test]
fn a_group_of_another_classic_protocol_refuses_a_member_in_words() {
    let Some(kafka) = real_kafka_or_skip() else { return };
    refused(kafka, Protocol::Eager, Protocol::Cooperative);
    refused(kafka, Protocol::Cooperative, Protocol::Eager);
}

#[test]
fn a_member_that_was_refused_joins_when_the_others_have_left() {
    let Some(kafka) = real_kafka_or_skip() else { return };
    joins_after_all(kafka, Protocol::Eager, Protocol::Cooperative);
}

#[test]
fn a_group_that_cannot_be_converted_refuses_a_member_in_words() {
    let Some(kafka) = unconverting_kafka() else { return };
    refused(kafka, Protocol::Eager, Protocol::Consumer);
    refused(kafka, Protocol::Consumer, Protocol::Cooperative);
}

#[test]
fn a_member_that_a_group_was_not_converted_for_joins_when_the_others_have_left() {
    let Some(kafka) = unconverting_kafka() else { return };
    joins_after_all(kafka, Protocol::Cooperative, Protocol::Consumer);
    joins_after_all(kafka, Protocol::Consumer, Protocol::Eager);
}

/// Each member in turn is replaced by one with the next protocol: the new one first, or the old one first.
fn changed_over(path: [Protocol; 3], new_one_first: bool) {
    let Some(mut scene) = Scene::new("changed", 12, path[0]) else { return };
    let spec = Spec { work: Work::Sleep(Duration::from_millis(2)), ..Spec::default() };
    let mut members: Vec<Member> =
        (0..3).map(|number| scene.member(&format!("{}0{number}", path[0]), &spec)).collect();
    let are_whole = |members: &[Member], count: usize| {
        wait_until(LONG, "the group is whole", || {
            members.len() == count
                && members.iter().all(|it| it.lanes() > 0)
                && members.iter().map(Member::lanes).sum::<usize>() == 12
        });
    };
    // When the last member of KIP-848 leaves, a classic one that is not through a rebalance is in another generation than
    // the group, and can't commit: so each step waits until the group is through.
    let is_stable = |scene: &Scene| {
        wait_until(LONG, "the group is stable", || {
            scene.admin().describe_group(&scene.group).is_ok_and(|group| group.state == "Stable")
        });
    };
    are_whole(&members, 3);
    let traffic = scene.traffic(600);
    for (step, protocol) in path.iter().enumerate().skip(1) {
        scene.protocol = *protocol;
        for number in 0..3 {
            let name = format!("{protocol}{step}{number}");
            if new_one_first {
                members.push(scene.member(&name, &spec));
                are_whole(&members, 4);
                is_stable(&scene);
                members.remove(0).leave();
            } else {
                is_stable(&scene);
                members.remove(0).leave();
                members.push(scene.member(&name, &spec));
            }
            are_whole(&members, 3);
        }
        let group = scene.admin().describe_group(&scene.group).expect("the group");
        let kind = if *protocol == Protocol::Consumer { GroupKind::Consumer } else { GroupKind::Classic };
        assert_eq!((group.kind, group.members.len()), (kind, 3), "{group:?}");
    }
    traffic.end();
    scene.wait_until_finished(LONG);
    for member in members {
        member.leave();
    }
    wait_until(LONG, "no ghost is listed", || scene.listed() == 0);
    let report = check(&scene.recorder.history(), &Expect::graceful());
    println!("{path:?}, the new one first: {new_one_first}: {report}");
    report.assert_ok();
    assert_eq!((report.counts.duplicates, report.counts.strays), (0, 0));
    let (partition, silence) = report.longest_silence_of_all().expect("some silence");
    println!("longest silence: {:?}", silence.length);
    assert!(silence.length < Duration::from_secs(10), "{partition} was silent for {:?}", silence.length);
}

#[test]
fn a_group_changes_over_from_eager_by_kip_848_to_cooperative_and_repeats_and_loses_nothing() {
    changed_over([Protocol::Eager, Protocol::Consumer, Protocol::Cooperative], true);
}

#[test]
fn a_group_changes_over_from_kip_848_to_eager_and_back_and_repeats_and_loses_nothing() {
    changed_over([Protocol::Consumer, Protocol::Eager, Protocol::Consumer], false);
}

/// The brokers can't convert a group whose members librdkafka's cooperative-sticky has assigned something before: what
/// they have goes along with what they are assigned, and that would be lost. A member of KIP-848 is refused, and leaves
/// the others time for their own rebalances. With all members stopped, it goes.
#[test]
fn a_cooperative_group_outlives_a_member_of_kip_848_and_changes_over_when_all_have_stopped() {
    let Some(mut scene) = Scene::new("outlived", 12, Protocol::Cooperative) else { return };
    let spec = Spec { work: Work::Sleep(Duration::from_millis(2)), ..Spec::default() };
    let mut members: Vec<Member> = (0..4)
        .map(|number| {
            let member = scene.member(&format!("cooperative{number}"), &spec);
            wait_until(LONG, "it has lanes", || member.lanes() > 0);
            member
        })
        .collect();
    let is_whole = |members: &[Member]| members.iter().map(Member::lanes).sum::<usize>() == 12;
    wait_until(LONG, "the group is whole", || is_whole(&members));
    let traffic = scene.traffic(600);
    members.remove(0).leave();
    // In the middle of the rebalance.
    let newcomer = Newcomer::new(&scene, Protocol::Consumer, Duration::from_secs(10));
    wait_until(LONG, "it is told", || newcomer.told().contains("does not take this member"));
    wait_until(LONG, "the group is whole", || is_whole(&members));
    members.remove(0).leave();
    let error = newcomer.ended().expect_err("an end with an error");
    assert_eq!(error.kind(), ErrorKind::Refused);
    wait_until(LONG, "the group is whole", || is_whole(&members));
    for member in members {
        member.leave();
    }
    scene.protocol = Protocol::Consumer;
    let members = [scene.member("consumer0", &spec), scene.member("consumer1", &spec)];
    wait_until(LONG, "the group is whole", || is_whole(&members));
    traffic.end();
    scene.wait_until_finished(LONG);
    for member in members {
        member.leave();
    }
    let report = check(&scene.recorder.history(), &Expect::graceful());
    println!("a member of KIP-848 beside a cooperative group: {report}");
    report.assert_ok();
    let (partition, silence) = report.longest_silence_of_all().expect("some silence");
    println!("longest silence: {:?}", silence.length);
    assert!(silence.length < Duration::from_secs(15), "{partition} was silent for {:?}", silence.length);
}

#[test]
fn a_member_that_is_not_taken_stops_at_once() {
    let Some(kafka) = unconverting_kafka() else { return };
    for (has, asks) in [(Protocol::Eager, Protocol::Cooperative), (Protocol::Eager, Protocol::Consumer)] {
        let (_, settled, newcomer) = in_the_way(kafka, has, Duration::from_secs(20), asks);
        newcomer.handle.stop();
        let summary = newcomer.ended().expect("an end without an error");
        assert!(summary.stop < Duration::from_secs(5), "{asks}: it took {:?}", summary.stop);
        settled.leave();
    }
}
