//! Who may call the REST API: the holder of a token, under one of our own names, as far as their
//! role goes.
//!
//! The name is checked because a browser can be made to call a loopback address under a
//! stranger's name (DNS rebinding); the token because a machine may have several users. Three
//! kinds of tokens are taken: the owner's, which lies in a file of the server; those of the
//! store, which all servers share; and those that a provider signed ([`jwt`]). What each role may
//! do stands in one table ([`roles`]), and every change is written down before it is made.

pub mod jwt;
pub mod roles;

use crate::api::ErrorBody;
use crate::ingest::Clock;
use crate::listen::{Addresses, Peer};
use crate::rate::Rates;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jwt::Jwt;
use parking_lot::Mutex;
pub use roles::Role;
use roles::{Became, Effect, Need, decision};
use sentinel_store::access::{NewAudit, TokenHash};
use sentinel_store::{Store, StoreError};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// How long an answer of the store about a token is believed: one that is revoked elsewhere
/// still counts for so long.
const FRESH: Duration = Duration::from_secs(2);
/// The most tokens that are remembered; all are forgotten beyond.
const MAX_REMEMBERED: usize = 1024;
/// The most bytes of what is written down of a change.
const MAX_WHAT: usize = 512;
/// What the holder of the owner's token is called.
const OWNER: &str = "owner";

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// As they are written down.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

/// A token's caller and until when it serves, and when the store was asked.
type Remembered = HashMap<TokenHash, (Instant, Caller, Option<i64>)>;

/// The tokens, and the names under which the server may be called.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    owner: TokenHash,
    hosts: Vec<String>,
    store: Arc<dyn Store>,
    jwt: Jwt,
    clock: Clock,
    rates: Arc<Rates>,
    remembered: Mutex<Remembered>,
}

/// Why somebody may not call.
enum NotCalling {
    /// No token, or none that counts.
    Who(String),
    /// It is not known now.
    Later(StoreError),
    /// Too many requests; after how many milliseconds it may come again.
    TooSoon(u32),
}

/// SHA-256 of a token.
#[must_use]
pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.trim().as_bytes()).into()
}

impl Access {
    /// Access under the addresses and further `host:port` names, for the holder of the owner's
    /// token, of those of the store, and of those that providers signed.
    #[must_use]
    pub(crate) fn new(
        owner: &str,
        addresses: &Addresses,
        names: &[String],
        jwt: Jwt,
        (store, clock, rates): (Arc<dyn Store>, Clock, Arc<Rates>),
    ) -> Self {
        let mut hosts = Vec::new();
        for address in std::iter::once(addresses.rest).chain(addresses.own_rest) {
            let port = address.port();
            hosts.push(address.to_string());
            hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(|name| format!("{name}:{port}")));
        }
        hosts.extend(names.iter().map(|name| name.to_ascii_lowercase()));
        let remembered = Mutex::default();
        Self(Arc::new(Inner { owner: hash(owner), hosts, store, jwt, clock, rates, remembered }))
    }

    /// Forgets what is known of tokens, after some were revoked here.
    pub(crate) fn forget(&self) {
        self.0.remembered.lock().clear();
    }

    fn knows_host(&self, headers: &HeaderMap, uri_host: Option<&str>) -> bool {
        let header = headers.get(header::HOST).and_then(|value| value.to_str().ok());
        header.or(uri_host).is_some_and(|host| {
            let host = host.to_ascii_lowercase();
            self.0.hosts.contains(&host)
        })
    }

    async fn caller(&self, headers: &HeaderMap, peer: Option<Peer>) -> Result<Caller, NotCalling> {
        let who = |text: &str| NotCalling::Who(text.to_owned());
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Err(who(
                "an API token is needed: `Authorization: Bearer TOKEN`; `sentinel up` keeps one in DIR/api.token",
            ));
        };
        let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        let token = token.unwrap_or_default().trim();
        // Of equal length whatever was sent, so the comparison's time says nothing.
        let given = hash(token);
        if given.ct_eq(&self.0.owner).into() {
            return Ok(Caller { name: OWNER.to_owned(), role: Role::Admin });
        }
        let now = (self.0.clock)();
        let stranger = || match peer {
            Some(peer) => {
                let taken = self.0.rates.stranger(peer.address.ip(), now);
                taken.map_err(NotCalling::TooSoon)
            }
            None => Ok(()),
        };
        let found = match self.remembered(&given) {
            Some(known) => known,
            None if self.0.jwt.looks_like(token) => match self.0.jwt.caller(token) {
                Ok(caller) => Some(caller),
                Err(why) => {
                    stranger()?;
                    return Err(NotCalling::Who(why.to_string()));
                }
            },
            None => {
                stranger()?;
                self.of_the_store(given).await?
            }
        };
        let caller = found.ok_or_else(|| {
            who(
                "this is no API token of this server, or no longer; `sentinel up` keeps one in DIR/api.token",
            )
        })?;
        self.0.rates.request(&caller.name, now).map_err(NotCalling::TooSoon)?;
        Ok(caller)
    }

    /// Whether a token serves that does so until then.
    fn serves(&self, until: Option<i64>) -> bool {
        until.is_none_or(|until| until > (self.0.clock)())
    }

    /// What was known a moment ago of a token of the store: its caller, if it serves.
    fn remembered(&self, given: &TokenHash) -> Option<Option<Caller>> {
        let (at, caller, until) = self.0.remembered.lock().get(given).cloned()?;
        (at.elapsed() < FRESH).then(|| self.serves(until).then_some(caller))
    }

    async fn of_the_store(&self, given: TokenHash) -> Result<Option<Caller>, NotCalling> {
        let found = self.0.store.api_token(&given).await.map_err(NotCalling::Later)?;
        let Some(token) = found else { return Ok(None) };
        let Ok(role) = token.role.parse() else {
            let error = format!("the token {} has the role {:?}", token.id, token.role);
            return Err(NotCalling::Later(StoreError::Damaged { what: error }));
        };
        let caller = Caller { name: format!("{} ({})", token.name, token.id), role };
        let mut remembered = self.0.remembered.lock();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(given, (Instant::now(), caller.clone(), token.expires_at));
        Ok(self.serves(token.expires_at).then_some(caller))
    }
}

fn refuse(status: StatusCode, message: impl Into<String>) -> Response {
    (status, axum::Json(ErrorBody { error: message.into(), problems: Vec::new() })).into_response()
}

/// Lets through requests under a known name.
pub async fn check_host(State(access): State<Access>, request: Request, next: Next) -> Response {
    // Nobody gets a certificate for our address under a name that is not ours.
    let tls = request.extensions().get::<Peer>().is_some_and(|peer| peer.tls);
    let uri_host = request.uri().authority().map(ToString::to_string);
    if tls || access.knows_host(request.headers(), uri_host.as_deref()) {
        return next.run(request).await;
    }
    refuse(
        StatusCode::MISDIRECTED_REQUEST,
        "the Host header names another server; call the server by its address, or list the name under `hosts`",
    )
}

/// Lets through requests with a token, and notes whose it is.
pub async fn check_token(
    State(access): State<Access>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    match access.caller(request.headers(), peer).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(NotCalling::Who(why)) => refuse(StatusCode::UNAUTHORIZED, why),
        Err(NotCalling::TooSoon(wait)) => {
            let text = format!("there are too many requests; again in {wait} ms");
            let mut response = refuse(StatusCode::TOO_MANY_REQUESTS, text);
            response.headers_mut().insert(header::RETRY_AFTER, wait.div_ceil(1000).into());
            response
        }
        Err(NotCalling::Later(error)) => {
            tracing::warn!(%error, "API tokens cannot be checked");
            refuse(StatusCode::SERVICE_UNAVAILABLE, "the server cannot check tokens now")
        }
    }
}

/// Lets through what the caller's role may do. What changes something is written down before,
/// and what became of it after; where it cannot be written down it is not done.
pub async fn check_role(State(access): State<Access>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let decision = path.and_then(|path| decision(request.method(), path.as_str()));
    let (Some(decision), Some(caller)) = (decision, request.extensions().get::<Caller>()) else {
        return refuse(StatusCode::FORBIDDEN, "nobody has decided who may do this");
    };
    let Need::Token(role) = decision.need else {
        return refuse(StatusCode::FORBIDDEN, "this is for nobody with a token");
    };
    let denied = (caller.role < role).then(|| {
        let text = format!(
            "this needs the role {role}, and the token of {} has the role {}",
            caller.name, caller.role
        );
        refuse(StatusCode::FORBIDDEN, text)
    });
    if decision.effect != Effect::Changes {
        return match denied {
            Some(denied) => denied,
            None => next.run(request).await,
        };
    }
    let peer = request.extensions().get::<Peer>();
    let mut what = format!("{} {}", request.method(), request.uri().path());
    what.truncate(what.floor_char_boundary(MAX_WHAT));
    let entry = NewAudit {
        at: (access.0.clock)(),
        who: caller.name.clone(),
        role: caller.role.to_string(),
        address: peer.map(|peer| peer.address.ip().to_string()).unwrap_or_default(),
        what,
    };
    let id = match access.0.store.begin_audit(entry).await {
        Ok(id) => id,
        Err(error) => {
            tracing::error!(%error, "a change cannot be written down");
            return refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "the change cannot be written down, and so was not made; try again shortly",
            );
        }
    };
    let response = match denied {
        Some(denied) => denied,
        None => next.run(request).await,
    };
    let mut outcome = response.status().as_str().to_owned();
    if let Some(Became(what)) = response.extensions().get() {
        outcome = format!("{outcome} {what}");
    }
    if let Err(error) = access.0.store.end_audit(id, &outcome).await {
        tracing::error!(%error, id, "what became of a change cannot be written down");
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_store::access::ApiToken;
    use sentinel_store::sqlite::{SqliteStore, StoreOptions};

    const JWT_SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    /// A provider's token for a role.
    fn jwt_of(role: &str) -> String {
        let claims = serde_json::json!({
            "iss": "idp", "aud": "sentinel", "sub": "ann", "exp": 4_000_000_000_u64, "role": role,
        });
        let key = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET);
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key);
        format!("Bearer {}", token.unwrap())
    }

    async fn access(dir: &tempfile::TempDir) -> (Access, Arc<SqliteStore>) {
        let store = SqliteStore::open(dir.path().join("db"), StoreOptions::default());
        let store = Arc::new(store.await.unwrap());
        let here = "127.0.0.1:8080".parse().unwrap();
        let addresses =
            Addresses { tls: false, rest: here, grpc: here, own_rest: None, own_grpc: None };
        let rates = Arc::new(Rates::new(&Default::default(), 1_000));
        let kept: (Arc<dyn Store>, Clock, _) = (store.clone(), Arc::new(|| 1_000), rates);
        let names = ["mon.example:443".into()];
        let key = dir.path().join("jwt.key");
        std::fs::write(&key, JWT_SECRET).unwrap();
        let jwt = Jwt::open(&[jwt::JwtProvider {
            issuer: "idp".into(),
            audience: "sentinel".into(),
            algorithm: jwt::Signing::HS256,
            key,
            role_claim: "role".into(),
            roles: Default::default(),
        }]);
        (Access::new("secret", &addresses, &names, jwt.unwrap(), kept), store)
    }

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[tokio::test]
    async fn only_our_own_names_pass() {
        let (access, _) = access(&tempfile::tempdir().unwrap()).await;
        for (host, known) in [
            ("127.0.0.1:8080", true),
            ("LOCALHOST:8080", true),
            ("[::1]:8080", true),
            ("mon.example:443", true),
            ("evil.example:8080", false),
            ("localhost", false),
            ("localhost:8081", false),
        ] {
            assert_eq!(access.knows_host(&with(header::HOST, host), None), known, "{host}");
        }
        assert!(!access.knows_host(&HeaderMap::new(), None));
    }

    #[tokio::test]
    async fn tokens_of_the_owner_of_the_store_and_of_providers_pass_with_their_roles() {
        let dir = tempfile::tempdir().unwrap();
        let (access, store) = access(&dir).await;
        for (token, role, expires_at) in [
            ("sat_looks", "viewer", None),
            ("sat_late", "admin", Some(1_000)),
            ("sat_still", "operator", Some(1_001)),
        ] {
            let token = ApiToken {
                id: token.into(),
                hash: hash(token),
                name: "n".into(),
                role: role.into(),
                made_by: "owner".into(),
                made_at: 0,
                expires_at,
            };
            store.save_api_token(token).await.unwrap();
        }
        // Twice, since the second is answered from memory.
        for _ in 0..2 {
            for (value, role) in [
                ("Bearer secret", Some(Role::Admin)),
                ("Bearer sat_looks", Some(Role::Viewer)),
                ("Bearer sat_still", Some(Role::Operator)),
                (&jwt_of("operator"), Some(Role::Operator)),
                (&jwt_of("root"), None),
                ("Bearer sat_late", None),
                ("Bearer secre", None),
                ("secret", None),
                ("Bearer ", None),
            ] {
                let found = access.caller(&with(header::AUTHORIZATION, value), None).await;
                assert_eq!(found.ok().map(|caller| caller.role), role, "{value}");
            }
        }
        assert!(access.caller(&HeaderMap::new(), None).await.is_err());
        store.revoke_api_token("sat_looks").await.unwrap();
        access.forget();
        let looks = with(header::AUTHORIZATION, "Bearer sat_looks");
        assert!(access.caller(&looks, None).await.is_err(), "it was revoked");
    }
}
