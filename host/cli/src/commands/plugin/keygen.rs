//! Keys of publishers.

use std::path::PathBuf;

use clap::Args;
use sentinel_trust::{PublicKeyFile, PublisherKey, PublisherName};

use crate::failure::Failure;
use crate::files;
use crate::output::Printer;

/// Options of `sentinel plugin keygen`.
#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// Who will sign with it: the half of their plugins' names before the slash.
    #[arg(long, value_name = "NAME")]
    publisher: PublisherName,
    /// The file for the secret key; must not be there yet.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(command: Keygen, printer: &Printer) -> Result<(), Failure> {
    let key = PublisherKey::generate(command.publisher)?;
    files::create(&command.out, key.to_file_text().as_bytes(), 0o600)?;
    let public = PublicKeyFile::from(&key);
    printer.say(&format!(
        "wrote the secret key {} of {} to {}; keep it where only its owner can read it",
        public.key_id,
        public.publisher,
        command.out.display()
    ));
    printer.hint(&format!(
        "beside a `sentinel up`, `sentinel plugin install FILE --publisher-key {}` publishes a plugin and installs it",
        command.out.display()
    ));
    printer.hint(&format!(
        "the owner of another registry lets {0} publish with `sentinel registry approve {0} {1}`",
        public.publisher, public.public
    ));
    printer.data(&public, |_| public.public.to_string())
}
