//! What the library promises, tried from outside: one program, a module for each subject.

#![allow(clippy::unwrap_used, reason = "a test that meets what it did not expect stops there")]

mod docs;
mod log;
mod machine;
mod walls;
