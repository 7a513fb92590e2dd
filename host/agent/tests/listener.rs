//! An agent's own listener, as it is served.

use prometheus::Registry;
use sentinel_agent::enrol::GivenToken;
use sentinel_agent::lines::Lines;
use sentinel_agent::{Agent, AgentConfig, AgentError, AgentOptions, LinkTls, ServerAddress};
use sentinel_registry_client::NoPlugins;
use sentinel_runtime::{CompilerCommand, NoSecrets, Runtime, RuntimeOptions};
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// An agent whose server does not answer.
async fn start(data: &Path, listen: &str) -> Result<Agent, AgentError> {
    let registry = Registry::new();
    let options = RuntimeOptions::new(data, CompilerCommand::hooked(), registry.clone());
    Agent::start(AgentOptions {
        data: data.to_owned(),
        config: AgentConfig::default(),
        servers: ServerAddress::list(&["http://127.0.0.1:1".to_owned()], &[]),
        tls: LinkTls::default(),
        enrolment: Arc::new(GivenToken(Some(Zeroizing::new("a token".to_owned())))),
        runtime: Runtime::start(options).unwrap(),
        plugins: Arc::new(NoPlugins),
        operators: None,
        secrets: Arc::new(NoSecrets),
        warnings: Arc::new(Vec::new),
        forbidden: Vec::new(),
        listen: Some(listen.parse().unwrap()),
        registry,
        lines: Lines::default(),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_listener_says_that_it_lives_whether_it_is_ready_and_what_it_counts() {
    let folder = tempfile::tempdir().unwrap();
    let agent = start(folder.path(), "127.0.0.1:0").await.unwrap();
    let address = agent.listen().unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    for (path, status, said) in [
        ("/healthz", 200, "ok\n"),
        ("/ready", 503, "the server does not answer; samples are kept\n"),
        ("/metrics", 200, "\nsentinel_agent_connected 0\n"),
        ("/metrics", 200, "\nsentinel_agent_log_healthy 1\n"),
        ("/status", 200, "\"connected\":false"),
        ("/", 404, ""),
    ] {
        let answer = client.get(format!("http://{address}{path}")).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(said), "{path}: {text}");
    }
    // Connections that are kept open for more would be waited for.
    drop(client);
    agent.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_does_not_listen_where_others_could_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let refused = start(folder.path(), "0.0.0.0:0").await.err();
    assert!(matches!(refused, Some(AgentError::Listen { .. })), "{refused:?}");
}
