//! Where streams stand, asked of the store for many pushes at once.
//!
//! A question to the store is a round trip to another machine, and more work than all else that a push makes. So while the
//! store answers, those who ask meanwhile are gathered, and asked for together.
//!
//! What was answered last is remembered. Committed offsets only grow, so what is remembered is too low at most, and a
//! record that looks new for it costs a message on the bus, which the worker skips. A database that was set back is the
//! exception, for which a record that looks stored is looked up.

use futures::future::BoxFuture;
use parking_lot::Mutex;
use sentinel_model::ids::{AgentId, Epoch};
use sentinel_store::ingest::StreamState;
use sentinel_store::{Store, StoreError};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};

/// Questions that the store is asked at a time: while one is answered slowly, another may be.
const AT_ONCE: usize = 2;
/// The most streams that are remembered; all are forgotten beyond.
const MAX_REMEMBERED: usize = 100_000;

type Key = (AgentId, Epoch);
type Answers = Result<Vec<StreamState>, StoreError>;
/// Asks the store.
type Ask = Box<dyn Fn(Vec<Key>) -> BoxFuture<'static, Answers> + Send + Sync>;
/// Whoever waits for an answer; an error in words, since several have the same.
type Waiting = (Key, oneshot::Sender<Result<StreamState, String>>);

/// See the module.
pub(crate) struct Streams {
    ask: Ask,
    turns: Semaphore,
    waiting: Mutex<Vec<Waiting>>,
    remembered: Mutex<HashMap<Key, StreamState>>,
}

impl Streams {
    /// Those of a store.
    pub(crate) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Self::with(Box::new(move |keys| {
            let store = Arc::clone(&store);
            Box::pin(async move { store.stream_states(&keys).await })
        }))
    }

    fn with(ask: Ask) -> Arc<Self> {
        Arc::new(Self {
            ask,
            turns: Semaphore::new(AT_ONCE),
            waiting: Mutex::default(),
            remembered: Mutex::default(),
        })
    }

    /// Where a stream stood when it was last looked up.
    pub(crate) fn remembered(&self, agent: &AgentId, epoch: Epoch) -> Option<StreamState> {
        self.remembered.lock().get(&(agent.clone(), epoch)).copied()
    }

    /// Where a stream stands.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn look_up(
        self: &Arc<Self>,
        agent: &AgentId,
        epoch: Epoch,
    ) -> Result<StreamState, String> {
        let (tell, told) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.lock();
            waiting.push(((agent.clone(), epoch), tell));
            waiting.len() == 1
        };
        // By a task of its own: whoever came first may give up, and those behind it do not.
        if is_first {
            tokio::spawn(Arc::clone(self).answer());
        }
        told.await.unwrap_or_else(|_| Err("the server stops".to_owned()))
    }

    /// Asks for all who wait when it is their turn.
    async fn answer(self: Arc<Self>) {
        let _turn = self.turns.acquire().await;
        let (keys, tell): (Vec<Key>, Vec<_>) =
            std::mem::take(&mut *self.waiting.lock()).into_iter().unzip();
        match (self.ask)(keys.clone()).await {
            Ok(states) => {
                self.remember(keys, &states);
                for (tell, state) in tell.into_iter().zip(states) {
                    // An error means that nobody waits any more.
                    let _ = tell.send(Ok(state));
                }
            }
            Err(error) => {
                for tell in tell {
                    let _ = tell.send(Err(error.to_string()));
                }
            }
        }
    }

    fn remember(&self, keys: Vec<Key>, states: &[StreamState]) {
        let mut remembered = self.remembered.lock();
        if remembered.len() + keys.len() > MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.extend(keys.into_iter().zip(states.iter().copied()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const EPOCH: Epoch = Epoch([7; 16]);

    fn agent(number: u64) -> AgentId {
        AgentId::new(&format!("agent-{number}")).unwrap()
    }

    fn state(committed: u64) -> StreamState {
        StreamState { committed, rewind_attempt: 0 }
    }

    /// The n-th question's streams stand at 100 n; each question waits until `gate` lets it.
    fn gated(gate: &Arc<Semaphore>, asked: &Arc<Mutex<Vec<usize>>>) -> Arc<Streams> {
        let (gate, asked) = (Arc::clone(gate), Arc::clone(asked));
        let count = Arc::new(AtomicU64::new(0));
        Streams::with(Box::new(move |keys| {
            let (gate, number) = (Arc::clone(&gate), count.fetch_add(1, Ordering::SeqCst) + 1);
            asked.lock().push(keys.len());
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                let stands = |(agent, _): &Key| {
                    let of: u64 = agent.as_str().trim_start_matches("agent-").parse().unwrap();
                    state(number * 100 + of)
                };
                Ok(keys.iter().map(stands).collect())
            })
        }))
    }

    #[tokio::test]
    async fn those_who_ask_while_the_store_answers_are_asked_for_together() {
        let (gate, asked) = (Arc::new(Semaphore::new(0)), Arc::default());
        let streams = gated(&gate, &asked);
        let ask = |number: u64| {
            let streams = Arc::clone(&streams);
            tokio::spawn(async move { streams.look_up(&agent(number), EPOCH).await })
        };
        let mut first = Vec::new();
        for number in 0..AT_ONCE as u64 {
            first.push(ask(number));
            while asked.lock().len() <= number as usize {
                tokio::task::yield_now().await;
            }
        }
        let gathered: Vec<_> = (10..20).map(ask).collect();
        while streams.waiting.lock().len() < gathered.len() {
            tokio::task::yield_now().await;
        }
        // One of them gives up, and the others have their answers.
        gathered[0].abort();
        gate.add_permits(AT_ONCE + 1);
        for (number, one) in first.into_iter().enumerate() {
            let number = number as u64;
            assert_eq!(one.await.unwrap(), Ok(state((number + 1) * 100 + number)));
        }
        let third = AT_ONCE as u64 + 1;
        for (number, one) in (10..20).zip(gathered).skip(1) {
            assert_eq!(one.await.unwrap(), Ok(state(third * 100 + number)));
        }
        assert_eq!(*asked.lock(), [vec![1; AT_ONCE], vec![10]].concat());
        assert_eq!(streams.remembered(&agent(19), EPOCH), Some(state(third * 100 + 19)));
        assert_eq!(streams.remembered(&agent(19), Epoch([8; 16])), None);
    }

    #[tokio::test]
    async fn all_who_wait_hear_that_the_store_fails_and_the_next_ask_again() {
        let fails = Arc::new(AtomicU64::new(1));
        let failing = Arc::clone(&fails);
        let streams = Streams::with(Box::new(move |keys| {
            let fails = failing.swap(0, Ordering::SeqCst) > 0;
            Box::pin(async move {
                if fails {
                    return Err(StoreError::Unavailable("away".to_owned()));
                }
                Ok(vec![state(1); keys.len()])
            })
        }));
        let (id, other) = (agent(1), agent(2));
        let both = tokio::join!(streams.look_up(&id, EPOCH), streams.look_up(&other, EPOCH));
        assert!(both.0.unwrap_err().contains("away") && both.1.is_err());
        assert_eq!(streams.remembered(&agent(1), EPOCH), None);
        assert_eq!(streams.look_up(&agent(1), EPOCH).await, Ok(state(1)));
    }
}
