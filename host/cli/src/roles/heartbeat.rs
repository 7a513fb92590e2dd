//! The dead man's heartbeat: somebody outside is told that alerting works, for as long as it does.
//! When nothing comes there any more, they tell people: of a machine that is gone no alert of its
//! own can tell.

use std::time::Duration;

use schemars::JsonSchema;
use sentinel_model::duration::Millis;
use sentinel_worker::status::WorkerStatus;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::client::is_loopback;

/// The longest an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The least time between two heartbeats.
pub(crate) const LEAST_EVERY: Millis = Millis(1_000);
/// Alerting that has not looked at its rules for so long does not work.
const STUCK_MS: i64 = 60_000;

/// Who is told that alerting works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeartbeatConfig {
    /// An address that is asked with GET, such as a check of a service for dead man's switches.
    /// Whoever knows it can answer for this machine: keep it as you keep a password.
    pub(crate) url: String,
    /// How often.
    #[serde(default = "minute")]
    pub(crate) every: Millis,
}

fn minute() -> Millis {
    Millis(60_000)
}

impl HeartbeatConfig {
    /// What is wrong with it: JSON Pointer, and words that do not repeat the address.
    pub(crate) fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let is_http = |url: Url| matches!(url.scheme(), "http" | "https");
        if !Url::parse(&self.url).is_ok_and(is_http) {
            let text = "no address of a web server; write it whole, as https://example.com/ping/ID";
            problems.push(("/url".to_owned(), text.to_owned()));
        }
        if self.every < LEAST_EVERY {
            let text = format!("{} is shorter than {LEAST_EVERY}", self.every);
            problems.push(("/every".to_owned(), text));
        }
        problems
    }
}

/// Why alerting does not work, if it does not.
fn trouble(status: &WorkerStatus, now: i64) -> Option<String> {
    let silent = now.saturating_sub(status.rules.as_of);
    if silent > STUCK_MS {
        return Some(format!("rules were not looked at for {} s", silent / 1000));
    }
    let said = [&status.rules.store_trouble, &status.ingest.store_trouble];
    said.into_iter().flatten().next().map(|why| format!("the store: {why}"))
}

/// Tells it for ever, at the intervals that it says, while `status` says that alerting works.
pub(crate) async fn beat<F>(config: HeartbeatConfig, now: fn() -> i64, status: impl Fn() -> F)
where
    F: Future<Output = WorkerStatus>,
{
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("sentinel/", env!("CARGO_PKG_VERSION")));
    // What is on this machine is asked without anybody between.
    let is_local = Url::parse(&config.url).is_ok_and(|url| is_loopback(&url));
    let client = if is_local { client.no_proxy() } else { client };
    let client = match client.build() {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "there is no heartbeat: no HTTP client can be made");
            return;
        }
    };
    let mut every = tokio::time::interval(config.every.std());
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_told = true;
    loop {
        every.tick().await;
        let status = status().await;
        if !status.keeps_alerts {
            // Whoever keeps them tells it.
            continue;
        }
        let told = match trouble(&status, now()) {
            Some(why) => Err(why),
            None => match client.get(&config.url).send().await {
                Ok(answer) if answer.status().is_success() => Ok(()),
                Ok(answer) => Err(format!("it answered {}", answer.status())),
                // The address is a secret.
                Err(error) => Err(error.without_url().to_string()),
            },
        };
        match (&told, was_told) {
            (Err(why), true) => tracing::error!(why, "the heartbeat is not told"),
            (Ok(()), false) => tracing::info!("the heartbeat is told again"),
            (Err(_), false) | (Ok(()), true) => {}
        }
        was_told = told.is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    fn status(as_of: i64, trouble: Option<&str>) -> WorkerStatus {
        let mut status = WorkerStatus {
            name: "w".into(),
            version: "1".into(),
            started_at: 0,
            labels: Default::default(),
            keeps_alerts: true,
            fleet: None,
            sandbox: sentinel_runtime::confine::Confined::OFF,
            slots: Vec::new(),
            problems: Default::default(),
            ingest: Default::default(),
            windows: Default::default(),
            routing: None,
            rules: Default::default(),
            notifications: Vec::new(),
        };
        status.rules.as_of = as_of;
        status.rules.store_trouble = trouble.map(str::to_owned);
        status
    }

    #[test]
    fn alerting_works_while_rules_are_looked_at_and_the_store_takes_alerts() {
        assert_eq!(trouble(&status(1_000, None), 61_000), None);
        assert!(trouble(&status(1_000, None), 61_001).unwrap().contains("60 s"));
        assert!(trouble(&status(1_000, Some("full")), 1_000).unwrap().contains("full"));
    }

    #[test]
    fn an_address_that_is_none_is_refused_without_repeating_it() {
        for (url, every, paths) in [
            ("https://example.com/ping/1", "1m", &[][..]),
            ("example.com/secret", "1m", &["/url"]),
            ("ftp://example.com/secret", "500ms", &["/url", "/every"]),
        ] {
            let config = HeartbeatConfig { url: url.into(), every: every.parse().unwrap() };
            let problems = config.problems();
            assert_eq!(problems.iter().map(|p| p.0.as_str()).collect::<Vec<_>>(), paths);
            assert!(problems.iter().all(|p| !p.1.contains("secret")), "{problems:?}");
        }
    }

    #[tokio::test]
    async fn it_is_told_while_alerting_works_and_not_after() {
        static NOW: AtomicI64 = AtomicI64::new(0);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/ping/1", listener.local_addr().unwrap());
        let config = HeartbeatConfig { url, every: Millis(10) };
        let asked = Arc::new(AtomicI64::new(0));
        let counted = Arc::clone(&asked);
        let status = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            std::future::ready(status(0, None))
        };
        let beating = tokio::spawn(beat(config, || NOW.load(Ordering::SeqCst), status));
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /ping/1 "));
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
        NOW.store(STUCK_MS + 1, Ordering::SeqCst);
        // Those that were begun before may still come.
        let before = asked.load(Ordering::SeqCst);
        while asked.load(Ordering::SeqCst) < before + 3 {
            let _ = tokio::time::timeout(Duration::from_millis(5), listener.accept()).await;
        }
        let late = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(late.is_err(), "nobody is told that it works");
        let looks = async {
            while asked.load(Ordering::SeqCst) <= before + 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(90), looks).await.expect("it goes on looking");
        beating.abort();
    }

    #[tokio::test]
    async fn who_does_not_keep_alerts_tells_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/ping/1", listener.local_addr().unwrap());
        let config = HeartbeatConfig { url, every: Millis(10) };
        let asked = Arc::new(AtomicI64::new(0));
        let counted = Arc::clone(&asked);
        let status = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            std::future::ready(WorkerStatus { keeps_alerts: false, ..status(0, None) })
        };
        let beating = tokio::spawn(beat(config, || 0, status));
        while asked.load(Ordering::SeqCst) < 3 {
            let told = tokio::time::timeout(Duration::from_millis(5), listener.accept()).await;
            assert!(told.is_err(), "whoever keeps alerts tells it");
        }
        beating.abort();
    }
}
