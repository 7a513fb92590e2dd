//! Something that one process of an installation has at a time.
//!
//! A hold is the last message of a subject of a stream in NATS's memory that forgets after [`HOLD_FOR`]. Taking and keeping it
//! say which message was the last before, so that of two one is refused. A holder that NATS does not hear of for that
//! long lost it, and stops a while before that. It is no fence: what its holder does late must be checked where it
//! is done: of samples the ledger of the database sees to that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, StorageType};
use futures::StreamExt as _;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::stream::stream_name;
use super::{Shared, failed, whole};
use crate::BusError;

/// How long a hold lasts that is not kept.
pub const HOLD_FOR: Duration = Duration::from_secs(10);
/// How often it is kept.
const KEEP_EVERY: Duration = Duration::from_secs(2);
/// How often a claim is made where its stream is missing at the first.
const CLAIMS: usize = 2;
/// When a holder that cannot keep it stops, counted from the last time it could.
const GIVE_UP_AFTER: Duration = Duration::from_secs(7);

/// Something that this process has. Others get it once it is dropped, or [`HOLD_FOR`] after the process died.
pub(super) struct Hold {
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

impl Shared {
    /// Takes what is named, if nobody has it, and keeps it.
    pub(super) async fn take(self: &Arc<Self>, name: &str) -> Result<Option<Hold>, BusError> {
        let subject = format!("{}-holds.{name}", self.options.stream.name);
        let Claim::Taken(sequence) = self.claim(&subject, 0).await? else { return Ok(None) };
        let (lose, lost) = watch::channel(false);
        let keeping = keep(Arc::clone(self), subject.clone(), sequence, lose);
        let keeping = tokio::spawn(keeping).abort_handle();
        Ok(Some(Hold { shared: Arc::clone(self), subject, lost, keeping }))
    }

    /// The names of all that somebody has.
    pub(super) async fn taken(&self) -> Result<BTreeSet<String>, BusError> {
        let unknown = |error: String| failed("ask who is at work", error);
        let stream = self.context.get_stream_no_info(holds_name(self)).await;
        let stream = stream.map_err(|error| unknown(whole(&error)))?;
        let before = format!("{}-holds.", self.options.stream.name);
        let found = stream.info_with_subjects(format!("{before}*")).await;
        let mut found = found.map_err(|error| unknown(whole(&error)))?;
        let mut names = BTreeSet::new();
        while let Some(subject) = found.next().await {
            let (subject, _) = subject.map_err(|error| unknown(whole(&error)))?;
            names.extend(subject.strip_prefix(&before).map(str::to_owned));
        }
        Ok(names)
    }

    async fn release(&self, subject: &str) -> Result<(), BusError> {
        let stream = self.context.get_stream_no_info(holds_name(self)).await;
        let stream = stream.map_err(|error| failed("release a hold", whole(&error)))?;
        let purged = stream.purge().filter(subject).await;
        purged.map(|_| ()).map_err(|error| failed("release a hold", whole(&error)))
    }
}

impl Hold {
    /// Whether somebody else may have it soon.
    pub(super) fn is_lost(&self) -> bool {
        // An error means that nobody keeps it any more.
        *self.lost.borrow() || self.lost.has_changed().is_err()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.keeping.abort();
        if self.is_lost() {
            return;
        }
        let (shared, subject) = (Arc::clone(&self.shared), std::mem::take(&mut self.subject));
        let release = async move {
            if let Err(error) = shared.release(&subject).await {
                tracing::debug!(%error, subject, "it ends by itself in a while");
            }
        };
        if let Ok(runtime) = Handle::try_current() {
            let mut releasing = self.shared.releasing.lock();
            while releasing.try_join_next().is_some() {}
            releasing.spawn_on(release, &runtime);
        }
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
        for _ in 0..CLAIMS {
            let message = PublishMessage::build().expected_last_subject_sequence(last);
            let sent = self.context.send_publish(subject.to_owned(), message).await;
            let answered = match sent {
                Ok(answer) => answer.await,
                Err(error) => Err(error),
            };
            match answered {
                Ok(answer) => return Ok(Claim::Taken(answer.sequence)),
                Err(error) => match error.kind() {
                    PublishErrorKind::WrongLastSequence => return Ok(Claim::Refused),
                    PublishErrorKind::StreamNotFound => self.make_holds().await?,
                    _ => return Err(failed("take a hold", whole(&error))),
                },
            }
        }
        Err(failed("take a hold", "its stream is deleted whenever it is made"))
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
