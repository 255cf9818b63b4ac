//! Packets of the client/server protocol, of MySQL and of MariaDB, as bytes.
//!
//! Nothing here knows a socket or a clock. Readers borrow from the bytes they are given and never
//! panic; makers append to a vector that the caller keeps. What comes from a peer is bounded where
//! it is looked at as a whole ([`packet::measure`], [`reply::Watch`]).

pub mod attributes;
pub mod capability;
pub mod change_user;
pub mod command;
pub mod error;
pub mod execute;
pub mod greeting;
pub mod ok;
pub mod packet;
pub mod prepared;
pub mod query;
pub mod reader;
pub mod reply;
pub mod response;
pub mod status;
pub mod track;

pub use self::{capability::Capabilities, reader::Reader, status::Status};

/// Bytes that are not what the protocol has in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a malformed packet")]
pub struct Malformed;
