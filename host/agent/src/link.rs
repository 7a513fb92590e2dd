//! The connection to a server.

use sentinel_trust::fleet::MAX_SEALED_BYTES;
use sentinel_wire::v1::ingest_client::IngestClient;
use sentinel_wire::v1::{
    FleetRequest, FleetSet, HeartbeatRequest, HeartbeatResponse, PushRequest, PushResponse,
    RegisterRequest, RegisterResponse,
};
use std::time::Duration;
use tonic::Streaming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use zeroize::Zeroizing;

const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(30);
/// A stream over which nothing comes for long: how often its connection is tried, and how long
/// an answer may take. Without it a connection that is dead looks like one that is silent.
const PING: Duration = Duration::from_secs(4);
/// Most bytes of a message on the stream of sets: a sealed set and its number.
pub(crate) const MAX_FLEET_MESSAGE: usize = MAX_SEALED_BYTES + 1024;

/// Why a server did not answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address is none.
    #[error("{0:?} is not a server's address; write http://HOST:PORT or https://HOST:PORT")]
    Address(String),
    /// What it is to trust or to show for TLS does not serve.
    #[error("TLS to the server: {0}")]
    Tls(String),
    /// No connection, or it broke.
    #[error("{0}")]
    Status(#[from] Box<tonic::Status>),
    /// The answer makes no sense.
    #[error("the server's answer is malformed: {0}")]
    Answer(String),
    /// Over HTTP: nothing that speaks our language answered.
    #[error("{0}")]
    Http(String),
    /// This way is closed, and the next one is tried after a moment.
    #[error("{error}")]
    Elsewhere {
        /// Why.
        error: Box<LinkError>,
        /// How long to wait, so that not all agents come at once.
        wait: Duration,
    },
    /// The server refuses, in its words.
    #[error("{0}")]
    Refused(String),
}

/// For a server at `https://`: whom to trust for it, and what to show it. All of it PEM.
#[derive(Clone, Default)]
pub struct LinkTls {
    /// CAs that are trusted in place of the system's.
    pub ca: Option<Vec<u8>>,
    /// The agent's own certificate and its key, where the server asks for one.
    pub identity: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

impl LinkTls {
    fn config(&self) -> Result<ClientTlsConfig, LinkError> {
        let config = ClientTlsConfig::new();
        let config = match &self.ca {
            Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
            None => {
                let found = rustls_native_certs::load_native_certs();
                if found.certs.is_empty() {
                    let text = "this system has no certificates of CAs; name one with --ca";
                    return Err(LinkError::Tls(text.to_owned()));
                }
                let mut roots = rustls::RootCertStore::empty();
                roots.add_parsable_certificates(found.certs);
                config.trust_anchors(roots.roots)
            }
        };
        Ok(match &self.identity {
            Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key)),
            None => config,
        })
    }
}

impl LinkTls {
    /// The same for HTTP.
    pub(crate) fn http(
        &self,
        mut builder: reqwest::ClientBuilder,
    ) -> Result<reqwest::ClientBuilder, LinkError> {
        let refused = |error: reqwest::Error| LinkError::Tls(causes(&error));
        if let Some(pem) = &self.ca {
            let cas = reqwest::Certificate::from_pem_bundle(pem).map_err(refused)?;
            builder = builder.tls_certs_only(cas);
        }
        if let Some((certificate, key)) = &self.identity {
            let both = Zeroizing::new([certificate, b"\n".as_slice(), key].concat());
            builder = builder.identity(reqwest::Identity::from_pem(&both).map_err(refused)?);
        }
        Ok(builder)
    }
}

/// A connection that is made when it is needed and again when it broke.
#[derive(Clone)]
pub(crate) struct Link {
    server: String,
    client: IngestClient<Channel>,
    /// A connection of its own, for streams.
    streams: IngestClient<Channel>,
}

/// An error's causes, which it does not repeat itself.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn boxed(status: tonic::Status) -> LinkError {
    LinkError::Status(Box::new(status))
}

impl Link {
    /// To a server, `http://HOST:PORT` or `https://HOST:PORT`. Nothing is sent yet.
    ///
    /// # Errors
    /// An address that is none, or what does not serve for TLS.
    pub(crate) fn new(server: &str, tls: &LinkTls) -> Result<Self, LinkError> {
        let mut endpoint = Endpoint::from_shared(server.to_owned())
            .map_err(|_| LinkError::Address(server.to_owned()))?;
        if endpoint.uri().scheme_str() == Some("https") {
            endpoint = endpoint
                .tls_config(tls.config()?)
                .map_err(|error| LinkError::Tls(causes(&error)))?;
        }
        let endpoint = endpoint.connect_timeout(CONNECT).timeout(REQUEST).tcp_nodelay(true);
        let client = IngestClient::new(endpoint.connect_lazy());
        let endpoint = endpoint
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true);
        let streams = Self::for_streams(endpoint.connect_lazy());
        Ok(Self { server: server.to_owned(), client, streams })
    }

    /// Over a channel that a test made.
    #[cfg(test)]
    pub(crate) fn over(channel: Channel) -> Self {
        let streams = Self::for_streams(channel.clone());
        Self { server: "test".to_owned(), client: IngestClient::new(channel), streams }
    }

    fn for_streams(channel: Channel) -> IngestClient<Channel> {
        IngestClient::new(channel).max_decoding_message_size(MAX_FLEET_MESSAGE)
    }

    /// The server's address.
    #[must_use]
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    pub(crate) async fn register(
        &mut self,
        request: RegisterRequest,
    ) -> Result<RegisterResponse, LinkError> {
        Ok(self.client.register(request).await.map_err(boxed)?.into_inner())
    }

    pub(crate) async fn push(&mut self, request: PushRequest) -> Result<PushResponse, LinkError> {
        Ok(self.client.push(request).await.map_err(boxed)?.into_inner())
    }

    pub(crate) async fn fleet(
        &mut self,
        request: FleetRequest,
    ) -> Result<Streaming<FleetSet>, LinkError> {
        Ok(self.streams.fleet(request).await.map_err(boxed)?.into_inner())
    }

    pub(crate) async fn heartbeat(
        &mut self,
        request: HeartbeatRequest,
    ) -> Result<HeartbeatResponse, LinkError> {
        Ok(self.client.heartbeat(request).await.map_err(boxed)?.into_inner())
    }
}
