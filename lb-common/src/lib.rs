//! The steering engine of lb.
//!
//! Every decision about a packet is taken here, in safe code that runs in the kernel and on the
//! host alike. The two seams are [`frame::Frame`], which hands out bounds-checked headers, and
//! [`tables::Tables`], which answers look-ups; `lb-ebpf` implements them with packet pointers and
//! BPF maps, [`host`] with a slice and collections.
//!
//! Start reading at [`engine::process`]; what takes tunnels' packets apart on app hosts is
//! [`decap::process`].

#![cfg_attr(not(any(test, feature = "host")), no_std)]
#![forbid(unsafe_code)]

pub mod abi;
pub mod address;
pub mod capture;
pub mod checksum;
pub mod cookie;
pub mod decap;
pub mod engine;
pub mod filter;
pub mod firewall;
pub mod flow;
pub mod frame;
pub mod hash;
pub mod headers;
#[cfg(any(test, feature = "host"))]
pub mod host;
pub mod intercept;
pub mod ip;
pub mod lab;
#[cfg(any(test, feature = "host"))]
pub mod maglev;
pub mod ports;
pub mod shared;
#[cfg(any(test, feature = "host"))]
pub mod slots;
pub mod sync;
pub mod tables;
pub mod tags;
pub mod trace;
pub mod verdict;
