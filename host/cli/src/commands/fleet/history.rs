//! What was decided, by whom and why. Every set is opened here: a server is not believed.

use std::path::PathBuf;

use clap::Args;
use sentinel_server::api::{FleetSetBody, SealedBody};
use sentinel_trust::fleet::DesiredSet;
use serde::Serialize;

use super::difference::{self, Change, What};
use super::key_file;
use super::operator::{Operator, empty};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::table::{Table, Tone};
use crate::output::{Look, Printer, human};

/// Most sets that are shown at once.
const MAX_SHOWN: u32 = 200;

/// Options of `sentinel fleet history`.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SHOWN)))]
    limit: u32,
    #[command(flatten)]
    key: Key,
}

/// Options of `sentinel fleet show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its number [default: the newest]
    number: Option<u64>,
    #[command(flatten)]
    key: Key,
}

/// By whose key sets are believed.
#[derive(Debug, Args)]
struct Key {
    /// The operator's secret key [default: that of the running `sentinel up`, else of this user]
    #[arg(long, value_name = "FILE", env = "SENTINEL_OPERATOR_KEY", hide_env_values = true)]
    key: Option<PathBuf>,
}

/// A set of the history.
#[derive(Debug, Serialize)]
struct Entry {
    number: u64,
    /// When the server took it, unix milliseconds.
    taken_at: i64,
    by: String,
    /// The id of the key that signed it.
    key: String,
    note: String,
    /// In what it differs from the one before; absent where that one was not asked for.
    changes: Option<Vec<Change>>,
}

/// One set whole.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    entry: Entry,
    set: DesiredSet,
}

pub(super) async fn run(
    command: History,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let operator = Operator::open(&key_file(command.key.key.as_deref(), Some(client))?)?;
    let query = [("limit", (command.limit + 1).to_string())];
    let bodies: Vec<FleetSetBody> = client.get("/v1/fleet/history", &query).await?;
    let sets = bodies.iter().map(|body| opened(&operator, body)).collect::<Result<Vec<_>, _>>()?;
    let entries = bodies.iter().enumerate().take(command.limit as usize).map(|(at, body)| {
        let before = sets.get(at + 1).filter(|before| before.number + 1 == body.number);
        let first = (body.number == 1).then(|| empty(sets[at].fleet));
        entry(body, &sets[at], before.or(first.as_ref()))
    });
    let entries: Vec<_> = entries.collect();
    printer.data(&entries, |look| table(&entries, look))?;
    if entries.is_empty() {
        printer.say("nothing was decided yet");
        printer.hint("begin with `sentinel plugin install NAME --on '*'`");
    }
    Ok(())
}

pub(super) async fn show(command: Show, client: &Client, printer: &Printer) -> Result<(), Failure> {
    let mut operator = Operator::open(&key_file(command.key.key.as_deref(), Some(client))?)?;
    let number = match command.number {
        Some(number) => number,
        None => newest(client, &mut operator).await?.number,
    };
    if number == 0 {
        return Err(Failure::new("nothing was decided yet")
            .hint("begin with `sentinel plugin install NAME --on '*'`"));
    }
    let (body, set) = one(client, &operator, number).await?;
    let before = match number {
        1 => empty(set.fleet),
        _ => one(client, &operator, number - 1).await?.1,
    };
    let shown = Shown { entry: entry(&body, &set, Some(&before)), set };
    printer.data(&shown, |look| text(&shown, look))
}

/// The newest set, believed and seen.
async fn newest(client: &Client, operator: &mut Operator) -> Result<DesiredSet, Failure> {
    let body: SealedBody = client.get("/v1/fleet", &[]).await?;
    operator.newest(body.sealed.as_deref())
}

/// The set of a number, believed.
///
/// # Errors
/// One that is not there, or not what it is said to be.
pub(super) async fn one(
    client: &Client,
    operator: &Operator,
    number: u64,
) -> Result<(FleetSetBody, DesiredSet), Failure> {
    let body: FleetSetBody = client.get(&format!("/v1/fleet/sets/{number}"), &[]).await?;
    let set = opened(operator, &body)?;
    if set.number != number {
        return Err(Failure::new(format!(
            "the server was asked for set {number} and gave set {}",
            set.number
        )));
    }
    Ok((body, set))
}

fn opened(operator: &Operator, body: &FleetSetBody) -> Result<DesiredSet, Failure> {
    operator.open_any(&body.sealed)
}

/// What the set says, not what the server says of it, but for the time and the key's id.
fn entry(body: &FleetSetBody, set: &DesiredSet, before: Option<&DesiredSet>) -> Entry {
    Entry {
        number: set.number,
        taken_at: body.taken_at,
        by: set.by.clone(),
        key: body.key.clone(),
        note: set.note.clone(),
        changes: before.map(|before| difference::between(before, set)),
    }
}

fn table(entries: &[Entry], look: Look) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let mut table = Table::new(look, &[">set", "taken", "by", "key", "changes", "note"]);
    for one in entries {
        table.toned([
            (one.number.to_string(), Tone::Plain),
            (human::moment(one.taken_at), Tone::Quiet),
            (one.by.clone(), Tone::Plain),
            (one.key.clone(), Tone::Quiet),
            (one.changes.as_deref().map(brief).unwrap_or_default(), Tone::Plain),
            (one.note.clone(), Tone::Plain),
        ]);
    }
    table.text()
}

/// Changes in a few words: `+nginx ~system`.
fn brief(changes: &[Change]) -> String {
    /// Most slots that are named.
    const MAX_NAMED: usize = 4;
    if changes.is_empty() {
        return "signed anew".to_owned();
    }
    let mut words: Vec<_> = changes.iter().take(MAX_NAMED).map(word).collect();
    if changes.len() > MAX_NAMED {
        words.push(format!("and {} more", changes.len() - MAX_NAMED));
    }
    words.join(" ")
}

fn word(change: &Change) -> String {
    let sign = match change.what {
        What::Added => '+',
        What::Removed => '-',
        What::Changed => '~',
    };
    format!("{sign}{}", change.slot)
}

fn text(shown: &Shown, look: Look) -> String {
    let entry = &shown.entry;
    let mut table = Table::properties(look);
    table.property("set", &entry.number.to_string());
    table.property("fleet", &shown.set.fleet.to_string());
    table.property("taken", &human::moment(entry.taken_at));
    table.property("by", &format!("{} (key {})", entry.by, entry.key));
    if !entry.note.is_empty() {
        table.property("note", &entry.note);
    }
    let mut slots = Table::new(look, &["on", "slot", "kind", "plugin", "upgrades", ""]);
    for group in &shown.set.groups {
        for wish in &group.slots {
            slots.row([
                group.selector(),
                wish.slot.clone(),
                wish.kind.to_string(),
                format!("{}@{}", wish.plugin, wish.version),
                wish.range.to_string(),
                if wish.disabled { "disabled".to_owned() } else { String::new() },
            ]);
        }
    }
    let changes = entry.changes.as_deref().map(difference::text).unwrap_or_default();
    format!("{}\n{}\n{changes}", table.text(), slots.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fleet::edit::{Which, uninstall};
    use crate::commands::fleet::example::set;

    fn entries() -> (DesiredSet, Entry) {
        let before = set();
        let which = Which { slot: Some("nginx".into()), ..Which::default() };
        let after = DesiredSet {
            number: 8,
            note: "too many logs".into(),
            ..uninstall(&before, &which).unwrap()
        };
        let body = FleetSetBody {
            number: 99,
            taken_at: 1_700_000_000_000,
            by: "mallory".into(),
            key: "0123456789abcdef".into(),
            note: "x".into(),
            set: serde_json::Value::Null,
            sealed: String::new(),
        };
        let told = entry(&body, &after, Some(&before));
        (after, told)
    }

    const LOOK: Look = Look { color: false, width: 120 };

    #[test]
    fn history_tells_who_changed_what_and_why_by_the_set_alone() {
        let (set, told) = entries();
        let same =
            Entry { changes: Some(Vec::new()), number: 7, note: String::new(), ..entries().1 };
        let unknown = Entry { changes: None, number: 6, note: String::new(), ..entries().1 };
        insta::assert_snapshot!("history", table(&[told, same, unknown], LOOK));
        insta::assert_snapshot!("shown", text(&Shown { entry: entries().1, set }, LOOK));
    }
}
