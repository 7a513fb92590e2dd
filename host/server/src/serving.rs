//! REST over its connections: HTTP/1.1, and HTTP/2 where TLS agreed on it.

use crate::listen::{Connection, Incoming};
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming as RequestBody;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt;

/// The longest that the head of a request may take, and that a connection stays idle.
const HEAD: Duration = Duration::from_secs(60);
/// The most bytes of a request's head.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// The most requests that one connection of HTTP/2 has under way.
const MAX_STREAMS: u32 = 64;
/// How often a silent connection of HTTP/2 is tried, and how long an answer may take.
const PING: Duration = Duration::from_secs(20);

/// Serves until told to stop; requests under way are then answered.
pub(crate) async fn serve(mut incoming: Incoming, router: Router, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let connection = tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
            Some(connection) = incoming.recv() => connection,
        };
        connections.spawn(requests(connection, router.clone(), stop.clone()));
    }
    while connections.join_next().await.is_some() {}
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the server is gone, which is a stop too.
    drop(stop.wait_for(|stop| *stop).await);
}

async fn requests(connection: Connection, router: Router, mut stop: watch::Receiver<bool>) {
    let (peer, two) = (connection.peer, connection.agreed_on_http2());
    let service = service_fn(move |request: http::Request<RequestBody>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let io = TokioIo::new(connection);
    macro_rules! until_stopped {
        ($serving:expr) => {{
            let mut serving = pin!($serving);
            tokio::select! {
                ended = serving.as_mut() => ended,
                () = stopped(&mut stop) => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            }
        }};
    }
    let ended = if two {
        until_stopped!(
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(MAX_HEAD_BYTES as u32)
                .keep_alive_interval(PING)
                .keep_alive_timeout(PING)
                .serve_connection(io, service)
        )
    } else {
        until_stopped!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(MAX_HEAD_BYTES)
                .serve_connection(io, service)
        )
    };
    if let Err(error) = ended {
        tracing::debug!(%error, peer = %peer.address, "a connection ended early");
    }
}
