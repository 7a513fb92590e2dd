//! TLS by certificate and key.

mod running;

use running::{Running, options};
use sentinel_registry_service::Tls;

#[tokio::test]
async fn a_registry_with_a_certificate_speaks_tls_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let tls =
        Tls { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    std::fs::write(&tls.certificate, made.cert.pem()).unwrap();
    std::fs::write(&tls.key, made.signing_key.serialize_pem()).unwrap();
    let mut secure = options();
    secure.tls = Some(tls);
    secure.limits.head = std::time::Duration::from_secs(10);
    let registry = Running::with(secure, None).await;
    let certificate = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([certificate])
        .resolve("localhost", registry.registry.address())
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/v2/", registry.registry.address().port());
    let response = client.get(&url).bearer_auth(&registry.token).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let plain = registry.anybody(reqwest::Method::GET, "/v2/").send().await;
    assert!(plain.is_err(), "{plain:?}");
}
