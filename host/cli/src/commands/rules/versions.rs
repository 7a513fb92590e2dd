//! The rules in force, and those that were in force before them.

use clap::Args;
use sentinel_model::rule::{RuleFile, RuleSet};
use sentinel_server::api::{RuleVersionBody, RulesBody};

use crate::client::Client;
use crate::failure::Failure;
use crate::output::table::{Table, Tone};
use crate::output::{Look, Printer, human};

/// Most versions that are shown at once: as many as a server keeps.
const MAX_SHOWN: u32 = 100;
/// The version of the format of rule files.
const FORMAT: u32 = 1;

/// Options of `sentinel rules show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// An earlier version, as `sentinel rules history` shows it [default: the one in force]
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// Print them as a rule file, which `sentinel rules apply` takes.
    #[arg(long)]
    file: bool,
}

/// Options of `sentinel rules history`.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// At most so many, the newest.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SHOWN)))]
    limit: u32,
}

pub(super) async fn show(command: Show, client: &Client, printer: &Printer) -> Result<(), Failure> {
    let path = match command.version {
        Some(version) => format!("/v1/rules/versions/{version}"),
        None => "/v1/rules".to_owned(),
    };
    let rules: RulesBody = client.get(&path, &[]).await?;
    let since = (rules.set.version > 0).then(|| since(&rules));
    if command.file {
        let file = RuleFile { version: FORMAT, rules: rules.set.rules };
        printer.data(&file, |_| serde_json::to_string_pretty(&file).unwrap_or_default())?;
        since.iter().for_each(|text| printer.say(text));
        return Ok(());
    }
    printer.data(&rules, |look| table(&rules.set, look))?;
    since.iter().for_each(|text| printer.say(text));
    if rules.set.rules.is_empty() {
        printer.say("there are no rules");
        printer.hint("apply some with `sentinel rules apply FILE`");
    }
    Ok(())
}

pub(super) async fn history(
    command: History,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let query = [("limit", command.limit.to_string())];
    let versions: Vec<RuleVersionBody> = client.get("/v1/rules/history", &query).await?;
    printer.data(&versions, |look| list(&versions, look))?;
    match versions.get(1) {
        Some(RuleVersionBody { version, .. }) => printer.hint(&format!(
            "back to one: `sentinel rules show --version {version} --file >rules.json`, then `sentinel rules apply rules.json`"
        )),
        None if versions.is_empty() => printer.say("no rules were applied yet"),
        None => {}
    }
    Ok(())
}

fn since(rules: &RulesBody) -> String {
    let RuleSet { version, applied_at, .. } = rules.set;
    let by = rules.applied_by.as_ref().map_or_else(String::new, |who| format!(" by {who}"));
    format!("version {version}, applied {}{by}", human::moment(applied_at))
}

fn list(versions: &[RuleVersionBody], look: Look) -> String {
    if versions.is_empty() {
        return String::new();
    }
    let mut table = Table::new(look, &[">version", "applied", "by", ">rules"]);
    for one in versions {
        table.toned([
            (one.version.to_string(), Tone::Plain),
            (human::moment(one.applied_at), Tone::Quiet),
            (one.applied_by.clone().unwrap_or_default(), Tone::Plain),
            (one.rules.to_string(), Tone::Plain),
        ]);
    }
    table.text()
}

fn table(rules: &RuleSet, look: Look) -> String {
    if rules.rules.is_empty() {
        return String::new();
    }
    let mut table =
        Table::new(look, &["rule", "evaluator", ">every", ">for", "labels", "notifies"]);
    for rule in &rules.rules {
        let notifies = match &rule.notify {
            None => "all".to_owned(),
            Some(list) if list.is_empty() => "nobody".to_owned(),
            Some(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        };
        table.row([
            rule.name.clone(),
            rule.evaluator.to_string(),
            rule.interval.to_string(),
            rule.hold.to_string(),
            rule.labels.to_string(),
            notifies,
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look { color: false, width: 100 };

    #[test]
    fn rules_say_since_when_they_are_in_force_and_who_applied_them() {
        let set =
            serde_json::json!({ "version": 7, "applied_at": 1_700_000_000_000_i64, "rules": [] });
        let mut rules: RulesBody = serde_json::from_value(set).unwrap();
        assert_eq!(since(&rules), "version 7, applied 2023-11-14 22:13:20Z");
        rules.applied_by = Some("ci (api-k7qm-2xhd)".into());
        assert_eq!(since(&rules), "version 7, applied 2023-11-14 22:13:20Z by ci (api-k7qm-2xhd)");
    }

    #[test]
    fn rules_show_when_they_are_evaluated_and_whom_they_tell() {
        let rules = serde_json::json!({ "version": 1, "applied_at": 0, "rules": [
            { "name": "high-cpu", "for": "5m", "labels": { "severity": "page" }, "condition": {} },
            { "name": "quiet", "interval": "1m", "notify": [], "condition": {} },
            { "name": "told", "notify": ["webhook", "mail"], "condition": {} },
        ] });
        insta::assert_snapshot!(table(&serde_json::from_value(rules).unwrap(), LOOK), @r#"
        RULE      EVALUATOR  EVERY  FOR  LABELS             NOTIFIES
        high-cpu  alert-dsl    15s   5m  {severity="page"}  all
        quiet     alert-dsl     1m   0s                     nobody
        told      alert-dsl    15s   0s                     webhook, mail
        "#);
    }

    #[test]
    fn versions_show_who_applied_them_where_that_is_known() {
        let version = |version: u64, applied_by: Option<&str>| RuleVersionBody {
            version,
            applied_at: 1_700_000_000_000,
            applied_by: applied_by.map(str::to_owned),
            rules: version - 5,
        };
        let shown = list(&[version(17, Some("ci (api-k7qm-2xhd)")), version(6, None)], LOOK);
        let lines: Vec<String> = shown
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "VERSION APPLIED BY RULES",
                "17 2023-11-14 22:13:20Z ci (api-k7qm-2xhd) 12",
                "6 2023-11-14 22:13:20Z 1",
            ]
        );
    }
}
