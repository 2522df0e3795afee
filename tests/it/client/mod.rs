//! The client: what its callers see while nodes fail under it.

mod guests;
mod once;
mod retries;
mod rolling;
mod script;
mod watches;
