//! The tags of a repository: end-8.

use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::json;

use super::{Asked, store_failed};
use crate::names::{Repository, Tag};
use crate::refusal::{Code, Refusal};

/// Tags in an answer where the client says no number, and at most.
const MAX_TAGS: usize = 1_000;

/// The part of sorted tags that comes after `last`, and whether more follow.
fn page(tags: Vec<Tag>, last: Option<&str>, n: usize) -> (Vec<Tag>, bool) {
    let mut rest: Vec<Tag> =
        tags.into_iter().filter(|tag| last.is_none_or(|last| tag.as_str() > last)).collect();
    let more = rest.len() > n;
    rest.truncate(n);
    (rest, more)
}

pub(super) async fn list(asked: Asked, repository: &Repository) -> Result<Response, Refusal> {
    let n = match &asked.query.n {
        None => MAX_TAGS,
        Some(text) => text
            .parse::<usize>()
            .map_err(|_| Refusal::new(Code::NameInvalid, "n is not a number"))?
            .min(MAX_TAGS),
    };
    let store = &asked.shared.store;
    let tags = store.tags(repository).await.map_err(store_failed)?;
    if tags.is_empty() && !store.has_repository(repository).await.map_err(store_failed)? {
        return Err(Refusal::new(
            Code::NameUnknown,
            format!("there is no repository {repository}"),
        ));
    }
    let (tags, more) = page(tags, asked.query.last.as_deref(), n);
    let names: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    let body = axum::Json(json!({ "name": repository.as_str(), "tags": names }));
    let mut response = body.into_response();
    if let (true, Some(last)) = (more, names.last()) {
        let link = format!("</v2/{repository}/tags/list?n={n}&last={last}>; rel=\"next\"");
        if let Ok(value) = link.parse() {
            response.headers_mut().insert(header::LINK, value);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_a_gap() {
        let all: Vec<Tag> =
            ["a", "b", "c", "d", "e"].iter().map(|tag| tag.parse().unwrap()).collect();
        for n in 1..=6 {
            let (mut seen, mut last) = (Vec::new(), None::<String>);
            loop {
                let (tags, more) = page(all.clone(), last.as_deref(), n);
                seen.extend(tags.clone());
                if !more {
                    break;
                }
                last = tags.last().map(ToString::to_string);
            }
            assert_eq!(seen, all, "n = {n}");
        }
        assert_eq!(page(all.clone(), None, 0), (vec![], true));
        assert_eq!(page(all, Some("c"), 9).0.len(), 2);
    }
}
