//! Asking the server for desired sets: one stream that is held, a new one when it breaks.

use crate::enrol::Identity;
use crate::export::{Clock, ExportStatus};
use crate::servers::{Servers, Sets};
use async_trait::async_trait;
use parking_lot::Mutex;
use sentinel_fleet::{Carrier, CarrierError};
use sentinel_wire::fleet;
use sentinel_wire::v1::{FleetRequest, FleetSet};
use std::sync::Arc;
use tokio::sync::watch;
use tonic::Streaming;

/// The server's stream of sets.
pub(crate) struct FleetStream {
    pub(crate) link: Servers,
    /// Nobody is asked before the agent is enrolled.
    pub(crate) identity: watch::Receiver<Option<Identity>>,
    /// Knows how far the server's clock is from this one's.
    pub(crate) export: Arc<Mutex<ExportStatus>>,
    pub(crate) clock: Clock,
    pub(crate) held: Option<Streaming<FleetSet>>,
}

impl FleetStream {
    async fn open(&mut self, have: u64) -> Result<Sets, CarrierError> {
        let failed = |why: String| CarrierError(why);
        let identity = self.identity.wait_for(Option::is_some).await;
        let identity = identity.map_err(|_| failed("the agent stops".to_owned()))?.clone();
        let identity = identity.ok_or_else(|| failed("the agent is not enrolled".to_owned()))?;
        let sent_at_ms = (self.clock)().saturating_add(self.export.lock().skew_ms);
        let mut request = FleetRequest {
            agent_id: identity.id.to_string(),
            sent_at_ms,
            nonce: rand::random::<[u8; 16]>().to_vec(),
            have,
            ..FleetRequest::default()
        };
        fleet::seal(&mut request, &identity.key);
        self.link.fleet(request).await.map_err(|error| failed(error.to_string()))
    }
}

#[async_trait]
impl Carrier for FleetStream {
    async fn next(&mut self, have: u64) -> Result<Vec<u8>, CarrierError> {
        let mut stream = match self.held.take() {
            Some(stream) => stream,
            None => loop {
                match self.open(have).await? {
                    Sets::Stream(stream) => break stream,
                    Sets::One(set) => return Ok(set.sealed.into_bytes()),
                    Sets::Nothing => {}
                }
            },
        };
        match stream.message().await {
            Ok(Some(set)) => {
                self.held = Some(stream);
                Ok(set.sealed.into_bytes())
            }
            Ok(None) => Err(CarrierError("the server ended the stream of sets".to_owned())),
            Err(status) => Err(CarrierError(status.message().to_owned())),
        }
    }

    fn reset(&mut self) {
        self.held = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Link;
    use axum::Router;
    use axum::body::{Body, Bytes};
    use axum::routing::post;
    use sentinel_model::ids::AgentId;
    use sentinel_trust::fleet::MAX_SEALED_BYTES;
    use sentinel_wire::key::AgentKey;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// Bytes of one piece of an answer.
    const PIECE: usize = 64 << 10;
    const SOON: Duration = Duration::from_secs(20);

    /// A server whose stream of sets begins with `head` and goes on without end; its address,
    /// and how many pieces were taken from it.
    async fn endless(head: &'static [u8]) -> (String, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        let answer = move || {
            let count = Arc::clone(&count);
            let pieces = std::iter::repeat_with(move || {
                count.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Infallible>(Bytes::from_static(&[b'x'; PIECE]))
            });
            let all = std::iter::once(Ok(Bytes::from_static(head))).chain(pieces);
            let body = Body::from_stream(tokio_stream::iter(all));
            async { ([("content-type", "application/grpc")], body) }
        };
        let router = Router::new().route("/sentinel.v1.Ingest/Fleet", post(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async { axum::serve(listener, router).await });
        (format!("http://{address}"), taken)
    }

    fn stream(server: &str) -> FleetStream {
        let id = AgentId::new("a").unwrap();
        let identity = Identity { id, key: AgentKey::random(1), before: None };
        FleetStream {
            link: Servers::of(vec![Link::new(server, &Default::default()).unwrap()]),
            identity: watch::channel(Some(identity)).1,
            export: Arc::default(),
            clock: Arc::new(|| 0),
            held: None,
        }
    }

    #[tokio::test]
    async fn a_server_that_sends_a_gigabyte_is_left_before_it_was_taken() {
        // Not compressed, a message of 2^30 bytes.
        let (server, taken) = endless(&[0, 0x40, 0, 0, 0]).await;
        let mut stream = stream(&server);
        let refused = tokio::time::timeout(SOON, stream.next(0)).await.unwrap().unwrap_err();
        assert!(refused.0.contains("1073741824"), "{refused}");
        stream.reset();
        let bytes = taken.load(Ordering::SeqCst) * PIECE;
        assert!(bytes <= 2 * MAX_SEALED_BYTES, "{bytes} bytes were taken");
    }

    #[tokio::test]
    async fn a_server_that_sends_nonsense_is_an_error_and_no_set() {
        // A message of 3 bytes that is no message.
        let (server, _) = endless(&[0, 0, 0, 0, 3, 0xff, 0xff, 0xff]).await;
        let mut stream = stream(&server);
        assert!(tokio::time::timeout(SOON, stream.next(0)).await.unwrap().is_err());
        assert!(stream.held.is_none());
    }

    #[tokio::test]
    async fn a_server_that_does_not_listen_is_an_error() {
        // Its port stays taken, so that nobody else comes to listen there.
        let silent = tokio::net::TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = silent.local_addr().unwrap();
        let mut stream = stream(&format!("http://{address}"));
        assert!(tokio::time::timeout(SOON, stream.next(0)).await.unwrap().is_err());
    }
}
