//! Lists that grow with the installation are given a page at a time: so many entries after the
//! place where the page before ended, and a `Link` header to the next one (RFC 8288). A place is
//! said by the entry that stands there and not by a count, so that nothing is left out and nothing
//! told twice when entries come and go meanwhile.

use super::Failure;
use axum::http::{HeaderName, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;
use std::fmt::Write;
use utoipa::IntoParams;

/// The most entries of a page; as many as a page has unless fewer are asked for.
const MAX_PAGE: u32 = 1_000;

/// All that stands for something in a query: everything but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The header that leads to the next page; absent after the last.
pub(super) type Next = Option<[(HeaderName, String); 1]>;

/// Which part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
pub(super) struct Page {
    /// At most so many entries, 1 to 1,000; 1,000 where absent.
    limit: Option<u32>,
    /// Where the page before ended, as its link to the next one says; the start where absent.
    after: Option<String>,
}

impl Page {
    /// How many entries the page has at most.
    ///
    /// # Errors
    /// 400 where none or too many are asked for.
    pub(super) fn limit(&self) -> Result<u32, Failure> {
        match self.limit.unwrap_or(MAX_PAGE) {
            limit @ 1..=MAX_PAGE => Ok(limit),
            limit => Err(Failure::bad(format!("limit is {limit}; write 1 to {MAX_PAGE}"))),
        }
    }

    /// Where the page before ended, if there is one before.
    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// That what [`Page::after`] says is no place of this list.
    pub(super) fn nowhere(&self) -> Failure {
        let after = self.after.as_deref().unwrap_or_default();
        Failure::bad(format!("after is {after:?}, where no page ends; follow the link of one"))
    }

    /// Leaves the page of the entries found, of which there is one more than it has where another
    /// page follows: then the link to that, at this path and with these further parameters.
    pub(super) fn cut<T>(
        &self,
        found: &mut Vec<T>,
        (path, parameters): (&str, &[(&str, &str)]),
        place: impl FnOnce(&T) -> String,
    ) -> Next {
        let limit = self.limit.unwrap_or(MAX_PAGE) as usize;
        if found.len() <= limit {
            return None;
        }
        found.truncate(limit);
        let mut target = format!("{path}?");
        for (name, value) in parameters {
            let _ = write!(target, "{name}={}&", encoded(value));
        }
        if let Some(limit) = self.limit {
            let _ = write!(target, "limit={limit}&");
        }
        let _ = write!(target, "after={}", encoded(&place(found.last()?)));
        Some([(header::LINK, format!("<{target}>; rel=\"next\""))])
    }
}

/// A text as a parameter's value.
fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(limit: Option<u32>) -> Page {
        Page { limit, after: None }
    }

    /// The link after so many entries of `a` to `c`, and how many are left of them.
    fn link(limit: Option<u32>, parameters: &[(&str, &str)]) -> (usize, Option<String>) {
        let mut found = vec!["a", "b,", "c"];
        let next = page(limit).cut(&mut found, ("/v1/x", parameters), ToString::to_string);
        (found.len(), next.map(|[(name, link)]| format!("{name}: {link}")))
    }

    #[test]
    fn a_page_links_to_the_next_where_more_was_found_than_it_has() {
        assert_eq!(link(None, &[]), (3, None));
        assert_eq!(link(Some(3), &[("all", "true")]), (3, None));
        let next = "link: </v1/x?limit=2&after=b%2C>; rel=\"next\"";
        assert_eq!(link(Some(2), &[]), (2, Some(next.to_owned())));
        let next = "link: </v1/x?name=a%2Fb&limit=1&after=a>; rel=\"next\"";
        assert_eq!(link(Some(1), &[("name", "a/b")]), (1, Some(next.to_owned())));
    }

    #[test]
    fn without_a_limit_a_page_has_a_thousand_entries() {
        let mut found: Vec<u32> = (0..=MAX_PAGE).collect();
        let next = page(None).cut(&mut found, ("/v1/x", &[]), ToString::to_string).unwrap();
        assert_eq!((found.len(), next[0].1.as_str()), (1_000, "</v1/x?after=999>; rel=\"next\""));
    }

    #[test]
    fn a_page_has_neither_no_entries_nor_very_many() {
        for (limit, has) in
            [(None, Some(1_000)), (Some(1), Some(1)), (Some(1_000), Some(1_000)), (Some(0), None)]
        {
            assert_eq!(page(limit).limit().ok(), has, "{limit:?}");
        }
        assert!(page(Some(1_001)).limit().is_err());
    }

    #[test]
    fn a_place_comes_back_whatever_it_is_called() {
        for place in ["web-1", "a&b=c #%+\"<>;,é\u{0}", "[\"a/b\",\"1.0.0\"]"] {
            let uri = format!("/v1/x?after={}", encoded(place)).parse().unwrap();
            let read = axum::extract::Query::<Page>::try_from_uri(&uri).unwrap();
            assert_eq!(read.0.after(), Some(place));
        }
    }
}
