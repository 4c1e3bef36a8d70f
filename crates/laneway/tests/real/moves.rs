//! Members that come and go with grace.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use laneway::Protocol;
use laneway_testing::history::{Expect, What, check};
use laneway_testing::wait_until;

use crate::support::{Member, PROTOCOLS, Scene, Spec, Work};

/// A small random number generator, so that a failing run can be told by its seed.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What came of a churn.
pub(crate) struct Churned {
    pub(crate) report: laneway_testing::history::Report,
    pub(crate) longest_leave: Duration,
    pub(crate) changes: usize,
}

/// How members come and go.
pub(crate) struct Churn {
    pub(crate) members: usize,
    pub(crate) partitions: i32,
    pub(crate) changes: usize,
    /// Milliseconds between two changes, at least and at most.
    pub(crate) pause: (u64, u64),
    pub(crate) drain: Duration,
    /// At every fifth change a member's handlers take so long.
    pub(crate) slow: Duration,
}

/// Members of a group come and go while records flow; then everything is finished.
pub(crate) fn churn(protocol: Protocol, of: &Churn) -> Option<Churned> {
    let Churn { members, partitions, changes, pause, drain, slow } = *of;
    let scene = Scene::new("churn", partitions, protocol)?;
    let quick = || -> &'static AtomicU64 { Box::leak(Box::new(AtomicU64::new(2))) };
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15 ^ changes as u64);
    let traffic = scene.traffic(1_000);
    let mut number = 0;
    let mut join = |slots: &mut Vec<(Member, &'static AtomicU64)>| {
        number += 1;
        let dial = quick();
        let spec = Spec { work: Work::Dial(dial), drain, ..Spec::default() };
        slots.push((scene.member(&format!("m{number}"), &spec), dial));
    };
    let mut present: Vec<(Member, &'static AtomicU64)> = Vec::new();
    for _ in 0..members {
        join(&mut present);
    }
    let mut longest_leave = Duration::ZERO;
    for change in 0..changes {
        std::thread::sleep(Duration::from_millis(pause.0 + rng.below(pause.1 - pause.0)));
        // Whoever is slow may be the one that leaves, or another one, which has to give lanes away.
        let is_slow = change % 5 == 4 && !slow.is_zero();
        let dial = present[usize::try_from(rng.below(present.len() as u64)).unwrap()].1;
        if is_slow {
            dial.store(u64::try_from(slow.as_millis()).unwrap(), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(100));
        }
        let leaves = present.len() == members || (present.len() > 1 && rng.below(2) == 0);
        if leaves {
            let index = usize::try_from(rng.below(present.len() as u64)).unwrap();
            let began = Instant::now();
            present.swap_remove(index).0.leave();
            longest_leave = longest_leave.max(began.elapsed());
        } else {
            join(&mut present);
        }
        if is_slow {
            // A second slow record in a lane that drains would be no drain of `slow` any more.
            std::thread::sleep(Duration::from_millis(1_500));
            dial.store(2, Ordering::Relaxed);
        }
    }
    traffic.end();
    scene.wait_until_finished(Duration::from_secs(60));
    for (member, _) in present {
        let began = Instant::now();
        member.leave();
        longest_leave = longest_leave.max(began.elapsed());
    }
    wait_until(Duration::from_secs(1), "no ghost is listed", || scene.listed() == 0);
    Some(Churned { report: check(&scene.recorder.history(), &Expect::graceful()), longest_leave, changes })
}

fn churned_well(protocol: Protocol) {
    let of = Churn {
        members: 4,
        partitions: 12,
        changes: 10,
        pause: (400, 1_200),
        drain: Duration::from_millis(200),
        slow: Duration::ZERO,
    };
    let Some(churned) = churn(protocol, &of) else { return };
    churned.report.assert_ok();
    assert_eq!(churned.report.counts.strays, 0);
    assert!(churned.longest_leave < Duration::from_millis(5_200), "a leave took {:?}", churned.longest_leave);
    let (partition, silence) = churned.report.longest_silence_of_all().expect("some silence");
    assert!(silence.length < Duration::from_secs(10), "{partition} was silent for {:?}", silence.length);
}

#[test]
fn members_that_come_and_go_repeat_and_lose_nothing_eager() {
    churned_well(Protocol::Eager);
}

#[test]
fn members_that_come_and_go_repeat_and_lose_nothing_cooperative() {
    churned_well(Protocol::Cooperative);
}

#[test]
fn members_that_come_and_go_repeat_and_lose_nothing_consumer() {
    churned_well(Protocol::Consumer);
}

/// Members that drain for long at every fifth change: the others wait for them, in classic protocols with all that
/// they have, and nothing is lost or repeated.
fn drained_long(protocol: Protocol) {
    let of = Churn {
        members: 5,
        partitions: 12,
        changes: 10,
        pause: (400, 1_200),
        drain: Duration::from_secs(7),
        slow: Duration::from_secs(5),
    };
    let Some(churned) = churn(protocol, &of) else { return };
    churned.report.assert_ok();
    assert!(
        churned.longest_leave < of.drain + Duration::from_secs(5),
        "a leave took {:?}",
        churned.longest_leave
    );
    let (partition, silence) = churned.report.longest_silence_of_all().expect("some silence");
    assert!(silence.length < Duration::from_secs(10), "{partition} was silent for {:?}", silence.length);
}

#[test]
fn members_that_drain_for_long_now_and_then_repeat_and_lose_nothing_eager() {
    drained_long(Protocol::Eager);
}

#[test]
fn members_that_drain_for_long_now_and_then_repeat_and_lose_nothing_cooperative() {
    drained_long(Protocol::Cooperative);
}

#[test]
fn members_that_drain_for_long_now_and_then_repeat_and_lose_nothing_consumer() {
    drained_long(Protocol::Consumer);
}

/// Members that are stopped at once after their start, so many milliseconds at least and at most, again and again,
/// beside others that work.
pub(crate) fn brief_members(protocol: Protocol, times: u64, after: (u64, u64)) -> Option<Churned> {
    let scene = Scene::new("brief", 24, protocol)?;
    let drain = Duration::from_millis(500);
    let spec = Spec { work: Work::Sleep(Duration::from_millis(2)), drain, ..Spec::default() };
    let stays: Vec<Member> = (0..3).map(|number| scene.member(&format!("stays{number}"), &spec)).collect();
    let are_whole = || stays.iter().all(|member| member.lanes() == 8);
    wait_until(Duration::from_secs(30), "the others have their lanes", are_whole);
    let traffic = scene.traffic(1_000);
    let mut rng = Rng(0x51ed_270b_9f3c_1d47 ^ times);
    let mut longest_leave = Duration::ZERO;
    for number in 0..times {
        let brief = scene.member(&format!("brief{number}"), &spec);
        std::thread::sleep(Duration::from_millis(after.0 + rng.below(after.1 - after.0)));
        let began = Instant::now();
        brief.leave();
        longest_leave = longest_leave.max(began.elapsed());
    }
    wait_until(Duration::from_secs(10), "the others have all lanes", are_whole);
    assert_eq!(scene.listed(), 3, "{protocol}: a ghost");
    traffic.end();
    scene.wait_until_finished(Duration::from_secs(30));
    for member in stays {
        member.leave();
    }
    let changes = usize::try_from(2 * times).unwrap();
    Some(Churned { report: check(&scene.recorder.history(), &Expect::graceful()), longest_leave, changes })
}

fn brief_well(protocol: Protocol) {
    let Some(churned) = brief_members(protocol, 20, (0, 300)) else { return };
    churned.report.assert_ok();
    assert!(churned.longest_leave < Duration::from_millis(5_500), "a leave took {:?}", churned.longest_leave);
    let (partition, silence) = churned.report.longest_silence_of_all().expect("some silence");
    assert!(silence.length < Duration::from_secs(10), "{partition} was silent for {:?}", silence.length);
}

#[test]
fn members_stopped_at_once_again_and_again_disturb_nobody_eager() {
    brief_well(Protocol::Eager);
}

#[test]
fn members_stopped_at_once_again_and_again_disturb_nobody_cooperative() {
    brief_well(Protocol::Cooperative);
}

#[test]
fn members_stopped_at_once_again_and_again_disturb_nobody_consumer() {
    brief_well(Protocol::Consumer);
}

#[test]
fn a_member_that_left_is_gone_from_the_group() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::new("gone", 4, protocol) else { return };
        scene.produce(100);
        let member = scene.member("only", &Spec::default());
        scene.wait_until_finished(Duration::from_secs(30));
        assert_eq!(scene.listed(), 1);
        let summary = member.leave();
        assert_eq!((summary.unfinished, summary.uncommitted), (0, 0));
        wait_until(Duration::from_secs(1), "it is not listed any more", || scene.listed() == 0);
        let ends: i64 = scene
            .admin()
            .committed(&scene.group, &(0..4).map(|number| scene.partition(number)).collect::<Vec<_>>())
            .expect("committed offsets")
            .values()
            .map(|committed| committed.offset)
            .sum();
        assert_eq!(ends, 100);
        check(&scene.recorder.history(), &Expect::graceful()).assert_ok();
    }
}

#[test]
fn a_member_that_is_stopped_at_once_leaves_no_ghost() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::new("at-once", 4, protocol) else { return };
        for delay in [0, 60, 150, 360, 400, 450, 550] {
            let member = scene.member(&format!("brief{delay}"), &Spec::default());
            std::thread::sleep(Duration::from_millis(delay));
            member.leave();
        }
        scene.produce(40);
        let began = Instant::now();
        let after = scene.member("after", &Spec::default());
        scene.wait_until_finished(Duration::from_secs(20));
        assert!(began.elapsed() < Duration::from_secs(10), "{protocol}: held up for {:?}", began.elapsed());
        after.leave();
        check(&scene.recorder.history(), &Expect::graceful()).assert_ok();
    }
}

/// Lanes that leave drain for long, while others that stay have records waiting all the time. Answers the
/// longest time that one of those was without progress.
pub(crate) fn staying_lanes_beside_a_drain(protocol: Protocol, drain: Duration) -> Option<Duration> {
    // Which lanes leave is the assignor's choice: there must be a slow one among them, and a quick one that
    // stays.
    for _ in 0..8 {
        if let Some(gap) = gap_beside_a_drain(Scene::new("staying", 6, protocol)?, drain) {
            return Some(gap);
        }
    }
    panic!("{protocol}: in eight tries no slow lane left while a quick one stayed");
}

fn gap_beside_a_drain(scene: Scene, drain: Duration) -> Option<Duration> {
    // Records for all of the drain, and more, in every lane.
    scene.produce(60_000);
    let slow = Spec { work: Work::SleepOnEven(drain), ..Spec::default() };
    let first = scene.member("first", &slow);
    wait_until(Duration::from_secs(20), "the first member has all lanes", || first.lanes() == 6);
    let begin = scene.recorder.history().events().last().map(|event| event.at).unwrap_or_default();
    let began = Instant::now();
    let second = scene.member("second", &slow);
    wait_until(Duration::from_secs(40), "the second member has its lanes", || second.lanes() == 3);
    let drained = began.elapsed() > drain.mul_f32(0.6);
    let gap = longest_gap_of_staying_lanes(begin, "first", &scene, &first);
    first.handle.stop();
    second.handle.stop();
    first.leave();
    second.leave();
    gap.filter(|_| drained)
}

/// The longest time between two records finished by quick lanes that the member had before and after.
fn longest_gap_of_staying_lanes(
    begin: Duration,
    member: &str,
    scene: &Scene,
    still: &Member,
) -> Option<Duration> {
    let history = scene.recorder.history();
    let kept: Vec<_> = still.handle.status().lanes.iter().map(|lane| lane.lane.clone()).collect();
    let mut longest = None;
    for lane in kept.iter().filter(|lane| lane.partition.partition % 2 == 1) {
        let is_here = |what: &What| matches!(what, What::Finished { member: by, lane: of, .. } if &**by == member && of == lane);
        let finished = history.events().iter().filter(|event| event.at >= begin && is_here(&event.what));
        let times: Vec<Duration> = finished.map(|event| event.at).collect();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        longest = longest.max(gaps.max());
    }
    longest
}

#[test]
fn lanes_that_stay_do_not_notice_another_lanes_drain() {
    for protocol in [Protocol::Cooperative, Protocol::Consumer] {
        let Some(gap) = staying_lanes_beside_a_drain(protocol, Duration::from_secs(5)) else { return };
        assert!(gap < Duration::from_secs(1), "{protocol}: a staying lane was without progress for {gap:?}");
    }
}
