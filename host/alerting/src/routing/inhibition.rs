//! Which alerts keep which others from being told: what the configuration says of labels, and
//! what rules say of other rules.
//!
//! Rules that inhibit each other, be it through others, would keep all of their alerts from being
//! told: between those of such a ring nothing is inhibited.

use super::tree::{Routing, RuleFacts};
use crate::matching::label;
use sentinel_model::alert::{Alert, Fingerprint};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Inhibitions, by their number, of which an alert is a source, and the values that targets must
/// share.
pub(super) type SourceOf = Vec<(usize, Vec<String>)>;

/// Who inhibits whom now. The routing's inhibitions are numbered first, then those of rules.
#[derive(Debug, Clone, Default)]
pub(super) struct Inhibitors {
    /// For each inhibition of a rule the labels that both share.
    equal: Vec<Vec<String>>,
    /// Inhibitions of rules, as indexes into `equal`.
    by_source: HashMap<String, Vec<usize>>,
    by_target: HashMap<String, Vec<usize>>,
    /// For each inhibition the alerts that inhibit, by the values that targets must share.
    sources: Vec<HashMap<Vec<String>, BTreeSet<Fingerprint>>>,
}

impl Inhibitors {
    /// Without any alert yet.
    pub(super) fn new(routing: &Routing, rules: &BTreeMap<String, RuleFacts>) -> Self {
        let mut new = Self::default();
        let in_ring = in_rings(rules);
        for (source, facts) in rules {
            for inhibits in &facts.inhibits {
                let targets = inhibits.rules.iter().filter(|target| {
                    let both =
                        in_ring.contains(source.as_str()) && in_ring.contains(target.as_str());
                    *target != source && !both
                });
                let at = new.equal.len();
                new.equal.push(inhibits.equal.clone());
                new.by_source.entry(source.clone()).or_default().push(at);
                for target in targets {
                    new.by_target.entry(target.clone()).or_default().push(at);
                }
            }
        }
        new.sources = vec![HashMap::new(); routing.inhibit.len() + new.equal.len()];
        new
    }

    /// Takes an alert that fires; the answer is for [`Inhibitors::leave`].
    pub(super) fn join(&mut self, routing: &Routing, alert: &Alert) -> SourceOf {
        let mut source_of = SourceOf::new();
        for (i, inhibition) in routing.inhibit.iter().enumerate() {
            if inhibition.source.matches(alert) {
                source_of.push((i, inhibition.key(alert)));
            }
        }
        for &at in self.by_source.get(&alert.rule).into_iter().flatten() {
            source_of.push((routing.inhibit.len() + at, values(&self.equal[at], alert)));
        }
        for (i, key) in &source_of {
            self.sources[*i].entry(key.clone()).or_default().insert(alert.fingerprint);
        }
        source_of
    }

    /// An alert fires no more.
    pub(super) fn leave(&mut self, fingerprint: Fingerprint, source_of: SourceOf) {
        for (i, key) in source_of {
            if let Some(sources) = self.sources[i].get_mut(&key) {
                sources.remove(&fingerprint);
                if sources.is_empty() {
                    self.sources[i].remove(&key);
                }
            }
        }
    }

    /// Whether another alert that fires keeps this one from being told.
    pub(super) fn is_inhibited(&self, routing: &Routing, alert: &Alert) -> bool {
        let by_labels = routing.inhibit.iter().zip(&self.sources).any(|(inhibition, sources)| {
            // A source does not hide behind another of its kind, nor behind itself.
            sources.contains_key(&inhibition.key(alert))
                && inhibition.target.matches(alert)
                && !inhibition.source.matches(alert)
        });
        let by_rule = |&at: &usize| {
            self.sources[routing.inhibit.len() + at].contains_key(&values(&self.equal[at], alert))
        };
        by_labels || self.by_target.get(&alert.rule).into_iter().flatten().any(by_rule)
    }

    /// The alerts that keep this one from being told.
    pub(super) fn sources_of(&self, routing: &Routing, alert: &Alert) -> BTreeSet<Fingerprint> {
        let by_labels = routing.inhibit.iter().zip(&self.sources).filter_map(|(inhibition, of)| {
            let is_target = inhibition.target.matches(alert) && !inhibition.source.matches(alert);
            is_target.then(|| of.get(&inhibition.key(alert))).flatten()
        });
        let by_rule = self.by_target.get(&alert.rule).into_iter().flatten().filter_map(|&at| {
            self.sources[routing.inhibit.len() + at].get(&values(&self.equal[at], alert))
        });
        by_labels.chain(by_rule).flatten().copied().collect()
    }
}

fn values(equal: &[String], alert: &Alert) -> Vec<String> {
    equal.iter().map(|name| label(alert, name).to_owned()).collect()
}

/// Rules that inhibit each other in a ring, or lie between two rings: what is left once those
/// that nothing inhibits, or that inhibit nothing, are taken away again and again.
fn in_rings(rules: &BTreeMap<String, RuleFacts>) -> BTreeSet<&str> {
    let mut edges: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (source, facts) in rules {
        let targets = facts.inhibits.iter().flat_map(|inhibits| &inhibits.rules);
        edges.extend(targets.map(|target| (source.as_str(), target.as_str())));
    }
    loop {
        let sources: BTreeSet<&str> = edges.iter().map(|(source, _)| *source).collect();
        let targets: BTreeSet<&str> = edges.iter().map(|(_, target)| *target).collect();
        let before = edges.len();
        edges.retain(|(source, target)| targets.contains(source) && sources.contains(target));
        if edges.len() == before {
            return sources;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::alert;
    use sentinel_model::rule::Inhibits;

    fn facts(inhibits: &[(&str, &[&str])]) -> BTreeMap<String, RuleFacts> {
        let one = |(source, targets): &(&str, &[&str])| {
            let rules = targets.iter().map(|name| (*name).to_owned()).collect();
            let inhibits = vec![Inhibits { rules, equal: vec!["agent".to_owned()] }];
            ((*source).to_owned(), RuleFacts { inhibits, ..RuleFacts::default() })
        };
        inhibits.iter().map(one).collect()
    }

    #[test]
    fn a_rule_that_fires_inhibits_those_that_it_names_where_the_labels_agree() {
        let routing = Routing::default();
        let mut inhibitors = Inhibitors::new(&routing, &facts(&[("down", &["slow", "full"])]));
        let down = alert("down", &[("agent", "a")]);
        let source_of = inhibitors.join(&routing, &down);
        for (rule, agent, expected) in
            [("slow", "a", true), ("full", "a", true), ("slow", "b", false), ("other", "a", false)]
        {
            let target = alert(rule, &[("agent", agent), ("disk", "sda")]);
            assert_eq!(inhibitors.is_inhibited(&routing, &target), expected, "{rule} {agent}");
            let sources: Vec<Fingerprint> =
                inhibitors.sources_of(&routing, &target).into_iter().collect();
            assert_eq!(sources == [down.fingerprint], expected, "{rule} {agent}");
        }
        assert!(!inhibitors.is_inhibited(&routing, &down));
        inhibitors.leave(down.fingerprint, source_of);
        assert!(!inhibitors.is_inhibited(&routing, &alert("slow", &[("agent", "a")])));
    }

    #[test]
    fn rules_in_a_ring_do_not_silence_each_other() {
        let routing = Routing::default();
        let rules = facts(&[
            ("a", &["b"]),
            ("b", &["c"]),
            ("c", &["a", "d"]),
            ("d", &["e"]),
            ("f", &["a"]),
        ]);
        let mut inhibitors = Inhibitors::new(&routing, &rules);
        for rule in ["a", "b", "c", "d"] {
            inhibitors.join(&routing, &alert(rule, &[]));
        }
        let is =
            |inhibitors: &Inhibitors, rule| inhibitors.is_inhibited(&routing, &alert(rule, &[]));
        let told = ["a", "b", "c", "d", "e"].map(|rule| is(&inhibitors, rule));
        assert_eq!(told, [false, false, false, true, true]);
        inhibitors.join(&routing, &alert("f", &[]));
        assert!(is(&inhibitors, "a"), "what is outside of the ring inhibits as it says");
    }
}
