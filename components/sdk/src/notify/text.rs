//! Texts that fit into a bound.
//!
//! Services count "characters" as bytes, code points or UTF-16 units, and seldom say which.
//! UTF-16 units are never fewer than code points, so a text within a bound counted in them is
//! within it however a service counts characters.

/// What stands at the end of a text that was cut.
const CUT: char = '…';

/// How long a text is, in UTF-16 units.
pub fn length(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// The text, or as much of its beginning as fits with a `…` into `most` UTF-16 units.
pub fn cut(text: &str, most: usize) -> String {
    cut_by(text, most, 1, char::len_utf16)
}

/// The text, or as much of its beginning as fits with a `…` into `most` bytes.
pub fn cut_bytes(text: &str, most: usize) -> String {
    cut_by(text, most, CUT.len_utf8(), char::len_utf8)
}

fn cut_by(text: &str, most: usize, sign: usize, size: impl Fn(char) -> usize) -> String {
    let (mut used, mut end) = (0, 0);
    for (at, one) in text.char_indices() {
        if used + sign <= most {
            end = at;
        }
        used += size(one);
        if used > most {
            let sign = if most >= sign { Some(CUT) } else { None };
            return text[..end].chars().chain(sign).collect();
        }
    }
    text.to_owned()
}

/// The text with each character as `escape` writes it (nothing leaves it as it is), or as much
/// of its beginning as fits so with a `…` into `most` UTF-16 units: an escape is never cut.
pub fn cut_escaped(
    text: &str,
    most: usize,
    escape: impl Fn(char) -> Option<&'static str>,
) -> String {
    let (mut out, mut used, mut end) = (String::new(), 0, 0);
    for one in text.chars() {
        if used < most {
            end = out.len();
        }
        match escape(one) {
            Some(piece) => {
                used += length(piece);
                out.push_str(piece);
            }
            None => {
                used += one.len_utf16();
                out.push(one);
            }
        }
        if used > most {
            out.truncate(end);
            out.extend(if most > 0 { Some(CUT) } else { None });
            return out;
        }
    }
    out
}

/// How HTML and what is like it writes a character of a text; line breaks stay, other control
/// characters become spaces.
pub fn html(one: char) -> Option<&'static str> {
    match one {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '\n' => None,
        one if one.is_control() => Some(" "),
        _ => None,
    }
}

/// A text that takes parts as long as they fit.
///
/// ```
/// use sentinel_sdk::notify::Bounded;
///
/// let mut text = Bounded::new(10);
/// assert!(text.push("12345") && !text.push("123456") && text.push("67890"));
/// assert_eq!(text.into_text(), "1234567890");
/// ```
#[derive(Debug)]
pub struct Bounded {
    text: String,
    room: usize,
}

impl Bounded {
    /// An empty text of at most `most` UTF-16 units.
    pub fn new(most: usize) -> Self {
        Self { text: String::new(), room: most }
    }

    /// Adds a part whole, or says that it does not fit.
    pub fn push(&mut self, part: &str) -> bool {
        let Some(left) = self.room.checked_sub(length(part)) else {
            return false;
        };
        self.room = left;
        self.text.push_str(part);
        true
    }

    /// Keeps room for something that is pushed later; `false` where there is none.
    pub fn keep(&mut self, room: usize) -> bool {
        let left = self.room.checked_sub(room);
        self.room = left.unwrap_or(self.room);
        left.is_some()
    }

    /// Gives back what was kept.
    pub fn release(&mut self, room: usize) {
        self.room += room;
    }

    /// UTF-16 units that are free.
    pub fn room(&self) -> usize {
        self.room
    }

    /// The text so far.
    pub fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_is_cut_between_characters_and_says_so() {
        for (text, most, expect) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("abcd", 1, "…"),
            ("abcd", 0, ""),
            ("", 0, ""),
            ("😀😀", 4, "😀😀"),
            ("😀😀", 3, "😀…"),
            ("😀😀", 2, "…"),
        ] {
            assert_eq!(cut(text, most), expect, "{text:?} in {most}");
        }
        assert_eq!(cut_bytes("ööö", 6), "ööö");
        assert_eq!(cut_bytes("öööö", 6), "ö…");
        assert_eq!(cut_bytes("öööö", 2), "");
    }

    #[test]
    fn an_escape_is_never_cut() {
        for (text, most, expect) in [
            ("a<b", 6, "a&lt;b"),
            ("a<b", 5, "a…"),
            ("a<", 5, "a&lt;"),
            ("<<", 8, "&lt;&lt;"),
            ("<<", 7, "&lt;…"),
            ("a\u{0}b\nc", 9, "a b\nc"),
            ("<", 0, ""),
        ] {
            assert_eq!(cut_escaped(text, most, html), expect, "{text:?} in {most}");
        }
    }

    proptest! {
        #[test]
        fn what_is_escaped_fits_and_ends_between_characters(
            text in "[a<&😀>]{0,20}", most in 0usize..60,
        ) {
            let whole: String =
                text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let short = cut_escaped(&text, most, html);
            prop_assert!(length(&short) <= most);
            prop_assert_eq!(length(&whole) <= most, short == whole);
            let kept = short.trim_end_matches(CUT);
            let read = kept.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
            prop_assert!(text.starts_with(&read), "{} {}", text, short);
        }

        #[test]
        fn what_is_cut_fits_and_is_a_beginning(text in "\\PC{0,40}", most in 0usize..50) {
            let (short, bytes) = (cut(&text, most), cut_bytes(&text, most));
            prop_assert!(length(&short) <= most && bytes.len() <= most);
            prop_assert!(text.starts_with(short.trim_end_matches(CUT)));
            prop_assert!(text.starts_with(bytes.trim_end_matches(CUT)));
            prop_assert_eq!(length(&text) <= most, short == text);
            prop_assert_eq!(length(&text), text.encode_utf16().count());
        }
    }
}
