//! What the library promises, tried from outside: one program, a module for each subject.

mod log;
mod machine;
