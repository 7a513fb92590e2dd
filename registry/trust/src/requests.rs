//! What a manifest asks for.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use crate::capability::{Capability, Kind};
use crate::origin::{HttpMethod, OriginPattern};
use crate::paths::PathGlob;

/// Most entries in one list of origins or paths.
pub const MAX_LISTED: usize = 100;
/// Most bytes of state that a plugin may keep (16 MiB).
pub const MAX_KV_BYTES: u64 = 16 << 20;
/// Bytes of state that a plugin gets where it names no number (1 MiB).
pub const DEFAULT_KV_BYTES: u64 = 1 << 20;

/// The word that stands for "the operator chooses".
const FROM_CONFIG: &str = "from-config";

/// The capabilities that a plugin asks for. `log` and `clock` need no request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Requests {
    /// Readings of the machine.
    #[serde(skip_serializing_if = "is_false")]
    pub system: bool,
    /// HTTP requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpRequest>,
    /// Mail, through a relay and to recipients that the operator names.
    #[serde(skip_serializing_if = "is_false")]
    pub mail: bool,
    /// Reading files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesRequest>,
    /// Message authentication with keys that the operator names.
    #[serde(skip_serializing_if = "is_false")]
    pub mac: bool,
    /// State that survives restarts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv: Option<KvRequest>,
    /// Asking for stored series.
    #[serde(skip_serializing_if = "is_false")]
    pub series: bool,
}

/// HTTP: where to and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpRequest {
    /// Origins or patterns; or `from-config` where the operator chooses them in the config
    /// (a webhook's URL), and then the grant alone names them.
    pub origins: Asked<OriginPattern>,
    /// Methods it uses.
    pub methods: BTreeSet<HttpMethod>,
}

/// Files: which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesRequest {
    /// Absolute paths or globs; or `from-config` where the operator chooses them.
    pub paths: Asked<PathGlob>,
}

/// State: how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KvRequest {
    /// Most bytes of all keys and values together, at most [`MAX_KV_BYTES`].
    #[serde(default = "default_kv_bytes")]
    pub max_bytes: u64,
}

const fn default_kv_bytes() -> u64 {
    DEFAULT_KV_BYTES
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape serde calls")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// A list that the author fixes, or the word `from-config`: the operator names the entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked<T> {
    /// The operator's config says which; nothing is allowed but what the grant names.
    FromConfig,
    /// These, and nothing else even if more is granted.
    Listed(Vec<T>),
}

impl<T: Serialize> Serialize for Asked<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::FromConfig => serializer.serialize_str(FROM_CONFIG),
            Self::Listed(list) => list.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Asked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AskedVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for AskedVisitor<T> {
            type Value = Asked<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list, or the word \"{FROM_CONFIG}\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Asked<T>, E> {
                if text == FROM_CONFIG {
                    Ok(Asked::FromConfig)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Asked<T>, A::Error> {
                let list: Vec<T> = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                if list.is_empty() {
                    return Err(A::Error::custom(format!(
                        "an empty list asks for nothing; leave the request out, or write \"{FROM_CONFIG}\""
                    )));
                }
                Ok(Asked::Listed(list))
            }
        }

        deserializer.deserialize_any(AskedVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Asked<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Asked{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                { "const": FROM_CONFIG },
                {
                    "type": "array",
                    "items": generator.subschema_for::<T>(),
                    "minItems": 1,
                    "maxItems": MAX_LISTED,
                },
            ]
        })
    }
}

impl Requests {
    /// Whether a capability is asked for at all.
    #[must_use]
    pub const fn asks_for(&self, capability: Capability) -> bool {
        match capability {
            Capability::System => self.system,
            Capability::Http => self.http.is_some(),
            Capability::Mail => self.mail,
            Capability::Files => self.files.is_some(),
            Capability::Mac => self.mac,
            Capability::Kv => self.kv.is_some(),
            Capability::Series => self.series,
        }
    }

    /// Everything that is wrong with the requests of a plugin of `kind`, each with its path
    /// in the manifest.
    pub(crate) fn problems(&self, kind: Kind, problems: &mut Vec<String>) {
        for capability in Capability::ALL {
            if self.asks_for(capability) && !kind.capabilities().contains(&capability) {
                problems.push(format!(
                    "requests.{capability}: a {kind} has no `{capability}`; its world offers {}",
                    offered(kind)
                ));
            }
        }
        if let Some(http) = &self.http {
            listed("requests.http.origins", &http.origins, problems);
            if http.methods.is_empty() {
                problems.push(
                    "requests.http.methods: name at least one method, for example GET".into(),
                );
            }
        }
        if let Some(files) = &self.files {
            listed("requests.files.paths", &files.paths, problems);
        }
        if let Some(kv) = &self.kv
            && !(1..=MAX_KV_BYTES).contains(&kv.max_bytes)
        {
            problems.push(format!(
                "requests.kv.max_bytes: {} is not within 1 to {MAX_KV_BYTES}",
                kv.max_bytes
            ));
        }
    }
}

fn offered(kind: Kind) -> String {
    let names: Vec<_> = kind.capabilities().iter().map(|c| c.as_str()).collect();
    if names.is_empty() { "`log` and `clock` only".into() } else { names.join(", ") }
}

fn listed<T>(path: &str, asked: &Asked<T>, problems: &mut Vec<String>) {
    if let Asked::Listed(list) = asked
        && !(1..=MAX_LISTED).contains(&list.len())
    {
        problems.push(format!(
            "{path}: {} entries; 1 to {MAX_LISTED} are allowed, or the word \"{FROM_CONFIG}\"",
            list.len()
        ));
    }
}
