//! A laboratory in network namespaces: a client, the balancer, real web servers, and no trace left
//! of them afterwards.
//!
//! A [`Lab`] owns namespaces with a name prefix of its own, a folder and a place for pins. All of
//! it goes when the `Lab` is dropped, and a janitor process removes it when the owner is killed.
//! [`Routed`], [`Segment`], [`Pair`] and [`Fabric`] are the ways the machines are wired; [`foobar`] is a whole
//! deployment.

mod address;
mod cleanup;
mod command;
mod fabric;
pub mod foobar;
mod http;
mod lab;
mod namespace;
mod nginx;
mod pair;
mod pass_program;
mod process;
mod routed;
mod segment;

pub use address::{VIP4, VIP6};
pub use cleanup::remove_stale;
pub use fabric::Fabric;
pub use http::{Response, get};
pub use lab::{Lab, WELL_KNOWN};
pub use namespace::Namespace;
pub use nginx::{Nginx, NginxConfig};
pub use pair::Pair;
pub use process::Process;
pub use routed::Routed;
pub use segment::Segment;
