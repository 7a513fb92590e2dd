//! Texts of other people. PostgreSQL keeps every character but U+0000, which a label may have.

use std::borrow::Cow;

/// A character that nobody uses: it stands before what is written in another way.
const MARK: char = '\u{e000}';

/// A text as PostgreSQL can keep it.
pub(super) fn kept(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', MARK]) {
        return text.into();
    }
    text.replace(MARK, "\u{e000}1").replace('\0', "\u{e000}0").into()
}

/// What [`kept`] was given.
pub(super) fn given(text: &str) -> String {
    if !text.contains(MARK) {
        return text.to_owned();
    }
    text.replace("\u{e000}0", "\0").replace("\u{e000}1", "\u{e000}")
}

/// The same of a text that may stand somewhere else.
pub(super) fn seen(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains(MARK) { given(&text).into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back() {
        for text in
            ["", "plain", "\0", "\u{e000}", "\u{e000}0", "\0\u{e000}1\0", "a\u{e000}\u{e000}"]
        {
            let kept = kept(text);
            assert!(!kept.contains('\0'));
            assert_eq!(given(&kept), text, "{text:?}");
        }
    }
}
