//! Brokers that take less metadata with a commit than is usual.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering as Atomic};
use std::time::Duration;

use laneway::{Consumer, Event, OffsetReset, Ordering, Protocol, Record};
use laneway_testing::history::Recorder;
use laneway_testing::{Producer, wait_until};

use crate::support::{Scene, own_kafka_with, runtime};

const INTERVAL: Duration = Duration::from_secs(4);

/// Some records hang in their handler, so that there is much to remember, and all but nothing of it can be. The first
/// offset is committed all the same before the second interval is over, where it takes a good dozen of them to find how
/// much the broker takes.
#[test]
fn progress_is_committed_at_once_while_it_is_found_how_much_metadata_a_broker_takes() {
    for limit in ["100", "0"] {
        let Some(kafka) = own_kafka_with(&[("offset.metadata.max.bytes", limit)]) else { return };
        let scene = Scene::on(&kafka, "metadata", 1, Protocol::Consumer, Recorder::in_memory(), None);
        let producer = Producer::new(&scene.brokers, &[]).expect("a producer");
        for _ in 0..20_000 {
            producer.send(&scene.topic, 0, None, Some(b"x"), &[], None).expect("sent");
        }
        producer.flush().expect("delivered");
        let (committed, refused) = (Arc::new(AtomicI64::new(-1)), Arc::new(AtomicI64::new(0)));
        let (noted, counted) = (committed.clone(), refused.clone());
        let consumer = Consumer::builder()
            .brokers(&scene.brokers)
            .group(&scene.group)
            .topics([&scene.topic])
            .protocol(scene.protocol)
            .offset_reset(OffsetReset::Earliest)
            .ordering(Ordering::Unordered)
            .concurrency(1_000)
            .commit_interval(INTERVAL)
            .drain_deadline(Duration::from_secs(1))
            .on_event(move |event| match event {
                Event::Committed { offsets } => noted.store(offsets[0].1, Atomic::SeqCst),
                Event::Error { message } if message.contains("takes no metadata of this size") => {
                    counted.fetch_add(1, Atomic::SeqCst);
                }
                _ => {}
            })
            .build()
            .expect("a consumer");
        let handle = consumer.handle();
        let run = runtime().spawn(consumer.run(|record: Record| async move {
            let offset = record.offset().unsigned_abs();
            if offset >= 100 && offset.wrapping_mul(2_654_435_761) % 1_000 < 20 {
                std::future::pending::<()>().await;
            }
        }));
        wait_until(Duration::from_secs(60), "a map is refused", || refused.load(Atomic::SeqCst) > 0);
        wait_until(INTERVAL, "progress is committed", || committed.load(Atomic::SeqCst) >= 100);
        assert_eq!(refused.load(Atomic::SeqCst), 1, "only the first commit was tried with a map");
        let forgotten = handle.status().lanes[0].forgotten;
        assert!(forgotten > 10_000, "{forgotten} of what is finished ahead can't be remembered");
        handle.stop();
        runtime().block_on(run).unwrap().expect("an end");
    }
}
