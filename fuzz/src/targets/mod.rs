//! The targets: what must hold of any bytes.
//!
//! This is a module of the fuzzer and of the library's tests, which replay what stands in
//! `fuzz/corpus`, so that both hold the same to the same.

mod client_ticket;
mod forms;
mod http_key;
mod log_entry;
mod log_frame;
mod log_open;
mod request;
mod state_open;
mod ticket;
mod wire;

use aspen::types::Form;

/// A target.
pub struct Target {
    /// The name of its binary, and of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// What must hold.
    pub holds: Holds,
    /// What it may take of memory by itself; see [`MEMORY_PER_BYTE`].
    pub memory_bytes_max: usize,
}

/// What must hold of any bytes.
pub enum Holds {
    /// This does not panic.
    Run(fn(&[u8])),
    /// Each of these forms keeps its promise; which is meant, the first byte says. New ones are added
    /// at the end, so that what is kept stays what it is.
    Forms(&'static [Form]),
}

/// What a decoder may take of memory for each byte that it is given: a list has room for up to twice
/// its items, and those take more there than in bytes.
pub const MEMORY_PER_BYTE: usize = 128;
/// What it may take besides: serde makes room for up to a mebibyte of what a list announces, in each
/// of those that are in each other.
const DECODER_BYTES_MAX: usize = 4 << 20;
/// The same with a log or a state in memory.
const DISK_BYTES_MAX: usize = 64 << 20;

/// All that there are.
pub const TARGETS: &[Target] = &[
    decoder("client_ticket", client_ticket::run),
    forms("http", aspen::http::FORMS),
    decoder("http_key", http_key::run),
    decoder("log_entry", log_entry::run),
    decoder("log_frame", log_frame::run),
    disk("log_open", log_open::run),
    forms("node", aspen::node::FORMS),
    forms("peers", aspen::net::FORMS),
    forms("raft", aspen::raft::FORMS),
    forms("records", forms::RECORDS),
    decoder("request", request::run),
    forms("request_head", aspen::client::FORMS),
    forms("rows", aspen::machine::FORMS),
    disk("state_open", state_open::run),
    forms("state_parts", aspen::store::FORMS),
    forms("texts", forms::TEXTS),
    decoder("ticket", ticket::run),
    decoder("wire", wire::run),
];

const fn decoder(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, holds: Holds::Run(run), memory_bytes_max: DECODER_BYTES_MAX }
}

const fn disk(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, holds: Holds::Run(run), memory_bytes_max: DISK_BYTES_MAX }
}

const fn forms(name: &'static str, forms: &'static [Form]) -> Target {
    Target { name, holds: Holds::Forms(forms), memory_bytes_max: DECODER_BYTES_MAX }
}

impl Target {
    /// Panics unless it holds. Gives the name of the form that the bytes are of.
    pub fn run(&self, bytes: &[u8]) -> Option<&'static str> {
        match self.holds {
            Holds::Run(run) => {
                run(bytes);
                None
            }
            Holds::Forms(forms) => forms::run(forms, bytes),
        }
    }
}
