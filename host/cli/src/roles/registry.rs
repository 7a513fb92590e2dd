//! `sentinel registry`: the registry alone, and the tokens with which publishers push to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use sentinel_files::read_private;
use sentinel_registry_service::{Options, Place, Rate, Store, Tls, Token, serve};
use sentinel_trust::repository::{KeyPurpose, OnlineKeys, RoleKey};
use sentinel_trust::{MAX_KEY_FILE_BYTES, PluginName, PublisherName};
use tokio::runtime::Builder;

use super::StopSignal;
use super::data::default_folder;
use crate::commands::registry::{OwnerCommand, run as run_owner};
use crate::failure::Failure;
use crate::output::{Printer, human, table::Table};

/// The folder below `--data` with everything that is kept.
const STORE: &str = "store";
/// The folder below `--data` with the online keys.
const KEYS: &str = "keys";

/// Options of `sentinel registry`.
#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    serving: ServingArgs,
    #[command(subcommand)]
    command: Option<RegistryCommand>,
}

/// Where a registry keeps everything.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Folder for everything that is kept [default: the user's data folder, `registry`]
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// Keep it in this bucket of S3 instead; credentials come from the AWS_… variables
    #[arg(long, value_name = "BUCKET", global = true)]
    s3_bucket: Option<String>,
    /// Folder in the bucket
    #[arg(long, value_name = "PREFIX", global = true, requires = "s3_bucket", default_value = "")]
    s3_prefix: String,
    /// Address of what speaks like S3, such as `https://ceph.example`
    #[arg(long, value_name = "URL", global = true, requires = "s3_bucket")]
    s3_endpoint: Option<String>,
    /// Region of the bucket
    #[arg(long, value_name = "REGION", global = true, requires = "s3_bucket")]
    s3_region: Option<String>,
}

/// How a registry is served.
#[derive(Debug, Args)]
struct ServingArgs {
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// Certificate for TLS (PEM), without which only loopback addresses are listened on
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Requests a second that one address may make; ten times as many at once
    #[arg(long, value_name = "N", default_value_t = 500)]
    requests_per_second: u32,
    /// Ask for a token also where something is pulled
    #[arg(long)]
    private: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    #[command(flatten)]
    Owner(Box<OwnerCommand>),
    #[command(flatten)]
    Store(StoreCommand),
}

/// What is changed in the store alone.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Tokens with which publishers push.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Let a plugin have a name that is like an existing one.
    AllowName {
        /// Its name, `publisher/name`.
        name: PluginName,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token. It is shown once.
    Create {
        /// Whose plugins may be pushed with it.
        #[arg(required_unless_present = "pull_only")]
        namespace: Option<PublisherName>,
        /// Make one with which a private registry may be pulled from, and nothing else.
        #[arg(long, conflicts_with = "namespace")]
        pull_only: bool,
    },
    /// List the tokens that there are; their secrets are kept nowhere.
    List,
    /// Remove a token: it counts no longer.
    Remove {
        /// Its id, as `list` shows it.
        id: String,
    },
}

impl PlaceArgs {
    /// The data folder.
    fn folder(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| default_folder().join("registry"))
    }

    fn open(&self) -> Result<Store> {
        let place = match &self.s3_bucket {
            None => Place::Folder(self.folder().join(STORE)),
            Some(bucket) => Place::S3 {
                bucket: bucket.clone(),
                prefix: self.s3_prefix.clone(),
                endpoint: self.s3_endpoint.clone(),
                region: self.s3_region.clone(),
            },
        };
        Ok(Store::open(&place)?)
    }
}

/// Does what was asked: a command, or else serving.
pub(crate) fn run(args: RegistryArgs, printer: &Printer) -> Result<(), Failure> {
    let RegistryArgs { place, serving, command } = args;
    let command = match command {
        Some(RegistryCommand::Owner(command)) => {
            return run_owner(*command, &place.folder(), || place.open(), printer);
        }
        Some(RegistryCommand::Store(command)) => Some(command),
        None => None,
    };
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        match command {
            None => run_service(&place, serving).await.map(|()| None),
            Some(command) => {
                let store = place.open()?;
                Ok(Some(manage(&store, command, printer).await))
            }
        }
    });
    done.map_err(|error: anyhow::Error| Failure::new(format!("{error:#}")))?.unwrap_or(Ok(()))
}

/// The online keys of a folder; nothing where there is none.
fn online_keys(folder: &Path) -> Result<Option<OnlineKeys>> {
    if !folder.exists() {
        return Ok(None);
    }
    let read = |purpose: KeyPurpose| -> Result<RoleKey> {
        let file = folder.join(format!("{purpose}.key"));
        let text = read_private(&file, MAX_KEY_FILE_BYTES)?.with_context(|| {
            format!("there is no {}; `sentinel registry init` makes it", file.display())
        })?;
        let key = RoleKey::from_file_text(&text).with_context(|| file.display().to_string())?;
        anyhow::ensure!(
            key.purpose() == purpose,
            "{} is a key for {}, not for {purpose}",
            file.display(),
            key.purpose()
        );
        Ok(key)
    };
    Ok(Some(OnlineKeys {
        index: read(KeyPurpose::Index)?,
        snapshot: read(KeyPurpose::Snapshot)?,
        timestamp: read(KeyPurpose::Timestamp)?,
    }))
}

async fn run_service(place: &PlaceArgs, args: ServingArgs) -> Result<()> {
    let store = place.open()?;
    let keys = online_keys(&place.folder().join(KEYS))?;
    let publishes = keys.is_some();
    let tls = args.tls_certificate.zip(args.tls_key);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut options = Options::new(args.listen);
    options.tls = tls.map(|(certificate, key)| Tls { certificate, key });
    options.anonymous_pull = !args.private;
    let rate = f64::from(args.requests_per_second);
    options.rates.address = Rate { per_second: rate, burst: 10.0 * rate };
    let mut stop = StopSignal::listen()?;
    let registry = serve(options, store, keys).await?;
    eprintln!("The registry is running on {scheme}://{}. Ctrl-C stops it.", registry.address());
    if !publishes {
        eprintln!(
            "There are no online keys in {}: it takes and gives what is pushed, and publishes nothing.",
            place.folder().join(KEYS).display()
        );
    }
    stop.asked().await;
    stop.doing("the registry was ending its requests");
    registry.shutdown().await;
    Ok(())
}

async fn manage(store: &Store, command: StoreCommand, printer: &Printer) -> Result<(), Failure> {
    match command {
        StoreCommand::Token(TokenCommand::Create { namespace, .. }) => {
            let (token, text) = store.create_token(namespace, crate::commands::now()).await?;
            let shown = serde_json::json!({
                "id": token.id, "namespace": token.namespace, "token": text.as_str(),
            });
            printer.data(&shown, |_| text.to_string())?;
            printer.say(&match &token.namespace {
                Some(namespace) => format!("whoever has it may push plugins of {namespace}"),
                None => "whoever has it may pull".to_owned(),
            });
        }
        StoreCommand::Token(TokenCommand::List) => {
            let tokens = store.tokens().await?;
            let shown: Vec<_> = tokens.iter().map(shown).collect();
            printer.data(&shown, |look| list(&tokens, look))?;
        }
        StoreCommand::Token(TokenCommand::Remove { id }) => {
            if !store.remove_token(&id).await? {
                return Err(Failure::new(format!("there is no token {id:?}"))
                    .hint("`sentinel registry token list` shows the ids"));
            }
            printer.data(&serde_json::json!({ "id": id, "removed": true }), |_| String::new())?;
            printer.say("it counts no longer");
        }
        StoreCommand::AllowName { name } => {
            store.allow_name(&name).await?;
            printer
                .data(&serde_json::json!({ "name": name, "allowed": true }), |_| String::new())?;
            printer.say(&format!("{name} may be pushed although its name is like another"));
        }
    }
    Ok(())
}

/// A token as it may be shown: without the hash of its secret.
fn shown(token: &Token) -> serde_json::Value {
    serde_json::json!({
        "id": token.id, "namespace": token.namespace, "created": token.created,
    })
}

fn list(tokens: &[Token], look: crate::output::Look) -> String {
    if tokens.is_empty() {
        return String::new();
    }
    let mut table = Table::new(look, &["id", "pushes to", "made"]);
    for token in tokens {
        let namespace = token.namespace.as_ref().map_or("– (pulls)", PublisherName::as_str);
        table.row([token.id.clone(), namespace.to_owned(), human::moment(token.created)]);
    }
    table.text()
}
