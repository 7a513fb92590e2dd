//! Changes that bring no new plugin: off and on, out, back, signed anew.

use clap::Args;
use reqwest::Method;
use sentinel_model::ids::SlotName;
use sentinel_trust::fleet::DesiredSet;

use super::decide::{Board, Consent, Decide, Proposal};
use super::edit::{self, Selector, Which};
use super::history;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Printer;

/// Which slot.
#[derive(Debug, Args)]
pub(crate) struct Slot {
    /// The slot's name
    slot: String,
    /// Only in the group of this selector; else wherever the slot is
    #[arg(long, value_name = "SELECTOR")]
    on: Option<Selector>,
    #[command(flatten)]
    decide: Decide,
}

/// Which notifier.
#[derive(Debug, Args)]
pub(crate) struct NotifierSlot {
    /// The notifier's slot
    slot: SlotName,
    #[command(flatten)]
    decide: Decide,
}

/// Options of `sentinel plugin rollback`.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The set to go back to [default: the one before the newest]
    number: Option<u64>,
    #[command(flatten)]
    decide: Decide,
}

/// Options of `sentinel fleet resign`.
#[derive(Debug, Args)]
pub(crate) struct Resign {
    #[command(flatten)]
    decide: Decide,
}

impl Slot {
    fn which(&self) -> Which {
        Which { plugin: None, slot: Some(self.slot.clone()), on: self.on.clone() }
    }
}

/// Switches a slot off or on. Nothing is asked: what is switched off in a hurry comes back with
/// one command.
pub(crate) async fn disable(
    command: Slot,
    disabled: bool,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut board = Board::open(client, command.decide.key.as_deref())?;
    let which = command.which();
    let propose = async |set: &DesiredSet| {
        Ok(Proposal::new(edit::disable(set, &which, disabled)?, Consent::Given))
    };
    board.decide(&command.decide, printer, propose).await
}

/// Takes a slot out.
pub(crate) async fn uninstall(
    command: Slot,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut board = Board::open(client, command.decide.key.as_deref())?;
    let which = command.which();
    let propose =
        async |set: &DesiredSet| Ok(Proposal::new(edit::uninstall(set, &which)?, Consent::Asked));
    board.decide(&command.decide, printer, propose).await
}

/// Takes a notifier out, and nothing besides.
pub(crate) async fn remove_notifier(
    command: NotifierSlot,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let NotifierSlot { slot, decide } = command;
    let board = Board::open(client, decide.key.as_deref())?;
    let mut board = board.through(Method::DELETE, format!("/v1/notifiers/{slot}"));
    let propose = async |set: &DesiredSet| {
        Ok(Proposal::new(edit::without_notifier(set, &slot)?, Consent::Asked))
    };
    board.decide(&decide, printer, propose).await
}

/// Decides again what an older set said.
pub(crate) async fn rollback(
    command: Rollback,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut board = Board::open(client, command.decide.key.as_deref())?;
    let newest = board.newest().await?.number;
    let number = match command.number {
        Some(number) => number,
        None => newest.saturating_sub(1),
    };
    if number == 0 {
        return Err(Failure::new(format!("there is no set before {newest}"))
            .hint("`sentinel fleet history` shows what was decided; `sentinel plugin uninstall` takes a slot out"));
    }
    let (_, older) = history::one(client, &board.operator, number).await?;
    let propose =
        async |set: &DesiredSet| Ok(Proposal::new(edit::rollback(set, &older)?, Consent::Asked));
    printer
        .say(&format!("back to set {number}, which {} decided:", crate::output::clean(&older.by)));
    board.decide(&command.decide, printer, propose).await
}

/// Signs the newest set once more.
pub(super) async fn resign(
    command: Resign,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut board = Board::open(client, command.decide.key.as_deref())?;
    let propose = async |set: &DesiredSet| {
        let set = set.clone();
        Ok(Proposal { set, consent: Consent::Given, unchanged: true })
    };
    board.decide(&command.decide, printer, propose).await
}
