//! What is left of a consumer whose broker no longer answers. Alone in its process, as it looks at its threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::time::Duration;

use laneway::{Consumer, OffsetReset, Protocol, Record};
use laneway_testing::{EmbeddedKafka, Producer, unique, wait_until};

/// How often each main thread of a native client is found running, of so many looks.
fn running_of(looks: usize) -> BTreeMap<String, usize> {
    let mut running = BTreeMap::new();
    for _ in 0..looks {
        for task in std::fs::read_dir("/proc/self/task").expect("tasks").flatten() {
            // One that has ended meanwhile can't be read.
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            if stat.contains("(rdk:main)") {
                let is_running = stat.contains("(rdk:main) R");
                *running.entry(task.file_name().to_string_lossy().into_owned()).or_default() +=
                    usize::from(is_running);
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    running
}

/// librdkafka's main thread runs in circles in a client that is destroyed while a broker owes it an answer.
#[test]
fn a_stop_that_no_broker_answers_leaves_nothing_behind_that_runs_in_circles() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for protocol in [Protocol::Cooperative, Protocol::Consumer] {
        let kafka = EmbeddedKafka::start().expect("an embedded Kafka");
        let topic = unique("topic");
        kafka.create_topic(&topic, 4).expect("a topic");
        let producer = Producer::new(kafka.brokers(), &[]).expect("a producer");
        (0..40).for_each(|number| {
            producer.send(&topic, number % 4, None, Some(b"payload"), &[], None).expect("sent");
        });
        producer.flush().expect("delivered");
        let consumer = Consumer::builder()
            .brokers(kafka.brokers())
            .group(unique("group"))
            .topics([&topic])
            .offset_reset(OffsetReset::Earliest)
            .protocol(protocol)
            .commit_interval(Duration::from_secs(60))
            .drain_deadline(Duration::from_secs(1))
            .build()
            .expect("a consumer");
        let handle = consumer.handle();
        let run = runtime.spawn(consumer.run(|_: Record| std::future::ready(())));
        wait_until(Duration::from_secs(20), "all is finished", || handle.status().finished == 40);
        kafka.set_rtt(1, Duration::from_secs(30)).expect("a slow broker");
        handle.stop();
        let summary = runtime.block_on(run).unwrap().expect("an end without an error");
        assert_eq!((summary.finished, summary.uncommitted), (40, 40));
        let running = running_of(100);
        assert!(running.len() > 1, "clients are left: {running:?}");
        assert!(running.values().all(|times| *times < 50), "{protocol}: {running:?} of 100 looks");
    }
}
