use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;

use tokio::sync::Barrier;

use super::server::{Act, Server, ok};
use super::*;
use address::{Resolver, Resolving};

async fn fails(acts: fn() -> Vec<Act>, adjust: impl FnOnce(&mut HttpGrant)) -> HttpError {
    let server = Server::acting(move |_| acts()).await;
    let gate = gate(&adjusted(&[&server.origin], &[], adjust));
    let error = gate.send(get(server.url("/path"))).await.unwrap_err();
    assert_eq!(server.seen().len(), 1);
    assert_eq!((gate.counts().requests, gate.counts().failed), (1, 1));
    for part in ["127.0.0.1", "/path", "://"] {
        assert!(!error.to_string().contains(part), "{error} holds {part}");
    }
    error
}

fn send(text: &str) -> Act {
    Act::Send(text.as_bytes().to_vec())
}

fn quick(grant: &mut HttpGrant) {
    grant.timeout_ms = 2_000;
}

fn small(grant: &mut HttpGrant) {
    grant.response_bytes = 1_000;
}

fn usual(_: &mut HttpGrant) {}

#[tokio::test]
async fn a_response_comes_with_its_status_headers_and_body() {
    let server = Server::answering(|_| {
        "HTTP/1.1 503 Busy\r\nX-Upper: A\r\nx-upper: B\r\ncontent-length: 4\r\n\r\nbody".into()
    })
    .await;
    let gate = gate(&capability(&[&server.origin], &[]));
    let mut request = get(server.url("/a?b"));
    request.method = HttpMethod::Post;
    request.headers = vec![("X-Mine".into(), "1".into()), ("User-Agent".into(), "me".into())];
    request.body = b"payload".to_vec();
    let response = gate.send(request).await.unwrap();
    assert_eq!((response.status, response.body.as_slice()), (503, &b"body"[..]));
    let values: Vec<_> = response.headers.iter().filter(|(name, _)| name == "x-upper").collect();
    assert_eq!(values.len(), 2);
    let seen = server.seen().pop().unwrap();
    for part in ["POST /a?b HTTP/1.1\r\n", "x-mine: 1\r\n", "user-agent: me\r\n", "\r\n\r\npayload"]
    {
        assert!(seen.contains(part), "{seen}");
    }
    let counts = gate.counts();
    assert_eq!((counts.requests, counts.sent_bytes, counts.received_bytes), (1, 7, 4));
    gate.send(get("http://elsewhere/")).await.unwrap_err();
    assert_eq!((gate.counts().refused, gate.counts().failed), (1, 0));
}

#[tokio::test]
async fn time_that_runs_out_is_a_timeout_wherever_it_does() {
    let head = || vec![Act::Wait];
    assert_eq!(fails(head, quick).await, HttpError::Timeout);
    let body = || vec![send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhal"), Act::Wait];
    assert_eq!(fails(body, quick).await, HttpError::Timeout);
}

#[tokio::test]
async fn a_guest_may_wait_less_than_the_grant_and_not_more() {
    let server = Server::acting(|_| vec![Act::Wait]).await;
    let quick = gate(&adjusted(&[&server.origin], &[], quick));
    let long = Request { timeout_ms: u32::MAX, ..get(server.url("/")) };
    assert_eq!(quick.send(long).await, Err(HttpError::Timeout));
    let usual = gate(&capability(&[&server.origin], &[]));
    let short = Request { timeout_ms: 1_000, ..get(server.url("/")) };
    assert_eq!(usual.send(short).await, Err(HttpError::Timeout));
}

#[tokio::test]
async fn a_response_beyond_the_cap_is_not_read_on() {
    let announced = || vec![send("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n"), Act::Wait];
    assert_eq!(fails(announced, small).await, HttpError::TooLarge(1001));
    let chunked = || {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n";
        vec![send(head), Act::Send(vec![7; 1001]), Act::Wait]
    };
    assert!(matches!(fails(chunked, small).await, HttpError::TooLarge(n) if n > 1000));
    let headers = || {
        let long = "y".repeat(MAX_HEADER_BYTES + 1);
        vec![Act::Send(format!("HTTP/1.1 200 OK\r\nx: {long}\r\n\r\n").into_bytes())]
    };
    assert!(matches!(fails(headers, usual).await, HttpError::TooLarge(_)));
}

#[tokio::test]
async fn a_head_response_may_announce_any_size() {
    let server =
        Server::answering(|_| "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n".into()).await;
    let gate = gate(&capability(&[&server.origin], &[]));
    let request = Request { method: HttpMethod::Head, ..get(server.url("/")) };
    assert_eq!(gate.send(request).await.unwrap().body, b"");
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_is_broken() {
    for acts in [
        Vec::new,
        || vec![send("HTTP/1.1 200 OK\r\ncontent-le")],
        || vec![send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")],
        || vec![send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab")],
        || vec![send("SSH-2.0-OpenSSH_9.2\r\n")],
    ] as [fn() -> Vec<Act>; 5]
    {
        let error = fails(acts, usual).await;
        assert!(matches!(error, HttpError::Broken(_)), "{error}");
    }
}

/// Answers from a list, the last answer for ever after.
struct Scripted {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        Arc::new(Self { answers: answers.iter().map(parse).collect(), asked: AtomicUsize::new(0) })
    }

    fn options(self: &Arc<Self>) -> HttpClientOptions {
        let resolver = Arc::clone(self) as Arc<dyn Resolver>;
        HttpClientOptions { resolver: Some(resolver), ..HttpClientOptions::default() }
    }
}

impl Resolver for Scripted {
    fn resolve(&self, _host: &str) -> Resolving {
        let at = self.asked.fetch_add(1, Ordering::Relaxed).min(self.answers.len() - 1);
        let answer = self.answers[at].clone();
        Box::pin(async move { Ok(answer) })
    }
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_or_to_metadata_is_denied() {
    let server = Server::answering(|_| ok("inside")).await;
    let origin = format!("http://innocent.example:{}", server.port());
    for addresses in [
        &["127.0.0.1"][..],
        &["::1", "127.0.0.1"],
        &["::ffff:127.0.0.1"],
        &["169.254.169.254"],
        &["0.0.0.0"],
    ] {
        let gate = gate_with(&capability(&[&origin], &[]), Scripted::new(&[addresses]).options());
        let error = gate.send(get(&origin)).await.unwrap_err();
        assert!(matches!(error, HttpError::Denied(_)), "{addresses:?}: {error}");
        assert!(!error.to_string().contains("innocent"), "{error}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_checked_at_every_connection() {
    let server = Server::answering(|_| ok("inside")).await;
    let origin = format!("http://localhost:{}", server.port());
    let resolver = Scripted::new(&[&["127.0.0.1"], &["169.254.169.254"]]);
    let gate = gate_with(&capability(&[&origin], &[]), resolver.options());
    assert_eq!(gate.send(get(&origin)).await.unwrap().body, b"inside");
    // Asked once for one connection: what was checked is what was connected to.
    assert_eq!(resolver.asked.load(Ordering::Relaxed), 1);
    let error = gate.send(get(&origin)).await.unwrap_err();
    assert!(matches!(error, HttpError::Denied(_)), "{error}");
}

#[tokio::test]
async fn what_was_never_sent_is_a_failed_connection() {
    // Nobody listens on it, and nobody else gets it.
    let kept = tokio::net::TcpSocket::new_v4().unwrap();
    kept.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nowhere = format!("http://{}", kept.local_addr().unwrap());
    let error = gate(&capability(&[&nowhere], &[])).send(get(&nowhere)).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect(_)), "{error}");
    assert!(!error.to_string().contains("127.0.0.1"), "{error}");

    let unknown = "http://unknown.example";
    let gate = gate_with(&capability(&[unknown], &[]), Scripted::new(&[&[]]).options());
    let error = gate.send(get(unknown)).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect(_)), "{error}");
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_in_time_was_never_sent_over() {
    // It accepts, and never says a word of TLS.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let options = HttpClientOptions {
        extra_roots: vec![made.cert.pem().into_bytes()],
        connect_timeout: Some(Duration::from_millis(50)),
        ..Scripted::new(&[&["127.0.0.1"]]).options()
    };
    let gate = gate_with(&capability(&[&origin], &[]), options);
    let error = gate.send(get(&origin)).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect(_)), "{error}");
}

/// Serves one TLS connection after the other on a thread, with a certificate for `localhost`
/// of its own making; gives its port and the certificate in PEM.
fn tls_server() -> (u16, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok() {
                let _ = stream.write_all(ok("over TLS").as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    (port, made.cert.pem().into_bytes())
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_a_tls_error() {
    let (port, pem) = tls_server();
    let origin = format!("https://localhost:{port}");
    let capability = capability(&[&origin], &[]);
    // A stranger's authority, so that the outcome does not rest on what the system trusts.
    let stranger = rcgen::generate_simple_self_signed(vec!["other".to_owned()]).unwrap();
    let resolver = Scripted::new(&[&["127.0.0.1"]]);
    let trusting =
        |pem: Vec<u8>| HttpClientOptions { extra_roots: vec![pem], ..resolver.options() };
    let refusing = gate_with(&capability, trusting(stranger.cert.pem().into_bytes()));
    let error = refusing.send(get(&origin)).await.unwrap_err();
    assert!(matches!(error, HttpError::Tls(_)), "{error}");
    let trusting = gate_with(&capability, trusting(pem));
    assert_eq!(trusting.send(get(&origin)).await.unwrap().body, b"over TLS");
}

#[test]
fn an_extra_root_that_is_no_certificate_is_said() {
    let options = HttpClientOptions {
        extra_roots: vec![b"nonsense".to_vec()],
        ..HttpClientOptions::default()
    };
    let error = HttpClient::new(options).unwrap_err();
    assert!(error.to_string().starts_with("extra root certificate 0"), "{error}");
}

#[tokio::test]
async fn many_requests_are_answered_in_order_sixteen_at_once() {
    // Nobody is answered before sixteen are there, so fewer at once would never end.
    let together = Arc::new(Barrier::new(MAX_IN_FLIGHT));
    let open = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let most_seen = Arc::clone(&most);
    let server = Server::acting(move |request| {
        most_seen.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let open = Arc::clone(&open);
        let leave = move || {
            open.fetch_sub(1, Ordering::SeqCst);
        };
        let path = request.split(' ').nth(1).unwrap();
        vec![Act::Meet(Arc::clone(&together)), Act::Do(Box::new(leave)), send(&ok(path))]
    })
    .await;
    let gate = gate(&capability(&[&server.origin], &[]));
    let path =
        |i: usize| if i == 50 { "http://elsewhere/".into() } else { server.url(&format!("/{i}")) };
    let responses = gate.send_all((0..6 * MAX_IN_FLIGHT + 1).map(|i| get(path(i))).collect()).await;
    assert_eq!(most.load(Ordering::SeqCst), MAX_IN_FLIGHT);
    for (i, response) in responses.into_iter().enumerate() {
        match response {
            Ok(response) => assert_eq!(response.body, format!("/{i}").into_bytes()),
            Err(error) => assert!(i == 50 && matches!(error, HttpError::Denied(_)), "{i} {error}"),
        }
    }
}

#[tokio::test]
async fn more_requests_than_allowed_at_once_are_all_refused() {
    let gate = gate(&capability(&["http://127.0.0.1:9"], &[]));
    let requests = vec![get("http://127.0.0.1:9/"); MAX_REQUESTS + 1];
    let answers = gate.send_all(requests).await;
    assert_eq!(answers.len(), MAX_REQUESTS + 1);
    assert!(answers.iter().all(|answer| matches!(answer, Err(HttpError::Invalid(_)))));
    assert_eq!(gate.counts().requests, 0);
}

#[tokio::test]
async fn what_the_requests_of_a_call_share_runs_out_for_the_later_ones() {
    let server = Server::answering(|_| ok("0123456789")).await;
    let gate = gate(&capability(&[&server.origin], &[]));
    let batch = Batch { room: AtomicU64::new(15), ..Batch::begin(0) };
    assert!(gate.exchange(get(server.url("/")), &batch).await.is_ok());
    let error = gate.exchange(get(server.url("/")), &batch).await.unwrap_err();
    assert_eq!(error, HttpError::TooLarge(10));
    let late = Batch { deadline: Instant::now(), ..Batch::begin(15) };
    let error = gate.exchange(get(server.url("/")), &late).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect(_)), "{error}");
    assert_eq!(server.seen().len(), 2);
}

/// Runs a test of this file in a process of its own whose environment names a proxy.
#[test]
fn a_proxy_of_the_environment_is_not_used() {
    let module = module_path!().split_once("::").unwrap().1;
    let test = format!("{module}::a_response_comes_with_its_status_headers_and_body");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, "http://127.0.0.1:1");
    }
    let out = child.args([&test, "--exact"]).env_remove("NO_PROXY").output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
}
