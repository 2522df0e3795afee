//! What a ticket for programs, or a token, allows: as it is asked for and listed.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::ScopeArgs;
use crate::exit::Failure;
use crate::input::duration_text;
use crate::output;

/// The form in which a node is asked for it.
pub(super) fn asked(scope: &ScopeArgs) -> Result<Value, Failure> {
    let ScopeArgs { prefix: prefixes, keyspace: keyspaces, allow, label } = scope;
    let verbs = allow.map_or_else(|| "read,write".to_owned(), |allow| allow.to_string());
    let mut body = json!({ "allow": verbs.split(',').collect::<Vec<_>>() });
    if let Some(label) = label {
        body["name"] = json!(label);
    }
    match (&prefixes[..], &keyspaces[..]) {
        ([], []) => {}
        ([], keyspaces) => body["keyspaces"] = json!(keyspaces),
        (prefixes, [] | [_]) => {
            let prefix = |prefix: &String| {
                let mut form = json!({ "prefix": prefix });
                if let [keyspace] = &keyspaces[..] {
                    form["keyspace"] = json!(keyspace);
                }
                form
            };
            body["prefixes"] = prefixes.iter().map(prefix).collect();
        }
        _ => return Err(Failure::usage("with --prefix, give --keyspace at most once")),
    }
    Ok(body)
}

/// The same in a list.
#[derive(Debug, Deserialize)]
pub(super) struct Access {
    pub(super) name: Option<String>,
    allow: Option<Vec<String>>,
    keyspaces: Option<Vec<String>>,
    prefixes: Option<Vec<ListedPrefix>>,
}

#[derive(Debug, Deserialize)]
struct ListedPrefix {
    keyspace: String,
    prefix: Value,
}

impl Access {
    /// `read in default:app/`
    pub(super) fn what(&self) -> String {
        let verbs = self.allow.as_deref().unwrap_or_default().join(",");
        let places = match (&self.keyspaces, &self.prefixes) {
            (Some(keyspaces), _) => keyspaces.join(" "),
            (None, Some(prefixes)) => {
                let prefix = |at: &ListedPrefix| {
                    let bytes = output::bytes_from_json(&at.prefix).unwrap_or_default();
                    format!("{}:{}", at.keyspace, output::bytes_text(&bytes))
                };
                prefixes.iter().map(prefix).collect::<Vec<_>>().join(" ")
            }
            (None, None) => "everything".to_owned(),
        };
        format!("{verbs} in {places}")
    }
}

/// `in 59m`, `now`, `3s ago`
pub(super) fn until(then_s: u64, now_s: u64) -> String {
    let rounded = |seconds: u64| {
        // The largest unit is all that a person reads.
        let units = [86_400, 3_600, 60];
        let unit = units.into_iter().find(|unit| seconds >= *unit).unwrap_or(1);
        duration_text(Duration::from_secs(seconds - seconds % unit))
    };
    match (then_s.saturating_sub(now_s), now_s.saturating_sub(then_s)) {
        (0, 0) => "now".to_owned(),
        (0, past) => format!("{} ago", rounded(past)),
        (left, _) => format!("in {}", rounded(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_as_far_off_as_it_is() {
        assert_eq!(until(4_600, 1_000), "in 1h");
        assert_eq!(until(4_599, 1_000), "in 59m");
        assert_eq!(until(1_001, 1_000), "in 1s");
        assert_eq!(until(1_000, 1_000), "now");
        assert_eq!(until(999, 1_000), "1s ago");
        assert_eq!(until(0, 200_000), "2d ago");
    }
}
