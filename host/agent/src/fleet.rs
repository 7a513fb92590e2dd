//! What an agent is to its fleet: its labels, and the stream over which it hears of sets.

mod stream;

pub(crate) use stream::FleetStream;

use crate::config::AgentConfig;
use sentinel_fleet::{Place, facts};
use sentinel_trust::Kind;
use std::collections::BTreeMap;

/// All labels of an agent.
pub(crate) fn labels(config: &AgentConfig, id: Option<&str>) -> BTreeMap<String, String> {
    let mut labels = config.labels.clone();
    labels.extend(facts());
    labels.extend(id.map(|id| ("agent".to_owned(), id.to_owned())));
    labels
}

/// Where an agent of this configuration stands.
pub(crate) fn place(config: &AgentConfig, id: Option<&str>) -> Place {
    Place {
        labels: labels(config, id),
        kinds: vec![Kind::Collector],
        ceiling: config.ceiling.clone(),
        local: config.collectors.iter().map(|one| one.slot.to_string()).collect(),
    }
}
