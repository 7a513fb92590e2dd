//! Which group a series is in, and what its labels are: asked of the host once a series.

use std::collections::HashMap;
use std::rc::Rc;

use sentinel_sdk::{Label, series};

use crate::condition::Combine;
use crate::relation::Labels;

/// Most series whose labels and groups are remembered; beyond, they are forgotten and asked
/// anew.
const MAX_REMEMBERED: usize = 200_000;

/// Labels of series, valid until the rules are loaded again.
#[derive(Debug, Default)]
pub(crate) struct Known {
    labels: HashMap<u64, Labels>,
    groupings: Vec<Members>,
}

/// One list of labels: which group each series is in.
#[derive(Debug)]
struct Members {
    by: Vec<String>,
    group_of: HashMap<u64, usize>,
    numbers: HashMap<Labels, usize>,
    labels: Vec<Labels>,
}

impl Known {
    /// Nothing is known yet of the series; `groupings` are the lists of labels.
    pub(crate) fn new(groupings: &[Vec<String>]) -> Self {
        let groupings = groupings
            .iter()
            .map(|by| Members {
                by: by.clone(),
                group_of: HashMap::new(),
                numbers: HashMap::new(),
                labels: Vec::new(),
            })
            .collect();
        Self { labels: HashMap::new(), groupings }
    }

    /// All labels of series, in the order of `ids`.
    pub(crate) fn labels(&mut self, ids: &[u64]) -> Vec<Labels> {
        let unknown: Vec<u64> =
            ids.iter().copied().filter(|id| !self.labels.contains_key(id)).collect();
        if !unknown.is_empty() {
            for (id, mut labels) in unknown.iter().zip(series::labels_of(&unknown)) {
                labels.sort_unstable();
                self.labels.insert(*id, labels.into());
            }
        }
        let none = || Labels::from([]);
        ids.iter().map(|id| self.labels.get(id).map_or_else(none, Rc::clone)).collect()
    }

    /// The group of each series, in the order of `ids`.
    pub(crate) fn groups(&mut self, grouping: usize, ids: &[u64]) -> Vec<usize> {
        let members = &mut self.groupings[grouping];
        let unknown: Vec<u64> =
            ids.iter().copied().filter(|id| !members.group_of.contains_key(id)).collect();
        if members.by.is_empty() {
            members.number(Labels::from([]));
        } else if !unknown.is_empty() {
            for (id, labels) in unknown.iter().zip(series::labels_of(&unknown)) {
                let group = members.number(picked(&members.by, &labels));
                members.group_of.insert(*id, group);
            }
        }
        ids.iter().map(|id| members.group_of.get(id).copied().unwrap_or(0)).collect()
    }

    /// The labels of a group.
    pub(crate) fn group_labels(&self, grouping: usize, group: usize) -> Labels {
        let labels = self.groupings[grouping].labels.get(group);
        labels.map_or_else(|| Labels::from([]), Rc::clone)
    }

    /// Forgets everything if it has become too much: series come and go while rules stay.
    pub(crate) fn bound(&mut self) {
        if self.labels.len() > MAX_REMEMBERED {
            self.labels = HashMap::new();
        }
        for members in &mut self.groupings {
            if members.group_of.len() > MAX_REMEMBERED {
                members.group_of = HashMap::new();
                members.numbers = HashMap::new();
                members.labels = Vec::new();
            }
        }
    }
}

impl Members {
    fn number(&mut self, labels: Labels) -> usize {
        *self.numbers.entry(labels).or_insert_with_key(|labels| {
            self.labels.push(Rc::clone(labels));
            self.labels.len() - 1
        })
    }
}

/// The labels named, empty where the series lacks them.
fn picked(by: &[String], labels: &[Label]) -> Labels {
    by.iter()
        .map(|key| {
            let value = labels.iter().find(|(known, _)| known == key);
            (key.clone(), value.map_or_else(String::new, |(_, value)| value.clone()))
        })
        .collect()
}

/// A group's values becoming one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sum {
    combine: Combine,
    count: u32,
    value: f64,
}

impl Sum {
    pub(crate) fn new(combine: Combine, value: f64) -> Self {
        Self { combine, count: 1, value }
    }

    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        match self.combine {
            Combine::Sum | Combine::Avg | Combine::Count => self.value += value,
            Combine::Min => self.value = self.value.min(value),
            Combine::Max => self.value = self.value.max(value),
        }
    }

    pub(crate) fn value(self) -> f64 {
        match self.combine {
            Combine::Avg => self.value / f64::from(self.count),
            Combine::Count => f64::from(self.count),
            Combine::Sum | Combine::Min | Combine::Max => self.value,
        }
    }
}
