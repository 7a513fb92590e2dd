//! `sentinel audit`: who changed what.

use clap::Args;
use sentinel_server::api::AuditBody;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::table::Table;
use crate::output::{Look, Printer, human};

/// Options of `sentinel audit`.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// How many changes, at most 1000.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Those before the change of this number.
    #[arg(long, value_name = "ID")]
    before: Option<i64>,
}

pub(super) async fn run(command: Audit, client: &Client, printer: &Printer) -> Result<(), Failure> {
    let mut query = vec![("limit", command.limit.to_string())];
    query.extend(command.before.map(|id| ("before", id.to_string())));
    let changes: Vec<AuditBody> = client.get("/v1/audit", &query).await?;
    printer.data(&changes, |look| list(&changes, look))?;
    if changes.len() == command.limit as usize
        && let Some(last) = changes.last()
    {
        printer.hint(&format!("older ones: `sentinel audit --before {}`", last.id));
    }
    Ok(())
}

fn list(changes: &[AuditBody], look: Look) -> String {
    if changes.is_empty() {
        return String::new();
    }
    let mut table = Table::new(look, &[">id", "when", "who", "role", "from", "what", "outcome"]);
    for one in changes {
        table.row([
            one.id.to_string(),
            human::moment(one.at),
            one.who.clone(),
            one.role.clone(),
            one.address.clone(),
            one.what.clone(),
            one.outcome.clone().unwrap_or_else(|| "unknown".to_owned()),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_who_what_when_from_where_and_what_became_of_it() {
        let change = |id, outcome: Option<&str>| AuditBody {
            id,
            at: 1_700_000_000_000,
            who: "ci (api-k7qm-2xhd)".into(),
            role: "operator".into(),
            address: "192.0.2.1".into(),
            what: "PUT /v1/rules".into(),
            outcome: outcome.map(str::to_owned),
        };
        let changes = [change(2, None), change(1, Some("200"))];
        insta::assert_snapshot!(list(&changes, Look { color: false, width: 120 }));
    }
}
