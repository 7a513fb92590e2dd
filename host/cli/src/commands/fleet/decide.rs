//! The way of a decision: read the newest set, change it, show and ask, sign, hand it over, and
//! wait for the hosts. Where somebody else was first, all of it again.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use sentinel_model::duration::Millis;
use sentinel_server::api::{FleetHostBody, FleetStatusBody, FleetTakenBody, SealedBody};
use sentinel_trust::fleet::{DesiredSet, seal};
use serde::Serialize;

use super::difference::{self, Change};
use super::edit::{self, Stamp};
use super::hosts::{self, Outcome};
use super::key_file;
use super::operator::Operator;
use super::wait::{self, Until};
use crate::client::Client;
use crate::commands::now;
use crate::failure::Failure;
use crate::output::{Printer, clean};

/// Most bytes of a line that answers a question.
const MAX_ANSWER: u64 = 64;
/// How often a decision is made anew because somebody else was first.
const MAX_ROUNDS: usize = 16;
/// Said where hosts run a set that they may still take back.
const ON_TRIAL: &str = "it is on trial there for a minute: a slot that is given up takes it back, which `sentinel fleet status` says and `--until proven` waits for";

/// What every decision on a fleet takes.
#[derive(Debug, Args)]
pub(crate) struct Decide {
    /// The operator's secret key [default: that of the running `sentinel up`, else of this user]
    #[arg(long, value_name = "FILE", env = "SENTINEL_OPERATOR_KEY", hide_env_values = true)]
    pub(super) key: Option<PathBuf>,
    /// Why; it stays in the history
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    /// Who decides; it stays in the history
    #[arg(long, value_name = "NAME", env = "USER", hide_env = true, default_value = "operator")]
    by: String,
    /// Do not ask
    #[arg(long, short)]
    pub(super) yes: bool,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the hosts
    #[arg(long)]
    no_wait: bool,
    /// What to wait for: that hosts run it, or that it stood its trial of a minute there too
    #[arg(long, value_enum, default_value = "applied", conflicts_with = "no_wait")]
    until: Until,
    /// How long to wait for the hosts [default: 30s; with `--until proven` 2m]
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Millis>,
}

/// Whether a change is asked about before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// The command says it all.
    Given,
    /// Whoever sits there says yes, or `--yes` did.
    Asked,
}

/// A set as it is to be, and whether to ask first.
pub(crate) struct Proposal {
    pub(crate) set: DesiredSet,
    pub(crate) consent: Consent,
    /// It is decided where it changes nothing too: it is the signature that matters.
    pub(crate) unchanged: bool,
}

impl Proposal {
    /// A set that is proposed for what it changes.
    pub(crate) const fn new(set: DesiredSet, consent: Consent) -> Self {
        Self { set, consent, unchanged: false }
    }
}

/// What became of a decision.
#[derive(Debug, Serialize)]
struct Decided {
    /// The number of the new set; absent where nothing was changed.
    number: Option<u64>,
    changes: Vec<Change>,
    /// What hosts said within the time; empty where nobody waited.
    hosts: Vec<Outcome>,
}

/// A server's fleet, as its operator sees it.
pub(crate) struct Board<'a> {
    client: &'a Client,
    pub(super) operator: Operator,
    /// How a decision is handed over.
    through: (Method, String),
}

impl<'a> Board<'a> {
    /// The fleet of a server, with the operator's key.
    ///
    /// # Errors
    /// No key, or one that is not to be used.
    pub(super) fn open(client: &'a Client, key: Option<&std::path::Path>) -> Result<Self, Failure> {
        let operator = Operator::open(&key_file(key, Some(client))?)?;
        Ok(Self { client, operator, through: (Method::PUT, "/v1/fleet".to_owned()) })
    }

    /// The same, that hands decisions over elsewhere, where less may change.
    pub(super) fn through(self, method: Method, path: String) -> Self {
        Self { through: (method, path), ..self }
    }

    /// The newest set, believed.
    ///
    /// # Errors
    /// A server of another fleet, one that does not know this operator, or that shows what is
    /// not to be believed.
    pub(super) async fn newest(&mut self) -> Result<DesiredSet, Failure> {
        let body: SealedBody = self.client.get("/v1/fleet", &[]).await?;
        let pins = self.operator.pins();
        let own = self.operator.key().public().to_string();
        let hint = "`sentinel fleet operators` prints what the server is to be given";
        let here = self.client.shown();
        match body.fleet {
            None => Err(Failure::new(format!(
                "{here} belongs to no fleet: it was given no operator's key"
            ))
            .hint(hint)),
            Some(fleet) if fleet != pins.fleet.to_string() => Err(Failure::new(format!(
                "{here} belongs to the fleet {}, and your key is for {}",
                clean(&fleet),
                pins.fleet
            ))
            .hint("name another key with --key, or another server with --server")),
            Some(_) if !body.operators.contains(&own) => {
                Err(Failure::new(format!("{here} does not know your key {own} yet")).hint(hint))
            }
            Some(_) => self.operator.newest(body.sealed.as_deref()),
        }
    }

    async fn status(&self) -> Result<FleetStatusBody, Failure> {
        super::status::every_host(self.client).await
    }

    /// Changes the set in force, as `propose` makes the next one of it.
    ///
    /// # Errors
    /// What `propose` says; a no; a host that refused the set or did not answer in time.
    pub(crate) async fn decide(
        &mut self,
        args: &Decide,
        printer: &Printer,
        mut propose: impl AsyncFnMut(&DesiredSet) -> Result<Proposal, Failure>,
    ) -> Result<(), Failure> {
        let mut again = false;
        for _ in 0..MAX_ROUNDS {
            let before = self.newest().await?;
            let Proposal { set, consent, unchanged } = propose(&before).await?;
            let changes = difference::between(&before, &set);
            if changes.is_empty() && !unchanged {
                printer.say(&format!("nothing changes: set {} stays in force", before.number));
                return tell(&Decided { number: None, changes, hosts: Vec::new() }, printer);
            }
            let stamp = Stamp { by: args.by.clone(), at: now(), note: args.note.clone() };
            let next = edit::next(&before, set, &stamp)?;
            hosts::conflicts(&next, &self.status().await?.hosts)?;
            printer.say(difference::text(&changes).trim_end());
            if args.dry_run {
                printer.say("nothing was changed: this was a dry run");
                return tell(&Decided { number: None, changes, hosts: Vec::new() }, printer);
            }
            if (consent == Consent::Asked || again) && !args.yes {
                confirm(&format!("make this set {} of the fleet?", next.number))?;
            }
            match self.hand_over(&next).await? {
                Ok(number) => {
                    printer.say(&format!("set {number} is in force"));
                    return self.follow(args, &before, next, changes, printer).await;
                }
                Err(conflict) => self.show_meanwhile(&before, conflict, printer).await?,
            }
            again = true;
        }
        Err(Failure::new("others change the fleet all the time; nothing was changed")
            .hint("try again"))
    }

    /// Signs a set and gives it to the server. What the server says where somebody else was
    /// first.
    async fn hand_over(&mut self, next: &DesiredSet) -> Result<Result<u64, String>, Failure> {
        let sealed = seal(next, self.operator.key())?;
        let (method, path) = self.through.clone();
        let taken: Result<FleetTakenBody, String> =
            self.client.hand_over(method, &path, sealed.clone()).await?;
        if taken.is_ok() {
            self.operator.newest(Some(&sealed))?;
        }
        Ok(taken.map(|body| body.number))
    }

    async fn show_meanwhile(
        &mut self,
        before: &DesiredSet,
        conflict: String,
        printer: &Printer,
    ) -> Result<(), Failure> {
        let meanwhile = self.newest().await?;
        if meanwhile.number == before.number {
            return Err(Failure::new(conflict));
        }
        printer.warn(&format!(
            "{} made set {} meanwhile{}:",
            clean(&meanwhile.by),
            meanwhile.number,
            if meanwhile.note.is_empty() {
                String::new()
            } else {
                format!(" ({})", clean(&meanwhile.note))
            }
        ));
        printer.say(difference::text(&difference::between(before, &meanwhile)).trim_end());
        printer.say("on top of that, you would change:");
        Ok(())
    }

    async fn follow(
        &self,
        args: &Decide,
        before: &DesiredSet,
        next: DesiredSet,
        changes: Vec<Change>,
        printer: &Printer,
    ) -> Result<(), Failure> {
        let number = Some(next.number);
        if args.no_wait {
            printer.hint("`sentinel fleet status` shows which hosts run it");
            return tell(&Decided { number, changes, hosts: Vec::new() }, printer);
        }
        let look = async || self.status().await;
        // What is only signed anew is for whoever follows the fleet.
        let all = changes.is_empty();
        let concerned = |host: &FleetHostBody| all || hosts::concerns(before, &next, host);
        let (until, at) = (args.until, next.number);
        let timeout = args.timeout.map_or(until.timeout(), Millis::std);
        let found = wait::run(look, concerned, at, (until, timeout), printer).await?;
        let verdict = hosts::verdict(&found, at, until, timeout);
        if found.iter().any(|one| one.trial) {
            printer.hint(ON_TRIAL);
        }
        tell(&Decided { number, changes, hosts: found }, printer)?;
        verdict
    }
}

fn tell(decided: &Decided, printer: &Printer) -> Result<(), Failure> {
    printer.data(decided, |_| decided.number.map(|number| number.to_string()).unwrap_or_default())
}

/// Asks whoever sits at the terminal.
///
/// # Errors
/// A no, or nobody who could answer.
pub(crate) fn confirm(question: &str) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new("nothing was changed: nobody is there to say yes")
            .hint("look at what is shown, and repeat the command with --yes"));
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut line = String::new();
    std::io::Read::take(stdin.lock(), MAX_ANSWER).read_line(&mut line)?;
    match line.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing was changed")),
    }
}
