//! What plugins find in a play in place of the world: its time, its series, and a receiver that
//! takes everything and keeps it.

use crate::payload::Sent;
use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use sentinel_model::ids::SlotName;
use sentinel_model::series::{Labels, SeriesKey};
use sentinel_runtime::capabilities::http::{HttpError, Request, Response};
use sentinel_runtime::capabilities::mail::{self, MailError, Message, Receipt};
use sentinel_runtime::evaluator::{Answer, Query, QueryError, SeriesSource};
use sentinel_runtime::{KvSource, KvState, KvWrite, Outside, SecretSource};
use sentinel_store::query::{Points, SeriesInfo};
use sentinel_worker::windows::Windows;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Most questions whose answers are kept for an explanation.
const MAX_ASKED: usize = 1_000;
/// What receivers answer unless a test says otherwise: the shipped notifiers take it for success.
const ANSWER: &str = r#"{"ok":true,"status":"success","channel":"C0","ts":"1.000001","message_ts":"1.000001","result":{"message_id":1}}"#;

/// A series with samples, strictly increasing in time.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Name and labels.
    pub key: SeriesKey,
    /// Unix milliseconds, and as many values.
    pub points: Points,
}

/// One question of an evaluator, and what it was answered.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The question.
    pub query: Query,
    /// Series and values, or why there are none.
    pub answer: Result<Vec<(Labels, f64)>, QueryError>,
}

/// What receivers answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Reply {
    /// Status of the answer; 200 where it is not said. Of a relay of mail: 4xx and 5xx refuse the
    /// message, for now and for good.
    pub(crate) status: u16,
    /// Headers of the answer.
    pub(crate) headers: BTreeMap<String, String>,
    /// Body of the answer.
    pub(crate) body: String,
}

impl Default for Reply {
    fn default() -> Self {
        Self { status: 200, headers: BTreeMap::new(), body: ANSWER.to_owned() }
    }
}

/// What a receiver answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub(crate) enum Answers {
    /// The same to everything.
    Always(Reply),
    /// Each in turn, and the last to all that follows. What fails is then tried again, as a worker
    /// does, but that its waits are the longest that they may be.
    InTurn(Vec<Reply>),
}

/// What receivers answer, by slot, which of them is being told, and how often each was asked.
#[derive(Default)]
struct Replies {
    answers: BTreeMap<SlotName, Answers>,
    turn: Option<SlotName>,
    asked: BTreeMap<SlotName, usize>,
}

impl Replies {
    fn next(&mut self) -> Reply {
        let Some(slot) = &self.turn else { return Reply::default() };
        let asked = self.asked.entry(slot.clone()).or_default();
        let at = *asked;
        *asked += 1;
        match self.answers.get(slot) {
            Some(Answers::Always(reply)) => reply.clone(),
            Some(Answers::InTurn(all)) => {
                all.get(at).or_else(|| all.last()).cloned().unwrap_or_default()
            }
            None => Reply::default(),
        }
    }
}

#[derive(Default)]
struct State {
    now: i64,
    kv: BTreeMap<SlotName, Arc<KvState>>,
    sent: Vec<Sent>,
    asked: Option<Vec<Asked>>,
    ids: BTreeMap<SeriesKey, u32>,
}

/// One world, for one play at a time.
#[derive(Default)]
pub(crate) struct World {
    state: Mutex<State>,
    windows: RwLock<Windows>,
    replies: Mutex<Replies>,
}

impl World {
    /// Forgets the play before.
    pub(crate) fn begin(&self, now: i64) {
        *self.state.lock() = State { now, ..State::default() };
        *self.windows.write() = Windows::default();
    }

    pub(crate) fn windows(&self) -> &RwLock<Windows> {
        &self.windows
    }

    pub(crate) fn set_now(&self, now: i64) {
        self.state.lock().now = now;
    }

    /// From now on answers are kept, so that they can be told.
    pub(crate) fn listen(&self) {
        self.state.lock().asked = Some(Vec::new());
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.lock().asked.take().unwrap_or_default()
    }

    /// What receivers answer from now on.
    pub(crate) fn reply(&self, answers: BTreeMap<SlotName, Answers>) {
        *self.replies.lock() = Replies { answers, ..Replies::default() };
    }

    /// Whether it is said what a receiver answers in turn.
    pub(crate) fn answers_in_turn(&self, slot: &SlotName) -> bool {
        matches!(self.replies.lock().answers.get(slot), Some(Answers::InTurn(_)))
    }

    /// Whose notifier is called next.
    pub(crate) fn turn_to(&self, slot: &SlotName) {
        self.replies.lock().turn = Some(slot.clone());
    }

    /// What was sent since this was last asked.
    pub(crate) fn take_sent(&self) -> Vec<Sent> {
        std::mem::take(&mut self.state.lock().sent)
    }

    /// What a notifier wants to remember.
    pub(crate) fn keep(&self, slot: &SlotName, writes: Vec<KvWrite>) {
        if !writes.is_empty() {
            let mut state = self.state.lock();
            Arc::make_mut(state.kv.entry(slot.clone()).or_default()).apply(writes);
        }
    }

    /// Takes samples.
    pub(crate) fn feed(&self, streams: &[Stream]) {
        let mut state = self.state.lock();
        let mut windows = self.windows.write();
        for stream in streams {
            let next = state.ids.len() as u32 + 1;
            let id = *state.ids.entry(stream.key.clone()).or_insert(next);
            windows.adopt(vec![SeriesInfo { id, key: stream.key.clone(), kind: 0 }]);
            windows.merge(id, &stream.points.times, &stream.points.values);
        }
    }
}

impl SeriesSource for World {
    fn ask(&self, at: i64, queries: &[Query]) -> Vec<Result<Answer, QueryError>> {
        let windows = self.windows.read();
        let answers: Vec<_> = queries.iter().map(|query| windows.ask(at, query)).collect();
        let mut state = self.state.lock();
        if let Some(asked) = &mut state.asked {
            let room = MAX_ASKED.saturating_sub(asked.len());
            for (query, answer) in queries.iter().zip(&answers).take(room) {
                let told = |answer: &Answer| {
                    let labels = |id: &u64| windows.labels(*id).cloned().unwrap_or_default();
                    answer.series.iter().map(labels).zip(answer.value.iter().copied()).collect()
                };
                let answer = answer.as_ref().map(told).map_err(Clone::clone);
                asked.push(Asked { query: query.clone(), answer });
            }
        }
        answers
    }

    fn labels_of(&self, ids: &[u64]) -> Vec<Labels> {
        let windows = self.windows.read();
        ids.iter().map(|&id| windows.labels(id).cloned().unwrap_or_default()).collect()
    }
}

impl KvSource for World {
    fn load(&self, slot: &SlotName) -> Arc<KvState> {
        self.state.lock().kv.get(slot).cloned().unwrap_or_default()
    }
}

impl SecretSource for World {
    /// Any name has a secret, the same on every machine. It stands in nothing that is shown.
    fn secret(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        Some(Zeroizing::new(format!("secret-{name}-of-a-test").into_bytes()))
    }
}

#[async_trait]
impl Outside for World {
    fn now(&self) -> i64 {
        self.state.lock().now
    }

    async fn http(&self, request: Request) -> Result<Response, HttpError> {
        self.state.lock().sent.push(Sent::from(&request));
        let Reply { status, headers, body } = self.replies.lock().next();
        let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        Ok(Response { status, headers: headers.collect(), body: body.into_bytes() })
    }

    async fn mail(&self, message: Message) -> Result<Receipt, MailError> {
        self.state.lock().sent.push(Sent::from(&message));
        let Reply { status: code, body, .. } = self.replies.lock().next();
        let said = mail::Reply { code, text: body };
        match code {
            400..500 => return Err(MailError::Temporary(said)),
            500..600 => return Err(MailError::Rejected(said)),
            _ => {}
        }
        let (message_id, text) = (message.idempotency_key, "250 taken".to_owned());
        Ok(Receipt { message_id, text, refused: Vec::new() })
    }
}
