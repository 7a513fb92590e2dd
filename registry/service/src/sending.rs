//! Places of uploads that send: few, since each takes memory, and never all of them one
//! token's, however slowly it sends.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::access::Identity;
use crate::refusal::Refusal;

/// The places.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    most: usize,
    taken: Arc<Mutex<HashMap<String, usize>>>,
}

/// One place; free again once this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    token: String,
}

impl Places {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// Takes a place, if there is one for whoever asks.
    pub(crate) fn take(&self, who: &Identity) -> Result<Place, Refusal> {
        let token = match who {
            Identity::Holder(token) => token.id.clone(),
            Identity::Anonymous => String::new(),
        };
        let mut taken = self.taken.lock();
        let own = taken.get(&token).copied().unwrap_or(0);
        if own >= self.most.div_ceil(2) {
            return Err(Refusal::too_many("too many uploads with this token are under way"));
        }
        if taken.values().sum::<usize>() >= self.most {
            return Err(Refusal::too_many("too many uploads are under way"));
        }
        taken.insert(token.clone(), own + 1);
        drop(taken);
        Ok(Place { places: self.clone(), token })
    }

    /// How many are taken.
    pub(crate) fn under_way(&self) -> usize {
        self.taken.lock().values().sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        if let Some(own) = taken.get_mut(&self.token) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn one_token_never_has_every_place() {
        let store = Store::new(Arc::new(InMemory::new()));
        let mut tokens = Vec::new();
        for _ in 0..3 {
            tokens.push(Identity::Holder(store.create_token(None, 0).await.unwrap().0));
        }
        let places = Places::new(4);
        let mut held: Vec<_> = (0..2).map(|_| places.take(&tokens[0]).unwrap()).collect();
        assert!(places.take(&tokens[0]).is_err(), "half of them is the most");
        held.extend((0..2).map(|_| places.take(&tokens[1]).unwrap()));
        assert!(places.take(&tokens[2]).is_err(), "all are taken");
        assert_eq!(places.under_way(), 4);
        held.remove(0);
        held.push(places.take(&tokens[2]).unwrap());
        drop(held);
        assert!(places.taken.lock().is_empty());
    }
}
