//! What is on disk: the log of all groups, one state file a group, snapshots on their way.
//!
//! The only module that names redb. Everything stands on [`crate::seams::disk`].
//!
//! - [`log`]: segment files, one writer, one fsync for all groups.
//! - [`state`]: the machine's tables in redb; [`checked`]: the checksums under it.
//! - [`snapshot`]: a state as a stream, and back.
//! - [`space`]: the guard on free disk space.

pub mod checked;
pub mod log;
pub mod snapshot;
pub mod space;
pub mod state;

use crate::types::Form;

/// What stands beside the tables of a state, and what they arrive in.
#[doc(hidden)]
pub const FORMS: &[Form] = &[state::MARK, snapshot::FORM];
