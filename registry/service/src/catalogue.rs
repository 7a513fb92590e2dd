//! What is published, and whose keys speak for whom.

use sentinel_trust::TrustPolicy;

use crate::refusal::Refusal;

/// What is published, and whose keys speak for whom.
#[derive(Debug)]
pub(crate) struct Catalogue {
    policy: TrustPolicy,
}

impl Catalogue {
    pub(crate) fn new(policy: TrustPolicy) -> Self {
        Self { policy }
    }

    /// The keys in force.
    #[expect(clippy::unused_async, reason = "the policy comes out of the store")]
    pub(crate) async fn policy(&self) -> Result<TrustPolicy, Refusal> {
        Ok(self.policy.clone())
    }
}
