//! A host's side of the fleet: it runs what its operator signed, and nothing that only a
//! server, a registry or the network says.
//!
//! | module | what it decides or keeps |
//! |---|---|
//! | [`place`] | which slots of a set are this host's, and whether the host allows them |
//! | [`machine`] | what to do next: a state machine without I/O |
//! | [`memory`] | the one durable file: pinned operators, the last good set, the newest seen |
//! | [`follower`] | fetching, applying, keeping, reporting: the I/O around the machine |
//! | [`enrolment`] | what a host is given once, and the token that promises it |
//! | [`carrier`] | asking whoever carries sets, again and again, never too often |
//!
//! Promises:
//!
//! * A set counts only with the signature of an operator that was pinned on this host.
//! * Numbers only grow, over restarts too: the newest set seen is durable before anything of
//!   it is applied, so nobody can bring an older one back.
//! * A set is applied as a whole or not at all; one that cannot be leaves the last good one
//!   running, and is reported. A restart begins with the last good one, without a network.
//! * A set whose slots fail while it is on trial is rolled back as a whole, and reported; one
//!   that stood its trial stays.
//! * What an operator disables stops at once, also where the rest of the set cannot be applied.
//! * What the host's owner configures stands above every set: a ceiling of grants, and the
//!   names of slots.
//!
//! Invariants: knows neither how a plugin runs (a [`SlotKeeper`] does) nor how sets travel (a
//! [`Carrier`] does).

pub mod carrier;
pub mod enrolment;
pub mod follower;
pub mod keeper;
pub mod machine;
pub mod memory;
pub mod place;
mod work;

pub use carrier::{Carrier, CarrierError};
pub use enrolment::{EnrolmentError, HostEnrolment, Pins};
pub use follower::{Follower, FollowerParts, Handle, Placing};
pub use keeper::{ApplyError, Keeping, SlotKeeper, Wanted, with_given_up};
pub use machine::SlotHealth;
pub use memory::{Memory, MemoryError};
pub use place::{FACTS, MAX_HOST_SLOTS, Place, facts, label_problems};
