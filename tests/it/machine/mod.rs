//! The machine from outside: against a model, by scripts, on damaged rows, and its formats.

mod against_model;
mod dice;
mod generate;
mod model;
