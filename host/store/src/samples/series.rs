//! All series in memory: from a row to its id, and from a selector to series.
//!
//! A series that has no samples any more is removed, and its texts with it. Its id is given to
//! another one only after the next opening: until then questions, windows and caches may know it.

use super::hash::{Hashed, RowHasher, SymbolHash};
use crate::StoreError;
use crate::query::SeriesInfo;
use hashbrown::HashMap;
use sentinel_model::batch::Batch;
use sentinel_model::series::{Labels, Selector, SeriesKey};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Ids are 1 to this: 24 bits, as the key of a chunk has them.
pub(crate) const MAX_SERIES_ID: u32 = (1 << 24) - 1;
/// The most names that one question answers.
const MAX_NAMES: usize = 10_000;

/// A series that a transaction is about to add.
pub(crate) struct NewSeries {
    hash: u128,
    pub(crate) id: u32,
    pub(crate) key: SeriesKey,
    pub(crate) kind: u8,
}

/// What a transaction will have changed when it is committed; dropped where it is not.
#[derive(Default)]
pub(crate) struct Pending {
    /// Where in `new` a row's series is.
    places: HashMap<u128, usize, Hashed>,
    /// With the ids that are given next, in their order.
    pub(crate) new: Vec<NewSeries>,
    /// Series whose kind is another now.
    pub(crate) kinds: BTreeMap<u32, u8>,
}

struct Entry {
    /// Empty where there is no series with this id.
    name: Arc<str>,
    labels: Box<[(u32, u32)]>,
    kind: u8,
    /// As in the database.
    seen: i64,
}

impl Entry {
    fn none() -> Self {
        Self { name: "".into(), labels: [].into(), kind: 0, seen: 0 }
    }
}

/// A label's key or value, and how often it is used.
struct Text {
    text: Arc<str>,
    hash: SymbolHash,
    uses: usize,
}

/// All series.
pub(crate) struct Registry {
    hasher: RowHasher,
    /// Id in the lower 24 bits, kind above.
    ids: HashMap<u128, u32, Hashed>,
    /// By id - 1.
    entries: Vec<Entry>,
    names: BTreeMap<Arc<str>, Vec<u32>>,
    texts: Vec<Text>,
    text_ids: HashMap<Arc<str>, u32>,
    /// Places in `texts` that nothing uses.
    free_texts: Vec<u32>,
    /// Ids below the highest that had no series when the database was opened.
    free: VecDeque<u32>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            hasher: RowHasher::new(),
            ids: HashMap::default(),
            entries: Vec::new(),
            names: BTreeMap::new(),
            texts: Vec::new(),
            text_ids: HashMap::new(),
            free_texts: Vec::new(),
            free: VecDeque::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The id of a new series, when `before` others are new before it.
    fn new_id(&self, before: usize) -> u32 {
        match self.free.get(before) {
            Some(&id) => id,
            None => (self.entries.len() + 1 + before - self.free.len()) as u32,
        }
    }

    /// The series of each row; new ones get ids that are good if `pending` is published.
    pub(crate) fn resolve(
        &self,
        batch: &Batch,
        pending: &mut Pending,
    ) -> Result<Vec<u32>, StoreError> {
        let count = batch.symbol_ends.len() as u32;
        let symbols: Vec<SymbolHash> =
            (0..count).map(|i| self.hasher.symbol(batch.symbol(i))).collect();
        let mut out = Vec::with_capacity(batch.len());
        for row in 0..batch.len() {
            let labels = batch.label_symbols(row).chunks_exact(2);
            let pairs = labels.map(|p| (symbols[p[0] as usize], symbols[p[1] as usize]));
            let hash = self.hasher.row(symbols[batch.name[row] as usize], pairs);
            let kind = batch.kind[row];
            let id = match self.ids.get(&hash) {
                Some(&found) => {
                    let id = found & MAX_SERIES_ID;
                    if (found >> 24) as u8 != kind {
                        pending.kinds.insert(id, kind);
                    } else if !pending.kinds.is_empty() {
                        // Another of the same commit had it otherwise: the last one counts.
                        pending.kinds.remove(&id);
                    }
                    id
                }
                None => self.pending_id(hash, batch, row, pending)?,
            };
            out.push(id);
        }
        Ok(out)
    }

    #[cold]
    fn pending_id(
        &self,
        hash: u128,
        batch: &Batch,
        row: usize,
        pending: &mut Pending,
    ) -> Result<u32, StoreError> {
        if let Some(new) = pending.places.get(&hash).and_then(|&at| pending.new.get_mut(at)) {
            new.kind = batch.kind[row];
            return Ok(new.id);
        }
        let id = self.new_id(pending.new.len());
        if id > MAX_SERIES_ID {
            return Err(StoreError::Conflict(format!(
                "the store has had {MAX_SERIES_ID} series since it was opened and takes no more; \
                 find the label with too many values among those of {:?} and drop it in a \
                 transform, then restart to use the ids of series that are gone",
                batch.row(row).name()
            )));
        }
        let row = batch.row(row);
        let key = SeriesKey { name: row.name().to_owned(), labels: row.labels().collect() };
        pending.places.insert(hash, pending.new.len());
        pending.new.push(NewSeries { hash, id, key, kind: row.kind() as u8 });
        Ok(id)
    }

    /// Takes over what a committed transaction added.
    pub(crate) fn publish(&mut self, pending: Pending, seen: i64) {
        for (id, kind) in pending.kinds {
            if let Some(entry) = self.entries.get_mut(id as usize - 1) {
                entry.kind = kind;
                let hash = self.hash_of(&self.entries[id as usize - 1]);
                self.ids.insert(hash, id | u32::from(kind) << 24);
            }
        }
        for new in pending.new {
            if self.free.front() == Some(&new.id) {
                self.free.pop_front();
            }
            let labels = new.key.labels.iter();
            let labels = labels.map(|(k, v)| (self.intern(k), self.intern(v))).collect();
            self.insert(
                new.id,
                new.hash,
                Entry { name: self.name(&new.key.name), labels, kind: new.kind, seen },
            );
        }
    }

    /// Adds a series read from the database, in order of ids; its labels in order of keys.
    pub(crate) fn load<'a>(
        &mut self,
        id: u32,
        name: &str,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        (kind, seen): (u8, i64),
    ) {
        while self.entries.len() + 1 < id as usize {
            self.entries.push(Entry::none());
            self.free.push_back(self.entries.len() as u32);
        }
        let labels = labels.map(|(k, v)| (self.intern(k), self.intern(v))).collect();
        let entry = Entry { name: self.name(name), labels, kind, seen };
        self.insert(id, self.hash_of(&entry), entry);
    }

    /// A name as it is kept.
    fn name(&self, name: &str) -> Arc<str> {
        self.names.get_key_value(name).map_or_else(|| name.into(), |(name, _)| Arc::clone(name))
    }

    fn insert(&mut self, id: u32, hash: u128, entry: Entry) {
        self.names.entry(Arc::clone(&entry.name)).or_default().push(id);
        if self.entries.len() < id as usize {
            self.entries.resize_with(id as usize, Entry::none);
        }
        self.ids.insert(hash, id | u32::from(entry.kind) << 24);
        self.entries[id as usize - 1] = entry;
    }

    fn intern(&mut self, text: &str) -> u32 {
        if let Some(&id) = self.text_ids.get(text) {
            self.texts[id as usize].uses += 1;
            return id;
        }
        let hash = self.hasher.symbol(text);
        let text = Arc::<str>::from(text);
        let one = Text { text: Arc::clone(&text), hash, uses: 1 };
        let id = match self.free_texts.pop() {
            Some(id) => {
                self.texts[id as usize] = one;
                id
            }
            None => {
                self.texts.push(one);
                self.texts.len() as u32 - 1
            }
        };
        self.text_ids.insert(text, id);
        id
    }

    fn release(&mut self, id: u32) {
        let text = &mut self.texts[id as usize];
        text.uses -= 1;
        if text.uses == 0 {
            let text = std::mem::replace(&mut text.text, "".into());
            self.text_ids.remove(&text);
            self.free_texts.push(id);
        }
    }

    /// Series last seen before a day, ascending.
    pub(crate) fn unseen(&self, day: i64) -> Vec<u32> {
        let entries = (1u32..).zip(&self.entries);
        entries.filter(|(_, e)| !e.name.is_empty() && e.seen < day).map(|(id, _)| id).collect()
    }

    /// Of some series those that were last seen before a day.
    pub(crate) fn unseen_of(&self, ids: impl Iterator<Item = u32>, day: i64) -> Vec<u32> {
        let seen = |id: &u32| self.entries.get(*id as usize - 1).map_or(i64::MAX, |e| e.seen);
        ids.filter(|id| seen(id) < day).collect()
    }

    /// Notes that series have samples of a day.
    pub(crate) fn saw(&mut self, ids: &[u32], day: i64) {
        for &id in ids {
            if let Some(entry) = self.entries.get_mut(id as usize - 1) {
                entry.seen = entry.seen.max(day);
            }
        }
    }

    /// Forgets series, given ascending.
    pub(crate) fn remove(&mut self, ids: &[u32]) {
        let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
        for &id in ids {
            let hash = self.hash_of(&self.entries[id as usize - 1]);
            self.ids.remove(&hash);
            let entry = std::mem::replace(&mut self.entries[id as usize - 1], Entry::none());
            for (key, value) in entry.labels {
                self.release(key);
                self.release(value);
            }
            names.insert(entry.name);
        }
        for name in names {
            if let Some(all) = self.names.get_mut(&name) {
                all.retain(|id| ids.binary_search(id).is_err());
                if all.is_empty() {
                    self.names.remove(&name);
                }
            }
        }
    }

    fn text(&self, id: u32) -> &str {
        &self.texts[id as usize].text
    }

    fn hash_of(&self, entry: &Entry) -> u128 {
        let symbol = |text: u32| self.texts[text as usize].hash;
        let pairs = entry.labels.iter().map(|&(k, v)| (symbol(k), symbol(v)));
        self.hasher.row(self.hasher.symbol(&entry.name), pairs)
    }

    /// Ids of the series that a selector selects, ascending.
    pub(crate) fn select(&self, selector: &Selector) -> Vec<u32> {
        let Some(ids) = self.names.get(selector.name.as_str()) else { return Vec::new() };
        let mut selected = ids.clone();
        for matcher in &selector.matchers {
            let Some(&key) = self.text_ids.get(matcher.label.as_str()) else {
                if !matcher.matches("") {
                    return Vec::new();
                }
                continue;
            };
            // Each distinct value is compared once; u32::MAX stands for an absent label.
            let mut known: HashMap<u32, bool> = HashMap::new();
            selected.retain(|&id| {
                let labels = &self.entries[id as usize - 1].labels;
                let value = labels.iter().find(|l| l.0 == key).map_or(u32::MAX, |l| l.1);
                *known.entry(value).or_insert_with(|| {
                    matcher.matches(if value == u32::MAX { "" } else { self.text(value) })
                })
            });
        }
        selected.sort_unstable();
        selected
    }

    /// Whether there is a series with this id.
    pub(crate) fn has(&self, id: u32) -> bool {
        let entry = (id as usize).checked_sub(1).and_then(|at| self.entries.get(at));
        entry.is_some_and(|entry| !entry.name.is_empty())
    }

    /// What is known of a series.
    pub(crate) fn info(&self, id: u32) -> Option<SeriesInfo> {
        let entry = self.entries.get((id as usize).checked_sub(1)?)?;
        if entry.name.is_empty() {
            return None;
        }
        let labels: Labels =
            entry.labels.iter().map(|&(k, v)| (self.text(k), self.text(v))).collect();
        let key = SeriesKey { name: entry.name.to_string(), labels };
        Some(SeriesInfo { id, key, kind: entry.kind })
    }

    /// Names that start with a prefix, sorted.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        self.names
            .range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(prefix))
            .take(MAX_NAMES)
            .map(|(name, _)| name.to_string())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, value: &str) -> SeriesKey {
        SeriesKey { name: name.into(), labels: [("l", value)].into_iter().collect() }
    }

    #[test]
    fn what_is_removed_takes_its_texts_and_its_name_with_it() {
        let mut registry = Registry::new();
        for (id, name, value) in [(1, "a", "x"), (2, "a", "y"), (3, "b", "y")] {
            registry.load(id, name, [("l", value)].into_iter(), (0, 5));
        }
        assert_eq!((registry.unseen(5), registry.unseen(6)), (vec![], vec![1, 2, 3]));
        registry.saw(&[2], 9);
        assert_eq!(registry.unseen(6), [1, 3]);
        registry.remove(&[1, 3]);
        assert_eq!((registry.len(), registry.names("")), (1, vec!["a".to_owned()]));
        assert!(registry.info(1).is_none() && registry.info(3).is_none());
        assert_eq!(registry.info(2).unwrap().key, key("a", "y"));
        let used: Vec<_> = registry.texts.iter().map(|t| (&*t.text, t.uses)).collect();
        assert_eq!(used, [("l", 1), ("", 0), ("y", 1)]);
        assert_eq!(registry.select(&"a{l=\"y\"}".parse().unwrap()), [2]);
    }

    #[test]
    fn ids_of_series_that_are_gone_are_given_again_after_the_next_opening_only() {
        let mut registry = Registry::new();
        registry.load(2, "a", [("l", "x")].into_iter(), (0, 5));
        registry.load(5, "a", [("l", "y")].into_iter(), (0, 5));
        let ids = |registry: &Registry| (0..5).map(|n| registry.new_id(n)).collect::<Vec<_>>();
        assert_eq!(ids(&registry), [1, 3, 4, 6, 7]);
        registry.remove(&[2]);
        assert_eq!(ids(&registry), [1, 3, 4, 6, 7]);
    }
}
