//! The first-party plugin sentinel/system: metrics of the machine that the agent runs on.
//!
//! Readings come in groups. A group that fails is told by `sentinel_collector_group_up` and by
//! one log message when its error changes; the others go on.

mod config;
mod metrics;
mod readings;

use std::collections::BTreeMap;

use sentinel_sdk::{
    BatchBuilder, Collected, Collector, Diagnostic, Failure, Metric, export_collector, log, system,
};

pub use config::{Config, Disks, Filesystems, Group, Networks};

/// The collector.
#[derive(Debug)]
pub struct System {
    config: Config,
    groups: Vec<Group>,
    /// Groups that failed at the last collection, and how.
    failing: BTreeMap<Group, String>,
}

impl Collector for System {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, Vec<Diagnostic>> {
        let mut groups = config.groups.clone().unwrap_or_else(|| Group::ALL.to_vec());
        if groups.is_empty() {
            return Err(vec![Diagnostic::error(
                "/groups",
                "names no group; leave it out to collect all of them",
            )]);
        }
        groups.sort_unstable();
        groups.dedup();
        Ok(Self { config, groups, failing: BTreeMap::new() })
    }

    fn metrics() -> Vec<Metric> {
        metrics::all()
    }

    fn collect(&mut self) -> Result<Collected, Failure> {
        let mut batch = BatchBuilder::new();
        for group in self.groups.clone() {
            let result = readings::read(group, &self.config, &mut batch);
            let up = f64::from(u8::from(result.is_ok()));
            batch.gauge(metrics::GROUP_UP, &[("group", group.word())], up);
            self.note(group, result.err().as_ref().map(system::describe_error));
        }
        Ok(batch.into())
    }
}

impl System {
    /// Logs a group's failure when it begins or changes, and its end.
    fn note(&mut self, group: Group, error: Option<String>) {
        let word = group.word();
        match error {
            None => {
                if self.failing.remove(&group).is_some() {
                    log::info(format_args!("group {word} can be read again"));
                }
            }
            Some(error) => {
                if self.failing.get(&group) != Some(&error) {
                    log::warn(format_args!("group {word} cannot be read: {error}"));
                    self.failing.insert(group, error);
                }
            }
        }
    }
}

export_collector!(System);

#[cfg(test)]
mod tests;
