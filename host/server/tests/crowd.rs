//! Connections beyond the bounds: refused at once, in words, and counted.

mod served;

use sentinel_server::Listeners;
use sentinel_server::rate::Limits;
use sentinel_wire::v1::HeartbeatRequest;
use sentinel_wire::v1::ingest_client::IngestClient;
use served::{Served, serve_limited};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Endpoint;

const SOON: Duration = Duration::from_secs(30);

async fn serve(limits: Limits) -> (Served, String) {
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners::bind(any, any, None).await.unwrap();
    let url = listeners.addresses().grpc_url();
    let endpoint = url.parse::<Endpoint>().unwrap();
    (serve_limited(listeners, endpoint, limits).await, url)
}

/// What a connection says that nothing was said on.
async fn heard(served: &Served) -> String {
    let mut stream = TcpStream::connect(served.server.rest()).await.unwrap();
    let mut said = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut said)).await.unwrap().unwrap();
    said
}

/// Asks on an open connection, as far as the answer holds something.
async fn asked(stream: &mut TcpStream, path: &str, until: &str) -> String {
    let host = stream.peer_addr().unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = String::new();
    while !said.contains(until) {
        let mut part = [0; 4096];
        let read = tokio::time::timeout(SOON, stream.read(&mut part)).await;
        let read = read.unwrap_or_else(|_| panic!("{until:?} in {said}")).unwrap();
        assert!(read > 0, "{until:?} in {said}");
        said.push_str(&String::from_utf8_lossy(&part[..read]));
    }
    said
}

#[tokio::test]
async fn who_has_too_many_connections_to_rest_is_told_so_and_let_in_when_one_ends() {
    let limits = Limits { address_connections: 2, ..Limits::default() };
    let (served, _) = serve(limits).await;
    let mut first = TcpStream::connect(served.server.rest()).await.unwrap();
    let mut second = TcpStream::connect(served.server.rest()).await.unwrap();
    for stream in [&mut first, &mut second] {
        asked(stream, "/healthz", "ok\n").await;
    }
    let said = heard(&served).await;
    assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("retry-after: 1\r\n"), "{said}");
    assert!(said.contains(r#"{"error":"too many connections from this address"#), "{said}");
    let counted = asked(&mut first, "/metrics", "sentinel_server_pushes_total 0\n").await;
    for line in [
        r#"sentinel_server_connections{service="rest"} 2"#,
        r#"sentinel_server_connections_refused_total{reason="address",service="rest"} 1"#,
    ] {
        assert!(counted.contains(line), "{line} in {counted}");
    }
    drop(second);
    let start = Instant::now();
    loop {
        let mut stream = TcpStream::connect(served.server.rest()).await.unwrap();
        let host = stream.peer_addr().unwrap();
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        // Whoever is refused may be so before they have said all.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut said = String::new();
        let _ = tokio::time::timeout(SOON, stream.read_to_string(&mut said)).await.unwrap();
        if said.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(start.elapsed() < SOON, "its place is never free: {said}");
    }
    served.server.shutdown().await;
}

#[tokio::test]
async fn who_comes_to_a_grpc_that_is_full_is_told_to_go_and_the_others_go_on() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let (mut served, url) = serve(limits).await;
    let (_, key) = served.enrol().await;
    let channel =
        url.parse::<Endpoint>().unwrap().connect_timeout(SOON).timeout(SOON).connect_lazy();
    let mut another = IngestClient::new(channel);
    let refused = another.heartbeat(HeartbeatRequest::default()).await.unwrap_err();
    // It is what became of the connection, and no answer.
    assert!(std::error::Error::source(&refused).is_some(), "{refused:?}");
    assert_ne!(refused.code(), Code::Ok);
    let beats = served.client.heartbeat(served::beat(&key)).await.unwrap().into_inner();
    assert_eq!(beats.refusal_text, "");
    let mut rest = TcpStream::connect(served.server.rest()).await.unwrap();
    let counted = asked(&mut rest, "/metrics", "sentinel_server_pushes_total 0\n").await;
    let refused = r#"sentinel_server_connections_refused_total{reason="all",service="grpc"}"#;
    assert!(counted.contains(refused), "{counted}");
    served.server.shutdown().await;
}
