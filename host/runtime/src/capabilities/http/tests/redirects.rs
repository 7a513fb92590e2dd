use super::server::{Server, moved, ok};
use super::*;

#[tokio::test]
async fn a_redirect_within_the_allow_list_is_followed_as_its_status_says() {
    let server = Server::answering(|request| {
        let path = request.split(' ').nth(1).unwrap();
        match path.strip_prefix("/from/") {
            Some(status) => moved(status.parse().unwrap(), "../to"),
            None => ok("there"),
        }
    })
    .await;
    let gate = gate(&capability(&[&server.origin], &[]));
    for (status, method, line, body) in [
        (301, HttpMethod::Post, "GET /to", ""),
        (303, HttpMethod::Put, "GET /to", ""),
        (307, HttpMethod::Post, "POST /to", "payload"),
        (308, HttpMethod::Put, "PUT /to", "payload"),
        (302, HttpMethod::Get, "GET /to", "payload"),
    ] {
        let url = server.url(&format!("/from/{status}"));
        let request = Request { method, body: b"payload".to_vec(), ..get(url) };
        assert_eq!(gate.send(request).await.unwrap().body, b"there");
        let seen = server.seen().pop().unwrap();
        assert!(seen.starts_with(&format!("{line} ")), "{status} {method}: {seen}");
        assert!(seen.ends_with(&format!("\r\n\r\n{body}")), "{status} {method}: {seen}");
    }
    assert_eq!(gate.counts().requests, 10);
}

#[tokio::test]
async fn a_redirect_out_of_the_allow_list_is_handed_back() {
    let outside = Server::answering(|_| ok("outside")).await;
    let target = outside.url("/x");
    let server = Server::answering(move |_| moved(302, &target)).await;
    let response =
        gate(&capability(&[&server.origin], &[])).send(get(server.url("/"))).await.unwrap();
    assert_eq!((response.status, response.body.as_slice()), (302, &b"moved"[..]));
    assert!(outside.seen().is_empty());

    // Nor with a method that is not allowed.
    let server = Server::answering(|_| moved(303, "/next")).await;
    let posting =
        adjusted(&[&server.origin], &[], |grant| grant.methods = [HttpMethod::Post].into());
    let request = Request { method: HttpMethod::Post, ..get(server.url("/")) };
    assert_eq!(gate(&posting).send(request).await.unwrap().status, 303);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn redirects_without_end_are_followed_five_times() {
    let server = Server::answering(|_| moved(302, "/again")).await;
    let response =
        gate(&capability(&[&server.origin], &[])).send(get(server.url("/"))).await.unwrap();
    assert_eq!(response.status, 302);
    assert_eq!(server.seen().len(), 1 + MAX_REDIRECTS);
}

#[tokio::test]
async fn a_failure_after_a_redirect_never_says_that_nothing_was_sent() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let target = nowhere.clone();
    let server = Server::answering(move |_| moved(307, &target)).await;
    let gate = gate(&capability(&[&server.origin, &nowhere], &[]));
    let request = Request { method: HttpMethod::Post, ..get(server.url("/")) };
    let error = gate.send(request).await.unwrap_err();
    assert!(matches!(error, HttpError::Broken(_)), "{error}");
    assert!(!error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn credentials_of_the_guest_do_not_follow_a_redirect_elsewhere() {
    let other = Server::answering(|_| ok("there")).await;
    let target = other.url("/x");
    let server = Server::answering(move |_| moved(302, &target)).await;
    let gate = gate(&capability(&[&server.origin, &other.origin], &[]));
    let mut request = get(server.url("/"));
    request.headers = vec![("Authorization".into(), "mine".into()), ("x-kept".into(), "1".into())];
    gate.send(request).await.unwrap();
    let seen = other.seen().pop().unwrap();
    assert!(!seen.contains("mine") && seen.contains("x-kept: 1"), "{seen}");
}
