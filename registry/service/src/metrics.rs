//! What the registry counts of itself. Nothing of it names who asked or what was asked for, and
//! every label has a few values only: anybody may read it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Frame, SizeHint};
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
    exponential_buckets,
};

use crate::address::Address;
use crate::refusal::Code;
use crate::service::Shared;

/// Counters of one registry.
pub(crate) struct Metrics {
    /// Those below, and no other's: several registries may be in one process.
    registry: Registry,
    /// Requests by what they do (`read`, `write`), route and class of the status.
    requests: IntCounterVec,
    /// Seconds until an answer begins, by route.
    seconds: HistogramVec,
    /// Refusals by their code.
    refused: IntCounterVec,
    /// Bytes of the bodies of requests.
    taken: IntCounter,
    /// Bytes of the bodies of answers.
    served: IntCounter,
    /// Uploads that send bytes, as of the last look.
    uploads: IntGauge,
}

impl Metrics {
    /// Makes and registers them.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let by = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        let seconds =
            HistogramOpts::new("sentinel_registry_request_seconds", "Time until an answer begins.")
                .buckets(exponential_buckets(0.0005, 2.0, 16)?);
        let all = Self {
            registry: Registry::new(),
            requests: by(
                "sentinel_registry_requests_total",
                "Requests by what they do, route and class of the status.",
                &["method", "route", "status"],
            )?,
            seconds: HistogramVec::new(seconds, &["route"])?,
            refused: by(
                "sentinel_registry_refused_total",
                "Requests refused, by code; TOOMANYREQUESTS where somebody asks too often.",
                &["code"],
            )?,
            taken: IntCounter::new(
                "sentinel_registry_taken_bytes_total",
                "Bytes of the bodies of requests.",
            )?,
            served: IntCounter::new(
                "sentinel_registry_served_bytes_total",
                "Bytes of the bodies of answers.",
            )?,
            uploads: IntGauge::new(
                "sentinel_registry_uploads_under_way",
                "Uploads that send bytes now.",
            )?,
        };
        all.registry.register(Box::new(all.requests.clone()))?;
        all.registry.register(Box::new(all.seconds.clone()))?;
        all.registry.register(Box::new(all.refused.clone()))?;
        all.registry.register(Box::new(all.taken.clone()))?;
        all.registry.register(Box::new(all.served.clone()))?;
        all.registry.register(Box::new(all.uploads.clone()))?;
        Ok(all)
    }

    /// All of it as Prometheus text, while so many uploads are under way.
    pub(crate) fn text(&self, uploads: usize) -> Result<String, prometheus::Error> {
        self.uploads.set(i64::try_from(uploads).unwrap_or(i64::MAX));
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    fn answered(&self, method: &str, route: &str, response: &Response, seconds: f64) {
        let status = class(response.status());
        self.requests.with_label_values(&[method, route, status]).inc();
        self.seconds.with_label_values(&[route]).observe(seconds);
        if let Some(code) = response.extensions().get::<Code>() {
            self.refused.with_label_values(&[code.as_str()]).inc();
        }
    }
}

/// Counts every request, whatever answers it.
pub(crate) async fn count(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let metrics = &shared.metrics;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let method = if reads { "read" } else { "write" };
    let route = kind(request.uri().path());
    let began = Instant::now();
    let response = next.run(request.map(|body| counted(body, &metrics.taken))).await;
    metrics.answered(method, route, &response, began.elapsed().as_secs_f64());
    response.map(|body| counted(body, &metrics.served))
}

/// What a path leads to.
fn kind(path: &str) -> &'static str {
    if matches!(path, "/healthz" | "/ready" | "/metrics") {
        return "own";
    }
    if path.starts_with("/metadata/") {
        return "metadata";
    }
    if path.starts_with("/api/") {
        return "api";
    }
    match Address::parse(path) {
        Ok(Address::Base) => "base",
        Ok(Address::Blob(..)) => "blobs",
        Ok(Address::Uploads(_) | Address::Upload(..)) => "uploads",
        Ok(Address::Manifest(..)) => "manifests",
        Ok(Address::Tags(_)) => "tags",
        Ok(Address::Referrers(..)) => "referrers",
        Err(_) => "other",
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        0..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

/// A body whose bytes are counted as they pass: one that is cut short counts as far as it came.
struct Counted {
    inner: Body,
    bytes: IntCounter,
}

fn counted(inner: Body, bytes: &IntCounter) -> Body {
    Body::new(Counted { inner, bytes: bytes.clone() })
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.bytes.inc_by(frame.data_ref().map_or(0, Bytes::len) as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    // From which the answer's Content-Length is made.
    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Body as _;
    use http_body_util::BodyExt;

    #[test]
    fn whatever_is_asked_for_the_routes_are_few() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (path, expected) in [
            ("/ready", "own"),
            ("/metadata/timestamp.json", "metadata"),
            ("/api/v1/plugins", "api"),
            ("/v2/", "base"),
            (&format!("/v2/acme/x/blobs/{digest}"), "blobs"),
            ("/v2/acme/x/blobs/uploads/", "uploads"),
            ("/v2/acme/x/blobs/uploads/0123456789abcdef0123456789abcdef", "uploads"),
            ("/v2/acme/x/manifests/1.0.0", "manifests"),
            ("/v2/acme/x/tags/list", "tags"),
            (&format!("/v2/acme/x/referrers/{digest}"), "referrers"),
            ("/v2/acme/x/blobs/none", "other"),
            ("/", "other"),
        ] {
            assert_eq!(kind(path), expected, "{path}");
        }
    }

    #[tokio::test]
    async fn a_counted_body_is_as_long_as_it_was() {
        let bytes = IntCounter::new("bytes", "Bytes.").unwrap();
        let body = counted(Body::from("hello"), &bytes);
        assert_eq!(body.size_hint().exact(), Some(5));
        assert!(counted(Body::empty(), &bytes).is_end_stream());
        assert_eq!(bytes.get(), 0, "nothing has passed");
        assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
        assert_eq!(bytes.get(), 5);
    }
}
