//! The integration tests of the library, in one program.

mod log;
