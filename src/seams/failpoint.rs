//! Failpoints: steps at which a test has the process end, as if it was killed there, or has what is
//! done there fail once.
//!
//! The variable `FAILPOINTS` names a file; while there is one, it says how many of the rarer steps are
//! still to be gone past, or which step the process is to end at when it comes to it, or which is to
//! fail. That step writes its name into the file, and ends the process on the spot or fails. Only
//! builds with debug assertions have failpoints: elsewhere a step is nothing.

use std::io;

macro_rules! failpoints {
    (rare { $($rare:ident $rare_name:literal;)* } frequent { $($id:ident $name:literal $(or $fails:ident)?;)* }) => {
        /// A step, by what a node does there.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Failpoint {
            $(#[doc = $rare_name] $rare,)*
            $(#[doc = $name] $id,)*
        }

        impl Failpoint {
            /// The steps of changes, so few in each that they can be gone through by their count.
            pub const RARE: &[Failpoint] = &[$(Failpoint::$rare),*];
            /// All others.
            pub const FREQUENT: &[Failpoint] = &[$(Failpoint::$id),*];

            /// Whether there is something that can fail at this step, and not only the process.
            pub fn can_fail(self) -> bool {
                match self {
                    $($(Failpoint::$id => stringify!($fails) == "fails",)?)*
                    _ => false,
                }
            }

            /// What is written into the file.
            pub fn name(self) -> &'static str {
                match self {
                    $(Failpoint::$rare => $rare_name,)*
                    $(Failpoint::$id => $name,)*
                }
            }
        }
    };
}

failpoints! {
    rare {
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
    frequent {
        BeforeKeyNamed "before the node's key has its name" or fails;
        AfterKeyNamed "after the node's key has its name";
        BeforeIdentityNamed "before node.toml has its name" or fails;
        AfterIdentityNamed "after node.toml has its name";
        BeforeBookNamed "before the address book has its name" or fails;
        AfterBookNamed "after the address book has its name";

        BeforeSegmentMade "before a segment of the log is made" or fails;
        BeforeSegmentNamed "before a segment of the log has its name" or fails;
        AfterSegmentNamed "after a segment of the log has its name";
        BeforeSegmentRemoved "before a segment of the log is removed" or fails;
        AfterSegmentRemoved "after a segment of the log was removed";
        BeforeFrame "before a frame of the log is written" or fails;
        AfterFrame "after a frame of the log was written";
        BeforeSync "before the log is synced" or fails;
        AfterSync "after the log was synced";
        AfterReport "after it was reported what is synced";
        BeforeSealed "before the log is closed" or fails;
        AfterSealed "after the log was closed";

        BeforeAppend "before entries are queued" or fails;
        AfterAppend "after entries were queued";
        BeforeVote "before a vote is kept" or fails;
        AfterVote "after a vote was kept";
        BeforeCommitted "before it is noted what is committed" or fails;
        BeforePurge "before a log is purged" or fails;
        AfterPurge "after a log was purged";

        BeforeStateNamed "before a state has its name" or fails;
        AfterStateNamed "after a state has its name";
        BeforeApplied "before entries are applied" or fails;
        AfterApplied "after entries were applied, before anybody sees it";
        AfterPublished "after it was seen what was applied, before it is answered";
        BeforeMembersApplied "before a group's members are applied";
        BeforeSettled "before a state is written to its file" or fails;
        AfterSettled "after a state was written to its file";
        BeforeCheckpoint "before a state is made durable" or fails;
        AfterCheckpoint "after a state was made durable";
        BeforeExpired "before the end of leases is proposed";
        BeforeCompacted "before a step of a compaction is proposed";

        BeforeSnapshot "before a snapshot is offered" or fails;
        BeforeChunk "before a chunk of a snapshot is read" or fails;
        BeforeLastChunk "before the last chunk of a snapshot goes out" or fails;
        BeforeArrival "before a snapshot arrives" or fails;
        AfterChunk "after a chunk of a snapshot has arrived" or fails;
        AfterArrival "after a snapshot has arrived and was checked" or fails;
        BeforeInstalled "before a snapshot's state has its name" or fails;
        AfterInstalled "after a snapshot's state has its name, before that is durable";

        BeforeLearner "before a group has another learner";
        AfterLearner "after a group has another learner";
        BeforeVoters "before a group has other voters";
        AfterVoters "after a group has other voters";
        BeforeDropped "before a group drops learners";
        AfterDropped "after a group has dropped learners";
        BeforeHandover "before a group is handed over";
        AfterHandover "after a group was handed over";

        BeforeAdmitted "before a node is admitted";
        AfterAdmitted "after a node was admitted, before it is told";
        BeforeMember "before a node keeps that it is a member";
        AfterMember "after a node has kept that it is a member";
        BeforeGone "before a node keeps that it was removed";
        AfterGone "after a node has kept that it was removed";
    }
}

impl Failpoint {
    /// Every step that there is; tests that harm nodes are held to come to each.
    pub fn all() -> impl Iterator<Item = Failpoint> {
        Failpoint::RARE.iter().chain(Failpoint::FREQUENT).copied()
    }

    /// The step of this name.
    pub fn named(name: &str) -> Option<Failpoint> {
        Failpoint::all().find(|at| at.name() == name)
    }

    /// What is in the file for the process to end at this step.
    pub fn ending(self) -> String {
        format!("end {}", self.name())
    }

    /// What is in the file for this step to fail once.
    pub fn failing(self) -> String {
        format!("fail {}", self.name())
    }

    /// Goes past the step, or ends the process there.
    pub fn pass(self) {
        #[cfg(debug_assertions)]
        armed::pass(self);
    }

    /// Goes past the step, or ends the process there, or fails as a disk does that has an error.
    pub fn check(self) -> io::Result<()> {
        #[cfg(debug_assertions)]
        armed::check(self)?;
        Ok(())
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::path::{Path, PathBuf};
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::{env, fs, io, process};

    use super::Failpoint;

    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| env::var_os("FAILPOINTS").map(PathBuf::from));
    /// One step at a time counts.
    static COUNTING: Mutex<()> = Mutex::new(());

    #[expect(clippy::disallowed_methods, reason = "between a test and the process, not the node's")]
    pub(super) fn pass(at: Failpoint) {
        let Some(file) = &*FILE else {
            return;
        };
        let _counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(armed) = fs::read_to_string(file) else {
            return;
        };
        match armed.trim().parse::<u32>() {
            Ok(0) if Failpoint::RARE.contains(&at) => end(file, at),
            Ok(left) if Failpoint::RARE.contains(&at) => {
                let _ = fs::write(file, (left - 1).to_string());
            }
            Err(_) if armed == at.ending() => end(file, at),
            _ => {}
        }
    }

    #[expect(clippy::disallowed_methods, reason = "between a test and the process, not the node's")]
    pub(super) fn check(at: Failpoint) -> io::Result<()> {
        pass(at);
        let Some(file) = &*FILE else {
            return Ok(());
        };
        if fs::read_to_string(file).is_ok_and(|armed| armed == at.failing()) {
            let _ = fs::write(file, at.name());
            return Err(io::Error::other(format!("a test has it fail {}", at.name())));
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "between a test and the process, not the node's")]
    fn end(file: &Path, at: Failpoint) -> ! {
        // Ended all the same if it can't be said where.
        let _ = fs::write(file, at.name());
        process::abort();
    }
}
