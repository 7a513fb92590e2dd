//! The whole way of a sample and of an alert, in real processes.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::counter::now;
use sentinel_e2e::receiver::Receiver;
use sentinel_e2e::sentinel::Home;
use sentinel_e2e::{eventually, nginx};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);

const BASE: &str = "version: 1
worker:
  settle: 1s
  self_watch: {enabled: false}
  transforms: [{slot: rows, plugin: sentinel/rows, config: {rules: []}}]
  evaluators: [{slot: alert-dsl, plugin: sentinel/alert-dsl, grants: {series: true}}]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_new_installation_monitors_this_machine_and_goes_on_after_a_stop() -> Result<()> {
    let home = Home::new()?;
    let up = home.up().await?;
    let query = ["query", "system_cpu_time_seconds_total", "--last", "5m"];
    let found = eventually("samples of the CPU", SOON, || async {
        let answer = home.json(&query)?;
        Ok(answer["series"].as_array().filter(|s| !s.is_empty()).cloned())
    })
    .await?;
    let labels = &found[0]["labels"];
    assert!(labels["cpu"].is_string() && labels["mode"].is_string() && labels["agent"].is_string());

    for metric in
        ["system_memory_usage_bytes", "system_network_io_bytes_total", "system_uptime_seconds"]
    {
        eventually(metric, SOON, || async {
            let answer = home.json(&["query", metric, "--last", "5m"])?;
            let series = answer["series"].as_array().context("series")?;
            Ok((!series.is_empty()).then_some(()))
        })
        .await?;
    }
    let offsets = up
        .until("everything committed", "/v1/status", SOON, |status| {
            let offsets = status["agents"][0]["report"]["offsets"].as_array()?.last()?.clone();
            (offsets["committed"].as_u64()? >= 1).then_some(offsets)
        })
        .await?;
    assert!(offsets["synced"].as_u64() <= offsets["written"].as_u64());
    // What a worker says of itself is stored every few seconds.
    eventually("the status names what runs", SOON, || async {
        let said = home.sentinel(["status"])?;
        ensure!(said.code == 0, "{}", said.err);
        ensure!(said.out.contains("system") && said.out.contains("alert-dsl"), "{}", said.out);
        Ok(Some(()))
    })
    .await?;

    assert!(up.stop().await?.success());
    let before = now();
    let up = home.up().await?;
    let selector = "system_uptime_seconds";
    eventually("samples from before and after the stop", SOON, || async {
        let series = up.samples(selector, before - 600_000, now()).await?;
        let times: Vec<i64> = series.iter().flatten().map(|s| s.0).collect();
        Ok((times.iter().any(|t| *t < before) && times.iter().any(|t| *t > before)).then_some(()))
    })
    .await?;
    assert_eq!(home.json(&["agents"])?.as_array().map(Vec::len), Some(1), "the same agent");
    assert!(up.stop().await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_nginx_is_collected_and_a_changed_configuration_needs_no_restart() -> Result<()> {
    let home = Home::new()?;
    let nginx = nginx(&home.path().join("nginx"))?;
    home.configure(BASE)?;
    let up = home.up().await?;
    let agent = format!(
        "agent:
  interval: 500ms
  heartbeat: 500ms
  collectors:
    - slot: nginx-front
      plugin: sentinel/nginx
      labels: {{site: front}}
      config: {{url: \"{}\"}}
      grants: {{http: {{origins: [\"{}\"], methods: [GET]}}}}
",
        nginx.url(),
        nginx.origin()
    );
    home.configure(&format!("{BASE}{agent}"))?;
    up.until("the new slot runs", "/v1/status", SOON, |status| {
        let slots = status["agents"][0]["report"]["slots"].as_array()?;
        slots.iter().any(|slot| slot["name"] == "nginx-front").then_some(())
    })
    .await?;
    let labels = eventually("samples of nginx", SOON, || async {
        let names: Vec<String> =
            serde_json::from_value(up.get("/v1/metrics?prefix=nginx_").await?)?;
        let name = names.first().context("no metric of nginx")?;
        let found = up.get(&format!("/v1/query?selector={name}")).await?;
        Ok(found["series"].as_array().and_then(|all| Some(all.first()?["labels"].clone())))
    })
    .await?;
    assert_eq!(labels["site"], "front");

    home.configure("version: 1\nagent: {intervall: 1s}\n")?;
    eventually("the problem is said", SOON, || async {
        let log = home.log();
        Ok((log.contains("sentinel.yaml:2") && log.contains("/agent/intervall")).then_some(()))
    })
    .await?;
    let status = up.get("/v1/status").await?;
    let slots = status["agents"][0]["report"]["slots"].as_array().context("slots")?;
    assert_eq!(slots.len(), 1, "a configuration with problems changes nothing");
    assert!(up.stop().await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_told_with_a_signature_retried_under_one_id_and_resolved() -> Result<()> {
    let key = b"a key that only the host and the receiver know";
    let receiver = Receiver::start(key).await?;
    receiver.answer_next(&[503]);
    let home = Home::new()?;
    let config = format!(
        "{BASE}{}agent:
  interval: 500ms
  heartbeat: 500ms
  collectors:
    - {{slot: system, plugin: sentinel/system, grants: {{system: true}}}}
",
        receiver.notifiers()
    );
    home.configure(&config)?;
    let up = home.up().await?;
    let said = home.sentinel_with(["secret", "set", "webhook-key"], key)?;
    assert_eq!(said.code, 0, "{}", said.err);
    let rules = |above: &str| {
        format!(
            "version: 1
rules:
  - name: machine-is-up
    interval: 1s
    labels: {{severity: info}}
    annotations: {{summary: It runs.}}
    condition: {{metric: system_uptime_seconds, fn: last, window: 1m, above: {above}}}
"
        )
    };
    let file = home.path().join("rules.yaml");
    std::fs::write(&file, rules("0"))?;
    let file = file.to_str().context("a path")?;
    let said = home.sentinel(["rules", "apply", "--yes", file])?;
    assert_eq!(said.code, 0, "{}", said.err);
    let firing = eventually("the alert is told", SOON, || async {
        Ok(receiver.received().into_iter().find(|r| r.answered == 200))
    })
    .await
    .with_context(|| format!("{:?}\n{}", home.json(&["alerts", "notifications"]), home.log()))?;
    assert!(firing.signed, "signed with the key that the plugin never saw");
    assert!(firing.body.to_string().contains("machine-is-up"), "{}", firing.body);
    let link = firing.body["data"]["link"].as_str().context("a link")?;
    assert!(link.starts_with(up.server()), "port 0 is no place to look: {link}");
    let refused = receiver.received().into_iter().find(|r| r.answered == 503).context("503")?;
    assert_eq!(refused.id, firing.id, "a retry bears the same id");
    let alerts = home.json(&["alerts"])?;
    assert!(alerts.to_string().contains("firing"), "{alerts}");

    std::fs::write(file, rules("1000000000"))?;
    assert_eq!(home.sentinel(["rules", "apply", "--yes", file])?.code, 0);
    let resolved = eventually("its end is told", SOON, || async {
        Ok(receiver.received().into_iter().find(|r| r.answered == 200 && r.id != firing.id))
    })
    .await?;
    assert!(resolved.signed);
    assert!(resolved.body.to_string().contains("resolved"), "{}", resolved.body);
    let log = home.log();
    assert!(!log.contains("a key that only"), "no secret is logged");
    assert!(up.stop().await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_with_rules_and_configuration_is_said_at_once() -> Result<()> {
    let home = Home::new()?;
    home.configure(
        "version: 1
agent:
  interval: 1ms
  collectors:
    - {slot: a, plugin: sentinel/system}
    - {slot: a, plugin: sentinel/nowhere}
    - {slot: b, plugin: sentinel/rows}
    - {slot: c, plugin: sentinel/nginx, config: {urll: x}, grants: {http: {origins: [\"http://127.0.0.1:1\"]}}}
",
    )?;
    let mut command = home.up_command();
    let output = command.output()?;
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8_lossy(&output.stderr);
    for (line, path) in [
        (3, "/agent/interval"),
        (5, "/agent/collectors/0/grants"),
        (6, "/agent/collectors/1/slot"),
        (6, "/agent/collectors/1/plugin"),
        (7, "/agent/collectors/2/plugin"),
        (8, "/agent/collectors/3/config"),
    ] {
        let place = format!("sentinel.yaml:{line}:");
        let is_said = err.lines().any(|said| said.contains(&place) && said.contains(path));
        assert!(is_said, "{place} {path} is missing in:\n{err}");
    }

    home.configure(BASE)?;
    let up = home.up().await?;
    let file = home.path().join("bad.yaml");
    std::fs::write(&file, "version: 1\nrules:\n  - name: x\n    fro: 5m\n    condition: {}\n")?;
    let file = file.to_str().context("a path")?;
    let said = home.sentinel(["rules", "apply", "--yes", file])?;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("bad.yaml:4") && said.out.is_empty(), "{}", said.err);
    std::fs::write(
        file,
        "version: 1\nrules:\n  - name: x\n    condition: {metric: a b, fn: no, above: 1}\n",
    )?;
    let said = home.sentinel(["rules", "apply", "--yes", file])?;
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("bad.yaml:4") && said.err.contains("/rules/0/condition"),
        "{}",
        said.err
    );
    assert!(up.get("/v1/rules").await?["rules"].as_array().is_some_and(Vec::is_empty));
    assert_eq!(home.sentinel(["no-such-command"])?.code, 2);
    assert!(up.stop().await?.success());
    let said = home.sentinel(["status"])?;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("sentinel up"), "{}", said.err);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_nothing() -> Result<()> {
    let home = Home::new()?;
    home.configure(BASE)?;
    let up = home.up().await?;
    let url = |path: &str| format!("{}{path}", up.server());
    let client = reqwest::Client::new();
    for (method, path) in
        [("GET", "/v1/status"), ("PUT", "/v1/rules"), ("POST", "/v1/tokens"), ("GET", "/v1/fleet")]
    {
        let method = reqwest::Method::from_bytes(method.as_bytes())?;
        let plain = client.request(method.clone(), url(path)).send().await?;
        assert_eq!(plain.status(), 401, "{path}");
        let other_name = client.request(method, url(path)).bearer_auth(up.token());
        let other_name = other_name.header("host", "evil.example:80").send().await?;
        assert_eq!(other_name.status(), 421, "{path}");
    }
    assert!(client.get(url("/healthz")).send().await?.status().is_success());
    assert!(client.get(url("/ready")).send().await?.status().is_success());
    assert!(client.get(url("/metrics")).send().await?.text().await?.contains("sentinel_"));
    let token = std::fs::metadata(home.data().join("api.token"))?;
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&token.permissions()) & 0o777, 0o600);
    let mut command = home.up_command();
    command.args(["--data", "elsewhere"]);
    let open = std::process::Command::new(command.get_program())
        .args(["up", "--listen", "0.0.0.0:0", "--registry", "127.0.0.1:0", "--data"])
        .arg(home.path().join("other"))
        .args(command.get_args().skip(9))
        .output()?;
    assert_ne!(open.status.code(), Some(0), "a listener off loopback without TLS does not start");
    assert!(up.stop().await?.success());
    Ok(())
}
