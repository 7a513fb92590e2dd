//! The page of `stub_status`.

/// Longest part of a page that a message quotes, in bytes.
const QUOTED: usize = 80;

/// What the page tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) active: u64,
    pub(crate) accepted: u64,
    pub(crate) handled: u64,
    pub(crate) requests: u64,
    pub(crate) reading: u64,
    pub(crate) writing: u64,
    pub(crate) waiting: u64,
}

impl Status {
    /// Reads a page.
    ///
    /// # Errors
    ///
    /// What was expected and what stood there.
    pub(crate) fn parse(page: &str) -> Result<Self, String> {
        let mut words = page.split_ascii_whitespace();
        let mut status = Self::default();
        expect(&mut words, page, &["Active", "connections:"])?;
        status.active = number(&mut words, page, "the active connections")?;
        expect(&mut words, page, &["server", "accepts", "handled", "requests"])?;
        status.accepted = number(&mut words, page, "the accepted connections")?;
        status.handled = number(&mut words, page, "the handled connections")?;
        status.requests = number(&mut words, page, "the requests")?;
        expect(&mut words, page, &["Reading:"])?;
        status.reading = number(&mut words, page, "the connections being read")?;
        expect(&mut words, page, &["Writing:"])?;
        status.writing = number(&mut words, page, "the connections being written")?;
        expect(&mut words, page, &["Waiting:"])?;
        status.waiting = number(&mut words, page, "the waiting connections")?;
        Ok(status)
    }
}

fn expect<'p>(
    words: &mut impl Iterator<Item = &'p str>,
    page: &str,
    expected: &[&str],
) -> Result<(), String> {
    for word in expected {
        if words.next() != Some(word) {
            return Err(not_status(page, &format!("{word:?} is missing")));
        }
    }
    Ok(())
}

fn number<'p>(
    words: &mut impl Iterator<Item = &'p str>,
    page: &str,
    what: &str,
) -> Result<u64, String> {
    let word = words.next().unwrap_or_default();
    word.parse().map_err(|_| not_status(page, &format!("{what} are {word:?}, which is no number")))
}

fn not_status(page: &str, why: &str) -> String {
    let shown = page.trim();
    let end = shown.floor_char_boundary(QUOTED);
    let dots = if end < shown.len() { "..." } else { "" };
    format!(
        "the page is no stub_status page: {why}; it begins {:?}{dots}; \
         check that the URL names the location with `stub_status`",
        &shown[..end]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: &str = "Active connections: 291 \n\
                        server accepts handled requests\n \
                        16630948 16630946 31070465 \n\
                        Reading: 6 Writing: 179 Waiting: 106 \n";

    #[test]
    fn the_page_of_the_manual_is_read() {
        let status = Status {
            active: 291,
            accepted: 16_630_948,
            handled: 16_630_946,
            requests: 31_070_465,
            reading: 6,
            writing: 179,
            waiting: 106,
        };
        assert_eq!(Status::parse(PAGE), Ok(status));
    }

    #[test]
    fn a_page_that_is_another_is_said_with_its_beginning() {
        for (page, why) in [
            ("", "\"Active\" is missing; it begins \"\";"),
            ("<html>Welcome to nginx!</html>", "it begins \"<html>Welcome to nginx!</html>\";"),
            ("Active connections: x", "the active connections are \"x\", which is no number"),
            ("Active connections: -1", "the active connections are \"-1\""),
            (
                "Active connections: 1\nserver accepts handled requests\n 1 2\nReading: 0",
                "the requests are \"Reading:\"",
            ),
            (&PAGE[..PAGE.len() - 6], "the waiting connections are \"\""),
            (&"ä".repeat(100), "..."),
        ] {
            let said = Status::parse(page).unwrap_err();
            assert!(said.contains(why), "{said} lacks {why}");
        }
    }

    proptest! {
        #[test]
        fn no_page_makes_it_panic(page in any::<String>(), cut in 0..PAGE.len()) {
            let _ = Status::parse(&page);
            let _ = Status::parse(&[&PAGE[..cut], &page].concat());
        }
    }
}
