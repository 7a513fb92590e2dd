//! What every part of Sentinel agrees on: identities, the columnar [`batch::Batch`] and its
//! encoding, series and matchers, rules, alerts, and documents whose problems know their line.
//!
//! Invariants: no I/O, no async, no clock, and no knowledge of where a value came from or
//! where it goes. Every decoder here takes untrusted bytes and is bounded.

pub mod alert;
pub mod attention;
pub mod batch;
pub mod codec;
pub mod columns;
pub mod document;
pub mod duration;
pub mod ids;
pub mod number;
pub mod rule;
pub mod series;
pub mod template;
