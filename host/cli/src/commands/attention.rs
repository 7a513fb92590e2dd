//! `sentinel alerts ack|release|silence`: what people do about alerts.

use clap::{Args, Subcommand};
use sentinel_model::alert::{Alert, AlertState};
use sentinel_model::attention::Silence;
use sentinel_server::api::{
    AcknowledgeBody, AcknowledgedBody, AlertsBody, ByBody, PreviewBody, SilenceBody, SilencedBody,
    SilencesBody,
};

use super::now;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::table::{Table, Tone};
use crate::output::{Look, Printer, human};

/// Who says so, where the command line does not name anybody.
#[derive(Debug, Args)]
pub(crate) struct Author {
    /// Who you are [default: the user of this machine]
    #[arg(long = "by", value_name = "NAME")]
    by: Option<String>,
}

impl Author {
    pub(crate) fn name(&self) -> Result<String, Failure> {
        let user = || ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
        let named = self.by.clone().or_else(user).filter(|name| !name.trim().is_empty());
        named.ok_or_else(|| Failure::new("nobody knows who you are").hint("say so with --by NAME"))
    }
}

/// Options of `sentinel alerts ack`.
#[derive(Debug, Args)]
pub(crate) struct Acknowledge {
    /// The alert: the beginning of its id, or its rule where only one alert of it fires.
    alert: String,
    /// Hand it over to somebody.
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// A note for others.
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// Lapses after this time though the alert fires, such as 2h.
    #[arg(long = "for", value_name = "TIME")]
    lasts: Option<String>,
    #[command(flatten)]
    author: Author,
}

/// Options of `sentinel alerts release`.
#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The alert: the beginning of its id, or its rule where only one alert of it fires.
    alert: String,
    #[command(flatten)]
    author: Author,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SilenceCommand {
    /// Tell nobody of some alerts for a time.
    Add(Add),
    /// Show which alerts a silence with these conditions would mean now.
    Preview(Conditions),
    /// Silences in force or to come.
    List(Which),
    /// End a silence now.
    Expire(Expire),
}

#[derive(Debug, Args)]
pub(crate) struct Conditions {
    /// Conditions on labels that must all hold: agent=web-1, 'severity!=page', 'agent=~web-.*'.
    #[arg(required = true, value_name = "CONDITION")]
    matchers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    #[command(flatten)]
    conditions: Conditions,
    /// How long, such as 2h.
    #[arg(long = "for", value_name = "TIME")]
    lasts: String,
    /// Why, for those who wonder why nobody was told.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    author: Author,
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Also those that are over.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Expire {
    /// Its id.
    id: String,
    #[command(flatten)]
    author: Author,
}

/// The alert that fires and is meant by what a person wrote.
async fn meant(client: &Client, text: &str) -> Result<Alert, Failure> {
    let body: AlertsBody = client.get("/v1/alerts", &[]).await?;
    let mut firing: Vec<Alert> =
        body.alerts.into_iter().filter(|a| a.state == AlertState::Firing).collect();
    let is_meant = |a: &Alert| a.rule == text || a.fingerprint.to_string().starts_with(text);
    firing.retain(|alert| !text.is_empty() && is_meant(alert));
    match firing.len() {
        1 => Ok(firing.remove(0)),
        0 => Err(Failure::new(format!("no alert that fires is meant by {text:?}"))
            .hint("`sentinel alerts` lists them with their ids")),
        many => Err(Failure::new(format!("{many} alerts that fire are meant by {text:?}"))
            .hint("write more of the id that `sentinel alerts` shows")),
    }
}

pub(super) async fn acknowledge(
    command: Acknowledge,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let alert = meant(client, &command.alert).await?;
    let Acknowledge { to, note, lasts, author, .. } = command;
    let body = AcknowledgeBody { by: author.name()?, to, note, lasts };
    let path = format!("/v1/alerts/{}/acknowledge", alert.fingerprint);
    let done: AcknowledgedBody = client.post(&path, &body).await?;
    let owner = done.acknowledgement.owner.clone();
    printer.data(&done, |_| String::new())?;
    printer.say(&format!(
        "{} {}: {owner} has it in hand; it is not repeated nor escalated until it is over",
        alert.rule, alert.labels
    ));
    Ok(())
}

pub(super) async fn release(
    command: Release,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let alert = meant(client, &command.alert).await?;
    let path = format!("/v1/alerts/{}/release", alert.fingerprint);
    let done: ByBody = client.post(&path, &ByBody { by: command.author.name()? }).await?;
    printer.data(&done, |_| String::new())?;
    printer.say("nobody has it in hand any more; repeats and the escalation go on");
    Ok(())
}

pub(super) async fn silence(
    command: SilenceCommand,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    match command {
        SilenceCommand::Add(Add { conditions, lasts, reason, author }) => {
            let author = author.name()?;
            let matchers = conditions.matchers;
            let body = SilenceBody { matchers, lasts, starts_at: None, author, reason };
            let made: SilencedBody = client.post("/v1/silences", &body).await?;
            printer
                .data(&made, |look| silences(std::slice::from_ref(&made.silence), now(), look))?;
            printer.say(&format!("{} alerts are silent now", made.alerts.len()));
            printer
                .hint(&format!("end it with `sentinel alerts silence expire {}`", made.silence.id));
        }
        SilenceCommand::Preview(Conditions { matchers }) => {
            let body = PreviewBody { matchers };
            let found: AlertsBody = client.post("/v1/silences/preview", &body).await?;
            printer.data(&found, |look| super::alerts::alerts(&found, now(), look))?;
            printer.say(&format!("{} alerts would be silent now", found.alerts.len()));
        }
        SilenceCommand::List(Which { all }) => {
            let query = [("all", all.to_string())];
            let pages: Vec<SilencesBody> = client.pages("/v1/silences", &query).await?;
            let all = pages.into_iter().flat_map(|page| page.silences).collect();
            let found = SilencesBody { silences: all };
            printer.data(&found, |look| silences(&found.silences, now(), look))?;
            if found.silences.is_empty() {
                printer.say("nothing is silenced");
            }
        }
        SilenceCommand::Expire(Expire { id, author }) => {
            let path = format!("/v1/silences/{id}/expire");
            let found: SilencesBody = client.post(&path, &ByBody { by: author.name()? }).await?;
            printer.data(&found, |look| silences(&found.silences, now(), look))?;
            printer.say("it is over; alerts that fire are told of now");
        }
    }
    Ok(())
}

fn silences(silences: &[Silence], now: i64, look: Look) -> String {
    if silences.is_empty() {
        return String::new();
    }
    let mut table = Table::new(look, &["id", "state", "ends", "conditions", "author", "reason"]);
    for silence in silences {
        let (state, tone) = match (silence.is_active(now), silence.ends_at <= now) {
            (true, _) => ("active".to_owned(), Tone::Warning),
            (false, true) => match &silence.ended_by {
                Some(by) => (format!("ended by {by}"), Tone::Quiet),
                None => ("over".to_owned(), Tone::Quiet),
            },
            (false, false) => ("to come".to_owned(), Tone::Plain),
        };
        table.toned([
            (silence.id.clone(), Tone::Plain),
            (state, tone),
            (human::moment(silence.ends_at), Tone::Plain),
            (silence.matchers.join(", "), Tone::Plain),
            (silence.author.clone(), Tone::Plain),
            (silence.reason.clone(), Tone::Plain),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look { color: false, width: 120 };
    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn silences_say_until_when_and_why() {
        let silence = |id: &str, from: i64, to: i64, ended_by: Option<&str>| Silence {
            id: id.into(),
            matchers: vec!["agent=web-1".into(), "severity!=page".into()],
            starts_at: NOW + from,
            ends_at: NOW + to,
            author: "ann".into(),
            reason: "new disks\u{1b}[31m".into(),
            created_at: NOW,
            ended_by: ended_by.map(str::to_owned),
        };
        let all = [
            silence("sil_1", -5, 3_600_000, None),
            silence("sil_2", 5, 3_600_000, None),
            silence("sil_3", -5, 0, None),
            silence("sil_4", -5, -1, Some("bob")),
        ];
        insta::assert_snapshot!(silences(&all, NOW, LOOK));
    }

    #[test]
    fn somebody_is_named_or_it_is_asked_for() {
        assert_eq!(Author { by: Some("ann".into()) }.name().unwrap(), "ann");
        let nobody = Author { by: Some("  ".into()) }.name().unwrap_err();
        assert!(nobody.hint.unwrap().contains("--by"));
    }
}
