//! `sentinel notify`: notifiers. Those of the fleet are decided as all that it runs is, with an operator's key; those of
//! a worker's own configuration are shown, and changed there.

use clap::{Args, Subcommand};
use sentinel_model::ids::SlotName;
use sentinel_server::api::{DecidedBy, NotifierBody, NotifiersBody};
use sentinel_trust::fleet::Wish;
use sentinel_trust::repository::PluginRange;
use serde::Deserialize as _;

use super::fleet::{install, switch};
use super::letters;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::table::{Table, Tone};
use crate::output::{Look, Printer};

#[derive(Debug, Subcommand)]
pub(crate) enum NotifyCommand {
    /// All notifiers: the fleet's, and those of workers' own configurations.
    List,
    /// One of them: how it is set up, and what workers say of it.
    Show {
        /// The notifier's slot.
        slot: SlotName,
    },
    /// Make or replace a notifier of the fleet.
    Set(Set),
    /// Take a notifier out of the fleet. What waits to be told by it is kept.
    Remove(switch::NotifierSlot),
    /// Send a notification that says that it is a test, and wait for what becomes of it.
    Test(letters::Test),
}

/// Options of `sentinel notify set`.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The notifier's slot, which routes name
    slot: SlotName,
    /// The plugin of the registry, publisher/name@^1
    #[arg(value_name = "PLUGIN[@RANGE]")]
    plugin: PluginRange,
    #[command(flatten)]
    how: Box<install::How>,
}

pub(super) async fn run(
    command: NotifyCommand,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    match command {
        NotifyCommand::List => {
            let body: NotifiersBody = client.get("/v1/notifiers", &[]).await?;
            printer.data(&body, |look| list(&body, look))?;
            if body.notifiers.is_empty() {
                printer.say("there is no notifier");
                printer.hint("`sentinel notify set` makes one");
            }
            Ok(())
        }
        NotifyCommand::Show { slot } => {
            let path = format!("/v1/notifiers/{slot}");
            let body: NotifiersBody = client.get(&path, &[]).await?;
            printer.data(&body, |look| show(&body, look))
        }
        NotifyCommand::Set(Set { slot, plugin, how }) => {
            install::notifier(slot.to_string(), plugin, *how, client, printer).await
        }
        NotifyCommand::Remove(command) => switch::remove_notifier(command, client, printer).await,
        NotifyCommand::Test(command) => letters::test(command, client, printer).await,
    }
}

/// What was decided, of one of the fleet.
fn wish(one: &NotifierBody) -> Option<Wish> {
    one.wish.as_ref().and_then(|wish| Wish::deserialize(wish).ok())
}

/// Who decides, for people.
fn decided(one: &NotifierBody) -> String {
    match (one.decided_by, &one.on) {
        (DecidedBy::Fleet, Some(on)) => format!("fleet, on {on}"),
        (DecidedBy::Fleet, None) => "fleet".to_owned(),
        (DecidedBy::Host, _) => "the worker's configuration".to_owned(),
    }
}

/// The plugin that is wanted; of a worker's own the one that is there.
fn plugin(one: &NotifierBody) -> String {
    match (wish(one), one.workers.first()) {
        (Some(wish), _) => format!("{}@{}", wish.plugin, wish.version),
        (None, Some(worker)) => format!("{}@{}", worker.plugin, worker.version),
        (None, None) => String::new(),
    }
}

/// How it is, in a word or two.
fn state(one: &NotifierBody) -> (String, Tone) {
    if wish(one).is_some_and(|wish| wish.disabled) {
        return ("disabled".to_owned(), Tone::Quiet);
    }
    let running = one.workers.iter().filter(|worker| worker.state == "running").count();
    let tone = if running > 0 && running == one.workers.len() { Tone::Good } else { Tone::Warning };
    (format!("{running} of {}", one.workers.len()), tone)
}

fn list(body: &NotifiersBody, look: Look) -> String {
    if body.notifiers.is_empty() {
        return String::new();
    }
    let mut table = Table::new(look, &["slot", "plugin", "decided by", "running"]);
    for one in &body.notifiers {
        table.toned([
            (one.slot.clone(), Tone::Plain),
            (plugin(one), Tone::Plain),
            (decided(one), Tone::Quiet),
            state(one),
        ]);
    }
    table.text()
}

fn show(body: &NotifiersBody, look: Look) -> String {
    let mut text = String::new();
    for one in &body.notifiers {
        let mut table = Table::properties(look);
        table.property("slot", &one.slot);
        table.property("plugin", &plugin(one));
        table.property("decided by", &decided(one));
        if let Some(wish) = wish(one) {
            table.property("digest", &wish.digest.to_string());
            table.property("configuration", &wish.config.to_string());
            let grants = serde_json::to_string(&wish.grants).unwrap_or_default();
            table.property("grants", &grants);
        }
        text += &table.text();
        let mut workers = Table::new(look, &["worker", "plugin", "state", "why"]);
        for worker in &one.workers {
            let tone = if worker.state == "running" { Tone::Good } else { Tone::Warning };
            workers.toned([
                (worker.worker.clone(), Tone::Plain),
                (format!("{}@{}", worker.plugin, worker.version), Tone::Plain),
                (worker.state.clone(), tone),
                (worker.reason.clone().unwrap_or_default(), Tone::Plain),
            ]);
        }
        if !one.workers.is_empty() {
            text = format!("{text}\n{}", workers.text());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::fleet::example;
    use super::*;

    const LOOK: Look = Look { color: false, width: 120 };

    fn body() -> NotifiersBody {
        let wish = |disabled: bool| {
            let mut wish =
                example::wish("pager", "acme/teams", "2.0.0", sentinel_trust::Kind::Notifier);
            wish.disabled = disabled;
            wish
        };
        let worker = |state: &str, reason: Option<&str>| {
            serde_json::json!({
                "worker": "one", "at": 1, "plugin": "acme/teams", "version": "1.9.0",
                "state": state, "reason": reason,
            })
        };
        serde_json::from_value(serde_json::json!({
            "number": 7,
            "notifiers": [
                {"slot": "pager", "decided_by": "fleet", "on": "zone=a", "wish": wish(false),
                    "workers": [worker("running", None), worker("empty", Some("quarantined\u{1b}[31m"))]},
                {"slot": "pager", "decided_by": "fleet", "on": "zone=b", "wish": wish(true),
                    "workers": []},
                {"slot": "mail", "decided_by": "host", "workers": [worker("running", None)]},
            ],
        }))
        .unwrap()
    }

    /// The lines, with single spaces.
    fn lines(text: &str) -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn notifiers_are_listed_with_who_decides_and_how_many_run() {
        assert_eq!(
            lines(&list(&body(), LOOK)),
            [
                "SLOT PLUGIN DECIDED BY RUNNING",
                "pager acme/teams@2.0.0 fleet, on zone=a 1 of 2",
                "pager acme/teams@2.0.0 fleet, on zone=b disabled",
                "mail acme/teams@1.9.0 the worker's configuration 1 of 1",
            ]
        );
        assert_eq!(list(&NotifiersBody::default(), LOOK), "");
    }

    #[test]
    fn a_notifier_shows_how_it_is_set_up_and_what_workers_say() {
        let mut body = body();
        body.notifiers.truncate(1);
        let text = show(&body, LOOK);
        assert!(!text.contains('\u{1b}'), "what workers say is made safe: {text:?}");
        let lines = lines(&text);
        for line in [
            "slot pager",
            "plugin acme/teams@2.0.0",
            "decided by fleet, on zone=a",
            "configuration {}",
            "WORKER PLUGIN STATE WHY",
            "one acme/teams@1.9.0 running",
        ] {
            assert!(lines.iter().any(|it| it == line), "{line:?} in {lines:?}");
        }
        let quarantined = lines.iter().find(|line| line.starts_with("one acme/teams@1.9.0 empty"));
        assert!(quarantined.is_some_and(|line| line.contains("quarantined")), "{lines:?}");
    }
}
