//! What crosses the network: the generated gRPC types and the signed envelope.
//!
//! Invariants: knows no socket and no clock; a signature is made and checked here and nowhere
//! else, so that agent, server and worker cannot disagree on what is signed.

pub mod envelope;
pub mod fleet;
pub mod heartbeat;
pub mod key;
pub mod rotation;

/// The types and services generated from `proto/sentinel.proto`, where they are documented.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    reason = "the code is generated; the proto documents it"
)]
pub mod v1 {
    tonic::include_proto!("sentinel.v1");
}
