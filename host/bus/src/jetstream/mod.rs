//! The bus of many machines, on a stream of NATS JetStream.
//!
//! # Partitions
//!
//! An agent's messages lie in one partition, a subject of the stream with a durable consumer of its own, so that their order
//! is that of NATS. Workers share partitions: each process's
//! subscription reads some of them, which change when processes come and go.
//!
//! # Life
//!
//! The stream's metadata hold the incarnation. A stream that is not there is made, with a new one: a NATS that was started
//! again empty, or a stream that somebody deleted, so makes every agent send again what is not committed. So does a stream
//! whose last number is below one that it has acknowledged (its disk lost what was not synced): it is deleted and made anew.
//! The stream is looked at when the connection is there again, when publishing fails, and every [`LOOK_EVERY`].
//!
//! # Deliveries
//!
//! What NATS hands out is held in memory, bounded as the embedded bus's deliveries are (and up to [`PULL_MESSAGES`] messages
//! or [`PULL_BYTES`] of each partition more), and refused messages come again out of it, so that the order of (agent, epoch)
//! holds. NATS is told every third of [`ACK_WAIT`] that they are being worked at.
//!
//! A subscription begins with what NATS gave to one before it that did not answer, in order: it refuses that in its name, so
//! that NATS does not wait for `ACK_WAIT`. A message that comes for the third time is delivered alone, and the next of its
//! kind only when it was answered: where a message kills its worker, the others do not come to look as if they did.
//!
//! # What goes wrong
//!
//! | what | then |
//! |---|---|
//! | no connection | publishing fails at once; consuming waits; it is tried again for ever, with growing waits up to [`MAX_RECONNECT_WAIT`] |
//! | an answer does not reach NATS | the message comes again |
//! | the stream is full, or the account's quota is | [`BusError::Busy`] |
//! | more than [`MAX_PUBLISHING`] messages without an answer of NATS | `Busy` |
//! | the stream is gone | publishing fails, and it is made anew |
//! | a consumer is gone | it is made anew and begins with the oldest message not acknowledged |
//! | a consumer of an earlier life is in the way | it is removed: a worker that had not heard of the new stream made it |
//! | a message of the stream is none of ours | acknowledged and logged |

mod connect;
mod hold;
mod keeper;
mod message;
mod options;
mod puller;
mod setup;
mod share;
mod stream;
mod subscription;

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State as Connection;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, ErrorCode};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};

pub use hold::HOLD_FOR;
pub use options::{AddressError, JetStreamOptions, MAX_PARTITIONS, NatsAddress, StreamOptions};
pub use setup::{StreamReport, set_up};

use crate::{
    Bus, BusError, Depth, Incarnation, MAX_PAYLOAD_BYTES, Message, MessageId, Subscription,
};
use keeper::{Keeper, Life};
use subscription::JetStreamSubscription;

/// How long NATS waits for an answer, or for word that it will come, before it hands a message out again.
pub const ACK_WAIT: Duration = Duration::from_secs(30);
/// Messages asked of a partition at a time.
pub const PULL_MESSAGES: usize = 32;
/// Bytes of messages asked of a partition at a time; room for the largest message.
pub const PULL_BYTES: usize = MAX_PAYLOAD_BYTES + (1 << 20);
/// How often the stream is looked at where nothing happens.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Messages that are published and not answered by NATS, at most.
pub const MAX_PUBLISHING: usize = 1024;
/// The longest wait between attempts to reach NATS.
pub const MAX_RECONNECT_WAIT: Duration = Duration::from_secs(2);

/// How long NATS may take to answer a request.
const ANSWER: Duration = Duration::from_secs(5);
/// Requests for messages of one partition that may wait at NATS: those of dead connections among them.
const MAX_WAITING_PULLS: i64 = 64;
/// What a publisher is told to wait at a bound.
const BUSY_RETRY_MS: u64 = 500;
/// What NATS says at a bound of the stream, of an account or of a server.
const QUOTAS: [ErrorCode; 5] = [
    ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ErrorCode::INSUFFICIENT_RESOURCES,
    ErrorCode::MEMORY_RESOURCES_EXCEEDED,
    ErrorCode::STORAGE_RESOURCES_EXCEEDED,
    ErrorCode::STREAM_STORE_FAILED,
];

/// A bus on a stream of NATS JetStream. Serves one subscription at a time.
pub struct JetStreamBus {
    shared: Arc<Shared>,
    keeper: AbortHandle,
}

/// What the bus, its keeper and its subscription use.
struct Shared {
    client: async_nats::Client,
    context: jetstream::Context,
    options: JetStreamOptions,
    keeper: Keeper,
    /// Held by the subscription.
    subscribed: Arc<tokio::sync::Mutex<()>>,
    /// Held by whoever pulls for it, which ends a moment after it.
    pulling: Arc<tokio::sync::Mutex<()>>,
    /// The last message was not taken because of a bound.
    full: AtomicBool,
    closed: AtomicBool,
    /// What is given up, and NATS is being told.
    releasing: Mutex<JoinSet<()>>,
}

fn failed(operation: &'static str, cause: impl ToString) -> BusError {
    BusError::Failed { operation, cause: cause.to_string() }
}

/// An error with what lies behind it.
fn whole(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut behind = error.source();
    while let Some(one) = behind {
        said = format!("{said}: {one}");
        behind = one.source();
    }
    said
}

impl JetStreamBus {
    /// Connects, and makes the stream where it is missing.
    ///
    /// # Errors
    /// [`BusError::Failed`]: NATS cannot be reached or does not let this user in, is too old, takes no messages as large as
    /// Sentinel's, has no JetStream, or has another stream in the place of this one.
    pub async fn connect(options: JetStreamOptions) -> Result<JetStreamBus, BusError> {
        let (keeper, events) = Keeper::new();
        let (client, context) = connect::connect(&options, events).await?;
        let shared = Arc::new(Shared {
            client,
            context,
            options,
            keeper,
            subscribed: Arc::default(),
            pulling: Arc::default(),
            full: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            releasing: Mutex::default(),
        });
        shared.keeper.first_connection().await;
        let life = shared.look().await?;
        shared.keeper.put(life);
        let keeper = tokio::spawn(keeper::keep(Arc::clone(&shared))).abort_handle();
        Ok(JetStreamBus { shared, keeper })
    }
}

impl Drop for JetStreamBus {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Shared {
    fn alive(&self) -> Result<(), BusError> {
        if self.closed.load(Ordering::Acquire) { Err(BusError::Closed) } else { Ok(()) }
    }

    fn connected(&self, operation: &'static str) -> Result<(), BusError> {
        if self.client.connection_state() == Connection::Connected {
            return Ok(());
        }
        Err(failed(operation, format!("there is no connection to {}", self.options.address)))
    }

    async fn publish(&self, message: Message, life: &Life) -> Result<u64, BusError> {
        let Message { id, payload } = message;
        let subject = stream::subject(
            &self.options.stream,
            stream::partition_of(&id.agent, life.mark.partitions),
        );
        let message = PublishMessage::build()
            .headers(message::headers(&id))
            .expected_stream(stream::stream_name(&self.options.stream))
            .payload(payload);
        let sent = self.context.send_publish(subject, message).await;
        let answered = match sent {
            Ok(answer) => answer.await,
            Err(error) => Err(error),
        };
        Ok(answered.map_err(|error| self.not_published(&id, &error))?.sequence)
    }

    fn not_published(&self, id: &MessageId, error: &PublishError) -> BusError {
        let busy = BusError::Busy { retry_after_ms: BUSY_RETRY_MS };
        match error.kind() {
            PublishErrorKind::MaxAckPending => busy,
            _ if is_full(error) => {
                if !self.full.swap(true, Ordering::AcqRel) {
                    let error = whole(error);
                    tracing::warn!(error, message = %id, "the bus is full; agents wait and keep their records");
                }
                busy
            }
            _ => {
                self.keeper.look_now();
                failed("publish", whole(error))
            }
        }
    }
}

/// Whether NATS refused a message at a bound of the stream, of the account or of a server.
fn is_full(error: &PublishError) -> bool {
    let behind = error.source().and_then(|e| e.downcast_ref::<jetstream::Error>());
    behind.is_some_and(|error| QUOTAS.contains(&error.error_code()))
}

#[async_trait]
impl Bus for JetStreamBus {
    fn incarnation(&self) -> Incarnation {
        self.shared.keeper.life().mark.incarnation
    }

    async fn publish(&self, message: Message) -> Result<(), BusError> {
        let shared = &self.shared;
        shared.alive()?;
        let bytes = message.payload.len();
        if bytes > MAX_PAYLOAD_BYTES {
            return Err(BusError::TooLarge { id: message.id, bytes, max: MAX_PAYLOAD_BYTES });
        }
        shared.connected("publish")?;
        let life = shared.keeper.life();
        let sequence = shared.publish(message, &life).await?;
        if shared.full.swap(false, Ordering::AcqRel) {
            tracing::info!("the bus takes messages again");
        }
        shared.keeper.acknowledged(&life, sequence);
        Ok(())
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, BusError> {
        self.shared.alive()?;
        let held = Arc::clone(&self.shared.subscribed);
        let held = held.try_lock_owned().map_err(|_| BusError::Subscribed)?;
        Ok(Box::new(JetStreamSubscription::begin(Arc::clone(&self.shared), held)))
    }

    async fn depth(&self) -> Result<Depth, BusError> {
        self.shared.alive()?;
        self.shared.connected("ask for its depth")?;
        let found = self.shared.stream("ask for its depth").await?;
        let state = found.map(|info| info.state);
        Ok(state.map_or_else(Depth::default, |s| Depth { messages: s.messages, bytes: s.bytes }))
    }

    async fn close(&self) -> Result<(), BusError> {
        if self.shared.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.keeper.abort();
        self.shared.keeper.end();
        let released = async {
            drop(self.shared.pulling.lock().await);
            let mut releasing = std::mem::take(&mut *self.shared.releasing.lock());
            while releasing.join_next().await.is_some() {}
        };
        if tokio::time::timeout(ANSWER, released).await.is_err() {
            tracing::warn!(
                "NATS was not told which partitions are free; others read them a little later"
            );
        }
        let flushed = tokio::time::timeout(ANSWER, self.shared.client.flush()).await;
        let told = flushed.map_err(|_| failed("tell what was answered", "NATS does not answer"))?;
        told.map_err(|error| failed("tell what was answered", whole(&error)))
    }
}
