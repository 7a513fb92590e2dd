//! The agent: runs collectors, keeps what they return in its log, and sends the log.
//!
//! Composition root, thin. A sample's way here: [`collect`] calls a slot at its interval and
//! appends what it returns, with the slot's state, as one record ([`record`]) of the log, or
//! as several that count together;
//! when the log says *synced* the sample is safe. [`export`] reads synced records only, signs
//! each at each send, and tells the log what the server accepted and committed. [`state`]
//! keeps the `kv` state of slots, which is nothing but the log's records added up.
//!
//! Invariants: nothing is sent that is not synced; nothing is removed that is not committed
//! (or dropped at the operator's cap, counted and said); no slot waits for another, nor for
//! the network.

pub mod agent;
pub mod collect;
pub mod config;
pub mod control;
pub mod enrol;
pub mod export;
pub mod fleet;
mod groups;
mod http;
pub mod lines;
mod link;
mod metrics;
mod parts;
pub mod record;
pub mod secrets;
pub mod servers;
pub mod state;

pub use agent::{Agent, AgentError, AgentOptions, AgentStatus, FLEET, IDENTITY};
pub use config::{AgentConfig, CollectorConfig};
pub use link::LinkTls;
pub use servers::ServerAddress;
