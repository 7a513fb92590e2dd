//! How many requests are worked on at once, over all routes together: some run, some more wait
//! for their turn, the rest are refused and told when to come again.

use super::Failure;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// When a refused request is worth sending again, in seconds.
const RETRY_AFTER_S: &str = "1";

/// One for all routes; clones share it.
#[derive(Clone)]
pub(super) struct Bounds {
    running: Arc<Semaphore>,
    /// Those that run and those that wait.
    admitted: Arc<Semaphore>,
}

impl Bounds {
    pub(super) fn new(running: usize, waiting: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(running)),
            admitted: Arc::new(Semaphore::new(running + waiting)),
        }
    }
}

/// Lets a request through when it is its turn. Dropped, it gives its place back.
pub(super) async fn bound(State(bounds): State<Bounds>, request: Request, next: Next) -> Response {
    // Never closed, so the only error is that there is no room.
    let Ok(_admitted) = bounds.admitted.try_acquire() else { return refusal() };
    let Ok(_running) = bounds.running.acquire().await else { return refusal() };
    next.run(request).await
}

fn refusal() -> Response {
    let text = "the server has as many requests as it takes at once; send this one again shortly";
    let mut response = Failure::new(StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use std::time::Duration;
    use tower::ServiceExt;
    use tower_http::timeout::TimeoutLayer;

    #[tokio::test]
    async fn the_time_of_a_request_runs_while_it_waits_for_its_turn() {
        let bounds = Bounds::new(1, 1);
        let timeout =
            TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_millis(20));
        let router: Router = Router::new()
            .route("/", get(|| async {}))
            .route_layer(from_fn_with_state(bounds.clone(), bound))
            .layer(timeout);
        let running = bounds.running.acquire().await.unwrap();
        let request = Request::get("/").body(Body::empty()).unwrap();
        assert_eq!(router.oneshot(request).await.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
        drop(running);
        assert_eq!(bounds.admitted.available_permits(), 2, "its place is given back");
    }
}
