//! `[mysql]` as it is written.

use std::{net::SocketAddr, path::PathBuf};

use crate::config::{
    model::{
        Prefix,
        mysql::{Authentication, Consistency, ReadScheduler, Reads, Role, Tls},
    },
    rules::{
        AbsolutePath, Choice, Endpoint, HostName, List, ListenAddress, Name, Plain, PrefixOf,
        Seconds, ServerAddress, Switch, Whole,
    },
    schema::{Located, derived, optional, required, table},
};

const AUTHENTICATION: Choice<Authentication> = Choice {
    words: &[
        ("learn", Authentication::Learn),
        ("list", Authentication::List),
    ],
    later: &[],
};

const READ_SCHEDULER: Choice<ReadScheduler> = Choice {
    words: &[
        ("round-robin", ReadScheduler::RoundRobin),
        ("least-connections", ReadScheduler::LeastConnections),
    ],
    later: &[],
};

const READS: Choice<Reads> = Choice {
    words: &[
        ("replicas", Reads::Replicas),
        ("all", Reads::All),
        ("primary", Reads::Primary),
    ],
    later: &[],
};

const CONSISTENCY: Choice<Consistency> = Choice {
    words: &[
        ("eventual", Consistency::Eventual),
        ("session", Consistency::Session),
        ("global", Consistency::Global),
    ],
    later: &[],
};

const ROLE: Choice<Role> = Choice {
    words: &[
        ("auto", Role::Auto),
        ("primary", Role::Primary),
        ("replica", Role::Replica),
    ],
    later: &[],
};

const TLS: Choice<Tls> = Choice {
    words: &[
        ("off", Tls::Off),
        ("prefer", Tls::Prefer),
        ("require", Tls::Require),
    ],
    later: &[],
};

const LISTEN: List<ListenAddress> = List {
    of: ListenAddress,
    example: "[\"127.0.0.1:3306\"]",
};

const BALANCERS: List<PrefixOf> = List {
    of: PrefixOf,
    example: "[\"10.0.0.0/24\"]",
};

const ENDPOINTS: List<Endpoint> = List {
    of: Endpoint,
    example: "[\"http://10.0.0.5:2379\"]",
};

table! {
    /// Listens where the application expects MySQL, and sends writes to the primary and reads to
    /// the replicas. What is not known to be a read goes to the primary. `docs/mysql.md` says what is
    /// guaranteed and what is not.
    struct Mysql = "[mysql]"
    keys {
        /// Where clients connect. May be empty with `unix_socket`.
        listen: Vec<Located<SocketAddr>> = derived(LISTEN, "required"),
        /// A Unix socket for clients, beside `listen`.
        unix_socket: PathBuf = derived(AbsolutePath, "none"),
        /// Balancers in front of `listen` that say by the PROXY protocol (version 1 or 2) whom they
        /// have connected: clients go by those addresses. Connections from here have to begin with it,
        /// and no others may.
        proxy_protocol: Vec<Located<Prefix>> = optional(BALANCERS, Vec::new()),
        /// Clients at a time; more get MySQL's error 1040.
        max_connections: u32 = optional(Whole(1..=1_000_000_u32), 10_000),
        /// How clients are judged. `learn` needs no list of users: what an account demands is asked
        /// of the primary at a client's first login, and what was learned stays in memory. `list`
        /// lets in only those of `[[mysql.user]]`.
        authentication: Authentication = optional(AUTHENTICATION, Authentication::Learn),
        /// With `tls_key`: the certificate (PEM, with its chain) that clients are shown. Without
        /// one, a pair is made at the start and signed by itself.
        tls_certificate: PathBuf = derived(AbsolutePath, "none"),
        /// The key of `tls_certificate` (PEM).
        tls_key: PathBuf = derived(AbsolutePath, "none"),
        /// How reads are spread over the replicas; weights count with both. `least-connections`: to
        /// the one with the fewest statements of this proxy under way.
        read_scheduler: ReadScheduler = optional(READ_SCHEDULER, ReadScheduler::RoundRobin),
        /// Who gets reads. `replicas`: the primary only when no replica is eligible. `all`: the
        /// primary as well, by its weight. `primary`: nobody else.
        reads: Reads = optional(READS, Reads::Replicas),
        /// How new a read has to be. `eventual`: as new as a replica is. `session`: a session
        /// always sees its own writes. `global`: not older than any write that was confirmed
        /// through this proxy. The last two go by GTID.
        consistency: Consistency = optional(CONSISTENCY, Consistency::Session),
        /// How long a read waits at a replica for what it has to see; then the primary answers.
        consistency_timeout_seconds: f64 = optional(Seconds(0.0..=60.0), 0.2),
        /// A replica that is further behind gets no reads.
        max_lag_seconds: f64 = optional(Seconds(0.0..=86_400.0), 10.0),
        /// Whether sessions share connections to servers while nothing pins them to one.
        pool: bool = optional(Switch, true),
        /// How long a client or a statement waits, first come first served, for a connection to a
        /// server whose `max_connections` are all in use; then it gets MySQL's error 1040.
        connection_wait_seconds: f64 = optional(Seconds(0.0..=60.0), 5.0),
        /// How long writes wait while there is no primary; then they get an error.
        primary_wait_seconds: f64 = optional(Seconds(0.0..=3600.0), 10.0),
        /// Takes connections that programs of this host make to servers into the proxy, so that the
        /// application need not be told of it: to all servers but those with `role = "replica"`, as
        /// an application goes on connecting to the one it knows when another has become the primary.
        /// `lb`'s own connections and those made in other network namespaces go to the servers, and
        /// all do when the agent is gone. Needs what steering needs: root, or `CAP_BPF`, `CAP_PERFMON`
        /// and `CAP_NET_ADMIN`. A server of this host that replicates from another is a program too:
        /// leave it out by `intercept_cgroup`.
        intercept: bool = optional(Switch, false),
        /// `intercept`: takes only connections of processes in this cgroup (of version 2) and those
        /// below it, which `systemctl show -p ControlGroup SERVICE` names for a service.
        intercept_cgroup: PathBuf = derived(AbsolutePath, "all processes"),
        /// Statements that take longer are logged, without their values, five lines a second at
        /// most; 0 is off.
        slow_statement_seconds: f64 = optional(Seconds(0.0..=86_400.0), 0.0),
        /// Kinds of statements that each of the proxy's threads counts for `lb mysql digests`, at
        /// 1.5 KiB at most each; what comes seldom makes room. 0 counts none.
        statement_digests: u32 = optional(Whole(0..=10_000_u32), 500),
    }
    tables { monitor: Monitor, failover: Failover, }
    lists { server: Server, user: User, }
}

table! {
    /// Who asks every server, again and again, whether it takes writes and how far it is behind.
    /// The account needs `GRANT REPLICATION CLIENT ON *.*` on MySQL, `GRANT SLAVE MONITOR ON *.*`
    /// on MariaDB since 10.5, and nothing else.
    struct Monitor = "[mysql.monitor]"
    keys {
        /// The account.
        user: String = derived(Plain, "required"),
        /// A file with its password, up to the end of its first line. Without one it has none.
        password_file: PathBuf = derived(AbsolutePath, "none"),
        /// Time from one question to the next. A promotion is followed within it.
        interval_seconds: f64 = optional(Seconds(0.1..=60.0), 1.0),
        /// An answer that takes longer is none.
        timeout_seconds: f64 = optional(Seconds(0.05..=60.0), 1.0),
        /// So many answers missing in a row make a server one that is down; one that refuses
        /// connections is at once.
        fall: u32 = optional(Whole(1..=100_u32), 2),
    }
}

table! {
    /// What `lb mysql switchover` and `lb mysql failover` need, and whether a primary that is lost
    /// is replaced without being asked. The account of `[mysql.monitor]` then also needs `GRANT
    /// SYSTEM_VARIABLES_ADMIN, REPLICATION_SLAVE_ADMIN, CONNECTION_ADMIN, RELOAD ON *.*` on MySQL,
    /// `GRANT READ_ONLY ADMIN, REPLICATION SLAVE ADMIN, CONNECTION ADMIN, RELOAD ON *.*` on
    /// MariaDB.
    struct Failover = "[mysql.failover]"
    keys {
        /// Whether the proxies promote a replica by themselves. One of them does, whoever holds a
        /// lease in etcd.
        automatic: bool = optional(Switch, false),
        /// `automatic`: how long a primary has to be lost before.
        wait_seconds: f64 = optional(Seconds(1.0..=3600.0), 10.0),
        /// `automatic`: etcd servers that keep the lease. `https://` is encrypted, and needs `tls_ca`.
        endpoints: Vec<Located<String>> = optional(ENDPOINTS, Vec::new()),
        /// `automatic` by `https://`: certificates (PEM) that etcd's has to be signed by, or be one of.
        tls_ca: PathBuf = derived(AbsolutePath, "none; `https://` needs one"),
        /// `automatic` by `https://`, with `tls_client_key`: the certificate (PEM, with its chain) that etcd
        /// is shown. The three files are read anew for each connection.
        tls_client_certificate: PathBuf = derived(AbsolutePath, "none"),
        /// The key of `tls_client_certificate` (PEM).
        tls_client_key: PathBuf = derived(AbsolutePath, "none"),
        /// `automatic`: what the lease's key begins with. All proxies of a cluster have the same,
        /// those of another cluster another.
        prefix: String = optional(Plain, "/lb/mysql/".to_owned()),
        /// The account that the former primary logs in as at the new one, to become its replica.
        /// Without one it is left read-only.
        replication_user: String = derived(Plain, "none"),
        /// A file with its password.
        replication_password_file: PathBuf = derived(AbsolutePath, "none"),
        /// How long open transactions may take to end before a switch-over is given up.
        hold_seconds: f64 = optional(Seconds(0.0..=3600.0), 5.0),
        /// How long the candidate may take to apply what it lacks.
        catch_up_seconds: f64 = optional(Seconds(0.0..=3600.0), 10.0),
    }
}

table! {
    /// A database server. All are of one family, MySQL or MariaDB.
    struct Server = "[[mysql.server]]"
    keys {
        /// Unique.
        name: String = required(Name),
        /// Where it is; unique.
        address: SocketAddr = required(ServerAddress),
        /// Its share of reads; 0 is none.
        weight: u16 = optional(Whole(0..=256_u16), 1),
        /// `auto`: found by `read_only` and replication status. `primary`: no other is ever written
        /// to. `replica`: it is never written to.
        role: Role = optional(ROLE, Role::Auto),
        /// Whether connections to it are encrypted. `prefer`: where the server can and the client's
        /// own is, or came by the Unix socket, without looking at the certificate. `require`:
        /// always, with a certificate by `tls_ca`.
        tls: Tls = optional(TLS, Tls::Prefer),
        /// `tls = "require"`: certificates (PEM) that the server's has to be signed by, or be one
        /// of.
        tls_ca: PathBuf = derived(AbsolutePath, "none; `require` needs one"),
        /// `tls = "require"`: the name that its certificate has to be for.
        tls_name: String = derived(HostName, "none; any name is taken"),
        /// With `tls_client_key`: a certificate (PEM) to show to the server.
        tls_client_certificate: PathBuf = derived(AbsolutePath, "none"),
        /// The key of `tls_client_certificate` (PEM).
        tls_client_key: PathBuf = derived(AbsolutePath, "none"),
        /// Connections to it at a time; sessions that need more wait. 0 is as many as it takes.
        max_connections: u32 = optional(Whole(0..=100_000_u32), 0),
    }
}

table! {
    /// A user whose password the proxy is told: for `authentication = "list"`, and for clients that
    /// know only `mysql_native_password`.
    struct User = "[[mysql.user]]"
    keys {
        /// Its name at the servers; unique.
        name: String = required(Plain),
        /// A file with its password, up to the end of its first line.
        password_file: PathBuf = required(AbsolutePath),
        /// Clients of this user at a time; 0 is as many as there may be of all.
        max_connections: u32 = optional(Whole(0..=1_000_000_u32), 0),
    }
}
