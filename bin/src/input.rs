//! What a person gives the command: files, standard input, keys, ids and times, as text.
//!
//! Everything read is bounded by its caller; past the bound it is refused, never cut. Reasons are
//! the sentences a person sees.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aspen::limits::{KEYSPACE_SHARDS_MAX, VOTERS_MAX};
use aspen::types::{ClusterId, Key, LeaseId};
use clap::ValueEnum;
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};

use crate::exit::Failure;

pub(crate) use aspen::roster::settings::{time as duration, time_text as duration_text};
pub(crate) use aspen::seams::reason;

/// How keys are written in arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    /// The argument's own bytes, as UTF-8.
    #[default]
    Text,
    /// Base64 with padding, for keys that are no text.
    Base64,
    /// Hexadecimal digits, likewise.
    Hex,
}

impl Encoding {
    /// The bytes an argument stands for.
    pub(crate) fn bytes(self, text: &str) -> Result<Vec<u8>, Failure> {
        let decoded = match self {
            Encoding::Text => return Ok(text.as_bytes().to_vec()),
            Encoding::Base64 => BASE64.decode(text.as_bytes()),
            Encoding::Hex => HEXLOWER_PERMISSIVE.decode(text.as_bytes()),
        };
        let name = match self {
            Encoding::Base64 => "base64 with padding",
            _ => "an even number of hexadecimal digits",
        };
        decoded.map_err(|_| Failure::usage(format!("{text:?} is not {name}")))
    }

    /// The key an argument stands for.
    pub(crate) fn key(self, text: &str) -> Result<Key, Failure> {
        Key::new(self.bytes(text)?).map_err(Failure::usage)
    }
}

/// A lease's id, as the command prints it.
pub(crate) fn lease_id(text: &str) -> Result<LeaseId, String> {
    text.parse().map_err(|error: aspen::error::Invalid| error.to_string())
}

/// A cluster's id, as the command prints it.
pub(crate) fn cluster_id(text: &str) -> Result<ClusterId, String> {
    text.parse().map_err(|error: aspen::error::Invalid| error.to_string())
}

/// A ticket's id, as the command prints it.
pub(crate) fn ticket_id(text: &str) -> Result<u128, String> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
    id.ok_or_else(|| {
        "a ticket's id is 32 hexadecimal digits, as `aspen ticket list` prints it".to_owned()
    })
}

/// A whole number from 0, such as a revision or a count.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "use a whole number".to_owned())
}

/// The number of a node, as the command prints it.
pub(crate) fn node_number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "use a node's number, as `aspen members` prints it".to_owned())
}

/// The number of a group, as the command prints it.
pub(crate) fn group_number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "use a group's number, as `aspen status` prints it".to_owned())
}

/// How many shards a keyspace may have.
pub(crate) fn shards(text: &str) -> Result<u32, String> {
    let shards = text.parse().ok().filter(|shards| (1..=KEYSPACE_SHARDS_MAX).contains(shards));
    shards.ok_or_else(|| format!("use a whole number from 1 to {KEYSPACE_SHARDS_MAX}"))
}

/// How many replicas a shard may have.
pub(crate) fn replicas(text: &str) -> Result<u8, String> {
    let replicas = text
        .parse()
        .ok()
        .filter(|&replicas: &u8| replicas != 0 && usize::from(replicas) <= VOTERS_MAX);
    replicas.ok_or_else(|| format!("use a whole number from 1 to {VOTERS_MAX}"))
}

/// How many may use a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uses {
    /// So many.
    Limited(u32),
    /// As many as like.
    Any,
}

/// A number of uses, or `any`.
pub(crate) fn uses(text: &str) -> Result<Uses, String> {
    if text == "any" {
        return Ok(Uses::Any);
    }
    let number = text.parse().ok().filter(|&uses| uses != 0);
    number.map(Uses::Limited).ok_or_else(|| "use a whole number from 1, or any".to_owned())
}

/// A time as an argument's parser reads it.
pub(crate) fn duration_argument(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "use a time such as 500ms, 10s, 2m, 1h or 7d".to_owned())
}

/// Where a value or a request's body comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The argument itself.
    Argument(Vec<u8>),
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Source {
    /// Decides between an argument (`-` is standard input), a file, and standard input if
    /// something is piped into it. `what` names the thing in the sentence that refuses.
    pub(crate) fn of(
        argument: Option<String>,
        file: Option<PathBuf>,
        what: &str,
    ) -> Result<Self, Failure> {
        match (argument, file) {
            (Some(text), None) if text == "-" => Ok(Source::Stdin),
            (Some(text), None) => Ok(Source::Argument(text.into_bytes())),
            (None, Some(path)) => Ok(Source::File(path)),
            (None, None) if !io::stdin().is_terminal() => Ok(Source::Stdin),
            _ => Err(Failure::usage(format!(
                "give {what} as an argument, with --file FILE, or pipe it in"
            ))),
        }
    }

    /// All of it, if it has at most `bytes_max` bytes.
    pub(crate) fn read(self, bytes_max: usize) -> Result<Vec<u8>, Failure> {
        match self {
            Source::Argument(bytes) if bytes.len() > bytes_max => {
                Err(Failure::usage(too_large("the argument", bytes_max)))
            }
            Source::Argument(bytes) => Ok(bytes),
            Source::File(path) => read_file(&path, bytes_max).map_err(Failure::usage),
            Source::Stdin => read_bounded(io::stdin().lock(), "standard input", bytes_max)
                .map_err(Failure::usage),
        }
    }
}

/// A file that a person named, if it has at most `bytes_max` bytes.
#[expect(
    clippy::disallowed_methods,
    reason = "a file named on the command line is read once, for a person; the seam is for what a \
              node keeps, and opens files for writing"
)]
pub(crate) fn read_file(path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    let shown = path.display().to_string();
    let file =
        File::open(path).map_err(|error| format!("{shown} can't be read: {}", reason(&error)))?;
    read_bounded(file, &shown, bytes_max)
}

fn read_bounded(reader: impl Read, what: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    reader
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{what} can't be read: {}", reason(&error)))?;
    if bytes.len() > bytes_max {
        return Err(too_large(what, bytes_max));
    }
    Ok(bytes)
}

fn too_large(what: &str, bytes_max: usize) -> String {
    format!("{what} has more than {bytes_max} bytes, which is the limit")
}

/// A ticket from the command line, or from standard input if it is `-`.
pub(crate) fn ticket_text(argument: String) -> Result<String, Failure> {
    if argument != "-" {
        return Ok(argument);
    }
    let bytes = Source::Stdin.read(TICKET_TEXT_BYTES_MAX)?;
    String::from_utf8(bytes).map_err(|_| Failure::usage("standard input is no ticket"))
}

/// More than the longest ticket and a line end.
const TICKET_TEXT_BYTES_MAX: usize = 16 * 1024;

/// Reads a ticket; what no ticket is was typed wrong, what has lost its meaning is refused.
pub(crate) fn ticket<B: aspen_tickets::Body>(
    text: &str,
) -> Result<aspen_tickets::Signed<B>, Failure> {
    let ticket: aspen_tickets::Signed<B> = text.parse().map_err(Failure::usage)?;
    ticket.verify().map_err(Failure::refused)?;
    Ok(ticket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_read_back_as_they_are_written() {
        for (text, ms) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
            assert_eq!(duration_text(Duration::from_millis(ms)), text);
        }
        for text in ["", "10", "s", "-1s", "1.5s", "10 s", "1w", "99999999999999999999s"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(duration("213503982335d"), None, "past what milliseconds can count");
    }

    #[test]
    fn keys_that_are_no_text_are_written_in_base64_or_hex() {
        assert_eq!(Encoding::Hex.bytes("00Ff").expect("hex"), [0x00, 0xff]);
        assert_eq!(Encoding::Base64.bytes("AP8=").expect("base64"), [0x00, 0xff]);
        assert_eq!(Encoding::Text.bytes("AP8=").expect("text"), b"AP8=");
        assert!(Encoding::Hex.bytes("0").is_err());
        assert!(Encoding::Base64.bytes("AP8").is_err());
        assert!(Encoding::Text.key("").is_err());
    }

    #[test]
    fn what_is_over_its_limit_is_refused_and_never_cut() {
        assert_eq!(read_bounded(&b"abc"[..], "it", 3).expect("fits"), b"abc");
        let reason = read_bounded(&b"abcd"[..], "it", 3).expect_err("one too many");
        assert_eq!(reason, "it has more than 3 bytes, which is the limit");
    }
}
