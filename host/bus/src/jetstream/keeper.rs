//! Who sees to it that the stream is there, and says what life it is in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::Info;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

use super::stream::{Mark, stream_name, usable, wanted};
use super::{ANSWER, LOOK_EVERY, Shared, failed, whole};
use crate::{BusError, Incarnation};

/// One life of the stream over one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) mark: Mark,
    /// Grows with each connection: what was asked over an earlier one is not answered any more.
    pub(super) connection: u64,
}

/// What is known of the stream.
pub(super) struct Keeper {
    life: watch::Sender<Option<Life>>,
    events: tokio::sync::Mutex<mpsc::Receiver<()>>,
    connections: AtomicU64,
    look: Notify,
    /// The highest number that the stream of this incarnation acknowledged.
    highest: Mutex<(Incarnation, u64)>,
}

impl Keeper {
    /// And where to tell of each new connection.
    pub(super) fn new() -> (Keeper, mpsc::Sender<()>) {
        let (events, heard) = mpsc::channel(1);
        let keeper = Keeper {
            life: watch::Sender::new(None),
            events: tokio::sync::Mutex::new(heard),
            connections: AtomicU64::new(0),
            look: Notify::new(),
            highest: Mutex::new((Incarnation([0; 16]), 0)),
        };
        (keeper, events)
    }

    /// Takes word of the first connection, so that it does not look like another one later.
    pub(super) async fn first_connection(&self) {
        let mut events = self.events.lock().await;
        // Without that word the first subscription begins twice, and that is all.
        let _ = tokio::time::timeout(ANSWER, events.recv()).await;
    }

    /// The present life. It is known from before the bus is handed out.
    pub(super) fn life(&self) -> Life {
        let nowhere = Mark { incarnation: Incarnation([0; 16]), partitions: 1 };
        self.life.borrow().unwrap_or(Life { mark: nowhere, connection: 0 })
    }

    pub(super) fn lives(&self) -> watch::Receiver<Option<Life>> {
        self.life.subscribe()
    }

    /// The bus is closed: subscriptions are woken and find it out.
    pub(super) fn end(&self) {
        self.life.send_modify(|_| ());
    }

    pub(super) fn put(&self, life: Life) {
        self.life.send_if_modified(|known| {
            let other = *known != Some(life);
            *known = Some(life);
            other
        });
    }

    /// Something went wrong that may have its cause in the stream.
    pub(super) fn look_now(&self) {
        self.look.notify_one();
    }

    pub(super) fn acknowledged(&self, life: &Life, sequence: u64) {
        let mut highest = self.highest.lock();
        *highest = match *highest {
            (of, known) if of == life.mark.incarnation => (of, known.max(sequence)),
            _ => (life.mark.incarnation, sequence),
        };
    }
}

/// Looks at the stream until the bus is dropped.
pub(super) async fn keep(shared: Arc<Shared>) {
    let keeper = &shared.keeper;
    let mut events = keeper.events.lock().await;
    let mut trouble = false;
    loop {
        tokio::select! {
            () = keeper.look.notified() => {}
            event = events.recv() => {
                if event.is_some() {
                    keeper.connections.fetch_add(1, Ordering::Relaxed);
                }
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let looked = match shared.connected("look at the stream") {
            Ok(()) => shared.look().await,
            Err(error) => Err(error),
        };
        match looked {
            Ok(life) => {
                if std::mem::take(&mut trouble) {
                    tracing::info!("the bus is well again");
                }
                keeper.put(life);
            }
            Err(error) => {
                if !std::mem::replace(&mut trouble, true) {
                    tracing::error!(%error, "the bus cannot be used; tried again until it can");
                }
            }
        }
    }
}

impl Shared {
    /// The stream as it is; `None` where there is none.
    pub(super) async fn stream(&self, operation: &'static str) -> Result<Option<Info>, BusError> {
        let found = self.context.get_stream(stream_name(&self.options.stream)).await;
        match found {
            Ok(stream) => Ok(Some(stream.cached_info().clone())),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(e)
                    if e.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(failed(operation, whole(&error))),
            },
        }
    }

    /// Finds the stream, makes it or marks it, and says what life it is in.
    pub(super) async fn look(&self) -> Result<Life, BusError> {
        // What is acknowledged after this moment may have been stored after the stream answers.
        let connection = self.keeper.connections.load(Ordering::Relaxed);
        let before = *self.keeper.highest.lock();
        let mark = match self.stream("look at the stream").await? {
            None => self.make().await?,
            Some(info) => {
                usable(&info.config, &self.options.stream)?;
                match Mark::read(&info.config.metadata) {
                    None => self.mark(info).await?,
                    Some(mark)
                        if before.0 == mark.incarnation && info.state.last_sequence < before.1 =>
                    {
                        tracing::error!(
                            last = info.state.last_sequence,
                            acknowledged = before.1,
                            "the stream lost messages that it had acknowledged; it is made anew, and agents send again"
                        );
                        self.make_anew(mark).await?
                    }
                    Some(mark) => mark,
                }
            }
        };
        Ok(Life { mark, connection })
    }

    async fn make(&self) -> Result<Mark, BusError> {
        let mark = Mark::fresh(&self.options.stream);
        match self.context.create_stream(wanted(&self.options.stream, mark)).await {
            Ok(_) => {
                tracing::warn!(
                    stream = stream_name(&self.options.stream), incarnation = %mark.incarnation,
                    "the bus has a new stream; agents send again what is not stored"
                );
                Ok(mark)
            }
            Err(error) => match error.kind() {
                // Another process was faster: its mark counts.
                CreateStreamErrorKind::JetStream(e)
                    if e.error_code() == ErrorCode::STREAM_NAME_EXIST =>
                {
                    let info = self.stream("look at the stream").await?;
                    let mark = info.and_then(|info| Mark::read(&info.config.metadata));
                    mark.ok_or_else(|| failed("make the stream", whole(&error)))
                }
                CreateStreamErrorKind::JetStream(e)
                    if e.error_code() == ErrorCode::STORAGE_RESOURCES_EXCEEDED =>
                {
                    let wanted = self.options.stream.max_bytes;
                    Err(failed(
                        "make the stream",
                        format!(
                            "{}: give NATS more room than the {wanted} bytes of max_bytes, or lower that",
                            whole(&error)
                        ),
                    ))
                }
                _ => Err(failed("make the stream", whole(&error))),
            },
        }
    }

    /// Marks a stream that somebody else made. Nobody knows what it lost before.
    async fn mark(&self, info: Info) -> Result<Mark, BusError> {
        let mark = Mark::fresh(&self.options.stream);
        let mut config = info.config;
        mark.write(&mut config.metadata);
        let updated = self.context.update_stream(config).await;
        updated.map_err(|error| failed("mark the stream", whole(&error)))?;
        tracing::warn!(incarnation = %mark.incarnation, "the bus has a stream that was not marked; agents send again what is not stored");
        Ok(mark)
    }

    /// Ends a life of the stream, unless somebody else did.
    async fn make_anew(&self, lost: Mark) -> Result<Mark, BusError> {
        if let Some(info) = self.stream("look at the stream").await?
            && let Some(mark) = Mark::read(&info.config.metadata)
            && mark != lost
        {
            return Ok(mark);
        }
        let deleted = self.context.delete_stream(stream_name(&self.options.stream)).await;
        deleted.map_err(|error| failed("delete the stream", whole(&error)))?;
        self.make().await
    }
}
