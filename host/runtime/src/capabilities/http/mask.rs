//! Exact echoes of secrets, taken out of what a guest gets to see.

use zeroize::Zeroizing;

use super::{HttpError, Response};

/// What stands where a secret was.
const MASK: &[u8] = b"***";

/// Bodies above this are searched on a blocking thread (256 KiB).
const INLINE_BYTES: usize = 256 << 10;

/// Texts to take out; none is empty.
#[derive(Default)]
pub(super) struct Masks(Vec<Zeroizing<Vec<u8>>>);

impl Masks {
    /// Adds a text, unless it is empty or there already.
    pub(super) fn add(&mut self, text: &[u8]) {
        if !text.is_empty() && !self.0.iter().any(|known| known.as_slice() == text) {
            self.0.push(Zeroizing::new(text.to_vec()));
        }
    }

    /// Whether there is no text, and so no secret in the request.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `text` with every occurrence of every secret replaced; where they overlap, all that
    /// any of them covers. Takes time linear in the text for each secret.
    fn apply(&self, text: Vec<u8>) -> Vec<u8> {
        let mut covered: Vec<(usize, usize)> = Vec::new();
        for secret in &self.0 {
            find_all(&text, secret, |range| covered.push(range));
        }
        if covered.is_empty() {
            return text;
        }
        covered.sort_unstable();
        let mut masked = Vec::with_capacity(text.len());
        let mut done = 0;
        let mut ranges = covered.into_iter().peekable();
        while let Some((start, mut end)) = ranges.next() {
            while let Some((_, next)) = ranges.next_if(|(next, _)| *next < end) {
                end = end.max(next);
            }
            masked.extend_from_slice(&text[done..start]);
            masked.extend_from_slice(MASK);
            done = end;
        }
        masked.extend_from_slice(&text[done..]);
        masked
    }

    fn apply_str(&self, text: String) -> String {
        let masked = self.apply(text.into_bytes());
        String::from_utf8_lossy(&masked).into_owned()
    }

    fn apply_response(&self, response: Response) -> Response {
        let headers = response.headers.into_iter();
        Response {
            status: response.status,
            headers: headers.map(|(k, v)| (self.apply_str(k), self.apply_str(v))).collect(),
            body: self.apply(response.body),
        }
    }

    fn apply_error(&self, error: HttpError) -> HttpError {
        match error {
            HttpError::Denied(why) => HttpError::Denied(self.apply_str(why)),
            HttpError::Invalid(why) => HttpError::Invalid(self.apply_str(why)),
            HttpError::Connect(why) => HttpError::Connect(self.apply_str(why)),
            HttpError::Tls(why) => HttpError::Tls(self.apply_str(why)),
            HttpError::Broken(why) => HttpError::Broken(self.apply_str(why)),
            HttpError::Timeout | HttpError::TooLarge(_) => error,
        }
    }
}

/// Calls `found` for every occurrence, those that overlap too, by Knuth, Morris and Pratt.
/// Runs of occurrences that touch by overlapping come as one range.
fn find_all(text: &[u8], needle: &[u8], mut found: impl FnMut((usize, usize))) {
    // back[i]: how much of the needle still matches where needle[..=i] matched and no more.
    let mut back = vec![0; needle.len()];
    let mut k = 0;
    for i in 1..needle.len() {
        while k > 0 && needle[i] != needle[k] {
            k = back[k - 1];
        }
        k += usize::from(needle[i] == needle[k]);
        back[i] = k;
    }
    let mut matched = 0;
    let mut open: Option<(usize, usize)> = None;
    for (i, byte) in text.iter().enumerate() {
        while matched > 0 && *byte != needle[matched] {
            matched = back[matched - 1];
        }
        matched += usize::from(*byte == needle[matched]);
        if matched == needle.len() {
            let (start, end) = (i + 1 - needle.len(), i + 1);
            match &mut open {
                Some(range) if start < range.1 => range.1 = end,
                _ => {
                    if let Some(range) = open.replace((start, end)) {
                        found(range);
                    }
                }
            }
            matched = back[matched - 1];
        }
    }
    if let Some(range) = open {
        found(range);
    }
}

/// Takes secrets out of a response or an error.
pub(super) async fn mask_result(
    result: Result<Response, HttpError>,
    masks: Masks,
) -> Result<Response, HttpError> {
    if masks.is_empty() {
        return result;
    }
    match result {
        Ok(response) if response.body.len() > INLINE_BYTES => {
            tokio::task::spawn_blocking(move || masks.apply_response(response))
                .await
                .map_err(|_| HttpError::Broken("the response could not be searched".into()))
        }
        Ok(response) => Ok(masks.apply_response(response)),
        Err(error) => Err(masks.apply_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masks(secrets: &[&str]) -> Masks {
        let mut masks = Masks::default();
        secrets.iter().for_each(|secret| masks.add(secret.as_bytes()));
        masks
    }

    #[test]
    fn every_echo_is_masked_and_nothing_else() {
        for (secrets, text, masked) in [
            (&["s3cret"][..], "a s3cret b s3cret", "a *** b ***"),
            (&["s3cret"], "s3cre s3crets3cret", "s3cre ******"),
            (&["abc", "bcd"], "xabcdx", "x***x"),
            (&["ab", "abcd"], "abcd ab", "*** ***"),
            (&["aa"], "aaaaa b aa", "*** b ***"),
            (&["aab"], "aaab", "a***"),
            (&[""], "nothing", "nothing"),
            (&["long"], "lon", "lon"),
        ] {
            assert_eq!(masks(secrets).apply_str(text.into()), masked, "{secrets:?}");
        }
    }

    #[test]
    fn errors_and_headers_are_masked_too() {
        let masks = masks(&["pw"]);
        let error = masks.apply_error(HttpError::Broken("pw was refused".into()));
        assert_eq!(error, HttpError::Broken("*** was refused".into()));
        let response = Response {
            status: 302,
            headers: vec![("location".into(), "/?k=pw".into())],
            body: vec![],
        };
        assert_eq!(masks.apply_response(response).headers[0].1, "/?k=***");
    }

    proptest! {
        #[test]
        fn no_secret_is_left_in_a_text(
            secrets in proptest::collection::vec("[ab]{1,4}", 1..4),
            text in "[abc]{0,40}",
        ) {
            let borrowed: Vec<&str> = secrets.iter().map(String::as_str).collect();
            let masked = masks(&borrowed).apply(text.clone().into_bytes());
            // Bytes that no occurrence covers, by brute force.
            let mut covered = vec![false; text.len()];
            for secret in &secrets {
                for at in 0..text.len() {
                    if text[at..].starts_with(secret.as_str()) {
                        covered[at..at + secret.len()].fill(true);
                    }
                }
            }
            let left: Vec<u8> = text.bytes().zip(&covered).filter(|(_, c)| !**c).map(|(b, _)| b).collect();
            let shown: Vec<u8> = masked.into_iter().filter(|b| *b != b'*').collect();
            prop_assert_eq!(shown, left);
        }
    }
}
