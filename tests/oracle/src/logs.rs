//! What generators said: lines in the logs of agents, `counted: slot NAME has kept NUMBER`.
//!
//! The counter says it before it counts on, when what it made before is synced: that number is
//! the promise that the database is held to.

use crate::{Generator, Trouble};
use std::collections::BTreeMap;

const BEGINS: &str = "counted: slot ";
const KEPT: &str = " has kept ";

/// What was said last, by generator.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Logs {
    /// The last value that is synced.
    pub kept: BTreeMap<Generator, u64>,
    /// What is wrong in the logs alone.
    pub troubles: Vec<Trouble>,
}

impl Logs {
    /// Adds what an agent's log says, text or JSON, in the order in which it was said.
    pub fn add(&mut self, agent: &str, text: &str) {
        for (slot, kept) in text.lines().filter_map(said) {
            let generator = Generator { agent: agent.to_owned(), slot: slot.to_owned() };
            let before = self.kept.insert(generator.clone(), kept).unwrap_or(0);
            if kept < before {
                self.troubles.push(Trouble::Forgotten { generator, before, after: kept });
            }
        }
    }
}

/// Slot and number of a line that says them, cut lines left out: a process may be killed while
/// it writes one.
fn said(line: &str) -> Option<(&str, u64)> {
    let (_, rest) = line.split_once(BEGINS)?;
    let (slot, rest) = rest.split_once(KEPT)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    Some((slot, rest[..digits].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_one_that_takes_back_is_a_trouble() {
        let text = "2026-01-01 INFO sentinel::plugin: counted: slot a has kept 5 slot=\"a\"\n\
                    {\"message\":\"counted: slot b has kept 7\",\"slot\":\"b\"}\n\
                    INFO something else\n\
                    INFO counted: slot a has kept 9 slot=\"a\"\n\
                    INFO counted: slot b has kept 6 slot=\"b\"\n\
                    INFO counted: slot a has kept 12";
        let mut logs = Logs::default();
        logs.add("host", text);
        let of = |slot: &str| Generator { agent: "host".to_owned(), slot: slot.to_owned() };
        assert_eq!(logs.kept, BTreeMap::from([(of("a"), 9), (of("b"), 6)]));
        let forgotten = Trouble::Forgotten { generator: of("b"), before: 7, after: 6 };
        assert_eq!(logs.troubles, [forgotten]);
    }
}
