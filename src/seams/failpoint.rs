//! Failpoints: steps at which a test has the process end, as if it was killed there.
//!
//! The variable `FAILPOINTS` names a file; while there is one, it says how many steps are still to
//! be gone past, or at which the process is to end when it comes to it. That step writes its name into
//! the file and ends the process on the spot. Only builds with debug assertions have failpoints:
//! elsewhere a step is nothing.

macro_rules! failpoints {
    ($($id:ident $name:literal;)*) => {
        /// A step, by what a node does there.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Failpoint {
            $(#[doc = $name] $id,)*
        }

        impl Failpoint {
            /// Every step that there is; tests that kill nodes are held to come to each.
            pub const ALL: &[Failpoint] = &[$(Failpoint::$id),*];

            /// What is written into the file.
            pub fn name(self) -> &'static str {
                match self {
                    $(Failpoint::$id => $name,)*
                }
            }
        }
    };
}

failpoints! {
    BeforeRoster "before a change of the roster";
    AfterRoster "after a change of the roster";
    BeforeMembers "before a change of a group's members";
    AfterMembers "after a change of a group's members";
    BeforeOpened "before a replica is opened";
    AfterOpened "after a replica was opened";
    BeforeErased "before a replica is erased";
    AfterErased "after a replica was erased";
    BeforeRecovered "before the new cluster is there";
    AfterRecovered "after the new cluster is there";
    WhileRecovered "while the new cluster takes its place";
}

impl Failpoint {
    /// The step of this name.
    pub fn named(name: &str) -> Option<Failpoint> {
        Failpoint::ALL.iter().copied().find(|at| at.name() == name)
    }

    /// What is in the file for the process to end at this step.
    pub fn arming(self) -> String {
        format!("at {}", self.name())
    }

    /// Goes past the step, or ends the process there.
    pub fn pass(self) {
        #[cfg(debug_assertions)]
        armed::step(self);
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::path::{Path, PathBuf};
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::{env, fs, process};

    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| env::var_os("FAILPOINTS").map(PathBuf::from));
    /// One step at a time counts.
    static COUNTING: Mutex<()> = Mutex::new(());

    #[expect(clippy::disallowed_methods, reason = "between a test and the process, not the node's")]
    pub(super) fn step(at: super::Failpoint) {
        let Some(file) = &*FILE else {
            return;
        };
        let _counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(armed) = fs::read_to_string(file) else {
            return;
        };
        match armed.trim().parse::<u32>() {
            Ok(0) => end(file, at),
            Ok(left) => {
                let _ = fs::write(file, (left - 1).to_string());
            }
            Err(_) if armed == at.arming() => end(file, at),
            Err(_) => {}
        }
    }

    #[expect(clippy::disallowed_methods, reason = "between a test and the process, not the node's")]
    fn end(file: &Path, at: super::Failpoint) -> ! {
        // Ended all the same if it can't be said where.
        let _ = fs::write(file, at.name());
        process::abort();
    }
}
