//! The desired set on its way from the operator to the hosts.
//!
//! The server keeps what operators sealed and carries it; that is all. It opens a set only to
//! refuse nonsense early and to say who is behind: a host believes its operator's key and not
//! the server.

use parking_lot::Mutex;
use sentinel_store::fleet::StoredSet;
use sentinel_store::{Store, StoreError};
use sentinel_trust::fleet::{DesiredSet, MAX_SEALED_BYTES, Operators, Unopened, open};
use sentinel_wire::v1::FleetSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// How often the store is asked for sets that another server took.
const LOOK: Duration = Duration::from_secs(2);
/// Sets on their way to one agent; an agent that is slower is asked to come again.
const QUEUE: usize = 4;

/// Why a set was not taken. The fleet stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Nobody may decide here.
    #[error(
        "this server belongs to no fleet: nobody's key is pinned; make one with `sentinel fleet init`"
    )]
    NoFleet,
    /// The set counts for nothing.
    #[error(transparent)]
    Unopened(#[from] Unopened),
    /// Not UTF-8.
    #[error("a sealed set is text")]
    NotText,
    /// It could not be kept; a conflict where its number is not the next.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The sets of one fleet.
pub struct FleetBoard {
    store: Arc<dyn Store>,
    operators: Option<Operators>,
    newest: watch::Sender<u64>,
    /// The set in force, opened: at most as old as [`LOOK`].
    opened: Mutex<Option<Arc<DesiredSet>>>,
}

impl FleetBoard {
    /// For the fleet of these operators; without them no set is taken.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, operators: Option<Operators>) -> Arc<Self> {
        let (newest, _) = watch::channel(0);
        Arc::new(Self { store, operators, newest, opened: Mutex::default() })
    }

    /// Who decides.
    #[must_use]
    pub fn operators(&self) -> Option<&Operators> {
        self.operators.as_ref()
    }

    /// Takes a set: opened, kept, announced; its number.
    ///
    /// # Errors
    /// [`FleetError`]; nothing changed.
    pub async fn take(&self, sealed: &[u8], now: i64) -> Result<u64, FleetError> {
        let operators = self.operators.as_ref().ok_or(FleetError::NoFleet)?;
        if sealed.len() > MAX_SEALED_BYTES {
            return Err(Unopened::TooBig(sealed.len()).into());
        }
        let opened = open(sealed, operators, 0)?;
        let number = opened.set().number;
        let text = std::str::from_utf8(sealed).map_err(|_| FleetError::NotText)?;
        let set = StoredSet { number, taken_at: now, sealed: text.to_owned() };
        self.store.save_fleet_set(set).await?;
        let set = opened.set();
        tracing::info!(number, by = %set.by, signer = %opened.signer().id(), note = %set.note, "desired set taken");
        *self.opened.lock() = Some(Arc::new(set.clone()));
        self.announce(number);
        Ok(number)
    }

    fn announce(&self, number: u64) {
        self.newest.send_if_modified(|newest| {
            let higher = number > *newest;
            *newest = number.max(*newest);
            higher
        });
    }

    /// The set in force, as it was sealed.
    ///
    /// # Errors
    /// A store that does not answer.
    pub async fn newest(&self) -> Result<Option<StoredSet>, StoreError> {
        Ok(self.store.fleet_sets(1).await?.pop())
    }

    /// The set in force, opened; `None` where there is none that the operators signed.
    ///
    /// # Errors
    /// A store that does not answer.
    pub async fn in_force(&self) -> Result<Option<Arc<DesiredSet>>, StoreError> {
        let (Some(stored), Some(operators)) = (self.newest().await?, self.operators.as_ref())
        else {
            return Ok(None);
        };
        let known = self.opened.lock().clone().filter(|set| set.number == stored.number);
        if known.is_some() {
            return Ok(known);
        }
        let opened = open(stored.sealed.as_bytes(), operators, 0);
        let set = opened.ok().map(|opened| Arc::new(opened.set().clone()));
        (*self.opened.lock()).clone_from(&set);
        Ok(set)
    }

    /// Looks for sets that other servers over the same store took, until `stop`.
    pub async fn watch_store(self: Arc<Self>, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            match self.newest().await {
                Ok(Some(set)) => self.announce(set.number),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "the desired set could not be looked at"),
            }
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Every set newer than `have`, the one in force at once, until the agent or the server
    /// goes.
    #[must_use]
    pub fn follow(
        self: &Arc<Self>,
        mut have: u64,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> ReceiverStream<Result<FleetSet, Status>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let board = Arc::clone(self);
        let mut newest = self.newest.subscribe();
        tokio::spawn(async move {
            tokio::pin!(stop);
            loop {
                let found = match board.newest().await {
                    Ok(found) => found.filter(|set| set.number > have),
                    Err(_) => {
                        let _ = sender
                            .try_send(Err(Status::unavailable("the database is not available")));
                        return;
                    }
                };
                if let Some(set) = found {
                    have = set.number;
                    let set = FleetSet { number: set.number, sealed: set.sealed };
                    if sender.send(Ok(set)).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    () = &mut stop => return,
                    () = sender.closed() => return,
                    changed = newest.wait_for(|newest| *newest > have) => {
                        if changed.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        ReceiverStream::new(receiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use sentinel_store::sqlite::{SqliteStore, StoreOptions};
    use sentinel_trust::fleet::{FleetId, SET_FORMAT, seal};
    use sentinel_trust::repository::{KeyPurpose, RoleKey};

    fn key(byte: u8) -> RoleKey {
        RoleKey::from_secret(KeyPurpose::Operator, &[byte; 32])
    }

    fn sealed(number: u64, by: u8) -> Vec<u8> {
        let set = DesiredSet {
            format: SET_FORMAT,
            fleet: FleetId([1; 16]),
            number,
            made_at: 0,
            by: "alice".into(),
            note: String::new(),
            groups: Vec::new(),
        };
        seal(&set, &key(by)).unwrap().into_bytes()
    }

    async fn store(dir: &tempfile::TempDir) -> Arc<dyn Store> {
        let path = dir.path().join("s.db");
        Arc::new(SqliteStore::open(path, StoreOptions::default()).await.unwrap())
    }

    fn board(store: &Arc<dyn Store>) -> Arc<FleetBoard> {
        let operators = Operators { fleet: FleetId([1; 16]), keys: vec![key(1).public()] };
        FleetBoard::new(Arc::clone(store), Some(operators))
    }

    #[tokio::test]
    async fn only_the_next_set_of_an_operator_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        let board = board(&store);
        assert!(matches!(board.take(&sealed(1, 2), 0).await, Err(FleetError::Unopened(_))));
        assert_eq!(board.take(&sealed(1, 1), 5).await.unwrap(), 1);
        for number in [1, 3] {
            let refused = board.take(&sealed(number, 1), 0).await;
            assert!(matches!(refused, Err(FleetError::Store(StoreError::Conflict(_)))), "{number}");
        }
        assert_eq!(board.in_force().await.unwrap().unwrap().number, 1);
        let nobody = FleetBoard::new(Arc::clone(&store), None);
        assert!(matches!(nobody.take(&sealed(2, 1), 0).await, Err(FleetError::NoFleet)));
    }

    #[tokio::test]
    async fn a_host_hears_of_the_set_in_force_and_of_each_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        let board = board(&store);
        board.take(&sealed(1, 1), 0).await.unwrap();
        let mut new = board.follow(0, std::future::pending());
        let mut known = board.follow(1, std::future::pending());
        assert_eq!(new.next().await.unwrap().unwrap().number, 1);
        board.take(&sealed(2, 1), 0).await.unwrap();
        for stream in [&mut new, &mut known] {
            let set = stream.next().await.unwrap().unwrap();
            assert_eq!((set.number, set.sealed.into_bytes()), (2, sealed(2, 1)));
        }
    }

    #[tokio::test]
    async fn a_set_that_another_server_took_is_found_in_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        let (ours, theirs) = (board(&store), board(&store));
        let watching = tokio::spawn(Arc::clone(&ours).watch_store(std::future::pending()));
        let mut stream = ours.follow(0, std::future::pending());
        theirs.take(&sealed(1, 1), 0).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().number, 1);
        watching.abort();
    }
}
