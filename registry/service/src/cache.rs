//! Small blobs that were checked against their digest, kept in memory. What a digest means
//! never changes, so nothing here can be out of date.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;
use sentinel_trust::Digest;

/// Most bytes that are kept.
const MAX_BYTES: usize = 64 << 20;
/// Most blobs that are kept.
const MAX_BLOBS: usize = 1_000;

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
