//! `sentinel rules apply`: what changes is shown by field, asked about, and put in force whole.

use std::path::PathBuf;

use clap::Args;
use sentinel_server::api::{AppliedBody, ApplyBody, ChangeBody};
use serde_json::Value;

use super::{collect, warn};
use crate::client::Client;
use crate::commands::fleet::decide::confirm;
use crate::failure::Failure;
use crate::output::table::{Table, Tone};
use crate::output::{Look, Printer, human};

/// Most characters of a value that are shown.
const MAX_SHOWN: usize = 60;

/// Options of `sentinel rules apply`.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// Rule files, and folders whose .yaml, .yml and .json files are taken.
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Only check them and show what would change
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) async fn run(command: Apply, client: &Client, printer: &Printer) -> Result<(), Failure> {
    let files = collect(&command.paths)?;
    let mut body = ApplyBody { files, dry_run: true, if_version: None };
    let planned: AppliedBody = client.put("/v1/rules", &body).await?;
    warn(&planned.warnings, printer);
    let changed = planned.added.len() + planned.changed.len() + planned.removed.len();
    if command.dry_run || changed == 0 {
        printer.data(&planned, |look| changes(&planned, look))?;
        printer.say(&match changed {
            0 if !command.dry_run => {
                format!("nothing changed: version {} stays in force", planned.version)
            }
            0 => "nothing would change".to_owned(),
            _ => "nothing was changed: this was a dry run".to_owned(),
        });
        return Ok(());
    }
    if !command.yes {
        printer.data(&planned, |look| changes(&planned, look))?;
        confirm(&format!("put this in force in place of version {}?", planned.version))?;
    }
    // What was shown is what is changed: whoever was first meanwhile is not undone.
    (body.dry_run, body.if_version) = (false, Some(planned.version));
    let applied: AppliedBody = client.put("/v1/rules", &body).await?;
    if command.yes {
        printer.data(&applied, |look| changes(&applied, look))?;
    }
    printer.say(&format!("version {} is in force", applied.version));
    Ok(())
}

fn changes(applied: &AppliedBody, look: Look) -> String {
    let mut table = Table::properties(look);
    for (mark, names, tone) in [
        ("+", &applied.added, Tone::Good),
        ("~", &applied.changed, Tone::Warning),
        ("-", &applied.removed, Tone::Bad),
    ] {
        for name in names {
            table.toned([(mark, tone), (name.as_str(), tone)]);
            for line in applied.changes.iter().filter(|one| one.rule == *name).flat_map(fields) {
                table.toned([("", Tone::Plain), (line.as_str(), Tone::Plain)]);
            }
        }
    }
    if applied.unchanged > 0 {
        let unchanged = format!("{} unchanged", human::plural(applied.unchanged as u64, "rule"));
        table.toned([("=", Tone::Quiet), (unchanged.as_str(), Tone::Quiet)]);
    }
    table.text()
}

/// A line for each field that differs.
fn fields(change: &ChangeBody) -> Vec<String> {
    let line = |field: &sentinel_server::api::FieldBody| {
        let (before, after) = (shown(field.before.as_ref()), shown(field.after.as_ref()));
        format!("  {}  {before} -> {after}", field.path)
    };
    let mut lines: Vec<String> = change.fields.iter().map(line).collect();
    if change.more > 0 {
        lines.push(format!("  and {} more", human::plural(change.more as u64, "field")));
    }
    lines
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let text = value.to_string();
    if text.chars().count() <= MAX_SHOWN {
        return text;
    }
    text.chars().take(MAX_SHOWN).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_server::api::FieldBody;
    use serde_json::json;

    #[test]
    fn changes_are_marked_and_fields_told_with_both_values() {
        let field = |path: &str, before: Option<Value>, after: Option<Value>| FieldBody {
            path: path.into(),
            before,
            after,
        };
        let fields = vec![
            field("/for", Some(json!("5m")), Some(json!("10m"))),
            field("/labels/team", Some(json!("db")), None),
            field("/notify", None, Some(json!(["chat"]))),
            field("/condition", Some(json!("x".repeat(100))), Some(json!({}))),
        ];
        let applied = AppliedBody {
            version: 3,
            added: vec!["new".into()],
            changed: vec!["other".into()],
            changes: vec![ChangeBody { rule: "other".into(), fields, more: 2 }],
            removed: vec!["old".into()],
            unchanged: 2,
            warnings: Vec::new(),
        };
        insta::assert_snapshot!(changes(&applied, Look { color: false, width: 100 }), @r#"
        +  new
        ~  other
             /for  "5m" -> "10m"
             /labels/team  "db" -> nothing
             /notify  nothing -> ["chat"]
             /condition  "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… -> {}
             and 2 fields more
        -  old
        =  2 rules unchanged
        "#);
    }
}
