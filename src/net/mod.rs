//! The network: this node's key and its iroh endpoint. The only module that names iroh.
//!
//! Nothing is accepted yet: a node without peers has no one to let in.

mod endpoint;
mod key;

pub use endpoint::{Endpoint, Reach};
pub use key::NodeKey;
