//! All tests of the command from the outside, in one binary so that it is linked once.

mod kill;
mod readme;
mod running;
