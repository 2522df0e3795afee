//! One binary of integration tests, so that the library is linked once.

mod machine;
