//! Several members of a group that read one topic together, or as many bare clients that have its partitions shared out.

use std::sync::Arc;
use std::time::Duration;

use laneway::{Consumer, Handle, LaneState, OffsetReset, TopicPartition};
use laneway_testing::unique;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::Failure;
use crate::clients::{self, Client, CountingLanes, Gate, Job, Reads, runtime, total};
use crate::meter::{Meter, wait_for};
use crate::stats::Figures;
use crate::sys::BareQueue;

/// As a child: all members are in it.
pub(crate) fn read(job: &Job, members: i32) -> Result<Figures, Failure> {
    match job.client {
        Client::Laneway => group(job, members),
        _ => bare(job, members),
    }
}

/// Members begin at the end of the topic; once each has its share, all lanes are sent to the beginning at once.
fn group(job: &Job, members: i32) -> Result<Figures, Failure> {
    let meter = Meter::new(usize::try_from(job.partitions)?);
    let reads = Arc::new(Reads { meter, gate: Gate::new(true), records: job.records });
    let (group, runtime) = (unique("bench"), runtime()?);
    let mut handles = Vec::new();
    for _ in 0..members {
        let consumer = Consumer::builder()
            .brokers(&job.brokers)
            .group(&group)
            .topics([&job.topic])
            .offset_reset(OffsetReset::Latest)
            .build()?;
        handles.push(consumer.handle());
        runtime.spawn(consumer.run_lanes(CountingLanes(reads.clone())));
    }
    let lanes_of = |handle: &Handle| {
        let lanes = handle.status().lanes;
        lanes
            .into_iter()
            .filter(|lane| lane.state == LaneState::Running)
            .map(|lane| lane.lane.partition)
            .collect()
    };
    let share = usize::try_from(job.partitions / members)?;
    wait_for("each member has its share", || {
        handles.iter().map(lanes_of).all(|lanes: Vec<TopicPartition>| lanes.len() == share)
    })?;
    for handle in &handles {
        for partition in lanes_of(handle) {
            let handle = handle.clone();
            runtime.spawn(async move {
                if let Err(error) = handle.seek(&partition, 0).await {
                    eprintln!("the way to the beginning of {partition}: {error}");
                }
            });
        }
    }
    reads.meter.wait(total(job))
}

fn bare(job: &Job, members: i32) -> Result<Figures, Failure> {
    let meter = Meter::new(usize::try_from(members)?);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..members)
            .map(|member| {
                scope.spawn({
                    let meter = &meter;
                    move || bare_share(job, members, member, meter)
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a client panicked")?)
    })?;
    meter.wait(total(job))
}

fn bare_share(job: &Job, members: i32, member: i32, meter: &Meter) -> Result<(), Failure> {
    let consumer: BaseConsumer = clients::consumer(job)?;
    let mut queue = BareQueue::of_consumer(&consumer);
    let mut list = TopicPartitionList::new();
    for number in (0..job.partitions).filter(|number| number % members == member) {
        list.add_partition_offset(&job.topic, number, Offset::Offset(0))?;
    }
    consumer.assign(&list)?;
    let mut own = u64::try_from(list.count())? * job.records;
    while own > 0 {
        let taken = queue.take(Duration::from_millis(10), |_| {})? as u64;
        if taken > 0 {
            meter.begin();
        }
        own = own.saturating_sub(taken);
    }
    meter.one_is_done();
    Ok(())
}
