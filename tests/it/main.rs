//! What the library promises, tried from outside: one program, a module for each subject.

mod docs;
mod log;
mod machine;
mod node;
mod walls;
