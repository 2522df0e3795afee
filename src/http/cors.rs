//! Which pages of which origins a browser lets use the door (CORS), none unless told otherwise.
//!
//! It protects nothing from programs, which send what they like; it is what keeps a page that a
//! person happens to look at from reading and writing the store behind their back.

use std::fmt;
use std::str::FromStr;

use axum::body::Body;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, Request, Response, StatusCode};

use super::gzip::vary;
use crate::limits::HTTP_ORIGINS_MAX;

/// What stands for all origins.
const ANY: &str = "*";
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, PUT, POST, DELETE");
/// What a page may send besides what any may.
const SENT: HeaderValue = HeaderValue::from_static(
    "accept, aspen-request-id, authorization, content-type, if-match, if-none-match, last-event-id",
);
/// What it may read besides what any may.
const READ: HeaderValue = HeaderValue::from_static(
    "aspen-create-revision, aspen-lease, aspen-mod-revision, aspen-request-id, aspen-revision, \
     aspen-version, etag, retry-after",
);
/// For how many seconds a browser may remember a preflight's answer.
const REMEMBERED_S: HeaderValue = HeaderValue::from_static("600");

/// The origins whose pages may use the door. As text they stand with commas between them, such as
/// `https://app.example`; `*` alone is all there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    is_any: bool,
    listed: Vec<HeaderValue>,
}

/// A text is no list of origins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use origins such as https://app.example, with commas between them, or * alone")]
pub struct OriginsError;

impl FromStr for Origins {
    type Err = OriginsError;

    fn from_str(text: &str) -> Result<Self, OriginsError> {
        if text == ANY {
            return Ok(Origins { is_any: true, listed: Vec::new() });
        }
        let listed: Vec<_> =
            text.split(',').map(origin).collect::<Option<_>>().ok_or(OriginsError)?;
        if listed.len() > HTTP_ORIGINS_MAX {
            return Err(OriginsError);
        }
        Ok(Origins { is_any: false, listed })
    }
}

/// One origin, as browsers send it: a scheme, a host, and the port if it is an unusual one.
fn origin(text: &str) -> Option<HeaderValue> {
    let text = text.trim().to_ascii_lowercase();
    let (scheme, host) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let is_host = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
    (is_scheme && is_host).then(|| HeaderValue::from_str(&text).ok())?
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_any {
            return f.write_str(ANY);
        }
        let listed: Vec<_> = self.listed.iter().filter_map(|origin| origin.to_str().ok()).collect();
        f.write_str(&listed.join(","))
    }
}

impl Origins {
    fn are_none(&self) -> bool {
        !self.is_any && self.listed.is_empty()
    }

    /// What a request's page is told of who may read the answer; nothing if it may not.
    pub(super) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.are_none() {
            return None;
        }
        let origin = headers.get(header::ORIGIN)?;
        match self.is_any {
            true => Some(HeaderValue::from_static(ANY)),
            false => self.listed.contains(origin).then(|| origin.clone()),
        }
    }

    /// The answer to a browser that asks first whether a page may send a request.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let headers = request.headers();
        let asks = request.method() == Method::OPTIONS
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !asks || self.allowed(headers).is_none() {
            return None;
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, SENT);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED_S);
        Some(response)
    }

    /// Tells a browser which page may read an answer.
    pub(super) fn tell(&self, headers: &mut HeaderMap, allowed: Option<HeaderValue>) {
        if !self.listed.is_empty() {
            vary(headers, header::ORIGIN);
        }
        if let Some(allowed) = allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, READ);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_a_list_or_all() {
        for (text, shown) in [
            ("*", "*"),
            ("https://app.example", "https://app.example"),
            (
                "https://App.Example:8443, http://[::1]:80",
                "https://app.example:8443,http://[::1]:80",
            ),
            ("app+x://localhost", "app+x://localhost"),
        ] {
            assert_eq!(text.parse::<Origins>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            "*,https://a",
            "https://a,*",
            "null",
            "a.example",
            "https://",
            "https://a/",
            "https://a b",
            "https://a,",
            "https://u@a",
            "://a",
            "https://*.a",
        ] {
            assert_eq!(text.parse::<Origins>(), Err(OriginsError), "{text}");
        }
        let many = vec!["https://a"; HTTP_ORIGINS_MAX + 1].join(",");
        assert_eq!(many.parse::<Origins>(), Err(OriginsError));
    }
}
