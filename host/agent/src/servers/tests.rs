//! Over real sockets: which way is taken when one is closed.

use super::*;
use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use prost::Message as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

/// What a server took over HTTP.
#[derive(Clone, Default)]
struct Taken(Arc<AtomicUsize>);

/// A server's REST listener that takes pushes.
async fn rest() -> (String, Taken) {
    let taken = Taken::default();
    let count = taken.clone();
    let push = move |body: Bytes| async move {
        let request = PushRequest::decode(body).unwrap();
        count.0.fetch_add(request.envelopes.len(), Ordering::SeqCst);
        let answer = PushResponse { server_time_ms: 7, ..PushResponse::default() };
        ([(CONTENT_TYPE, "application/x-protobuf")], answer.encode_to_vec())
    };
    let router = Router::new().route("/v1/push", post(push));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await });
    (format!("http://{address}"), taken)
}

/// A proxy that knows HTTP/1.1 and nothing else, and so no gRPC.
async fn no_grpc() -> (String, Taken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Taken::default();
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            count.0.fetch_add(1, Ordering::SeqCst);
            let _ = socket.read(&mut [0; 1024]).await;
            let refusal = b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-length: 0\r\n\r\n";
            let _ = socket.write_all(refusal).await;
        }
    });
    (format!("http://{address}"), asked)
}

/// Where nobody listens, nor comes to as long as the port is held.
fn nobody() -> (String, TcpSocket) {
    let port = TcpSocket::new_v4().unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (format!("http://{}", port.local_addr().unwrap()), port)
}

fn one() -> PushRequest {
    PushRequest { envelopes: vec![sentinel_wire::v1::Envelope::default()] }
}

/// Pushes until it is taken, as the exporter does.
async fn pushed(servers: &Servers) -> PushResponse {
    for _ in 0..100 {
        match servers.push(one()).await {
            Ok(answer) => return answer,
            Err(LinkError::Elsewhere { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no way is found");
}

fn servers(addresses: &[(&str, Option<&str>)]) -> Servers {
    let one = |(grpc, http): &(&str, Option<&str>)| ServerAddress {
        grpc: (*grpc).to_owned(),
        http: http.map(str::to_owned),
    };
    let addresses: Vec<_> = addresses.iter().map(one).collect();
    Servers::new(&addresses, &LinkTls::default()).unwrap()
}

#[tokio::test]
async fn where_grpc_does_not_come_through_the_same_is_posted_over_http() {
    let (grpc, asked) = no_grpc().await;
    let (http, taken) = rest().await;
    let servers = servers(&[(&grpc, Some(&http))]);
    assert_eq!(pushed(&servers).await.server_time_ms, 7);
    assert!(servers.shown().contains("HTTP"), "{}", servers.shown());
    assert_eq!(asked.0.load(Ordering::SeqCst).min(1), 1, "gRPC was tried first");
    let tried = asked.0.load(Ordering::SeqCst);
    for _ in 0..3 {
        pushed(&servers).await;
    }
    assert_eq!(taken.0.load(Ordering::SeqCst), 4);
    assert_eq!(asked.0.load(Ordering::SeqCst), tried, "and left alone for a while");
}

#[tokio::test]
async fn where_a_server_is_gone_the_next_one_is_taken() {
    let (gone, _port) = nobody();
    let (http, taken) = rest().await;
    let servers = servers(&[(&gone, None), (&gone, Some(&http))]);
    pushed(&servers).await;
    assert_eq!(taken.0.load(Ordering::SeqCst), 1);
    let alone = self::servers(&[(&gone, None)]);
    let mut last = None;
    for _ in 0..2 {
        last = alone.push(one()).await.err();
    }
    assert!(!matches!(last, Some(LinkError::Elsewhere { .. }) | None), "both ways were tried");
}

#[tokio::test]
async fn what_a_server_refuses_is_no_reason_to_go_elsewhere() {
    let refuse = |status: u16, body: &'static str| async move {
        let status = axum::http::StatusCode::from_u16(status).unwrap();
        let router =
            Router::new().route("/v1/register", post(move || async move { (status, body) }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async { axum::serve(listener, router).await });
        format!("http://{address}")
    };
    let ours = refuse(403, r#"{"error":"the token was used up"}"#).await;
    let link = HttpLink::new(&ours, &LinkTls::default()).unwrap();
    let error = link.register(RegisterRequest::default()).await.unwrap_err();
    assert!(matches!(&error, LinkError::Refused(text) if text == "the token was used up"));
    assert!(!is_way_closed(&error));
    // An enrolment that waits for approval, or comes too often, is the same at every server.
    for status in [400, 409, 429] {
        let ours = refuse(status, r#"{"error":"the code waits"}"#).await;
        let link = HttpLink::new(&ours, &LinkTls::default()).unwrap();
        let error = link.register(RegisterRequest::default()).await.unwrap_err();
        assert!(matches!(&error, LinkError::Refused(text) if text == "the code waits"), "{status}");
        assert!(!is_way_closed(&error), "{status}");
    }
    let busy = [(429, "<html>slow down</html>"), (409, "")];
    for (status, body) in busy.into_iter().chain([
        (403, "<html>blocked</html>"),
        (404, ""),
        (502, ""),
        (200, "welcome"),
    ]) {
        let other = refuse(status, body).await;
        let link = HttpLink::new(&other, &LinkTls::default()).unwrap();
        let error = link.register(RegisterRequest::default()).await.unwrap_err();
        assert!(is_way_closed(&error), "{status} {body}: {error}");
    }
}

#[test]
fn what_no_grpc_server_said_is_told_from_what_one_did() {
    let mapped = "grpc-status header missing, mapped from HTTP status code 403";
    for (status, closed) in [
        (Status::unavailable("tcp connect error"), true),
        (Status::unknown("h2 protocol error"), true),
        (Status::permission_denied(mapped), true),
        (Status::permission_denied("the token was used up"), false),
        (Status::invalid_argument("257 envelopes"), false),
        (Status::unauthenticated("who"), false),
    ] {
        assert_eq!(is_no_answer(&status), closed, "{status}");
    }
}
