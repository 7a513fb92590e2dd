//! What commands of the same user may ask a running agent: over a socket in its folder that only its
//! owner may open. It needs no token, and nothing of the network.
//!
//! | route | what |
//! |---|---|
//! | `GET /status` | the agent's status, with the log's offsets |
//! | `POST /force-send` | sends what is pending now, or again from an offset; what became of it |
//! | `GET /logs?last=N&follow=BOOL` | the last lines that the process logged, and those that come |

use crate::agent::AgentStatus;
use crate::export::Force;
use crate::lines::Lines;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::StreamExt as _;
use sentinel_model::ids::Epoch;
use sentinel_wal::{EpochOffsets, Log};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// The socket, in an agent's folder.
pub const SOCKET: &str = "agent.sock";
/// The longest that a request may have its outcome waited for, milliseconds.
pub const MAX_WAIT_MS: u64 = 300_000;
/// How often it is looked whether what was asked for has happened.
const LOOK: Duration = Duration::from_millis(50);
/// How long an exchange that is under way may keep the exporter from hearing.
const HEARD: Duration = Duration::from_secs(40);

/// What `POST /force-send` is asked with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForceRequest {
    /// The record from which to send again; where sending stands if it is absent.
    pub from: Option<u64>,
    /// The epoch of that record, hexadecimal; the newest if it is absent.
    pub epoch: Option<String>,
    /// How long to wait for the commit of what is pending, milliseconds.
    pub wait_ms: u64,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForceAnswer {
    /// Whether all that was in the log is in the database.
    pub committed_all: bool,
    /// Records that the server took since the question.
    pub accepted: u64,
    /// Records that came to be in the database since.
    pub committed: u64,
    /// Records that were in the log at the question and are not in the database yet.
    pub pending: u64,
    /// Why the server does not answer, if so.
    pub trouble: Option<String>,
    /// The log now, by epoch.
    pub offsets: Vec<OffsetsBody>,
}

/// How far the records of an epoch got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetsBody {
    /// Hexadecimal.
    pub epoch: String,
    /// In a file.
    pub written: u64,
    /// On the disk.
    pub synced: u64,
    /// Taken by the server.
    pub accepted: u64,
    /// In the database.
    pub committed: u64,
    /// Bytes of records kept.
    pub bytes: u64,
}

impl From<&EpochOffsets> for OffsetsBody {
    fn from(o: &EpochOffsets) -> Self {
        Self {
            epoch: o.epoch.to_string(),
            written: o.written,
            synced: o.synced,
            accepted: o.accepted,
            committed: o.committed,
            bytes: o.bytes,
        }
    }
}

/// `GET /status`.
#[derive(Serialize)]
struct StatusBody {
    #[serde(flatten)]
    status: AgentStatus,
    offsets: Vec<OffsetsBody>,
}

/// What the routes work with.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) log: Arc<Log>,
    pub(crate) status: Arc<dyn Fn() -> AgentStatus + Send + Sync>,
    pub(crate) force: mpsc::Sender<Force>,
    pub(crate) lines: Lines,
}

/// Serves the socket until told to stop; an agent that cannot have one works without it.
pub(crate) fn serve(
    folder: &Path,
    control: Control,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> Option<tokio::task::JoinHandle<()>> {
    let path = folder.join(SOCKET);
    let listener = match bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, socket = %path.display(), "commands such as `sentinel force-send` cannot reach this agent");
            return None;
        }
    };
    let router = router(control);
    Some(tokio::spawn(async move {
        // Whoever follows the log would keep it from ending.
        tokio::select! {
            served = axum::serve(listener, router).into_future() => {
                if let Err(error) = served {
                    tracing::error!(%error, "the agent's socket ended");
                }
            }
            () = stopped => {}
        }
        let _ = std::fs::remove_file(path);
    }))
}

/// The folder is locked by this agent, so a socket that is there is of one that is gone.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn router(control: Control) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/force-send", post(force_send))
        .route("/logs", get(logs))
        .with_state(control)
}

async fn status(State(control): State<Control>) -> Response {
    let offsets = control.log.offsets().iter().map(OffsetsBody::from).collect();
    Json(StatusBody { status: (control.status)(), offsets }).into_response()
}

fn refuse(status: StatusCode, why: impl Into<String>) -> Response {
    (status, Json(serde_json::json!({ "error": why.into() }))).into_response()
}

async fn force_send(State(control): State<Control>, Json(request): Json<ForceRequest>) -> Response {
    let epoch = match request.epoch.as_deref().map(str::parse::<Epoch>).transpose() {
        Ok(epoch) => epoch,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let before = control.log.offsets();
    let (done, heard) = oneshot::channel();
    let force = Force { from: request.from.map(|seq| (epoch, seq)), done };
    let busy = "the agent is not enrolled yet, or has an exchange under way that does not end";
    if control.force.try_send(force).is_err() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, busy);
    }
    match tokio::time::timeout(HEARD, heard).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(why))) => return refuse(StatusCode::CONFLICT, why),
        Ok(Err(_)) => return refuse(StatusCode::SERVICE_UNAVAILABLE, "the agent stops"),
        Err(_) => return refuse(StatusCode::SERVICE_UNAVAILABLE, busy),
    }
    let until = Instant::now() + Duration::from_millis(request.wait_ms.min(MAX_WAIT_MS));
    loop {
        let trouble = (control.status)().last_error;
        let answer = outcome(&before, &control.log.offsets(), trouble);
        if answer.committed_all || Instant::now() >= until {
            return Json(answer).into_response();
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What became of what was in the log. An epoch that is gone was committed whole.
fn outcome(before: &[EpochOffsets], now: &[EpochOffsets], trouble: Option<String>) -> ForceAnswer {
    let (mut accepted, mut committed, mut pending) = (0, 0, 0);
    for was in before {
        let is = now.iter().find(|o| o.epoch == was.epoch);
        let (taken, kept) = is.map_or((was.written, was.written), |o| (o.accepted, o.committed));
        accepted += taken.saturating_sub(was.accepted);
        committed += kept.saturating_sub(was.committed);
        pending += was.written.saturating_sub(kept);
    }
    let offsets = now.iter().map(OffsetsBody::from).collect();
    ForceAnswer { committed_all: pending == 0, accepted, committed, pending, trouble, offsets }
}

/// Which lines.
#[derive(Deserialize)]
#[serde(default)]
struct Which {
    last: usize,
    follow: bool,
}

impl Default for Which {
    fn default() -> Self {
        Self { last: 50, follow: false }
    }
}

fn joined(lines: &[Arc<str>]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

async fn logs(State(control): State<Control>, Query(which): Query<Which>) -> Response {
    let (last, next) = control.lines.last(which.last);
    let last = joined(&last);
    if !which.follow {
        return last.into_response();
    }
    let first = futures::stream::once(async { Ok::<_, Infallible>(last) });
    let rest = futures::stream::unfold((control.lines, next), async |(lines, next)| {
        let (new, next) = lines.next(next).await;
        Some((Ok(joined(&new)), (lines, next)))
    });
    Body::from_stream(first.chain(rest)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(epoch: u8, written: u64, accepted: u64, committed: u64) -> EpochOffsets {
        EpochOffsets {
            epoch: sentinel_wal::Epoch([epoch; 16]),
            first: 1,
            written,
            synced: written,
            accepted,
            committed,
            bytes: 0,
        }
    }

    #[test]
    fn what_was_in_the_log_at_the_question_is_what_is_counted() {
        let before = [offsets(1, 9, 5, 3), offsets(2, 4, 0, 0)];
        let same = outcome(&before, &before, Some("no".to_owned()));
        assert_eq!((same.accepted, same.committed, same.pending), (0, 0, 10));
        assert!(!same.committed_all);
        let some = outcome(&before, &[offsets(1, 9, 9, 8), offsets(2, 20, 4, 0)], None);
        assert_eq!((some.accepted, some.committed, some.pending), (8, 5, 5));
        let all = outcome(&before, &[offsets(2, 20, 12, 12)], None);
        assert_eq!((all.pending, all.committed_all), (0, true), "an epoch that is gone is done");
    }
}
