//! What one process has at a time.

use std::time::Duration;

use sentinel_bus::Bus;
use sentinel_bus::jetstream::HOLD_FOR;

use crate::contract::message;
use crate::rig::{PATIENCE, Rig, until};

#[tokio::test]
async fn what_one_process_has_another_gets_when_it_is_released_or_not_kept() {
    let mut rig = Rig::start();
    let (one, two) = (rig.bus().await, rig.bus().await);
    let mut held = one.hold("worker").await.unwrap();
    let mut other = one.hold("other").await.unwrap();
    tokio::select! {
        taken = two.hold("worker") => panic!("both have it: {}", taken.is_ok()),
        () = held.lost() => panic!("it is lost"),
        () = tokio::time::sleep(Duration::from_secs(3)) => {}
    }
    held.release().await.unwrap();
    let mut held = tokio::time::timeout(PATIENCE, two.hold("worker")).await.unwrap().unwrap();

    // It outlives a NATS that comes back empty.
    rig.nats.kill_and_forget().unwrap();
    rig.nats.start_again().unwrap();
    until("the stream is there again", async || two.publish(message("a", 1)).await.is_ok()).await;
    tokio::select! {
        () = held.lost() => panic!("it is lost"),
        () = other.lost() => panic!("the other is lost"),
        taken = one.hold("worker") => panic!("both have it: {}", taken.is_ok()),
        () = tokio::time::sleep(Duration::from_secs(3)) => {}
    }
    // Who ends without a word has it for a while.
    drop((held, two));
    let began = tokio::time::Instant::now();
    let mut held = tokio::time::timeout(PATIENCE, one.hold("worker")).await.unwrap().unwrap();
    assert!(began.elapsed() > Duration::from_secs(3), "{:?}", began.elapsed());
    // And who cannot keep it knows before anybody else can have it.
    rig.nats.kill();
    let began = tokio::time::Instant::now();
    tokio::time::timeout(PATIENCE, held.lost()).await.unwrap();
    assert!(began.elapsed() < HOLD_FOR, "{:?}", began.elapsed());
}
