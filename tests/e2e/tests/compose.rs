//! deploy/compose: no engine runs here, so that what it would be given is looked at instead.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::given;
use sentinel_test_services::{Process, Services, steady_port, wait};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
/// Every shell script that is shipped.
const SCRIPTS: [&str; 8] = [
    "backup.sh",
    "compose/enrol.sh",
    "compose/up",
    "dev-certs.sh",
    "found.sh",
    "local/up",
    "nats-setup.sh",
    "restore.sh",
];

fn compose_file() -> PathBuf {
    Path::new(DEPLOY).join("compose/compose.yaml")
}

fn checks() -> PathBuf {
    given("SENTINEL_CHECKS", "services/checks/bin/python")
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{command:?}: {said}{talk}");
    Ok(said)
}

fn compose() -> Result<Value> {
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/checks/yaml_as_json.py");
    let json = run(Command::new(checks()).arg(reader).arg(compose_file()))?;
    serde_json::from_str(&json).context("compose.yaml")
}

fn object<'a>(value: &'a Value, name: &str) -> Result<&'a Map<String, Value>> {
    value[name].as_object().with_context(|| format!("{name} in {value}"))
}

fn names(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::Object(map) => map.keys().cloned().collect(),
        _ => BTreeSet::new(),
    }
}

/// The role that a service is.
fn role(service: &Value) -> &str {
    service["command"][0].as_str().unwrap_or_default()
}

/// What a service's command gives for an option.
fn option<'a>(service: &'a Value, name: &str) -> Option<&'a str> {
    let words = service["command"].as_array().into_iter().flatten();
    let mut words = words.filter_map(Value::as_str);
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[test]
fn the_compose_file_is_of_the_published_schema() -> Result<()> {
    let schema = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"];
    run(Command::new(checks()).args(schema).arg(compose_file()))?;
    // And the schema is one that refuses something.
    let folder = tempfile::tempdir()?;
    let wrong = folder.path().join("compose.yaml");
    let text = std::fs::read_to_string(compose_file())?;
    std::fs::write(&wrong, text.replace("stop_grace_period:", "stop_grace:"))?;
    let refused = Command::new(checks()).args(schema).arg(&wrong).output()?;
    ensure!(!refused.status.success(), "{refused:?}");
    Ok(())
}

#[test]
fn everything_that_a_service_names_is_there() -> Result<()> {
    let compose = compose()?;
    let services = object(&compose, "services")?;
    let (volumes, networks) = (names(&compose["volumes"]), names(&compose["networks"]));
    let mut used = BTreeSet::new();
    for (name, service) in services {
        for mount in names(&service["volumes"]) {
            let volume = mount.split(':').next().unwrap_or_default().to_owned();
            ensure!(volumes.contains(&volume), "{name} mounts {mount}");
            used.insert(volume);
        }
        let on = names(&service["networks"]);
        ensure!(on.is_subset(&networks), "{name} is on {on:?}");
        ensure!(on.is_empty() == (service["network_mode"] == "none"), "{name} is on {on:?}");
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            let other = services.get(other).with_context(|| format!("{name} needs {other}"))?;
            if how["condition"] == "service_healthy" {
                ensure!(other["healthcheck"]["test"].is_array(), "{name} waits for health");
            } else {
                ensure!(other["restart"] == "on-failure:5", "{name} waits for an end");
            }
        }
        for config in service["configs"].as_array().into_iter().flatten() {
            let source = config["source"].as_str().context("source")?;
            let file = compose["configs"][source]["file"].as_str();
            let file = file.with_context(|| format!("{name} has config {source}"))?;
            ensure!(Path::new(DEPLOY).join("compose").join(file).exists(), "{file}");
        }
    }
    ensure!(used == volumes, "{:?} are mounted nowhere", volumes.difference(&used));
    Ok(())
}

#[test]
fn every_role_runs_as_often_as_promised_and_without_rights() -> Result<()> {
    let compose = compose()?;
    let services = object(&compose, "services")?;
    let ours = services.iter().filter(|(_, service)| service.get("build").is_some());
    for (name, service) in ours {
        ensure!(service["cap_drop"] == serde_json::json!(["ALL"]), "{name}");
        ensure!(names(&service["security_opt"]).contains("no-new-privileges:true"), "{name}");
        // The keys that own the installation are with those alone that sign with them.
        let owns = names(&service["volumes"]).iter().any(|mount| mount.starts_with("owner:"));
        ensure!(owns == matches!(name.as_str(), "begin" | "publish"), "{name}");
    }
    let count = |wanted: &str| services.values().filter(|one| role(one) == wanted).count();
    for (wanted, expected) in [("registry", 1), ("server", 2), ("worker", 2), ("agent", 1)] {
        ensure!(count(wanted) == expected, "{} of {wanted}", count(wanted));
    }
    // Whoever is on the database's socket or on NATS's network is a server or a worker.
    for (name, service) in services {
        let apart = matches!(role(service), "server" | "worker");
        let socket = names(&service["volumes"]).iter().any(|mount| mount.starts_with("socket:"));
        ensure!(socket == (apart || name == "timescaledb"), "{name}");
        ensure!(names(&service["networks"]).contains("bus") == (apart || name == "nats"), "{name}");
    }
    Ok(())
}

#[test]
fn workers_and_the_agent_are_asked_where_they_listen_whether_they_are_ready() -> Result<()> {
    let compose = compose()?;
    let watched = |service: &Value| matches!(role(service), "worker" | "agent");
    for (name, service) in object(&compose, "services")?.iter().filter(|(_, one)| watched(one)) {
        let listen =
            option(service, "--listen").with_context(|| format!("{name} has no --listen"))?;
        let asked = names(&service["healthcheck"]["test"]);
        ensure!(asked.contains(&format!("http://{listen}/ready")), "{name} is asked {asked:?}");
    }
    Ok(())
}

#[test]
fn the_agent_has_every_server_by_grpc_and_by_http() -> Result<()> {
    let compose = compose()?;
    let services = object(&compose, "services")?;
    let certified = names(&compose["services"]["certificates"]["command"]);
    for (joins, listens) in [("--join", "--grpc"), ("--join-http", "--listen")] {
        let mut servers = Vec::new();
        for (name, server) in services.iter().filter(|(_, one)| role(one) == "server") {
            let address = option(server, listens).with_context(|| format!("{name}: {listens}"))?;
            let (_, port) = address.rsplit_once(':').with_context(|| address.to_owned())?;
            ensure!(certified.contains(name), "the certificate does not name {name}");
            servers.push(format!("https://{name}:{port}"));
        }
        let has = option(&compose["services"]["agent"], joins);
        ensure!(has == Some(servers.join(",").as_str()), "{joins} {has:?}, and not {servers:?}");
    }
    Ok(())
}

#[test]
fn nats_syncs_at_the_interval_that_is_explained() -> Result<()> {
    let text = std::fs::read_to_string(Path::new(DEPLOY).join("compose/nats.conf"))?;
    ensure!(text.contains("\n  sync_interval: \"10s\"\n"), "{text}");
    ensure!(text.contains("\nmax_payload: 8MB\n"), "{text}");
    Ok(())
}

#[test]
fn nats_takes_its_configuration_and_gives_its_stream_to_whoever_has_that_of_the_roles() -> Result<()>
{
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    let (tls, port) = (path.join("tls"), steady_port()?);
    run(Command::new(Path::new(DEPLOY).join("dev-certs.sh")).arg(&tls).arg("nats"))?;
    let tls = format!("{}/", tls.display());
    // What is the container's own: its folders, its name, its ports.
    let here = |file: &str, others: &[(&str, String)]| -> Result<PathBuf> {
        let mut text = std::fs::read_to_string(Path::new(DEPLOY).join("compose").join(file))?;
        for (theirs, ours) in others.iter().chain([&("/tls/", tls.clone())]) {
            ensure!(text.contains(theirs), "{file} has no {theirs}");
            text = text.replace(theirs, ours);
        }
        let made = path.join(file);
        std::fs::write(&made, text)?;
        Ok(made)
    };
    let ours = [
        ("0.0.0.0:4222", format!("127.0.0.1:{port}")),
        ("http: 0.0.0.0:8222\n", String::new()),
        ("store_dir: /data\n", format!("store_dir: {}\n", path.join("data").display())),
    ];
    let conf = here("nats.conf", &ours)?;
    let services = Services::read(&given("SENTINEL_SERVICES", "services/services.json"))?;
    let mut nats = services.command("nats-server")?;
    let _nats = Process::start(nats.arg("--config").arg(conf), &path.join("log"))?;
    wait("nats-server", || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    let config = here("sentinel.yaml", &[("tls://nats:4222", format!("tls://localhost:{port}"))])?;
    for check in [None, Some("--check")] {
        let mut setup = Command::new(Path::new(DEPLOY).join("nats-setup.sh"));
        setup.env("SENTINEL", given("SENTINEL_BIN", "debug/sentinel"));
        let said = run(setup.env("SENTINEL_CONFIG", &config).args(check));
        said.with_context(|| std::fs::read_to_string(path.join("log")).unwrap_or_default())?;
    }
    Ok(())
}

#[test]
fn every_script_is_clean_to_shellcheck() -> Result<()> {
    let shellcheck = checks().with_file_name("shellcheck");
    run(Command::new(shellcheck).args(SCRIPTS.map(|script| Path::new(DEPLOY).join(script))))?;
    Ok(())
}
