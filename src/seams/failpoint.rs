//! Failpoints: steps at which a test has the process end, as if it was killed there.
//!
//! The variable `FAILPOINTS` names a file; while there is one, it says how many steps are still to
//! be gone past. The step at which none are left writes its name into the file and ends the process
//! on the spot. Only builds with debug assertions have failpoints: elsewhere a step is nothing.

/// Goes past a step, or ends the process there.
pub fn step(name: &str) {
    #[cfg(debug_assertions)]
    armed::step(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::path::PathBuf;
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::{env, fs, process};

    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| env::var_os("FAILPOINTS").map(PathBuf::from));
    /// One step at a time counts.
    static COUNTING: Mutex<()> = Mutex::new(());

    #[expect(clippy::disallowed_methods, reason = "between a test and the process, not the node's")]
    pub(super) fn step(name: &str) {
        let Some(file) = &*FILE else {
            return;
        };
        let _counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
        let left = fs::read_to_string(file).ok().and_then(|left| left.trim().parse::<u32>().ok());
        match left {
            None => {}
            Some(0) => {
                // Ended all the same if it can't be said where.
                let _ = fs::write(file, name);
                process::abort();
            }
            Some(left) => {
                let _ = fs::write(file, (left - 1).to_string());
            }
        }
    }
}
