//! What a ticket or a token is known by, and what it allows, as it is asked for and shown.

use std::fmt;

use aspen_tickets::{Prefix, Scope, Verbs};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::json::{Blob, Given};
use super::problem::{Problem, UNCLEAR};
use super::schemas::KeyBytes;
use crate::types::KeyspaceName;

/// What a ticket or a token is known by, which is no secret: 32 hexadecimal digits, and in no other
/// form, so that each has one path.
#[derive(Clone, Copy)]
pub(super) struct AccessId(pub(super) u128);

impl AccessId {
    /// The id that a text is, if it is one.
    pub(super) fn read(text: &str) -> Option<Self> {
        let id = u128::from_str_radix(text, 16).ok().map(AccessId);
        id.filter(|id| id.to_string() == text)
    }
}

impl fmt::Display for AccessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for AccessId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a ticket or a token is once it is good no more.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Revoked")]
pub(super) struct RevokedForm {
    id: AccessId,
    state: &'static str,
}

impl RevokedForm {
    pub(super) fn of(id: AccessId) -> Self {
        RevokedForm { id, state: "revoked" }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewPrefix")]
pub(super) struct PrefixForm {
    keyspace: Option<KeyspaceName>,
    #[schemars(with = "KeyBytes")]
    prefix: Given,
}

pub(super) fn verbs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Verbs, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    words.join(",").parse().map_err(de::Error::custom)
}

pub(super) fn scope(
    keyspaces: Option<Vec<KeyspaceName>>,
    prefixes: Option<Vec<PrefixForm>>,
) -> Result<Scope, Problem> {
    let prefix = |PrefixForm { keyspace, prefix }| Prefix {
        keyspace: keyspace.unwrap_or_default().to_string(),
        prefix: prefix.0.to_vec(),
    };
    match (keyspaces, prefixes) {
        (None, None) => Ok(Scope::All),
        (Some(names), None) => {
            Ok(Scope::Keyspaces(names.iter().map(KeyspaceName::to_string).collect()))
        }
        (None, Some(list)) => Ok(Scope::Prefixes(list.into_iter().map(prefix).collect())),
        (Some(_), Some(_)) => Err(Problem::new(
            &UNCLEAR,
            "access is to keyspaces or to prefixes, not to both; a prefix names its keyspace",
        )),
    }
}

/// What is allowed, and what people call it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Access")]
pub(super) struct AccessForm<'a> {
    name: &'a str,
    allow: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keyspaces: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefixes: Option<Vec<ScopePrefixForm<'a>>>,
}

impl<'a> AccessForm<'a> {
    pub(super) fn of(name: &'a str, scope: &'a Scope, verbs: Verbs) -> Self {
        let (keyspaces, prefixes) = match scope {
            Scope::All => (None, None),
            Scope::Keyspaces(names) => (Some(names.as_slice()), None),
            Scope::Prefixes(list) => {
                let form = |at: &'a Prefix| ScopePrefixForm {
                    keyspace: &at.keyspace,
                    prefix: Blob(&at.prefix),
                };
                (None, Some(list.iter().map(form).collect()))
            }
        };
        let allow = verbs.to_string().split(',').map(str::to_owned).collect();
        AccessForm { name, allow, keyspaces, prefixes }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Prefix")]
struct ScopePrefixForm<'a> {
    keyspace: &'a str,
    prefix: Blob<'a>,
}
