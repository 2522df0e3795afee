//! What the command prints: text for people, JSON for programs, raw values for pipes.
//!
//! A line of text is one record or event whatever its bytes are: what would break the line or the
//! terminal is escaped. JSON is one object a line, in the form the HTTP API uses: bytes are a
//! string if they are text, and `{"base64": …}` otherwise.

use std::io::{self, IsTerminal, Write};

use data_encoding::BASE64;
use serde::Serialize;
use serde_json::{Value, json};

use crate::exit::Failure;

/// Prints one line.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

/// Prints one JSON object as a line.
pub(crate) fn json_line(object: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(object)
        .map_err(|error| Failure::refused(format!("the output is no JSON: {error}")))?;
    line(&text)
}

/// Prints a value as it is; a person's terminal gets a line end after it.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    if out.is_terminal() && !bytes.ends_with(b"\n") {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

/// Tells a person something beside the answer.
#[expect(clippy::print_stderr, reason = "notes to a person go beside the answer")]
pub(crate) fn note(text: &str) {
    eprintln!("aspen: {text}");
}

/// Bytes as JSON, as a node would write them.
pub(crate) fn bytes_json(bytes: &[u8]) -> Value {
    let plain = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(plain) => json!(text),
        _ => json!({ "base64": BASE64.encode(bytes) }),
    }
}

/// Bytes from JSON, either form.
pub(crate) fn bytes_from_json(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Object(object) => BASE64.decode(object.get("base64")?.as_str()?.as_bytes()).ok(),
        _ => None,
    }
}

/// Bytes as one piece of a line: text stays text; control characters, backslashes and what is no
/// UTF-8 are escaped as in Rust's byte strings.
pub(crate) fn bytes_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// `1 key`, `2 keys`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Rows under a heading, each column as wide as its widest cell.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_stay_on_one_line() {
        assert_eq!(bytes_text("grüße/日本".as_bytes()), "grüße/日本");
        assert_eq!(bytes_text(b"a\tb\nc\\d\x1b\x00"), "a\\tb\\nc\\\\d\\u{1b}\\u{0}");
        assert_eq!(bytes_text(b"a\xffb\xf0\x9f"), "a\\xffb\\xf0\\x9f");
    }

    #[test]
    fn bytes_survive_json() {
        for bytes in [&b"plain"[..], b"", b"\xff\x00", "grüße".as_bytes()] {
            assert_eq!(bytes_from_json(&bytes_json(bytes)).as_deref(), Some(bytes));
        }
    }

    #[test]
    fn columns_line_up() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(table(&[row(["A", "B"]), row(["long", ""])]), "A     B\nlong");
    }
}
