//! `cargo xtask`: everything a checkout does with itself. stdout is data, stderr is talk.

mod bench;
mod cargo;
mod checkout;
mod ci;
mod components;
mod debian;
mod directions;
mod fuzz;
mod newer;
mod packing;
mod process;
mod pypi;
mod readme;
mod services;
mod steps;
mod testing;
mod toolchain;
mod up;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::checkout::{Checkout, HostProfile};
use crate::steps::Steps;
use crate::testing::{Report, Selection};
use crate::toolchain::Source;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, version)]
struct Arguments {
    /// Where the compiler for guests comes from.
    #[arg(long, global = true, value_enum, default_value = "auto")]
    toolchain: Source,
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build what is missing and run everything in one process.
    Up {
        /// Compile the host optimised: slower to build, faster to run.
        #[arg(long)]
        release: bool,
        /// Handed to `sentinel up`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run every test, or those whose names contain a filter, with the services they need.
    Test {
        /// Parts of test names.
        filters: Vec<String>,
    },
    /// Build, pack and sign the plugins into target/plugins.
    Components {
        /// Cargo's profile for them.
        #[arg(long, default_value = "component")]
        profile: String,
        /// Pack with the optimised host.
        #[arg(long)]
        release: bool,
    },
    /// Find or fetch the compiler for guests.
    Toolchain,
    /// Fetch the services that tests and benches start, into target/services.
    Services {
        /// Also what soak alone needs: a server that speaks S3, and `wkg`, which is compiled.
        #[arg(long)]
        soak: bool,
    },
    /// Measure, print the table and write bench/results.json.
    Bench {
        /// One row of the table.
        name: Option<String>,
    },
    /// Run the tests with long counts and write bench/soak.json.
    Soak {
        /// Parts of test names.
        filters: Vec<String>,
    },
    /// Run every fuzz target, or those whose names contain a filter, for a bounded time each.
    Fuzz {
        /// How long each target runs.
        #[arg(default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: u64,
        /// Parts of names, such as `host/wal` or `manifest`.
        filters: Vec<String>,
    },
    /// Every check that a change has to pass.
    Ci,
    /// Only the check of which crate depends on which.
    Directions,
    /// Only the commands of README.md, with what is built already.
    Readme,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let checkout = Checkout::find()?;
    let source = arguments.toolchain;
    match arguments.task {
        Task::Up { release, arguments } => {
            up::up(&checkout, host_profile(release), source, &arguments)
        }
        Task::Test { filters } => {
            let steps = Steps::new(testing::PREPARE_STEPS + testing::RUN_STEPS);
            testing::prepare(&checkout, &steps, source)?;
            let selection = Selection { filters: &filters, ..Selection::default() };
            testing::run(&checkout, &steps, &selection, &mut Report::default())
        }
        Task::Components { profile, release } => {
            up::build_components(&checkout, host_profile(release), &profile, source)
        }
        Task::Toolchain => toolchain::ready(&checkout, &Steps::new(1), source).map(drop),
        Task::Services { soak } => {
            let steps = Steps::new(if soak { 3 } else { 1 });
            steps.run("Services", |step| services::ensure_for_tests(&checkout, step))?;
            if soak {
                services::for_soak(&checkout, &steps)?;
            }
            Ok(())
        }
        Task::Bench { name } => bench::bench(&checkout, name.as_deref(), source),
        Task::Soak { filters } => bench::soak(&checkout, &filters, source),
        Task::Fuzz { seconds, filters } => fuzz::run(&checkout, seconds, &filters),
        Task::Ci => ci::run(&checkout, source),
        Task::Directions => {
            Steps::new(1).run("Dependency directions", |_| Ok(((), directions::check(&checkout)?)))
        }
        Task::Readme => Steps::new(1).run("README commands", |step| {
            Ok(((), readme::check(&checkout, step, HostProfile::Dev)?))
        }),
    }
}

fn host_profile(release: bool) -> HostProfile {
    if release { HostProfile::Release } else { HostProfile::Dev }
}
