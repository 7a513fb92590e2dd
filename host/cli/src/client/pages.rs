//! Lists that a server gives a page at a time, read to their end.

use reqwest::Method;
use reqwest::header::{HeaderMap, LINK};
use serde::de::DeserializeOwned;

use super::Client;
use crate::failure::Failure;

/// Most pages of one list that are read: the links of a server that errs may lead in a circle.
const MAX_PAGES: usize = 1_000;

impl Client {
    /// Asks for a list: for its first page, and for those that follow.
    pub(crate) async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Failure> {
        let pages: Vec<Vec<T>> = self.pages(path, &[]).await?;
        Ok(pages.into_iter().flatten().collect())
    }

    /// Asks for something of which a list is a part: for all its pages. There is one at least.
    pub(crate) async fn pages<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Vec<T>, Failure> {
        let mut pages = Vec::new();
        let mut request = self.request(Method::GET, path, query)?;
        while pages.len() < MAX_PAGES {
            let answer = self.sent(request).await?;
            let (status, url) = (answer.status(), answer.url().clone());
            let next = next(answer.headers()).map(|target| url.join(target)).transpose()?;
            let body = self.body(answer).await?;
            pages.push(self.answer(status, &body)?);
            let Some(next) = next else { return Ok(pages) };
            // The token goes nowhere else.
            if next.origin() != self.base.origin() {
                return Err(Failure::new(format!(
                    "the next page of {path} is said to be at another server: {}",
                    crate::output::clean(next.as_str())
                )));
            }
            request = self.request_of(Method::GET, next)?;
        }
        Err(Failure::new(format!("{path} has no end: more than {MAX_PAGES} pages")))
    }
}

/// Where the next page is, as an answer's headers say: RFC 8288, of targets without a comma.
fn next(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = |one: &str| matches!(one.trim(), "rel=next" | "rel=\"next\"");
        parameters.split(';').any(is_next).then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::extract::RawQuery;
    use axum::routing::get;
    use sentinel_agent::LinkTls;

    /// Pages of `1` to `3`, each of which says what it was asked; from `far` on they lead to
    /// another server, and `circle` leads to itself.
    async fn page(RawQuery(query): RawQuery) -> ([(&'static str, &'static str); 1], String) {
        let query = query.unwrap_or_default();
        let link = match query.as_str() {
            "all=true" => "</x?all=true&after=1>; rel=\"next\"",
            "all=true&after=1" => "</y>; rel=\"first\", <?after=2>; rel=next",
            "far" => "<http://127.0.0.1:9/x>; rel=\"next\"",
            "circle" => "</x?circle>; rel=\"next\"",
            _ => "</x>; rel=\"first\"",
        };
        ([("link", link)], serde_json::json!([query]).to_string())
    }

    async fn client() -> Client {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let router = Router::new().route("/x", get(page));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Client::new(url.parse().unwrap(), None, &LinkTls::default()).unwrap()
    }

    #[tokio::test]
    async fn a_list_is_read_to_its_end() {
        let client = client().await;
        let all = [("all", "true".to_owned())];
        let pages: Vec<Vec<String>> = client.pages("/x", &all).await.unwrap();
        assert_eq!(pages, [["all=true"], ["all=true&after=1"], ["after=2"]]);
        assert_eq!(client.list::<String>("/x").await.unwrap(), [""]);
    }

    #[tokio::test]
    async fn no_page_is_asked_of_another_server_and_a_circle_ends() {
        let client = client().await;
        let refused = client.list::<String>("/x?far").await.unwrap_err();
        assert!(refused.message.contains("at another server: http://127.0.0.1:9/x"), "{refused:?}");
        let endless = client.list::<String>("/x?circle").await.unwrap_err();
        assert!(endless.message.contains("has no end"), "{endless:?}");
    }

    #[test]
    fn only_a_link_to_the_next_page_is_one() {
        for (link, target) in [
            ("</a?b=%2C>; rel=\"next\"", Some("/a?b=%2C")),
            ("</a>; title=x; rel=next", Some("/a")),
            ("</a>; rel=\"prev\", </b>;rel=\"next\"", Some("/b")),
            ("</a>; rel=\"nextish\"", None),
            ("/a; rel=\"next\"", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(LINK, link.parse().unwrap())]);
            assert_eq!(next(&headers), target, "{link}");
        }
    }
}
