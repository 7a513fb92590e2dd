//! Who may do what, how often, and over what.

mod running;

use reqwest::Method;
use running::{Running, header, options};

const BLOB: &[u8] = b"hello blob";
const NAME: &str = "acme/thing";

#[tokio::test]
async fn pulling_is_open_and_pushing_needs_a_token_of_the_namespace() {
    let registry = Running::start().await;
    let blob = registry.push_blob(NAME, BLOB).await;
    let at = format!("/v2/{NAME}/blobs/{blob}");
    let (_, reading) = registry.store.create_token(None, 0).await.unwrap();
    let basic = |user: &str, password: &str| {
        registry.anybody(Method::GET, "/v2/").basic_auth(user, Some(password))
    };
    let post = |name: &str| registry.anybody(Method::POST, &format!("/v2/{name}/blobs/uploads/"));
    for (says, request, status, code) in [
        ("a greeting asks for a token", registry.anybody(Method::GET, "/v2/"), 401, "UNAUTHORIZED"),
        ("an empty Basic is none", basic("", ""), 401, "UNAUTHORIZED"),
        ("a wrong token", basic("me", "srt_0123456789abcdef_00"), 401, "UNAUTHORIZED"),
        ("a token as password", basic("me", &registry.token), 200, ""),
        ("a reading token greets", basic("me", &reading), 200, ""),
        ("anybody pulls", registry.anybody(Method::GET, &at), 200, ""),
        (
            "a wrong token pulls nothing",
            registry.anybody(Method::GET, &at).bearer_auth("x"),
            401,
            "UNAUTHORIZED",
        ),
        ("anybody does not push", post(NAME), 401, "UNAUTHORIZED"),
        ("a reading token does not push", post(NAME).bearer_auth(&*reading), 403, "DENIED"),
        (
            "nor to another namespace",
            post("beta/thing").bearer_auth(&registry.token),
            403,
            "DENIED",
        ),
        (
            "nor to one that begins alike",
            post("acme-x/thing").bearer_auth(&registry.token),
            403,
            "DENIED",
        ),
        ("to the own one", post("acme/new").bearer_auth(&registry.token), 202, ""),
        ("anybody does not delete", registry.anybody(Method::DELETE, &at), 401, "UNAUTHORIZED"),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{says}");
        if status == 401 {
            assert!(
                running::header(&response, "www-authenticate").starts_with("Basic realm="),
                "{says}"
            );
        }
        if !code.is_empty() {
            assert_eq!(running::code(response).await, code, "{says}");
        }
    }
    let mut closed = running::options();
    closed.anonymous_pull = false;
    let closed = Running::over(&registry.folder, closed, None).await;
    for (token, status) in [(None, 401), (Some(&*reading), 200), (Some(&closed.token), 200)] {
        let mut request = closed.anybody(Method::GET, &at);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        assert_eq!(request.send().await.unwrap().status(), status, "{token:?}");
    }
}

#[tokio::test]
async fn guessing_tokens_and_asking_too_often() {
    let mut few = options();
    few.rates.failures.burst = 3.0;
    few.rates.failures.per_second = 0.0;
    let registry = Running::with(few, None).await;
    let guess = || registry.anybody(Method::GET, "/v2/").bearer_auth("srt_x").send();
    for _ in 0..3 {
        assert_eq!(guess().await.unwrap().status(), 401);
    }
    let refused = guess().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(!header(&refused, "retry-after").is_empty());
    let right = registry.ask(Method::GET, "/v2/").send().await.unwrap();
    assert_eq!(right.status(), 429, "a right one is not looked at either");
    assert_eq!(registry.anybody(Method::GET, "/v2/").send().await.unwrap().status(), 401);
    let mut few = options();
    few.rates.address.burst = 2.0;
    few.rates.address.per_second = 0.0;
    let registry = Running::with(few, None).await;
    let ask = || registry.anybody(Method::GET, "/v2/acme/x/tags/list").send();
    let statuses =
        [ask().await, ask().await, ask().await].map(|one| one.unwrap().status().as_u16());
    assert_eq!(statuses, [404, 404, 429]);
    // A token has a rate of its own, wherever it is used from, and takes none from another.
    let mut few = options();
    few.rates.token.burst = 2.0;
    few.rates.token.per_second = 0.0;
    let registry = Running::with(few, None).await;
    let ask = |token: &str| registry.anybody(Method::GET, "/v2/").bearer_auth(token).send();
    let status = async |token: &str| ask(token).await.unwrap().status().as_u16();
    let (own, other) = (&registry.token, registry.store.create_token(None, 0).await.unwrap().1);
    let own = [status(own).await, status(own).await, status(own).await];
    assert_eq!((own, status(&other).await), ([200, 200, 429], 200));
}

#[tokio::test]
async fn a_listener_that_others_could_read() {
    let mut open = options();
    open.listen = ([0, 0, 0, 0], 0).into();
    let store = sentinel_registry_service::Store::open(&sentinel_registry_service::Place::Folder(
        tempfile::tempdir().unwrap().path().into(),
    ));
    let refused = sentinel_registry_service::serve(open, store.unwrap(), None).await;
    assert!(refused.err().unwrap().to_string().contains("without TLS"));
}
