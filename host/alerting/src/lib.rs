//! What alerting decides, as values: the life of an alert ([`lifecycle`], [`evaluation`]), who is
//! told of which alerts and when ([`routing`], [`matching`]), under which ids ([`grouping`]), and
//! how a notification is tried again until it is delivered or given up ([`delivery`],
//! [`circuit`]).
//!
//! Invariants: no clock, no I/O, no randomness, no async. The time and the jitter are
//! arguments; the same input gives the same output on every machine. Nothing here changes what
//! was decided before the caller has stored it: a step gives effects, and the caller accepts
//! them once they are durable.

pub mod circuit;
pub mod delivery;
pub mod evaluation;
pub mod grouping;
pub mod lifecycle;
pub mod matching;
pub mod routing;

#[cfg(test)]
mod fixture;
