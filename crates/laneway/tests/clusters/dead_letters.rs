//! The broker of the dead letters goes away: nothing is skipped, nothing is lost, and it goes on by itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use laneway::{Consumer, OffsetReset, Outcome, Protocol, Record, TopicPartition};
use laneway_testing::{Producer, unique, wait_until};

use crate::support::{Scene, runtime};
use crate::{SOON, cluster};

const PARTITIONS: i32 = 6;
const RECORDS: usize = 3_000;

/// Every tenth record becomes a dead letter.
fn is_dead(number: usize) -> bool {
    number % 10 == 3
}

fn number_of(record: &Record) -> usize {
    std::str::from_utf8(record.payload().expect("a payload")).unwrap().parse().expect("a number")
}

/// All numbers in a topic, in the order in which they were written.
fn read(scene: &Scene, topic: &str) -> Vec<usize> {
    let numbers: Arc<Mutex<Vec<usize>>> = Arc::default();
    let kept = numbers.clone();
    let consumer = Consumer::builder()
        .brokers(&scene.brokers)
        .group(unique("reader"))
        .topics([topic])
        .offset_reset(OffsetReset::Earliest)
        .exit_at_end(true)
        .build()
        .expect("a consumer");
    let run = consumer.run(move |record: Record| {
        kept.lock().unwrap().push(number_of(&record));
        std::future::ready(())
    });
    runtime().block_on(run).expect("an end");
    std::mem::take(&mut *numbers.lock().unwrap())
}

fn broker_of_the_dead_letters_down(protocol: Protocol, down: Duration) {
    let Some(cluster) = cluster() else { return };
    let scene = cluster.scene("letters", PARTITIONS, protocol);
    let dead = unique("dead");
    // With one of its two replicas away nothing is written to it: two are to be in sync.
    scene.admin().create_topic_on(&dead, &[vec![3, 1]]).expect("a topic");
    let broker = &cluster.nodes[2];
    let handled: Arc<Mutex<Vec<usize>>> = Arc::default();
    let members: Vec<_> = (0..2)
        .map(|_| {
            let kept = handled.clone();
            let consumer = Consumer::builder()
                .brokers(&scene.brokers)
                .group(&scene.group)
                .topics([&scene.topic])
                .protocol(protocol)
                .offset_reset(OffsetReset::Earliest)
                .ordering(laneway::Ordering::Key)
                .dead_letters(&dead)
                .property("reconnect.backoff.max.ms", "500")
                .build()
                .expect("a consumer");
            let handle = consumer.handle();
            let run = runtime().spawn(consumer.run(move |record: Record| {
                let kept = kept.clone();
                async move {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    if is_dead(number_of(&record)) {
                        return Outcome::DeadLetter { reason: "of no use".into() };
                    }
                    kept.lock().unwrap().push(number_of(&record));
                    Outcome::Done
                }
            }));
            (handle, run)
        })
        .collect();
    let produce = |numbers: std::ops::Range<usize>| {
        let producer = Producer::new(&scene.brokers, &[]).expect("a producer");
        for number in numbers {
            let (partition, text) = (i32::try_from(number).unwrap() % PARTITIONS, number.to_string());
            producer
                .send(&scene.topic, partition, Some(text.as_bytes()), Some(text.as_bytes()), &[], None)
                .expect("sent");
        }
        producer.flush().expect("delivered");
    };
    let letter_count = || {
        let partition = TopicPartition::new(dead.as_str(), 0);
        scene.admin().end_offsets(std::slice::from_ref(&partition)).map_or(-1, |ends| ends[&partition])
    };
    produce(0..RECORDS / 3);
    wait_until(SOON, "some dead letters are written", || letter_count() > 20);
    broker.kill();
    let until = Instant::now() + down;
    produce(RECORDS / 3..RECORDS);
    let others = (0..RECORDS).filter(|number| !is_dead(*number)).count();
    wait_until(SOON * 2, "all others are handled meanwhile", || {
        handled.lock().unwrap().iter().collect::<BTreeSet<_>>().len() == others
    });
    wait_until(SOON * 2, "the broker has been away long enough", || Instant::now() >= until);
    let waiting = |(handle, _): &(laneway::Handle, _)| -> u64 {
        handle.status().lanes.iter().map(|lane| lane.in_flight).sum()
    };
    let waiting: u64 = members.iter().map(waiting).sum();
    assert!(waiting > 0, "dead letters wait");
    let partitions: Vec<_> = (0..PARTITIONS).map(|number| scene.partition(number)).collect();
    let lag = || {
        let (admin, mut lag) = (scene.admin(), 0);
        let (Ok(ends), Ok(committed)) =
            (admin.end_offsets(&partitions), admin.committed(&scene.group, &partitions))
        else {
            return -1;
        };
        for (partition, end) in ends {
            lag += end - committed.get(&partition).map_or(0, |found| found.offset);
        }
        lag
    };
    assert!(lag() >= i64::try_from(waiting).unwrap(), "nothing is committed past them");
    broker.begin_to_start_again().expect("a broker that starts");
    broker.wait_until_ready(3).expect("the broker is back");
    let back = Instant::now();
    wait_until(SOON * 2, "all is committed", || lag() == 0);
    let took = back.elapsed();
    for (handle, run) in members {
        handle.stop();
        runtime().block_on(run).unwrap().expect("an end");
    }
    let letters = read(&scene, &dead);
    let different: BTreeSet<usize> = letters.iter().copied().collect();
    assert_eq!(different, (0..RECORDS).filter(|number| is_dead(*number)).collect());
    let handled = handled.lock().unwrap().len();
    println!(
        "The broker of the dead letters away for {down:?} ({protocol}): {waiting} dead letters waited for it, all other \
         records were handled meanwhile; {took:?} after it was back all was committed: {} dead letters of {} records, \
         {} of them twice; {handled} others handled, {} of them twice; none lost.",
        letters.len(),
        different.len(),
        letters.len() - different.len(),
        handled - others
    );
}

#[test]
#[ignore = "long: part of cargo xtask outages"]
fn prove_clusters_the_broker_of_the_dead_letters_away_for_a_minute() {
    for protocol in crate::support::PROTOCOLS {
        broker_of_the_dead_letters_down(protocol, Duration::from_secs(60));
    }
}
