//! What plugins find in a play in place of the world: its time, its series, and a receiver that
//! takes everything and keeps it.

use crate::payload::Sent;
use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use sentinel_model::ids::SlotName;
use sentinel_model::series::{Labels, SeriesKey};
use sentinel_runtime::capabilities::http::{HttpError, Request, Response};
use sentinel_runtime::capabilities::mail::{MailError, Message, Receipt};
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
    /// Status of the answer; 200 where it is not said.
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
    /// What receivers answer, by slot, and which of them is being told.
    replies: Mutex<(BTreeMap<SlotName, Reply>, Option<SlotName>)>,
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
    pub(crate) fn reply(&self, replies: BTreeMap<SlotName, Reply>) {
        self.replies.lock().0 = replies;
    }

    /// Whose notifier is called next.
    pub(crate) fn turn_to(&self, slot: &SlotName) {
        self.replies.lock().1 = Some(slot.clone());
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
            windows.adopt(&[SeriesInfo { id, key: stream.key.clone(), kind: 0 }]);
            windows.merge(id, &stream.points);
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
        let reply = {
            let replies = self.replies.lock();
            replies.1.as_ref().and_then(|slot| replies.0.get(slot)).cloned()
        };
        let Reply { status, headers, body } = reply.unwrap_or_default();
        let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        Ok(Response { status, headers: headers.collect(), body: body.into_bytes() })
    }

    async fn mail(&self, message: Message) -> Result<Receipt, MailError> {
        self.state.lock().sent.push(Sent::from(&message));
        let (message_id, text) = (message.idempotency_key, "250 taken".to_owned());
        Ok(Receipt { message_id, text, refused: Vec::new() })
    }
}
