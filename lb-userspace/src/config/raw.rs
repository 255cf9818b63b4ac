//! The config as it is written: every table, every key, its default and what it takes.
//!
//! This list is the only one. Reading, the messages and `docs/config.md` come from it.

mod firewall;
mod firewall_rate;
mod mysql;
mod service_firewall;
mod words;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use lb_common::abi::{Forwarding, OnBackendDown, OnNoBackend, Protocol, Scheduler};

use self::words::{
    ADDRESSES, ANNOUNCE, CHECK_KIND, DECAPS, DISCOVERY_KIND, DNS_RECORD, ENDPOINTS, FORWARDING,
    LOG_FORMAT, LOG_LEVEL, ON_BACKEND_DOWN, ON_EXIT, ON_NEW_LAYOUT, ON_NO_BACKEND, PEERS, PREFIXES,
    PROTOCOL, REQUIRE, ROLE, SCHEDULER, VIA, XDP_MODE,
};
use super::{
    model::{
        Announce, Decap, DnsRecord, LogFormat, LogLevel, Mss, OnExit, OnNewLayout, Prefix, Require,
        Role, StatusCodes, Via, XdpMode,
    },
    rules::{
        AbsolutePath, Address, Codes, CommandLine, HostHeader, HostName, InterfaceNames,
        ListenAddress, Name, Plain, PrefixOf, Prime, Seconds, SegmentSize, ServerId, Switch,
        UrlPath, Whole,
    },
    schema::{Located, derived, optional, required, table},
};

pub(super) use self::{
    firewall::Firewall,
    firewall_rate::Rate,
    mysql::{Failover, Monitor, Mysql, Server},
    service_firewall::ServiceFirewall,
    words::{CheckKind, DiscoveryKind},
};

table! {
    struct File = ""
    keys {}
    tables { agent: Agent, admin: Admin, limits: Limits, app_host: AppHost, cluster: Cluster, firewall: Firewall, mysql: Mysql, }
    lists { service: Service, }
    later { discovery, }
}

table! {
    /// Where steering attaches and what stays behind.
    struct Agent = "[agent]"
    keys {
        /// Interfaces where steering attaches: those that clients' packets come in by and, for
        /// `nat`, those that backends' replies come back by. Needed as soon as there is a service.
        interfaces: Vec<Located<String>> = optional(InterfaceNames, Vec::new()),
        /// How the program attaches. `auto` takes the driver's native mode and falls back to
        /// `generic`, which is slower, with a warning.
        xdp_mode: XdpMode = optional(XDP_MODE, XdpMode::Auto),
        /// Directory on a bpffs that keeps the data path alive when the agent is not.
        pin_path: PathBuf = optional(AbsolutePath, PathBuf::from("/sys/fs/bpf/lb")),
        /// What a clean stop (SIGTERM, SIGINT) does with the data path. After a crash it always
        /// stays.
        on_exit: OnExit = optional(ON_EXIT, OnExit::Detach),
        /// Keeps weights and states set at run time over a restart.
        state_file: PathBuf = optional(AbsolutePath, PathBuf::from("/var/lib/lb/state.json")),
        /// The least that is logged, to stderr. The environment variable LB_LOG goes first.
        log_level: LogLevel = optional(LOG_LEVEL, LogLevel::Info),
        /// Sentences for people, or JSON with one object on each line, whose keys are those of
        /// `lb events --json`.
        log_format: LogFormat = optional(LOG_FORMAT, LogFormat::Text),
        /// User that an agent which is started as root becomes when it is prepared, keeping
        /// CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; it has to be able to read the config. Pins and
        /// `/run/lb`, `/var/lib/lb` are made that user's. Without it root stays root, with these
        /// capabilities only.
        user: String = derived(Name, "none"),
        /// What a start does when an agent of another version left tables whose layout this one does
        /// not share. `refuse` says so and leaves all as it is. `replace` makes new tables, copies
        /// live connections as far as they can be, lets the new program take the former one's place
        /// in one step, and says what was lost.
        on_new_layout: OnNewLayout = optional(ON_NEW_LAYOUT, OnNewLayout::Refuse),
    }
}

table! {
    /// How to talk to the running agent.
    struct Admin = "[admin]"
    keys {
        /// Unix socket for `lb status` and the like, mode 0600.
        socket: PathBuf = optional(AbsolutePath, PathBuf::from("/run/lb/lb.sock")),
        /// Offers the API by HTTP to whoever can reach this address: metrics, health of the agent
        /// and status, to be read by all. Without `tls_certificate` there is no encryption.
        listen: SocketAddr = derived(ListenAddress, "none"),
        /// With `listen`: clients that name the token in this file (`Authorization: Bearer TOKEN`)
        /// may do there all that the Unix socket allows. At least 16 characters, in a file that not
        /// everybody may read.
        token_file: PathBuf = derived(AbsolutePath, "none"),
        /// With `listen` and `tls_key`: the certificate (PEM, with its chain) that clients there are
        /// shown, who then have to come by HTTPS. Both files are read anew when they change, with
        /// the rights that the agent has by then.
        tls_certificate: PathBuf = derived(AbsolutePath, "none"),
        /// The key of `tls_certificate` (PEM).
        tls_key: PathBuf = derived(AbsolutePath, "none"),
    }
}

table! {
    /// Sizes of the tables in the kernel. They take effect when the tables are made.
    struct Limits = "[limits]"
    keys {
        /// Established flows.
        flows: u32 = optional(Whole(1024..=16_777_216_u32), 262_144),
        /// Half-open flows, those that a SYN flood can fill.
        half_open_flows: u32 = optional(Whole(256..=4_194_304_u32), 65_536),
        /// Packets in fragments whose ports are known.
        fragments: u32 = optional(Whole(64..=1_048_576_u32), 8192),
        /// Clients that keep their backend (`affinity_seconds`).
        affinity_entries: u32 = optional(Whole(64..=16_777_216_u32), 65_536),
    }
}

table! {
    /// Other balancers of the same services. Each tells the others of its connections, so that they
    /// go on there when packets come to another one: docs/cluster.md. What is told is encrypted and
    /// authenticated.
    struct Cluster = "[cluster]"
    keys {
        /// This balancer's own address and the UDP port by which it hears from its peers, and from
        /// which it talks to them. Not an address that moves.
        listen: SocketAddr = derived(ListenAddress, "required"),
        /// Where the others listen.
        peers: Vec<Located<SocketAddr>> = optional(PEERS, Vec::new()),
        /// A secret that all of them share: 32 to 4096 printable characters, in a file that not
        /// everybody may read. `openssl rand -hex 32` makes one.
        key_file: PathBuf = derived(AbsolutePath, "required"),
        /// How long a balancer that starts waits, at most, until its peers have told it of all their
        /// connections: before that it is not ready and announces nothing. Peers that do not answer
        /// within a second are not waited for.
        catch_up_seconds: f64 = optional(Seconds(0.0..=600.0), 10.0),
    }
}

table! {
    /// A service: the address, port and protocol that clients connect to (a VIP), and the
    /// backends behind it.
    struct Service = "[[service]]"
    keys {
        /// Unique.
        name: String = required(Name),
        /// The address that clients connect to.
        address: IpAddr = required(Address),
        /// The port that clients connect to.
        port: u16 = required(Whole(1..=65_535_u16)),
        /// Address, port and protocol together are unique.
        protocol: Protocol = optional(PROTOCOL, Protocol::Tcp),
        /// How a new connection gets its backend. `round-robin` goes through the backends in the
        /// order of the file, interleaved by weight. `least-connections` takes the one with the
        /// fewest live flows for its weight. `maglev` and `source-hash` go by a hash, of the
        /// client's address and port or of its address alone; when a backend comes or goes, few
        /// clients change, and balancers with the same backends agree.
        scheduler: Scheduler = optional(SCHEDULER, Scheduler::RoundRobin),
        /// How packets reach the backend. `nat` rewrites the destination; replies must come back
        /// through the balancer. `full-nat` also rewrites the source, to one of
        /// `source_addresses`, so that replies find their way by themselves; backends do not see
        /// the client's address. With the others the backend holds the VIP and answers the client
        /// directly: `dsr-l2` rewrites only the MAC address, for backends in the same network;
        /// `dsr-ipip` and `dsr-gue` put the packet into another one, IP in IP or UDP port 6080.
        forwarding: Forwarding = optional(FORWARDING, Forwarding::Nat),
        /// A client's address keeps its backend for that long after its last new connection; 0 is
        /// off. A backend that is down loses its clients, one that has weight 0 does not.
        affinity_seconds: f64 = optional(Seconds(0.0..=604_800.0), 0.0),
        /// `full-nat`: addresses of this host that packets to backends come from. Each has some
        /// 36,000 ports, which is the number of connections at a time. Services may share
        /// addresses if their lists are the same or one is within the other. All services together
        /// may have 254.
        source_addresses: Vec<Located<IpAddr>> = optional(ADDRESSES, Vec::new()),
        /// `dsr-ipip` and `dsr-gue`: source addresses of the outer packets. They vary from flow to
        /// flow within the last 32 bits of the prefix, so that the backend's queues share the
        /// load.
        tunnel_source: Prefix = derived(
            PrefixOf,
            "`\"172.16.0.0/16\"`, for IPv6 backends `\"100::/64\"`"
        ),
        /// `maglev` and `source-hash`: slots of the table; a hundred for each backend spread the
        /// load evenly.
        maglev_table_size: u32 = optional(Prime, 16_381),
        /// udp: keeps no flow; every datagram goes by its hash. Not with `nat` and `full-nat`,
        /// where replies could not be translated.
        one_packet: bool = optional(Switch, false),
        /// udp: a QUIC packet goes to the backend whose `server_id` its connection id names
        /// (QUIC-LB, in clear text), also when the client's address has changed.
        quic_server_id: bool = optional(Switch, false),
        /// tcp: the largest segment that SYN and SYN-ACK may announce. `"auto"` is what fits into
        /// the MTU towards the backend, less what a tunnel takes, and, where replies pass the
        /// balancer, into the smallest MTU of `interfaces`.
        mss_clamp: Mss = optional(SegmentSize, Mss::Off),
        /// tcp, `nat` and `full-nat`: half-open connections of the service from which on the balancer
        /// answers SYNs itself, with SYN cookies, so that a flood of forged ones reaches no backend
        /// and displaces nobody. Real clients still connect; such a connection has no window
        /// scaling, selective acknowledgements and timestamps. 0 is never. Not while a backend is
        /// on the balancer's own host.
        syn_cookies: u32 = optional(Whole(0..=16_777_216_u32), 0),
        /// A flow without packets for that long is forgotten.
        idle_timeout_seconds: f64 = derived(Seconds(1.0..=604_800.0), "900 for tcp, 60 for udp"),
        /// What live flows of a backend that went down get: another backend, a reset, or what
        /// they had.
        on_backend_down: OnBackendDown = optional(ON_BACKEND_DOWN, OnBackendDown::Reschedule),
        /// What a new connection gets while no backend is in rotation: a TCP reset (for udp an
        /// ICMP error), an ICMP error, or silence.
        on_no_backend: OnNoBackend = optional(ON_NO_BACKEND, OnNoBackend::Reset),
        /// A backend that came up gets a share that grows to its weight within that time; 0 is
        /// off.
        slow_start_seconds: f64 = optional(Seconds(0.0..=3600.0), 0.0),
        /// Panic threshold. When fewer than so many per cent of the backends that could get new
        /// connections are up, those that are down get them as well, because checks that fail
        /// everywhere are more likely wrong than the servers, and one server cannot do the work of
        /// all. Backups do not count while an active backend is up. 0 is never.
        min_up_percent: u8 = optional(Whole(0..=100_u8), 0),
        /// `lo`: the service's address stands on the interface lo while a backend is in rotation, of
        /// this service or of another one with the same address that says so too. A routing daemon
        /// (BIRD, FRR) tells routers of it from there, and of its end: docs/cluster.md. It is taken
        /// away when the agent stops, unless `on_exit` is `keep`, and by `lb detach`. `no` leaves
        /// that to others.
        announce: Announce = optional(ANNOUNCE, Announce::No),
    }
    tables { health_check: HealthCheck, discovery: Discovery, firewall: ServiceFirewall, }
    lists { backend: Backend, }
}

table! {
    /// Where backends come from beside those of the file, which stay. What was told last stays true
    /// while nobody answers, also over a restart. Records that cannot be backends, such as the
    /// address of a service, are left out; an answer of nothing else is none. The start waits for
    /// the first answer, 1 s at most.
    struct Discovery = "[service.discovery]"
    keys {
        /// `dns` asks for the addresses of a name as often as their TTL says, between 1 and 300 s.
        /// `etcd` watches the keys below a prefix; each is a backend, named by the rest of the key,
        /// with a JSON value such as `{"address": "10.0.0.11", "port": 8080, "weight": 1, "role":
        /// "active"}`, of which only the address is needed. That there is no key any more is
        /// believed of the store that had some, and not of one that has lost its data.
        kind: DiscoveryKind = derived(DISCOVERY_KIND, "none"),
        /// `dns`: the name. It is asked for as it stands, without search domains. A name without
        /// addresses counts as no answer.
        name: String = derived(HostName, "none; `dns` needs one"),
        /// `dns`: `address` asks for A or AAAA, as the service's address is; `srv` for servers with
        /// their ports and weights, of which those that have not the best priority are backups.
        record: DnsRecord = optional(DNS_RECORD, DnsRecord::Address),
        /// `dns` by address: the port of the backends.
        port: u16 = derived(Whole(1..=65_535_u16), "the service's"),
        /// `dns`: the server to ask.
        server: SocketAddr = derived(ListenAddress, "those of /etc/resolv.conf"),
        /// `etcd`: where it listens; the next one is asked when one does not answer. `https://` is
        /// encrypted, and needs `tls_ca`.
        endpoints: Vec<Located<String>> = optional(ENDPOINTS, Vec::new()),
        /// `etcd` by `https://`: certificates (PEM) that etcd's has to be signed by, or be one of.
        tls_ca: PathBuf = derived(AbsolutePath, "none; `https://` needs one"),
        /// `etcd` by `https://`, with `tls_client_key`: the certificate (PEM, with its chain) that etcd
        /// is shown. The three files are read anew for each connection.
        tls_client_certificate: PathBuf = derived(AbsolutePath, "none"),
        /// The key of `tls_client_certificate` (PEM).
        tls_client_key: PathBuf = derived(AbsolutePath, "none"),
        /// `etcd`: what the keys of the backends begin with: `"/lb/web/"`.
        prefix: String = derived(Plain, "none; `etcd` needs one"),
        /// Of more backends than that, so many are used: those in use stay, and the first of the
        /// others fill up; by DNS in the order of their addresses, by etcd in that of the keys.
        most: u32 = optional(Whole(1..=100_000_u32), 1000),
    }
}

table! {
    /// How the backends of the service are checked.
    struct HealthCheck = "[service.health_check]"
    keys {
        /// `tcp` connects; `http` connects and sends a GET; `https` does so over TLS and looks at
        /// the certificate; `grpc` asks by gRPC's health protocol, in clear text; `mysql`
        /// logs in to MySQL or MariaDB; `script` runs a program; `none` takes the backend for up.
        kind: CheckKind = derived(CHECK_KIND, "`\"tcp\"`; for a udp service `\"none\"`"),
        /// `direct` asks the backend at its own address. `service` asks at the service's address and
        /// port, and the data path takes the check to that backend, whatever its state, in the way
        /// that clients' packets go there: a backend with direct return that lacks the VIP is found
        /// out. It asks from this machine's own address, and does not count in the service's
        /// figures. Where a check has a `host`, its default is the service's address then, not the
        /// backend's. For TCP services, and not for scripts. Needs the kernel's module veth, for a
        /// pair of interfaces, lbcheck0 and lbcheck1, as long as the agent runs; one that was killed
        /// leaves them to the next agent or to `lb detach`. In a network namespace there is one such
        /// pair, so of two agents there only one can use this. With `full-nat` and `source_addresses`
        /// that only the active one of two balancers has, checks of the other fail.
        via: Via = optional(VIA, Via::Direct),
        /// `http`, `https`: path and query of the GET.
        path: String = optional(UrlPath, "/".to_owned()),
        /// `http`, `https`: the `Host` header of the GET; `grpc`: the authority.
        host: String = derived(HostHeader, "`sni`, else the backend's address"),
        /// `http`, `https`: status codes that count as a success. Redirects are not followed.
        expect_status: StatusCodes = optional(Codes, StatusCodes(vec![200..=399])),
        /// `https`, `mysql`: the name that the server is asked for and that its certificate has to be for.
        /// Without it the certificate has to be for the backend's address; `mysql` also takes one that
        /// names nobody, as those are that MySQL makes for itself.
        sni: String = derived(HostName, "none"),
        /// `https`, `mysql`: certificates (PEM) that the server's has to be signed by, or be one of.
        /// The file is read anew when it changes. A `mysql` check without it logs in to whoever answers,
        /// who then may learn the password.
        ca_file: PathBuf = derived(AbsolutePath, "`https`: those of the system; `mysql`: any are taken"),
        /// `https`: takes any certificate.
        insecure: bool = optional(Switch, false),
        /// `grpc`: the service whose health is asked for; empty is the server as a whole.
        grpc_service: String = optional(Plain, String::new()),
        /// `mysql`: who logs in, by `caching_sha2_password`, `sha256_password` or
        /// `mysql_native_password`. TLS is used where the server has it; with `ca_file` it has to. A
        /// server without gets the password encrypted with its RSA key where it asks for it whole.
        user: String = derived(Plain, "none; `mysql` needs one"),
        /// `mysql`: a file with the password, up to the end of its first line. It is read anew at each
        /// check.
        password_file: PathBuf = derived(AbsolutePath, "no password"),
        /// `mysql`: the role that counts as a success, by `read_only`.
        require: Require = optional(REQUIRE, Require::Any),
        /// `mysql`: how far replication may be behind; how far it is, is also shown and measured. The
        /// user needs the privilege to see that, which is `REPLICATION CLIENT` and for MariaDB
        /// `REPLICA MONITOR`.
        max_lag_seconds: f64 = derived(Seconds(0.0..=86_400.0), "not asked for"),
        /// `script`: a program and its arguments. It finds LB_SERVICE, LB_BACKEND, LB_ADDRESS and
        /// LB_PORT in its environment; exit status 0 is a success. The first line that it writes is
        /// shown. At its end, and when its time is over, all that is left of its process group is
        /// killed.
        command: Vec<String> = derived(CommandLine, "none; `script` needs one"),
        /// The port that is checked, by TCP also for a udp service.
        port: u16 = derived(Whole(1..=65_535_u16), "the backend's"),
        /// HAProxy's agent-check, beside any kind of check: a port of the backend where each
        /// connection gets a line of words. `75%` is the part of its weight that it wants, in steps
        /// of ten and up to `100%`; `drain` keeps new connections away, `maint` all, and `ready`
        /// ends both; `down`, `fail` and `stopped` take it down, and `up` ends that. What a line does
        /// not speak of stays; an agent that does not answer changes nothing.
        agent_check_port: u16 = derived(Whole(1..=65_535_u16), "none"),
        /// From one check of a backend to its next, give or take a tenth.
        interval_seconds: f64 = optional(Seconds(0.1..=3600.0), 2.0),
        /// A check that takes longer has failed.
        timeout_seconds: f64 = optional(Seconds(0.001..=3600.0), 1.0),
        /// Successes in a row that bring a backend up.
        rise: u32 = optional(Whole(1..=100_u32), 2),
        /// Failures in a row that take a backend down.
        fall: u32 = optional(Whole(1..=100_u32), 3),
        /// tcp: connections of clients count too, as the data path sees them. One has failed when the
        /// backend refuses its SYN (with `nat` and `full-nat`, where replies pass the balancer), or
        /// when the client has to send the SYN again because nothing came back; it has succeeded when
        /// it is established. What the backend refuses takes it down. Where nothing came back, it may
        /// be a single client that the backend bans, so that alone only has the backend checked at
        /// once, and takes it down if that fails too; with direct return let the check go
        /// `via = "service"`, because one that asks the server's own address hears nothing of a service
        /// that is silent. With kind = `"none"` nobody is asked, and both count alike: one banned client
        /// that tries again and again can take all backends down that nobody else uses, unless
        /// `min_up_percent` keeps some. A backend that goes down by this comes back when its check has
        /// passed `rise` times since, with kind = `"none"` after `passive_hold_seconds`. Like a check
        /// that fails it takes `on_backend_down` along, so connections that are established go as
        /// well unless that is `hold`.
        /// Forged SYNs count as nothing: their senders do not repeat them. Where replies do not pass
        /// the balancer, somebody who takes the trouble to repeat them a second later does look like
        /// clients of a silent backend, but with `passive_percent = 100` as long only as no connection
        /// of anybody succeeds, and `min_up_percent` bounds the rest.
        passive: bool = optional(Switch, false),
        /// Failed connections that take a backend down.
        passive_fall: u32 = optional(Whole(1..=1000_u32), 5),
        /// Within that long.
        passive_window_seconds: f64 = optional(Seconds(1.0..=60.0), 10.0),
        /// The share of failed connections among all that failed or succeeded since the first of
        /// them, at least. 100 says that none may have succeeded; less lets those who forge SYNs in
        /// numbers take a backend down that serves.
        passive_percent: u8 = optional(Whole(1..=100_u8), 100),
        /// With kind = `"none"`: for how long a backend stays down. Then it gets connections again, by
        /// `slow_start_seconds` if that is set, and until one of them succeeds, the next that fails
        /// takes it down at once.
        passive_hold_seconds: f64 = optional(Seconds(1.0..=3600.0), 10.0),
    }
}

table! {
    /// A server behind the service.
    struct Backend = "[[service.backend]]"
    keys {
        /// Unique within the service.
        name: String = required(Name),
        /// Of the same family as the service's, except with `dsr-ipip` and `dsr-gue`. Address and
        /// port together are unique within the service. A backend on the balancer's own host gets
        /// packets as they came, whatever the forwarding: it has to listen on the service's
        /// address and port, and is out of rotation while `port` is another one.
        address: IpAddr = required(Address),
        /// With `dsr-l2`, `dsr-ipip` and `dsr-gue` it cannot differ from the service's.
        port: u16 = derived(Whole(1..=65_535_u16), "the service's"),
        /// Its share of new connections; 0 gets none.
        weight: u16 = optional(Whole(0..=256_u16), 1),
        /// A `backup` is used only while no active backend is up.
        role: Role = optional(ROLE, Role::Active),
        /// With `quic_server_id`: what connection ids made by this server say. All of a service
        /// have the same length.
        server_id: Vec<u8> = derived(ServerId, "none"),
    }
}

table! {
    /// On a backend's own host: makes it ready for `dsr-l2`, `dsr-ipip` and `dsr-gue`, and takes
    /// everything back when the agent stops. The VIPs are put on `lo`, and the interfaces are told
    /// not to answer ARP for them and to take packets from clients that are reached another way
    /// (`rp_filter`).
    struct AppHost = "[app_host]"
    keys {
        /// Interfaces that packets for the VIPs come in by. With `decap` they cannot be among
        /// `agent.interfaces`, as an interface takes one XDP program.
        interfaces: Vec<Located<String>> = derived(InterfaceNames, "required"),
        /// Addresses of the services whose backend this host is.
        vips: Vec<Located<IpAddr>> = derived(ADDRESSES, "required"),
        /// Tunnels that packets for the VIPs are taken out of, by an XDP program on the interfaces:
        /// `ipip` for `dsr-ipip` (IP in IP, both versions in both), `gue` for `dsr-gue` (UDP port
        /// 6080). `dsr-l2` needs none.
        decap: Vec<Located<Decap>> = optional(DECAPS, Vec::new()),
        /// Where tunnels may come from: outer source addresses, as prefixes of either family. A
        /// packet for a VIP in a tunnel from elsewhere is dropped. Empty is anywhere.
        allowed_sources: Vec<Located<Prefix>> = optional(PREFIXES, Vec::new()),
    }
}
