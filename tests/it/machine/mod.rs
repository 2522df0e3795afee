//! The machine from outside: against a model, by scripts, on damaged rows, and its formats.

mod against_model;
mod cost;
mod damage;
pub(crate) mod dice;
mod format;
mod generate;
mod golden;
mod limits;
mod model;
pub(crate) mod replicas;
mod script;
mod show;
