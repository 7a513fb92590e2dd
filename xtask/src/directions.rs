//! Which crate may depend on which. A crate of ours exists to forbid a dependency; this table
//! is what it forbids.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use serde::Deserialize;

use crate::checkout::Checkout;
use crate::process;

/// Each native crate and those of ours it may name, in any kind of dependency.
const HOST: &[(&str, &[&str])] = &[
    ("sentinel-files", &[]),
    ("sentinel-model", &[]),
    ("sentinel-wal", &[]),
    ("sentinel-trust", &[]),
    ("sentinel-wire", &["sentinel-model"]),
    ("sentinel-bus", &["sentinel-model", "sentinel-wal"]),
    ("sentinel-alerting", &["sentinel-model"]),
    ("sentinel-store", &["sentinel-model", "sentinel-alerting"]),
    ("sentinel-runtime", &["sentinel-model", "sentinel-trust"]),
    ("sentinel-registry-client", &["sentinel-files", "sentinel-model", "sentinel-trust"]),
    ("sentinel-registry-service", &["sentinel-trust"]),
    ("sentinel-fleet", &["sentinel-files", "sentinel-trust", "sentinel-registry-client"]),
    ("sentinel-agent", LIBRARIES),
    ("sentinel-server", LIBRARIES),
    ("sentinel-worker", LIBRARIES),
    // Tries rules out on the worker's own code.
    (
        "sentinel-rule-tests",
        &[
            "sentinel-model",
            "sentinel-store",
            "sentinel-alerting",
            "sentinel-trust",
            "sentinel-registry-client",
            "sentinel-runtime",
            "sentinel-worker",
        ],
    ),
    ("sentinel-cli", EVERYTHING),
    ("sentinel-bench", EVERYTHING),
    ("sentinel-test-services", &[]),
    ("sentinel-test-components", &[]),
    ("sentinel-test-notifiers", &["sentinel-sdk"]),
    ("sentinel-e2e", EVERYTHING),
    // It decodes what the store wrote, and asks no part of Sentinel. The batches that its tests
    // plant are of the model.
    ("sentinel-oracle", &["sentinel-store", "sentinel-model"]),
    // It stands between agents and servers, and speaks what they speak.
    ("sentinel-faults", &["sentinel-wire"]),
    ("sentinel-wrong-clock", &[]),
    ("xtask", &[]),
];

/// What the composition roots compose. They do not know each other.
const LIBRARIES: &[&str] = &[
    "sentinel-files",
    "sentinel-model",
    "sentinel-wal",
    "sentinel-wire",
    "sentinel-bus",
    "sentinel-store",
    "sentinel-alerting",
    "sentinel-trust",
    "sentinel-registry-client",
    "sentinel-runtime",
    "sentinel-fleet",
];

/// What programs may use.
const EVERYTHING: &[&str] = &[
    "sentinel-files",
    "sentinel-model",
    "sentinel-wal",
    "sentinel-wire",
    "sentinel-bus",
    "sentinel-store",
    "sentinel-alerting",
    "sentinel-trust",
    "sentinel-registry-client",
    "sentinel-registry-service",
    "sentinel-runtime",
    "sentinel-fleet",
    "sentinel-agent",
    "sentinel-server",
    "sentinel-worker",
    "sentinel-rule-tests",
    "sentinel-promql",
];

/// What stands below `components/` and `tests/fixtures/plugins/` may name of ours.
const GUESTS: &[(&str, &[&str])] = &[
    ("sentinel-sdk", &["sentinel-sdk-macros"]),
    ("sentinel-sdk-macros", &[]),
    // A translator of texts, held against the evaluator in its tests.
    ("sentinel-promql", &["sentinel-sdk", "plugin-alert-dsl"]),
];

/// For every other guest.
const PLUGIN: &[&str] = &["sentinel-sdk"];

/// Dependencies from elsewhere that only one crate may know. `in_tests`: others may, in
/// `[dev-dependencies]` and in crates that are tests or benches through and through.
const CONFINED: &[Confined] = &[
    Confined { what: "wasmtime", only: "sentinel-runtime", in_tests: false },
    Confined { what: "sqlx", only: "sentinel-store", in_tests: true },
    Confined { what: "object_store", only: "sentinel-registry-service", in_tests: true },
    Confined { what: "async-nats", only: "sentinel-bus", in_tests: true },
];

/// What only tests and benches may use: crates that are nothing else, and any crate in its
/// `[dev-dependencies]`.
const FOR_TESTS: &[&str] =
    &["sentinel-test-services", "sentinel-test-components", "sentinel-test-notifiers"];

/// Crates that are nothing but tests or benches.
const TEST_CRATES: &[&str] =
    &["sentinel-e2e", "sentinel-bench", "sentinel-oracle", "sentinel-faults"];

struct Confined {
    /// The crate, with all whose name goes on after a hyphen.
    what: &'static str,
    only: &'static str,
    in_tests: bool,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Clone, Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Clone, Deserialize)]
struct Dependency {
    name: String,
    /// None for a normal one, else `dev` or `build`.
    kind: Option<String>,
}

/// Fails with every edge that points the wrong way; otherwise says how many were looked at.
pub(crate) fn check(checkout: &Checkout) -> Result<String> {
    let text = process::read(checkout.cargo().args([
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version=1",
    ]))?;
    let metadata: Metadata = serde_json::from_str(&text)?;
    let wrong = violations(&metadata.packages);
    if !wrong.is_empty() {
        bail!("{} dependencies point the wrong way:\n  {}", wrong.len(), wrong.join("\n  "));
    }
    let edges: usize = metadata.packages.iter().map(|package| package.dependencies.len()).sum();
    Ok(format!("{edges} edges of {} crates", metadata.packages.len()))
}

fn violations(packages: &[Package]) -> Vec<String> {
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut wrong = Vec::new();
    for package in packages {
        let Some(allowed) = allowed(package) else {
            wrong.push(format!(
                "{} has no place yet; give it one in xtask/src/directions.rs",
                package.name
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if FOR_TESTS.contains(&name) && is_for_tests(package, dependency) {
                continue;
            }
            if ours.contains(name) {
                if !allowed.contains(&name) {
                    wrong.push(format!("{} must not depend on {}", package.name, dependency.name));
                }
            } else if let Some(rule) = broken_rule(package, dependency) {
                wrong.push(format!(
                    "{} must not depend on {}: only {} knows it",
                    package.name, dependency.name, rule.only
                ));
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    wrong
}

fn allowed(package: &Package) -> Option<&'static [&'static str]> {
    let in_table = |table: &'static [(&str, &[&str])]| {
        table.iter().find(|(name, _)| *name == package.name).map(|(_, allowed)| *allowed)
    };
    let guest = ["/components/", "/tests/fixtures/plugins/"]
        .iter()
        .any(|place| package.manifest_path.contains(place));
    if guest { in_table(GUESTS).or(Some(PLUGIN)) } else { in_table(HOST) }
}

fn is_for_tests(package: &Package, dependency: &Dependency) -> bool {
    dependency.kind.as_deref() == Some("dev") || TEST_CRATES.contains(&package.name.as_str())
}

fn broken_rule(package: &Package, dependency: &Dependency) -> Option<&'static Confined> {
    let in_tests = is_for_tests(package, dependency);
    CONFINED.iter().find(|rule| {
        let meant = dependency
            .name
            .strip_prefix(rule.what)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        meant && package.name != rule.only && !(rule.in_tests && in_tests)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dir: &str, dependencies: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            manifest_path: format!("/w/{dir}/Cargo.toml"),
            dependencies: dependencies
                .iter()
                .map(|dependency| {
                    let (name, kind) = match dependency.strip_prefix("dev:") {
                        Some(name) => (name, Some("dev".to_owned())),
                        None => (*dependency, None),
                    };
                    Dependency { name: name.to_owned(), kind }
                })
                .collect(),
        }
    }

    /// One edge, among all the crates of the tables.
    fn check(name: &str, dir: &str, dependency: &str) -> Vec<String> {
        let mut packages: Vec<Package> = HOST
            .iter()
            .map(|(name, _)| package(name, "host/x", &[]))
            .chain(GUESTS.iter().map(|(name, _)| package(name, "components/x", &[])))
            .chain([package("plugin-rows", "components/rows", &[])])
            .filter(|package| package.name != name)
            .collect();
        packages.push(package(name, dir, &[dependency]));
        violations(&packages)
    }

    #[test]
    fn edges_that_point_down_are_allowed() {
        for (name, dir, dependency) in [
            ("sentinel-bus", "host/bus", "sentinel-wal"),
            ("sentinel-store", "host/store", "sentinel-alerting"),
            ("sentinel-runtime", "host/runtime", "sentinel-trust"),
            ("sentinel-agent", "host/agent", "sentinel-runtime"),
            ("sentinel-cli", "host/cli", "sentinel-worker"),
            ("plugin-rows", "components/rows", "sentinel-sdk"),
            ("counter", "tests/fixtures/plugins/counter", "sentinel-sdk"),
            ("sentinel-runtime", "host/runtime", "wasmtime-wasi"),
            ("sentinel-runtime", "host/runtime", "serde"),
            ("sentinel-e2e", "tests/e2e", "sqlx"),
            ("sentinel-worker", "host/worker", "dev:sqlx"),
            ("sentinel-bench", "bench", "sentinel-test-services"),
            ("sentinel-bus", "host/bus", "dev:sentinel-test-services"),
        ] {
            assert_eq!(
                check(name, dir, dependency),
                Vec::<String>::new(),
                "{name} -> {dependency}"
            );
        }
    }

    #[test]
    fn edges_that_point_up_or_sideways_are_named() {
        for (name, dir, dependency) in [
            ("sentinel-wal", "host/wal", "sentinel-model"),
            ("sentinel-model", "host/model", "sentinel-store"),
            ("sentinel-trust", "registry/trust", "sentinel-runtime"),
            ("sentinel-trust", "registry/trust", "sentinel-registry-client"),
            ("sentinel-runtime", "host/runtime", "sentinel-registry-client"),
            ("sentinel-wire", "host/wire", "sentinel-wal"),
            ("sentinel-agent", "host/agent", "sentinel-server"),
            ("sentinel-server", "host/server", "dev:sentinel-worker"),
            ("sentinel-worker", "host/worker", "sentinel-agent"),
            ("sentinel-runtime", "host/runtime", "plugin-rows"),
            ("sentinel-cli", "host/cli", "sentinel-sdk"),
            ("plugin-rows", "components/rows", "sentinel-model"),
            ("sentinel-sdk", "components/sdk", "sentinel-model"),
            ("xtask", "xtask", "sentinel-trust"),
            ("sentinel-server", "host/server", "sqlx"),
            ("sentinel-agent", "host/agent", "wasmtime"),
            ("sentinel-agent", "host/agent", "dev:wasmtime-wasi"),
            ("sentinel-e2e", "tests/e2e", "wasmtime"),
            ("sentinel-oracle", "tests/oracle", "sentinel-server"),
            ("sentinel-bus", "host/bus", "sentinel-test-services"),
        ] {
            let wrong = check(name, dir, dependency);
            assert_eq!(wrong.len(), 1, "{name} -> {dependency}: {wrong:?}");
            let target = dependency.trim_start_matches("dev:");
            assert!(
                wrong[0].starts_with(&format!("{name} must not depend on {target}")),
                "{}",
                wrong[0]
            );
        }
    }

    #[test]
    fn a_crate_without_a_place_is_named() {
        let wrong = violations(&[package("sentinel-new", "host/new", &[])]);
        assert_eq!(
            wrong,
            ["sentinel-new has no place yet; give it one in xtask/src/directions.rs"]
        );
    }

    #[test]
    fn the_tables_name_no_circle() {
        fn reaches(from: &str, to: &str, left: usize) -> bool {
            let allowed = HOST.iter().find(|(name, _)| *name == from);
            left > 0
                && allowed.is_some_and(|(_, allowed)| {
                    allowed.iter().any(|next| *next == to || reaches(next, to, left - 1))
                })
        }
        for (name, _) in HOST {
            assert!(!reaches(name, name, HOST.len()), "{name} reaches itself");
        }
    }
}
