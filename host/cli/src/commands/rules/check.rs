//! `sentinel rules check`: everything that is wrong with rule files, what of that which they read
//! nobody sends, and what each rule costs.
//!
//! Where there is a server it is asked: its evaluators know what conditions read, and its store
//! knows what is there. Without one the plugins of this machine are asked, and nothing is looked
//! up, which is said.

use std::path::PathBuf;

use async_trait::async_trait;
use clap::Args;
use sentinel_model::document::{Problem, Problems};
use sentinel_model::ids::SlotName;
use sentinel_rule_tests::Rig;
use sentinel_server::api::{CheckBody, CheckedBody, CostBody, ProblemBody};
use sentinel_server::{RuleChecker, RuleVerdict, rules};
use serde_json::Value;
use tokio::runtime::Builder;
use tokio::sync::Mutex;

use super::lab::{Plugins, worker};
use super::{collect, warn};
use crate::args::Global;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::table::Table;
use crate::output::{Look, Printer, human};
use crate::roles::connect::verdict;

/// Options of `sentinel rules check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Rule files, and folders whose .yaml, .yml and .json files are taken.
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Ask no server: metrics and labels are not looked up, costs are not known
    #[arg(long)]
    offline: bool,
    /// Fail where there is a warning, too
    #[arg(long)]
    deny_warnings: bool,
    /// Configuration whose `worker.evaluators` check where no server is asked
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    plugins: Plugins,
}

impl Check {
    /// Whether no server is asked: nobody wants that, or there is none.
    pub(super) fn is_alone(&self, global: &Global) -> Result<bool, Failure> {
        Ok(self.offline || !Client::is_to_be_had(global.server.as_deref())?)
    }
}

/// With a server.
pub(super) async fn run(
    command: &Check,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let body = CheckBody { files: collect(&command.paths)? };
    let checked: CheckedBody = client.post("/v1/rules/check", &body).await?;
    tell(command, &checked, printer)
}

/// Without one.
pub(super) fn alone(command: &Check, printer: &Printer) -> Result<(), Failure> {
    let files = collect(&command.paths)?;
    let config = worker(command.config.as_deref())?;
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let checked = runtime.block_on(async {
        let rig = command.plugins.open(printer)?.evaluators(&config).await?;
        let sheet = rules::read(&Here(Mutex::new(rig)), &files).await;
        Ok::<_, Failure>(CheckedBody::of(sheet, None))
    })?;
    tell(command, &checked, printer)
}

/// The evaluators of this machine.
struct Here(Mutex<Rig>);

#[async_trait]
impl RuleChecker for Here {
    async fn check(&self, evaluator: &SlotName, condition: &Value) -> Result<RuleVerdict, String> {
        match self.0.lock().await.condition(evaluator, condition).await {
            Ok(Some(found)) => Ok(verdict(found)),
            Ok(None) => Err(format!(
                "there is no evaluator in a slot named {evaluator}; name a configuration that has it with --config"
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    fn applied(&self) {}
}

fn tell(command: &Check, checked: &CheckedBody, printer: &Printer) -> Result<(), Failure> {
    warn(&checked.warnings, printer);
    printer.data(checked, |look| costs(&checked.costs, look))?;
    if !checked.looked_up {
        printer.say("metrics and labels were not looked up: no server was asked");
    }
    if !checked.problems.is_empty() {
        let problems = checked.problems.iter().map(problem).collect();
        return Err(Failure::new(Problems(problems).to_string()));
    }
    let warnings = human::plural(checked.warnings.len() as u64, "warning");
    if command.deny_warnings && !checked.warnings.is_empty() {
        return Err(Failure::new(format!("{warnings}, and none is allowed")));
    }
    let sound = human::plural(checked.rules as u64, "rule");
    printer.say(&format!("{sound} can be applied, {warnings}"));
    Ok(())
}

fn problem(body: &ProblemBody) -> Problem {
    let ProblemBody { file, line, column, path, message } = body.clone();
    Problem { file, line, column, path, message }
}

fn costs(costs: &[CostBody], look: Look) -> String {
    if costs.is_empty() {
        return String::new();
    }
    let mut table = Table::new(look, &["rule", ">series", ">samples", ">evaluations/min"]);
    for cost in costs {
        let known = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), human::count);
        table.row([
            cost.rule.clone(),
            known(cost.series),
            known(cost.samples),
            format!("{:.1}", cost.evaluations),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_a_table_and_what_is_not_known_is_not_0() {
        let cost = |rule: &str, series, samples, evaluations| CostBody {
            rule: rule.into(),
            file: "a.yaml".into(),
            line: 3,
            evaluations,
            series,
            samples,
            reads: Vec::new(),
        };
        let all = [
            cost("disk-full", Some(3), Some(17_280_000), 10.0),
            cost("nothing", Some(0), Some(0), 4.0),
            cost("open", None, None, 0.25),
        ];
        insta::assert_snapshot!(costs(&all, Look { color: false, width: 100 }), @r"
        RULE       SERIES  SAMPLES  EVALUATIONS/MIN
        disk-full       3    17.3M             10.0
        nothing         0        0              4.0
        open            ?        ?              0.2
        ");
    }
}
