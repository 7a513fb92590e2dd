//! What is published: repository metadata, as numbered commits of the store.
//!
//! ```text
//! metadata/commits/<n, 20 digits>        root, targets, index, snapshot and timestamp in force
//! metadata/roots/<version>               every root, since hosts follow them one by one
//! metadata/publishers/<publisher>/<number>.<digest>   an index as its publisher signed it
//! ```
//!
//! A commit is one object, created under the number after the highest, never changed: of two
//! instances that publish at once one is refused and builds on the other's. What a commit
//! names is there before it is. So a kill anywhere leaves the commit before it in force, whole.
//!
//! The service believes its store no more than hosts do: each commit is taken in by the very
//! update that hosts make, before it is created and when it is read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use parking_lot::RwLock;
use sentinel_trust::repository::{
    Enrolment, IndexEntry, Interest, MetadataError, MetadataFile, MinimumVersions, OnlineKeys,
    OnlineMetadata, SignedIndex, Trusted, Update, publisher_index_path,
};
use sentinel_trust::{PublisherName, TrustPolicy};

use crate::commit::Commit;
use crate::metadata_path::{MetadataPath, object_of};
use crate::oci::store_failed;
use crate::refusal::{Code, Refusal};
use crate::state::{State, refused};
use crate::store::{Store, StoreError, path};

/// How old what is known may be before the store is asked for a newer commit, in milliseconds.
const FRESH_MS: i64 = 1_000;
/// Commits whose files are still served, for hosts that are in the middle of an update.
const SERVED: usize = 8;
/// Commits that are kept in the store.
const KEPT: u64 = 64;
/// How often a commit is tried while other instances are faster.
const ATTEMPTS: usize = 16;

/// What is published.
pub(crate) struct Catalogue {
    store: Store,
    /// Nothing where this instance only serves.
    keys: Option<OnlineKeys>,
    /// What is in force as far as it was seen, and when it was looked at (unix milliseconds).
    seen: RwLock<(i64, Option<Arc<State>>)>,
    /// One at a time looks or commits.
    turn: tokio::sync::Mutex<()>,
}

fn commit_path(number: u64) -> Path {
    path(&["metadata", "commits", &format!("{number:020}")])
}

fn served(online: &OnlineMetadata) -> HashMap<String, Bytes> {
    let file = |file: &MetadataFile| (file.path(), Bytes::copy_from_slice(file.bytes()));
    online.files().into_iter().map(file).collect()
}

impl Catalogue {
    pub(crate) fn new(store: Store, keys: Option<OnlineKeys>) -> Self {
        Self { store, keys, seen: RwLock::default(), turn: tokio::sync::Mutex::default() }
    }

    /// What is in force at `now`; nothing where the registry was never set up.
    pub(crate) async fn current(&self, now: i64) -> Result<Option<Arc<State>>, Refusal> {
        if let Some(state) = self.fresh(now) {
            return Ok(Some(state));
        }
        let _turn = self.turn.lock().await;
        // Whoever had the turn before has looked for all who waited.
        if let Some(state) = self.fresh(now) {
            return Ok(Some(state));
        }
        self.look(now).await.map_err(store_failed)
    }

    /// What was seen a moment ago; nothing where that is too long ago, or after `now`: a clock
    /// that was set back must not make an old state the newest.
    fn fresh(&self, now: i64) -> Option<Arc<State>> {
        let (looked, state) = self.seen.read().clone();
        state.filter(|_| (0..FRESH_MS).contains(&now.saturating_sub(looked)))
    }

    /// What is in force at `now`, commits of other instances that were made this moment
    /// included.
    pub(crate) async fn newest(&self, now: i64) -> Result<Option<Arc<State>>, Refusal> {
        let _turn = self.turn.lock().await;
        self.look(now).await.map_err(store_failed)
    }

    /// Whether something is in force at `now` and the store has it still: what is in memory alone
    /// does not outlast this process.
    pub(crate) async fn check(&self, now: i64) -> Result<(), Refusal> {
        let state = self.newest(now).await?.ok_or_else(never_set_up)?;
        let commit = commit_path(state.number);
        match self.store.read(&commit).await.map_err(store_failed)? {
            Some(_) => Ok(()),
            None => Err(Refusal::internal(
                "the registry's store has lost the metadata in force",
                &format!("there is no {commit}"),
            )),
        }
    }

    /// The keys in force; nobody's where the metadata is not to be believed.
    pub(crate) async fn policy(&self, now: i64) -> Result<TrustPolicy, Refusal> {
        let state = self.current(now).await?;
        Ok(state
            .and_then(|state| state.view())
            .map(|view| view.policy().clone())
            .unwrap_or_default())
    }

    /// Takes in what other instances committed.
    async fn look(&self, now: i64) -> Result<Option<Arc<State>>, StoreError> {
        let mut state = self.seen.read().1.clone();
        let mut next = match &state {
            Some(state) => state.number + 1,
            None => self.oldest_to_load().await?,
        };
        while let Some(json) = self.store.read(&commit_path(next)).await? {
            let online = Commit::read(&json).map_err(|why| StoreError::Damaged {
                object: commit_path(next).to_string(),
                why,
            })?;
            state = Some(Arc::new(self.take_in(state.as_deref(), next, online, now).await));
            next += 1;
        }
        *self.seen.write() = (now, state.clone());
        Ok(state)
    }

    /// The commit to begin with after a start: a few before the newest.
    async fn oldest_to_load(&self) -> Result<u64, StoreError> {
        let commits = self.store.list(&path(&["metadata", "commits"])).await?;
        let number = |meta: &object_store::ObjectMeta| meta.location.filename()?.parse().ok();
        let numbers: Vec<u64> = commits.iter().filter_map(number).collect();
        Ok(numbers.iter().rev().take(SERVED).next_back().copied().unwrap_or(1))
    }

    /// The state after a commit. One that a host would refuse is served all the same: that is
    /// how whoever runs the registry finds out, and it may only be out of date.
    async fn take_in(
        &self,
        before: Option<&State>,
        number: u64,
        online: OnlineMetadata,
        now: i64,
    ) -> State {
        let known = before.and_then(|state| state.trusted.as_ref());
        let trusted = match self.believe(known, &online, None, now).await {
            Ok(trusted) => Some(trusted),
            Err(error) => {
                tracing::error!(number, %error, "hosts would refuse this metadata");
                None
            }
        };
        let mut files = before.map(|state| state.files.clone()).unwrap_or_default();
        files.push_front(served(&online));
        files.truncate(SERVED);
        State { number, online, trusted, files }
    }

    /// What a host that trusted `known` trusts once it has seen `online`.
    async fn believe(
        &self,
        known: Option<&Trusted>,
        online: &OnlineMetadata,
        index: Option<&SignedIndex>,
        now: i64,
    ) -> Result<Trusted, MetadataError> {
        let enrolment = Enrolment {
            root: online.root.clone(),
            minimum: MinimumVersions::default(),
            operators: Vec::new(),
        };
        let first = match known {
            Some(known) => known.clone(),
            None => Trusted::enrolled(&enrolment)?,
        };
        let files = served(online);
        let mut update = Update::new(&first, Interest::All, now);
        while let Some(request) = update.next() {
            let found = files.get(&request.path).cloned();
            let pushed = || index.filter(|one| own_path(one) == request.path);
            let bytes = match (found, pushed()) {
                (Some(bytes), _) => Some(bytes.to_vec()),
                (None, Some(index)) => Some(index.bytes().to_vec()),
                // A file of the store that cannot be read is one that is not there.
                (None, None) => self.file_of_store(&request.path).await.ok().flatten(),
            };
            update.provide(bytes)?;
        }
        update.finish()
    }

    async fn file_of_store(&self, at: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(object) = MetadataPath::parse(at).and_then(|at| object_of(&at)) else {
            return Ok(None);
        };
        Ok(self.store.read(&object).await?.map(Vec::from))
    }

    /// A file below `/metadata/`; nothing where there is none.
    pub(crate) async fn file(&self, at: &str, now: i64) -> Result<Option<Bytes>, Refusal> {
        let Some(parsed) = MetadataPath::parse(at) else { return Ok(None) };
        let state = self.current(now).await?;
        let found = state.and_then(|state| state.files.iter().find_map(|all| all.get(at).cloned()));
        match (found, object_of(&parsed)) {
            (None, Some(object)) => self.store.read(&object).await.map_err(store_failed),
            (found, _) => Ok(found),
        }
    }

    /// Makes an index the one in force.
    pub(crate) async fn publish(&self, bytes: &[u8], now: i64) -> Result<(), Refusal> {
        let _turn = self.turn.lock().await;
        for _ in 0..ATTEMPTS {
            let state = self.look(now).await.map_err(store_failed)?.ok_or_else(never_set_up)?;
            // Without what hosts know nobody can say what this index must follow.
            if state.trusted.is_none() {
                return Err(not_believed());
            }
            let (index, entry) = state.check_index(bytes)?;
            let publisher = index.index().publisher.clone();
            let at = MetadataPath::Publisher(publisher.clone(), entry.number, entry.digest);
            if let Some(object) = object_of(&at) {
                let bytes = Bytes::copy_from_slice(index.bytes());
                self.store.write(&object, bytes).await.map_err(store_failed)?;
            }
            let changes = BTreeMap::from([(publisher, entry)]);
            let online = self.next(&state, None, None, &changes, now)?;
            if self.commit(Some(&state), online, Some(&index), now).await? {
                return Ok(());
            }
        }
        Err(overtaken())
    }

    /// Makes a root or targets that the offline keys signed the one in force. Without a
    /// commit so far, both are needed.
    pub(crate) async fn install(
        &self,
        root: Option<&MetadataFile>,
        targets: Option<&MetadataFile>,
        now: i64,
    ) -> Result<(), Refusal> {
        let _turn = self.turn.lock().await;
        for _ in 0..ATTEMPTS {
            let state = self.look(now).await.map_err(store_failed)?;
            let online = match (&state, root, targets) {
                (Some(state), _, _) => {
                    state.check_offline(root, targets)?;
                    self.next(state, root, targets, &BTreeMap::new(), now)?
                }
                (None, Some(root), Some(targets)) => {
                    let keys = self.keys.as_ref().ok_or_else(no_keys)?;
                    OnlineMetadata::first(root.clone(), targets.clone(), keys, now)
                        .map_err(refused)?
                }
                (None, _, _) => return Err(never_set_up()),
            };
            // What is in force already, brought again by anybody, is no reason for a commit.
            if state.as_ref().is_some_and(|state| state.online == online) {
                return Ok(());
            }
            if self.commit(state.as_deref(), online, None, now).await? {
                return Ok(());
            }
        }
        Err(overtaken())
    }

    /// Signs anew what time has made old; nothing where nothing has.
    pub(crate) async fn renew(&self, now: i64) -> Result<(), Refusal> {
        let _turn = self.turn.lock().await;
        let Some(state) = self.look(now).await.map_err(store_failed)? else { return Ok(()) };
        if self.keys.is_none() {
            return Ok(());
        }
        let online = self.next(&state, None, None, &BTreeMap::new(), now)?;
        if online != state.online {
            // Where another instance was faster, it has done the same.
            self.commit(Some(&state), online, None, now).await?;
        }
        Ok(())
    }

    fn next(
        &self,
        state: &State,
        root: Option<&MetadataFile>,
        targets: Option<&MetadataFile>,
        changes: &BTreeMap<PublisherName, IndexEntry>,
        now: i64,
    ) -> Result<OnlineMetadata, Refusal> {
        let keys = self.keys.as_ref().ok_or_else(no_keys)?;
        let root = root.unwrap_or(&state.online.root);
        let targets = targets.unwrap_or(&state.online.targets);
        state.online.next(root, targets, changes, keys, now).map_err(refused)
    }

    /// Creates the commit after `before`, once a host believes it. False where another
    /// instance has created that commit.
    async fn commit(
        &self,
        before: Option<&State>,
        online: OnlineMetadata,
        index: Option<&SignedIndex>,
        now: i64,
    ) -> Result<bool, Refusal> {
        let known = before.and_then(|state| state.trusted.as_ref());
        let trusted = self.believe(known, &online, index, now).await.map_err(refused)?;
        let root = MetadataPath::Root(online.root.version());
        if let Some(object) = object_of(&root) {
            let bytes = Bytes::copy_from_slice(online.root.bytes());
            self.store.write(&object, bytes).await.map_err(store_failed)?;
        }
        let number = before.map_or(1, |state| state.number + 1);
        let json = serde_json::to_vec(&Commit::new(&online))
            .map_err(|error| Refusal::internal("no commit", &error))?;
        let created = self.store.create(&commit_path(number), json.into()).await;
        if !created.map_err(store_failed)? {
            return Ok(false);
        }
        let mut files = before.map(|state| state.files.clone()).unwrap_or_default();
        files.push_front(served(&online));
        files.truncate(SERVED);
        let state = State { number, online, trusted: Some(trusted), files };
        *self.seen.write() = (now, Some(Arc::new(state)));
        if let Some(old) = number.checked_sub(KEPT)
            && let Err(error) = self.store.remove(&commit_path(old)).await
        {
            tracing::warn!(%error, "an old commit could not be removed");
        }
        Ok(true)
    }
}

/// Where hosts look for an index.
fn own_path(index: &SignedIndex) -> String {
    let digest = sentinel_trust::Digest::of(index.bytes());
    publisher_index_path(&index.index().publisher, index.index().number, digest)
}

fn overtaken() -> Refusal {
    Refusal::new(Code::Conflict, "others publish all the time; try again")
}

fn not_believed() -> Refusal {
    Refusal::new(
        Code::ReleaseInvalid,
        "hosts believe nothing of this registry now, so nothing can be published: its owner sees why with `sentinel registry status`",
    )
}

fn never_set_up() -> Refusal {
    Refusal::new(
        Code::ReleaseInvalid,
        "this registry has no root and no publishers yet: whoever runs it begins with `sentinel registry init`",
    )
}

fn no_keys() -> Refusal {
    Refusal::new(
        Code::ReleaseInvalid,
        "this instance has no online keys, so nothing can be published here: whoever runs it gives it those that `sentinel registry init` made",
    )
}
