//! The queue between server and workers: the contract ([`Bus`]), [`EmbeddedBus`], which is built on `sentinel-wal` and lives
//! in the process, and [`jetstream`], for many machines.
//!
//! Knows nothing of what it carries: a [`Message`] is a name and bytes. It owns neither durability (agents keep every
//! record until it is in the database) nor exactness (workers commit each (agent, epoch) strictly in sequence and skip what
//! they have), so it promises little: **at least once, in order per (agent, epoch), bounded, and honest about loss**.
//!
//! # Loss
//!
//! [`Bus::incarnation`] changes whenever accepted messages may have been lost. The embedded bus keeps its incarnation over a
//! clean close only; after any other end, and when its log reports a gap among messages accepted since, it takes a new one,
//! and agents send again what is not committed. That is why it does not sync by default ([`EmbeddedOptions::sync`]): a sync would cost latency and buy nothing.
//!
//! # Redelivery
//!
//! | a delivery is | then |
//! |---|---|
//! | acknowledged | it is done; the log behind the bus is freed up to the oldest message that is not |
//! | refused (`nak`) | it comes again after the delay, then those behind it of the same (agent, epoch) |
//! | dropped | as refused, with [`REDELIVERY_DELAY`] |
//! | unanswered when the subscription is dropped | it comes first to the next subscriber |
//! | unanswered at the end of the process | it comes first after the next opening, counted from 1 (embedded), or first to the next subscriber (JetStream) |
//!
//! # Bounds
//!
//! Messages and bytes that wait ([`EmbeddedOptions`]): beyond them `publish` answers [`BusError::Busy`]. Deliveries unanswered
//! ([`MAX_UNANSWERED`], [`MAX_UNANSWERED_BYTES`]): beyond them the subscription waits.

mod contract;
mod embedded;
pub mod jetstream;
mod ledger;
mod life;
mod options;
mod record;

use std::time::Duration;

pub use contract::{Answer, Bus, BusError, Delivery, Depth, Message, MessageId, Subscription};
pub use embedded::EmbeddedBus;
pub use options::EmbeddedOptions;
pub use record::MAX_PAYLOAD_BYTES;
pub use sentinel_model::ids::Incarnation;
pub use sentinel_wal::SyncPolicy;

/// Deliveries of one message after which a worker takes it for undeliverable and commits it as dead. The bus only counts.
pub const MAX_DELIVERIES: u32 = 5;
/// Deliveries that may be unanswered at a time.
pub const MAX_UNANSWERED: usize = 1024;
/// Bytes of messages that may be unanswered at a time; one message is always let through.
pub const MAX_UNANSWERED_BYTES: usize = 64 << 20;
/// When a delivery that was dropped without an answer comes again.
pub const REDELIVERY_DELAY: Duration = Duration::from_secs(1);
