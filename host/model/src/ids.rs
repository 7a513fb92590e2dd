//! Identities. Each is validated once, where it enters, and is only a value afterwards.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a text is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text has a character or a length that is not allowed.
    #[error(
        "{what} {value:?} is not valid: use 1 to {max} of a-z, 0-9, '-', '_' and '.', starting with a letter or digit"
    )]
    Name {
        /// Which identity.
        what: &'static str,
        /// The text, cut to 80 characters.
        value: String,
        /// The greatest length in bytes.
        max: usize,
    },
    /// The text is not the hexadecimal form of 16 bytes.
    #[error("{what} {value:?} is not 32 hexadecimal digits")]
    Hex {
        /// Which identity.
        what: &'static str,
        /// The text, cut to 80 characters.
        value: String,
    },
}

/// The greatest length of an [`AgentId`] and a [`SlotName`], in bytes.
pub const MAX_NAME: usize = 64;

fn cut(value: &str) -> String {
    value.chars().take(80).collect()
}

fn is_name(value: &str) -> bool {
    let bytes = value.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= MAX_NAME
        && (bytes[0].is_ascii_lowercase() || bytes[0].is_ascii_digit())
        && bytes.iter().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')
        })
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(std::sync::Arc<str>);

        impl $type {
            /// Validates a text.
            ///
            /// # Errors
            /// [`IdError::Name`] where the text has other characters or is too long.
            pub fn new(value: &str) -> Result<Self, IdError> {
                if is_name(value) {
                    Ok(Self(value.into()))
                } else {
                    Err(IdError::Name { what: $what, value: cut(value), max: MAX_NAME })
                }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = IdError;
            fn from_str(value: &str) -> Result<Self, IdError> {
                Self::new(value)
            }
        }

        impl TryFrom<String> for $type {
            type Error = IdError;
            fn try_from(value: String) -> Result<Self, IdError> {
                Self::new(&value)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.0.as_ref().to_owned()
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "title": $what,
                    "description": "1 to 64 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit.",
                    "pattern": "^[a-z0-9][a-z0-9._-]*$",
                    "minLength": 1,
                    "maxLength": MAX_NAME,
                })
            }
        }
    };
}

name!(
    /// The name under which an agent is enrolled: unique at its server, and the value of the
    /// `agent` label of every sample it sends.
    AgentId,
    "agent id"
);
name!(
    /// A named place in a host where one plugin runs.
    SlotName,
    "slot name"
);

macro_rules! sixteen_bytes {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(pub [u8; 16]);

        impl $type {
            /// A fresh one from the system's randomness.
            ///
            /// # Panics
            /// If the system has no randomness, without which nothing here is safe.
            #[must_use]
            pub fn random() -> Self {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).expect("the system gives random bytes");
                Self(bytes)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($type))
            }
        }

        impl FromStr for $type {
            type Err = IdError;
            fn from_str(value: &str) -> Result<Self, IdError> {
                let mut bytes = [0; 16];
                hex::decode_to_slice(value, &mut bytes)
                    .map_err(|_| IdError::Hex { what: $what, value: cut(value) })?;
                Ok(Self(bytes))
            }
        }

        impl TryFrom<String> for $type {
            type Error = IdError;
            fn try_from(value: String) -> Result<Self, IdError> {
                value.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    };
}

sixteen_bytes!(
    /// One opening of an agent's log. Random, so that a cloned or restored machine never
    /// continues another's sequence.
    Epoch,
    "epoch"
);
sixteen_bytes!(
    /// One life of a bus: a new one whenever it may have lost messages that it had accepted.
    Incarnation,
    "incarnation"
);

/// A place in an agent's stream: the `seq`-th record, from 1, of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Which opening of the log.
    pub epoch: Epoch,
    /// Number of the record in it, from 1.
    pub seq: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_lower_case_and_hold_no_path() {
        for good in ["a", "web-01", "db.eu_1", "0x"] {
            assert!(AgentId::new(good).is_ok(), "{good}");
        }
        let long = "a".repeat(MAX_NAME + 1);
        for bad in ["", ".", "..", "-a", "a/b", "Web", "a b", "ä", &long] {
            assert!(AgentId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_epoch_survives_its_text_form() {
        let epoch = Epoch::random();
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
        assert!("12".parse::<Epoch>().is_err());
    }
}
