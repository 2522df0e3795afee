//! The machine from outside: against a model, by scripts, on damaged rows, and its formats.

mod against_model;
mod cost;
mod damage;
mod dice;
mod format;
mod generate;
mod golden;
mod limits;
mod model;
mod replicas;
mod script;
mod show;
