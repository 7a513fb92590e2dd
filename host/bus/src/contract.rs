//! What every bus does, whatever it is made of.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sentinel_model::ids::{AgentId, Epoch, Incarnation};

/// Names a message. A repair (the same record sent again because something was lost) carries a higher attempt, so that
/// a bus that suppresses repeated ids never swallows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// The agent that sent the record.
    pub agent: AgentId,
    /// The epoch of its log.
    pub epoch: Epoch,
    /// The record's number in that epoch, from 1.
    pub seq: u64,
    /// How often the agent has begun to send again, from 0.
    pub attempt: u32,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.agent, self.epoch, self.seq, self.attempt)
    }
}

/// A signed record on its way to a worker. The bus does not look into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its name.
    pub id: MessageId,
    /// Its bytes, at most [`MAX_PAYLOAD_BYTES`](crate::MAX_PAYLOAD_BYTES).
    pub payload: Bytes,
}

/// What waits on a bus: published and not acknowledged. What was acknowledged a moment ago may still be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Messages.
    pub messages: u64,
    /// Their bytes. After a restart an upper estimate until the backlog is gone.
    pub bytes: u64,
}

/// Why a bus did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The bus holds as much as it may, or its disk is full. The message was not taken; publish it again later.
    #[error("the bus is full; publish again in {retry_after_ms} ms")]
    Busy {
        /// When it is worth trying again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The message can never be taken.
    #[error("message {id} has {bytes} bytes, the bus takes up to {max}")]
    TooLarge {
        /// The message.
        id: MessageId,
        /// Its bytes.
        bytes: usize,
        /// The most the bus takes.
        max: usize,
    },
    /// Another subscription of this bus is open, and it serves one at a time.
    #[error("the bus already has a subscriber; drop that subscription first")]
    Subscribed,
    /// The bus was closed.
    #[error("the bus is closed")]
    Closed,
    /// What the bus is built on failed.
    #[error("the bus could not {operation}: {cause}")]
    Failed {
        /// What it was doing.
        operation: &'static str,
        /// What went wrong.
        cause: String,
    },
}

/// The queue between server and workers.
///
/// At least once, in order per (agent, epoch). It may lose everything, but says so by a new incarnation: agents keep their
/// records until they are committed and then send again.
#[async_trait]
pub trait Bus: Send + Sync {
    /// This life of the bus: another value whenever messages that it had accepted may have been lost.
    fn incarnation(&self) -> Incarnation;

    /// Takes a message. On `Ok` it will be delivered, unless the incarnation changes. Not taken if the future is dropped
    /// before it completes, or taken: publish again with the same id.
    ///
    /// # Errors
    /// [`BusError::Busy`] at the bound: never an unbounded queue, never a wait. [`BusError::TooLarge`], [`BusError::Closed`],
    /// [`BusError::Failed`].
    async fn publish(&self, message: Message) -> Result<(), BusError>;

    /// Begins to consume with the oldest message not acknowledged.
    ///
    /// # Errors
    /// [`BusError::Subscribed`], [`BusError::Closed`], [`BusError::Failed`].
    async fn subscribe(&self) -> Result<Box<dyn Subscription>, BusError>;

    /// What waits: for a bus elsewhere a question over the network, not one to ask for every message.
    ///
    /// # Errors
    /// [`BusError::Failed`].
    async fn depth(&self) -> Result<Depth, BusError>;

    /// Ends its use by this process: what was answered is told, everything else comes again. Subscriptions end with
    /// [`BusError::Closed`], and so does every later call.
    ///
    /// # Errors
    /// [`BusError::Failed`]: it is closed, but something that was answered may come again.
    async fn close(&self) -> Result<(), BusError>;
}

/// One consumer. Dropping it makes all that it did not acknowledge deliverable to the next one.
#[async_trait]
pub trait Subscription: Send {
    /// The next message; waits for one. Cancel-safe.
    ///
    /// # Errors
    /// [`BusError::Closed`], [`BusError::Failed`].
    async fn next(&mut self) -> Result<Delivery, BusError> {
        let mut one = self.next_many(1).await?;
        one.pop().ok_or(BusError::Closed)
    }

    /// Waits for one message and takes those that are there already, up to `max` (at least 1). Cancel-safe.
    ///
    /// While too many deliveries are unanswered it waits for answers.
    ///
    /// # Errors
    /// [`BusError::Closed`], [`BusError::Failed`].
    async fn next_many(&mut self, max: usize) -> Result<Vec<Delivery>, BusError>;
}

/// Takes the answer to a delivery.
#[async_trait]
pub trait Answer: Send {
    /// The message is done with.
    async fn ack(&mut self) -> Result<(), BusError>;
    /// The message is to come again, not before `delay` has passed.
    async fn nak(&mut self, delay: Duration) -> Result<(), BusError>;
}

/// A message handed to a consumer, who answers with [`Delivery::ack`] or [`Delivery::nak`]. Dropped without an answer, it
/// comes again after [`REDELIVERY_DELAY`](crate::REDELIVERY_DELAY).
///
/// Redelivery keeps the order of (agent, epoch): a message comes again together with those behind it that are not
/// acknowledged, and none of them before it.
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// How often it was delivered, this time included: 1 the first time. An embedded bus counts from its opening; another
    /// counts the consumers that ended before they answered too, and what it handed out to them ahead of their asking. The
    /// consumer decides when it is enough ([`MAX_DELIVERIES`](crate::MAX_DELIVERIES) is what workers take).
    pub deliveries: u32,
    answer: Box<dyn Answer>,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Delivery { message, deliveries, .. } = self;
        write!(
            f,
            "Delivery({}, {} bytes, delivered {deliveries})",
            message.id,
            message.payload.len()
        )
    }
}

impl Delivery {
    /// For implementations of [`Subscription`].
    #[must_use]
    pub fn new(message: Message, deliveries: u32, answer: Box<dyn Answer>) -> Delivery {
        Delivery { message, deliveries, answer }
    }

    /// The message is done with. A message that became deliverable again meanwhile is done with too.
    ///
    /// # Errors
    /// [`BusError::Closed`], [`BusError::Failed`]: it may come again.
    pub async fn ack(mut self) -> Result<(), BusError> {
        self.answer.ack().await
    }

    /// The message is to come again, not before `delay` has passed, and those behind it of the same (agent, epoch) with it.
    ///
    /// # Errors
    /// [`BusError::Closed`], [`BusError::Failed`]: it comes again all the same.
    pub async fn nak(mut self, delay: Duration) -> Result<(), BusError> {
        self.answer.nak(delay).await
    }
}
