//! `/healthz`, `/ready` and `/metrics` of a worker, on loopback.

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use parking_lot::Mutex;
use prometheus::{Registry, TextEncoder};
use sentinel_worker::status::WorkerStatus;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often a worker is asked how it is.
const LOOK: Duration = Duration::from_secs(1);

/// What a worker is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doing {
    /// It is being started.
    Starting,
    /// It works.
    Working,
    /// It should work, and cannot: why.
    Failing(String),
    /// It was asked to stop, and ends what it began.
    Stopping,
}

impl Doing {
    fn of(status: &WorkerStatus) -> Self {
        let troubles = [
            ("the store", &status.ingest.store_trouble),
            ("the store of alerts", &status.rules.store_trouble),
            ("the bus", &status.ingest.bus_trouble),
        ];
        let trouble = troubles.into_iter().find_map(|(what, why)| Some((what, why.as_ref()?)));
        trouble.map_or(Self::Working, |(what, why)| Self::Failing(format!("{what}: {why}")))
    }

    fn answer(&self) -> (StatusCode, String) {
        match self {
            Self::Starting => (StatusCode::SERVICE_UNAVAILABLE, "it is starting\n".to_owned()),
            Self::Working => (StatusCode::OK, "ready\n".to_owned()),
            Self::Failing(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "it is stopping\n".to_owned()),
        }
    }
}

/// What a worker says of itself to those who ask it.
pub(super) struct Health {
    doing: Arc<Mutex<Doing>>,
    serving: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

impl Health {
    /// Serves at an address, if there is one.
    ///
    /// # Errors
    /// An address that is not on loopback, since nothing protects what is served; one that cannot
    /// be listened on.
    pub(super) async fn serve(address: Option<SocketAddr>, metrics: Registry) -> Result<Self> {
        let doing = Arc::new(Mutex::new(Doing::Starting));
        let mut serving = None;
        if let Some(address) = address {
            ensure!(
                address.ip().is_loopback(),
                "{address} is not on loopback (--listen): health and metrics are served without TLS"
            );
            let listener = TcpListener::bind(address).await;
            let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
            let bound = listener.local_addr()?;
            let (stop, mut stopped) = watch::channel(false);
            let served = axum::serve(listener, router(Arc::clone(&doing), metrics));
            let served = served.with_graceful_shutdown(async move {
                let _ = stopped.wait_for(|stopped| *stopped).await;
            });
            let task = tokio::spawn(async move {
                if let Err(error) = served.await {
                    tracing::error!(%error, "the worker's listener ended");
                }
            });
            eprintln!("Its health and metrics: http://{bound}/healthz, /ready, /metrics");
            serving = Some((stop, task));
        }
        Ok(Self { doing, serving })
    }

    /// Follows a worker that was started; never ends.
    pub(super) async fn follow<F>(&self, status: impl Fn() -> F)
    where
        F: Future<Output = WorkerStatus>,
    {
        loop {
            let now = Doing::of(&status().await);
            *self.doing.lock() = now;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// It is not ready any more, and says so until the end.
    pub(super) fn stopping(&self) {
        *self.doing.lock() = Doing::Stopping;
    }

    /// Ends serving.
    pub(super) async fn stop(self) {
        if let Some((stop, task)) = self.serving {
            stop.send_replace(true);
            // Whoever holds a connection open does not keep the process from ending.
            let abort = task.abort_handle();
            if tokio::time::timeout(LOOK, task).await.is_err() {
                abort.abort();
            }
        }
    }
}

fn router(doing: Arc<Mutex<Doing>>, metrics: Registry) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/ready", get(move || async move { doing.lock().answer() }))
        .route(
            "/metrics",
            get(move || async move {
                TextEncoder::new()
                    .encode_to_string(&metrics.gather())
                    .map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
            }),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_ready_while_it_can_do_its_work() {
        for (doing, status, said) in [
            (Doing::Starting, StatusCode::SERVICE_UNAVAILABLE, "starting"),
            (Doing::Working, StatusCode::OK, "ready"),
            (Doing::Failing("the store: full".into()), StatusCode::SERVICE_UNAVAILABLE, "full"),
            (Doing::Stopping, StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        ] {
            let (answered, text) = doing.answer();
            assert_eq!(answered, status);
            assert!(text.contains(said), "{text}");
        }
    }

    #[tokio::test]
    async fn nobody_elsewhere_is_served() {
        let elsewhere = "0.0.0.0:0".parse().unwrap();
        let refused = Health::serve(Some(elsewhere), Registry::new()).await.err().unwrap();
        assert!(refused.to_string().contains("not on loopback"), "{refused}");
    }

    #[tokio::test]
    async fn it_ends_though_somebody_holds_a_connection() {
        // Kept all along, so that nobody else gets it: it may be bound again.
        let kept = tokio::net::TcpSocket::new_v4().unwrap();
        kept.set_reuseaddr(true).unwrap();
        kept.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = kept.local_addr().unwrap();
        let health = Health::serve(Some(port), Registry::new()).await.unwrap();
        let held = tokio::net::TcpStream::connect(port).await.unwrap();
        health.stop().await;
        assert!(TcpListener::bind(port).await.is_ok());
        drop(held);
    }
}
