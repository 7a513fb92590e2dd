//! What need not be asked of the store for every pull: small blobs that were checked against
//! their digest, and for a moment which repository has which. What a digest means never
//! changes, so no blob here can be out of date; a link is looked up again once a second.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use sentinel_trust::Digest;

use crate::names::Repository;

/// Most bytes that are kept.
const MAX_BYTES: usize = 64 << 20;
/// Most blobs that are kept.
const MAX_BLOBS: usize = 1_000;

/// How long a link that was seen counts, in milliseconds.
const LINK_MS: i64 = 1_000;
/// Most links that are remembered.
const MAX_LINKS: usize = 10_000;

/// Which repository was seen to have which blob, and when (unix milliseconds).
#[derive(Default)]
pub(crate) struct Links(RwLock<HashMap<Digest, HashMap<Repository, i64>>>);

impl Links {
    /// Whether the repository was seen to have the blob a moment before `now`.
    pub(crate) fn has(&self, repository: &Repository, digest: &Digest, now: i64) -> bool {
        let seen = self.0.read();
        let seen = seen.get(digest).and_then(|of| of.get(repository));
        seen.is_some_and(|seen| (0..LINK_MS).contains(&now.saturating_sub(*seen)))
    }

    /// Remembers that the repository had the blob at `now`.
    pub(crate) fn saw(&self, repository: &Repository, digest: Digest, now: i64) {
        let mut seen = self.0.write();
        // What is old is worth nothing; what is new is soon seen again.
        if seen.values().map(HashMap::len).sum::<usize>() >= MAX_LINKS {
            seen.clear();
        }
        seen.entry(digest).or_default().insert(repository.clone(), now);
    }

    /// The repository has the blob no longer.
    pub(crate) fn forget(&self, repository: &Repository, digest: &Digest) {
        if let Some(of) = self.0.write().get_mut(digest) {
            of.remove(repository);
        }
    }
}

#[derive(Default)]
struct Kept {
    blobs: HashMap<Digest, (Bytes, u64)>,
    bytes: usize,
    /// Counts uses; the smallest is the longest ago.
    uses: u64,
}

/// Checked blobs.
#[derive(Default)]
pub(crate) struct BlobCache(Mutex<Kept>);

impl BlobCache {
    pub(crate) fn get(&self, digest: &Digest) -> Option<Bytes> {
        let mut kept = self.0.lock();
        kept.uses += 1;
        let uses = kept.uses;
        let (bytes, used) = kept.blobs.get_mut(digest)?;
        *used = uses;
        Some(bytes.clone())
    }

    /// Keeps a blob whose digest was checked.
    pub(crate) fn put(&self, digest: Digest, bytes: Bytes) {
        let mut kept = self.0.lock();
        kept.uses += 1;
        let uses = kept.uses;
        kept.bytes += bytes.len();
        if let Some((before, _)) = kept.blobs.insert(digest, (bytes, uses)) {
            kept.bytes -= before.len();
        }
        while kept.bytes > MAX_BYTES || kept.blobs.len() > MAX_BLOBS {
            let oldest = kept.blobs.iter().min_by_key(|(_, (_, used))| *used).map(|(d, _)| *d);
            let Some((bytes, _)) = oldest.and_then(|digest| kept.blobs.remove(&digest)) else {
                return;
            };
            kept.bytes -= bytes.len();
        }
    }

    pub(crate) fn remove(&self, digest: &Digest) {
        let mut kept = self.0.lock();
        if let Some((bytes, _)) = kept.blobs.remove(digest) {
            kept.bytes -= bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_counts_for_a_second_and_not_after_it_was_taken_away() {
        let links = Links::default();
        let (a, b): (Repository, Repository) = ("a".parse().unwrap(), "b".parse().unwrap());
        let digest = Digest::from_bytes([1; 32]);
        links.saw(&a, digest, 5_000);
        for (now, has) in [(4_999, false), (5_000, true), (5_999, true), (6_000, false)] {
            assert_eq!(links.has(&a, &digest, now), has, "{now}");
        }
        assert!(!links.has(&b, &digest, 5_000));
        assert!(!links.has(&a, &Digest::from_bytes([2; 32]), 5_000));
        links.forget(&a, &digest);
        assert!(!links.has(&a, &digest, 5_000));
        for n in 0..=MAX_LINKS {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            links.saw(&b, Digest::from_bytes(bytes), 5_000);
        }
        assert!(links.0.read().len() <= MAX_LINKS);
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_the_bytes_stay_bounded() {
        let cache = BlobCache::default();
        let digest = |n: u8| Digest::from_bytes([n; 32]);
        let blob = |n: u8| Bytes::from(vec![n; MAX_BYTES / 4]);
        for n in 0..4 {
            cache.put(digest(n), blob(n));
        }
        assert!(cache.get(&digest(0)).is_some());
        cache.put(digest(4), blob(4));
        assert!(cache.get(&digest(1)).is_none(), "the one not used since");
        assert!(cache.get(&digest(0)).is_some());
        cache.put(digest(4), Bytes::new());
        cache.remove(&digest(0));
        let kept = cache.0.lock();
        assert_eq!(kept.bytes, kept.blobs.values().map(|(bytes, _)| bytes.len()).sum::<usize>());
    }
}
