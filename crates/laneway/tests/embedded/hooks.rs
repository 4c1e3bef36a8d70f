//! Hooks around the coming and going of lanes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use laneway::{Closing, Event, Handle, HookError, LaneHooks, LaneId, LaneStart, Record};
use laneway_testing::{ApiKey, Producer, wait_until};
use tokio::sync::Semaphore;

use crate::bench::{Bench, LONG};

/// What a hook does when it is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Returns,
    Fails,
    Panics,
    Hangs,
    /// Waits for a permit.
    Waits,
}

/// Notes its calls, and does in each what is wanted: by name, or returns.
#[derive(Clone)]
struct Noted {
    log: Arc<Mutex<Vec<String>>>,
    does: Arc<Mutex<HashMap<&'static str, Vec<Does>>>>,
    gate: Arc<Semaphore>,
}

impl Noted {
    fn new() -> Self {
        Self { log: Arc::default(), does: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
    }

    /// What the hook of this name (or of this name and lane) does at its next calls; then it returns.
    fn set(&self, hook: &'static str, does: &[Does]) {
        self.does.lock().unwrap().insert(hook, does.iter().rev().copied().collect());
    }

    fn note(&self, what: String) {
        self.log.lock().unwrap().push(what);
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn has(&self, what: &str) -> bool {
        self.log().iter().any(|line| line == what)
    }

    async fn call(&self, hook: &'static str, what: String) -> Result<(), HookError> {
        let does = {
            let mut does = self.does.lock().unwrap();
            let of_lane = does.get_mut(&*format!("{hook} {what}")).and_then(Vec::pop);
            of_lane.or_else(|| does.get_mut(hook)?.pop()).unwrap_or(Does::Returns)
        };
        self.note(format!("{hook} {what}"));
        match does {
            Does::Returns => {}
            Does::Fails => return Err("as it was told".into()),
            Does::Panics => panic!("as it was told"),
            Does::Hangs => std::future::pending().await,
            Does::Waits => self.gate.acquire().await.unwrap().forget(),
        }
        self.note(format!("{hook} {what}: done"));
        Ok(())
    }
}

impl LaneHooks for Noted {
    async fn before_open(&self, lane: &LaneId) -> Result<(), HookError> {
        self.call("before_open", lane.partition.partition.to_string()).await
    }

    async fn before_close(&self, lane: &LaneId, closing: Closing) -> Result<(), HookError> {
        let lost = if closing.lost { " lost" } else { "" };
        self.call("before_close", format!("{}{lost}", lane.partition.partition)).await
    }

    async fn after_assign(&self, lanes: &[LaneStart]) -> Result<(), HookError> {
        self.call("after_assign", lanes.len().to_string()).await
    }

    async fn after_revoke(&self, lanes: &[LaneId], drained: bool) -> Result<(), HookError> {
        self.call("after_revoke", format!("{} {drained}", lanes.len())).await
    }

    async fn after_loss(&self, lanes: &[LaneId], _: &str) -> Result<(), HookError> {
        self.call("after_loss", lanes.len().to_string()).await
    }
}

/// Notes each record that it finishes.
fn handler(noted: &Noted) -> impl Fn(Record) -> std::future::Ready<()> + Send + Sync + 'static {
    let noted = noted.clone();
    move |record: Record| {
        noted.note(format!("record {}@{}", record.partition(), record.offset()));
        std::future::ready(())
    }
}

fn builder(bench: &Bench, noted: &Noted) -> laneway::Builder {
    bench
        .builder()
        .fetcher(bench.fetcher.clone())
        .backoff(Duration::from_millis(1), Duration::from_millis(10))
        .hooks(noted.clone())
}

fn errors_of<'a>(errors: &'a [String], hook: &str, what: &str) -> Vec<&'a String> {
    errors.iter().filter(|error| error.contains(hook) && error.contains(what)).collect()
}

#[test]
fn no_record_flows_before_a_lane_may_open_and_its_partition_is_given_back_after_it_may_close() {
    let bench = Bench::new(1);
    let noted = Noted::new();
    noted.set("before_open", &[Does::Fails, Does::Panics, Does::Waits]);
    let running = bench.run(builder(&bench, &noted), handler(&noted));
    bench.fetcher.deliver(&bench.partition(0), 0..3, None);
    wait_until(LONG, "it is called for the third time", || {
        noted.log().iter().filter(|line| *line == "before_open 0").count() == 3
    });
    assert!(!noted.has("record 0@0"));
    noted.gate.add_permits(1);
    wait_until(LONG, "all is committed", || bench.committed(0) == 3);
    let mut before: Vec<String> = noted.log();
    before.retain(|line| !line.starts_with("after"));
    let expected = [
        "before_open 0",
        "before_open 0",
        "before_open 0",
        "before_open 0: done",
        "record 0@0",
        "record 0@1",
        "record 0@2",
    ];
    assert_eq!(before, expected);
    let errors = bench.errors();
    let lane = format!("{}@1", bench.partition(0));
    assert_eq!(errors_of(&errors, "before_open", &format!("{lane} failed: as it was told")).len(), 1);
    assert_eq!(errors_of(&errors, "before_open", &format!("{lane} panicked: as it was told")).len(), 1);

    noted.set("before_close", &[Does::Waits]);
    running.0.stop();
    wait_until(LONG, "it may close", || noted.has("before_close 0"));
    let is_given_back = || bench.events.lock().unwrap().iter().any(|it| matches!(it, Event::Revoked { .. }));
    assert!(!is_given_back() && !noted.has("after_revoke 1 true"));
    noted.gate.add_permits(1);
    let summary = bench.end(running);
    assert_eq!((summary.finished, summary.unfinished, summary.uncommitted), (3, 0, 0));
    let log = noted.log();
    let place = |what: &str| log.iter().position(|line| line == what).expect(what);
    assert!(place("after_assign 1") < place("before_close 0"), "{log:?}");
    assert!(place("before_close 0: done") < place("after_revoke 1 true"), "{log:?}");
    assert_eq!(log.last().unwrap(), "after_revoke 1 true: done");
    assert_eq!(bench.fetcher.open_queues(), 0);
}

/// What hangs is dropped at the drain deadline, and the end of the stop comes by its own.
#[test]
fn hooks_that_hang_hold_nothing_up_past_the_deadline() {
    let bench = Bench::new(2);
    let noted = Noted::new();
    noted.set("before_close", &[Does::Hangs, Does::Hangs]);
    noted.set("after_revoke", &[Does::Hangs]);
    let drain = Duration::from_millis(300);
    let running = bench.run(builder(&bench, &noted).drain_deadline(drain), handler(&noted));
    bench.fetcher.deliver(&bench.partition(0), 0..3, None);
    wait_until(LONG, "all is finished", || noted.has("record 0@2"));
    wait_until(LONG, "the other lane is open", || noted.has("before_open 1: done"));
    let began = Instant::now();
    let summary = bench.end(running);
    assert!(began.elapsed() < drain + Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!((summary.finished, summary.uncommitted, summary.detached), (3, 0, 0));
    assert_eq!(bench.committed(0), 3);
    let errors = bench.errors();
    assert_eq!(errors_of(&errors, "before_close", "did not end in time").len(), 2, "{errors:?}");
    assert_eq!(errors_of(&errors, "after_revoke", "did not end").len(), 1, "{errors:?}");
    assert!(matches!(bench.events.lock().unwrap().last(), Some(Event::Stopped { .. })));
}

#[test]
fn a_hook_that_panics_or_fails_at_the_end_is_told_and_holds_nothing_up() {
    for does in [Does::Panics, Does::Fails] {
        let bench = Bench::new(1);
        let noted = Noted::new();
        for hook in ["after_assign", "before_close", "after_revoke"] {
            noted.set(hook, &[does]);
        }
        let running = bench.run(builder(&bench, &noted), handler(&noted));
        bench.fetcher.deliver(&bench.partition(0), 0..3, None);
        wait_until(LONG, "all is committed", || bench.committed(0) == 3);
        let summary = bench.end(running);
        assert_eq!((summary.finished, summary.uncommitted), (3, 0));
        let errors = bench.errors();
        for hook in ["after_assign", "before_close", "after_revoke"] {
            assert_eq!(errors_of(&errors, hook, "as it was told").len(), 1, "{hook}: {errors:?}");
        }
    }
}

/// One lane's hook holds up no other lane, and no stop; what never opened does not close.
#[test]
fn a_lane_that_may_not_open_yet_ends_at_once_and_holds_up_no_other() {
    let bench = Bench::new(2);
    let noted = Noted::new();
    noted.set("before_open 0", &[Does::Hangs]);
    let running = bench.run(builder(&bench, &noted), handler(&noted));
    bench.fetcher.deliver(&bench.partition(1), 0..3, None);
    wait_until(LONG, "the other lane is through", || noted.has("record 1@2"));
    let began = Instant::now();
    let summary = bench.end(running);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(summary.finished, 3);
    let log = noted.log();
    let closed: Vec<_> = log.iter().filter(|line| line.starts_with("before_close")).collect();
    assert_eq!(closed, ["before_close 1", "before_close 1: done"]);
    assert_eq!(bench.fetcher.open_queues(), 0);
}

/// A handler that uses up the drain leaves a second to the hook, and what was finished is committed all the same.
#[test]
fn a_lane_that_is_cancelled_still_closes() {
    let bench = Bench::new(1);
    let noted = Noted::new();
    let hangs = noted.clone();
    let builder = builder(&bench, &noted).drain_deadline(Duration::from_millis(200));
    let running = bench.run(builder, move |record: Record| {
        let noted = hangs.clone();
        async move {
            noted.note(format!("record {}@{}", record.partition(), record.offset()));
            if record.offset() == 2 {
                std::future::pending::<()>().await;
            }
        }
    });
    bench.fetcher.deliver(&bench.partition(0), 0..5, None);
    wait_until(LONG, "it hangs", || noted.has("record 0@2"));
    let summary = bench.end(running);
    assert_eq!((summary.finished, summary.unfinished), (2, 1));
    assert_eq!(bench.committed(0), 2);
    assert!(
        noted.has("before_close 0: done") && noted.has("after_revoke 1 false: done"),
        "{:?}",
        noted.log()
    );
}

#[test]
fn a_lane_that_is_opened_again_closes_and_opens() {
    let bench = Bench::new(1);
    let noted = Noted::new();
    let running = bench.run(builder(&bench, &noted), handler(&noted));
    bench.fetcher.deliver(&bench.partition(0), 0..2, None);
    wait_until(LONG, "all is finished", || noted.has("record 0@1"));
    bench.runtime.block_on(running.0.seek(&bench.partition(0), 1)).expect("a lane elsewhere");
    wait_until(LONG, "it is opened again", || bench.fetcher.starts().len() == 2);
    bench.fetcher.deliver(&bench.partition(0), 1..2, None);
    wait_until(LONG, "it came again", || {
        noted.log().iter().filter(|line| *line == "record 0@1").count() == 2
    });
    bench.end(running);
    let mut log = noted.log();
    log.retain(|line| !line.ends_with("done"));
    let expected = [
        "before_open 0",
        "after_assign 1",
        "record 0@0",
        "record 0@1",
        "before_close 0",
        "before_open 0",
        "record 0@1",
        "before_close 0",
        "after_revoke 1 true",
    ];
    // When the hook after an assignment runs is its own task's to say.
    let place = log.iter().position(|line| line == "after_assign 1").expect("it is called");
    let told = log.remove(place);
    log.insert(1, told);
    assert_eq!(log, expected);
}

/// Lanes that are streams have their hooks, too: the first record comes behind the one, and the last ack before the
/// other.
#[test]
fn a_lane_that_is_a_stream_opens_and_closes_in_the_same_way() {
    let bench = Bench::new(1);
    let noted = Noted::new();
    noted.set("before_open", &[Does::Waits]);
    let mut lanes = {
        let _on = bench.runtime.enter();
        builder(&bench, &noted).build().expect("a consumer").into_lanes().expect("lanes")
    };
    bench.fetcher.deliver(&bench.partition(0), 0..3, None);
    bench.runtime.block_on(async {
        let mut lane = tokio::time::timeout(LONG, lanes.next()).await.expect("in time").expect("a lane");
        let early = tokio::time::timeout(Duration::from_millis(100), lane.next()).await;
        assert!(early.is_err(), "a record came before the lane was open");
        noted.gate.add_permits(1);
        let first = lane.next().await.expect("a record");
        let second = lane.next().await.expect("a record");
        first.ack().expect("in time");
        let handle = lanes.handle();
        let ended = tokio::spawn(lanes.finish());
        tokio::time::timeout(LONG, async {
            while handle.status().lanes.iter().any(|lane| lane.state == laneway::LaneState::Running) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("it drains");
        assert!(!noted.has("before_close 0"));
        second.ack().expect("in time");
        ended.await.unwrap().expect("an end");
    });
    assert!(noted.has("before_close 0: done"), "{:?}", noted.log());
    assert_eq!(bench.committed(0), 2);
}

/// The group goes on without the member: its lane closes, told that it is lost, and is opened again.
#[test]
fn a_lane_that_is_lost_closes_before_it_is_told_and_before_it_opens_again() {
    let bench = Bench::new(1);
    let noted = Noted::new();
    let builder = builder(&bench, &noted)
        .property("heartbeat.interval.ms", "100")
        .property("session.timeout.ms", "2000");
    let running = bench.run(builder, handler(&noted));
    bench.fetcher.deliver(&bench.partition(0), 0..2, None);
    wait_until(LONG, "all is committed", || bench.committed(0) == 2);
    noted.set("before_close", &[Does::Hangs]);
    bench.kafka.push_errors(ApiKey::HEARTBEAT, &[UNKNOWN_MEMBER_ID]);
    wait_until(LONG, "it is opened again", || {
        noted.log().iter().filter(|line| *line == "before_open 0: done").count() == 2
    });
    wait_until(LONG, "it is told", || noted.has("after_loss 1: done"));
    bench.end(running);
    let mut log = noted.log();
    log.retain(|line| line.starts_with("before") || line == "after_loss 1");
    let loss = log.iter().position(|line| line == "after_loss 1").expect("it is called");
    log.remove(loss);
    let expected = [
        "before_open 0",
        "before_open 0: done",
        "before_close 0 lost",
        "before_open 0",
        "before_open 0: done",
        "before_close 0",
        "before_close 0: done",
    ];
    assert_eq!(log, expected);
    assert!(loss >= 3, "it was told before the lane had ended");
    let errors = bench.errors();
    assert_eq!(errors_of(&errors, "before_close", "did not end in time").len(), 1, "{errors:?}");
}

/// What a broker says to a heartbeat of a member that it has forgotten.
const UNKNOWN_MEMBER_ID: i32 = 25;

/// Begins each lane where something else than the group says.
#[derive(Clone, Default)]
struct Begins {
    handle: Arc<OnceLock<Handle>>,
    calls: Arc<Mutex<usize>>,
}

impl LaneHooks for Begins {
    async fn before_open(&self, lane: &LaneId) -> Result<(), HookError> {
        *self.calls.lock().unwrap() += 1;
        let handle = self.handle.get().ok_or("there is no handle yet")?;
        Ok(handle.seek(&lane.partition, 5).await?)
    }
}

/// The lane begins anew for the seek, and the seek of that begin has nothing to do any more.
#[test]
fn a_hook_may_seek_before_its_lane_opens() {
    let bench = Bench::new(1);
    let producer = Producer::new(bench.kafka.brokers(), &[]).unwrap();
    for _ in 0..10 {
        producer.send(&bench.topic, 0, None, Some(b"x"), &[], None).unwrap();
    }
    producer.flush().unwrap();
    let (begins, read) = (Begins::default(), Arc::new(Mutex::new(Vec::new())));
    let noted = read.clone();
    let running = bench.run(bench.builder().hooks(begins.clone()), move |record: Record| {
        noted.lock().unwrap().push(record.offset());
        std::future::ready(())
    });
    begins.handle.set(running.0.clone()).ok();
    wait_until(LONG, "what is behind is committed", || bench.committed(0) == 10);
    bench.end(running);
    assert_eq!(*read.lock().unwrap(), [5, 6, 7, 8, 9]);
    assert!(*begins.calls.lock().unwrap() <= 3, "one may have come before there was a handle");
}
