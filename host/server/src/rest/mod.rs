//! The REST API. A handler takes its context, makes one call, and maps the error.

mod acknowledge;
mod agents;
mod alerts;
mod batches;
mod bounds;
mod failure;
mod fleet;
mod keys;
mod letters;
mod notifiers;
mod page;
mod plugins;
pub(crate) mod posted;
mod query;
mod rules;
mod secured;
mod silences;
mod status;
mod tokens;
mod ways;

use crate::RuleChecker;
use crate::access::{Access, check_host, check_role, check_token};
use crate::enrolment::EnrolmentTokens;
use crate::fleet::FleetBoard;
use crate::ingest::Clock;
use crate::keyring::KeyRing;
use crate::rotation::Rotation;
use axum::Router;
use axum::middleware::from_fn_with_state;
use bounds::{Bounds, bound};
pub(crate) use failure::{Failure, problem_body};
use prometheus::Registry;
use sentinel_bus::Bus;
use sentinel_fleet::HostEnrolment;
use sentinel_store::Store;
use std::sync::Arc;
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The largest request body: rules, and desired sets, with room to spare.
const MAX_BODY: usize = 8 << 20;
/// The longest a request may take, waiting for its turn included.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most requests under /v1 that are worked on at once, over all routes.
const MAX_RUNNING: usize = 64;
/// The most that wait for their turn; beyond, requests are refused.
const MAX_WAITING: usize = 256;

/// What handlers work with.
#[derive(Clone)]
pub struct Context {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) tokens: Arc<EnrolmentTokens>,
    pub(crate) enrolment: Option<Arc<HostEnrolment>>,
    pub(crate) fleet: Arc<FleetBoard>,
    pub(crate) rules: Arc<dyn RuleChecker>,
    pub(crate) rotation: Arc<Rotation>,
    pub(crate) registry: Registry,
    pub(crate) started_at: i64,
    pub(crate) clock: Clock,
    pub(crate) access: Access,
}

impl Context {
    pub(crate) fn now(&self) -> i64 {
        (self.clock)()
    }
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Sentinel",
    description = "What a Sentinel server answers. Who may call what stands at each route: with a token of a role (`x-role`), with an agent's signature, or anybody."
))]
struct Description;

fn described() -> OpenApiRouter<Context> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(status::status))
        .routes(routes!(agents::list))
        .routes(routes!(agents::show))
        .routes(routes!(agents::approve))
        .routes(routes!(agents::block))
        .routes(routes!(keys::rotate))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(tokens::approve))
        .routes(routes!(tokens::list_api, tokens::create_api))
        .routes(routes!(tokens::revoke_api))
        .routes(routes!(tokens::audit))
        .routes(routes!(query::query))
        .routes(routes!(query::names))
        .routes(routes!(batches::list))
        .routes(routes!(batches::show))
        .routes(routes!(rules::current))
        .routes(routes!(rules::apply))
        .routes(routes!(rules::check))
        .routes(routes!(rules::history))
        .routes(routes!(rules::version))
        .routes(routes!(alerts::alerts))
        .routes(routes!(alerts::history))
        .routes(routes!(ways::ways))
        .routes(routes!(alerts::notifications))
        .routes(routes!(acknowledge::acknowledge))
        .routes(routes!(acknowledge::release))
        .routes(routes!(silences::list, silences::create))
        .routes(routes!(silences::preview))
        .routes(routes!(silences::show))
        .routes(routes!(silences::expire))
        .routes(routes!(letters::list))
        .routes(routes!(letters::show))
        .routes(routes!(letters::retry))
        .routes(routes!(letters::put_away))
        .routes(routes!(letters::test))
        .routes(routes!(notifiers::list))
        .routes(routes!(notifiers::show, notifiers::put, notifiers::remove))
        .routes(routes!(plugins::list))
        .routes(routes!(fleet::put, fleet::sealed))
        .routes(routes!(fleet::history))
        .routes(routes!(fleet::set))
        .routes(routes!(fleet::status))
}

/// Routes that answer anybody.
fn open() -> OpenApiRouter<Context> {
    OpenApiRouter::default()
        .routes(routes!(status::healthz))
        .routes(routes!(status::ready))
        .routes(routes!(status::metrics))
        .routes(routes!(status::description))
}

/// The description of the API, OpenAPI 3.1: of every route that is served, since the routers are
/// made of the same.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut description = described().into_openapi();
    description.merge(open().into_openapi());
    description.merge(posted::described().into_openapi());
    secured::secure(&mut description);
    description
}

/// All routes but those of agents: `/v1` behind the token, the bounds and the table of roles, health and metrics open
/// to answer also when there is too much to do, everything behind the check of the Host header. A request is
/// counted once it may be made at all, and its time runs while it waits.
pub(crate) fn router(context: Context, access: Access) -> Router {
    let (api, _) = described().split_for_parts();
    let api = api
        .route_layer(from_fn_with_state(access.clone(), check_role))
        .route_layer(from_fn_with_state(Bounds::new(MAX_RUNNING, MAX_WAITING), bound))
        .route_layer(from_fn_with_state(access.clone(), check_token));
    let (open, _) = open().split_for_parts();
    api.merge(open)
        .with_state(context)
        .layer(RequestBodyLimitLayer::new(MAX_BODY))
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(access, check_host))
        .layer(TimeoutLayer::with_status_code(axum::http::StatusCode::REQUEST_TIMEOUT, TIMEOUT))
        .layer(CatchPanicLayer::new())
}

#[cfg(test)]
mod tests {
    use crate::access::roles::{Need, TABLE};
    use serde_json::Value;

    /// What a part of the description refers to.
    fn references(part: &Value) -> Vec<&str> {
        match part {
            Value::Object(fields) => fields
                .iter()
                .flat_map(|(name, value)| match value {
                    Value::String(to) if name == "$ref" => vec![to.as_str()],
                    _ => references(value),
                })
                .collect(),
            Value::Array(parts) => parts.iter().flat_map(references).collect(),
            _ => Vec::new(),
        }
    }

    /// What stands in braces in a path.
    fn in_braces(path: &str) -> Vec<&str> {
        path.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).collect()
    }

    /// The parameters of an operation that are in its path.
    fn of_path(operation: &Value) -> Vec<&str> {
        let all = operation["parameters"].as_array().into_iter().flatten();
        all.filter(|one| one["in"] == "path").filter_map(|one| one["name"].as_str()).collect()
    }

    #[test]
    fn what_the_description_refers_to_is_in_it() {
        let description = serde_json::to_value(super::openapi()).unwrap();
        let version = description["openapi"].as_str().unwrap();
        assert!(version.starts_with("3.1."), "{version}");
        let references = references(&description);
        assert!(!references.is_empty());
        for reference in references {
            let there = reference.strip_prefix('#').and_then(|to| description.pointer(to));
            assert!(there.is_some(), "{reference} is not there");
        }
    }

    #[test]
    fn every_operation_says_what_it_answers_and_each_parameter_of_its_path() {
        let description = serde_json::to_value(super::openapi()).unwrap();
        for (path, item) in description["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let answers = operation["responses"].as_object();
                assert!(answers.is_some_and(|all| !all.is_empty()), "{method} {path}");
                let (mut said, mut there) = (of_path(operation), in_braces(path));
                said.sort_unstable();
                there.sort_unstable();
                assert_eq!(said, there, "{method} {path}");
                let required = operation["parameters"].as_array().into_iter().flatten();
                let mut required = required.filter(|one| one["in"] == "path");
                assert!(required.all(|one| one["required"] == true), "{method} {path}");
            }
        }
    }

    #[test]
    fn what_is_not_under_v1_is_open_to_anybody_and_nothing_else_is() {
        for one in TABLE {
            let open = one.need == Need::Nothing;
            assert_eq!(open, !one.path.starts_with("/v1/"), "{one:?}");
        }
    }

    #[test]
    fn every_route_has_its_decision_and_every_decision_its_route() {
        let description = serde_json::to_value(super::openapi()).unwrap();
        let mut routes = std::collections::BTreeSet::new();
        for (path, item) in description["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                routes.insert((method.to_ascii_uppercase(), path.clone()));
            }
        }
        let decided = TABLE.iter().map(|one| (one.method.to_owned(), one.path.to_owned()));
        assert_eq!(routes, decided.collect());
    }
}
