//! Something that one process of an installation has at a time.
//!
//! A hold is the last message of a subject of a stream in NATS's memory that forgets after [`HOLD_FOR`]. Taking and keeping it
//! say which message was the last before, so that of two one is refused. A holder that NATS does not hear of for that
//! long lost it, and stops a while before that. It is no fence: what its holder does late must be checked where it
//! is done.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, StorageType};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::stream::stream_name;
use super::{JetStreamBus, Shared, failed, whole};
use crate::BusError;

/// How long a hold lasts that is not kept.
pub const HOLD_FOR: Duration = Duration::from_secs(10);
/// How often it is kept, and looked at by those that wait for it.
const KEEP_EVERY: Duration = Duration::from_secs(2);
/// When a holder that cannot keep it stops, counted from the last time it could.
const GIVE_UP_AFTER: Duration = Duration::from_secs(7);

/// What [`JetStreamBus::hold`] gives. Others get it once it is [released](Hold::release), or [`HOLD_FOR`] after it was dropped.
pub struct Hold {
    shared: Arc<Shared>,
    subject: String,
    lost: watch::Receiver<bool>,
    keeping: AbortHandle,
}

/// How an attempt to take or keep a hold ended.
enum Claim {
    /// By the message of this number.
    Taken(u64),
    /// Somebody else has it.
    Refused,
}

impl JetStreamBus {
    /// Waits until this process has what is named, and keeps it. Nothing else of the bus needs it.
    ///
    /// # Errors
    /// [`BusError::Closed`]. A NATS that does not answer is waited for.
    pub async fn hold(&self, name: &str) -> Result<Hold, BusError> {
        let shared = Arc::clone(&self.shared);
        let subject = format!("{}-holds.{name}", shared.options.stream.name);
        let mut waiting = false;
        let mut trouble = false;
        let sequence = loop {
            shared.alive()?;
            match shared.claim(&subject, 0).await {
                Ok(Claim::Taken(sequence)) => break sequence,
                Ok(Claim::Refused) => {
                    if !std::mem::replace(&mut waiting, true) {
                        tracing::info!(name, "another process is at work; this one stands by");
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut trouble, true) {
                        tracing::warn!(name, %error, "the bus cannot say who is at work; asked again");
                    }
                }
            }
            sleep(KEEP_EVERY).await;
        };
        let (lose, lost) = watch::channel(false);
        let keeping = keep(Arc::clone(&shared), subject.clone(), sequence, lose);
        let keeping = tokio::spawn(keeping).abort_handle();
        Ok(Hold { shared, subject, lost, keeping })
    }
}

impl Hold {
    /// Ends when it is lost: somebody else may have it soon.
    pub async fn lost(&mut self) {
        // An error means that nobody keeps it any more.
        let _ = self.lost.wait_for(|lost| *lost).await;
    }

    /// Gives it up, so that whoever waits has it at once.
    ///
    /// # Errors
    /// [`BusError::Failed`]: it ends by itself after [`HOLD_FOR`].
    pub async fn release(self) -> Result<(), BusError> {
        self.keeping.abort();
        let stream = self.shared.context.get_stream_no_info(holds_name(&self.shared)).await;
        let stream = stream.map_err(|error| failed("release a hold", whole(&error)))?;
        let purged = stream.purge().filter(&self.subject).await;
        purged.map(|_| ()).map_err(|error| failed("release a hold", whole(&error)))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

async fn keep(shared: Arc<Shared>, subject: String, first: u64, lose: watch::Sender<bool>) {
    let (mut sequence, mut kept) = (first, Instant::now());
    loop {
        let next = timeout_at(kept + GIVE_UP_AFTER, shared.keep(&subject, sequence)).await;
        match next {
            Ok((asked, Claim::Taken(next))) => (sequence, kept) = (next, asked),
            Ok((_, Claim::Refused)) => break,
            Err(_) => {
                tracing::error!("NATS did not answer for too long");
                break;
            }
        }
    }
    lose.send_replace(true);
}

fn holds_name(shared: &Shared) -> String {
    format!("{}-holds", stream_name(&shared.options.stream))
}

impl Shared {
    /// Keeps a hold a while later, however often NATS must be asked; and when that was.
    async fn keep(&self, subject: &str, last: u64) -> (Instant, Claim) {
        loop {
            sleep(KEEP_EVERY).await;
            let asked = Instant::now();
            let claim = match self.claim(subject, last).await {
                // NATS began anew, or forgot it for want of word: if it can be taken, nobody else has it.
                Ok(Claim::Refused) => self.claim(subject, 0).await,
                claim => claim,
            };
            if let Ok(claim) = claim {
                return (asked, claim);
            }
        }
    }

    /// Makes this process's message the last of the subject, if that is the one of this number, or there is none for 0.
    async fn claim(&self, subject: &str, last: u64) -> Result<Claim, BusError> {
        let message = PublishMessage::build().expected_last_subject_sequence(last);
        let sent = self.context.send_publish(subject.to_owned(), message).await;
        let answered = match sent {
            Ok(answer) => answer.await,
            Err(error) => Err(error),
        };
        match answered {
            Ok(answer) => Ok(Claim::Taken(answer.sequence)),
            Err(error) => match error.kind() {
                PublishErrorKind::WrongLastSequence => Ok(Claim::Refused),
                PublishErrorKind::StreamNotFound => {
                    self.make_holds().await?;
                    Err(failed("take a hold", "its stream was missing, and is made now"))
                }
                _ => Err(failed("take a hold", whole(&error))),
            },
        }
    }

    async fn make_holds(&self) -> Result<(), BusError> {
        let config = Config {
            name: holds_name(self),
            description: Some("Who of Sentinel's processes is at work.".to_owned()),
            subjects: vec![format!("{}-holds.*", self.options.stream.name)],
            max_age: HOLD_FOR,
            duplicate_window: HOLD_FOR,
            max_messages_per_subject: 1,
            storage: StorageType::Memory,
            num_replicas: usize::from(self.options.stream.replicas),
            ..Config::default()
        };
        match self.context.create_stream(config).await {
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                CreateStreamErrorKind::JetStream(e)
                    if e.error_code() == ErrorCode::STREAM_NAME_EXIST =>
                {
                    Ok(())
                }
                _ => Err(failed("make the stream of holds", whole(&error))),
            },
        }
    }
}
