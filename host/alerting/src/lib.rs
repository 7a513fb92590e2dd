//! What alerting decides, as values: the life of an alert ([`lifecycle`], [`evaluation`]),
//! which alerts are told together ([`grouping`]), and how a notification is tried again until
//! it is delivered or given up ([`delivery`]).
//!
//! Invariants: no clock, no I/O, no randomness, no async. The time and the jitter are
//! arguments; the same input gives the same output on every machine. Nothing here changes what
//! was decided before the caller has stored it: a step gives effects, and the caller accepts
//! them once they are durable.

pub mod delivery;
pub mod evaluation;
pub mod grouping;
pub mod lifecycle;
