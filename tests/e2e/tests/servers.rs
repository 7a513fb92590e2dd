//! How agents come to servers: let in by a code, through a network that lets no gRPC through, with
//! TLS; and from one of two servers to the other when one is killed.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::counter::{Counted, now};
use sentinel_e2e::roles::Apart;
use sentinel_e2e::sentinel::{Home, Up};
use sentinel_e2e::{eventually, given};
use sentinel_test_services::{Nats, Postgres, Services};
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

const SOON: Duration = Duration::from_secs(120);
const CERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/dev-certs.sh");
/// All that runs here.
const PLUGINS: [&str; 2] = ["counter", "rows"];
/// What the agent prints before its code.
const ASKS: &str = "sentinel agents approve ";

/// An agent's process. Killed when it is dropped.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A CA, and a certificate of this machine by it.
fn certificates(home: &Home) -> Result<PathBuf> {
    let folder = home.path().join("certs");
    let made = Command::new(CERTS).arg(&folder).output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(folder)
}

/// A network that closes every connection: its port, and how often somebody came.
async fn closed() -> Result<(u16, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (port, came) = (listener.local_addr()?.port(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&came);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    Ok((port, came))
}

/// Starts an agent that has no token, and to whose server no gRPC comes through.
fn claiming(home: &Home, up: &Up<'_>, certs: &std::path::Path, grpc: u16) -> Result<Agent> {
    let config = home.path().join("claimed.yaml");
    std::fs::write(
        &config,
        "version: 1
agent:
  id: claimed
  interval: 200ms
  heartbeat: 500ms
  collectors:
    - slot: claimed
      plugin: sentinel/counter
      config: {slot: claimed, rows: 20, series: 3}
      grants: {kv: {max_bytes: 4096}}
",
    )?;
    let log = File::options().create(true).append(true).open(home.path().join("claimed.log"))?;
    let mut command = home.command();
    command.arg("agent").arg("--claim").arg("--config").arg(config);
    command.arg("--data").arg(home.path().join("claimed"));
    command.arg("--join").arg(format!("https://127.0.0.1:{grpc}"));
    command.arg("--join-http").arg(format!("https://127.0.0.1:{}", home.rest_port()));
    command.arg("--ca").arg(certs.join("ca.pem"));
    command.arg("--registry").arg(up.registry()?);
    command.arg("--enrolment").arg(home.data().join("registry/enrolment.json"));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(Agent(command.spawn()?))
}

/// How the agent stands; nothing where the server knows none.
async fn state(up: &Up<'_>) -> Result<Option<String>> {
    let all = up.get("/v1/agents").await?;
    let one = all.as_array().context("agents")?.iter().find(|one| one["id"] == "claimed");
    Ok(one.and_then(|one| one["state"].as_str().map(str::to_owned)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_let_in_by_its_code_over_https_where_no_grpc_comes_through() -> Result<()> {
    let home = Home::on_ports_of_its_own()?.with_only(&PLUGINS)?;
    let certs = certificates(&home)?;
    home.configure(&format!(
        "version: 1
tls: {{certificate: {0}/server.pem, key: {0}/server.key}}
agent: {{collectors: []}}
worker:
  settle: 0s
  transforms: [{{slot: rows, plugin: sentinel/rows, config: {{rules: []}}}}]
",
        certs.display()
    ))?;
    let up = home.up().await?;
    let began = now() - 60_000;
    let (grpc, came) = closed().await?;
    let agent = claiming(&home, &up, &certs, grpc)?;
    let said = || std::fs::read_to_string(home.path().join("claimed.log")).unwrap_or_default();
    let logs = || format!("the agent:\n{}\nup:\n{}", said(), home.log());
    let code = eventually("it shows a code", SOON, || async {
        let said = said();
        let code = said.split_once(ASKS).and_then(|(_, rest)| rest.lines().next());
        Ok(code.map(|code| code.trim().to_owned()))
    })
    .await
    .with_context(logs)?;
    // The server was asked, over HTTPS, and knows from where.
    let asks = |tokens: &Value| {
        let asks = tokens.as_array()?.iter().find(|one| one["id"] == code.as_str())?.clone();
        (asks["waiting"] == true).then_some(asks)
    };
    let asking = up.until("it asks", "/v1/tokens", SOON, asks).await.with_context(logs)?;
    ensure!(asking["agent"] == "claimed" && asking["address"] == "127.0.0.1", "{asking}");
    ensure!(came.load(Ordering::SeqCst) > 0, "gRPC was not tried first: {}", logs());

    // Neither another code nor somebody who is no admin lets it in.
    let wrong = home.sentinel(["agents", "approve", "AAAA-AAAA"])?;
    ensure!(wrong.code != 0, "{}{}", wrong.out, wrong.err);
    let viewer = home.json(&["token", "create", "--name", "v", "--role", "operator"])?;
    let viewer = viewer["token"].as_str().context("token")?;
    let url = format!("{}/v1/tokens/{code}/approve", up.server());
    let refused = reqwest::Client::new().post(url).bearer_auth(viewer).send().await?;
    ensure!(refused.status() == 403, "{}", refused.status());
    ensure!(state(&up).await?.is_none(), "nobody approved it");

    // Its code is approved, and then itself: the agent of this machine's `up` has the same machine.
    let approved = home.sentinel(["agents", "approve", &code])?;
    ensure!(approved.code == 0, "{}", approved.err);
    let is = |wanted: &'static str| {
        let up = &up;
        move || async move { Ok(state(up).await?.filter(|state| state == wanted)) }
    };
    eventually("it is enrolled", SOON, is("waiting")).await.with_context(logs)?;
    let approved = home.sentinel(["agents", "approve", "claimed"])?;
    ensure!(approved.code == 0, "{}", approved.err);
    eventually("it is let in", SOON, is("approved")).await.with_context(logs)?;
    let counted = || Counted::of_slot(&up, "claimed", began);
    let last = eventually("its samples come", SOON, || async { Ok(counted().await?.last()) });
    let last = last.await.with_context(logs)?;
    let more = || async { Ok(counted().await?.last().filter(|now| *now > last + 100)) };
    let last = eventually("and go on coming", SOON, more).await.with_context(logs)?;
    ensure!(said().contains("HTTP, since gRPC does not come through"), "{}", logs());
    counted().await?.assert_each_once(last, "no seed");
    let audit = up.get("/v1/audit").await?;
    let enrolled =
        |one: &&Value| one["what"].as_str().is_some_and(|it| it.starts_with("enrol claimed"));
    let entry = audit.as_array().context("audit")?.iter().find(enrolled).context("an entry")?;
    ensure!(entry["address"] == "127.0.0.1" && entry["outcome"] == "waits", "{entry}");
    // A code is good once.
    ensure!(home.sentinel(["agents", "approve", &code])?.code != 0, "{code} twice");
    drop(agent);
    Ok(())
}

/// The counter gives each row of a collection a millisecond of its own, so that the last ones are ahead of the clock: 50,
/// or several times as many where it catches up. What is later than that was collected from now on.
const AHEAD_MS: i64 = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_goes_to_the_other_server_when_one_is_killed_and_no_sample_is_lost_or_doubled()
-> Result<()> {
    let services = Services::read(&given("SENTINEL_SERVICES", "services/services.json"))?;
    let home = Home::new()?.with_only(&PLUGINS)?;
    let nats = Nats::start(&services, &home.path().join("nats"))?;
    let postgres = Postgres::start(&services, &[])?;
    // It lends its registry, to which the checkout's plugins are published.
    home.configure("version: 1\n")?;
    let up = home.up().await?;
    let config = format!(
        "version: 1
store: {}
bus: {}
nats: {{partitions: 3, max_bytes: 67108864}}
agent:
  interval: 200ms
  heartbeat: 500ms
  collectors:
    - slot: counter
      plugin: sentinel/counter
      config: {{slot: counter, rows: 50, series: 7}}
      grants: {{kv: {{max_bytes: 4096}}}}
worker:
  settle: 0s
  transforms: [{{slot: rows, plugin: sentinel/rows, config: {{rules: []}}}}]
",
        postgres.database()?,
        nats.url()
    );
    let apart = Apart::new(&home, &up, &config)?;
    let logs = || ["server", "server-2", "worker", "agent"].map(|it| apart.log(it)).join("\n");
    let began = now() - 60_000;
    let one = apart.server().await?;
    let two = apart.second_server().await?;
    let _worker = apart.worker("worker")?;
    let _agent = apart.agent_of_both(&one).await?;
    // What was collected from now on is in the database, as a server sees it that is there.
    let fresh = async |server: &Up<'_>, what: &str| {
        let since = now() + AHEAD_MS;
        let last = || async { Ok(Counted::since(server, since).await?.last()) };
        eventually(what, SOON, last).await.with_context(logs)
    };
    fresh(&two, "samples come through the first").await?;
    one.kill()?;
    fresh(&two, "samples come through the second").await?;
    let one = apart.server().await?;
    // Whether the agent is back at the first or not, nothing is missed when the second goes.
    fresh(&one, "samples come while both are there").await?;
    two.kill()?;
    fresh(&one, "samples come through the first again").await?;
    let two = apart.second_server().await?;
    let last = fresh(&two, "both are there in the end").await?;
    for server in [&one, &two] {
        Counted::since(server, began).await?.assert_each_once(last, "no seed");
    }
    ensure!(apart.log("agent").contains("the next one is tried"), "{}", logs());
    Ok(())
}
