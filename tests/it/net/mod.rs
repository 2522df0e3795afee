//! The network from outside: real endpoints on loopback, raw strangers, and everything that must
//! hold between peers whatever one of them does.

mod book;
mod calls;
mod floods;
mod lanes;
mod links;
mod rig;
mod strangers;
mod wire;
