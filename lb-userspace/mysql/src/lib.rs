//! What lb knows of MySQL and MariaDB: the protocol ([`wire`]), logins ([`auth`]), the routing of
//! statements ([`sql`], [`route`]), replication ([`gtid`], [`topology`]), and the proxy itself
//! ([`proxy`]). But for the latter, nothing here opens a socket, reads a file or looks at a clock.
#![forbid(unsafe_code)]

pub mod auth;
pub mod digest;
pub mod explain;
pub mod gtid;
pub mod monitor;
pub mod proxy;
pub mod route;
pub mod sql;
pub mod topology;
pub mod wire;
