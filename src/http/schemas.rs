//! Schemas of what serde does not derive, and of words that belong to other modules, for the OpenAPI
//! document.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::access::AccessId;
use super::json::{Blob, Given, GivenLease, Hex, Object};
use super::problem::{KINDS, Problem, TYPE_PREFIX};
use super::range::Direction;
use super::txn::LeaseOrNone;
use crate::limits::{KEY_BYTES_MAX, MEMBER_NAME_BYTES_MAX, VALUE_BYTES_MAX};
use crate::machine::CLAIM_SUFFIX_BYTES;
use crate::types::{Consistency, GroupId, KeyspaceName, NodeId};
use aspen_tickets::KEYSPACE_BYTES_MAX;

/// A key or a name in an address: its bytes, percent-encoded.
pub(super) struct KeyText;
/// A key in JSON.
pub(super) struct KeyBytes;
/// The name of a lock or an election in an address.
pub(super) struct ClaimName;
/// Entity tags, or any.
pub(super) struct TagList;
/// A value as a raw body.
pub(super) struct ValueBytes;
/// How many are asked for.
pub(super) struct Limit;
/// The id of a watch's event.
pub(super) struct EventId;
/// What people call something: text in one line.
pub(super) struct Name;
/// What a node that joins is to be.
pub(super) struct RoleName;
/// What a program may do.
pub(super) struct VerbName;

/// A schema that stands where it is used.
macro_rules! inline {
    ($type:ty, $name:literal, $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

/// A schema with a name.
macro_rules! named {
    ($type:ty, $name:literal, $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

inline!(NodeId, "NodeId", json_schema!({"type": "integer", "minimum": 1, "format": "uint64"}));
inline!(GroupId, "GroupId", json_schema!({"type": "integer", "minimum": 0, "format": "uint64"}));
inline!(
    KeyspaceName,
    "KeyspaceName",
    json_schema!({
        "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength": KEYSPACE_BYTES_MAX,
    })
);
inline!(
    KeyText,
    "KeyText",
    json_schema!({
        "type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX,
    })
);
inline!(
    ClaimName,
    "ClaimName",
    json_schema!({"type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX - CLAIM_SUFFIX_BYTES})
);
inline!(
    TagList,
    "TagList",
    json_schema!({"type": "string", "minLength": 1, "pattern": r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"#})
);
inline!(
    ValueBytes,
    "ValueBytes",
    json_schema!({
        "type": "string", "contentMediaType": "application/octet-stream", "maxLength": VALUE_BYTES_MAX,
    })
);
inline!(Limit, "Limit", json_schema!({"type": "integer", "minimum": 1, "format": "uint64"}));
inline!(AccessId, "AccessId", json_schema!({"type": "string", "pattern": "^[0-9a-f]{32}$"}));
inline!(
    EventId,
    "EventId",
    json_schema!({
        "type": "string", "pattern": "^([0-9]+-)?[0-9]+(\\.[0-9]+)*$",
    })
);
inline!(
    Name,
    "Name",
    json_schema!({
        "type": "string", "maxLength": MEMBER_NAME_BYTES_MAX,
        "pattern": "^[^\\x00-\\x1f\\x7f-\\x9f]*$",
    })
);
inline!(RoleName, "RoleName", json_schema!({"enum": ["voter", "learner"]}));
inline!(VerbName, "VerbName", json_schema!({"enum": ["read", "write", "admin"]}));
inline!(Consistency, "Consistency", json_schema!({"enum": ["linearizable", "lease", "stale"]}));
inline!(Direction, "Direction", json_schema!({"enum": ["asc", "desc"]}));

const LEASE: &str = "^(?!0+$)[0-9a-fA-F]{1,16}$";

inline!(GivenLease, "GivenLease", json_schema!({"type": "string", "pattern": LEASE}));
inline!(Hex, "Hex", json_schema!({"type": "string", "pattern": "^[0-9a-f]{16}$"}));
inline!(
    LeaseOrNone,
    "LeaseOrNone",
    json_schema!({
        "type": "string", "pattern": "^(0|(?!0+$)[0-9a-fA-F]{1,16})$",
    })
);

/// Text, or base64, of at least so many bytes: of none, or of one.
fn bytes(least: usize) -> Schema {
    json_schema!({
        "description": "Text, or any bytes in base64 of the standard alphabet with padding.",
        "oneOf": [
            {"type": "string", "minLength": least},
            {
                "type": "object",
                "properties": {"base64": {
                    "type": "string",
                    "minLength": 4 * least,
                    "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$",
                }},
                "required": ["base64"],
                "additionalProperties": false,
            },
        ],
    })
}

named!(Given, "Bytes", bytes(0));
named!(Blob<'_>, "Bytes", bytes(0));
named!(KeyBytes, "Key", bytes(1));

impl<T: JsonSchema> JsonSchema for Object<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

named!(
    Problem,
    "Problem",
    json_schema!({
        "description": "What went wrong, as RFC 9457 has it.",
        "type": "object",
        "properties": {
            "type": {"enum": KINDS
            .iter()
            .map(|kind| format!("{TYPE_PREFIX}{}", kind.name))
            .collect::<Vec<_>>()},
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "One sentence that says what to do."},
            "at": {"type": "string", "description": "Where in the body it is."},
            "retry_after_ms": {"type": "integer", "minimum": 0},
            "revision": {"type": "integer", "minimum": 0},
            "present": {"type": "integer", "minimum": 0, "description": "The present revision."},
            "compacted": {"type": "integer", "minimum": 0},
            "limit": {"type": "integer", "minimum": 0, "description": "What was exceeded."},
            "keys": {
                "type": "array",
                "items": bytes(0),
                "description": "Keys of the request that do not go together.",
            },
        },
        "required": ["type", "title", "status", "detail"],
    })
);
