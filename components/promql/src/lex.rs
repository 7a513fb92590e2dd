//! Words and signs of an expression.

use crate::Obstacle;

/// A word or a sign.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A name or a keyword.
    Word(String),
    Number(f64),
    Text(String),
    /// Milliseconds.
    Duration(u64),
    Sign(&'static str),
}

const SIGNS: [&str; 24] = [
    "==", "!=", "=~", "!~", ">=", "<=", "(", ")", "{", "}", "[", "]", ",", ":", "@", "=", ">", "<",
    "+", "-", "*", "/", "%", "^",
];

const UNITS: [(&str, u64); 7] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
    ("y", 31_536_000_000),
];

/// All of them, each with its byte offset.
pub(crate) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Obstacle> {
    let mut tokens: Vec<(usize, Token)> = Vec::new();
    let (mut at, mut brackets) = (0, 0u32);
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let start = at;
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        if first == '#' {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        if matches!(first, '"' | '\'' | '`') {
            let (read, length) = quoted(rest, first)
                .ok_or_else(|| Obstacle { at, message: "a text that does not end".to_owned() })?;
            tokens.push((start, Token::Text(read)));
            at += length;
            continue;
        }
        if first.is_ascii_digit()
            || first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())
        {
            let (token, length) = number(rest)
                .ok_or_else(|| Obstacle { at, message: "no number and no duration".to_owned() })?;
            tokens.push((start, token));
            at += length;
            continue;
        }
        let in_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':' && brackets == 0;
        if first.is_ascii_alphabetic() || first == '_' || first == ':' && brackets == 0 {
            let length = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
            tokens.push((start, Token::Word(rest[..length].to_owned())));
            at += length;
            continue;
        }
        let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) else {
            return Err(Obstacle {
                at,
                message: format!("{first:?} has no place in an expression"),
            });
        };
        match sign {
            "[" => brackets += 1,
            "]" => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        tokens.push((start, Token::Sign(sign)));
        at += sign.len();
    }
    Ok(tokens)
}

/// The text between quotes, and how many bytes it took with them.
fn quoted(rest: &str, quote: char) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Some((text, at + 1)),
            '\\' if quote != '`' => text.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            other => text.push(other),
        }
    }
    None
}

/// A number or a duration at the start of `rest`, and its length.
fn number(rest: &str) -> Option<(Token, usize)> {
    if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
        let length = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
        let value = u64::from_str_radix(&hex[..length], 16).ok()?;
        return Some((Token::Number(value as f64), length + 2));
    }
    if let Some(found) = duration(rest) {
        return Some(found);
    }
    let mut length = 0;
    let bytes = rest.as_bytes();
    while let Some(&byte) = bytes.get(length) {
        let exponent = matches!(bytes.get(length.wrapping_sub(1)), Some(b'e' | b'E'));
        if byte.is_ascii_digit()
            || matches!(byte, b'.' | b'e' | b'E')
            || matches!(byte, b'+' | b'-') && exponent
        {
            length += 1;
        } else {
            break;
        }
    }
    Some((Token::Number(rest[..length].parse().ok()?), length))
}

fn duration(rest: &str) -> Option<(Token, usize)> {
    let (mut at, mut total) = (0, 0u64);
    loop {
        let digits = rest[at..].find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        if digits == 0 {
            break;
        }
        let count: u64 = rest[at..at + digits].parse().ok()?;
        let letters = &rest[at + digits..];
        let length = letters.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(letters.len());
        // `1h30m` is one word of letters and digits.
        let unit = UNITS.iter().find(|(name, _)| *name == &letters[..length])?;
        total = total.checked_add(count.checked_mul(unit.1)?)?;
        at += digits + length;
    }
    (at > 0).then_some((Token::Duration(total), at))
}
