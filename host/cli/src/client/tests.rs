use super::*;

#[test]
fn a_server_is_an_origin() {
    for (named, url) in [
        ("127.0.0.1:8080", Some("http://127.0.0.1:8080/")),
        ("http://127.0.0.1:8080/", Some("http://127.0.0.1:8080/")),
        ("https://mon.example", Some("https://mon.example/")),
        ("localhost:1", Some("http://localhost:1/")),
        ("ftp://a", None),
        ("http://u:p@a", None),
        ("http://a/b", None),
        ("http://a?b", None),
        ("", None),
    ] {
        assert_eq!(base(named).ok().map(String::from).as_deref(), url, "{named}");
    }
}

#[test]
fn the_token_of_a_running_server_goes_to_it_alone() {
    let running = Running {
        server: "http://127.0.0.1:8080".into(),
        grpc: String::new(),
        data: "/".into(),
        token_file: "/".into(),
        pid: 1,
        registry: None,
        enrolment: None,
    };
    for (named, same) in [
        ("127.0.0.1:8080", true),
        ("localhost:8080", true),
        ("127.0.0.1:8081", false),
        ("https://127.0.0.1:8080", false),
        ("mon.example:8080", false),
    ] {
        assert_eq!(is_at(&running, &base(named).unwrap()), same, "{named}");
    }
}

#[test]
fn a_token_never_travels_in_the_clear() {
    let token = || Some(Zeroizing::new("t".to_owned()));
    let refused =
        Client::new(base("mon.example:80").unwrap(), token(), &LinkTls::default()).err().unwrap();
    assert!(refused.message.contains("without TLS"), "{refused:?}");
    assert!(Client::new(base("mon.example:80").unwrap(), None, &LinkTls::default()).is_ok());
    assert!(Client::new(base("localhost:80").unwrap(), token(), &LinkTls::default()).is_ok());
}

#[test]
fn an_answer_of_something_else_is_shown_in_part_and_harmless() {
    let url = base("localhost:1").unwrap();
    let failure = refused(&url, StatusCode::BAD_GATEWAY, "\u{1b}[2J<html>".repeat(99).as_bytes());
    assert!(failure.message.starts_with("http://localhost:1 answered 502 Bad Gateway: \\u{1b}[2J"));
    assert!(failure.message.len() < 600);
}

#[tokio::test]
async fn a_server_that_is_not_there_has_a_hint() {
    // Nobody listens on it, and nobody else gets it.
    let kept = tokio::net::TcpSocket::new_v4().unwrap();
    kept.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = kept.local_addr().unwrap();
    let client =
        Client::new(base(&address.to_string()).unwrap(), None, &LinkTls::default()).unwrap();
    let failure = client.get::<String>("/v1/status", &[]).await.unwrap_err();
    assert!(failure.message.contains("there is no server at"), "{failure:?}");
    assert!(failure.hint.unwrap().contains("sentinel up"));
}
