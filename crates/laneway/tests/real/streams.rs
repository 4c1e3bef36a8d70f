//! Lanes as streams, through moves.

use std::time::Duration;

use laneway::{Lane, Protocol};
use laneway_testing::history::{Expect, Order, check};
use laneway_testing::wait_until;

use crate::support::{PROTOCOLS, Scene, Spec, consumer, runtime};

/// A member whose lanes are streams: each in a task, four records at a time in tasks of their own.
struct Streaming {
    handle: laneway::Handle,
    run: tokio::task::JoinHandle<laneway::Summary>,
}

fn member(scene: &Scene, name: &str) -> Streaming {
    let _on = runtime().enter();
    let mut lanes = consumer(scene, name, &Spec::default()).expect("a consumer").into_lanes().expect("lanes");
    let handle = lanes.handle();
    let recorder = scene.recorder.member(name);
    let run = runtime().spawn(async move {
        while let Some(lane) = lanes.next().await {
            tokio::spawn(read(lane, recorder.clone()));
        }
        lanes.finish().await.expect("an end without an error")
    });
    Streaming { handle, run }
}

async fn read(mut lane: Lane, recorder: laneway_testing::history::MemberRecorder) {
    let room = std::sync::Arc::new(tokio::sync::Semaphore::new(4));
    while let Some(delivery) = lane.next().await {
        let (room, recorder, id) = (room.clone(), recorder.clone(), lane.id().clone());
        let place = room.acquire_owned().await.expect("it is never closed");
        tokio::spawn(async move {
            let offset = delivery.record().offset();
            recorder.begun(&id, offset);
            tokio::time::sleep(Duration::from_millis(offset.unsigned_abs() % 7)).await;
            match delivery.ack() {
                Ok(()) => recorder.finished(&id, offset),
                Err(_) => recorder.cancelled(&id, offset),
            }
            drop(place);
        });
    }
}

/// I3: acks that are out are waited for at every revoke, wherever they are.
#[test]
fn streamed_lanes_that_move_repeat_and_lose_nothing() {
    for protocol in PROTOCOLS {
        let Some(scene) = Scene::new("streamed", 6, protocol) else { return };
        let traffic = scene.traffic(600);
        let first = member(&scene, "first");
        wait_until(Duration::from_secs(30), "the first member has all lanes", || lanes(&first) == 6);
        for round in 0..3 {
            let other = member(&scene, &format!("other{round}"));
            wait_until(Duration::from_secs(30), "the lanes are shared", || lanes(&other) >= 2);
            leave(other);
            if protocol != Protocol::Consumer {
                wait_until(Duration::from_secs(30), "they are back", || lanes(&first) == 6);
            }
        }
        traffic.end();
        scene.wait_until_finished(Duration::from_secs(60));
        leave(first);
        let report = check(&scene.recorder.history(), &Expect::graceful().order(Order::Any));
        report.assert_ok();
        println!("{protocol}, streamed: {report}");
    }
}

fn lanes(member: &Streaming) -> usize {
    member.handle.status().lanes.iter().filter(|lane| lane.state == laneway::LaneState::Running).count()
}

fn leave(member: Streaming) {
    member.handle.stop();
    let summary = runtime().block_on(member.run).expect("a task that ends");
    assert_eq!((summary.unfinished, summary.uncommitted), (0, 0));
}
