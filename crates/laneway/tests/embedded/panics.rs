//! Panics on the client thread: of the function for events, and of a fetcher.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use laneway::fetcher::{FetchError, Fetcher, FetcherEvent, Started, Wake};
use laneway::{ErrorKind, Event, Position, Protocol, Record, TopicPartition};
use laneway_testing::{ScriptedFetcher, unique, wait_until};

use crate::bench::{Bench, LONG};
use crate::logged;

#[test]
fn a_function_for_events_that_panics_is_told_in_the_log_and_the_consumer_goes_on() {
    logged::keep();
    let bench = Bench::new(1);
    let said = unique("said");
    let (panics, text) = (Arc::new(AtomicUsize::new(0)), said.clone());
    let counted = panics.clone();
    let builder = bench.builder().fetcher(bench.fetcher.clone()).on_event(move |event| {
        counted.fetch_add(1, Ordering::SeqCst);
        panic!("{text} of {event:?}")
    });
    let running = bench.run(builder, |_: Record| std::future::ready(()));
    bench.fetcher.deliver(&bench.partition(0), 0..10, Some(10));
    wait_until(LONG, "all is handled and committed", || {
        running.0.status().lanes.first().is_some_and(|lane| lane.committed == Some(10))
    });
    assert_eq!(bench.end(running).finished, 10);
    assert!(panics.load(Ordering::SeqCst) >= 3);
    let logs = logged::logs();
    let lines: Vec<_> = logs.lines().filter(|line| line.contains(&said)).collect();
    assert_eq!(lines.len(), panics.load(Ordering::SeqCst));
    assert!(lines.iter().all(|line| line.contains("the function for events panicked")), "{lines:?}");
    for event in ["Assigned", "Committed", "Stopped"] {
        assert!(lines.iter().any(|line| line.contains(event)), "{event}: {lines:?}");
    }
}

/// Panics when it is told to.
struct Panicking(ScriptedFetcher, Arc<AtomicBool>);

impl Fetcher for Panicking {
    fn start(&mut self, partition: &TopicPartition, from: Position, wake: Wake) -> Started {
        self.0.start(partition, from, wake)
    }

    fn stop(&mut self, partitions: &[TopicPartition]) -> Result<(), FetchError> {
        self.0.stop(partitions)
    }

    fn forget(&mut self, topics: &BTreeSet<String>) -> BTreeSet<TopicPartition> {
        self.0.forget(topics)
    }

    fn fetching(&self) -> Vec<TopicPartition> {
        self.0.fetching()
    }

    fn poll(&mut self) -> Vec<FetcherEvent> {
        assert!(!self.1.load(Ordering::SeqCst), "as a test");
        self.0.poll()
    }
}

/// It is told when its future is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_panic_of_the_client_thread_ends_the_run_with_its_text_and_all_lanes() {
    for protocol in [Protocol::Cooperative, Protocol::Consumer] {
        let bench = Bench::new(1);
        let (panic, begun, dropped) = (Arc::<AtomicBool>::default(), Arc::default(), Arc::default());
        let (begins, drops): (Arc<AtomicBool>, Arc<AtomicBool>) = (Arc::clone(&begun), Arc::clone(&dropped));
        let fetcher = Panicking(bench.fetcher.clone(), panic.clone());
        let (handle, run) =
            bench.run(bench.builder().protocol(protocol).fetcher(fetcher), move |_: Record| {
                begins.store(true, Ordering::SeqCst);
                let dropped = Dropped(drops.clone());
                async move {
                    std::future::pending::<()>().await;
                    drop(dropped);
                }
            });
        bench.fetcher.deliver(&bench.partition(0), 0..10, None);
        wait_until(LONG, "a record is handled", || begun.load(Ordering::SeqCst));
        panic.store(true, Ordering::SeqCst);
        let since = Instant::now();
        let ended = bench.runtime.block_on(async { tokio::time::timeout(LONG, run).await });
        let error = ended.expect("an end").unwrap().expect_err("a panic");
        assert!(since.elapsed() < Duration::from_secs(10));
        assert_eq!(error.kind(), ErrorKind::Fatal);
        assert!(error.to_string().contains("panicked: as a test"), "{error}");
        wait_until(LONG, "the lane is cancelled", || dropped.load(Ordering::SeqCst));
        let events = bench.events.lock().unwrap();
        assert!(matches!(events.last(), Some(Event::Stopped { reason }) if reason.contains("as a test")));
        drop(events);
        let error = bench.runtime.block_on(handle.commit_now()).expect_err("nobody to ask");
        assert_eq!(error.kind(), ErrorKind::Ended);
    }
}
