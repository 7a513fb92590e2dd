//! The bus on JetStream against a real nats-server: the contract, and what is its own.
#![allow(missing_docs, unreachable_pub)]

#[path = "../contract/mod.rs"]
mod contract;
mod deliveries;
mod faults;
mod fit;
mod hold;
mod rig;
