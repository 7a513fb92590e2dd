//! deploy/RUNBOOK.md: what it says of alerts and of figures is there.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::guide::{self, Guide};
use sentinel_e2e::sentinel::Home;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Rules of deploy/rules that are about Sentinel; those of the machine have no section.
const ABOUT_SENTINEL: [(&str, &str); 3] = [
    ("host.yaml", "agent-silent"),
    ("host.yaml", "agent-cannot-read"),
    ("deadman.yaml", "deadman"),
];

fn read(file: &str) -> Result<String> {
    let path = Path::new(ROOT).join(file);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The sections of alerts: name and text.
fn sections(runbook: &str) -> Vec<(&str, &str)> {
    let alerts = runbook.split("\n## ").find(|part| part.starts_with("Alerts\n"));
    let sections = alerts.unwrap_or_default().split("\n### ").skip(1);
    sections.filter_map(|one| one.split_once('\n')).map(|(h, t)| (h.trim_matches('`'), t)).collect()
}

#[test]
fn every_section_of_an_alert_is_of_one_that_is_shipped_and_says_how_to_look() -> Result<()> {
    let runbook = read("deploy/RUNBOOK.md")?;
    let sections = sections(&runbook);
    let own = read("host/worker/src/evaluate/self_watch.rs")?;
    for (name, text) in &sections {
        let shipped = own.contains(&format!("\"{name}\""))
            || ABOUT_SENTINEL.iter().any(|(_, rule)| rule == name);
        ensure!(shipped, "there is no alert {name}");
        ensure!(text.contains("\n    sentinel "), "{name} has no command to look with");
        ensure!(text.contains("\n* "), "{name} says nothing to do");
    }
    for (file, rule) in ABOUT_SENTINEL {
        let rules = read(&format!("deploy/rules/{file}"))?;
        ensure!(rules.contains(&format!("- name: {rule}\n")), "{file} has no {rule}");
        ensure!(sections.iter().any(|(name, _)| *name == rule), "{rule} has no section");
    }
    Ok(())
}

/// The rules of deploy/rules: name and link.
fn rules() -> Result<Vec<(String, String)>> {
    let mut rules = Vec::new();
    for entry in std::fs::read_dir(Path::new(ROOT).join("deploy/rules"))? {
        let path = entry?.path();
        let name = path.display().to_string();
        if !name.ends_with(".yaml") || name.ends_with(".test.yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        for rule in text.split("\n  - name: ").skip(1) {
            let (name, rest) = rule.split_once('\n').context("a rule")?;
            let link = rest.lines().find_map(|line| line.strip_prefix("    runbook_url: "));
            rules.push((
                name.to_owned(),
                link.with_context(|| format!("{name} has no link"))?.into(),
            ));
        }
    }
    Ok(rules)
}

#[test]
fn every_shipped_rule_links_to_its_section_and_every_section_is_of_a_rule() -> Result<()> {
    let rules = rules()?;
    ensure!(rules.len() >= 20, "{} rules", rules.len());
    let page = read("deploy/RUNBOOK-RULES.md")?;
    let sections: Vec<(&str, &str)> = page
        .split("\n### ")
        .skip(1)
        .filter_map(|one| one.split_once('\n'))
        .map(|(heading, text)| (heading.trim_matches('`'), text))
        .collect();
    for (name, link) in &rules {
        let (file, anchor) = link.split_once('#').with_context(|| format!("{name}: {link}"))?;
        ensure!(anchor == name, "{name} links to {link}");
        ensure!(read(file)?.contains(&format!("\n### `{name}`\n")), "{link} is not there");
    }
    for (name, text) in &sections {
        ensure!(rules.iter().any(|(rule, _)| rule == name), "there is no rule {name}");
        let is_told = text.contains("\n    sentinel query '") && text.contains("\n* ");
        ensure!(is_told, "{name} does not say how to look and what to do");
    }
    Ok(())
}

#[test]
fn every_figure_that_is_said_to_be_measured_names_a_row_of_the_results() -> Result<()> {
    let runbook = read("deploy/RUNBOOK.md")?;
    let results: Value = serde_json::from_str(&read("bench/results.json")?)?;
    let rows = results["rows"].as_array().context("rows")?;
    let rows: BTreeSet<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    let mut measured = 0;
    for line in runbook.lines().filter(|line| line.starts_with('|') && line.contains("| measured"))
    {
        let (_, from) = line.split_once("| measured").context("a source")?;
        let row = from.split('`').nth(1).with_context(|| format!("no row is named: {line}"))?;
        ensure!(rows.contains(row), "{row} is no row of bench/results.json");
        measured += 1;
    }
    ensure!(measured >= 8, "{measured} figures");
    Ok(())
}

#[test]
fn every_file_that_is_named_is_there() -> Result<()> {
    let runbook = read("deploy/RUNBOOK.md")?;
    for file in ["deploy/backup.sh", "deploy/restore.sh", "deploy/nats-setup.sh", "deploy/systemd"]
    {
        ensure!(runbook.contains(file) && Path::new(ROOT).join(file).exists(), "{file}");
    }
    Ok(())
}

/// What people read.
const GUIDES: [&str; 12] = [
    "README.md",
    "components/sdk/README.md",
    "deploy/RUNBOOK.md",
    "deploy/RUNBOOK-RULES.md",
    "deploy/compose/README.md",
    "deploy/systemd/README.md",
    "host/ARCHITECTURE.md",
    "host/alerting/EXACTLY_ONCE.md",
    "host/alerting/ROUTING.md",
    "host/alerting/RULES.md",
    "host/server/ACCESS.md",
    "registry/README.md",
];

/// Words that stand for something of the reader's, and something that they may stand for.
const EXAMPLES: [(&str, &str); 6] = [
    (" URL", " http://127.0.0.1:8080"),
    (" ID", " agent-1"),
    (" ROLE", " viewer"),
    (" CODE", " agent-1"),
    (" install FILE", " install acme/plugin"),
    (" install …", " install acme/plugin"),
];

#[test]
fn every_command_in_the_guides_is_one_that_the_program_knows() -> Result<()> {
    let home = Home::new()?;
    let (mut asked, mut wrong) = (BTreeSet::new(), Vec::new());
    for guide in GUIDES {
        for command in Guide::read(guide)?.commands() {
            let fill = |line: String, (word, example): &(&str, &str)| line.replace(word, example);
            let line = EXAMPLES.iter().fold(command.clone(), fill);
            // What depends on other commands is run with them, by `cargo xtask ci`.
            if line.contains(['$', '|', '&', ';', '>']) || !asked.insert(line.clone()) {
                continue;
            }
            // All that stands before it is read as it would be without.
            let said = guide::shell(&home, home.path(), &format!("{line} --help"))?;
            if said.code != 0 {
                wrong.push(format!("{guide}: `{command}`: {}", said.err));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(asked.len() > 100, "only {} commands were found", asked.len());
    Ok(())
}
