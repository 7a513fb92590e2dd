//! `sentinel status`: everything at a glance.

mod report;

use sentinel_server::api::{AgentBody, StatusBody};

use self::report::{AgentReport, Slot, WorkerReport};
use super::agents::waits;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::table::{Table, Tone};
use crate::output::{Look, Printer, clean, human};

/// An agent that has not been heard of for so long is shown as lost.
const SILENT_MS: i64 = 60_000;
/// The state of a slot in which nothing runs, since its plugin could not be loaded.
const FAILED: &str = "failed";

pub(super) async fn run(client: &Client, printer: &Printer) -> Result<(), Failure> {
    let status: StatusBody = client.get("/v1/status", &[]).await?;
    printer.data(&status, |look| text(&status, client.shown(), look))
}

/// One thing that somebody should look at.
struct Warning {
    place: String,
    text: String,
}

fn text(status: &StatusBody, server: &str, look: Look) -> String {
    let agents: Vec<(&AgentBody, AgentReport)> =
        status.agents.iter().map(|agent| (agent, report::read(&agent.report))).collect();
    let workers: Vec<(&str, i64, WorkerReport)> = status
        .workers
        .iter()
        .map(|worker| (worker.name.as_str(), worker.at, report::read(&worker.status)))
        .collect();
    let mut parts = vec![summary(status, server, &workers, look)];
    if !agents.is_empty() {
        parts.push(agent_table(&agents, status.now, look));
    }
    if !workers.is_empty() {
        parts.push(worker_table(&workers, status.now, look));
    }
    let slots = agents.iter().flat_map(|(agent, report)| {
        report.slots.iter().map(|slot| (agent.hostname.as_str(), slot))
    });
    let slots = slots.chain(
        workers.iter().flat_map(|(name, _, report)| report.slots.iter().map(|slot| (*name, slot))),
    );
    let failed: Vec<(&str, Slot)> =
        workers.iter().flat_map(|(name, _, r)| failed(name, r)).collect();
    let slots = slots.chain(failed.iter().map(|(name, slot)| (*name, slot)));
    let slots: Vec<(&str, &Slot)> = slots.collect();
    if !slots.is_empty() {
        parts.push(slot_table(&slots, look));
    }
    let warnings = warnings(status, &agents, &workers, &slots);
    if !warnings.is_empty() {
        parts.push(warning_lines(&warnings, look));
    }
    parts.join("\n")
}

fn summary(
    status: &StatusBody,
    server: &str,
    workers: &[(&str, i64, WorkerReport)],
    look: Look,
) -> String {
    let mut table = Table::properties(look);
    let up = human::span(status.now - status.started_at);
    table.property("server", &format!("{server} version {}, up {up}", status.version));
    let failing: usize = workers.iter().map(|(_, _, report)| report.rules.failing).sum();
    let rules = match (status.rules, failing) {
        (0, _) => "none; apply some with `sentinel rules apply FILE`".to_owned(),
        (rules, 0) => format!("{rules}, version {}", status.rules_version),
        (rules, _) => format!("{rules}, version {}, {failing} failing", status.rules_version),
    };
    table.property("rules", &rules);
    let counts = status.alerts.iter().map(|(state, count)| format!("{count} {state}"));
    let alerts = counts.collect::<Vec<_>>().join(", ");
    table.property("alerts", if alerts.is_empty() { "none" } else { &alerts });
    let waiting = match (&status.bus_trouble, status.bus_messages) {
        (Some(trouble), _) => trouble.clone(),
        (None, 0) => "empty".to_owned(),
        (None, messages) => format!(
            "{} waiting, {}",
            human::plural(messages, "message"),
            human::bytes(status.bus_bytes)
        ),
    };
    table.property("bus", &waiting);
    let store = &status.store;
    table.property(
        "store",
        &format!(
            "{}, {}, {} samples ({} of them not packed yet){}",
            human::bytes(store.bytes),
            human::plural(store.series, "series"),
            human::count(store.packed_samples + store.tail_samples),
            human::count(store.tail_samples),
            if store.engine.is_empty() { String::new() } else { format!(", {}", store.engine) }
        ),
    );
    table.text()
}

fn agent_table(agents: &[(&AgentBody, AgentReport)], now: i64, look: Look) -> String {
    let mut table = Table::new(
        look,
        &[
            "agent",
            "host",
            "state",
            ">seen",
            ">written",
            ">synced",
            ">accepted",
            ">committed",
            ">lag",
            ">log",
        ],
    );
    for (agent, report) in agents {
        let lag: u64 =
            report.offsets.iter().map(|one| one.written.saturating_sub(one.committed)).sum();
        let bytes: u64 = report.offsets.iter().map(|one| one.bytes).sum();
        let offsets = report.offsets.last();
        let offset = |of: fn(&report::Offsets) -> u64| {
            (offsets.map_or_else(|| "-".to_owned(), |one| of(one).to_string()), Tone::Plain)
        };
        let silent = agent.last_seen.is_none_or(|seen| now - seen > SILENT_MS);
        let seen =
            agent.last_seen.map_or_else(|| "never".to_owned(), |seen| human::ago(now - seen));
        table.toned([
            (agent.id.clone(), Tone::Plain),
            (agent.hostname.clone(), Tone::Plain),
            (agent.state.clone(), agent_tone(&agent.state)),
            (seen, if silent { Tone::Bad } else { Tone::Plain }),
            offset(|one| one.written),
            offset(|one| one.synced),
            offset(|one| one.accepted),
            offset(|one| one.committed),
            (human::count(lag), Tone::Plain),
            (human::bytes(bytes), Tone::Plain),
        ]);
    }
    table.text()
}

/// The tone of an agent's state.
pub(super) fn agent_tone(state: &str) -> Tone {
    match state {
        "approved" => Tone::Good,
        "blocked" => Tone::Bad,
        _ => Tone::Warning,
    }
}

fn worker_table(workers: &[(&str, i64, WorkerReport)], now: i64, look: Look) -> String {
    let mut table = Table::new(
        look,
        &[
            "worker", ">seen", ">samples", ">waiting", ">rules", ">failing", ">missed", ">alerts",
            ">unsent",
        ],
    );
    for (name, at, report) in workers {
        let tone = |count: usize| if count > 0 { Tone::Warning } else { Tone::Plain };
        let open: usize = report.notifications.iter().map(|lane| lane.open).sum();
        let silent = now - at > SILENT_MS;
        table.toned([
            ((*name).to_owned(), Tone::Plain),
            (human::ago(now - at), if silent { Tone::Bad } else { Tone::Plain }),
            (human::count(report.ingest.samples), Tone::Plain),
            (human::count(report.ingest.waiting), Tone::Plain),
            (report.rules.evaluated.to_string(), Tone::Plain),
            (report.rules.failing.to_string(), tone(report.rules.failing)),
            (human::count(report.rules.missed), Tone::Plain),
            (report.rules.active_alerts.to_string(), tone(report.rules.active_alerts)),
            (open.to_string(), Tone::Plain),
        ]);
    }
    table.text()
}

fn slot_table(slots: &[(&str, &Slot)], look: Look) -> String {
    let mut table = Table::new(
        look,
        &["slot", "in", "plugin", ">gen", "state", ">calls", ">failures", ">p99", ">memory"],
    );
    for (place, slot) in slots {
        let failures: u64 = slot.failures.values().sum();
        table.toned([
            (slot.name.clone(), Tone::Plain),
            ((*place).to_owned(), Tone::Plain),
            (plugin(slot), Tone::Plain),
            (
                if slot.generation == 0 { "-".to_owned() } else { slot.generation.to_string() },
                Tone::Plain,
            ),
            (slot.state.clone(), slot_tone(&slot.state)),
            (human::count(slot.calls), Tone::Plain),
            (human::count(failures), if failures > 0 { Tone::Warning } else { Tone::Plain }),
            (format!("{}ms", human::value(round(slot.latency_ms.p99))), Tone::Plain),
            (human::bytes(slot.memory_bytes), Tone::Plain),
        ]);
    }
    table.text()
}

/// The slots of a worker in which nothing runs, since they could not be loaded.
fn failed<'a>(name: &'a str, report: &WorkerReport) -> Vec<(&'a str, Slot)> {
    let runs = |slot: &String| report.slots.iter().any(|one| one.name == *slot);
    let row = |(slot, why): (&String, &String)| Slot {
        name: slot.clone(),
        state: FAILED.to_owned(),
        reason: Some(why.clone()),
        ..Slot::default()
    };
    report.problems.iter().filter(|(slot, _)| !runs(slot)).map(|one| (name, row(one))).collect()
}

/// What is in a slot, or should be.
fn plugin(slot: &Slot) -> String {
    match (slot.plugin.as_str(), slot.version.as_str()) {
        ("", _) => "-".to_owned(),
        (plugin, "") => plugin.to_owned(),
        (plugin, version) => format!("{plugin}@{version}"),
    }
}

fn slot_tone(state: &str) -> Tone {
    match state {
        "running" => Tone::Good,
        "quarantined" | "empty" | FAILED => Tone::Bad,
        _ => Tone::Warning,
    }
}

/// Milliseconds with two digits after the point.
fn round(millis: f64) -> f64 {
    (millis * 100.0).round() / 100.0
}

fn warnings(
    status: &StatusBody,
    agents: &[(&AgentBody, AgentReport)],
    workers: &[(&str, i64, WorkerReport)],
    slots: &[(&str, &Slot)],
) -> Vec<Warning> {
    let mut all = Vec::new();
    let mut add = |place: String, text: String| all.push(Warning { place, text });
    for (agent, report) in agents {
        if let Some(text) = waits(agent) {
            add(agent.hostname.clone(), text);
        }
        for warning in &report.warnings {
            add(agent.hostname.clone(), warning.clone());
        }
    }
    for (place, slot) in slots {
        slot_warnings(slot, status.now, &mut |text| add(format!("{place} {}", slot.name), text));
    }
    for (name, _, report) in workers {
        let runs = |slot: &str| report.slots.iter().any(|one| one.name == slot);
        for (slot, problem) in report.problems.iter().filter(|(slot, _)| runs(slot)) {
            add(format!("{name} {slot}"), problem.clone());
        }
        for why in &report.sandbox.missing {
            add((*name).to_owned(), format!("sandbox: {why}"));
        }
        let troubles = [&report.ingest.store_trouble, &report.rules.store_trouble];
        for trouble in troubles.into_iter().flatten() {
            add((*name).to_owned(), trouble.clone());
        }
        for (rule, error) in &report.rules.errors {
            add(format!("rule {rule}"), error.clone());
        }
        for lane in &report.notifications {
            if let Some(failure) = lane.last_failure.as_ref().filter(|_| lane.open > 0) {
                add(format!("notifier {}", lane.notifier), failure.clone());
            }
        }
    }
    all
}

fn slot_warnings(slot: &Slot, now: i64, add: &mut dyn FnMut(String)) {
    if slot.state != "running" {
        let error = slot
            .last_error
            .as_ref()
            .map(|(at, error)| format!("{error} ({})", human::ago(now - at)));
        add(slot.reason.clone().or(error).unwrap_or_else(|| format!("is {}", slot.state)));
    }
    if let Some(back) = &slot.rolled_back {
        add(format!(
            "went back to version {} because {} failed: {}",
            slot.version, back.version, back.reason
        ));
    }
}

fn warning_lines(warnings: &[Warning], look: Look) -> String {
    let mut text = String::new();
    for warning in warnings {
        let word = look.paint(console::Style::new().yellow().bold(), "warning:");
        let mut lines = warning.text.lines().map(clean);
        let first = lines.next().unwrap_or_default();
        text.push_str(&format!("{word} {}: {first}\n", clean(&warning.place)));
        for line in lines {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests;
