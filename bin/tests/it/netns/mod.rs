//! Nodes on machines of their own: each host is a network namespace, with an interface on a bridge.
//!
//! Nothing here can send on the machine's own interfaces: no namespace has a route or a link to
//! them, and cables are made inside the namespaces. What may go where is therefore decided by the
//! tests alone, and counted where the cable ends.
//!
//! It takes root and two tools. Where one of them is missing the tests say so in one line and are
//! left out, unless `ASPEN_TEST_NETNS=required`: then they fail.

mod behaviour;
mod example;
mod faults;
mod found;
mod lan;
mod mesh;
mod moving;
mod node;
mod partitions;
pub(crate) mod ready;
mod relayed;
mod servers;
mod space;
mod topology;
mod watch;
