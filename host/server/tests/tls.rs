//! TLS on both listeners, with what `deploy/dev-certs.sh` makes.

mod served;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sentinel_server::rate::Limits;
use sentinel_server::{Listeners, ServerError, TlsFiles};
use sentinel_wire::v1::Refusal;
use served::{Served, TOKEN, serve_at, serve_limited};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// Longest that new files take to be noticed.
const NOTICED: Duration = Duration::from_secs(20);

fn make_certificates(dir: &Path) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/dev-certs.sh");
    let made = Command::new(script).arg(dir).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn files(dir: &Path, client_ca: bool) -> TlsFiles {
    TlsFiles {
        certificate: dir.join("server.pem"),
        key: dir.join("server.key"),
        client_ca: client_ca.then(|| dir.join("ca.pem")),
    }
}

async fn serve(dir: &Path, client_ca: bool) -> Served {
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners::bind(any, any, Some(&files(dir, client_ca))).await.unwrap();
    let url = listeners.addresses().grpc_url();
    serve_at(listeners, endpoint(&url, dir, true)).await
}

fn endpoint(url: &str, dir: &Path, shows: bool) -> Endpoint {
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("ca.pem")));
    if shows {
        tls = tls.identity(Identity::from_pem(read("client.pem"), read("client.key")));
    }
    Endpoint::from_shared(url.to_owned()).unwrap().tls_config(tls).unwrap()
}

fn client(dir: &Path, trusts: bool, shows: bool) -> reqwest::Client {
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    let mut http = reqwest::Client::builder().no_proxy();
    if trusts {
        http = http.tls_certs_only([reqwest::Certificate::from_pem(&read("ca.pem")).unwrap()]);
    }
    if shows {
        let pem = [read("client.key"), read("client.pem")].concat();
        http = http.identity(reqwest::Identity::from_pem(&pem).unwrap());
    }
    http.build().unwrap()
}

#[tokio::test]
async fn both_listeners_serve_those_who_show_a_certificate_of_the_ca_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    make_certificates(dir.path());
    let mut served = serve(dir.path(), true).await;
    let (approved, key) = served.enrol().await;
    assert!(approved);
    assert_eq!(served.push(&key, 1).await.0, Refusal::None);

    let addresses = served.server.addresses();
    let url = format!("{}/v1/status", addresses.rest_url());
    let get = |http: reqwest::Client| http.get(&url).bearer_auth(TOKEN).send();
    let answer = get(client(dir.path(), true, true)).await.unwrap();
    assert_eq!(answer.status(), 200);
    // Where the server asks for one, a handshake ends without an answer to the request.
    assert!(get(client(dir.path(), true, false)).await.is_err(), "shows no certificate");
    assert!(get(client(dir.path(), false, true)).await.is_err(), "does not know the CA");
    let plain = format!("http://{}/v1/status", addresses.rest);
    let refused = client(dir.path(), true, true).get(plain).send().await;
    assert!(refused.is_err(), "speaks no TLS");
    let stranger = endpoint(&addresses.grpc_url(), dir.path(), false).connect().await;
    if let Ok(channel) = stranger {
        let mut client = sentinel_wire::v1::ingest_client::IngestClient::new(channel);
        client.heartbeat(served::beat(&key)).await.unwrap_err();
    }
    served.server.shutdown().await;
}

/// A connection to REST, and the certificate that was shown on it.
async fn connect(dir: &Path, address: SocketAddr) -> (TlsStream<TcpStream>, Vec<u8>) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    (stream, shown)
}

/// Asks for the server's health over an open connection.
async fn is_healthy(stream: &mut TlsStream<TcpStream>) -> bool {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: any\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok\n") {
        let mut part = [0; 512];
        let count = stream.read(&mut part).await.unwrap();
        if count == 0 {
            return false;
        }
        answer.extend_from_slice(&part[..count]);
    }
    answer.starts_with(b"HTTP/1.1 200 OK")
}

#[tokio::test]
async fn new_files_serve_new_connections_and_open_ones_go_on() {
    let dir = tempfile::tempdir().unwrap();
    make_certificates(dir.path());
    let served = serve(dir.path(), false).await;
    let address = served.server.rest();
    let (mut open, before) = connect(dir.path(), address).await;
    assert!(is_healthy(&mut open).await);
    make_certificates(dir.path());
    let wanted = CertificateDer::from_pem_file(dir.path().join("server.pem")).unwrap();
    assert_ne!(wanted.as_ref(), before);
    let begin = Instant::now();
    while connect(dir.path(), address).await.1 != wanted.as_ref() {
        assert!(begin.elapsed() < NOTICED, "the new certificate is never shown");
    }
    assert!(is_healthy(&mut open).await, "the connection from before goes on");
    served.server.shutdown().await;
}

#[tokio::test]
async fn what_others_can_reach_is_listened_on_with_tls_alone() {
    let dir = tempfile::tempdir().unwrap();
    make_certificates(dir.path());
    let (any, here) = ("0.0.0.0:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap());
    for (rest, grpc) in [(any, here), (here, any)] {
        let refused = Listeners::bind(rest, grpc, None).await;
        assert!(matches!(refused, Err(ServerError::NotLoopback(_))));
        Listeners::bind(rest, grpc, Some(&files(dir.path(), false))).await.unwrap();
    }
    let wrong = TlsFiles { key: dir.path().join("client.key"), ..files(dir.path(), false) };
    let refused = Listeners::bind(any, any, Some(&wrong)).await.err().unwrap().to_string();
    assert!(refused.contains("server.pem") && refused.contains("client.key"), "{refused}");
}

#[tokio::test]
async fn a_server_with_tls_serves_its_own_machine_without_it_at_another_port() {
    let dir = tempfile::tempdir().unwrap();
    make_certificates(dir.path());
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners::bind(any, any, Some(&files(dir.path(), true))).await.unwrap();
    let listeners = listeners.with_own().await.unwrap();
    let own = listeners.addresses().own_grpc_url().parse().unwrap();
    let mut served = serve_at(listeners, own).await;
    assert!(served.enrol().await.0);
    let url = format!("{}/v1/status", served.server.addresses().own_rest_url());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(&url).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let renamed = http.get(&url).bearer_auth(TOKEN).header("host", "evil.example").send().await;
    assert_eq!(renamed.unwrap().status(), 421);
    served.server.shutdown().await;
}

#[tokio::test]
async fn who_has_too_many_connections_is_told_by_an_alert_before_any_handshake() {
    let dir = tempfile::tempdir().unwrap();
    make_certificates(dir.path());
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners::bind(any, any, Some(&files(dir.path(), false))).await.unwrap();
    let url = listeners.addresses().grpc_url();
    let limits = Limits { address_connections: 1, ..Limits::default() };
    let served = serve_limited(listeners, endpoint(&url, dir.path(), false), limits).await;
    let (mut open, _) = connect(dir.path(), served.server.rest()).await;
    let url = format!("{}/healthz", served.server.addresses().rest_url());
    let refused = client(dir.path(), true, false).get(url).send().await.unwrap_err();
    assert!(format!("{refused:?}").contains("AccessDenied"), "{refused:?}");
    assert!(is_healthy(&mut open).await, "the one that is there goes on");
    served.server.shutdown().await;
}
