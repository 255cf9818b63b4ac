//! The config as it is meant: validated, defaults filled in, nothing left to check.
//!
//! The module `raw` holds the config as it is written; only validation makes one of these.

use std::{fmt, net::IpAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use lb_common::abi::{Forwarding, OnBackendDown, OnNoBackend, Protocol};

/// A whole config file.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// `[agent]`
    pub agent: Agent,
    /// `[admin]`
    pub admin: Admin,
    /// `[limits]`
    pub limits: Limits,
    /// `[[service]]`, in the order of the file.
    pub services: Vec<Service>,
}

/// Where steering attaches and what stays behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    /// Interfaces that get the XDP program, in the order of the file, without duplicates.
    pub interfaces: Vec<String>,
    /// How the program is attached.
    pub xdp_mode: XdpMode,
    /// A directory on a bpffs that holds the pinned link and maps.
    pub pin_path: PathBuf,
    /// What SIGTERM does with the data path.
    pub on_exit: OnExit,
    /// Weights and states set at run time.
    pub state_file: PathBuf,
}

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// Native, else generic with a warning.
    Auto,
    /// In the driver; refused where the driver has no XDP.
    Native,
    /// On socket buffers, any device, slower.
    Generic,
}

/// What a clean stop does with the data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// Remove programs and pins.
    Detach,
    /// Leave them forwarding.
    Keep,
}

/// The admin socket.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Path of the Unix socket, made with mode 0600.
    pub socket: PathBuf,
}

/// Sizes of the kernel tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Established flows.
    pub flows: u32,
    /// Half-open flows.
    pub half_open_flows: u32,
}

/// A VIP: address, port and protocol, and the backends behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Unique name.
    pub name: String,
    /// The address clients connect to.
    pub address: IpAddr,
    /// The port clients connect to.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// How a new flow gets its backend.
    pub scheduler: Scheduler,
    /// How packets reach the backend.
    pub forwarding: Forwarding,
    /// A flow without packets for that long is forgotten.
    pub idle_timeout: Duration,
    /// What happens to live flows of a backend that went down.
    pub on_backend_down: OnBackendDown,
    /// What a new connection gets when no backend is in rotation.
    pub on_no_backend: OnNoBackend,
    /// How its backends are checked.
    pub health_check: HealthCheck,
    /// In the order of the file, which is the order of round robin.
    pub backends: Vec<Backend>,
}

/// How a new flow gets its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// In the order of the file, interleaved by weight.
    RoundRobin,
}

/// A server behind a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Unique within its service.
    pub name: String,
    /// Same address family as the service.
    pub address: IpAddr,
    /// The service's port unless the file says otherwise.
    pub port: u16,
    /// 0 to 256; 0 gets no new connections.
    pub weight: u16,
    /// Active or backup.
    pub role: Role,
}

/// When a backend is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Always.
    Active,
    /// Only while no active backend is up.
    Backup,
}

/// A service's health check.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: CheckKind,
    /// Time from one check of a backend to its next.
    pub interval: Duration,
    /// A check that takes longer has failed.
    pub timeout: Duration,
    /// Successes in a row that bring a backend up.
    pub rise: u32,
    /// Failures in a row that take a backend down.
    pub fall: u32,
    /// The port that is checked, if it is not the backend's.
    pub port: Option<u16>,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckKind {
    /// Nothing: the backend counts as up.
    None,
    /// A TCP connect.
    Tcp,
    /// A GET.
    Http {
        /// Path and query.
        path: String,
        /// Status codes that count as a success.
        expect_status: StatusCodes,
    },
}

/// HTTP status codes, as a list of ranges in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusCodes(pub Vec<RangeInclusive<u16>>);

impl StatusCodes {
    /// Whether the code is among them.
    #[must_use]
    pub fn contains(&self, code: u16) -> bool {
        self.0.iter().any(|range| range.contains(&code))
    }
}

impl fmt::Display for StatusCodes {
    /// As in the file: `200,204,301-302`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{}", range.start())?;
            if range.start() != range.end() {
                write!(f, "-{}", range.end())?;
            }
        }
        Ok(())
    }
}
