//! `sentinel agents`: who may send.

use clap::{Args, Subcommand};
use sentinel_model::ids::AgentId;
use sentinel_server::api::{AgentBody, DoneBody, EnrolmentTokenBody};
use sentinel_server::code::typed;

use super::now;
use super::status::agent_tone;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::table::{Table, Tone};
use crate::output::{Look, Printer, human};

/// Options of `sentinel agents`.
#[derive(Debug, Args)]
pub(crate) struct Agents {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Let an agent in that waits or was blocked. A newcomer takes the place of the one that has its id.
    Approve {
        /// The agent's id, as `sentinel agents` shows it, or the code that it shows itself.
        #[arg(value_name = "ID|CODE", value_parser = whom)]
        which: Whom,
    },
    /// Shut an agent out; its data stays.
    Block(Which),
    /// Show one agent.
    Show(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// The agent's id, as `sentinel agents` shows it.
    id: AgentId,
}

pub(super) async fn run(
    command: Agents,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let (id, verb) = match command.what {
        None => {
            let agents: Vec<AgentBody> = client.list("/v1/agents").await?;
            printer.data(&agents, |look| list(&agents, now(), look))?;
            if agents.is_empty() {
                printer.say("no agent has enrolled");
                printer.hint("make it a token with `sentinel token create`");
            }
            for agent in &agents {
                if let Some(text) = waits(agent) {
                    printer.hint(&text);
                }
            }
            // Only admins may see who asks.
            let asking: Result<Vec<EnrolmentTokenBody>, _> = client.get("/v1/tokens", &[]).await;
            for text in asking.iter().flatten().filter_map(asks) {
                printer.hint(&text);
            }
            return Ok(());
        }
        Some(What::Approve { which: Whom::Code(code) }) => {
            return approve(&code, client, printer).await;
        }
        Some(What::Approve { which: Whom::Agent(id) }) => (id, "approve"),
        Some(What::Block(which)) => (which.id, "block"),
        Some(What::Show(Which { id })) => {
            let agent: AgentBody = client.get(&format!("/v1/agents/{id}"), &[]).await?;
            printer.data(&agent, |look| properties(&agent, now(), look))?;
            if let Some(text) = waits(&agent) {
                printer.hint(&text);
            }
            return Ok(());
        }
    };
    let agent: AgentBody = client.post(&format!("/v1/agents/{id}/{verb}"), &()).await?;
    printer.say(&format!("{} ({}) is {}", agent.id, agent.hostname, agent.state));
    printer.data(&agent, |_| String::new())
}

/// Whom to let in.
#[derive(Debug, Clone)]
enum Whom {
    /// An agent that enrolled.
    Agent(AgentId),
    /// The one that shows this code.
    Code(String),
}

fn whom(text: &str) -> Result<Whom, String> {
    match code(text) {
        Some(code) => Ok(Whom::Code(code)),
        None => AgentId::new(text).map(Whom::Agent).map_err(|error| error.to_string()),
    }
}

/// A code, where it is one: ids of agents are never in capitals.
fn code(text: &str) -> Option<String> {
    text.chars().any(|c| c.is_ascii_uppercase()).then(|| typed(text)).flatten()
}

async fn approve(code: &str, client: &Client, printer: &Printer) -> Result<(), Failure> {
    let done: DoneBody = client.post(&format!("/v1/tokens/{code}/approve"), &()).await?;
    printer.say(&format!("the agent that shows {} may enrol", done.id));
    printer.data(&done, |_| String::new())
}

/// That an agent asks to be let in, in its own words.
fn asks(token: &EnrolmentTokenBody) -> Option<String> {
    let (agent, hostname) = (token.agent.as_ref()?, token.hostname.as_ref()?);
    let address = token.address.as_deref().unwrap_or("somewhere");
    token.waiting.then(|| {
        let id = &token.id;
        format!(
            "{agent} on {hostname} asks from {address} to be let in; if it shows {id}: `sentinel agents approve {id}`"
        )
    })
}

/// That somebody waits for an operator, and what approving does.
pub(super) fn waits(agent: &AgentBody) -> Option<String> {
    let id = &agent.id;
    let approve = format!("`sentinel agents approve {id}`");
    let newcomer = agent.newcomer.as_ref();
    if agent.state == "waiting" {
        return Some(format!("{id} waits for {approve}"));
    }
    let (newcomer, here) = (newcomer?, &agent.hostname);
    Some(if newcomer.same_machine {
        format!("{here} enrolled once more as {id}; it is what it was until {approve}")
    } else {
        let there = &newcomer.hostname;
        format!(
            "another machine, {there}, enrolled as {id}; {here} stays {id} until {approve}, which puts {there} in its place"
        )
    })
}

/// When it was heard of last.
fn seen(agent: &AgentBody, now: i64) -> String {
    agent.last_seen.map_or_else(|| "never".to_owned(), |seen| human::ago(now - seen))
}

/// What the list says of an agent, a line each.
fn properties(agent: &AgentBody, now: i64, look: Look) -> String {
    let labels = sentinel_model::series::Labels::from(agent.labels.clone());
    let mut table = Table::properties(look);
    table.property("agent", &agent.id);
    table.property("host", &agent.hostname);
    table.property("version", &agent.version);
    table.toned([("state", Tone::Quiet), (agent.state.as_str(), agent_tone(&agent.state))]);
    table.property("enrolled", &human::moment(agent.registered_at));
    table.property("seen", &seen(agent, now));
    table.property("labels", &labels.to_string());
    if let Some(newcomer) = &agent.newcomer {
        let enrolled = human::moment(newcomer.registered_at);
        table.property("newcomer", &format!("{}, enrolled {enrolled}", newcomer.hostname));
    }
    table.text()
}

fn list(agents: &[AgentBody], now: i64, look: Look) -> String {
    if agents.is_empty() {
        return String::new();
    }
    let mut table =
        Table::new(look, &["agent", "host", "version", "state", "enrolled", ">seen", "labels"]);
    for agent in agents {
        let labels = sentinel_model::series::Labels::from(agent.labels.clone());
        table.toned([
            (agent.id.clone(), Tone::Plain),
            (agent.hostname.clone(), Tone::Plain),
            (agent.version.clone(), Tone::Plain),
            (agent.state.clone(), agent_tone(&agent.state)),
            (human::moment(agent.registered_at), Tone::Quiet),
            (seen(agent, now), Tone::Plain),
            (labels.to_string(), Tone::Plain),
        ]);
        let goes_on = agent.state != "waiting";
        if let Some(newcomer) = agent.newcomer.as_ref().filter(|_| goes_on) {
            let labels = sentinel_model::series::Labels::from(newcomer.labels.clone());
            table.toned([
                (agent.id.clone(), Tone::Plain),
                (newcomer.hostname.clone(), Tone::Plain),
                (newcomer.version.clone(), Tone::Plain),
                ("newcomer".to_owned(), Tone::Warning),
                (human::moment(newcomer.registered_at), Tone::Quiet),
                ("never".to_owned(), Tone::Plain),
                (labels.to_string(), Tone::Plain),
            ]);
        }
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_server::api::NewcomerBody;

    #[test]
    fn agents_show_their_state_and_when_they_were_heard_of() {
        let agent = |id: &str, state: &str, seen: Option<i64>| AgentBody {
            id: id.into(),
            hostname: "web-1".into(),
            version: "0.1.0".into(),
            state: state.into(),
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            registered_at: 1_700_000_000_000,
            last_seen: seen,
            report: serde_json::Value::Null,
            newcomer: None,
        };
        let newcomer = |hostname: &str, same_machine| NewcomerBody {
            hostname: hostname.into(),
            hw_id: "ab".repeat(32),
            same_machine,
            version: "0.2.0".into(),
            labels: [("env".to_owned(), "test".to_owned())].into(),
            registered_at: 1_700_000_030_000,
        };
        let with = |agent: AgentBody, newcomer| AgentBody { newcomer: Some(newcomer), ..agent };
        let agents = [
            agent("0f3c9a5e", "approved", Some(1_700_000_055_000)),
            with(agent("11bb", "approved", Some(1_700_000_055_000)), newcomer("pc-7", false)),
            with(agent("22cc", "blocked", None), newcomer("web-1", true)),
            with(agent("77aa0001", "waiting", None), newcomer("web-1", true)),
        ];
        let said: Vec<String> = agents.iter().filter_map(waits).collect();
        insta::assert_snapshot!(said.join("\n"));
        assert_eq!(code("K7QM2XHD").as_deref(), Some("K7QM-2XHD"));
        assert_eq!(code("k7qm-2xhd"), None, "that may be an agent's id");
        let look = Look { color: false, width: 100 };
        insta::assert_snapshot!(list(&agents, 1_700_000_060_000, look));
        let shown = properties(&agents[1], 1_700_000_060_000, look);
        let lines: Vec<String> = shown
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "agent 11bb",
                "host web-1",
                "version 0.1.0",
                "state approved",
                "enrolled 2023-11-14 22:13:20Z",
                "seen 5s ago",
                "labels {env=\"prod\"}",
                "newcomer pc-7, enrolled 2023-11-14 22:13:50Z",
            ]
        );
    }
}
