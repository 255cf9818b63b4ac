//! The config as it is meant: validated, defaults filled in, nothing left to check.
//!
//! The module `raw` holds the config as it is written; only validation makes one of these.

pub mod firewall;
pub mod mysql;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use lb_common::abi::{Forwarding, OnBackendDown, OnNoBackend, Protocol, Scheduler};

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
    /// `[app_host]`, if this host is one.
    pub app_host: Option<AppHost>,
    /// `[firewall]`
    pub firewall: firewall::Firewall,
    /// `[cluster]`, if there are other balancers of the same services.
    pub cluster: Option<Cluster>,
    /// `[mysql]`, if this host routes statements.
    pub mysql: Option<mysql::Proxy>,
}

impl Model {
    /// Whether packets are steered here. A file with nothing at all is one for that, too: services
    /// may come by a reload.
    #[must_use]
    pub fn steers(&self) -> bool {
        let does_something_else = self.app_host.is_some() || self.mysql.is_some();
        !self.services.is_empty() || !self.agent.interfaces.is_empty() || !does_something_else
    }

    /// Whether the kernel is given programs for packets, which takes privileges.
    #[must_use]
    pub fn loads_programs(&self) -> bool {
        self.steers() || self.app_host.is_some()
    }
}

/// Other balancers of the same services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Where this one hears and talks.
    pub listen: SocketAddr,
    /// Where the others do, in the order of the file; at least one.
    pub peers: Vec<SocketAddr>,
    /// The file of the secret that they share.
    pub key_file: PathBuf,
    /// How long others are waited for at the start.
    pub catch_up: Duration,
}

/// A backend's own host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppHost {
    /// Interfaces that packets for the VIPs come in by, in the order of the file; at least one.
    pub interfaces: Vec<String>,
    /// Addresses of services, in the order of the file; at least one.
    pub vips: Vec<IpAddr>,
    /// Tunnels that packets are taken out of.
    pub decap: Vec<Decap>,
    /// Where tunnels may come from; empty is anywhere.
    pub allowed_sources: Vec<Prefix>,
}

/// A kind of tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decap {
    /// IP in IP.
    IpIp,
    /// Generic UDP encapsulation.
    Gue,
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
    /// What is logged, and how.
    pub log: Log,
    /// Who an agent that is started as root becomes.
    pub user: Option<String>,
    /// What a start does with pinned tables of another layout.
    pub on_new_layout: OnNewLayout,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least that is logged.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Something does not work.
    Error,
    /// Somebody should look.
    Warn,
    /// Good to know.
    Info,
    /// For whoever looks for a fault in the agent.
    Debug,
    /// The same, more of it.
    Trace,
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A sentence, for people.
    Text,
    /// An object, for programs.
    Json,
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

/// What a start does with pinned tables of another layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNewLayout {
    /// It fails; what steers goes on.
    Refuse,
    /// New ones take their place.
    Replace,
}

/// What a clean stop does with the data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// Remove programs and pins.
    Detach,
    /// Leave them forwarding.
    Keep,
}

/// The admin sockets.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Path of the Unix socket, made with mode 0600.
    pub socket: PathBuf,
    /// Where the API is offered by TCP, if it is.
    pub listen: Option<SocketAddr>,
    /// The file of the token that allows changes by TCP.
    pub token_file: Option<PathBuf>,
    /// What is shown by TCP, if that is encrypted.
    pub tls: Option<KeyPair>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// A PEM file, with the chain.
    pub certificate: PathBuf,
    /// A PEM file.
    pub key: PathBuf,
}

/// Sizes of the kernel tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Established flows.
    pub flows: u32,
    /// Half-open flows.
    pub half_open_flows: u32,
    /// Packets in fragments.
    pub fragments: u32,
    /// Clients that keep their backend.
    pub affinity_entries: u32,
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
    /// For how long a client's address keeps its backend; zero is not at all.
    pub affinity: Duration,
    /// Source addresses towards the backends; empty except for full NAT.
    pub source_addresses: Vec<IpAddr>,
    /// Source addresses of tunnels; `None` is the default of the backend's family.
    pub tunnel_source: Option<Prefix>,
    /// Slots of the table of schedulers that go by a hash; a prime number.
    pub maglev_table_size: u32,
    /// Whether no flows are kept.
    pub one_packet: bool,
    /// Whether QUIC connection ids name the backend.
    pub quic_server_id: bool,
    /// The largest TCP segment that handshakes may announce.
    pub mss_clamp: Mss,
    /// Half-open connections from which on SYNs are answered with cookies; 0 is never.
    pub syn_cookies: u32,
    /// How long a backend that came up takes to get its full weight.
    pub slow_start: Duration,
    /// When fewer of its backends are up, those that are down are used as well; 0 is never.
    pub min_up_percent: u8,
    /// Whether the address is on `lo` while a backend is in rotation.
    pub announce: Announce,
    /// A flow without packets for that long is forgotten.
    pub idle_timeout: Duration,
    /// What happens to live flows of a backend that went down.
    pub on_backend_down: OnBackendDown,
    /// What a new connection gets when no backend is in rotation.
    pub on_no_backend: OnNoBackend,
    /// How its backends are checked.
    pub health_check: HealthCheck,
    /// When clients' connections take them down, if they do.
    pub passive: Option<Passive>,
    /// Where more backends come from.
    pub discovery: Option<Discovery>,
    /// Who may use it.
    pub firewall: firewall::Access,
    /// In the order of the file, which is the order of round robin.
    pub backends: Vec<Backend>,
}

/// An address and how many of its first bits matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Its address.
    pub address: IpAddr,
    /// Up to 32 or 128.
    pub length: u8,
}

impl Prefix {
    /// The same without bits behind the prefix.
    #[must_use]
    pub fn network(self) -> Self {
        let address = match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.length));
                IpAddr::from((u32::from(v4) & mask.unwrap_or(0)).to_be_bytes())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.length));
                IpAddr::from((u128::from(v6) & mask.unwrap_or(0)).to_be_bytes())
            }
        };
        Self { address, ..self }
    }

    /// Whether bits behind the prefix are set.
    #[must_use]
    pub fn has_host_bits(self) -> bool {
        self.network() != self
    }

    /// Bits behind the prefix, of the last 32 at most.
    #[must_use]
    pub fn host_bits(self) -> u32 {
        let longest: u32 = if self.address.is_ipv4() { 32 } else { 128 };
        longest.saturating_sub(self.length.into()).min(32)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// The largest TCP segment that handshakes may announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mss {
    /// Any.
    Off,
    /// What fits into the MTU towards the backend.
    Auto,
    /// That many bytes.
    Most(u16),
}

/// A server behind a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Unique within its service.
    pub name: String,
    /// Same address family as the service, except for tunnels.
    pub address: IpAddr,
    /// The service's port unless the file says otherwise.
    pub port: u16,
    /// 0 to 256; 0 gets no new connections.
    pub weight: u16,
    /// Active or backup.
    pub role: Role,
    /// What QUIC connection ids name it by; 1 to 15 bytes.
    pub server_id: Option<Vec<u8>>,
}

/// When a backend is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Always.
    Active,
    /// Only while no active backend is up.
    Backup,
}

/// Where backends come from beside the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Whom to ask for what.
    pub source: DiscoverySource,
    /// Of more backends, so many are used.
    pub most: u32,
}

/// Whom to ask for backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoverySource {
    /// A DNS server.
    Dns(DnsQuery),
    /// etcd.
    Etcd(EtcdRange),
}

/// What to ask a DNS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsQuery {
    /// The name.
    pub name: String,
    /// Which records of it.
    pub record: DnsRecord,
    /// The port of backends found by address, if it is not the service's.
    pub port: Option<u16>,
    /// Whom; `None` is the system's.
    pub server: Option<SocketAddr>,
}

/// Records of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsRecord {
    /// A and AAAA.
    Address,
    /// SRV.
    Srv,
}

/// Where etcd is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdServers {
    /// `http://HOST:PORT` or `https://HOST:PORT`, at least one.
    pub endpoints: Vec<String>,
    /// For those by `https://`.
    pub tls: Option<EtcdTls>,
}

/// How one knows etcd, and it oneself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdTls {
    /// A PEM file of those whose signature counts.
    pub ca: PathBuf,
    /// What etcd is shown.
    pub own: Option<KeyPair>,
}

/// Keys in etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdRange {
    /// Where.
    pub servers: EtcdServers,
    /// What their keys begin with.
    pub prefix: String,
}

/// A service's health check.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: CheckKind,
    /// By which way.
    pub via: Via,
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
    /// Where the backend's agent is asked, if it has one.
    pub agent_port: Option<u16>,
}

/// Who tells routers of a service's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announce {
    /// Others, or nobody.
    No,
    /// Who announces what stands on `lo`, where the address is while it is served.
    Lo,
}

/// By which way a backend is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// At its own address.
    Direct,
    /// As clients reach it: at the service's address, through the data path.
    Service,
}

/// When connections that failed take a backend down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Passive {
    /// So many.
    pub fall: u32,
    /// Within that long.
    pub window: Duration,
    /// Of those that failed or succeeded, so many at least.
    pub percent: u8,
    /// How long it stays down where nobody asks it.
    pub hold: Duration,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckKind {
    /// Nothing: the backend counts as up.
    None,
    /// A TCP connect.
    Tcp,
    /// A GET.
    Http(Get),
    /// A GET over TLS.
    Https(Get, Tls),
    /// gRPC's health protocol.
    Grpc {
        /// The authority of the request, if it is not the backend's address.
        host: Option<String>,
        /// Whose health; empty is the server as a whole.
        service: String,
    },
    /// A login to MySQL or MariaDB.
    Mysql(Mysql),
    /// What a program says.
    Script {
        /// An absolute path, and arguments.
        command: Vec<String>,
    },
}

/// A request and what it should get.
#[derive(Clone, Debug, PartialEq)]
pub struct Get {
    /// Path and query.
    pub path: String,
    /// The `Host` header, if it is not the backend's address.
    pub host: Option<String>,
    /// Status codes that count as a success.
    pub expect_status: StatusCodes,
}

/// A login, and what the server should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Mysql {
    /// Who logs in.
    pub user: String,
    /// Where the password is, if there is one.
    pub password_file: Option<PathBuf>,
    /// The role that counts as a success.
    pub require: Require,
    /// How far replication may be behind.
    pub max_lag: Option<Duration>,
    /// Over TLS where the server has it, and only so where somebody has to have signed its
    /// certificate.
    pub tls: Tls,
}

/// The role of a MySQL server that counts as a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Require {
    /// Either.
    Any,
    /// It can be written to.
    Primary,
    /// It is read-only.
    Replica,
}

/// How a server proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The name it is asked for, if it is not the backend's address.
    pub sni: Option<String>,
    /// Who has to have signed its certificate.
    pub trust: Trust,
    /// Whether its certificate may be without any name.
    pub may_be_nameless: bool,
}

/// Who has to have signed a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// One of those that this system trusts.
    System,
    /// One of those in this file.
    File(PathBuf),
    /// Nobody.
    Anyone,
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
