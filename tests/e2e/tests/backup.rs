//! `deploy/backup.sh` and `deploy/restore.sh`: copied under load, put back into new places, and
//! agents go on.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::counter::{Counted, now};
use sentinel_e2e::fleet::Host;
use sentinel_e2e::sentinel::{Home, Up};
use sentinel_e2e::{eventually, given};
use sentinel_test_services::{Postgres, Services, TimescaleEdition};
use serde_json::Value;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
const RULES: &str = "version: 1
rules:
  - name: always
    interval: 1s
    condition: {holds: {vector: 1}}
";
/// What the agent collects, in the words of its configuration's part `agent`.
const COUNTER: &str = ", collectors: [{slot: counter, plugin: sentinel/counter, \
    config: {slot: counter, rows: 50, series: 7}, grants: {kv: {max_bytes: 4096}}}]";

fn services() -> Result<Services> {
    Services::read(&given("SENTINEL_SERVICES", "services/services.json"))
}

/// The script, with PostgreSQL's programs on its PATH: those of the server, since an older `pg_dump` is refused.
fn script(services: &Services, name: &str) -> Result<Command> {
    let psql = services.command("psql")?;
    let programs = Path::new(psql.get_program()).parent().context("a folder")?.to_owned();
    let mut path = OsString::from(programs);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new(Path::new(DEPLOY).join(name));
    command.env("PATH", path);
    for (variable, value) in psql.get_envs() {
        command.env(variable, value.unwrap_or_default());
    }
    Ok(command)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(said)
}

fn configure(home: &Home, store: &str) -> Result<()> {
    home.configure(&format!(
        "version: 1
store: {store}
worker:
  settle: 0s
  evaluators: [{{slot: alert-dsl, plugin: sentinel/alert-dsl, grants: {{series: true}}}}]
"
    ))?;
    Ok(())
}

async fn samples_since(up: &Up<'_>, since: i64, what: &str, host: &Host<'_>) -> Result<u64> {
    let samples = eventually(what, SOON, || async { Ok(Counted::since(up, since).await?.last()) });
    samples.await.with_context(|| host.log())
}

/// The alert that fires always: since when, once it does.
async fn firing(up: &Up<'_>) -> Result<Value> {
    up.until("the alert fires", "/v1/alerts", SOON, |answer| {
        let alerts = answer["alerts"].as_array()?;
        let one = alerts.iter().find(|one| one["rule"] == "always" && one["state"] == "firing")?;
        Some(one["fired_at"].clone())
    })
    .await
}

/// Everything on one store, then on another of the same kind, made from the backup.
async fn comes_back(services: &Services, stores: [&str; 2], postgres: bool) -> Result<()> {
    let home = Home::on_ports_of_its_own()?;
    configure(&home, stores[0])?;
    let began = now() - 60_000;
    let up = home.up().await?;
    let rules = home.path().join("rules.yaml");
    std::fs::write(&rules, RULES)?;
    let applied = home.sentinel(["rules", "apply", "--yes", &rules.display().to_string()])?;
    ensure!(applied.code == 0, "{}", applied.err);
    let host = Host::start(&home, &up, "web", "web").await?;
    host.configure("web", COUNTER)?;
    let before = samples_since(&up, began, "samples come", &host).await?;
    let since = firing(&up).await?;

    // Under load, the whole of it.
    let backup = home.path().join("backup");
    let data = format!("up={}", home.data().display());
    let config = home.path().join("sentinel.yaml");
    let mut command = script(services, "backup.sh")?;
    command.arg(&backup).args(["--data", &data]);
    command.args(["--file", &format!("sentinel.yaml={}", config.display())]);
    if postgres {
        command.args(["--postgres", stores[0]]);
    }
    let said = run(&mut command)?;
    ensure!(said.contains(" files, "), "{said}");
    // What comes after it is lost with the old place.
    samples_since(&up, now() + 1000, "samples after the backup", &host).await?;
    ensure!(up.stop().await?.success());
    std::fs::rename(home.data(), home.path().join("lost"))?;
    std::fs::remove_file(&config)?;

    let restored = home.path().join("restored.yaml");
    let mut command = script(services, "restore.sh")?;
    command.arg(&backup).args(["--data", &data]);
    command.args(["--file", &format!("sentinel.yaml={}", restored.display())]);
    if postgres {
        command.args(["--postgres", stores[1]]);
    }
    run(&mut command)?;
    let text = std::fs::read_to_string(&restored)?;
    home.configure(&text.replace(stores[0], stores[1]))?;
    let up = home.up().await?;
    // What there was is there, each sample once; the alert fires as it did; the agent goes on.
    ensure!(firing(&up).await? == since, "the alert began anew");
    let rules = up.get("/v1/rules").await?.to_string();
    ensure!(rules.contains("\"always\""), "{rules}");
    samples_since(&up, now() + 1000, "samples after the restoration", &host).await?;
    Counted::since(&up, began).await?.assert_each_once(before, "no seed");
    ensure!(up.stop().await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_on_sqlite_comes_back_from_a_backup_made_under_load() -> Result<()> {
    comes_back(&services()?, ["embedded", "embedded"], false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_on_postgresql_comes_back_from_a_backup_made_under_load() -> Result<()> {
    let services = services()?;
    let postgres = Postgres::start(&services, &[])?;
    let (from, to) = (postgres.database()?, postgres.database()?);
    comes_back(&services, [&from, &to], true).await
}

/// What a database keeps for sessions to come; TimescaleDB stands still by such a setting.
fn kept_settings(server: &Postgres) -> Result<String> {
    server.query("postgres", "SELECT count(*) FROM pg_db_role_setting")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_on_timescaledb_comes_back_from_a_backup_made_under_load() -> Result<()> {
    let services = Services::timescale()?;
    let server = Postgres::start_timescale(&services, TimescaleEdition::Apache)?;
    // The script makes the extension.
    let (from, to) = (server.timescale_database()?, server.database()?);
    comes_back(&services, [&from, &to], true).await?;
    let tables = "SELECT string_agg(hypertable_name, ' ' ORDER BY hypertable_name) \
                  FROM timescaledb_information.hypertables";
    let (before, after) = (server.query(&from, tables)?, server.query(&to, tables)?);
    ensure!(before.contains("chunks_hyper") && before == after, "{before}; {after}");
    ensure!(kept_settings(&server)? == "0", "TimescaleDB stands still");
    Ok(())
}

#[test]
fn a_restoration_that_fails_wakes_timescaledb_up_again_and_says_why() -> Result<()> {
    let services = Services::timescale()?;
    let server = Postgres::start_timescale(&services, TimescaleEdition::Apache)?;
    let database = server.timescale_database()?;
    server.query(&database, "CREATE TABLE in_the_way (n int)")?;
    let folder = tempfile::tempdir()?;
    let backup = folder.path().join("backup");
    let of_database = |name: &str| -> Result<Command> {
        let mut command = script(&services, name)?;
        command.arg(&backup).args(["--postgres", &database]);
        Ok(command)
    };
    run(&mut of_database("backup.sh")?)?;
    let said = run(&mut of_database("restore.sh")?).err().context("it was done")?.to_string();
    ensure!(said.contains("\"in_the_way\" already exists"), "{said}");
    ensure!(!said.contains("stands still"), "{said}");
    ensure!(kept_settings(&server)? == "0", "TimescaleDB stands still");
    Ok(())
}

#[test]
fn what_is_damaged_or_in_the_way_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    std::fs::create_dir(&data)?;
    std::fs::write(data.join("server.key"), "a key")?;
    let data = format!("up={}", data.display());
    let services = services()?;
    let make = || -> Result<Command> {
        let mut command = script(&services, "backup.sh")?;
        command.arg(&backup).args(["--data", &data]);
        Ok(command)
    };
    run(&mut make()?)?;
    let refused = |command: &mut Command, why: &str| -> Result<()> {
        let said = run(command).err().context("it was done")?.to_string();
        ensure!(said.contains(why), "{said}");
        Ok(())
    };
    refused(&mut make()?, "is there already")?;
    let restore = |to: &str| -> Result<Command> {
        let mut command = script(&services, "restore.sh")?;
        command.arg(&backup).args(["--data", to]);
        Ok(command)
    };
    refused(&mut restore(&data)?, "is not empty")?;
    refused(&mut restore(&data.replace("up=", "server="))?, "has no data named 'server'")?;
    std::fs::write(backup.join("data/up/server.key"), "another")?;
    let elsewhere = format!("up={}", folder.path().join("elsewhere").display());
    refused(&mut restore(&elsewhere)?, "is damaged")?;
    ensure!(!folder.path().join("elsewhere").exists());
    Ok(())
}
