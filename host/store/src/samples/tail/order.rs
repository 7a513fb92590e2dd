//! The order of a stream's batches, as far as none between them is missing: it is that of its records, by which a
//! record's batch is found.

use super::{AgentTail, Tail};
use sentinel_model::ids::AgentId;

impl AgentTail {
    /// A batch is packed, whole or in part.
    pub(super) fn break_at(&mut self, id: i64) {
        self.packed = self.packed.max(id);
    }
}

impl Tail {
    /// Before this was made, batches up to this one were packed, of whichever agents.
    pub(crate) fn packed_to(&mut self, id: i64) {
        self.agents.iter_mut().for_each(|agent| agent.break_at(id));
    }

    /// The batches of a stream after the last of its agent that was packed, in order of commits: all that there are.
    pub(crate) fn unbroken(&self, agent: &AgentId, stream: i64) -> Vec<i64> {
        let Some(&number) = self.numbers.get(agent) else { return Vec::new() };
        let agent = &self.agents[number as usize];
        let entries = agent.groups.iter().flat_map(|group| &group.entries);
        let of_it = entries.filter(|one| one.stream == stream && one.id > agent.packed);
        let mut ids: Vec<i64> = of_it.map(|one| one.id).collect();
        ids.sort_unstable();
        ids
    }
}
