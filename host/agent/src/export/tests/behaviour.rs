//! The exporter with a log, over gRPC.

use super::agent::TestAgent;
use super::server::{Asked, Script, State, refused, taken};
use crate::record::Part;
use sentinel_wire::v1::{HeartbeatResponse, Refusal};
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

pub(super) fn pushes(n: usize) -> impl Fn(&State) -> bool {
    move |state| state.asked.iter().filter(|(_, a)| matches!(a, Asked::Push(_))).count() >= n
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_log_is_sent_in_order_and_let_go_when_it_is_committed() {
    let (mut agent, script) = (TestAgent::new(), Script::new());
    agent.append(3);
    agent.start(&script);
    script.until("the push", pushes(1)).await;
    agent.append(1);
    script.until("what came later", pushes(2)).await;
    assert_eq!(script.pushed(), ["1@1 2@1 3@1", "4@1"]);
    script.state.lock().epochs = vec![agent.epoch(0, 3, 0)];
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(agent.offsets(), (4, 3));
    let warned = vec!["a warning".to_owned()];
    assert_eq!(script.state.lock().asked[0].1, Asked::Beat { warnings: warned });
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rewind_sends_again_what_is_not_committed_with_the_attempt_asked_for() {
    let (mut agent, script) = (TestAgent::new(), Script::new());
    agent.append(3);
    agent.start(&script);
    script.until("the push", pushes(1)).await;
    script.state.lock().epochs = vec![agent.epoch(0, 1, 4)];
    script.until("it again", pushes(2)).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(script.pushed(), ["1@1 2@1 3@1", "2@4 3@4"], "and once only");
    assert_eq!(agent.metrics.rewinds.get(), 1 + 1, "another bus at first, then the rewind");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn another_bus_gets_what_the_one_before_had_not_committed() {
    let (mut agent, script) = (TestAgent::new(), Script::new());
    agent.append(2);
    agent.start(&script);
    script.until("the push", pushes(1)).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    script.state.lock().incarnation = vec![8; 16];
    script.until("it again", pushes(2)).await;
    assert_eq!(script.pushed(), ["1@1 2@1", "1@2 2@2"]);
    agent.stop().await;

    // After a restart: the same bus has it still, another does not.
    agent.reopen();
    agent.start(&script);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(script.pushed().len(), 2, "nothing is sent twice without need");
    agent.stop().await;
    script.state.lock().incarnation = vec![9; 16];
    agent.start(&script);
    script.until("it again", pushes(3)).await;
    assert_eq!(script.pushed()[2], "1@2 2@2");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_was_set_back_behind_the_log_is_told_what_is_gone() {
    let (mut agent, script) = (TestAgent::new(), Script::new());
    agent.append(200);
    agent.start(&script);
    let all = agent.epoch(0, 180, 0);
    script.state.lock().epochs = vec![all];
    script.until("what is not committed", pushes(1)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let first = agent.log.offsets()[0].first;
    assert!(first > 100, "committed segments are gone: {first}");
    script.state.lock().epochs = vec![agent.epoch(0, 40, 2)];
    agent.append(1);
    script
        .until(
            "what is gone",
            |s| matches!(&s.asked.last(), Some((_, Asked::Push(p))) if p.starts_with("41-")),
        )
        .await;
    let said = script.pushed();
    assert!(said.last().unwrap().starts_with("41-180@2 181@2 182@2"), "{said:?}");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_and_is_not_committed_for_five_minutes_is_sent_again() {
    let (mut agent, script) = (TestAgent::new(), Script::new());
    agent.append(2);
    script.state.lock().epochs = vec![agent.epoch(0, 1, 0)];
    agent.start(&script);
    script.until("the push", pushes(1)).await;
    tokio::time::sleep(Duration::from_secs(290)).await;
    assert_eq!(script.pushed().len(), 1);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(script.pushed(), ["2@1", "2@2"]);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_and_pushes_do_not_starve_each_other() {
    // Heartbeats are due all the time, since each takes longer than their interval.
    let (mut agent, script) = (TestAgent::new(), Script::new());
    script.state.lock().beat_takes = Duration::from_secs(20);
    agent.append(64 * 5);
    agent.start(&script);
    script.until("all of it", pushes(5)).await;
    let (pushes_at, _) = script.times();
    assert!(*pushes_at.last().unwrap() < 5 * 20_000 + 1000, "one between two: {pushes_at:?}");
    agent.stop().await;

    // Pushes are due all the time.
    let (mut agent, script) = (TestAgent::new(), Script::new());
    script.state.lock().push_takes = Duration::from_secs(2);
    agent.append(64 * 20);
    agent.start(&script);
    script.until("all of it", pushes(20)).await;
    let (_, beats) = script.times();
    let late = beats.windows(2).map(|w| w[1] - w[0]).max().unwrap();
    assert!(late <= 5000 + 2000, "a heartbeat waits for one push at most: {beats:?}");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_clock_is_corrected_by_the_refusal() {
    let (mut agent, script) = (TestAgent::new(), Script::new());
    let hour = 3_600_000;
    agent.append(1);
    agent.start(&script);
    script.until("the first", pushes(1)).await;
    {
        let mut state = script.state.lock();
        state.now += hour;
        for _ in 0..2 {
            state.pushes.push_back(Box::new(move |request| {
                let sent = request.envelopes[0].sent_at_ms;
                Ok(match sent < 1_000_000 + hour - 60_000 {
                    true => refused(Refusal::Time, "not within 5 minutes"),
                    false => taken(request),
                })
            }));
        }
    }
    agent.append(1);
    script.until("it again", pushes(3)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(script.pushed(), ["1@1", "2@1", "2@1"], "the same record, signed again");
    assert_eq!(agent.offsets().0, 2);
    let skew = agent.status.lock().skew_ms;
    assert!((skew - hour).abs() < 60_000, "{skew}");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_is_asked_less_and_less_often_and_nothing_is_lost() {
    let (mut agent, script) = (TestAgent::new(), Script::new());
    {
        let mut state = script.state.lock();
        state.pushes.extend((0..10).map(|_| -> Box<dyn FnMut(&_) -> _ + Send> {
            Box::new(|_| Err(Status::unavailable("it is away")))
        }));
        state.on_beat = Some(Box::new(|_| HeartbeatResponse {
            refusal: Refusal::UnknownAgent.into(),
            refusal_text: "it is away".to_owned(),
            ..HeartbeatResponse::default()
        }));
    }
    agent.append(1);
    agent.start(&script);
    script.until("the first", pushes(1)).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(agent.status.lock().last_error.as_ref().unwrap().contains("it is away"));
    assert!(!agent.status.lock().connected);
    script.until("all", pushes(11)).await;
    let (mut at, beats) = script.times();
    at.extend(beats);
    at.sort_unstable();
    let taken = script.times().0[10];
    at.retain(|at| *at <= taken);
    at.dedup();
    let waits: Vec<u128> = at.windows(2).map(|w| w[1] - w[0]).collect();
    for (n, wait) in waits.iter().enumerate() {
        let whole = (500u128 << n.min(10)).min(30_000);
        let slack = 50;
        assert!(
            (whole / 2..=whole * 3 / 2 + slack).contains(wait),
            "wait {n} of {waits:?} is not half to one and a half of {whole}"
        );
    }
    assert!(waits.iter().any(|w| w % 500 > 2 && w % 500 < 498), "spread by lot: {waits:?}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(agent.offsets().0, 1);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_is_left_alone_as_long_as_it_asks_for_within_reason() {
    let (mut agent, script) = (TestAgent::new(), Script::new());
    for ask in [2000, 0, u32::MAX] {
        script.state.lock().pushes.push_back(Box::new(move |_| {
            let mut answer = refused(Refusal::Busy, "the bus is at its bound");
            answer.retry_after_ms = ask;
            Ok(answer)
        }));
    }
    agent.append(1);
    agent.start(&script);
    script.until("all", pushes(4)).await;
    let (at, _) = script.times();
    let waits: Vec<u128> = at.windows(2).map(|w| w[1] - w[0]).collect();
    for (wait, (least, most)) in waits.iter().zip([(2000, 2600), (250, 400), (30_000, 38_000)]) {
        assert!((least..=most).contains(wait), "{waits:?}");
    }
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_refused_for_what_it_is_is_kept_aside_and_said_to_be_skipped() {
    let (mut agent, script) = (TestAgent::new(), Script::new());
    script.state.lock().pushes.push_back(Box::new(|_| Ok(refused(Refusal::Malformed, "no"))));
    agent.append(2);
    agent.start(&script);
    script.until("the skip", pushes(2)).await;
    assert_eq!(script.pushed(), ["1@1 2@1", "1-1@1 2@1"]);
    assert_eq!(std::fs::read_dir(agent.dir.path().join("dead")).unwrap().count(), 1);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_collection_in_several_records_is_sent_when_its_last_is_there() {
    let (mut agent, script) = (TestAgent::new(), Script::new());
    agent.append_part(Part { number: 1, of: 2 });
    agent.start(&script);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(script.pushed().is_empty());
    agent.append_part(Part { number: 2, of: 2 });
    script.until("both", pushes(1)).await;
    assert_eq!(script.pushed(), ["1@1 2@1"]);
    // One that a crash cut short.
    agent.append_part(Part { number: 1, of: 3 });
    agent.append_part(Part { number: 2, of: 3 });
    tokio::time::sleep(Duration::from_secs(1)).await;
    agent.stop().await;
    agent.reopen();
    agent.append(1);
    agent.start(&script);
    script.until("the next epoch", pushes(2)).await;
    assert_eq!(script.pushed()[1], "3-4@1 1@1");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_state_is_not_added_yet_is_not_let_go_of() {
    let (mut agent, script) = (TestAgent::new(), Script::new());
    agent.append(1);
    let states = Arc::clone(&agent.states);
    let under_way = states.appending(&agent.log);
    agent.append(2);
    agent.start(&script);
    script.until("the push", pushes(1)).await;
    script.state.lock().epochs = vec![agent.epoch(3, 3, 0)];
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(agent.offsets(), (3, 1), "what was appended before that");
    drop(under_way);
    agent.append(1);
    script.state.lock().epochs = vec![agent.epoch(4, 4, 0)];
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(agent.offsets(), (4, 4));
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_let_go_of_while_the_state_of_slots_cannot_be_kept() {
    let (mut agent, script) = (TestAgent::new(), Script::new());
    agent.append(2);
    // A folder in the place of the checkpoint: also root cannot write there.
    let file = agent.dir.path().join("state.json");
    std::fs::create_dir_all(file.join("x")).unwrap();
    agent.start(&script);
    script.until("the push", pushes(1)).await;
    script.state.lock().epochs = vec![agent.epoch(2, 2, 0)];
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(agent.offsets(), (2, 0));
    std::fs::remove_dir_all(&file).unwrap();
    agent.append(1);
    script.state.lock().epochs = vec![agent.epoch(3, 3, 0)];
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(agent.offsets(), (3, 3));
    agent.stop().await;
}
