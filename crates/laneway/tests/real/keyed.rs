//! Records by key: many at once, each key in its order, through failures, moves and crashes.

use std::time::{Duration, Instant};

use laneway::Protocol;
use laneway_core::map::{Place, decode};
use laneway_testing::history::{Expect, Order, Report, What, check};
use laneway_testing::wait_until;

use crate::moves::Rng;
use crate::support::{Member, PROTOCOLS, Scene, Spec, Work};

/// What came of moves.
pub(crate) struct Moved {
    pub(crate) report: Report,
    pub(crate) moves: usize,
    pub(crate) took: Duration,
    /// The most records of a lane that a commit had no room to remember.
    pub(crate) forgotten: u64,
}

/// Keys of which every tenth try fails, worked on while a member joins or leaves every so often.
pub(crate) fn keyed_moves(protocol: Protocol, keys: usize, each: usize, pause: Duration) -> Option<Moved> {
    let scene = Scene::new("keyed", 12, protocol)?;
    let spec = Spec { work: Work::Keyed(Duration::from_millis(20)), ..Spec::default() };
    scene.produce_keyed(keys, each);
    let mut rng = Rng(0x0123_4567_89ab_cdef);
    let (mut number, mut moves) = (0, 0);
    let mut join = |members: &mut Vec<Member>| {
        number += 1;
        members.push(scene.member(&format!("m{number}"), &spec));
    };
    let mut members = Vec::new();
    join(&mut members);
    join(&mut members);
    let begun = Instant::now();
    let mut forgotten = 0;
    loop {
        std::thread::sleep(pause);
        let lanes: Vec<_> = members.iter().flat_map(|member| member.handle.status().lanes).collect();
        forgotten = forgotten.max(lanes.iter().map(|lane| lane.forgotten).max().unwrap_or_default());
        if lanes.iter().filter_map(|lane| lane.watermark).sum::<i64>() >= (keys * each) as i64 {
            break;
        }
        if members.len() >= 4 || (members.len() > 1 && rng.below(2) == 0) {
            let index = usize::try_from(rng.below(members.len() as u64)).unwrap();
            let summary = members.swap_remove(index).leave();
            assert_eq!((summary.unfinished, summary.uncommitted), (0, 0));
        } else {
            join(&mut members);
        }
        moves += 1;
    }
    let took = begun.elapsed();
    for member in members {
        member.leave();
    }
    let report = check(&scene.recorder.history(), &Expect::graceful().order(Order::Key));
    Some(Moved { report, moves, took, forgotten })
}

/// I3 and I5, by key.
#[test]
fn keys_keep_their_order_through_failures_and_moves() {
    for protocol in PROTOCOLS {
        let Some(moved) = keyed_moves(protocol, 200, 60, Duration::from_secs(2)) else { return };
        let report = moved.report;
        report.assert_ok();
        assert_eq!(report.counts.finished, 12_000);
        println!("{protocol}, keyed: {report}");
    }
}

/// What came of a member that was killed.
pub(crate) struct Killed {
    pub(crate) report: Report,
    /// Records that its last commit knew as finished above the committed offset, and that were not, below the last of
    /// those.
    pub(crate) ahead: usize,
    pub(crate) unfinished: usize,
    /// All records up to there.
    pub(crate) read: usize,
}

/// A member of which so many of a hundred keys do not get on is killed after a while; whoever takes over does exactly
/// what was not known to be finished at its last commit.
pub(crate) fn killed_with_unfinished(protocol: Protocol, keys: u64, after: Duration) -> Option<Killed> {
    let scene = Scene::with_processes("keyed-killed", 4, protocol)?;
    let mut properties = Vec::new();
    if protocol != Protocol::Consumer {
        properties.push(("session.timeout.ms".into(), "6000".into()));
    }
    let spec = Spec { work: Work::Keyed(Duration::from_millis(20)), properties, ..Spec::default() };
    scene.produce_keyed(200, 200);
    let work = Work::KeyedFailing(Duration::from_millis(20), keys);
    let victim = scene.process("victim", &Spec { work, ..spec.clone() });
    let is_commit = |what: &What| matches!(what, What::Committed { offset, .. } if *offset > 0);
    wait_until(Duration::from_secs(60), "the victim has committed in the middle of its work", || {
        scene.recorder.history().events().iter().filter(|event| is_commit(&event.what)).count() > 4
    });
    std::thread::sleep(after);
    victim.kill().expect("killed");
    scene.recorder.killed("victim");
    // What its last commit knew, as a checker sees it: a repeat of that is a duplicate.
    let partitions: Vec<_> = (0..4).map(|number| scene.partition(number)).collect();
    let committed = scene.admin().committed(&scene.group, &partitions).expect("committed offsets");
    let (mut remembered, mut unfinished, mut read) = (0, 0, 0);
    for (partition, committed) in &committed {
        let place = Place { group: &scene.group, topic: &scene.topic, partition: partition.partition };
        let text = String::from_utf8(committed.metadata.clone()).expect("UTF-8");
        let ahead: Vec<i64> = if text.is_empty() {
            Vec::new()
        } else {
            let found = decode(&text, place, committed.offset).expect("a map of this partition");
            found.ranges().iter().flat_map(|(first, last)| *first..=*last).collect()
        };
        remembered += ahead.len();
        let end = ahead.last().map_or(committed.offset, |last| last + 1);
        unfinished += usize::try_from(end - committed.offset).expect("a map above its offset") - ahead.len();
        read += usize::try_from(end).expect("an offset");
        scene.recorder.member("victim").committed_with_map(partition, committed.offset, &ahead);
    }
    assert!(remembered > 0, "nothing was finished ahead: {committed:?}");
    let next = scene.process("next", &spec);
    scene.wait_until_finished(Duration::from_secs(120));
    next.terminate().expect("terminated");
    assert!(next.wait(Duration::from_secs(35)).expect("an end").success(), "{:?}", next.stderr());
    let report = check(&scene.recorder.history(), &Expect::crashes().order(Order::Key));
    println!("{protocol}, killed with {remembered} remembered ahead: {report}");
    Some(Killed { report, ahead: remembered, unfinished, read })
}

/// I4, by key.
#[test]
fn a_killed_member_repeats_exactly_what_its_last_commit_did_not_know() {
    for protocol in PROTOCOLS {
        let Some(killed) = killed_with_unfinished(protocol, 0, Duration::ZERO) else { return };
        killed.report.assert_ok();
    }
}
