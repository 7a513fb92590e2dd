//! What is killed when: drawn from a seed, so that the same seed gives the same schedule.

use rand::seq::IndexedRandom as _;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Duration;

/// One blow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// How long after the one before is over.
    pub after: Duration,
    /// Who is killed, all at once.
    pub victims: Vec<String>,
    /// How long they stay dead.
    pub down: Duration,
}

/// Strikes for so long.
///
/// # Panics
/// Where there is nobody to kill.
#[must_use]
pub fn strikes(seed: u64, victims: &[&str], lasts: Duration) -> Vec<Strike> {
    let mut lot = StdRng::seed_from_u64(seed);
    let mut strikes = Vec::new();
    let mut at = Duration::ZERO;
    while at < lasts {
        let after = Duration::from_millis(lot.random_range(0..1_500));
        let down = Duration::from_millis(lot.random_range(0..1_500));
        // Mostly one, now and then several that need each other.
        let many = [1, 1, 1, 2, 3].choose(&mut lot).copied().expect("not empty");
        let many = many.min(victims.len());
        let chosen = victims.sample(&mut lot, many).map(|&name| name.to_owned()).collect();
        strikes.push(Strike { after, victims: chosen, down });
        at += after + down;
    }
    strikes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_schedule_again_and_everybody_is_struck() {
        let names = ["a", "b", "c", "d"];
        let minute = Duration::from_secs(60);
        for seed in 0..20 {
            let drawn = strikes(seed, &names, minute);
            assert_eq!(drawn, strikes(seed, &names, minute));
            for name in names {
                assert!(
                    drawn.iter().any(|strike| strike.victims.iter().any(|v| v == name)),
                    "{seed}: {name}"
                );
            }
        }
        assert_ne!(strikes(1, &names, minute), strikes(2, &names, minute));
    }
}
