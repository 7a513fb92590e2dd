//! Desired against actual.

use clap::Args;
use sentinel_server::api::{FleetHostBody, FleetStatusBody};
use std::time::Duration;

use super::slots::slots;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::table::{Table, Tone};
use crate::output::{Look, Printer, human};

/// Options of `sentinel fleet status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only hosts that are not as they should be
    #[arg(long)]
    problems: bool,
    /// Go on looking: every 2 s anew, a line each with --json
    #[arg(long)]
    watch: bool,
}

/// How often is looked again.
const LOOK: Duration = Duration::from_secs(2);

pub(super) async fn run(
    command: Status,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let (status, verdict) = look(&command, client).await?;
    if command.watch {
        return watch(&command, status, client, printer).await;
    }
    printer.data(&status, |look| text(&status, look))?;
    if status.number == 0 {
        printer.say("nothing was decided yet");
        printer.hint("begin with `sentinel plugin install NAME --on '*'`");
    }
    verdict
}

/// What the server says of every host, page after page, and of the set that the first of them is of.
pub(super) async fn every_host(client: &Client) -> Result<FleetStatusBody, Failure> {
    let pages: Vec<FleetStatusBody> = client.pages("/v1/fleet/status", &[]).await?;
    let whole = pages.into_iter().reduce(|mut whole, page| {
        whole.hosts.extend(page.hosts);
        whole
    });
    Ok(whole.unwrap_or_default())
}

async fn look(
    command: &Status,
    client: &Client,
) -> Result<(FleetStatusBody, Result<(), Failure>), Failure> {
    let mut status = every_host(client).await?;
    let verdict = verdict(&status);
    if command.problems {
        status.hosts.retain(|host| host.state != "current");
    }
    Ok((status, verdict))
}

/// Shows it again and again, until nobody reads any more. A server that is away for a while ends
/// nothing.
async fn watch(
    command: &Status,
    mut status: FleetStatusBody,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    loop {
        let decided = if status.number == 0 { "nothing was decided yet\n\n" } else { "" };
        if !printer.frame(&status, |look| format!("{decided}{}", text(&status, look)))? {
            return Ok(());
        }
        loop {
            tokio::time::sleep(LOOK).await;
            match look(command, client).await {
                Ok((newer, _)) => {
                    status = newer;
                    break;
                }
                Err(failure) => printer.warn(&failure.message),
            }
        }
    }
}

/// Fails where a host refused the set in force, or does not run it yet. Hosts that are away
/// are shown and fail nothing: nobody can tell what they run.
fn verdict(status: &FleetStatusBody) -> Result<(), Failure> {
    let count = |state: &str| status.hosts.iter().filter(|host| host.state == state).count() as u64;
    let mut parts = Vec::new();
    match count("refused") {
        0 => {}
        refused => parts.push(format!(
            "{} refused the set and {} on with what ran before",
            human::plural(refused, "host"),
            if refused == 1 { "goes" } else { "go" }
        )),
    }
    match count("behind") {
        0 => {}
        1 => parts.push("1 host is behind".to_owned()),
        behind => parts.push(format!("{} are behind", human::plural(behind, "host"))),
    }
    if parts.is_empty() { Ok(()) } else { Err(Failure::new(parts.join("; "))) }
}

fn text(status: &FleetStatusBody, look: Look) -> String {
    let mut head = String::new();
    if status.number > 0 {
        let note =
            if status.note.is_empty() { String::new() } else { format!(": {}", status.note) };
        head = crate::output::clean(&format!(
            "set {} by {}, {}{note}",
            status.number,
            status.by,
            human::moment(status.made_at)
        ));
        head.push_str("\n\n");
    }
    if status.hosts.is_empty() {
        return head;
    }
    let mut table =
        Table::new(look, &["host", "labels", "set", "is", "slot", "plugin", "runs", "why"]);
    for host in &status.hosts {
        rows(host, status.number, &mut table);
    }
    head + &table.text()
}

/// A row for each slot of a host; what is said of the host stands in the first.
fn rows(host: &FleetHostBody, number: u64, table: &mut Table) {
    let labels: Vec<_> = host.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let applied = host.number.map_or("-".to_owned(), |applied| format!("{applied}/{number}"));
    let tone = match host.state.as_str() {
        "current" => Tone::Good,
        "refused" | "blocked" => Tone::Bad,
        "outside" => Tone::Quiet,
        _ => Tone::Warning,
    };
    let mut first = vec![
        (format!("{} {}", host.role, host.host), Tone::Plain),
        (labels.join(","), Tone::Quiet),
        (applied, Tone::Plain),
        (if host.trial { format!("{}, on trial", host.state) } else { host.state.clone() }, tone),
    ];
    let mut why = host.problem.clone().unwrap_or_default();
    let slots = slots(host);
    if slots.is_empty() {
        let none = [String::new(), String::new(), String::new(), why].map(|t| (t, Tone::Plain));
        table.toned(first.into_iter().chain(none));
        return;
    }
    for slot in slots {
        let tone = match slot.state.as_str() {
            "running" => Tone::Good,
            "disabled" => Tone::Quiet,
            "missing" => Tone::Bad,
            _ => Tone::Warning,
        };
        if let Some(reason) = slot.reason {
            why = if why.is_empty() { reason } else { format!("{why}; {reason}") };
        }
        let plugin = match slot.plugin.as_str() {
            "" => String::new(),
            plugin => format!("{plugin}@{}", slot.version),
        };
        let cells = [
            (slot.name, Tone::Plain),
            (plugin, Tone::Plain),
            (slot.state, tone),
            (std::mem::take(&mut why), Tone::Plain),
        ];
        table.toned(first.into_iter().chain(cells));
        first = vec![(String::new(), Tone::Plain); 4];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fleet::example::host;
    use serde_json::json;

    fn status() -> FleetStatusBody {
        let mut current = host("web-1", "agent", "role=web,zone=a");
        (current.number, current.state) = (Some(8), "current".to_owned());
        current.slots = json!([
            {"name": "system", "plugin": "sentinel/system", "version": "0.1.0", "state": "running", "calls": 9},
            {"name": "nginx", "plugin": "sentinel/nginx", "version": "1.0.0", "state": "quarantined", "reason": "it failed 5 times"},
            {"name": "off", "state": "disabled"},
        ]);
        let mut refused = host("web-2", "agent", "role=web");
        (refused.number, refused.refused) = (Some(7), Some(8));
        (refused.state, refused.problem) =
            ("refused".to_owned(), Some("it asks for\u{1b}[2J more".to_owned()));
        current.wanted =
            vec!["system: sentinel/system@0.2.0".into(), "nginx: sentinel/nginx@1.0.0".into()];
        let mut behind = host("w", "worker", "*");
        behind.wanted =
            vec!["pager: acme/teams@2.0.0".into(), "old: acme/old@1.0.0 (disabled)".into()];
        let mut outside = host("old", "agent", "*");
        (outside.number, outside.state) = (None, "outside".to_owned());
        FleetStatusBody {
            number: 8,
            by: "alice".into(),
            made_at: 1_700_000_000_000,
            note: "more logs".into(),
            hosts: vec![current, refused, behind, outside],
        }
    }

    #[test]
    fn every_host_shows_what_it_runs_and_why_it_does_not() {
        insta::assert_snapshot!(text(&status(), Look { color: false, width: 120 }));
    }

    #[test]
    fn it_fails_where_a_host_refused_or_is_behind_and_not_where_one_is_away() {
        let said = |status: &FleetStatusBody| verdict(status).map_err(|failure| failure.message);
        let mut status = status();
        assert_eq!(
            said(&status).unwrap_err(),
            "1 host refused the set and goes on with what ran before; 1 host is behind"
        );
        for state in ["silent", "outside", "unapproved", "blocked", "current"] {
            status.hosts.iter_mut().for_each(|host| host.state = state.to_owned());
            assert_eq!(said(&status), Ok(()), "{state}");
        }
        assert_eq!(said(&FleetStatusBody::default()), Ok(()));
    }
}
