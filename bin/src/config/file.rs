//! The configuration file: TOML, one key a setting, nothing nested.
//!
//! Every key is looked at even after one was wrong, so that a person mends the file once.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::{Problem, SETTINGS, Scope, Setting, did_you_mean};

/// Reads a file's text; `set` takes each value with its line.
pub(super) fn parse(
    path: &str,
    text: &str,
    mut set: impl FnMut(&'static Setting, &str, usize) -> Result<(), Problem>,
) -> Vec<Problem> {
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let line = line_of(text, error.span().unwrap_or_default());
            let message = match error.message() {
                "duplicate key" => "this key is there already; remove one of the two".to_owned(),
                other => other.replace('\n', ", "),
            };
            return vec![Problem(format!("{path}:{line}: {message}"))];
        }
    };
    // The table is ordered by key; problems are told in the order of the file.
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut problems = Vec::new();
    for (key, value) in entries {
        let line = line_of(text, key.span());
        let name: &str = key.get_ref();
        let outcome = match SETTINGS.iter().find(|s| s.name == name) {
            Some(setting) if setting.scope == Scope::Node => match text_of(value.get_ref()) {
                Some(value) => set(setting, &value, line),
                None => Err(Problem(format!(
                    "{path}:{line}: {name} can't be of type {}; use {}",
                    value.get_ref().type_str(),
                    setting.allowed
                ))),
            },
            Some(setting) => Err(Problem(format!(
                "{path}:{line}: {name} is not a key of this file, which is for nodes; use --{name} \
                 or {}",
                setting.variable()
            ))),
            None => Err(unknown_key(path, line, name)),
        };
        problems.extend(outcome.err());
    }
    problems
}

fn unknown_key(path: &str, line: usize, name: &str) -> Problem {
    let keys = || SETTINGS.iter().filter(|s| s.scope == Scope::Node).map(|s| s.name);
    // `data_dir` is `data-dir` to most people.
    let guess = did_you_mean(&name.replace('_', "-"), keys());
    let list = keys().collect::<Vec<_>>().join(", ");
    Problem(format!("{path}:{line}: {name:?} is not a key{guess}; use one of: {list}"))
}

/// A scalar as the text that flags and variables would carry.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(_)
        | DeValue::Float(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    }
}

/// The line, from 1, on which a span begins.
fn line_of(text: &str, span: Range<usize>) -> usize {
    let start = span.start.min(text.len());
    1 + text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count()
}
