//! Every metric there is: its name, its labels, and what it says. The page and the reference come
//! from this list.

/// What the numbers of a metric do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// The word for it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric and its labels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

macro_rules! families {
    ($( $name:ident = $kind:ident $metric:literal { $($label:literal),* } $help:literal; )*) => {
        $( pub(super) const $name: Family = Family {
            name: $metric,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        }; )*

        /// In the order of the page.
        pub(super) const ALL: &[Family] = &[$($name),*];
    };
}

families! {
    BUILD_INFO = Gauge "lb_build_info" { "version" }
        "Always 1; which version of lb runs.";
    AGENT_UPTIME = Gauge "lb_agent_uptime_seconds" {}
        "Since the agent started.";
    CONFIG_GENERATION = Gauge "lb_config_generation" {}
        "1 at start, one more with every reload.";
    RELOAD_SUCCESS = Gauge "lb_config_last_reload_success" {}
        "1 if the config was taken the last time it was read, 0 if it was refused.";
    RELOAD_TIMESTAMP = Gauge "lb_config_last_reload_timestamp_seconds" {}
        "When the config was taken for the last time.";
    INTERFACE_INFO = Gauge "lb_interface_info" { "interface", "xdp_mode" }
        "Always 1; where steering is attached, and how (native or generic).";
    SERVICE_CONNECTIONS = Counter "lb_service_connections_total" { "service" }
        "New flows since the tables were made.";
    SERVICE_PACKETS = Counter "lb_service_packets_total" { "service" }
        "Packets steered to backends.";
    SERVICE_BYTES = Counter "lb_service_bytes_total" { "service" }
        "Bytes steered to backends, by the length of IP packets.";
    SERVICE_DENIED = Counter "lb_service_denied_packets_total" { "service" }
        "Packets that the service's own lists kept out, with `dry_run` those that would have been.";
    SERVICE_ACTIVE_FLOWS = Gauge "lb_service_active_flows" { "service" }
        "Flows that are open.";
    SERVICE_BACKENDS = Gauge "lb_service_backends" { "service" }
        "Backends in the config.";
    SERVICE_IN_ROTATION = Gauge "lb_service_backends_in_rotation" { "service" }
        "Backends that get new connections.";
    BACKEND_CONNECTIONS = Counter "lb_backend_connections_total" { "service", "backend" }
        "New flows since the tables were made.";
    BACKEND_PACKETS = Counter "lb_backend_packets_total" { "service", "backend" }
        "Packets steered to it.";
    BACKEND_BYTES = Counter "lb_backend_bytes_total" { "service", "backend" }
        "Bytes steered to it, by the length of IP packets.";
    BACKEND_REPLY_PACKETS = Counter "lb_backend_reply_packets_total" { "service", "backend" }
        "Packets from it to clients, where they pass the balancer.";
    BACKEND_REPLY_BYTES = Counter "lb_backend_reply_bytes_total" { "service", "backend" }
        "Bytes from it to clients, where they pass the balancer.";
    BACKEND_ACCEPTED = Counter "lb_backend_accepted_total" { "service", "backend" }
        "Clients' connections that were established, where they count as checks (`passive`).";
    BACKEND_REFUSED = Counter "lb_backend_refused_total" { "service", "backend" }
        "Clients' SYNs that it refused, where they count as checks (`passive`) and its replies pass the balancer.";
    BACKEND_UNANSWERED = Counter "lb_backend_unanswered_total" { "service", "backend" }
        "Clients' connections whose SYN came again because nothing came back, where they count as checks (`passive`).";
    BACKEND_ACTIVE_FLOWS = Gauge "lb_backend_active_flows" { "service", "backend" }
        "Flows that are open.";
    BACKEND_UP = Gauge "lb_backend_up" { "service", "backend" }
        "1 if its checks say up, 0 if they say down or nothing yet.";
    BACKEND_IN_ROTATION = Gauge "lb_backend_in_rotation" { "service", "backend" }
        "1 if it gets new connections.";
    BACKEND_WEIGHT = Gauge "lb_backend_weight" { "service", "backend" }
        "Its share of new connections.";
    BACKEND_INFO = Gauge "lb_backend_info" { "service", "backend", "role", "state" }
        "Always 1; its role (active, backup) and its administrative state (ready, drain, maint).";
    BACKEND_CHECK_DURATION = Histogram "lb_backend_check_duration_seconds" { "service", "backend" }
        "How long its health checks took, since the agent started.";
    BACKEND_CERTIFICATE = Gauge "lb_backend_certificate_expiry_timestamp_seconds" { "service", "backend" }
        "When the certificate ends that its health check saw (https); missing where it saw none.";
    BACKEND_LAG = Gauge "lb_backend_replication_lag_seconds" { "service", "backend" }
        "How far its replication was behind at its last check (mysql with max_lag_seconds); missing \
         where it is no replica, has stopped, or was not asked.";
    VERDICTS = Counter "lb_verdicts_total" { "verdict" }
        "Packets by what became of them; see verdicts.md.";
    EVENTS = Counter "lb_events_total" { "event" }
        "What happened beside verdicts; see verdicts.md.";
    FLOW_TABLE_ENTRIES = Gauge "lb_flow_table_entries" { "table" }
        "Flows in the table (established, half_open) that have not expired.";
    FLOW_TABLE_CAPACITY = Gauge "lb_flow_table_capacity" { "table" }
        "Flows it is made for.";
    FLOW_TABLE_EXPIRED = Counter "lb_flow_table_expired_total" { "table" }
        "Expired flows that the agent took out since it started.";
    DECAP_VERDICTS = Counter "lb_decap_verdicts_total" { "verdict" }
        "On an app host, packets by what became of them at decapsulation; see verdicts.md.";
    APP_HOST_VIP = Gauge "lb_app_host_vip_on_lo" { "vip" }
        "On an app host, 1 if the VIP is on lo.";
    VIP_ANNOUNCED = Gauge "lb_vip_announced" { "vip" }
        "Of a VIP with announce, 1 while it is on lo, from where a routing daemon announces it.";
    CLUSTER_PEER_UP = Gauge "lb_cluster_peer_up" { "peer" }
        "1 while there is a session with the balancer.";
    CLUSTER_CAUGHT_UP = Gauge "lb_cluster_caught_up" {}
        "1 once other balancers have told of all their connections, or were waited for long enough.";
    CLUSTER_PEER_HEARD = Gauge "lb_cluster_peer_heard_seconds" { "peer" }
        "Since the balancer was heard of.";
    CLUSTER_SESSIONS = Counter "lb_cluster_sessions_total" { "peer" }
        "Sessions with the balancer that began.";
    CLUSTER_FLOWS_SENT = Counter "lb_cluster_flows_sent_total" { "peer" }
        "Flows that the balancer was told of, each more than once.";
    CLUSTER_FLOWS_RECEIVED = Counter "lb_cluster_flows_received_total" { "peer" }
        "Flows that the balancer told of.";
    CLUSTER_BYTES_SENT = Counter "lb_cluster_bytes_sent_total" { "peer" }
        "Bytes to the balancer, in UDP.";
    CLUSTER_BYTES_RECEIVED = Counter "lb_cluster_bytes_received_total" { "peer" }
        "Bytes from the balancer, in UDP.";
    CLUSTER_FLOWS = Counter "lb_cluster_flows_total" { "fate" }
        "What became of flows that other balancers told of.";
    CLUSTER_REFUSED = Counter "lb_cluster_messages_refused_total" { "reason" }
        "Datagrams to the synchronisation that were not taken.";
    CLUSTER_OVERWRITTEN = Counter "lb_cluster_flows_overwritten_total" {}
        "Flows that began faster than the agent read of them; they are told later.";
    CLUSTER_UNSENT = Counter "lb_cluster_messages_unsent_total" {}
        "Datagrams to other balancers that the kernel did not take.";
    CLUSTER_SHARED = Gauge "lb_cluster_shared_addresses" {}
        "Addresses of services that this host and another balancer have at once: a split brain.";
    MYSQL_STATEMENTS = Counter "lb_mysql_statements_total" { "target", "reason" }
        "MySQL statements by where they went (primary, replica) and why; see mysql-routing.md.";
    MYSQL_DURATION = Histogram "lb_mysql_statement_duration_seconds" { "target" }
        "From a statement's arrival to the end of its answer.";
    MYSQL_SESSIONS = Gauge "lb_mysql_sessions" {}
        "Clients of the MySQL proxy.";
    MYSQL_SERVER_UP = Gauge "lb_mysql_server_up" { "server" }
        "1 if the server answers the monitor.";
    MYSQL_SERVER_LAG = Gauge "lb_mysql_server_lag_seconds" { "server" }
        "How far a replica is behind; missing where it is not known.";
    MYSQL_SERVER_ROLE = Gauge "lb_mysql_server_role" { "server", "role" }
        "1 for the role that the server has now (primary, replica, unknown), 0 for the others.";
    MYSQL_SERVER_CONNECTIONS = Gauge "lb_mysql_server_connections" { "server" }
        "Connections of the proxy to the server.";
    MYSQL_INTERCEPT = Counter "lb_mysql_intercept_connects_total" { "outcome" }
        "With `intercept`, connects of this host's programs to servers: `taken` into the proxy, or \
         not, as the agent made them (`own`), as they were made in another network namespace \
         (`other_namespace`), or as an IPv4 socket reaches no IPv6 address (`no_listener`).";
    MYSQL_ERRORS = Counter "lb_mysql_errors_total" { "kind" }
        "What went wrong for clients of the MySQL proxy; see mysql-routing.md.";
}
