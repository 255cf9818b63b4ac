//! The agent of lb: everything behind the command `lb`.
//!
//! Rooms and what they may know: only [`dataplane`] knows aya, only [`config`] reads TOML, only
//! [`cli`] prints. `ARCHITECTURE.md` tells the whole story.

pub mod admin;
pub mod agent;
pub mod app_host;
pub mod capture;
pub mod check_lane;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod discovery;
pub mod doctor;
mod ethtool;
pub mod events;
pub mod firewall;
pub mod flow_list;
pub mod health;
pub mod import;
pub mod metrics;
pub mod mysql;
pub mod next_hop;
pub mod page;
mod query_string;
pub mod secret_file;
pub mod status;
pub mod why;
