//! Evaluation after evaluation, held against the history.

use super::life::Life;
use super::reference::{Seen, evaluate};
use super::report::{Difference, Report};
use super::rules::Rule;
use super::stand::{self, followed, is_of, said, says, shown};
use super::stored::{Evaluation, Stored, Transition};
use super::{fingerprint, told};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What is found first ends it.
pub(super) type Found<T> = Result<T, Box<Difference>>;

/// Alerts of all rules, by rule and fingerprint.
pub(super) type Lives = BTreeMap<String, BTreeMap<String, Life>>;

/// Alerts so far.
pub(super) struct Court<'a> {
    stored: &'a Stored,
    rules: BTreeMap<i64, Vec<Rule>>,
    lives: Lives,
    /// What is left of the history, by fingerprint.
    left: BTreeMap<&'a str, VecDeque<&'a Transition>>,
    report: Report,
}

impl<'a> Court<'a> {
    /// Before anything is judged.
    pub(super) fn of(stored: &'a Stored, rules: BTreeMap<i64, Vec<Rule>>) -> Self {
        let mut left: BTreeMap<&str, VecDeque<&Transition>> = BTreeMap::new();
        for transition in &stored.transitions {
            left.entry(&transition.fingerprint).or_default().push_back(transition);
        }
        Self { stored, rules, lives: Lives::new(), left, report: Report::default() }
    }

    /// Judges everything.
    pub(super) fn judge(mut self) -> Report {
        if let Err(difference) = self.all() {
            self.report.difference = Some(*difference);
        }
        self.report
    }

    fn all(&mut self) -> Found<()> {
        self.skip_what_is_forgotten();
        for evaluation in self.in_order()? {
            self.evaluation(evaluation)?;
        }
        self.withdraw_the_rest()?;
        stand::judge(&self.lives, &self.stored.alerts, &mut self.report)?;
        let mut notify: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for rule in self.rules.values().flatten() {
            notify.entry(rule.name.clone()).or_default().extend(rule.notify.iter().cloned());
        }
        let Stored { transitions, notifications, .. } = self.stored;
        told::judge(transitions, notifications, &notify, &mut self.report)
    }

    /// Evaluations are forgotten before the history is: what was before the first is taken as it
    /// is.
    fn skip_what_is_forgotten(&mut self) {
        let first = self.stored.evaluations.first().map_or(i64::MAX, |one| one.at);
        for left in self.left.values_mut() {
            while let Some(transition) = left.front().filter(|next| next.at < first) {
                let of_rule = self.lives.entry(transition.rule.clone()).or_default();
                let life = of_rule.entry(transition.fingerprint.clone()).or_default();
                *life = followed(life, transition);
                left.pop_front();
            }
        }
    }

    /// Evaluations in the order in which they were made: term after term, each by its count. Two
    /// terms at once are a difference.
    fn in_order(&mut self) -> Found<Vec<&'a Evaluation>> {
        let mut terms: Vec<(i64, Vec<&Evaluation>)> = Vec::new();
        for evaluation in &self.stored.evaluations {
            match terms.iter().position(|(term, _)| *term == evaluation.term) {
                Some(at) if at + 1 == terms.len() => terms[at].1.push(evaluation),
                Some(_) => {
                    let expected = "that nobody evaluates any more whose term is over";
                    let stored = format!("number {} of an earlier term", evaluation.number);
                    return Err(difference(evaluation, "", "", expected, stored));
                }
                None => terms.push((evaluation.term, vec![evaluation])),
            }
        }
        self.report.terms = terms.len() as u64;
        terms.iter_mut().for_each(|(_, of_term)| of_term.sort_by_key(|one| one.number));
        Ok(terms.into_iter().flat_map(|(_, of_term)| of_term).collect())
    }

    fn evaluation(&mut self, evaluation: &Evaluation) -> Found<()> {
        let is_known = evaluation.position.reaches(self.stored.packed_to);
        match is_known {
            true => self.report.evaluations += 1,
            false => self.report.too_old += 1,
        }
        let made = evaluation.rules.iter().filter(|place| !evaluation.failed.contains(place));
        for &place in made {
            let rule = self.rules[&evaluation.rules_version][place].clone();
            match is_known {
                true => self.anew(evaluation, &rule)?,
                false => self.follow_all(evaluation, &rule)?,
            }
        }
        Ok(())
    }

    /// Works a rule out anew.
    fn anew(&mut self, evaluation: &Evaluation, rule: &Rule) -> Found<()> {
        let Evaluation { at, position, until, .. } = evaluation;
        let seen = evaluate(rule, &self.stored.series, *at, position, until.as_ref());
        let mut named = BTreeSet::new();
        for (labels, seen) in seen {
            let alert = fingerprint(&rule.name, &labels);
            match seen {
                Seen::Holds(value) => self.expect(evaluation, rule, &alert, Some(value))?,
                Seen::Unsure => {
                    self.report.unsure += 1;
                    self.follow(evaluation, rule, &alert)?;
                }
            }
            named.insert(alert);
        }
        let known = self.lives.get(&rule.name).into_iter().flat_map(BTreeMap::keys);
        let lapsed: Vec<String> = known.filter(|alert| !named.contains(*alert)).cloned().collect();
        for alert in lapsed.iter().filter(|_| evaluation.settled) {
            self.expect(evaluation, rule, alert, None)?;
        }
        match self.told_at(evaluation, rule).first().and_then(|alert| self.next(alert)) {
            Some(next) => {
                let alert = &next.fingerprint;
                Err(difference(evaluation, &rule.name, alert, "nothing", shown(next)))
            }
            None => Ok(()),
        }
    }

    /// Takes whether an alert holds, and with which value.
    fn expect(
        &mut self,
        evaluation: &Evaluation,
        rule: &Rule,
        alert: &str,
        value: Option<f64>,
    ) -> Found<()> {
        self.withdraw(&rule.name, alert)?;
        let mut life = self.life(&rule.name, alert);
        let change = life.step(value.is_some(), evaluation.at, rule.hold);
        let next = self.next(alert);
        let is_told = match (change, next) {
            (None, next) => next.is_none_or(|next| next.at != evaluation.at),
            (Some(change), Some(next)) => {
                is_of(next, &life, change, evaluation)
                    && value.is_none_or(|value| value.to_bits() == next.value.to_bits())
            }
            (Some(_), None) => false,
        };
        if !is_told {
            let expected = change.map_or("nothing".to_owned(), |change| said(change, &life, value));
            let stored = next.map_or("nothing".to_owned(), shown);
            return Err(difference(evaluation, &rule.name, alert, &expected, stored));
        }
        self.keep(&rule.name, alert, life);
        if change.is_some() { self.take(evaluation, rule, alert) } else { Ok(()) }
    }

    /// Takes what the history says of an alert at an evaluation of which nobody knows what it saw.
    fn follow(&mut self, evaluation: &Evaluation, rule: &Rule, alert: &str) -> Found<()> {
        self.withdraw(&rule.name, alert)?;
        let next = self.next(alert).filter(|next| next.at == evaluation.at);
        for holds in [false, true] {
            let mut life = self.life(&rule.name, alert);
            match (life.step(holds, evaluation.at, rule.hold), next) {
                (None, None) => {
                    self.keep(&rule.name, alert, life);
                    return Ok(());
                }
                (Some(change), Some(next)) if is_of(next, &life, change, evaluation) => {
                    self.keep(&rule.name, alert, life);
                    return self.take(evaluation, rule, alert);
                }
                _ => {}
            }
        }
        let expected = format!("what can follow {:?}", self.life(&rule.name, alert).state);
        let stored = next.map_or("nothing".to_owned(), shown);
        Err(difference(evaluation, &rule.name, alert, &expected, stored))
    }

    /// The same of all alerts of a rule of which the history says something.
    fn follow_all(&mut self, evaluation: &Evaluation, rule: &Rule) -> Found<()> {
        let told = self.told_at(evaluation, rule);
        told.iter().try_for_each(|alert| self.follow(evaluation, rule, alert))
    }

    /// The alerts of a rule of which the history says something at an evaluation.
    fn told_at(&self, evaluation: &Evaluation, rule: &Rule) -> Vec<&'a str> {
        let says = |left: &VecDeque<&Transition>| {
            left.front().is_some_and(|next| next.rule == rule.name && next.at == evaluation.at)
        };
        self.left.iter().filter(|(_, left)| says(left)).map(|(alert, _)| *alert).collect()
    }

    /// Takes the next transition of an alert, which is as it should be. Another one of the same
    /// evaluation would not be.
    fn take(&mut self, evaluation: &Evaluation, rule: &Rule, alert: &str) -> Found<()> {
        let taken = self.left.get_mut(alert).and_then(VecDeque::pop_front);
        let Some(taken) = taken else { return Ok(()) };
        self.count(taken);
        match self.next(alert) {
            Some(next) if next.at == taken.at => {
                let stored = format!("besides {}", shown(next));
                Err(difference(evaluation, &rule.name, alert, "one transition", stored))
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, taken: &Transition) {
        self.report.transitions += 1;
        if taken.to.as_deref() == Some("firing") {
            self.report.fired += 1;
            self.report.last_fired = self.report.last_fired.max(Some(taken.at));
        }
        if taken.from.as_deref() == Some("firing") {
            self.report.resolved += 1;
            self.report.last_resolved = self.report.last_resolved.max(Some(taken.at));
        }
    }

    /// Takes the end of an alert whose rule is gone by then: no evaluation decides it.
    fn withdraw(&mut self, rule: &str, alert: &str) -> Found<()> {
        let Some(next) = self.next(alert) else { return Ok(()) };
        let Some(then) = self.rules.get(&next.rules_version) else { return Ok(()) };
        if then.iter().any(|one| one.name == next.rule) {
            return Ok(());
        }
        let mut life = self.life(rule, alert);
        let before = life.state;
        let change = life.step(false, next.at, 0);
        if change.is_none_or(|change| !says(next, &life, change)) {
            let expected = format!("the end of what was {before:?}");
            return Err(Box::new(Difference::of(next, &expected)));
        }
        self.keep(rule, alert, life);
        let taken = self.left.get_mut(alert).and_then(VecDeque::pop_front);
        taken.into_iter().for_each(|taken| self.count(taken));
        Ok(())
    }

    /// What is left of the history has to be the end of alerts whose rules are gone.
    fn withdraw_the_rest(&mut self) -> Found<()> {
        let all: Vec<&'a str> = self.left.keys().copied().collect();
        for alert in all {
            if let Some(next) = self.next(alert) {
                self.withdraw(&next.rule, alert)?;
            }
        }
        let left = self.left.values().filter_map(VecDeque::front);
        match left.min_by_key(|next| next.at) {
            Some(next) => {
                Err(Box::new(Difference::of(next, "nothing: no evaluation came to that")))
            }
            None => Ok(()),
        }
    }

    fn next(&self, alert: &str) -> Option<&'a Transition> {
        self.left.get(alert)?.front().copied()
    }

    fn life(&self, rule: &str, alert: &str) -> Life {
        self.lives.get(rule).and_then(|of_rule| of_rule.get(alert)).cloned().unwrap_or_default()
    }

    fn keep(&mut self, rule: &str, alert: &str, life: Life) {
        if life != Life::default() {
            self.lives.entry(rule.to_owned()).or_default().insert(alert.to_owned(), life);
        }
    }
}

fn difference(
    evaluation: &Evaluation,
    rule: &str,
    alert: &str,
    expected: &str,
    stored: String,
) -> Box<Difference> {
    Box::new(Difference {
        at: evaluation.at,
        rule: rule.to_owned(),
        alert: alert.to_owned(),
        position: evaluation.written.clone(),
        expected: expected.to_owned(),
        stored,
    })
}
