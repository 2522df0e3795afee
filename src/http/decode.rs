//! What a request's address says: the key in the path, the parameters in the query.
//!
//! Both are decoded from the raw address to bytes. A path segment that is no UTF-8 is a key like
//! any other; an escape that is not two hexadecimal digits is refused, never passed through; and
//! a parameter that an endpoint does not know is refused, never ignored.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::operation::Param;
use super::problem::{self, Problem};
use crate::client::KvClient;
use crate::types::{Consistency, Form, Key, Revision, Spelt};

/// The key that a request path's remainder after `/v1/kv/` names: its bytes after percent
/// decoding, slashes included, so that `%2F` and `/` are the same byte of the key.
pub fn key_from_path(raw: &str) -> Result<Key, Problem> {
    let bytes = percent_decode(raw, false).map_err(|at| {
        Problem::new(
            &problem::BAD_ESCAPE,
            format!("the escape at byte {at} of the key is not % and two hexadecimal digits"),
        )
    })?;
    let bytes = match bytes {
        Cow::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    Ok(Key::new(bytes)?)
}

/// What a path's pattern leaves open, as text; axum's own refuses in another form than ours.
pub(super) struct Path<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(text)) => Ok(Path(text)),
            Err(_) => Err(Problem::new(
                &problem::BAD_ESCAPE,
                "a name in this path is text, and its escapes are bytes of no UTF-8; spell it again",
            )),
        }
    }
}

/// Replaces each `%XX` by its byte, and `+` by a space in a form; answers the place of the first
/// escape that is none.
fn percent_decode(raw: &str, form: bool) -> Result<Cow<'_, [u8]>, usize> {
    let raw = raw.as_bytes();
    let special = |byte: &u8| *byte == b'%' || (form && *byte == b'+');
    let Some(first) = raw.iter().position(special) else {
        return Ok(Cow::Borrowed(raw));
    };
    let mut decoded = Vec::with_capacity(raw.len());
    decoded.extend_from_slice(&raw[..first]);
    let mut at = first;
    while at < raw.len() {
        match raw[at] {
            b'%' => {
                let digit = |place: usize| raw.get(place).and_then(|byte| hex_digit(*byte));
                let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) else {
                    return Err(at);
                };
                decoded.push(high << 4 | low);
                at += 3;
            }
            b'+' if form => {
                decoded.push(b' ');
                at += 1;
            }
            byte => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    Ok(Cow::Owned(decoded))
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The parameters of a request's query: each known to the endpoint and given at most once.
#[derive(Debug)]
pub(super) struct Params<'a> {
    /// Name and decoded value; no value is `None`, as in `?prev`.
    given: Vec<(&'static str, Option<Cow<'a, [u8]>>)>,
}

impl<'a> Params<'a> {
    /// Decodes a query in which only these may occur.
    pub(super) fn parse(
        query: Option<&'a str>,
        allowed: &'static [Param],
    ) -> Result<Self, Problem> {
        let mut given: Vec<(&'static str, Option<Cow<'a, [u8]>>)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = match pair.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (pair, None),
            };
            let Some(name) = allowed.iter().map(|known| known.name).find(|known| *known == name)
            else {
                return Err(unknown_parameter(name, allowed));
            };
            if given.iter().any(|(earlier, _)| *earlier == name) {
                return Err(bad(format!("the parameter {name} is given twice; give it once")));
            }
            let value = match value {
                Some(raw) => Some(percent_decode(raw, true).map_err(|at| {
                    bad(format!(
                        "the escape at byte {at} of the parameter {name} is not % and two \
                         hexadecimal digits"
                    ))
                })?),
                None => None,
            };
            given.push((name, value));
        }
        Ok(Params { given })
    }

    /// Decodes a query on a store, and finds who is asked: the keyspace that is named, or the one
    /// shard of it that has a key.
    pub(super) fn of_store(
        query: Option<&'a str>,
        allowed: &'static [Param],
        client: &KvClient,
    ) -> Result<(Self, KvClient), Problem> {
        let params = Params::parse(query, allowed)?;
        let mut client = match params.parsed::<String>("keyspace")? {
            Some(name) => client.keyspace(&name)?,
            None => client.clone(),
        };
        if let Some(key) = params.bytes("near") {
            client = client.near(Key::new(key)?)?;
        }
        Ok((params, client))
    }

    fn find(&self, name: &str) -> Option<&Option<Cow<'a, [u8]>>> {
        self.given.iter().find(|(given, _)| *given == name).map(|(_, value)| value)
    }

    /// A parameter's bytes.
    pub(super) fn bytes(&self, name: &str) -> Option<Bytes> {
        let value = self.find(name)?.as_deref().unwrap_or_default();
        Some(Bytes::copy_from_slice(value))
    }

    /// A parameter of a type that reads itself and says what is allowed.
    pub(super) fn parsed<T>(&self, name: &'static str) -> Result<Option<T>, Problem>
    where
        T: FromStr<Err: Display>,
    {
        let Some(value) = self.find(name) else { return Ok(None) };
        let text = std::str::from_utf8(value.as_deref().unwrap_or_default())
            .map_err(|_| bad(format!("the parameter {name} is not text")))?;
        text.parse().map(Some).map_err(|error| bad(format!("the parameter {name}: {error}")))
    }

    /// A decimal number.
    pub(super) fn number(&self, name: &'static str) -> Result<Option<u64>, Problem> {
        Ok(self.parsed::<Number>(name)?.map(|number| number.0))
    }

    /// A switch: absent is off; alone, as in `?prev`, is on.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, Problem> {
        match self.find(name).map(|value| value.as_deref()) {
            None | Some(Some(b"false")) => Ok(false),
            Some(None | Some(b"true")) => Ok(true),
            Some(Some(_)) => Err(bad(format!("the parameter {name} is true or false"))),
        }
    }
}

/// The form of a query.
pub(super) const FORM: Form = Form {
    name: "query",
    again: |bytes| {
        const ALLOWED: &[Param] = &[
            Param::of::<Revision>("revision", ""),
            Param::of::<bool>("keys_only", ""),
            Param::of::<Consistency>("consistency", ""),
            Param::of::<String>("keyspace", ""),
        ];
        let params = Params::parse(Some(str::from_utf8(bytes).ok()?), ALLOWED).ok()?;
        let _ = (params.number("revision"), params.flag("keys_only"));
        let _ = (params.parsed::<Consistency>("consistency"), params.parsed::<String>("keyspace"));
        let given = params.given.iter().map(|(name, value)| match value {
            Some(value) => {
                let escaped = value.iter().map(|byte| format!("%{byte:02X}")).collect::<String>();
                format!("{name}={escaped}")
            }
            None => (*name).to_owned(),
        });
        Some(given.collect::<Vec<_>>().join("&").into_bytes())
    },
    spelt: Spelt::Freely,
};

/// Digits only: no sign, no space, no radix.
struct Number(u64);

impl FromStr for Number {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WHAT: &str = "a whole number from 0 to 18446744073709551615 is expected";
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(WHAT);
        }
        text.parse().map(Number).map_err(|_| WHAT)
    }
}

fn bad(detail: String) -> Problem {
    Problem::new(&problem::BAD_QUERY, detail)
}

fn unknown_parameter(name: &str, allowed: &[Param]) -> Problem {
    // What was sent is shown shortened: it can be as long as an address.
    let shown: String = name.chars().take(32).collect();
    bad(match allowed {
        [] => format!("there is no parameter {shown:?}; this endpoint takes none"),
        _ => {
            let allowed: Vec<_> = allowed.iter().map(|param| param.name).collect();
            format!("there is no parameter {shown:?}; the allowed ones are: {}", allowed.join(", "))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::operation::{PREFIX, PREV};
    use crate::limits::KEY_BYTES_MAX;

    const LIMIT: Param = Param::of::<u64>("limit", "how many");

    #[test]
    fn keys_are_the_decoded_bytes_of_the_path() {
        let key = |raw: &str| key_from_path(raw).unwrap().into_bytes();
        assert_eq!(key("simple"), "simple");
        assert_eq!(key("user@host"), "user@host");
        assert_eq!(key("a/b//c/"), "a/b//c/");
        assert_eq!(key("a%2Fb"), "a/b");
        assert_eq!(key("a%2fb"), "a/b");
        assert_eq!(key("with%20space"), "with space");
        assert_eq!(key("a+b"), "a+b");
        assert_eq!(key("%E4%BD%A0%E5%A5%BD"), "你好");
        assert_eq!(key("%F0%9F%8C%B1"), "🌱");
        assert_eq!(key("a:b:c"), "a:b:c");
        assert_eq!(key("%FF%FE%00"), &[0xff, 0xfe, 0x00][..]);
        assert_eq!(key("100%25"), "100%");
    }

    #[test]
    fn an_escape_that_is_none_is_refused_with_its_place() {
        for (raw, at) in [("%", 0), ("ab%2", 2), ("%zz", 0), ("%2g", 0), ("a%%20", 1), ("%+1", 0)] {
            let problem = key_from_path(raw).unwrap_err();
            assert_eq!(problem.name(), "bad-escape", "{raw}");
            assert!(problem.detail().contains(&format!("at byte {at} ")), "{}", problem.detail());
        }
    }

    #[test]
    fn a_key_is_neither_empty_nor_over_its_limit_after_decoding() {
        assert_eq!(key_from_path("").unwrap_err().name(), "key-empty");
        assert!(key_from_path(&"%41".repeat(KEY_BYTES_MAX)).is_ok());
        let problem = key_from_path(&"k".repeat(KEY_BYTES_MAX + 1)).unwrap_err();
        assert_eq!(problem.name(), "key-too-long");
    }

    #[test]
    fn parameters_are_decoded_as_a_form() {
        const SOME: &[Param] = &[PREFIX, LIMIT, PREV, Param::of::<bool>("keys_only", "")];
        let params = Params::parse(Some("prefix=a%20b+c%ff&&limit=7&prev"), SOME).unwrap();
        assert_eq!(params.bytes("prefix").unwrap(), &b"a b c\xff"[..]);
        assert_eq!(params.number("limit").unwrap(), Some(7));
        assert!(params.flag("prev").unwrap());
        assert!(!params.flag("keys_only").unwrap());
        let empty = Params::parse(Some("prefix="), SOME).unwrap();
        assert_eq!(empty.bytes("prefix").unwrap(), "");
        assert!(Params::parse(None, SOME).unwrap().bytes("prefix").is_none());
    }

    #[test]
    fn unknown_repeated_and_malformed_parameters_are_refused() {
        let detail = |query: &str| {
            let result = Params::parse(Some(query), &[LIMIT, PREV]).and_then(|params| {
                params.number("limit")?;
                params.flag("prev")
            });
            let problem = result.unwrap_err();
            assert_eq!(problem.name(), "bad-query");
            problem.detail().to_owned()
        };
        assert_eq!(
            detail("limits=1"),
            "there is no parameter \"limits\"; the allowed ones are: limit, prev"
        );
        assert_eq!(detail("limit=1&limit=1"), "the parameter limit is given twice; give it once");
        for bad in ["limit=", "limit=-1", "limit=%2B1", "limit=1.5", "limit=18446744073709551616"] {
            assert!(detail(bad).contains("whole number"), "{bad}");
        }
        assert_eq!(
            detail("limit=%f"),
            "the escape at byte 0 of the parameter limit is not % and two hexadecimal digits"
        );
        assert_eq!(detail("prev=yes"), "the parameter prev is true or false");
        assert!(detail(&"x".repeat(9_000)).len() < 200);
    }
}
