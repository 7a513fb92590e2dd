//! The first-party plugin sentinel/rows: shapes rows by a list of rules.
//!
//! [`Config`] is the language; its schema documents it. Rules run in order, each on what the one
//! before it left.

mod config;
mod histogram;
mod outline;
mod pass;
mod plan;

use sentinel_sdk::{Batch, Diagnostic, Failure, Transform, export_transform, rows};

pub use config::{
    Choose, Config, DropLabel, FlattenHistogram, Matcher, Op, Relabel, Rename, RenameLabel, Rule,
    Scale, Select, SetLabel,
};
use pass::Pass;
use plan::Stage;

/// The transform.
#[derive(Debug)]
pub struct Rows {
    stages: Vec<Stage>,
}

impl Transform for Rows {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, Vec<Diagnostic>> {
        plan::compile(config).map(|stages| Self { stages })
    }

    fn reshape(&mut self, mut batch: Batch) -> Result<Batch, Failure> {
        for stage in &mut self.stages {
            batch = match stage {
                Stage::Rows(rules, outlines) => {
                    let mut pass = Pass::new(rules, outlines);
                    rows::edit(batch, |row| pass.run(row))
                }
                Stage::Flatten(plan) => histogram::flatten(batch, plan),
            };
        }
        Ok(batch)
    }
}

export_transform!(Rows);

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
