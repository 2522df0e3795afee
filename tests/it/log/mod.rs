//! The shared log.

mod basics;
mod crashes;
mod damage;
mod errors;
mod formats;
mod rig;

use aspen::store::log::{Done, EntryId, LogEntry, Options};
use tokio::sync::oneshot;

/// A small log, so that rolls and deletions happen all the time.
pub(crate) fn small() -> Options {
    Options {
        segment_bytes: 24 * 1024,
        first_segment_bytes: 3 * 1024,
        frame_bytes_max: 4 * 1024,
        cache_bytes_max: 2 * 1024,
        ..Options::new(7)
    }
}

/// An entry of term 1 and node 1 whose payload is a text.
pub(crate) fn entry(index: u64, text: &str) -> LogEntry {
    let id = EntryId { term: 1, node: 1, index };
    LogEntry { id, payload: text.to_owned().into() }
}

/// A callback and what it will be called with.
pub(crate) fn done() -> (Done, oneshot::Receiver<std::io::Result<()>>) {
    let (sender, receiver) = oneshot::channel();
    (Box::new(move |result| drop(sender.send(result))), receiver)
}
