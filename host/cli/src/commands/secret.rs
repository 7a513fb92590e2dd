//! `sentinel secret`: what grants may name. Values come from standard input alone, since
//! arguments can be seen by every user of the machine.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use sentinel_agent::secrets::{MAX_SECRET, SecretStore};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::output::{Printer, clean};
use crate::running;

/// Options of `sentinel secret`.
#[derive(Debug, Args)]
pub(crate) struct Secret {
    /// The data folder; else that of the `sentinel up` of this user.
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Set a secret to what standard input says; one line break at its end is left out.
    Set(Name),
    /// List the names of secrets.
    List,
    /// Remove a secret.
    Remove(Name),
}

#[derive(Debug, Args)]
struct Name {
    /// The secret's name.
    name: String,
}

pub(super) fn run(command: Secret, printer: &Printer) -> Result<(), Failure> {
    let folder = folder(command.data)?;
    let store = SecretStore::open(&folder)?;
    match command.what {
        What::Set(Name { name }) => {
            let value = value(printer)?;
            store.set(&name, &value)?;
            printer.data(&serde_json::json!({ "name": name, "set": true }), |_| String::new())?;
            printer.say(&format!("{name} is set in {}", folder.display()));
        }
        What::List => {
            let names = store.names()?;
            printer.data(&names, |_| names.iter().map(|name| clean(name) + "\n").collect())?;
            if names.is_empty() {
                printer.say(&format!("there are no secrets in {}", folder.display()));
            }
        }
        What::Remove(Name { name }) => {
            if !store.remove(&name)? {
                return Err(Failure::new(format!(
                    "there is no secret {name:?} in {}",
                    folder.display()
                ))
                .hint("`sentinel secret list` shows the names"));
            }
            printer
                .data(&serde_json::json!({ "name": name, "removed": true }), |_| String::new())?;
            printer.say(&format!("{name} is removed from {}", folder.display()));
        }
    }
    if let Some(warning) = store.warning() {
        printer.warn(&warning);
    }
    Ok(())
}

fn folder(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match named {
        Some(folder) if folder.is_dir() => Ok(folder),
        Some(folder) => Err(Failure::new(format!("there is no data folder {}", folder.display()))
            .hint("give the folder that `sentinel up --data DIR` has")),
        None => match running::read()? {
            Some(running) => Ok(running.data),
            None => Err(Failure::new(
                "no `sentinel up` of this user is running, and no data folder was named",
            )
            .hint("name it with --data DIR, or start `sentinel up`")),
        },
    }
}

fn value(printer: &Printer) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let input = std::io::stdin();
    if input.is_terminal() {
        printer.say("write the value, then press Enter and Ctrl-D:");
    }
    // Reserved in one piece, so that no half-grown copy of the secret stays behind.
    let mut value = Zeroizing::new(Vec::with_capacity(MAX_SECRET + 3));
    input.lock().take(MAX_SECRET as u64 + 2).read_to_end(&mut value)?;
    if value.last() == Some(&b'\n') {
        value.pop();
    }
    if value.last() == Some(&b'\r') {
        value.pop();
    }
    if value.is_empty() {
        return Err(Failure::new("standard input was empty, so nothing was set")
            .hint("write the value to it: `sentinel secret set NAME < FILE`"));
    }
    Ok(value)
}
