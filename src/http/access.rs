//! What a ticket or a token allows, as it is asked for and shown.

use aspen_tickets::{Prefix, Scope, Verbs};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::json::{Blob, Given};
use super::problem::{Problem, UNCLEAR};
use super::schemas::KeyBytes;
use crate::types::KeyspaceName;

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
