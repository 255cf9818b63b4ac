//! The real `lb` between real clients and real servers, in network namespaces; one scenario per
//! file, each in native and in generic mode where there is a data path.
//!
//! They need root, and the packages of `cargo xtask setup`.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by a panic, which says where"
)]

/// Tests that take a family of MySQL servers.
macro_rules! of_both_families {
    ($($test:ident),* $(,)?) => {
        mod mysql {
            $(#[test] fn $test() -> anyhow::Result<()> {
                super::$test(lb_tests::database::Family::MySql)
            })*
        }
        mod mariadb {
            $(#[test] fn $test() -> anyhow::Result<()> {
                super::$test(lb_tests::database::Family::MariaDb)
            })*
        }
    };
}

mod agent_killed;
mod all_down;
mod all_replaced;
mod announcing;
mod app_host;
mod attaching;
mod backend_down;
mod backend_set;
mod backup;
mod behind_router;
mod bulk;
mod capture;
mod changed_file;
mod check_https;
mod check_kinds;
mod check_mysql;
mod check_service;
mod check_service_way;
mod clock_jumps;
mod config_errors;
mod direct_return;
mod discovery;
mod discovery_start;
mod disk_full;
mod dns_lies;
mod doctor;
mod ecmp;
mod ecmp_discovery;
mod etcd_flapping;
mod etcd_tls;
mod expired_flows;
mod firewall;
mod foobar;
mod fragments;
mod full_nat;
mod interface_anew;
mod ipv6;
mod jumbo;
mod keep_alive_load;
mod keepalived;
mod live_flows;
mod local_backend;
mod lock_down;
mod min_up_percent;
mod mysql_bed;
mod mysql_change_user;
mod mysql_checklist;
mod mysql_client;
mod mysql_clients;
mod mysql_compression;
mod mysql_functions;
mod mysql_intercept;
mod mysql_long_commands;
mod mysql_never_a_write;
mod mysql_own_writes;
mod mysql_prepared;
mod mysql_proxy;
mod mysql_random;
mod mysql_read_scheduler;
mod mysql_seeing;
mod mysql_sessions;
mod mysql_storm;
mod mysql_suites;
mod mysql_topology;
mod mysql_topology_automatic;
mod mysql_topology_change;
mod mysql_topology_failure;
mod mysql_topology_rig;
mod netlink_overrun;
mod netns_exec;
mod new_layout;
mod new_mac;
mod no_neighbour;
mod no_privilege;
mod notify;
mod one_armed;
mod one_packet;
mod order;
mod passive;
mod path_mtu;
mod ping;
mod privileges;
mod prometheus;
mod reload;
mod reload_keeps;
mod schedulers;
mod second_agent;
mod seeing;
mod segment_size;
mod service_firewall;
mod slow_start;
mod status_without_agent;
mod sticky;
mod stopping;
mod syn_cookies;
mod sync_failover;
mod sync_hostile;
mod udp;
mod weight;
mod why;

use std::net::{IpAddr, SocketAddr};

use lb_lab::{VIP4, VIP6};

/// The service `web` of most scenarios.
fn web() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(VIP4), 80)
}

/// The same over IPv6.
fn web6() -> SocketAddr {
    SocketAddr::new(IpAddr::V6(VIP6), 80)
}

/// Their backends.
const WEBS: [&str; 3] = ["web1", "web2", "web3"];
