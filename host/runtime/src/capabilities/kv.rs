//! Bounded state of a slot, written together with the result of a call.
//!
//! A call gets a [`KvView`] over the slot's [`KvState`]. Its writes are staged in the view:
//! they are taken when the call succeeds, stored in the log record of the call's batch, and
//! only then applied to the state; a call that fails drops its view and has changed nothing.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 128;
/// Longest value, in bytes (64 KiB).
pub const MAX_VALUE_BYTES: usize = 64 << 10;
/// Most keys that one `keys` answers.
pub const MAX_KEYS: usize = 1_000;

/// One write: a value, or nothing where the key was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvWrite {
    /// The key.
    pub key: String,
    /// Its value from now on; nothing removes it.
    pub value: Option<Vec<u8>>,
}

/// Why a write was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The key or the value is too long.
    #[error("a key has at most {MAX_KEY_BYTES} bytes and a value at most {MAX_VALUE_BYTES}")]
    TooLarge,
    /// The slot's whole state would pass the grant.
    #[error("the slot's state would pass its grant; raise `kv.max_bytes` or store less")]
    Full,
}

/// Everything that a slot keeps. Size is the sum of key and value bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KvState {
    entries: BTreeMap<String, Vec<u8>>,
    bytes: u64,
}

fn size(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

impl KvState {
    /// Applies writes in their order: those of a call once its record is in the log, or those
    /// of the log when it is read again.
    pub fn apply(&mut self, writes: impl IntoIterator<Item = KvWrite>) {
        for KvWrite { key, value } in writes {
            if let Some(old) = self.entries.remove(&key) {
                self.bytes -= size(&key, &old);
            }
            if let Some(value) = value {
                self.bytes += size(&key, &value);
                self.entries.insert(key, value);
            }
        }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.entries.get(key).map(Vec::as_slice)
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keys and values in order of keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }
}

/// A call's view of its slot's state, with the call's own writes over it.
#[derive(Debug)]
pub struct KvView {
    state: Arc<KvState>,
    staged: BTreeMap<String, Option<Vec<u8>>>,
    bytes: u64,
    max_bytes: u64,
}

impl KvView {
    /// A view without writes yet, under a grant of so many bytes.
    #[must_use]
    pub fn new(state: Arc<KvState>, max_bytes: u64) -> Self {
        let bytes = state.bytes();
        Self { state, staged: BTreeMap::new(), bytes, max_bytes }
    }

    /// The value of a key, the call's own writes included.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        match self.staged.get(key) {
            Some(staged) => staged.as_deref(),
            None => self.state.get(key),
        }
    }

    /// Sets a key. A state that is already above its grant (the grant was lowered) takes
    /// writes that make it smaller.
    ///
    /// # Errors
    /// [`KvError`]; the state is then as before.
    pub fn set(&mut self, key: &str, value: Vec<u8>) -> Result<(), KvError> {
        if key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES {
            return Err(KvError::TooLarge);
        }
        let old = self.get(key).map_or(0, |old| size(key, old));
        let bytes = self.bytes - old + size(key, &value);
        if bytes > self.max_bytes && bytes > self.bytes {
            return Err(KvError::Full);
        }
        self.bytes = bytes;
        self.stage(key, Some(value));
        Ok(())
    }

    /// Removes a key; nothing happens where there is none.
    pub fn delete(&mut self, key: &str) {
        if let Some(old) = self.get(key) {
            self.bytes -= size(key, old);
            self.stage(key, None);
        }
    }

    /// A write that leaves a key as the state has it needs no place in the log.
    fn stage(&mut self, key: &str, value: Option<Vec<u8>>) {
        if self.state.get(key) == value.as_deref() {
            self.staged.remove(key);
        } else {
            self.staged.insert(key.to_owned(), value);
        }
    }

    /// Keys that start with `prefix`, sorted, at most [`MAX_KEYS`], the call's own writes
    /// included.
    #[must_use]
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let from = |key: &&String| key.starts_with(prefix);
        let mut kept = self
            .state
            .entries
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(from)
            .filter(|key| !self.staged.contains_key(*key))
            .peekable();
        let mut set = self
            .staged
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, value)| value.is_some().then_some(key))
            .peekable();
        let mut keys = Vec::new();
        while keys.len() < MAX_KEYS {
            let next = match (kept.peek(), set.peek()) {
                (Some(a), Some(b)) if a < b => kept.next(),
                (Some(_), None) => kept.next(),
                (_, Some(_)) => set.next(),
                (None, None) => break,
            };
            keys.extend(next.cloned());
        }
        keys
    }

    /// The call's writes, in order of keys, each key once: what belongs into the record of a
    /// call that succeeded. A view that is dropped instead has changed nothing.
    #[must_use]
    pub fn into_writes(self) -> Vec<KvWrite> {
        self.staged.into_iter().map(|(key, value)| KvWrite { key, value }).collect()
    }

    /// As [`KvView::into_writes`], leaving an empty view of the same, unchanged state.
    #[must_use]
    pub fn take_writes(&mut self) -> Vec<KvWrite> {
        let state = Arc::clone(&self.state);
        std::mem::replace(self, Self::new(state, self.max_bytes)).into_writes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state(entries: &[(&str, &[u8])]) -> Arc<KvState> {
        let mut state = KvState::default();
        state.apply(
            entries
                .iter()
                .map(|(key, value)| KvWrite { key: (*key).into(), value: Some(value.to_vec()) }),
        );
        Arc::new(state)
    }

    #[test]
    fn a_call_sees_its_own_writes_and_the_state_does_not() {
        let before = state(&[("a", b"1"), ("b", b"2")]);
        let mut view = KvView::new(Arc::clone(&before), 1_000);
        view.set("c", b"3".to_vec()).unwrap();
        view.set("a", b"4".to_vec()).unwrap();
        view.delete("b");
        view.delete("never");
        assert_eq!(view.get("a"), Some(&b"4"[..]));
        assert_eq!(view.get("b"), None);
        assert_eq!(view.keys(""), ["a", "c"]);
        assert_eq!((before.get("a"), before.get("c")), (Some(&b"1"[..]), None));
        let writes = view.take_writes();
        assert_eq!(view.get("a"), Some(&b"1"[..]));
        let mut after = KvState::clone(&before);
        after.apply(writes);
        assert_eq!(after, *state(&[("a", b"4"), ("c", b"3")]));
    }

    #[test]
    fn writes_that_change_nothing_are_not_kept() {
        let mut view = KvView::new(state(&[("a", b"1")]), 1_000);
        view.set("a", b"1".to_vec()).unwrap();
        view.set("b", b"2".to_vec()).unwrap();
        view.delete("b");
        assert_eq!(view.into_writes(), []);
    }

    #[test]
    fn writes_beyond_the_bounds_are_refused_and_change_nothing() {
        let mut view = KvView::new(state(&[("a", &[0; 50])]), 100);
        let key = "k".repeat(MAX_KEY_BYTES + 1);
        for (key, bytes, expected) in [
            (key.as_str(), 1, Err(KvError::TooLarge)),
            ("v", MAX_VALUE_BYTES + 1, Err(KvError::TooLarge)),
            ("b", 49, Err(KvError::Full)),
            ("b", 48, Ok(())),
            ("c", 0, Err(KvError::Full)),
            ("a", 50, Ok(())),
            ("a", 51, Err(KvError::Full)),
        ] {
            assert_eq!(view.set(key, vec![0; bytes]), expected, "{} {bytes}", key.len());
        }
        assert_eq!(view.keys(""), ["a", "b"]);
        assert_eq!(view.get("a").map(<[u8]>::len), Some(50));
    }

    #[test]
    fn a_state_above_a_lowered_grant_can_still_shrink() {
        let mut view = KvView::new(state(&[("a", &[0; 500])]), 100);
        assert_eq!(view.set("b", vec![]), Err(KvError::Full));
        assert_eq!(view.set("a", vec![0; 400]), Ok(()));
        view.delete("a");
        assert_eq!(view.set("b", vec![0; 99]), Ok(()));
    }

    #[test]
    fn at_most_a_thousand_keys_are_listed() {
        let mut view = KvView::new(Arc::default(), 1 << 20);
        for i in 0..2 * MAX_KEYS {
            view.set(&format!("k{i:05}"), vec![]).unwrap();
        }
        assert_eq!(view.keys("k").len(), MAX_KEYS);
        assert_eq!(
            view.keys("k0199"),
            (1990..2000).map(|i| format!("k{i:05}")).collect::<Vec<_>>()
        );
        assert!(view.keys("z").is_empty());
    }

    proptest! {
        #[test]
        fn a_view_behaves_as_a_plain_map_under_a_bound(
            base in proptest::collection::btree_map("[ab]{0,2}", proptest::collection::vec(any::<u8>(), 0..6), 0..5),
            steps in proptest::collection::vec(("[ab]{0,2}", proptest::option::of(0usize..12)), 0..20),
        ) {
            let mut first = KvState::default();
            first.apply(base.iter().map(|(k, v)| KvWrite { key: k.clone(), value: Some(v.clone()) }));
            let mut model = base.clone();
            let mut view = KvView::new(Arc::new(first.clone()), 30);
            let weigh = |map: &BTreeMap<String, Vec<u8>>| map.iter().map(|(k, v)| size(k, v)).sum::<u64>();
            for (key, value) in steps {
                match value {
                    None => { model.remove(&key); view.delete(&key); }
                    Some(length) => {
                        let mut next = model.clone();
                        next.insert(key.clone(), vec![7; length]);
                        let fits = weigh(&next) <= 30 || weigh(&next) <= weigh(&model);
                        prop_assert_eq!(view.set(&key, vec![7; length]).is_ok(), fits);
                        if fits { model = next; }
                    }
                }
                prop_assert_eq!(view.keys(""), model.keys().cloned().collect::<Vec<_>>());
                prop_assert_eq!(view.keys("a"), model.keys().filter(|k| k.starts_with('a')).cloned().collect::<Vec<_>>());
                prop_assert_eq!(view.get(&key), model.get(&key).map(Vec::as_slice));
            }
            first.apply(view.into_writes());
            prop_assert_eq!(first.bytes(), weigh(&model));
            prop_assert_eq!(first.entries, model);
        }
    }
}
