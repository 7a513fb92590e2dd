//! Who may do what: one table, in which every route of the API has its line.

use axum::http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use utoipa::ToSchema;

/// What somebody may do. Each may do what those before it may.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Decides about rules, alerts and what the fleet runs.
    Operator,
    /// Decides who may call and who may send.
    Admin,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No role has this name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no role {0:?}; there are viewer, operator and admin")]
pub struct NoRole(String);

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(text: &str) -> Result<Self, NoRole> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| NoRole(text.to_owned()))
    }
}

/// What whoever calls a route must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// An agent's key, with which the message is signed; to enrol, an enrolment token.
    Signature,
    /// A token of this role or a higher one.
    Token(Role),
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Signature => f.write_str("signature"),
            Self::Token(role) => role.fmt(f),
        }
    }
}

/// Whether a route changes anything; what does is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It only answers.
    Reads,
    /// It takes what an agent measured or says of itself.
    Takes,
    /// It changes something.
    Changes,
}

/// What became of a change, beyond the status of the answer that carries this: it is written down with it.
#[derive(Debug, Clone)]
pub(crate) struct Became(pub(crate) String);

/// A route's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Its method.
    pub method: &'static str,
    /// Its path, as it is described.
    pub path: &'static str,
    /// What whoever calls it must have.
    pub need: Need,
    /// Whether it changes anything.
    pub effect: Effect,
}

const fn reads(path: &'static str, role: Role) -> Decision {
    Decision { method: "GET", path, need: Need::Token(role), effect: Effect::Reads }
}

const fn open(path: &'static str) -> Decision {
    Decision { method: "GET", path, need: Need::Nothing, effect: Effect::Reads }
}

const fn signed(path: &'static str, effect: Effect) -> Decision {
    Decision { method: "POST", path, need: Need::Signature, effect }
}

const fn changes(method: &'static str, path: &'static str, role: Role) -> Decision {
    Decision { method, path, need: Need::Token(role), effect: Effect::Changes }
}

/// The decisions. `host/server/ACCESS.md` says the same to people.
pub const TABLE: &[Decision] = &[
    open("/healthz"),
    open("/ready"),
    open("/metrics"),
    open("/openapi.json"),
    signed("/v1/register", Effect::Changes),
    signed("/v1/push", Effect::Takes),
    signed("/v1/sync", Effect::Takes),
    signed("/v1/follow", Effect::Reads),
    reads("/v1/status", Role::Viewer),
    reads("/v1/query", Role::Viewer),
    reads("/v1/metrics", Role::Viewer),
    reads("/v1/batches", Role::Viewer),
    reads("/v1/batches/{agent}/{epoch}/{sequence}", Role::Viewer),
    reads("/v1/rules", Role::Viewer),
    reads("/v1/rules/history", Role::Viewer),
    reads("/v1/rules/versions/{version}", Role::Viewer),
    Decision {
        method: "POST",
        path: "/v1/rules/check",
        need: Need::Token(Role::Viewer),
        effect: Effect::Reads,
    },
    reads("/v1/alerts", Role::Viewer),
    reads("/v1/alerts/history", Role::Viewer),
    reads("/v1/alerts/ways", Role::Viewer),
    reads("/v1/notifications", Role::Viewer),
    reads("/v1/notifications/{id}", Role::Viewer),
    reads("/v1/dead-letters", Role::Viewer),
    reads("/v1/notifiers", Role::Viewer),
    reads("/v1/notifiers/{slot}", Role::Viewer),
    reads("/v1/silences", Role::Viewer),
    reads("/v1/silences/{id}", Role::Viewer),
    Decision {
        method: "POST",
        path: "/v1/silences/preview",
        need: Need::Token(Role::Viewer),
        effect: Effect::Reads,
    },
    reads("/v1/agents", Role::Viewer),
    reads("/v1/agents/{id}", Role::Viewer),
    reads("/v1/plugins", Role::Viewer),
    reads("/v1/fleet", Role::Viewer),
    reads("/v1/fleet/status", Role::Viewer),
    reads("/v1/fleet/history", Role::Viewer),
    reads("/v1/fleet/sets/{number}", Role::Viewer),
    changes("PUT", "/v1/rules", Role::Operator),
    changes("POST", "/v1/silences", Role::Operator),
    changes("POST", "/v1/silences/{id}/expire", Role::Operator),
    changes("POST", "/v1/alerts/{fingerprint}/acknowledge", Role::Operator),
    changes("POST", "/v1/alerts/{fingerprint}/release", Role::Operator),
    changes("POST", "/v1/notifications/{id}/retry", Role::Operator),
    changes("POST", "/v1/notifications/{id}/drop", Role::Operator),
    changes("POST", "/v1/notifiers/{slot}/test", Role::Operator),
    changes("PUT", "/v1/notifiers/{slot}", Role::Operator),
    changes("DELETE", "/v1/notifiers/{slot}", Role::Operator),
    changes("PUT", "/v1/fleet", Role::Operator),
    changes("POST", "/v1/agents/{id}/approve", Role::Admin),
    changes("POST", "/v1/agents/{id}/block", Role::Admin),
    changes("POST", "/v1/agents/{id}/key", Role::Admin),
    reads("/v1/tokens", Role::Admin),
    changes("POST", "/v1/tokens", Role::Admin),
    changes("DELETE", "/v1/tokens/{id}", Role::Admin),
    changes("POST", "/v1/tokens/{id}/approve", Role::Admin),
    reads("/v1/api-tokens", Role::Admin),
    changes("POST", "/v1/api-tokens", Role::Admin),
    changes("DELETE", "/v1/api-tokens/{id}", Role::Admin),
    reads("/v1/audit", Role::Admin),
];

/// The decision about a route; nobody may call one that has none.
#[must_use]
pub fn decision(method: &Method, path: &str) -> Option<&'static Decision> {
    // Where there is a GET, HEAD is the same without the body.
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    TABLE.iter().find(|one| one.method == method && one.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of the page for people, of a table of three columns.
    fn line(one: &Decision) -> String {
        let audit = if one.effect == Effect::Changes { "yes" } else { "" };
        format!("| `{} {}` | {} | {audit} |", one.method, one.path, one.need).replace("|  |", "| |")
    }

    #[test]
    fn a_role_may_do_what_those_before_it_may() {
        assert!(Role::ALL.is_sorted());
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }

    #[test]
    fn a_route_has_one_decision_and_only_its_own() {
        for (i, one) in TABLE.iter().enumerate() {
            let same = |other: &Decision| (other.method, other.path) == (one.method, one.path);
            assert!(!TABLE[i + 1..].iter().any(same), "{one:?}");
        }
        assert_eq!(decision(&Method::GET, "/v1/rules").unwrap().need, Need::Token(Role::Viewer));
        assert_eq!(decision(&Method::HEAD, "/v1/rules").unwrap().need, Need::Token(Role::Viewer));
        assert_eq!(decision(&Method::PUT, "/v1/rules").unwrap().need, Need::Token(Role::Operator));
        assert!(decision(&Method::POST, "/v1/rules").is_none());
    }

    #[test]
    fn the_page_for_people_says_what_the_table_says() {
        let page = include_str!("../../ACCESS.md");
        let said: Vec<&str> = page.lines().filter(|l| l.starts_with("| `")).collect();
        let table: Vec<String> = TABLE.iter().map(line).collect();
        assert_eq!(said, table, "host/server/ACCESS.md is to say:\n{}", table.join("\n"));
    }
}
