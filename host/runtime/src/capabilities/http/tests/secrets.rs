use super::server::{Server, moved, ok};
use super::*;

fn echo(request: &str) -> String {
    let body = format!("you said {request}");
    format!(
        "HTTP/1.1 200 OK\r\nX-Echo: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        request.lines().next().unwrap(),
        body.len()
    )
}

#[tokio::test]
async fn a_secret_is_filled_in_where_it_is_granted_and_its_echoes_are_masked() {
    let server = Server::answering(echo).await;
    let here = server.origin.as_str();
    let capability = capability(
        &[here],
        &[
            ("token", here, header_place("authorization")),
            ("path", here, SecretPlace::Url),
            ("odd", here, SecretPlace::Url),
        ],
    );
    let mut request = get(server.url("/hook/{{secret:path}}/x?k={{secret:odd}}&l=1"));
    request.headers.push(("Authorization".into(), "Bearer {{secret:token}}".into()));
    let response = gate(&capability).send(request).await.unwrap();
    let seen = &server.seen()[0];
    let line = "GET /hook/T0/B1/x%20y/x?k=a%26b%3Dc%25%2F%3F%23%C3%A9&l=1 HTTP/1.1";
    assert_eq!(seen.lines().next().unwrap(), line);
    assert!(seen.contains("authorization: Bearer s3cret-t0ken\r\n"), "{seen}");
    let masked = "GET /hook/***/x?k=***&l=1 HTTP/1.1";
    assert!(response.headers.contains(&("x-echo".into(), masked.into())), "{response:?}");
    let body = String::from_utf8(response.body).unwrap();
    assert!(body.starts_with(&format!("you said {masked}")), "{body}");
    assert!(body.contains("authorization: Bearer ***"), "{body}");
    for secret in ["s3cret-t0ken", "T0/B1", "%26b%3D"] {
        assert!(!body.contains(secret), "{body}");
    }
}

#[tokio::test]
async fn a_member_of_a_json_body_is_filled_in_where_it_asks_for_what_is_granted() {
    let server = Server::answering(echo).await;
    let here = server.origin.as_str();
    let granted = [("token", here, SecretPlace::Json("key".to_owned()))];
    let capability = capability(&[here], &granted);
    for (body, sent) in [
        (r#"{"key":"{{secret:token}}","a":"{{secret:token}}"}"#, Some("s3cret-t0ken")),
        (r#"{"key": {"key":"{{secret:token}}"}}"#, None),
        (r#"{"key":"x {{secret:token}}"}"#, None),
        (r#"{"key":"{{secret:path}}"}"#, None),
        (r#"["{{secret:token}}"]"#, None),
    ] {
        let request =
            Request { method: HttpMethod::Post, body: body.into(), ..get(server.url("/")) };
        let response = gate(&capability).send(request).await.unwrap();
        let seen = server.seen().pop().unwrap();
        let expect = match sent {
            Some(secret) => body.replacen("{{secret:token}}", secret, 1),
            None => body.to_owned(),
        };
        assert!(seen.ends_with(&expect), "{seen}");
        assert!(!String::from_utf8_lossy(&response.body).contains("s3cret-t0ken"));
    }
}

#[tokio::test]
async fn an_echo_in_a_long_body_is_masked_over_every_border() {
    let server = Server::answering(|_| ok(&"xs3cret-t0ken".repeat(50_000))).await;
    let here = server.origin.as_str();
    let capability = capability(&[here], &[("token", here, header_place("x-key"))]);
    let mut request = get(server.url("/"));
    request.headers.push(("x-key".into(), "{{secret:token}}".into()));
    let response = gate(&capability).send(request).await.unwrap();
    assert!(response.body == b"x***".repeat(50_000));
}

#[test]
fn a_secret_out_of_its_place_is_denied() {
    let (here, there) = ("http://127.0.0.1:9999", "https://example.com");
    let capability = capability(
        &[here, there],
        &[
            ("token", here, header_place("x-key")),
            ("path", there, SecretPlace::Url),
            ("empty", here, SecretPlace::Url),
            ("gone", here, SecretPlace::Url),
            ("climb", here, SecretPlace::Url),
            ("lines", here, header_place("x-key")),
        ],
    );
    for (path, header, value) in [
        // Another place, another header, another origin.
        ("/{{secret:token}}", "x", ""),
        ("/?{{secret:token}}", "x", ""),
        ("/", "x-other", "{{secret:token}}"),
        ("/{{secret:path}}", "x", ""),
        ("/", "x-key", "{{secret:path}}"),
        // Not granted at all, or not a name.
        ("/{{secret:other}}", "x", ""),
        ("/{{secret:}}", "x", ""),
        ("/", "x-key", "{{secret:token }}"),
        ("/", "x-key", "{{secret:{{secret:token}}"),
        // Granted and not usable.
        ("/{{secret:empty}}", "x", ""),
        ("/{{secret:gone}}", "x", ""),
        ("/{{secret:climb}}", "x", ""),
        ("/", "x-key", "{{secret:lines}}"),
    ] {
        let headers = vec![(header.to_owned(), value.to_owned())];
        let request = Request { headers, ..get(format!("{here}{path}")) };
        let error = prepare::prepare(request, &capability, &*store()).err().unwrap();
        assert!(matches!(error, HttpError::Denied(_)), "{path} {value}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

#[test]
fn a_placeholder_that_could_move_the_request_is_invalid() {
    let here = "http://127.0.0.1:9999";
    let capability = capability(&[here], &[("token", here, SecretPlace::Url)]);
    for url in [
        "http://{{secret:token}}/",
        "http://{{secret:token}}@127.0.0.1:9999/",
        "http://127.0.0.1:{{secret:token}}/",
        "http://127.0.0.1:9999{{secret:token}}",
        "http://127.0.0.1:9999/#{{secret:token}}",
        "http://127.0.0.1:9999/{{secret:token",
        "http://127.0.0.1:9999/{{secret:token}",
        "{{secret:token}}://127.0.0.1:9999/",
    ] {
        let error = prepare::prepare(get(url), &capability, &*store()).err().unwrap();
        assert!(matches!(error, HttpError::Invalid(_)), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_a_secret_in_the_request() {
    let server = Server::answering(|request| match request.contains("/second") {
        true => ok("followed"),
        false => moved(302, "/second?was=s3cret-t0ken"),
    })
    .await;
    let here = server.origin.as_str();
    let capability = capability(&[here], &[("token", here, SecretPlace::Url)]);
    let gate = gate(&capability);
    let response = gate.send(get(server.url("/first?{{secret:token}}"))).await.unwrap();
    assert_eq!(response.status, 302);
    let location = response.headers.iter().find(|(name, _)| name == "location").unwrap();
    assert_eq!(location.1, "/second?was=***");
    assert_eq!(server.seen().len(), 1);
    assert_eq!(gate.send(get(server.url("/first"))).await.unwrap().body, b"followed");
}
