//! What joins crates that do not know each other.

use async_trait::async_trait;
use sentinel_model::ids::{AgentId, SlotName};
use sentinel_runtime::evaluator::Plan;
use sentinel_server::keyring::KeyRing;
use sentinel_server::{RuleChecker, RuleDiagnostic, RuleRead, RuleVerdict};
use sentinel_store::StoreError;
use sentinel_store::agents::AgentState;
use sentinel_wire::key::AgentKey;
use sentinel_worker::ConditionChecker;
use sentinel_worker::ingest::AgentKeys;

/// The worker's keys of agents come from where the server's do.
pub(crate) struct Keys(pub(crate) KeyRing);

#[async_trait]
impl AgentKeys for Keys {
    async fn keys(&self, agent: &AgentId) -> Result<Vec<AgentKey>, StoreError> {
        Ok(match self.0.access(agent).await? {
            Some(access) if access.state != AgentState::Blocked => {
                access.keys.iter().map(|one| one.key.clone()).collect()
            }
            _ => Vec::new(),
        })
    }
}

/// The server's knowledge of rules comes from the worker's evaluators.
pub(crate) struct Rules(pub(crate) ConditionChecker);

/// What an evaluator said, as the server passes it on.
pub(crate) fn verdict(found: Result<Plan, Vec<sentinel_runtime::Diagnostic>>) -> RuleVerdict {
    let diagnostic = |one: sentinel_runtime::Diagnostic| RuleDiagnostic {
        error: one.severity == sentinel_runtime::Severity::Error,
        path: one.path,
        message: one.message,
    };
    let (said, needs) = match found {
        Ok(plan) => (plan.warnings, plan.needs),
        Err(said) => (said, Vec::new()),
    };
    let read = |need: sentinel_runtime::evaluator::Need| RuleRead {
        selector: (*need.selector).clone(),
        window_ms: need.window_ms,
    };
    RuleVerdict {
        diagnostics: said.into_iter().map(diagnostic).collect(),
        reads: needs.into_iter().map(read).collect(),
    }
}

#[async_trait]
impl RuleChecker for Rules {
    async fn check(
        &self,
        evaluator: &SlotName,
        condition: &serde_json::Value,
    ) -> Result<RuleVerdict, String> {
        Ok(verdict(self.0.check(evaluator, &condition.to_string()).await?))
    }

    fn applied(&self) {
        self.0.rules_changed();
    }
}
