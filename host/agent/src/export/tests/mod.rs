//! The exporter against a server that says what a script says, on a clock that stands still
//! until everybody waits.

mod agent;
mod behaviour;
mod enrolling;
mod failover;
mod machine;
mod pins;
mod server;
