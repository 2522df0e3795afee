//! The real binary, from the outside: arguments in; output, sentences and exit codes out.

mod across;
mod answers;
mod cluster;
mod config;
mod failpoints;
mod fields;
mod full;
mod hot;
mod http;
mod journey;
mod kill;
mod metrics;
mod netns;
mod node;
mod readme;
mod recover;
mod relay;
mod repair;
mod running;
mod shards;
mod storing;
mod support;
mod tickets;
mod upgrade;
mod usage;
mod watches;
