//! Which of the sets that are offered count.

use super::{Again, Effect, Known, Machine, said};

impl Machine {
    pub(super) fn offered(&mut self, now: i64, sealed: &[u8]) -> Vec<Effect> {
        let set = match Known::open(sealed, &self.memory.operators) {
            Ok(set) => set,
            Err(why) => return self.not_believed(0, why.to_string()),
        };
        let (number, highest) = (set.number(), self.highest());
        if number < highest {
            let why = format!(
                "the desired set {number} was offered again and this host already has {highest}; a set that was replaced never comes back under its number"
            );
            return self.not_believed(number, why);
        }
        if number == highest {
            let same =
                [&self.memory.newest, &self.memory.good].into_iter().flatten().any(|known| {
                    known.number() == number && known.sealed().set() == set.sealed().set()
                });
            if same {
                return vec![Effect::LeaveCarrier];
            }
            let why = format!(
                "there are two desired sets with number {number}, and this host had the other first; a change of it has a higher number"
            );
            return self.not_believed(number, why);
        }
        self.memory.newest = Some(set);
        (self.refused, self.unbelieved) = (None, None);
        self.apply = Again { due: Some(now), failures: 0 };
        // First: an operator's stop waits for nothing, not even for the disk.
        let mut effects: Vec<Effect> = self.stop().into_iter().collect();
        effects.push(self.save());
        if self.busy.is_some() {
            effects.push(Effect::Hurry);
        }
        effects
    }

    fn not_believed(&mut self, number: u64, why: String) -> Vec<Effect> {
        tracing::warn!(number, why, "a desired set that was offered does not count");
        self.unbelieved = Some(said(number, &why));
        vec![Effect::LeaveCarrier]
    }
}
