//! Forms: how bytes from elsewhere are read, each with how it is written, for tests that give them
//! any bytes.
//!
//! What a layer reads for itself only, it lists in a `FORMS`, which nothing of the product uses.

use std::fmt::Display;
use std::str::FromStr;

/// A way to read bytes.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// What they are then.
    pub name: &'static str,
    /// Reads them, and writes that again, if there is a way to; `None` if they are refused.
    pub again: fn(&[u8]) -> Option<Vec<u8>>,
    /// What is known of that.
    pub spelt: Spelt,
}

/// In how many ways the same can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelt {
    /// In one: what is read is written just so again.
    InOneWay,
    /// In several, of which one is written.
    Freely,
    /// It is only read, and nothing is written.
    Elsewhere,
}

impl Form {
    /// Of a text that is read by itself; nothing else but text is.
    pub const fn text<T: FromStr + Display>(name: &'static str) -> Self {
        let again = |bytes: &[u8]| {
            let text = str::from_utf8(bytes).ok()?;
            Some(text.parse::<T>().ok()?.to_string().into_bytes())
        };
        Form { name, again, spelt: Spelt::Freely }
    }
}
