//! The JSON forms that several endpoints share: bytes, records, leases, and how they are read
//! and written.
//!
//! Keys and values are bytes. Text stands in JSON as a string; anything else as
//! `{"base64": "…"}`. Text is UTF-8 without control characters other than tab, line feed and
//! carriage return, so that what looks like text in an answer can be sent back as it is. Both
//! forms are read everywhere, whatever the bytes.

use std::fmt;
use std::marker::PhantomData;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use super::problem::{self, ASPEN_REVISION, Problem};
use crate::machine::ops::{KeyRange, KeyRecord};
use crate::types::{Form, LeaseId, Record, Revision, Spelt};

/// Longest text of a decoder's complaint that is passed on: it can quote what was sent.
const COMPLAINT_CHARS_MAX: usize = 200;

/// Reads a body's JSON, which is an object; a complaint says where it is and what is allowed there.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let Object(value) = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let problem = complaint(error.into_inner());
        // A dot is the whole document.
        if path == "." { problem } else { problem.within(path) }
    })?;
    deserializer.end().map_err(complaint)?;
    Ok(value)
}

fn complaint(error: serde_json::Error) -> Problem {
    // What serde names by Rust's types are whole numbers to everybody else.
    let text = ["u64", "u32", "u16", "u8"].iter().fold(error.to_string(), |text, kind| {
        text.replace(&format!("expected {kind}"), "expected a whole number")
    });
    let detail = match text.char_indices().nth(COMPLAINT_CHARS_MAX) {
        Some((end, _)) => {
            let (line, column) = (error.line(), error.column());
            format!("{}… at line {line} column {column}", &text[..end])
        }
        None => text,
    };
    Problem::new(&problem::BAD_JSON, detail)
}

/// A form that is written as an object only: serde reads a struct from an array of its fields in
/// their order as well, which would be a second API that nobody meant.
#[derive(Debug, Default)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Object<T>, M::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// The form of a body.
pub(super) const fn form<T: DeserializeOwned>(name: &'static str) -> Form {
    let again = |body: &[u8]| match read::<T>(body) {
        Ok(_) => Some(Vec::new()),
        Err(complaint) => {
            let chars = complaint.detail().chars().count();
            assert!(chars < 2 * COMPLAINT_CHARS_MAX, "a complaint quotes too much");
            None
        }
    };
    Form { name, again, spelt: Spelt::Elsewhere }
}

/// Bytes as they stand in JSON.
pub(super) const BYTES: Form = Form {
    name: "bytes in JSON",
    again: |json| {
        let Given(bytes) = serde_json::from_slice(json).ok()?;
        Some(serde_json::to_vec(&Blob(&bytes)).expect("a string, or an object of one"))
    },
    spelt: Spelt::Freely,
};

/// An answer in JSON.
pub(super) fn answer<T: Serialize>(status: StatusCode, body: &T) -> Response<Body> {
    let mut bytes = Vec::with_capacity(256);
    serde_json::to_writer(&mut bytes, body)
        .expect("answers are structs of strings and numbers, which are always JSON");
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer in JSON that has the shard's revision.
pub(super) fn answer_at<T: Serialize>(
    status: StatusCode,
    revision: Revision,
    body: &T,
) -> Response<Body> {
    let mut response = answer(status, body);
    response.headers_mut().insert(ASPEN_REVISION, revision.into());
    response
}

/// The answer that something was made, which is at this path from now on.
pub(super) fn created<T: Serialize>(path: String, body: &T) -> Response<Body> {
    let mut response = answer(StatusCode::CREATED, body);
    let path = HeaderValue::try_from(path).expect("a path is letters, digits and a few signs");
    response.headers_mut().insert(header::LOCATION, path);
    response
}

/// Bytes to be written.
#[derive(Clone, Copy)]
pub(super) struct Blob<'a>(pub(super) &'a [u8]);

impl Serialize for Blob<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match as_text(self.0) {
            Some(text) => serializer.serialize_str(text),
            None => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &BASE64_STANDARD.encode(self.0))?;
                map.end()
            }
        }
    }
}

fn as_text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let plain = |char: char| !char.is_control() || matches!(char, '\t' | '\n' | '\r');
    text.chars().all(plain).then_some(text)
}

/// Bytes that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given(pub(super) Bytes);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct GivenVisitor;

        impl<'de> Visitor<'de> for GivenVisitor {
            type Value = Given;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or {\"base64\": \"…\"}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Given, E> {
                Ok(Given(Bytes::copy_from_slice(text.as_bytes())))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Given, E> {
                Ok(Given(text.into()))
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Given, M::Error> {
                const NAMES: &[&str] = &["base64"];
                let name: Option<String> = map.next_key()?;
                match name.as_deref() {
                    Some("base64") => {}
                    Some(other) => return Err(de::Error::unknown_field(other, NAMES)),
                    None => return Err(de::Error::missing_field("base64")),
                }
                let text: String = map.next_value()?;
                let bytes = BASE64_STANDARD.decode(text).map_err(|_| {
                    de::Error::custom("base64 is of the standard alphabet, with padding")
                })?;
                match map.next_key::<String>()? {
                    Some(other) => Err(de::Error::unknown_field(&other, NAMES)),
                    None => Ok(Given(bytes.into())),
                }
            }
        }

        deserializer.deserialize_any(GivenVisitor)
    }
}

/// The range that a prefix, or a start and an end, describe; all keys if none is given. The
/// start belongs to the range, the end does not.
pub(super) fn range_of(
    prefix: Option<Bytes>,
    start: Option<Bytes>,
    end: Option<Bytes>,
) -> Result<KeyRange, &'static str> {
    use std::ops::Bound;
    match (prefix, start, end) {
        (Some(prefix), None, None) => Ok(KeyRange::prefix(prefix)),
        (Some(_), _, _) => Err("a range is given by prefix, or by start and end, not by both"),
        (None, start, end) => Ok(KeyRange {
            start: start.map_or(Bound::Unbounded, Bound::Included),
            end: end.map_or(Bound::Unbounded, Bound::Excluded),
        }),
    }
}

/// A lease's id, as hexadecimal.
pub(super) struct Hex(pub(super) LeaseId);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A lease's id that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GivenLease(pub(super) LeaseId);

impl<'de> Deserialize<'de> for GivenLease {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(GivenLease).map_err(de::Error::custom)
    }
}

/// A record without its key.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Record")]
pub(super) struct RecordForm<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Blob<'a>>,
    create_revision: Revision,
    mod_revision: Revision,
    version: u64,
    lease: Option<Hex>,
}

impl<'a> RecordForm<'a> {
    /// A record with its value.
    pub(super) fn of(record: &'a Record) -> Self {
        RecordForm { value: Some(Blob(record.value.as_bytes())), ..RecordForm::counters(record) }
    }

    fn counters(record: &Record) -> Self {
        RecordForm {
            value: None,
            create_revision: record.create_revision,
            mod_revision: record.mod_revision,
            version: record.version,
            lease: record.lease.map(Hex),
        }
    }
}

/// A record with its key.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "KeyRecord")]
pub(super) struct KeyRecordForm<'a> {
    key: Blob<'a>,
    #[serde(flatten)]
    record: RecordForm<'a>,
}

impl<'a> KeyRecordForm<'a> {
    /// A key's record, without its value if only keys were asked for.
    pub(super) fn of(found: &'a KeyRecord, keys_only: bool) -> Self {
        let record = match keys_only {
            true => RecordForm::counters(&found.record),
            false => RecordForm::of(&found.record),
        };
        KeyRecordForm { key: Blob(found.key.as_bytes()), record }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Key, Value};
    use proptest::prelude::*;

    /// A form with nothing but bytes.
    #[derive(Debug, Deserialize)]
    struct Bytes {
        b: Given,
    }

    fn given(json: &str) -> Result<Given, Problem> {
        read::<Bytes>(format!(r#"{{"b":{json}}}"#).as_bytes()).map(|bytes| bytes.b)
    }

    fn written(bytes: &[u8]) -> String {
        serde_json::to_string(&Blob(bytes)).unwrap()
    }

    #[test]
    fn text_is_a_string_and_other_bytes_are_base64() {
        assert_eq!(written(b""), r#""""#);
        assert_eq!(written("grüße 🌱".as_bytes()), r#""grüße 🌱""#);
        assert_eq!(written(b"a\tb\r\nc\"\\"), r#""a\tb\r\nc\"\\""#);
        assert_eq!(written(b"a\0b"), r#"{"base64":"YQBi"}"#);
        assert_eq!(written(b"\x1b[0m"), r#"{"base64":"G1swbQ=="}"#);
        assert_eq!(written("\u{85}".as_bytes()), r#"{"base64":"woU="}"#);
        assert_eq!(written(b"\xff\xfe"), r#"{"base64":"//4="}"#);
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_as_they_were(bytes: Vec<u8>) {
            let given = given(&written(&bytes)).unwrap();
            prop_assert_eq!(&given.0[..], &bytes[..]);
        }
    }

    #[test]
    fn bytes_of_another_form_are_refused_with_what_is_allowed() {
        let detail = |json: &str| given(json).unwrap_err().detail().to_owned();
        assert!(detail("5").contains("a string or {\"base64\""));
        assert!(detail("{}").contains("missing field `base64`"));
        assert!(detail(r#"{"hex":"00"}"#).contains("expected `base64`"));
        assert!(detail(r#"{"base64":"YQ==","x":1}"#).contains("unknown field `x`"));
        assert!(detail(r#"{"base64":"YQ"}"#).contains("with padding"));
        assert!(detail("\"\u{1}\"").contains("control character"));
        assert!(read::<Bytes>(b"{\"b\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_body_is_one_object() {
        let detail = |json: &str| read::<Bytes>(json.as_bytes()).unwrap_err().detail().to_owned();
        assert!(read::<Bytes>(b" {\"b\": \"\"}\n").is_ok());
        assert!(detail("[\"b\"]").contains("invalid type: sequence, expected an object"));
        assert!(detail("{\"b\":\"\"} {}").contains("trailing characters"));
        assert!(detail("{\"b\":\"\",\"b\":\"\"}").contains("duplicate field `b`"));
    }

    #[test]
    fn a_complaint_is_bounded_whatever_it_quotes() {
        let long = format!("\"{}\"", "x".repeat(100_000));
        let problem = read::<Bytes>(long.as_bytes()).unwrap_err();
        assert!(problem.detail().len() < 300);
        assert!(problem.detail().contains("at line 1 column"));
    }

    #[test]
    fn a_record_shows_all_its_counters() {
        let record = Record::new(Value::try_from("v").unwrap(), 2, 5, 3, Some(LeaseId(0xab)));
        let found = KeyRecord { key: Key::try_from("k").unwrap(), record };
        assert_eq!(
            serde_json::to_string(&KeyRecordForm::of(&found, false)).unwrap(),
            r#"{"key":"k","value":"v","create_revision":2,"mod_revision":5,"version":3,"lease":"00000000000000ab"}"#
        );
        assert_eq!(
            serde_json::to_string(&KeyRecordForm::of(&found, true)).unwrap(),
            r#"{"key":"k","create_revision":2,"mod_revision":5,"version":3,"lease":"00000000000000ab"}"#
        );
    }
}
