//! Entity tags and the conditions on them (RFC 9110, sections 8.8 and 13).
//!
//! A key's tag is its modification revision in double quotes. A well-formed tag of another shape
//! matches nothing; a header that is not well formed is refused, so that a write on a condition
//! is never done without it.

use axum::http::header::{self, HeaderMap, HeaderValue};

use super::problem::{self, Problem};
use crate::types::{Form, Revision, Spelt};

/// The tag of a modification revision.
pub(super) fn tag(revision: Revision) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\""))
        .expect("digits in double quotes are a header value")
}

/// The form of a condition that compares weakly.
pub(super) const FORM: Form = Form {
    name: "entity tags",
    again: |bytes| {
        let value = HeaderValue::from_bytes(bytes).ok()?;
        Some(match parse("If-None-Match", [&value].into_iter(), true).ok()? {
            Tags::Any => b"*".to_vec(),
            // No tag of ours, but one.
            Tags::These(revisions) if revisions.is_empty() => b"\"\"".to_vec(),
            Tags::These(revisions) => {
                let tags: Vec<_> = revisions.iter().map(|revision| tag(*revision)).collect();
                tags.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b","[..])
            }
        })
    },
    spelt: Spelt::Freely,
};

/// What a request's condition headers ask for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// `If-Match`: the key's tag must be one of these.
    Match(Tags),
    /// `If-None-Match`: the key's tag must be none of these.
    NoneMatch(Tags),
}

/// The tags of a condition.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tags {
    /// `*`: any tag, which is to say that the key exists.
    Any,
    /// These modification revisions, none of them 0.
    These(Vec<Revision>),
}

impl Condition {
    /// The condition that the headers state, if they do.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let if_match = headers.contains_key(header::IF_MATCH);
        let if_none_match = headers.contains_key(header::IF_NONE_MATCH);
        match (if_match, if_none_match) {
            (false, false) => Ok(None),
            (true, false) => {
                // If-Match compares strongly: a weak tag matches nothing.
                parse("If-Match", headers.get_all(header::IF_MATCH).iter(), false)
                    .map(|tags| Some(Condition::Match(tags)))
            }
            (false, true) => {
                parse("If-None-Match", headers.get_all(header::IF_NONE_MATCH).iter(), true)
                    .map(|tags| Some(Condition::NoneMatch(tags)))
            }
            (true, true) => Err(Problem::new(
                &problem::UNCLEAR,
                "If-Match and If-None-Match are both given; give one of them",
            )),
        }
    }

    /// Whether the condition holds for a key at this modification revision, 0 if there is none.
    pub(super) fn holds(&self, present: Revision) -> bool {
        match self {
            Condition::Match(tags) => tags.matches(present),
            Condition::NoneMatch(tags) => !tags.matches(present),
        }
    }
}

impl Tags {
    fn matches(&self, present: Revision) -> bool {
        match self {
            Tags::Any => present != 0,
            Tags::These(revisions) => revisions.contains(&present),
        }
    }
}

fn parse<'a>(
    name: &str,
    values: impl Iterator<Item = &'a HeaderValue>,
    weak: bool,
) -> Result<Tags, Problem> {
    let refuse = || {
        let detail = format!(
            "{name} is * or a list of entity tags, each a modification revision in double quotes, \
             such as \"12\""
        );
        Problem::new(&problem::BAD_HEADER, detail)
    };
    let mut any = false;
    let mut tags = 0;
    let mut revisions = Vec::new();
    for value in values {
        let mut rest = value.as_bytes().trim_ascii();
        if rest == b"*" {
            any = true;
            continue;
        }
        while !rest.is_empty() {
            // Empty elements are allowed in a list and mean nothing.
            if let Some(after) = rest.strip_prefix(b",") {
                rest = after.trim_ascii_start();
                continue;
            }
            let (is_weak, opened) = match rest.strip_prefix(b"W/") {
                Some(opened) => (true, opened),
                None => (false, rest),
            };
            let opened = opened.strip_prefix(b"\"").ok_or_else(refuse)?;
            let end = opened.iter().position(|byte| *byte == b'"').ok_or_else(refuse)?;
            let opaque = &opened[..end];
            if !opaque.iter().all(|byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)) {
                return Err(refuse());
            }
            tags += 1;
            if weak || !is_weak {
                revisions.extend(revision(opaque));
            }
            rest = opened[end + 1..].trim_ascii_start();
            if !rest.is_empty() && !rest.starts_with(b",") {
                return Err(refuse());
            }
        }
    }
    match (any, tags) {
        (true, 0) => Ok(Tags::Any),
        (false, 1..) => Ok(Tags::These(revisions)),
        _ => Err(refuse()),
    }
}

/// The revision that a tag of ours names. We write no leading zeros, so a tag with one is not
/// ours.
fn revision(opaque: &[u8]) -> Option<Revision> {
    if opaque.starts_with(b"0") || !opaque.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(opaque).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(pairs: &[(&'static str, &'static str)]) -> Result<Option<Condition>, Problem> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Condition::of(&headers)
    }

    #[test]
    fn lists_and_stars_are_read() {
        use Condition::*;
        assert_eq!(condition(&[]), Ok(None));
        assert_eq!(condition(&[("if-match", "*")]), Ok(Some(Match(Tags::Any))));
        assert_eq!(condition(&[("if-none-match", " * ")]), Ok(Some(NoneMatch(Tags::Any))));
        assert_eq!(
            condition(&[("if-match", "\"1\", \"22\",,\"333\"")]),
            Ok(Some(Match(Tags::These(vec![1, 22, 333]))))
        );
        assert_eq!(
            condition(&[("if-match", "\"1\""), ("if-match", "\"2\"")]),
            Ok(Some(Match(Tags::These(vec![1, 2]))))
        );
    }

    #[test]
    fn tags_that_are_not_ours_match_nothing() {
        use Condition::*;
        for foreign in ["\"abc\"", "\"\"", "\"0\"", "\"007\"", "\"99999999999999999999\""] {
            assert_eq!(condition(&[("if-match", foreign)]), Ok(Some(Match(Tags::These(vec![])))));
        }
        assert_eq!(condition(&[("if-match", "W/\"5\"")]), Ok(Some(Match(Tags::These(vec![])))));
        assert_eq!(
            condition(&[("if-none-match", "W/\"5\"")]),
            Ok(Some(NoneMatch(Tags::These(vec![5]))))
        );
    }

    #[test]
    fn malformed_and_contradicting_headers_are_refused() {
        for bad in ["", "5", "\"5", "5\"", "\"5\" \"6\"", "w/\"5\"", "*, \"5\"", "\"a b\"", ","] {
            let problem = condition(&[("if-match", bad)]).unwrap_err();
            assert_eq!(problem.name(), "bad-header", "{bad}");
        }
        let both = condition(&[("if-match", "\"5\""), ("if-none-match", "*")]);
        assert_eq!(both.unwrap_err().name(), "unclear");
    }

    #[test]
    fn a_key_that_is_not_there_matches_no_tag() {
        let holds = |condition: Condition| [0, 5, 6].map(|present| condition.holds(present));
        assert_eq!(holds(Condition::Match(Tags::Any)), [false, true, true]);
        assert_eq!(holds(Condition::NoneMatch(Tags::Any)), [true, false, false]);
        assert_eq!(holds(Condition::Match(Tags::These(vec![5]))), [false, true, false]);
        assert_eq!(holds(Condition::NoneMatch(Tags::These(vec![5]))), [true, false, true]);
    }
}
