//! What a server takes at once and how much of it: beyond, it refuses in the words of the protocol, and
//! goes on with everybody else.

mod served;

use reqwest::{Body, Client, StatusCode};
use sentinel_wire::envelope::MAX_PUSH;
use sentinel_wire::v1::{Envelope, PushRequest, Refusal};
use served::{Served, TOKEN, serve};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::JoinSet;
use tonic::Code;

/// The largest body of a request to REST.
const MAX_BODY: usize = 8 << 20;
/// Requests to REST that are worked on at once, and those that wait for their turn.
const RUNNING: usize = 64;
const WAITING: usize = 256;
/// How many more are asked in the test.
const BEYOND: usize = 9;
const SOON: Duration = Duration::from_secs(30);

fn push(bytes: usize) -> PushRequest {
    let envelope = Envelope { payload: vec![0; bytes].into(), ..Envelope::default() };
    PushRequest { envelopes: vec![envelope] }
}

#[tokio::test]
async fn a_push_above_the_bound_is_refused_and_its_connection_goes_on() {
    let mut served = serve().await;
    let (_, key) = served.enrol().await;
    for round in 1..=2 {
        let refused = served.client.push(push(MAX_PUSH + (1 << 20))).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
        assert_eq!(served.push(&key, round).await, (Refusal::None, String::new()));
    }
    // As many bytes of payload as a push may have are looked at, here for their signature.
    let looked_at = served.client.push(push(MAX_PUSH)).await.unwrap().into_inner();
    assert_eq!(looked_at.refusal(), Refusal::Signature);
    served.server.shutdown().await;
}

/// The head of a request whose body is so long, on a connection that ends with the answer.
fn head(served: &Served, (method, path): (&str, &str), bytes: usize) -> String {
    let host = served.server.rest();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n"
    )
}

/// What is answered to a head alone.
async fn answer(served: &Served, head: &str) -> String {
    let mut stream = TcpStream::connect(served.server.rest()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut said)).await.unwrap().unwrap();
    said
}

#[tokio::test]
async fn a_body_above_the_bound_is_refused_whatever_is_asked_and_before_it_is_read() {
    let served = serve().await;
    for asked in [
        ("PUT", "/v1/rules"),
        ("POST", "/v1/rules/check"),
        ("PUT", "/v1/fleet"),
        ("POST", "/v1/silences"),
    ] {
        let said = answer(&served, &head(&served, asked, MAX_BODY + 1)).await;
        assert!(said.starts_with("HTTP/1.1 413 "), "{asked:?}: {said}");
    }
    let client = Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let url = format!("http://{}/v1/rules", served.server.rest());
    let put = async |body: Body| {
        let request =
            client.put(&url).bearer_auth(TOKEN).header("content-type", "application/json");
        request.body(body).send().await.unwrap().status()
    };
    // Of the length of these nothing is said before they come.
    let pieces = |more: usize| {
        let sizes = [MAX_BODY / 8; 8].into_iter().chain([more]);
        let all: Vec<std::io::Result<Vec<u8>>> = sizes.map(|it| Ok(vec![b' '; it])).collect();
        Body::wrap_stream(futures::stream::iter(all))
    };
    assert_eq!(put(pieces(1)).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(put(vec![b' '; MAX_BODY].into()).await, StatusCode::BAD_REQUEST, "it is read");
    served.server.shutdown().await;
}

/// Asks something whose body does not come yet: where to write it to. The answer comes to `answers`.
async fn begin(
    served: &Served,
    path: &str,
    answers: &mut JoinSet<String>,
) -> std::io::Result<OwnedWriteHalf> {
    let stream = TcpStream::connect(served.server.rest()).await?;
    let (mut read, mut write) = stream.into_split();
    answers.spawn(async move {
        let mut said = String::new();
        read.read_to_string(&mut said).await.unwrap();
        said
    });
    write.write_all(head(served, ("POST", path), 2).as_bytes()).await?;
    Ok(write)
}

async fn next(answers: &mut JoinSet<String>) -> String {
    tokio::time::timeout(SOON, answers.join_next()).await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn all_routes_share_the_bounds_and_what_is_beyond_is_refused_at_once() {
    let served = serve().await;
    let (mut answers, mut bodies) = (JoinSet::new(), Vec::new());
    // Routes that change nothing, so that each request waits for its body and for nothing else.
    let paths = ["/v1/rules/check", "/v1/silences/preview"].into_iter().cycle();
    for path in paths.take(RUNNING + WAITING + BEYOND) {
        bodies.push(begin(&served, path, &mut answers).await.unwrap());
    }
    for _ in 0..BEYOND {
        let refused = next(&mut answers).await;
        assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
        assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    }
    let client = Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let url = |path: &str| format!("http://{}{path}", served.server.rest());
    let ask =
        async |path: &str| client.get(url(path)).bearer_auth(TOKEN).send().await.unwrap().status();
    assert_eq!(ask("/v1/status").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask("/healthz").await, StatusCode::OK, "that it lives is said all the same");

    for body in &mut bodies {
        // Those that were refused are gone.
        let _ = body.write_all(b"{}").await;
    }
    for _ in 0..RUNNING + WAITING {
        let said = next(&mut answers).await;
        assert!(said.starts_with("HTTP/1.1 422 "), "{said}");
    }
    assert_eq!(ask("/v1/status").await, StatusCode::OK, "places are given back");
    served.server.shutdown().await;
}
