//! The words and lists that keys take.

use lb_common::abi::{Forwarding, OnBackendDown, OnNoBackend, Protocol, Scheduler};

use crate::config::{
    model::{
        Announce, Decap, DnsRecord, LogFormat, LogLevel, OnExit, OnNewLayout, Require, Role, Via,
        XdpMode,
    },
    rules::{AbsolutePath, Address, Choice, Endpoint, List, ListenAddress, PortOfHost, PrefixOf},
};

/// What a health check asks, without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum CheckKind {
    None,
    Tcp,
    Http,
    Https,
    Grpc,
    Mysql,
    Script,
}

impl CheckKind {
    /// As in the file.
    pub(in crate::config) fn word(self) -> &'static str {
        let words = CHECK_KIND.words.iter();
        words
            .clone()
            .find(|(_, kind)| *kind == self)
            .map_or("?", |(word, _)| word)
    }
}

/// Where backends come from, without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum DiscoveryKind {
    Dns,
    Etcd,
}

pub(super) const XDP_MODE: Choice<XdpMode> = Choice {
    words: &[
        ("auto", XdpMode::Auto),
        ("native", XdpMode::Native),
        ("generic", XdpMode::Generic),
    ],
    later: &[],
};

pub(super) const VIA: Choice<Via> = Choice {
    words: &[("direct", Via::Direct), ("service", Via::Service)],
    later: &[],
};

pub(super) const ANNOUNCE: Choice<Announce> = Choice {
    words: &[("no", Announce::No), ("lo", Announce::Lo)],
    later: &[],
};

pub(super) const ON_EXIT: Choice<OnExit> = Choice {
    words: &[("detach", OnExit::Detach), ("keep", OnExit::Keep)],
    later: &[],
};

pub(super) const LOG_LEVEL: Choice<LogLevel> = Choice {
    words: &[
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ],
    later: &[],
};

pub(super) const LOG_FORMAT: Choice<LogFormat> = Choice {
    words: &[("text", LogFormat::Text), ("json", LogFormat::Json)],
    later: &[],
};

pub(super) const ON_NEW_LAYOUT: Choice<OnNewLayout> = Choice {
    words: &[
        ("refuse", OnNewLayout::Refuse),
        ("replace", OnNewLayout::Replace),
    ],
    later: &[],
};

pub(super) const PROTOCOL: Choice<Protocol> = Choice {
    words: &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)],
    later: &[],
};

pub(super) const SCHEDULER: Choice<Scheduler> = Choice {
    words: &[
        ("round-robin", Scheduler::RoundRobin),
        ("least-connections", Scheduler::LeastConnections),
        ("maglev", Scheduler::Maglev),
        ("source-hash", Scheduler::SourceHash),
    ],
    later: &[],
};

pub(super) const FORWARDING: Choice<Forwarding> = Choice {
    words: &[
        ("nat", Forwarding::Nat),
        ("full-nat", Forwarding::FullNat),
        ("dsr-l2", Forwarding::DsrL2),
        ("dsr-ipip", Forwarding::DsrIpip),
        ("dsr-gue", Forwarding::DsrGue),
    ],
    later: &[],
};

pub(super) const ON_BACKEND_DOWN: Choice<OnBackendDown> = Choice {
    words: &[
        ("reschedule", OnBackendDown::Reschedule),
        ("reset", OnBackendDown::Reset),
        ("hold", OnBackendDown::Hold),
    ],
    later: &[],
};

pub(super) const ON_NO_BACKEND: Choice<OnNoBackend> = Choice {
    words: &[
        ("reset", OnNoBackend::Reset),
        ("unreachable", OnNoBackend::Unreachable),
        ("drop", OnNoBackend::Drop),
    ],
    later: &[],
};

pub(super) const CHECK_KIND: Choice<CheckKind> = Choice {
    words: &[
        ("none", CheckKind::None),
        ("tcp", CheckKind::Tcp),
        ("http", CheckKind::Http),
        ("https", CheckKind::Https),
        ("grpc", CheckKind::Grpc),
        ("mysql", CheckKind::Mysql),
        ("script", CheckKind::Script),
    ],
    later: &[],
};

pub(super) const REQUIRE: Choice<Require> = Choice {
    words: &[
        ("any", Require::Any),
        ("primary", Require::Primary),
        ("replica", Require::Replica),
    ],
    later: &[],
};

pub(super) const ROLE: Choice<Role> = Choice {
    words: &[("active", Role::Active), ("backup", Role::Backup)],
    later: &[],
};

pub(super) const DISCOVERY_KIND: Choice<DiscoveryKind> = Choice {
    words: &[("dns", DiscoveryKind::Dns), ("etcd", DiscoveryKind::Etcd)],
    later: &[],
};

pub(super) const DNS_RECORD: Choice<DnsRecord> = Choice {
    words: &[("address", DnsRecord::Address), ("srv", DnsRecord::Srv)],
    later: &[],
};

pub(super) const ENDPOINTS: List<Endpoint> = List {
    of: Endpoint,
    example: "[\"http://10.0.0.5:2379\"]",
};

pub(super) const ADDRESSES: List<Address> = List {
    of: Address,
    example: "[\"10.0.0.2\"]",
};

pub(super) const PEERS: List<ListenAddress> = List {
    of: ListenAddress,
    example: "[\"10.0.0.3:4789\"]",
};

pub(super) const DECAPS: List<Choice<Decap>> = List {
    of: DECAP,
    example: "[\"ipip\", \"gue\"]",
};

pub(super) const PREFIXES: List<PrefixOf> = List {
    of: PrefixOf,
    example: "[\"10.0.0.0/8\"]",
};

pub(super) const HOST_DEFAULT: Choice<bool> = Choice {
    words: &[("allow", false), ("deny", true)],
    later: &[],
};

pub(super) const HOST_PORTS: List<PortOfHost> = List {
    of: PortOfHost,
    example: "[\"tcp/22\"]",
};

pub(super) const PREFIX_FILES: List<AbsolutePath> = List {
    of: AbsolutePath,
    example: "[\"/etc/lb/deny.txt\"]",
};

pub(super) const DECAP: Choice<Decap> = Choice {
    words: &[("ipip", Decap::IpIp), ("gue", Decap::Gue)],
    later: &[],
};
