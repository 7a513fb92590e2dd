//! Several servers over one store: whichever answers, each record is taken once.

use super::agent::TestAgent;
use super::behaviour::pushes;
use super::server::{Door, Script};
use crate::servers::Servers;
use std::sync::atomic::Ordering;
use std::time::Duration;

struct Two {
    script: Script,
    first: Door,
    second: Door,
}

impl Two {
    fn new() -> Self {
        Self { script: Script::new(), first: Door::default(), second: Door::default() }
    }

    fn servers(&self) -> Servers {
        let link = |door| self.script.link_through(door);
        Servers::of(vec![link(&self.first), link(&self.second)])
    }

    /// Exchanges that each had since this was asked last.
    fn passed(&self) -> (usize, usize) {
        let since = |door: &Door| door.passed.swap(0, Ordering::SeqCst);
        (since(&self.first), since(&self.second))
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_server_goes_on_where_the_one_that_is_gone_stood_and_gives_back() {
    let (mut agent, two) = (TestAgent::new(), Two::new());
    agent.append(3);
    agent.start_over(two.servers());
    two.script.until("the push", pushes(1)).await;
    two.script.state.lock().epochs = vec![agent.epoch(0, 2, 0)];
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (first, second) = two.passed();
    assert!(first > 1 && second == 0, "{first} {second}");

    two.first.closed.store(true, Ordering::SeqCst);
    agent.append(2);
    two.script.until("it at the other", pushes(2)).await;
    two.script.state.lock().epochs = vec![agent.epoch(0, 5, 0)];
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(two.script.pushed(), ["1@1 2@1 3@1", "4@1 5@1"], "each once");
    assert_eq!(agent.offsets(), (5, 5));
    let (first, second) = two.passed();
    assert!(first == 0 && second > 1, "{first} {second}");

    // While it is away it is tried now and then; what is sent meanwhile waits for nothing.
    agent.append(1);
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(two.script.pushed().len(), 3);
    assert_eq!(two.passed().0, 0);
    two.first.closed.store(false, Ordering::SeqCst);
    two.script.state.lock().epochs = vec![agent.epoch(0, 6, 0)];
    tokio::time::sleep(Duration::from_secs(1000)).await;
    two.passed();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let (first, second) = two.passed();
    assert!(first > 1 && second == 0, "it is back at the preferred one: {first} {second}");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn where_no_server_answers_nothing_is_lost() {
    let (mut agent, two) = (TestAgent::new(), Two::new());
    two.first.closed.store(true, Ordering::SeqCst);
    two.second.closed.store(true, Ordering::SeqCst);
    agent.append(3);
    agent.start_over(two.servers());
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(two.script.pushed().is_empty());
    assert!(!agent.status.lock().connected);
    two.second.closed.store(false, Ordering::SeqCst);
    two.script.until("the push", pushes(1)).await;
    // Where the first answer that names the bus is that of a push, what was pushed comes once more, under the
    // same attempt.
    let pushed = two.script.pushed();
    assert!(pushed.iter().all(|records| records == "1@1 2@1 3@1"), "{pushed:?}");
    agent.stop().await;
}
