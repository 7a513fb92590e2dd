//! Errors on their way out.

use crate::api::{ErrorBody, ProblemBody};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sentinel_model::document::{Problem, Problems};
use sentinel_store::StoreError;

/// A status and what to say.
pub(crate) struct Failure {
    status: StatusCode,
    body: ErrorBody,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, error: impl ToString) -> Self {
        Self { status, body: ErrorBody { error: error.to_string(), problems: Vec::new() } }
    }

    pub(crate) fn bad(error: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// Everything that is wrong with what was sent.
    pub(crate) fn problems(problems: Vec<ProblemBody>) -> Self {
        let lines: Vec<String> =
            problems.iter().map(|one| format!("{}: {}", one.path, one.message)).collect();
        let error = format!("nothing was changed:\n{}", lines.join("\n"));
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, body: ErrorBody { error, problems } }
    }

    pub(crate) fn not_found(error: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }
}

pub(crate) fn problem_body(problem: Problem) -> ProblemBody {
    let Problem { file, line, column, path, message } = problem;
    ProblemBody { file, line, column, path, message }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        let error = problems.to_string();
        let problems = problems.0.into_iter().map(problem_body).collect();
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, body: ErrorBody { error, problems } }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
            StoreError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Conflict(_) | StoreError::Fenced { .. } => StatusCode::CONFLICT,
            StoreError::TooMuch { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            StoreError::Damaged { .. } | StoreError::Engine(_) => {
                tracing::error!(%error, "store");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self.body)).into_response()
    }
}
