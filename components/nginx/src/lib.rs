//! The first-party plugin sentinel/nginx: connections and requests, out of `stub_status`.

mod config;
mod status;

use sentinel_sdk::http::{self, HttpError, Request};
use sentinel_sdk::{
    BatchBuilder, Collected, Collector, Diagnostic, Failure, Kind, Metric, export_collector,
};

pub use config::Config;
use config::Target;
use status::Status;

const ACTIVE: &str = "nginx_connections_active";
const CURRENT: &str = "nginx_connections_current";
const ACCEPTED: &str = "nginx_connections_accepted_total";
const HANDLED: &str = "nginx_connections_handled_total";
const REQUESTS: &str = "nginx_requests_total";

/// The collector.
#[derive(Debug)]
pub struct Nginx {
    target: Target,
}

impl Collector for Nginx {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, Vec<Diagnostic>> {
        Target::of(config).map(|target| Self { target })
    }

    fn metrics() -> Vec<Metric> {
        use Kind::{Counter, Gauge};
        vec![
            Metric::new(ACTIVE, Gauge, "{connection}", "Open connections, waiting ones included."),
            Metric::new(CURRENT, Gauge, "{connection}", "Open connections by state."),
            Metric::new(ACCEPTED, Counter, "{connection}", "Connections accepted."),
            Metric::new(
                HANDLED,
                Counter,
                "{connection}",
                "Connections handled; below the accepted where a limit was reached.",
            ),
            Metric::new(REQUESTS, Counter, "{request}", "Requests."),
        ]
    }

    fn collect(&mut self) -> Result<Collected, Failure> {
        let status = self.fetch()?;
        let server = ("server", self.target.server.as_str());
        let mut batch = BatchBuilder::new();
        batch.gauge(ACTIVE, &[server], status.active as f64);
        for (state, connections) in
            [("reading", status.reading), ("writing", status.writing), ("waiting", status.waiting)]
        {
            batch.gauge(CURRENT, &[server, ("state", state)], connections as f64);
        }
        batch.counter(ACCEPTED, &[server], status.accepted as f64);
        batch.counter(HANDLED, &[server], status.handled as f64);
        batch.counter(REQUESTS, &[server], status.requests as f64);
        Ok(batch.into())
    }
}

impl Nginx {
    fn fetch(&self) -> Result<Status, Failure> {
        let request = Request::get(&self.target.url).timeout_ms(self.target.timeout_ms);
        let response = http::send(&request).map_err(|error| self.failure(&error))?;
        if response.status != 200 {
            let hint = match response.status {
                401 | 403 => "; allow this agent's address at the location",
                404 => "; check the path and that the location has `stub_status`",
                _ => "",
            };
            return Err(self.unavailable(&format!("answered status {}{hint}", response.status)));
        }
        Status::parse(&response.text()).map_err(|why| self.unavailable(&why))
    }

    /// A denied or malformed request will not do better at the next interval.
    fn failure(&self, error: &HttpError) -> Failure {
        let said = http::describe_error(error);
        match error {
            HttpError::Denied(_) | HttpError::Invalid(_) => {
                Failure::Misconfigured(vec![Diagnostic::error("/url", said)])
            }
            HttpError::Timeout => {
                self.unavailable(&format!("{said} within {} ms", self.target.timeout_ms))
            }
            HttpError::Connect(_)
            | HttpError::Tls(_)
            | HttpError::Broken(_)
            | HttpError::TooLarge(_) => self.unavailable(&said),
        }
    }

    fn unavailable(&self, why: &str) -> Failure {
        Failure::Unavailable(format!("nginx at {}: {why}", self.target.server))
    }
}

export_collector!(Nginx);

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_sdk::config as json;
    use sentinel_sdk::testing::Host;

    const URL: &str = "http://127.0.0.1:8080/stub_status";
    const PAGE: &str = "Active connections: 3 \nserver accepts handled requests\n 10 9 25 \n\
                        Reading: 0 Writing: 1 Waiting: 2 \n";

    fn plugin() -> Nginx {
        let config = format!(r#"{{"url": "{URL}", "timeout": "250ms"}}"#);
        json::parse(&config).and_then(Nginx::configure).unwrap()
    }

    fn failure(host: Host) -> Failure {
        let _host = host.install();
        plugin().collect().unwrap_err()
    }

    #[test]
    fn the_page_becomes_rows() {
        let host = Host::new().at(5).answer(URL, 200, PAGE).install();
        let collected = plugin().collect().unwrap();
        let batch = collected.parts().next().unwrap();
        let lines: Vec<_> = batch.samples().map(|sample| sample.to_string()).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        nginx_connections_active{server="127.0.0.1:8080"} 3
        nginx_connections_current{server="127.0.0.1:8080",state="reading"} 0
        nginx_connections_current{server="127.0.0.1:8080",state="writing"} 1
        nginx_connections_current{server="127.0.0.1:8080",state="waiting"} 2
        nginx_connections_accepted_total{server="127.0.0.1:8080"} 10
        nginx_connections_handled_total{server="127.0.0.1:8080"} 9
        nginx_requests_total{server="127.0.0.1:8080"} 25
        "#);
        assert_eq!(host.requests()[0].timeout_ms, 250);
        for sample in batch.samples() {
            let metric = Nginx::metrics().into_iter().find(|metric| metric.name == sample.name);
            assert_eq!(metric.unwrap().kind, sample.kind);
        }
    }

    #[test]
    fn what_nginx_did_wrong_is_said() {
        for (host, expect) in [
            (Host::new().answer(URL, 404, ""), "status 404; check the path"),
            (Host::new().answer(URL, 403, ""), "status 403; allow this agent's address"),
            (Host::new().answer(URL, 502, ""), "answered status 502"),
            (Host::new().answer(URL, 200, "<html>"), "no stub_status page"),
            (Host::new().answer(URL, 200, [0xff, 0xfe]), "no stub_status page"),
            (Host::new().http_error(URL, HttpError::Timeout), "within 250 ms"),
            (
                Host::new().http_error(URL, HttpError::Connect("refused".into())),
                "no connection was made: refused",
            ),
            (Host::new().http_error(URL, HttpError::TooLarge(9)), "passed the cap of 9 bytes"),
        ] {
            let Failure::Unavailable(said) = failure(host) else { panic!("{expect}") };
            assert!(said.starts_with("nginx at 127.0.0.1:8080: "), "{said}");
            assert!(said.contains(expect), "{said} lacks {expect}");
        }
    }

    #[test]
    fn a_url_that_is_not_granted_is_a_matter_of_the_config() {
        let Failure::Misconfigured(found) = failure(Host::new()) else { panic!() };
        assert_eq!(found[0].path, "/url");
    }

    #[test]
    fn configs_are_checked() {
        for (config, expect) in [
            (r#"{"url": "http://h"}"#, Ok(("h", 5_000))),
            (r#"{"url": "https://u:p@h:1/x", "timeout": "30s"}"#, Ok(("h:1", 30_000))),
            (r#"{"url": "http://[::1]:80/", "timeout": "1ms"}"#, Ok(("[::1]:80", 1))),
            (r#"{"url": "ftp://h/"}"#, Err("/url: \"ftp://h/\" is no http or https URL")),
            (r#"{"url": "http:///x"}"#, Err("/url: ")),
            (r#"{"url": "http://h", "timeout": "31s"}"#, Err("/timeout: \"31s\" is no wait")),
            (r#"{"url": "http://h", "timeout": "0ms"}"#, Err("/timeout: ")),
            (r#"{"url": "http://h", "timeout": "5"}"#, Err("/timeout: ")),
            (r#"{"url": "http://h", "timeout": "+5s"}"#, Err("/timeout: ")),
            (r#"{"timeout": "5s"}"#, Err("missing field `url`")),
        ] {
            let made = json::parse(config).and_then(Target::of);
            match (made, expect) {
                (Ok(target), Ok((server, timeout))) => {
                    assert_eq!((target.server.as_str(), target.timeout_ms), (server, timeout));
                }
                (Err(found), Err(said)) => {
                    assert!(found[0].to_string().starts_with(said), "{found:?}");
                }
                (made, _) => panic!("{config}: {made:?}"),
            }
        }
    }
}
