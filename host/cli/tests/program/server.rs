//! A server with a real store in a user's folder.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use sentinel_bus::{EmbeddedBus, EmbeddedOptions};
use sentinel_model::ids::SlotName;
use sentinel_server::access::jwt::Jwt;
use sentinel_server::enrolment::EnrolmentTokens;
use sentinel_server::keywrap::KeyWrap;
use sentinel_server::{
    Listeners, RuleChecker, RuleDiagnostic, RuleRead, RuleVerdict, Server, ServerOptions,
    ServerParts,
};
use sentinel_store::Store;
use sentinel_store::sqlite::{SqliteStore, StoreOptions};
use sentinel_trust::fleet::Operators;

use super::User;

/// The server's clock.
pub(crate) const NOW: i64 = 1_700_000_000_000;
/// The server's API token.
pub(crate) const TOKEN: &str = "sat_000000000000000000000000";

/// Refuses conditions without `ok`, and has something to say about those with `odd`. What they read
/// stands in `reads`.
struct Rules;

#[async_trait]
impl RuleChecker for Rules {
    async fn check(
        &self,
        _: &SlotName,
        condition: &serde_json::Value,
    ) -> Result<RuleVerdict, String> {
        let say = |message: &str, error| {
            vec![RuleDiagnostic { path: String::new(), message: message.to_owned(), error }]
        };
        let read = |text: &serde_json::Value| RuleRead {
            selector: text.as_str().unwrap().parse().unwrap(),
            window_ms: 60_000,
        };
        let reads = condition.get("reads").map(read).into_iter().collect();
        let diagnostics = match (condition.get("ok"), condition.get("odd")) {
            (None, _) => say("not ok", true),
            (_, Some(_)) => say("odd", false),
            _ => Vec::new(),
        };
        Ok(RuleVerdict { diagnostics, reads })
    }

    fn applied(&self) {}
}

/// How a server differs from the usual one.
#[derive(Default)]
pub(crate) struct Wishes {
    /// Who decides.
    pub(crate) operators: Option<Operators>,
    /// Further `host:port` names of it.
    pub(crate) hosts: Vec<String>,
}

/// A server that runs, and the store that it works on. Shut down when it is dropped.
pub(crate) struct Served {
    pub(crate) url: String,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) runtime: tokio::runtime::Runtime,
    server: Option<Server>,
}

impl Served {
    /// Starts one over a folder of the user's.
    pub(crate) fn start(user: &User, folder: &str, wishes: Wishes) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let folder = user.path(folder);
        fs::create_dir_all(folder.join("bus")).unwrap();
        let store = SqliteStore::open(folder.join("sentinel.db"), StoreOptions::default());
        let store: Arc<dyn Store> = Arc::new(runtime.block_on(store).unwrap());
        let server = runtime.block_on(serve(&folder, Arc::clone(&store), wishes));
        let url = format!("http://{}", server.rest());
        Self { url, store, runtime, server: Some(server) }
    }

    /// Lets the user's commands find it, as if it were a `sentinel up` whose data folder is the
    /// user's own.
    pub(crate) fn is_running(&self, user: &User) {
        user.write("api.token", TOKEN);
        fs::create_dir_all(user.path(".local/state/sentinel")).unwrap();
        let running = serde_json::json!({
            "server": self.url, "grpc": self.url, "data": user.path("."), "pid": std::process::id(),
            "token_file": user.path("api.token"),
        });
        user.write(".local/state/sentinel/up.json", running.to_string());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.shutdown());
        }
    }
}

async fn serve(folder: &Path, store: Arc<dyn Store>, wishes: Wishes) -> Server {
    let bus = EmbeddedBus::open(&folder.join("bus"), EmbeddedOptions::default());
    let parts = ServerParts {
        store: Arc::clone(&store),
        bus: Arc::new(bus.unwrap()),
        wrap: Arc::new(KeyWrap::open(&folder.join("server.key")).unwrap()),
        tokens: Arc::new(EnrolmentTokens::new(Arc::clone(&store))),
        operators: wishes.operators,
        enrolment: None,
        rules: Arc::new(Rules),
        rotation: Default::default(),
        registry: prometheus::Registry::new(),
        clock: Arc::new(|| NOW),
    };
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = Listeners::bind(any, any, None).await.unwrap();
    let options = ServerOptions {
        listeners,
        hosts: wishes.hosts,
        token: TOKEN.to_owned(),
        jwt: Jwt::open(&[]).unwrap(),
        limits: Default::default(),
    };
    Server::start(options, parts).await.unwrap()
}
