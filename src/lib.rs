//! Aspen: a peer-to-peer, strongly consistent key-value store in one library.

pub mod client;
pub mod error;
pub mod health;
pub mod http;
pub mod limits;
pub mod machine;
pub mod seams;
pub mod status;
pub mod types;
