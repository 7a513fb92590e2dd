//! `sentinel token`: with which agents enrol, and with which the API is called.

use clap::{Args, Subcommand};
use sentinel_model::duration::Millis;
use sentinel_server::access::Role;
use sentinel_server::api::{
    ApiTokenBody, ApiTokenRequest, DoneBody, EnrolmentTokenBody, MadeApiTokenBody, TokenBody,
    TokenRequest,
};
use serde::Serialize;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::table::Table;
use crate::output::{Look, Printer, human};

/// How an API token's id begins; those of enrolment tokens are codes.
const API: &str = "api-";
/// How long an enrolment token is valid unless it is said.
const VALID_FOR: Millis = Millis(3_600_000);

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token with which agents enrol; with --role one with which the API is called. It is
    /// shown once.
    Create(Create),
    /// List the tokens that serve, of both kinds.
    List,
    /// Have a token serve no longer.
    Revoke {
        /// Its id, as `list` shows it.
        id: String,
    },
}

/// Options of `sentinel token create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// How many agents may enrol with it.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "role")]
    uses: u32,
    /// How long it is valid [default: 1h; with --role until it is revoked].
    #[arg(long, value_name = "DURATION")]
    valid_for: Option<Millis>,
    /// Make an API token whose holder may do this: viewer, operator or admin.
    #[arg(long, value_name = "ROLE", requires = "name")]
    role: Option<Role>,
    /// Whom or what the API token is for.
    #[arg(long, value_name = "NAME", requires = "role")]
    name: Option<String>,
}

/// Both kinds, without the tokens.
#[derive(Debug, Serialize)]
struct Tokens {
    api: Vec<ApiTokenBody>,
    enrolment: Vec<EnrolmentTokenBody>,
}

pub(super) async fn run(
    command: TokenCommand,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(Create { role: Some(role), name: Some(name), valid_for, .. }) => {
            let valid_for = valid_for.map(|it| it.to_string());
            let request = ApiTokenRequest { name, role, valid_for };
            let made: MadeApiTokenBody = client.post("/v1/api-tokens", &request).await?;
            printer.data(&made, |_| made.token.clone())?;
            let until = match made.kept.expires_at {
                Some(at) => format!("until {}", human::moment(at)),
                None => format!("until `sentinel token revoke {}`", made.kept.id),
            };
            printer.say(&format!("whoever has it is {role} {until}"));
            printer.hint("commands take it from SENTINEL_TOKEN");
        }
        TokenCommand::Create(Create { uses, valid_for, .. }) => {
            let valid_for = valid_for.unwrap_or(VALID_FOR).to_string();
            let request = TokenRequest { uses, valid_for };
            let made: TokenBody = client.post("/v1/tokens", &request).await?;
            printer.data(&made, |_| made.token.clone())?;
            printer.say(&format!(
                "{} may enrol with it until {}",
                human::plural(uses.into(), "agent"),
                human::moment(made.expires_at)
            ));
        }
        TokenCommand::List => {
            let tokens = Tokens {
                api: client.get("/v1/api-tokens", &[]).await?,
                enrolment: client.get("/v1/tokens", &[]).await?,
            };
            printer.data(&tokens, |look| list(&tokens, look))?;
        }
        TokenCommand::Revoke { id } => {
            let kind = if id.starts_with(API) { "api-tokens" } else { "tokens" };
            let done: DoneBody = client.delete(&format!("/v1/{kind}/{id}")).await?;
            printer.data(&done, |_| String::new())?;
            printer.say(&format!("{id} serves no longer"));
        }
    }
    Ok(())
}

fn list(tokens: &Tokens, look: Look) -> String {
    if tokens.api.is_empty() && tokens.enrolment.is_empty() {
        return String::new();
    }
    let mut table = Table::new(look, &["id", "for", "may", "made by", "until"]);
    let until = |at: Option<i64>| at.map_or_else(|| "it is revoked".to_owned(), human::moment);
    for one in &tokens.api {
        let (id, name, role) = (one.id.clone(), one.name.clone(), one.role.clone());
        table.row([id, name, role, one.made_by.clone(), until(one.expires_at)]);
    }
    for one in &tokens.enrolment {
        let whom = match (&one.agent, &one.hostname) {
            (Some(agent), Some(hostname)) => format!("{agent} on {hostname}"),
            _ => "agents".to_owned(),
        };
        let may = if one.waiting {
            "waits for approval".to_owned()
        } else {
            format!("enrol {}", human::plural(one.uses_left.into(), "agent"))
        };
        table.row([one.id.clone(), whom, may, one.made_by.clone(), until(Some(one.expires_at))]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_tokens_are_listed_with_what_they_are_good_for() {
        let enrolment = |id: &str, agent: Option<&str>| EnrolmentTokenBody {
            id: id.into(),
            uses_left: 3,
            expires_at: 1_700_000_000_000,
            made_by: if agent.is_some() { String::new() } else { "owner".into() },
            made_at: 0,
            waiting: agent.is_some(),
            agent: agent.map(str::to_owned),
            hostname: agent.map(str::to_owned),
            address: agent.map(|_| "192.0.2.1".to_owned()),
        };
        let tokens = Tokens {
            api: vec![ApiTokenBody {
                id: "api-k7qm-2xhd".into(),
                name: "ci".into(),
                role: "viewer".into(),
                made_by: "owner".into(),
                made_at: 0,
                expires_at: None,
            }],
            enrolment: vec![enrolment("ABCD-EFGH", None), enrolment("JKLM-NPQR", Some("web-1"))],
        };
        insta::assert_snapshot!(list(&tokens, Look { color: false, width: 100 }));
    }
}
