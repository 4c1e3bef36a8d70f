//! The checker of histories: good ones pass, and each promise has a bad history that breaks it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use laneway_core::{Epoch, LaneId, TopicPartition};
use laneway_testing::history::{Event, Expect, History, Invariant, Order, Report, What, check};

/// Events, one a millisecond, on one partition.
#[derive(Default)]
struct Story {
    now: u64,
    events: Vec<Event>,
}

fn tp() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn lane(epoch: u64) -> LaneId {
    LaneId { partition: tp(), epoch: Epoch(epoch) }
}

impl Story {
    /// Records 0 to `count` are in Kafka, all of one key.
    fn with_records(count: i64) -> Self {
        (0..count).fold(Self::default(), |story, offset| story.produced(offset, 1))
    }

    fn then(mut self, what: What) -> Self {
        self.now += 1;
        self.events.push(Event { at: Duration::from_millis(self.now), what });
        self
    }

    fn after(mut self, millis: u64) -> Self {
        self.now += millis - 1;
        self
    }

    fn produced(self, offset: i64, key: u64) -> Self {
        self.then(What::Produced { partition: tp(), offset, key: Some(key) })
    }
    fn begun(self, member: &str, epoch: u64, offset: i64) -> Self {
        self.then(What::Begun { member: member.into(), lane: lane(epoch), offset })
    }
    fn finished(self, member: &str, epoch: u64, offset: i64) -> Self {
        self.then(What::Finished { member: member.into(), lane: lane(epoch), offset })
    }
    fn cancelled(self, member: &str, epoch: u64, offset: i64) -> Self {
        self.then(What::Cancelled { member: member.into(), lane: lane(epoch), offset })
    }
    fn done(self, member: &str, epoch: u64, offset: i64) -> Self {
        self.begun(member, epoch, offset).finished(member, epoch, offset)
    }
    fn committed(self, member: &str, offset: i64) -> Self {
        self.committed_with_map(member, offset, &[])
    }
    fn committed_with_map(self, member: &str, offset: i64, ahead: &[i64]) -> Self {
        self.then(What::Committed { member: member.into(), partition: tp(), offset, ahead: ahead.to_vec() })
    }
    fn assigned(self, member: &str, epoch: u64) -> Self {
        self.then(What::Assigned { member: member.into(), lane: lane(epoch) })
    }
    fn revoked(self, member: &str, epoch: u64) -> Self {
        self.then(What::Revoked { member: member.into(), lane: lane(epoch) })
    }
    fn lost(self, member: &str, epoch: u64) -> Self {
        self.then(What::Lost { member: member.into(), lane: lane(epoch) })
    }
    fn killed(self, member: &str) -> Self {
        self.then(What::Killed { member: Arc::from(member) })
    }
    fn checked(self, expect: Expect) -> Report {
        check(&History::new(self.events), &expect)
    }
}

/// Asserts that the report breaks this one invariant only, once.
#[track_caller]
fn broken_once(report: &Report, invariant: Invariant, saying: &str) {
    let counts: Vec<_> = report.violation_counts.iter().collect();
    assert_eq!(counts, [(&invariant, &1)], "{report}");
    assert!(report.violations[0].text.contains(saying), "{report}");
}

#[test]
fn a_graceful_handover_breaks_nothing() {
    let report = Story::with_records(4)
        .assigned("a", 1)
        .done("a", 1, 0)
        .begun("a", 1, 1)
        .cancelled("a", 1, 1)
        .done("a", 1, 1)
        .committed("a", 2)
        .revoked("a", 1)
        .assigned("b", 1)
        .done("b", 1, 2)
        .done("b", 1, 3)
        .committed("b", 4)
        .revoked("b", 1)
        .checked(Expect::graceful());
    report.assert_ok();
    let c = report.counts;
    assert_eq!(
        (c.records, c.finished, c.duplicates, c.losses, c.overlaps, c.lanes, c.commits),
        (4, 4, 0, 0, 0, 2, 2)
    );
}

#[test]
fn i1_a_commit_past_an_unfinished_record_is_caught() {
    let story = || Story::with_records(3).assigned("a", 1).done("a", 1, 0).begun("a", 1, 1).committed("a", 2);
    let report = story().finished("a", 1, 1).done("a", 1, 2).checked(Expect::graceful());
    broken_once(&report, Invariant::I1, "a committed 2 for t-0 at 7ms, but offset 1 was not finished");
}

#[test]
fn i1_an_offset_map_that_claims_too_much_is_caught() {
    let story = |ahead: i64| {
        Story::with_records(3)
            .assigned("a", 1)
            .begun("a", 1, 0)
            .done("a", 1, 1)
            .committed_with_map("a", 0, &[ahead])
            .finished("a", 1, 0)
            .done("a", 1, 2)
            .checked(Expect::graceful().order(Order::Any))
    };
    story(1).assert_ok();
    broken_once(&story(2), Invariant::I1, "offset 2 is finished: it was not");
}

#[test]
fn i1_gaps_between_offsets_are_no_records() {
    // As control records and compaction leave them.
    Story::default()
        .produced(3, 1)
        .produced(7, 1)
        .assigned("a", 1)
        .done("a", 1, 3)
        .committed("a", 4)
        .done("a", 1, 7)
        .committed("a", 9)
        .checked(Expect::graceful())
        .assert_ok();
}

#[test]
fn i2_a_handler_that_runs_when_its_lane_is_revoked_or_lost_is_caught() {
    let story = || Story::with_records(1).assigned("a", 1).begun("a", 1, 0);
    let again = |story: Story| story.assigned("b", 1).done("b", 1, 0).checked(Expect::graceful());
    again(story().cancelled("a", 1, 0).revoked("a", 1)).assert_ok();
    broken_once(
        &again(story().revoked("a", 1)),
        Invariant::I2,
        "a still ran 1 records of t-0@1 when it was revoked",
    );
    broken_once(&again(story().lost("a", 1)), Invariant::I2, "when it was lost");
}

#[test]
fn i2_work_in_a_lane_that_has_ended_is_caught() {
    let story = || Story::with_records(2).assigned("a", 1).done("a", 1, 0).committed("a", 1).revoked("a", 1);
    let report = story().begun("a", 1, 1).cancelled("a", 1, 1).assigned("b", 1).done("b", 1, 1);
    broken_once(
        &report.checked(Expect::graceful()),
        Invariant::I2,
        "a began offset 1 of t-0@1 at 7ms, after the lane was revoked",
    );
    let report = story().finished("a", 1, 1).checked(Expect::graceful());
    broken_once(&report, Invariant::I2, "a finished offset 1");
}

#[test]
fn i2_two_members_at_work_on_one_partition_are_caught() {
    let story = || {
        Story::with_records(2)
            .assigned("a", 1)
            .begun("a", 1, 0)
            .assigned("b", 1)
            .begun("b", 1, 1)
            .finished("a", 1, 0)
            .finished("b", 1, 1)
    };
    let report = story().checked(Expect::graceful().order(Order::Any));
    broken_once(
        &report,
        Invariant::I2,
        "b began offset 1 of t-0@1 at 5ms while a (epoch 1) worked on offset 0",
    );
    assert_eq!(report.counts.overlaps, 1);
    let report = story().checked(Expect::graceful().order(Order::Any).overlaps_allowed());
    report.assert_ok();
    assert_eq!(report.counts.overlaps, 1);
}

#[test]
fn i2_two_epochs_of_one_member_never_work_at_once() {
    let report = Story::with_records(2)
        .assigned("a", 1)
        .begun("a", 1, 0)
        .assigned("a", 2)
        .begun("a", 2, 1)
        .finished("a", 1, 0)
        .finished("a", 2, 1)
        .checked(Expect::graceful().order(Order::Any).overlaps_allowed());
    broken_once(&report, Invariant::I2, "a (epoch 1) worked on offset 0");
}

#[test]
fn i2_the_work_of_a_killed_member_ends_with_the_kill() {
    let story =
        Story::with_records(1).assigned("a", 1).begun("a", 1, 0).killed("a").assigned("b", 1).done("b", 1, 0);
    let report = story.checked(Expect::crashes());
    report.assert_ok();
    assert_eq!((report.counts.overlaps, report.counts.duplicates), (0, 0));
}

#[test]
fn i2_a_commit_that_goes_back_is_caught() {
    let story = Story::with_records(2).assigned("a", 1).done("a", 1, 0).done("a", 1, 1).committed("a", 2);
    broken_once(&story.committed("a", 1).checked(Expect::graceful()), Invariant::I2, "back from 2");
}

#[test]
fn i3_a_duplicate_without_a_crash_is_caught_under_both_expectations() {
    for expect in [Expect::graceful(), Expect::crashes()] {
        let report = Story::with_records(1)
            .assigned("a", 1)
            .done("a", 1, 0)
            .revoked("a", 1)
            .assigned("b", 1)
            .done("b", 1, 0)
            .checked(expect);
        broken_once(&report, Invariant::I3, "offset 0 of t-0 was run again by b (epoch 1)");
        assert_eq!(report.counts.duplicates, 1);
    }
}

#[test]
fn i3_what_was_given_back_with_grace_is_not_excused_by_a_later_kill() {
    let report = Story::with_records(1)
        .assigned("a", 1)
        .done("a", 1, 0)
        .revoked("a", 1)
        .killed("a")
        .assigned("b", 1)
        .done("b", 1, 0)
        .checked(Expect::crashes());
    broken_once(&report, Invariant::I3, "had neither been killed nor lost the lane");
}

#[test]
fn i3_a_record_that_two_had_begun_before_either_finished_it_counts_once() {
    let report = Story::with_records(1)
        .begun("a", 1, 0)
        .begun("b", 1, 0)
        .finished("a", 1, 0)
        .finished("b", 1, 0)
        .checked(Expect::graceful().overlaps_allowed());
    broken_once(&report, Invariant::I3, "run again by b");
    assert_eq!(report.counts.duplicates, 1);
}

#[test]
fn i3_a_loss_is_caught() {
    let story = || Story::with_records(3).assigned("a", 1).done("a", 1, 0).done("a", 1, 2);
    let report = story().checked(Expect::graceful().order(Order::Any));
    broken_once(&report, Invariant::I3, "offset 1 of t-0 was never finished");
    assert_eq!(report.counts.losses, 1);
    story().checked(Expect::graceful().order(Order::Any).not_drained()).assert_ok();
    let report = story().committed("a", 3).checked(Expect::graceful().order(Order::Any).not_drained());
    assert_eq!(report.counts.losses, 1);
    assert!(report.broken(Invariant::I3) && report.broken(Invariant::I1), "{report}");
}

#[test]
fn i4_what_was_not_committed_may_come_again_after_a_crash_and_only_that() {
    let story = || Story::with_records(3).assigned("a", 1).done("a", 1, 0).done("a", 1, 1).committed("a", 1);
    for crashed in [story().killed("a"), story().lost("a", 1)] {
        let report = crashed.assigned("b", 1).done("b", 1, 1).done("b", 1, 2).checked(Expect::crashes());
        report.assert_ok();
        assert_eq!(report.counts.duplicates, 1);
    }
    let report =
        story().killed("a").assigned("b", 1).done("b", 1, 1).done("b", 1, 2).checked(Expect::graceful());
    broken_once(&report, Invariant::I3, "nothing was to crash here");
    let report = story()
        .killed("a")
        .assigned("b", 1)
        .done("b", 1, 0)
        .done("b", 1, 1)
        .done("b", 1, 2)
        .checked(Expect::crashes());
    broken_once(
        &report,
        Invariant::I4,
        "offset 0 of t-0 was run again by b (epoch 1) at 11ms, after a (epoch 1) had finished it: it had been committed",
    );
}

#[test]
fn i4_what_the_offset_map_said_is_finished_does_not_come_again() {
    let story = |ahead: &[i64]| {
        Story::with_records(2)
            .assigned("a", 1)
            .begun("a", 1, 0)
            .done("a", 1, 1)
            .committed_with_map("a", 0, ahead)
            .killed("a")
            .assigned("b", 1)
            .done("b", 1, 0)
            .done("b", 1, 1)
            .checked(Expect::crashes().order(Order::Any))
    };
    story(&[]).assert_ok();
    broken_once(&story(&[1]), Invariant::I4, "offset 1 of t-0 was run again");
}

#[test]
fn i4_a_loss_after_a_crash_is_caught() {
    let report = Story::with_records(3)
        .assigned("a", 1)
        .done("a", 1, 0)
        .begun("a", 1, 1)
        .killed("a")
        .assigned("b", 1)
        .done("b", 1, 2)
        .checked(Expect::crashes().order(Order::Any));
    broken_once(&report, Invariant::I4, "offset 1 of t-0 was never finished");
}

#[test]
fn i4_reading_from_before_the_start_is_caught() {
    let story = |from: i64| {
        (from..3)
            .fold(Story::with_records(3).assigned("a", 1), |s, o| s.done("a", 1, o))
            .committed("a", 3)
            .checked(Expect::crashes().starting_at(&tp(), 1))
    };
    story(1).assert_ok();
    assert_eq!(story(1).counts.records, 2);
    broken_once(&story(0), Invariant::I4, "before the offset it was to start at");
}

#[test]
fn i5_disorder_in_a_partition_is_caught() {
    // Side by side.
    let report = Story::with_records(2)
        .assigned("a", 1)
        .begun("a", 1, 0)
        .begun("a", 1, 1)
        .finished("a", 1, 0)
        .finished("a", 1, 1)
        .checked(Expect::graceful());
    broken_once(
        &report,
        Invariant::I5,
        "a began offset 1 of t-0@1 at 4ms, while offset 0, of the same order, was being worked on",
    );
    // A failed record is overtaken by its successor.
    let story = |second: i64, third: i64| {
        Story::with_records(2).begun("a", 1, 0).cancelled("a", 1, 0).done("a", 1, second).done("a", 1, third)
    };
    story(0, 1).checked(Expect::graceful()).assert_ok();
    let report = story(1, 0).checked(Expect::graceful());
    assert_eq!(report.violation_counts[&Invariant::I5], 2, "{report}");
    assert!(report.violations[0].text.contains("before offset 0 of the same order was finished"), "{report}");
    assert!(report.violations[1].text.contains("after offset 1 of the same order"), "{report}");
}

#[test]
fn i5_disorder_across_a_restart_is_caught() {
    let report = Story::with_records(3)
        .assigned("a", 1)
        .done("a", 1, 0)
        .committed("a", 1)
        .revoked("a", 1)
        .assigned("b", 1)
        .done("b", 1, 2)
        .revoked("b", 1)
        .assigned("c", 1)
        .done("c", 1, 1)
        .checked(Expect::graceful());
    broken_once(&report, Invariant::I5, "b began offset 2 of t-0@1");
}

#[test]
fn i5_keys_are_in_order_each_and_side_by_side() {
    let story = |first: i64, second: i64| {
        Story::default()
            .produced(0, 1)
            .produced(1, 2)
            .produced(2, 1)
            .assigned("a", 1)
            .begun("a", 1, first)
            .begun("a", 1, second)
            .finished("a", 1, first)
            .finished("a", 1, second)
            .done("a", 1, 3 - first - second)
    };
    story(0, 1).checked(Expect::graceful().order(Order::Key)).assert_ok();
    story(1, 0).checked(Expect::graceful().order(Order::Key)).assert_ok();
    let report = story(0, 2).checked(Expect::graceful().order(Order::Key));
    broken_once(&report, Invariant::I5, "a began offset 2 of t-0@1");
    story(0, 2).checked(Expect::graceful().order(Order::Any)).assert_ok();
    assert!(story(0, 1).checked(Expect::graceful()).broken(Invariant::I5));
}

#[test]
fn i5_records_without_a_key_are_in_no_order_of_keys() {
    let none = |story: Story, offset| story.then(What::Produced { partition: tp(), offset, key: None });
    let report = (0..2).fold(Story::default(), none).assigned("a", 1).done("a", 1, 1).done("a", 1, 0);
    report.checked(Expect::graceful().order(Order::Key)).assert_ok();
}

#[test]
fn i5_repeats_after_a_crash_are_in_order_too() {
    let story = |first: i64, second: i64| {
        Story::with_records(2)
            .assigned("a", 1)
            .done("a", 1, 0)
            .done("a", 1, 1)
            .killed("a")
            .assigned("b", 1)
            .done("b", 1, first)
            .done("b", 1, second)
            .checked(Expect::crashes())
    };
    story(0, 1).assert_ok();
    broken_once(&story(1, 0), Invariant::I5, "after offset 1 of the same order");
}

#[test]
fn i6_a_stray_is_caught() {
    let report = Story::with_records(1)
        .assigned("a", 1)
        .then(What::Stray { member: "a".into(), partition: tp(), offset: 0 })
        .done("a", 1, 0)
        .checked(Expect::graceful());
    broken_once(&report, Invariant::I6, "a got offset 0 of t-0 on a main queue");
    assert_eq!(report.counts.strays, 1);
}

#[test]
fn where_nothing_was_recorded_as_produced_what_was_begun_counts() {
    let story = || Story::default().assigned("a", 1).done("a", 1, 4).begun("a", 1, 5);
    let report = story().checked(Expect::graceful());
    report.assert_ok();
    assert_eq!((report.counts.records, report.counts.finished), (2, 1));
    let report = story().committed("a", 6).checked(Expect::graceful());
    assert!(report.broken(Invariant::I1), "{report}");
}

#[test]
fn a_history_that_makes_no_sense_is_told() {
    let report =
        Story::with_records(1).assigned("a", 1).done("a", 1, 0).done("a", 1, 5).checked(Expect::graceful());
    broken_once(&report, Invariant::History, "nobody is known to have produced");
    let report =
        Story::with_records(1).assigned("a", 1).assigned("a", 1).done("a", 1, 0).checked(Expect::graceful());
    broken_once(&report, Invariant::History, "opened a second time");
    let report = Story::with_records(1).killed("a").begun("a", 1, 0).cancelled("a", 1, 0).done("b", 1, 0);
    broken_once(&report.checked(Expect::crashes()), Invariant::History, "its member being killed");
}

#[test]
fn the_longest_silence_is_measured_while_records_wait() {
    let report = Story::with_records(2) // at 1 and 2 ms
        .after(1_000)
        .assigned("a", 1) // at 1,002: it counts from here
        .after(10)
        .begun("a", 1, 0) // 1,012
        .finished("a", 1, 0) // 1,013: a silence of 11 ms
        .after(50)
        .done("a", 1, 1) // 1,063 and 1,064: a silence of 51 ms
        .after(5_000)
        .produced(2, 1) // 6,064: nothing waited till here
        .after(20)
        .done("a", 1, 2) // 6,084 and 6,085: 21 ms
        .checked(Expect::graceful());
    report.assert_ok();
    assert_eq!(report.longest_silence(&tp()), Duration::from_millis(51));
    assert_eq!(report.longest_silence_of_all().unwrap().1.from, Duration::from_millis(1_012));
    // What lies before the start does not wait.
    let report = Story::with_records(1).assigned("a", 1).after(90).revoked("a", 1);
    let report = report.checked(Expect::graceful().starting_at(&tp(), 1));
    assert_eq!(report.longest_silence(&tp()), Duration::ZERO);
    // One that lasts to the end counts.
    let report =
        Story::with_records(1).assigned("a", 1).after(90).revoked("a", 1).checked(Expect::graceful());
    assert_eq!(report.longest_silence(&tp()), Duration::from_millis(90));
}

#[test]
fn many_violations_are_counted_and_some_are_told() {
    let report =
        (0..100).fold(Story::with_records(100), |s, o| s.begun("a", 1, o)).checked(Expect::graceful());
    assert_eq!(report.violation_counts[&Invariant::I3], 100);
    assert_eq!(report.violations.iter().filter(|v| v.invariant == Invariant::I3).count(), 10);
    assert!(report.to_string().contains("I3 broken 100 times:"), "{report}");
}
