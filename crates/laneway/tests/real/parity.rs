//! What a handle does to a running consumer, on a real Kafka.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use laneway::{Consumer, ErrorKind, OffsetReset, Record};
use laneway_testing::{Producer, wait_until};

use crate::support::{PROTOCOLS, Scene, runtime};

#[test]
fn a_running_consumer_is_committed_paused_moved_and_asked() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::new("parity", 2, protocol) else { return };
        let (first, second) = (scene.partition(0), scene.partition(1));
        let both = [first.clone(), second.clone()];
        let producer = Producer::new(&scene.brokers, &[]).expect("a producer");
        let produce = |partition: i32, from: i64, to: i64| {
            for number in from..to {
                let time = Some(START + number * 1_000);
                producer.send(&scene.topic, partition, None, Some(b"x"), &[], time).expect("sent");
            }
            producer.flush().expect("delivered");
        };
        produce(0, 0, 20);
        produce(1, 0, 20);
        let seen: Arc<Mutex<Vec<(i32, i64)>>> = Arc::default();
        let noted = seen.clone();
        let consumer = Consumer::builder()
            .brokers(&scene.brokers)
            .group(&scene.group)
            .topics([&scene.topic])
            .protocol(protocol)
            .offset_reset(OffsetReset::Earliest)
            // Only what is asked for is committed, and starts.
            .commit_interval(Duration::from_secs(3_600))
            .build()
            .expect("a consumer");
        let handle = consumer.handle();
        let running = runtime().spawn(consumer.run(move |record: Record| {
            noted.lock().unwrap().push((record.partition(), record.offset()));
            std::future::ready(())
        }));
        let seen_of = |partition: i32| {
            let seen = seen.lock().unwrap();
            let of = seen.iter().filter(|(of, _)| *of == partition).map(|(_, offset)| *offset);
            of.collect::<Vec<i64>>()
        };
        wait_until(LONG, "all is read", || seen.lock().unwrap().len() == 40);
        let ask = |what: &str| {
            let committed = runtime().block_on(handle.committed(&both)).expect(what);
            both.each_ref().map(|partition| committed[partition])
        };
        assert_eq!(ask("the starts"), [Some(0), Some(0)], "{protocol}");
        wait_until(LONG, "all that was read is finished and committed", || {
            runtime().block_on(handle.commit_now()).expect("a commit");
            ask("what is finished") == [Some(20), Some(20)]
        });

        // Paused: the other lane goes on.
        runtime().block_on(handle.pause(&both[..1])).expect("paused");
        produce(0, 20, 30);
        produce(1, 20, 30);
        wait_until(LONG, "the other lane is through", || seen_of(1).len() == 30);
        assert_eq!(seen_of(0).len(), 20, "{protocol}");
        runtime().block_on(handle.resume(&both[..1])).expect("resumed");
        wait_until(LONG, "it goes on", || seen_of(0).len() == 30);

        // Back, then forward to a time.
        seen.lock().unwrap().clear();
        runtime().block_on(handle.seek(&first, 5)).expect("a lane elsewhere");
        assert_eq!(ask("what is sought")[0], Some(5), "{protocol}");
        wait_until(LONG, "it is read again", || seen_of(0) == (5..30).collect::<Vec<_>>());
        let times = [(first.clone(), START + 27_500), (second.clone(), START + 3_600_000)];
        let found = runtime().block_on(handle.offsets_for_times(&times)).expect("offsets");
        assert_eq!(found, BTreeMap::from([(first.clone(), Some(28)), (second.clone(), None)]));
        runtime().block_on(handle.seek(&first, 28)).expect("a lane elsewhere");
        assert_eq!(ask("what is sought")[0], Some(28), "{protocol}");
        let again = [(5..30).collect::<Vec<_>>(), vec![28, 29]].concat();
        wait_until(LONG, "its end is read again", || seen_of(0) == again);
        let bounds = runtime().block_on(handle.watermarks(&both)).expect("bounds");
        assert_eq!(bounds, BTreeMap::from([(first.clone(), (0, 30)), (second.clone(), (0, 30))]));
        let error =
            runtime().block_on(handle.watermarks(&[scene.partition(7)])).expect_err("no such partition");
        assert_eq!(error.kind(), ErrorKind::Unanswered);

        let member = runtime().block_on(handle.group_metadata()).expect("a member");
        assert_eq!(member.member_id, handle.status().member_id);
        assert!(member.generation > 0, "{member:?}");
        runtime().block_on(handle.drain());
        runtime().block_on(running).unwrap().expect("an end without an error");
        let ends = scene.admin().committed(&scene.group, &both).expect("what is committed");
        assert_eq!(both.each_ref().map(|of| ends[of].offset), [30, 30], "{protocol}");
    }
}

/// The first record's time.
const START: i64 = 1_700_000_000_000;
const LONG: Duration = Duration::from_secs(30);
