//! What a node keeps on disk: the log of all its groups, and under each group's state a file
//! that knows when it is damaged.
//!
//! The map: [`log`] is the shared log in segment files; [`checked`] is the file that redb's pages
//! stand on. Everything here goes through [`crate::seams::disk`] and nothing here knows Raft.

pub mod checked;
pub mod log;
