//! The demo's traffic: records at a steady rate, on a thread of its own, over all partitions in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use laneway_testing::Producer;

use super::Options;
use super::members::Group;

pub(super) struct Traffic {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), String>>,
}

impl Traffic {
    pub(super) fn start(group: &Group, options: &Options) -> Result<Self, String> {
        let stopping = Arc::new(AtomicBool::new(false));
        let (group, options, asked) = (group.clone(), options.clone(), stopping.clone());
        let thread = std::thread::Builder::new()
            .name("demo-traffic".into())
            .spawn(move || produce(&group, &options, &asked))
            .map_err(|error| format!("could not start a thread: {error}"))?;
        Ok(Self { stopping, thread })
    }

    /// Ends the traffic; everything that was sent has been acknowledged then.
    pub(super) fn stop(self) -> Result<(), String> {
        self.stopping.store(true, Ordering::Release);
        self.thread.join().unwrap_or_else(|_| Err("the demo's traffic panicked".into()))
    }
}

fn produce(group: &Group, options: &Options, stopping: &AtomicBool) -> Result<(), String> {
    let producer = Producer::new(&group.brokers, &[]).map_err(|error| error.to_string())?;
    let started = Instant::now();
    let mut sent = 0u64;
    while !stopping.load(Ordering::Acquire) {
        let due = (started.elapsed().as_secs_f64() * options.rate as f64) as u64;
        let mut counts = vec![0u64; usize::try_from(options.partitions).unwrap_or(0)];
        while sent < due {
            let partition = i32::try_from(sent % options.partitions as u64).unwrap_or(0);
            let payload = format!("{{\"order\":{sent}}}");
            let key = (sent % 1_000).to_string();
            producer
                .send(&group.topic, partition, Some(key.as_bytes()), Some(payload.as_bytes()), &[], None)
                .map_err(|error| error.to_string())?;
            counts[usize::try_from(partition).unwrap_or(0)] += 1;
            sent += 1;
        }
        // Counted before it can be finished: the lag is never below nothing.
        for (partition, records) in counts.into_iter().enumerate().filter(|(_, records)| *records > 0) {
            group.truth.produced(i32::try_from(partition).unwrap_or(0), records);
        }
        producer.flush().map_err(|error| error.to_string())?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
