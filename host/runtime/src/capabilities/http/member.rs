//! Secrets as members of a JSON body: for receivers that want their key nowhere else.
//!
//! Only a member of the outermost object counts, and only if its value is nothing but
//! `"{{secret:NAME}}"`: what a label of somebody else's metric brings into a body is never filled
//! in. The other bytes of the body stay as they are.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// Where a member's value stands in a body, in bytes, if the body is a JSON object that has it.
/// `body` holds no member twice, for nobody could say which of them counts.
pub(super) fn find(body: &[u8], name: &str) -> Option<std::ops::Range<usize>> {
    let members: Members<'_> = serde_json::from_slice(body).ok()?;
    let value = members.0.get(name)?.get();
    // The value borrows from the body: where it begins is the distance of the two.
    let start = (value.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    Some(start..start + value.len())
}

/// The body with a JSON string in place of a range.
pub(super) fn fill(body: &[u8], at: std::ops::Range<usize>, secret: &str) -> Filled {
    let text = serde_json::to_string(secret).expect("a text is always JSON");
    let text = Zeroizing::new(text);
    let mut filled = Vec::with_capacity(body.len() + text.len());
    filled.extend_from_slice(&body[..at.start]);
    filled.extend_from_slice(text.as_bytes());
    filled.extend_from_slice(&body[at.end..]);
    Filled { body: filled, text }
}

/// A body with a secret in it.
pub(super) struct Filled {
    pub(super) body: Vec<u8>,
    /// How the secret is written in it, with its quotes.
    pub(super) text: Zeroizing<String>,
}

/// The members of an object, none twice.
struct Members<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Members<'de>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    if members.insert(name, map.next_value::<&'de RawValue>()?).is_some() {
                        return Err(serde::de::Error::custom("a member stands twice"));
                    }
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_in_the_outermost_object_only() {
        for (body, value) in [
            (r#"{"a": 1, "key" : "x" }"#, Some(r#""x""#)),
            (r#"{"key":{"key":"y"}}"#, Some(r#"{"key":"y"}"#)),
            (r#"{"a":{"key":"y"}}"#, None),
            (r#"["key"]"#, None),
            (r#"{"key":"x","key":"y"}"#, None),
            (r#"{"k\u0065y":"x"}"#, Some(r#""x""#)),
            (r#"{"key":"x"} "#, Some(r#""x""#)),
            (r#"{"key":"x""#, None),
            ("", None),
        ] {
            let found = find(body.as_bytes(), "key").map(|at| &body[at]);
            assert_eq!(found, value, "{body}");
        }
    }

    #[test]
    fn the_other_bytes_stay_as_they_are() {
        let body = br#"{ "a":1.0,"key":"" ,"b":"\u0041"}"#;
        let filled = fill(body, find(body, "key").unwrap(), "s\"\n");
        let text = std::str::from_utf8(&filled.body).unwrap();
        assert_eq!(text, r#"{ "a":1.0,"key":"s\"\n" ,"b":"\u0041"}"#);
        assert_eq!(filled.text.as_str(), r#""s\"\n""#);
    }
}
