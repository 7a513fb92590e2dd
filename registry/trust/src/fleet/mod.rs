//! What an operator wants to run on which hosts: the desired set, signed as a whole.
//!
//! A [`DesiredSet`] says for groups of hosts, picked by their labels, which plugin runs in
//! which slot with which configuration and grants. It names every plugin by digest: ranges
//! were resolved when the operator decided. The operator's key signs it ([`seal`]); a host
//! that pinned the key at enrolment opens it ([`open`]) and applies it only when its number
//! is above the one applied before, so whoever keeps or carries it can neither forge,
//! change, replay nor take it back. Going back is a set with a newer number.
//!
//! Whatever a set grants, a host's own [`Grants`](crate::Grants) ceiling stands above it:
//! [`within_ceiling`].

mod ceiling;
mod report;
mod sealed;
mod set;

pub use ceiling::within_ceiling;
pub use report::{HostReport, RefusedSet};
pub use sealed::{
    FLEET_SIGNED_PREFIX, MAX_SEALED_BYTES, Operators, SealError, SealedSet, Unopened, open, seal,
};
pub use set::{
    Collect, DesiredSet, FleetId, Group, HostConflict, MAX_GROUPS, MAX_LABELS, MAX_SET_BYTES,
    MAX_WISHES, NotifyOnUnknown, SET_FORMAT, Wish,
};
