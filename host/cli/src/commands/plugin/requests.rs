//! What a plugin asks for, in words.

use sentinel_trust::{Asked, Requests};

use crate::output::human;

/// One line for each capability that is asked for.
pub(crate) fn lines(requests: &Requests) -> Vec<String> {
    let mut lines = Vec::new();
    if requests.system {
        lines.push("system: readings of the machine".to_owned());
    }
    if let Some(http) = &requests.http {
        let methods: Vec<_> = http.methods.iter().map(ToString::to_string).collect();
        let origins = listed(&http.origins, "the origins that you grant");
        lines.push(format!("http: {} to {origins}", methods.join(", ")));
    }
    if requests.mail {
        lines.push("mail: through the relay, from and to whom you grant".to_owned());
    }
    if let Some(files) = &requests.files {
        lines.push(format!("files: reading {}", listed(&files.paths, "the paths that you grant")));
    }
    if requests.mac {
        lines.push("mac: signing with the keys that you name".to_owned());
    }
    if let Some(kv) = &requests.kv {
        let bytes = human::bytes(kv.max_bytes);
        lines.push(format!("kv: {bytes} of state that survives restarts"));
    }
    if requests.series {
        lines.push("series: asking for stored series".to_owned());
    }
    lines
}

fn listed<T: ToString>(asked: &Asked<T>, chosen: &str) -> String {
    match asked {
        Asked::FromConfig => chosen.to_owned(),
        Asked::Listed(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_has_its_line() {
        let requests: Requests = serde_json::from_value(serde_json::json!({
            "system": true,
            "http": { "origins": ["https://*.example.com", "http://127.0.0.1:80"], "methods": ["GET", "POST"] },
            "mail": true,
            "files": { "paths": "from-config" },
            "mac": true,
            "kv": { "max_bytes": 65536 },
            "series": true,
        }))
        .unwrap();
        insta::assert_snapshot!(lines(&requests).join("\n"));
        assert!(lines(&Requests::default()).is_empty());
    }
}
