//! `sentinel rules`: shown, checked, tested, applied whole, brought from Prometheus.

mod apply;
mod check;
mod explain;
pub(super) mod import;
mod lab;
mod past;
mod replay;
mod test;
mod told;
mod versions;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use sentinel_model::document::MAX_DOCUMENT;
use sentinel_server::api::{FileBody, ProblemBody};

use crate::args::Global;
use crate::client::Client;
use crate::failure::Failure;
use crate::files;
use crate::output::Printer;

/// Most files of one apply.
const MAX_FILES: usize = 10_000;
/// Deepest folder below one that was named.
const MAX_DEPTH: usize = 16;
/// What rule files end in; others in a folder are left out.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// What stands before the ending of a file of tests, which holds no rules.
const TESTS: &str = ".test";

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Replace the rules in force by those of the files.
    Apply(apply::Apply),
    /// Say everything that is wrong with rule files and what each rule costs; change nothing.
    Check(check::Check),
    /// Show the rules in force, or those of an earlier version.
    Show(versions::Show),
    /// Versions of the rules: when they were applied, by whom, and how many rules they have.
    History(versions::History),
    /// Run tests of rules: synthetic series in; states, notifications and payloads out. No server.
    Test(test::Test),
    /// What rules would have done on the stored past: fired, for how long, who would have been told.
    Replay(replay::Replay),
    /// Why a rule is, or is not, firing now: series, values, windows, timers.
    Explain(explain::Explain),
    /// Print the JSON Schema of rule files, or of files of tests.
    Schema(test::Schema),
    /// Turn rule files of Prometheus into rules, as JSON; what cannot be said is listed.
    Import(import::Import),
}

/// Does what needs no server; else gives the command back.
pub(super) fn alone(
    command: RulesCommand,
    global: &Global,
    printer: &Printer,
) -> Result<Option<RulesCommand>, Failure> {
    match command {
        RulesCommand::Check(command) if command.is_alone(global)? => {
            check::alone(&command, printer)?;
        }
        RulesCommand::Import(import) => import::run(&import, printer)?,
        RulesCommand::Test(command) => test::run(&command, printer)?,
        RulesCommand::Schema(command) => test::schema(&command, printer)?,
        asks @ (RulesCommand::Apply(_)
        | RulesCommand::Check(_)
        | RulesCommand::Replay(_)
        | RulesCommand::Explain(_)
        | RulesCommand::Show(_)
        | RulesCommand::History(_)) => return Ok(Some(asks)),
    }
    Ok(None)
}

pub(super) async fn run(
    command: RulesCommand,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    match command {
        RulesCommand::Apply(command) => apply::run(command, client, printer).await,
        RulesCommand::Check(command) => check::run(&command, client, printer).await,
        RulesCommand::Explain(command) => explain::run(command, client, printer).await,
        RulesCommand::Replay(command) => replay::run(command, client, printer).await,
        RulesCommand::Import(command) => import::run(&command, printer),
        RulesCommand::Test(command) => test::run(&command, printer),
        RulesCommand::Schema(command) => test::schema(&command, printer),
        RulesCommand::Show(command) => versions::show(command, client, printer).await,
        RulesCommand::History(command) => versions::history(command, client, printer).await,
    }
}

fn warn(warnings: &[ProblemBody], printer: &Printer) {
    for one in warnings {
        printer.warn(&format!(
            "{}:{}:{}: {}: {}",
            one.file, one.line, one.column, one.path, one.message
        ));
    }
}

/// Files as names and texts.
fn texts(files: Vec<FileBody>) -> Vec<(String, String)> {
    files.into_iter().map(|file| (file.name, file.text)).collect()
}

/// Every file, in the order given, folders by name.
fn collect(paths: &[PathBuf]) -> Result<Vec<FileBody>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        let before = found.len();
        if path.is_dir() {
            walk(path, 0, &mut found)?;
            if found.len() == before {
                return Err(Failure::new(format!(
                    "the folder {} holds no rule file (.yaml, .yml or .json)",
                    path.display()
                ))
                .hint("to have no rules at all, apply a file with `version: 1` and `rules: []`"));
            }
        } else {
            found.push(path.clone());
        }
    }
    let read = found.iter().map(|path| {
        let text = files::read_text(path, MAX_DOCUMENT)?;
        Ok(FileBody { name: path.display().to_string(), text })
    });
    read.collect()
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let refused = |why: String| Failure::new(format!("the folder {}: {why}", folder.display()));
    if depth > MAX_DEPTH {
        return Err(refused(format!("it lies more than {MAX_DEPTH} folders deep")));
    }
    let entries = fs::read_dir(folder).map_err(|error| refused(error.to_string()))?;
    let entries = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut entries: Vec<PathBuf> =
        entries.collect::<Result<_, _>>().map_err(|error| refused(error.to_string()))?;
    entries.sort();
    for path in entries {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        if path.is_dir() {
            walk(&path, depth + 1, found)?;
        } else if path.extension().is_some_and(|end| ENDINGS.iter().any(|one| end == *one))
            && !is_test(&path)
        {
            found.push(path);
        }
        if found.len() > MAX_FILES {
            return Err(refused(format!("more than {MAX_FILES} files")));
        }
    }
    Ok(())
}

fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with(TESTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_rule_files_by_name_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("b/.git")).unwrap();
        for name in ["z.yaml", "a.yml", "b/c.json", "a.test.yaml", ".hidden.yaml", "b/.git/x.yaml"]
        {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let found = collect(&[dir.path().to_owned()]).unwrap();
        let names: Vec<_> = found.iter().map(|file| file.text.as_str()).collect();
        assert_eq!(names, ["a.yml", "b/c.json", "z.yaml"]);
        assert!(found[0].name.ends_with("/a.yml"));
    }

    #[test]
    fn a_folder_without_rules_does_not_remove_all_rules() {
        let dir = tempfile::tempdir().unwrap();
        let refused = collect(&[dir.path().to_owned()]).unwrap_err();
        assert!(refused.message.contains("holds no rule file"), "{refused:?}");
        assert!(
            collect(&[dir.path().join("none.yaml")]).unwrap_err().message.contains("none.yaml")
        );
    }
}
