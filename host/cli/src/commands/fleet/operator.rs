//! An operator: a key, and beside it what the operator knows of the fleet.
//!
//! | file | what |
//! |---|---|
//! | `operator.key` | the secret key, 0600 |
//! | `operator.fleet` | which fleet, whose keys decide, the newest set that was seen: JSON, 0600 |
//! | `operator.fleet.lock` | one command at a time |
//!
//! The newest set that was seen is what makes a server that shows an older one fail: it is
//! durable before anything is decided by a set, and it never goes back. A state that cannot be
//! read is an error, never a new beginning.

use std::path::{Path, PathBuf};

use sentinel_files::{Lock, read_private};
use sentinel_trust::fleet::{DesiredSet, FleetId, Operators, SET_FORMAT, Unopened, open};
use sentinel_trust::repository::{KeyPurpose, RoleKey};
use sentinel_trust::{Digest, PublicKey};
use serde::{Deserialize, Serialize};

use crate::commands::reach::role_key;
use crate::failure::Failure;
use crate::files;

/// The format of the state.
const STATE_FORMAT: u32 = 1;
/// Most bytes of the state.
const MAX_STATE_BYTES: usize = 64 << 10;
/// Most operators of a fleet.
pub(super) const MAX_OPERATORS: usize = 16;

/// An operator whose key is at hand.
pub(crate) struct Operator {
    key: RoleKey,
    file: PathBuf,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    format: u32,
    /// Which fleet.
    fleet: FleetId,
    /// Whose sets are believed, this operator's own among them.
    operators: Vec<PublicKey>,
    /// The newest set that was seen.
    seen: Seen,
}

/// A set that was seen: two of one number are one too many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    /// 0 before the first.
    number: u64,
    /// Of its content; absent where an operator set the number back by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
}

impl Operator {
    /// Makes a key for a new fleet, or for one that others operate.
    ///
    /// # Errors
    /// A key or a state that is there already: neither is overwritten.
    pub(crate) fn create(
        key_file: &Path,
        fleet: Option<FleetId>,
        others: Vec<PublicKey>,
    ) -> Result<Self, Failure> {
        let file = state_file(key_file);
        for there in [key_file, &file] {
            if there.exists() {
                return Err(Failure::new(format!(
                    "{} is there already and was left as it is",
                    there.display()
                ))
                .hint("give another file with --key, or move that one away"));
            }
        }
        let fleet = match fleet {
            Some(fleet) => fleet,
            None => fresh_id()?,
        };
        let key = RoleKey::generate(KeyPurpose::Operator)?;
        let mut operators = vec![key.public()];
        operators.extend(others);
        let state = State { format: STATE_FORMAT, fleet, operators, seen: Seen::default() };
        // The key last: a state without a key is of use to nobody, and the other way round it
        // would be an operator who does not know what was seen.
        files::create(&file, &state.to_json(), 0o600)?;
        files::create(key_file, key.to_file_text().as_bytes(), 0o600)?;
        Ok(Self { key, file, state })
    }

    /// An operator who was made before.
    ///
    /// # Errors
    /// A file that is missing, damaged, or that others may read.
    pub(crate) fn open(key_file: &Path) -> Result<Self, Failure> {
        if !key_file.exists() {
            return Err(Failure::new(format!("there is no operator's key {}", key_file.display()))
                .hint("make one with `sentinel fleet init`, or name it with --key"));
        }
        let key = role_key(key_file, KeyPurpose::Operator)?;
        let file = state_file(key_file);
        let state = State::read(&file)?;
        if !state.operators.contains(&key.public()) {
            return Err(Failure::new(format!(
                "{} does not name the key {} beside it",
                file.display(),
                key.id()
            ))
            .hint("they are of two operators: restore the pair that belongs together"));
        }
        Ok(Self { key, file, state })
    }

    /// The secret key.
    pub(super) const fn key(&self) -> &RoleKey {
        &self.key
    }

    /// The public half of the key.
    pub(super) fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// Whose sets count in this fleet.
    pub(crate) fn pins(&self) -> Operators {
        Operators { fleet: self.state.fleet, keys: self.state.operators.clone() }
    }

    /// Opens what a server shows as the newest set. It is seen from then on: durable when this
    /// returns. `None` is the empty set before the first.
    ///
    /// # Errors
    /// A set that no operator of this fleet signed, one that is older than what was seen, or
    /// another of the same number.
    pub(super) fn newest(&mut self, sealed: Option<&str>) -> Result<DesiredSet, Failure> {
        let set = match sealed {
            None => empty(self.state.fleet),
            Some(sealed) => self.open_any(sealed)?,
        };
        self.change(|state| state.see(&set))?;
        Ok(set)
    }

    /// Opens a set of the history, whichever it is.
    ///
    /// # Errors
    /// A set that no operator of this fleet signed.
    pub(super) fn open_any(&self, sealed: &str) -> Result<DesiredSet, Failure> {
        match open(sealed.as_bytes(), &self.pins(), 0) {
            Ok(opened) => Ok(opened.set().clone()),
            Err(error @ Unopened::Forged { .. }) => Err(Failure::new(format!("the server shows a set that is not to be believed: {error}"))
                .hint("if that key is another operator's of this fleet, believe it with `sentinel fleet operators --add KEY`")),
            Err(error) => Err(Failure::new(format!("the server shows a set that is not to be believed: {error}"))),
        }
    }

    /// Believes another operator too, or does not any more.
    ///
    /// # Errors
    /// This operator's own key cannot be taken away; bounds.
    pub(super) fn pin(&mut self, add: &[PublicKey], remove: &[PublicKey]) -> Result<(), Failure> {
        let own = self.key.public();
        self.change(|state| {
            if remove.contains(&own) {
                return Err(Failure::new("your own key cannot be taken away here")
                    .hint("another operator does that, with a key of its own"));
            }
            for key in remove {
                if !state.operators.contains(key) {
                    return Err(Failure::new(format!("{key} is no operator of this fleet")));
                }
                state.operators.retain(|one| one != key);
            }
            for key in add.iter().filter(|key| !remove.contains(key)) {
                if !state.operators.contains(key) {
                    state.operators.push(key.clone());
                }
            }
            if state.operators.len() > MAX_OPERATORS {
                return Err(Failure::new(format!(
                    "a fleet has at most {MAX_OPERATORS} operators, and these would be {}",
                    state.operators.len()
                )));
            }
            Ok(())
        })
    }

    /// Changes the state as it is on the disk now, whole or not at all.
    fn change(
        &mut self,
        change: impl FnOnce(&mut State) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut lock = self.file.clone().into_os_string();
        lock.push(".lock");
        let _lock = Lock::wait(Path::new(&lock)).map_err(|error| {
            Failure::new(format!("{} cannot be locked: {error}", self.file.display()))
        })?;
        let before = State::read(&self.file)?;
        let mut state = before.clone();
        change(&mut state)?;
        if state != before {
            files::replace(&self.file, &state.to_json(), 0o600)?;
        }
        self.state = state;
        Ok(())
    }
}

impl State {
    fn read(file: &Path) -> Result<Self, Failure> {
        let json = read_private(file, MAX_STATE_BYTES)?.ok_or_else(|| {
            Failure::new(format!(
                "{} is missing: nobody knows which sets were seen",
                file.display()
            ))
            .hint("restore it from where the key's copy is; a key without it decides nothing")
        })?;
        let damaged = |why: String| {
            Failure::new(format!("{} is damaged: {why}", file.display()))
                .hint("restore it from where the key's copy is; it is not begun anew")
        };
        let state: Self =
            serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
        if state.format != STATE_FORMAT {
            return Err(damaged(format!("its format is {} and not {STATE_FORMAT}", state.format)));
        }
        Ok(state)
    }

    fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("strings and numbers");
        json.push(b'\n');
        json
    }

    fn see(&mut self, set: &DesiredSet) -> Result<(), Failure> {
        let digest = (set.number > 0)
            .then(|| Digest::of(&serde_json::to_vec(set).expect("strings and numbers")));
        let now = Seen { number: set.number, digest };
        if now.number < self.seen.number {
            return Err(Failure::new(format!(
                "the server shows set {} as the newest, and {} was seen already: it is an old copy, or somebody withholds what was decided",
                now.number, self.seen.number
            ))
            .hint("nothing was changed; if its database was restored from a copy, registry/README.md says what to do"));
        }
        let other = self.seen.digest.is_some() && self.seen.digest != now.digest;
        if now.number == self.seen.number && other {
            return Err(Failure::new(format!(
                "the server shows a set {} that is another than the one seen before under that number",
                now.number
            ))
            .hint("nothing was changed; ask the other operators what they decided, and look at the server"));
        }
        self.seen = now;
        Ok(())
    }
}

/// The set before the first.
pub(super) fn empty(fleet: FleetId) -> DesiredSet {
    DesiredSet {
        format: SET_FORMAT,
        fleet,
        number: 0,
        made_at: 0,
        by: String::new(),
        note: String::new(),
        groups: Vec::new(),
    }
}

/// Where the state beside a key lies.
fn state_file(key_file: &Path) -> PathBuf {
    key_file.with_extension("fleet")
}

fn fresh_id() -> Result<FleetId, Failure> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|error| Failure::new(format!("the system gives no random bytes: {error}")))?;
    Ok(FleetId(id))
}

#[cfg(test)]
mod tests;
