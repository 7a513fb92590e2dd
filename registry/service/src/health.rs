//! Whether the registry can do its work, and what it has done, for those who watch it. They show
//! no token and no rate bounds them, so that what they ask costs next to nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use tokio::sync::Mutex;

use crate::refusal::Refusal;
use crate::service::Shared;

/// How old an answer may be, in milliseconds: the store is looked at no more often, whoever asks.
const FRESH_MS: i64 = 1_000;
/// How long the store is waited for.
const WAIT: Duration = Duration::from_secs(5);

/// Nothing, or why it is not ready.
type Answer = Result<(), String>;

/// What was last found out, and when (unix milliseconds).
#[derive(Default)]
pub(crate) struct Readiness {
    last: Mutex<Option<(i64, Answer)>>,
}

impl Readiness {
    /// As it was a moment ago at the most. Those who ask meanwhile wait for one look.
    async fn of(&self, shared: &Shared) -> Answer {
        let mut last = self.last.lock().await;
        let now = (shared.options.clock)();
        // A clock that was set back makes no answer newer than it is.
        if let Some((looked, answer)) = &*last
            && (0..FRESH_MS).contains(&now.saturating_sub(*looked))
        {
            return answer.clone();
        }
        let answer = look(shared, now).await;
        *last = Some(((shared.options.clock)(), answer.clone()));
        answer
    }
}

async fn look(shared: &Shared, now: i64) -> Answer {
    match tokio::time::timeout(WAIT, shared.catalogue.check(now)).await {
        Ok(found) => found.map_err(|refusal| refusal.message),
        Err(_) => Err(format!("the registry's store did not answer within {} s", WAIT.as_secs())),
    }
}

/// The process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// The registry was begun, and its store has what is in force. Also where that has expired: its
/// owner renews it through this very service.
pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    match shared.readiness.of(&shared).await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// Prometheus text.
pub(crate) async fn metrics(State(shared): State<Arc<Shared>>) -> Result<String, Refusal> {
    let text = shared.metrics.text(shared.uploads.under_way());
    text.map_err(|error| Refusal::internal("what was counted cannot be told", &error))
}
