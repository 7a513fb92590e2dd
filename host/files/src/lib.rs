//! Small files that matter: keys, tokens, identities, checkpoints.
//!
//! | what | how |
//! |---|---|
//! | [`replace`], [`create`] | whole or not at all, durable when they return |
//! | [`read_private`], [`private_or_made`] | bounded, and only what its owner alone may read |
//! | [`Lock`] | one at a time, over processes and threads |
//!
//! A file is written under a random name beside its own, synced, put in place in one step, and
//! the folder synced. A crash in between leaves the old file, and at most a part that
//! [`sweep`] takes away later. Everything blocks on the disk.
//!
//! Invariant: nothing here knows what is in a file.

mod atomic;
mod lock;
mod private;

pub use atomic::{create, replace, sweep};
pub use lock::Lock;
pub use private::{PrivateError, private_or_made, read_private};
