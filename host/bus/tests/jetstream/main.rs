//! The bus on JetStream against a real nats-server: the contract, and what is its own.
#![allow(missing_docs, unreachable_pub, reason = "a test binary is nobody's library")]

mod cluster;
#[path = "../contract/mod.rs"]
mod contract;
mod deliveries;
mod faults;
mod fit;
mod rig;
mod share;
