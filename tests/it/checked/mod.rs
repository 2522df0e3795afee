//! The checked file: against a plain one, and under redb through crashes and damage.

mod databases;
mod files;
mod states;
