//! How many files the process may have open, sockets among them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many files this process may have open; `None` is any number.
pub fn open_files_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Lets the process have as many files open as its surroundings allow: many give less at first, for
/// programs of other times. It is for a process as a whole, so only its main part does it.
pub fn raise_open_files_max() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Refused, it stays what it was, and whoever needs more says so.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}
