//! What each route needs, in the API's description: as the table of roles has it.

use crate::access::roles::{Need, TABLE};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, OpenApi};

/// What the scheme is called.
const TOKEN: &str = "token";

/// Says of each route what the table says.
pub(super) fn secure(description: &mut OpenApi) {
    let components = description.components.get_or_insert_with(Components::default);
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme(TOKEN, scheme);
    for one in TABLE {
        let Some(item) = description.paths.paths.get_mut(one.path) else { continue };
        let operation = match one.method {
            "GET" => &mut item.get,
            "PUT" => &mut item.put,
            "DELETE" => &mut item.delete,
            _ => &mut item.post,
        };
        if let Some(operation) = operation {
            secure_one(operation, one.need);
        }
    }
}

fn secure_one(operation: &mut Operation, need: Need) {
    let scopes: [&str; 0] = [];
    // An empty list says that nothing is needed, or nothing that OpenAPI knows.
    operation.security = Some(match need {
        Need::Token(_) => vec![SecurityRequirement::new(TOKEN, scopes)],
        Need::Nothing | Need::Signature => Vec::new(),
    });
    if let Need::Token(role) = need {
        let extensions = operation.extensions.get_or_insert_default();
        extensions.insert("x-role".to_owned(), role.as_str().into());
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_route_says_what_it_needs() {
        let description = serde_json::to_value(super::super::openapi()).unwrap();
        let put = &description["paths"]["/v1/rules"]["put"];
        assert_eq!(put["x-role"], "operator");
        assert_eq!(put["security"], serde_json::json!([{"token": []}]));
        let open = &description["paths"]["/healthz"]["get"];
        assert_eq!((&open["security"], open.get("x-role")), (&serde_json::json!([]), None));
        let scheme = &description["components"]["securitySchemes"]["token"];
        assert_eq!(scheme["scheme"], "bearer");
    }
}
