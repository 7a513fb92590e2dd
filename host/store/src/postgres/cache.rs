//! What a process remembers of the database: columns of batches, and shapes. Neither ever
//! changes under its key, so what is remembered is right; that something still is there, the
//! database says.

use crate::samples::tail::{Decoded, Shape};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// A batch and its shape: one that was packed in part has another shape.
pub(super) type Key = (i64, i64);

/// Columns of batches, the newest up to a bound of samples.
pub(super) struct Cache {
    batches: HashMap<Key, Arc<Decoded>>,
    order: VecDeque<Key>,
    samples: usize,
    bound: usize,
    shapes: HashMap<i64, Arc<Shape>>,
    shape_rows: usize,
    shape_bound: usize,
}

impl Cache {
    /// Bounds in samples, and in bytes of shapes.
    pub(super) fn new(bound: usize, shape_bytes: usize) -> Self {
        Self {
            batches: HashMap::new(),
            order: VecDeque::new(),
            samples: 0,
            bound,
            shapes: HashMap::new(),
            shape_rows: 0,
            shape_bound: shape_bytes / 16,
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<Arc<Decoded>> {
        self.batches.get(&key).map(Arc::clone)
    }

    /// The batches that came last, up to so many.
    pub(super) fn newest(&self, count: usize) -> Vec<i64> {
        self.order.iter().rev().take(count).map(|key| key.0).collect()
    }

    pub(super) fn put(&mut self, key: Key, data: Arc<Decoded>) {
        let rows = data.values.len();
        if self.batches.insert(key, data).is_none() {
            self.order.push_back(key);
            self.samples += rows;
        }
        while self.samples > self.bound
            && let Some(oldest) = self.order.pop_front()
        {
            self.samples -= self.batches.remove(&oldest).map_or(0, |data| data.values.len());
        }
    }

    pub(super) fn shape(&self, row: i64) -> Option<Arc<Shape>> {
        self.shapes.get(&row).map(Arc::clone)
    }

    pub(super) fn put_shape(&mut self, row: i64, shape: &Arc<Shape>) {
        if self.shape_rows > self.shape_bound {
            self.shapes.clear();
            self.shape_rows = 0;
        }
        self.shape_rows += shape.ids.len();
        self.shapes.insert(row, Arc::clone(shape));
    }

    /// Forgets batches that are packed.
    pub(super) fn forget(&mut self, ids: &[i64]) {
        self.order.retain(|key| {
            let is_gone = ids.binary_search(&key.0).is_ok();
            if is_gone {
                self.samples -= self.batches.remove(key).map_or(0, |data| data.values.len());
            }
            !is_gone
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::tail::Times;

    #[test]
    fn the_oldest_go_first_and_what_is_packed_goes_at_once() {
        let data = || Arc::new(Decoded { times: Times::One(1), values: vec![0.0; 10].into() });
        let mut cache = Cache::new(30, 0);
        for id in 1..=4 {
            cache.put((id, 1), data());
            cache.put((id, 1), data());
        }
        let has = |cache: &Cache| (1..=5).filter(|id| cache.get((*id, 1)).is_some()).collect();
        let left: Vec<i64> = has(&cache);
        assert_eq!((left, cache.samples), (vec![2, 3, 4], 30));
        assert!(cache.get((4, 2)).is_none());
        cache.forget(&[2, 3]);
        cache.put((5, 1), data());
        let left: Vec<i64> = has(&cache);
        assert_eq!((left, cache.samples, cache.order.len()), (vec![4, 5], 20, 2));
        assert_eq!((cache.newest(1), cache.newest(9)), (vec![5], vec![5, 4]));
    }
}
