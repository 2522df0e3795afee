//! Aspen: a peer-to-peer, strongly consistent key-value store in one library.

pub mod client;
pub mod error;
pub mod limits;
pub mod machine;
pub mod seams;
pub mod store;
pub mod types;
