//! What the config says about files that are wrong, and what it makes of those that are right.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fmt::Write as _, net::IpAddr, time::Duration};

use lb_common::abi::{Forwarding, OnBackendDown, OnNoBackend, Protocol};
use lb_userspace::config::{
    self, Problem, Problems,
    model::{CheckKind, Get, Model, OnExit, Role, StatusCodes, XdpMode},
};
use proptest::prelude::*;

/// As `lb` shows them, for a file `lb.toml`.
fn shown(list: Vec<Problem>) -> String {
    Problems {
        file: "lb.toml".to_owned(),
        list,
    }
    .to_string()
}

fn problems(text: &str) -> String {
    config::parse(text.as_bytes()).map_or_else(shown, |_| "no problem".to_owned())
}

fn model(text: &str) -> Model {
    config::parse(text.as_bytes()).map_err(shown).unwrap().model
}

fn warnings(text: &str) -> String {
    shown(
        config::parse(text.as_bytes())
            .map_err(shown)
            .unwrap()
            .warnings,
    )
}

const AGENT: &str = "[agent]\ninterfaces = [\"eth0\"]\n";
const SERVICE: &str = "[[service]]\nname = \"web\"\naddress = \"203.0.113.10\"\nport = 80\n";
const BACKEND: &str = "[[service.backend]]\nname = \"web1\"\naddress = \"10.0.0.11\"\n";

#[test]
fn the_contract_s_example_is_taken_word_for_word_but_for_what_comes_later() {
    let text = r#"
[agent]
interfaces = ["eth0"]           # where steering attaches
xdp_mode = "auto"
pin_path = "/sys/fs/bpf/lb"
on_exit = "detach"
state_file = "/var/lib/lb/state.json"

[admin]
socket = "/run/lb/lb.sock"

[limits]
flows = 262144
half_open_flows = 65536

[[service]]
name = "web"
address = "203.0.113.10"
port = 80
protocol = "tcp"
scheduler = "round-robin"
forwarding = "nat"
affinity_seconds = 0
idle_timeout_seconds = 900
on_backend_down = "reschedule"
on_no_backend = "reset"
slow_start_seconds = 0

[service.health_check]
kind = "http"
path = "/healthz"
expect_status = "200-399"
interval_seconds = 2.0
timeout_seconds = 1.0
rise = 2
fall = 3

[[service.backend]]
name = "web1"
address = "10.0.0.11"
port = 8080
weight = 1
role = "active"
"#;
    let spelled_out = model(text);
    assert_eq!(warnings(text), "");
    let short = model(&format!(
        "{AGENT}{SERVICE}[service.health_check]\nkind = \"http\"\npath = \"/healthz\"\n\
         {BACKEND}port = 8080\n"
    ));
    assert_eq!(
        spelled_out, short,
        "what the example spells out are the defaults"
    );

    assert_eq!(short.agent.interfaces, ["eth0"]);
    assert_eq!(short.agent.xdp_mode, XdpMode::Auto);
    assert_eq!(short.agent.on_exit, OnExit::Detach);
    assert_eq!(short.agent.pin_path.to_str(), Some("/sys/fs/bpf/lb"));
    assert_eq!(short.admin.socket.to_str(), Some("/run/lb/lb.sock"));
    assert_eq!(
        (short.limits.flows, short.limits.half_open_flows),
        (262_144, 65_536)
    );
    let service = &short.services[0];
    assert_eq!(service.protocol, Protocol::Tcp);
    assert_eq!(service.forwarding, Forwarding::Nat);
    assert_eq!(service.idle_timeout, Duration::from_secs(900));
    assert_eq!(service.on_backend_down, OnBackendDown::Reschedule);
    assert_eq!(service.on_no_backend, OnNoBackend::Reset);
    let check = &service.health_check;
    assert_eq!((check.rise, check.fall, check.port), (2, 3, None));
    assert_eq!(check.interval, Duration::from_secs(2));
    assert_eq!(check.timeout, Duration::from_secs(1));
    let codes = StatusCodes(vec![200..=399]);
    let http = CheckKind::Http(Get {
        path: "/healthz".to_owned(),
        host: None,
        expect_status: codes,
    });
    assert_eq!(check.kind, http);
    let backend = &service.backends[0];
    assert_eq!(
        (backend.port, backend.weight, backend.role),
        (8080, 1, Role::Active)
    );
}

#[test]
fn udp_services_have_their_own_defaults() {
    let udp = model(&format!("{AGENT}{SERVICE}protocol = \"udp\"\n{BACKEND}"));
    assert_eq!(udp.services[0].idle_timeout, Duration::from_secs(60));
    assert_eq!(udp.services[0].health_check.kind, CheckKind::None);
    assert_eq!(udp.services[0].backends[0].port, 80);
    let checked = model(&format!(
        "{AGENT}{SERVICE}protocol = \"udp\"\n[service.health_check]\nkind = \"tcp\"\nport = 53\n\
         {BACKEND}"
    ));
    assert_eq!(checked.services[0].health_check.kind, CheckKind::Tcp);
    assert_eq!(checked.services[0].health_check.port, Some(53));
}

#[test]
fn source_addresses_of_services_are_apart_or_one_list_within_the_other() {
    let file = |lists: &[&str]| {
        let mut text = AGENT.to_owned();
        for (port, list) in (80..).zip(lists) {
            write!(
                text,
                "[[service]]\nname = \"s{port}\"\naddress = \"203.0.113.10\"\nport = {port}\n\
                 forwarding = \"full-nat\"\nsource_addresses = {list}\n\
                 [[service.backend]]\nname = \"b\"\naddress = \"10.0.0.11\"\n"
            )
            .unwrap();
        }
        text
    };
    let fine = [
        r#"["10.0.0.1", "10.0.0.2"]"#,
        r#"["10.0.0.2"]"#,
        r#"["10.0.0.3", "10.0.0.2", "10.0.0.1"]"#,
        r#"["10.0.0.2", "10.0.0.1"]"#,
        r#"["10.0.0.4"]"#,
    ];
    assert_eq!(problems(&file(&fine)), "no problem");
    let crossed = [r#"["10.0.0.1", "10.0.0.2"]"#, r#"["10.0.0.3", "10.0.0.2"]"#];
    assert_eq!(
        problems(&file(&crossed)),
        "lb.toml:17: service \"s81\": source_addresses has \"10.0.0.2\" in common with the service \
         of line 3, but neither list is within the other (name the same addresses, a part of them, \
         or others)"
    );
}

#[test]
fn source_addresses_of_all_services_together_are_limited() {
    let file = |lists: [std::ops::Range<u16>; 3]| {
        let mut text = AGENT.to_owned();
        for (port, list) in (80..).zip(lists) {
            let list: Vec<_> = list
                .map(|n| format!("10.0.{}.{}", n / 256, n % 256))
                .collect();
            write!(
                text,
                "[[service]]\nname = \"s{port}\"\naddress = \"203.0.113.10\"\nport = {port}\n\
                 forwarding = \"full-nat\"\nsource_addresses = {list:?}\n\
                 [[service.backend]]\nname = \"b\"\naddress = \"10.0.9.11\"\n"
            )
            .unwrap();
        }
        text
    };
    // Shared ones count once.
    assert_eq!(problems(&file([1..201, 1..101, 201..255])), "no problem");
    // Told once, where it becomes too many.
    assert_eq!(
        problems(&file([1..201, 201..256, 256..300])),
        "lb.toml:17: service \"s81\": source_addresses brings all services together to 255 addresses \
         (allowed: up to 254; services may share them)"
    );
    assert_eq!(
        problems(&file([1..301, 301..302, 302..303])),
        "lb.toml:8: service \"s80\": source_addresses brings all services together to 300 addresses \
         (allowed: up to 254; services may share them)"
    );
}

#[test]
fn the_same_port_may_be_served_by_tcp_and_udp_and_a_backend_by_several_services() {
    let text = format!(
        "{AGENT}{SERVICE}{BACKEND}{}protocol = \"udp\"\n{BACKEND}",
        SERVICE.replace("\"web\"", "\"web-udp\"")
    );
    assert_eq!(model(&text).services.len(), 2);
}

/// A wrong file, and all of what is said about it.
const ROWS: &[(&str, &str)] = &[
    // Not TOML.
    (
        "[agent\n",
        "lb.toml:1: this is not TOML: unclosed table, expected \"]\"",
    ),
    (
        "[agent]\non_exit = keep\non_exit = \"keep\"\nxdp_mode\n",
        "lb.toml:2: this is not TOML: no value, or a text without its quotes\n\
         lb.toml:3: this is not TOML: this key or table is there already\n\
         lb.toml:4: this is not TOML: a key has no value (write key = value)",
    ),
    (
        "[agent]\ninterfaces = [\"eth0\"\non_exit = 1\nxdp_mode = 2\n",
        "lb.toml:3: this is not TOML: missing comma between array elements, expected \",\"\n\
         lb.toml:4: this is not TOML: missing comma between array elements, expected \",\"",
    ),
    // Keys.
    (
        "[agnet]\n",
        "lb.toml:1: unknown key \"agnet\", did you mean \"agent\"? (allowed: agent, admin, limits, app_host, \
         cluster, firewall, mysql, service)",
    ),
    (
        "[agent]\nxdp-mode = \"auto\"\ncolour = 1\n",
        "lb.toml:2: agent: unknown key \"xdp-mode\", did you mean \"xdp_mode\"? (allowed: \
         interfaces, xdp_mode, pin_path, on_exit, state_file, log_level, log_format, user, on_new_layout)\n\
         lb.toml:3: agent: unknown key \"colour\" (allowed: interfaces, xdp_mode, pin_path, \
         on_exit, state_file, log_level, log_format, user, on_new_layout)",
    ),
    (
        "[discovery]\nkind = []\n",
        "lb.toml:1: \"discovery\" is not in this version yet (allowed: agent, admin, limits, app_host, \
         cluster, firewall, mysql, service)",
    ),
    (
        "[admin]\nlisten = \"localhost:9900\"\ntoken_file = \"token\"\n",
        "lb.toml:2: admin: listen \"localhost:9900\" is not an IP address and a port (write \
         \"127.0.0.1:9900\" or \"[::1]:9900\")\n\
         lb.toml:3: admin: token_file \"token\" is not an absolute path (it must begin with \"/\")",
    ),
    (
        "[admin]\nlisten = \"[::1]:0\"\n",
        "lb.toml:2: admin: listen \"[::1]:0\" has port 0 (allowed: 1 to 65535)",
    ),
    // Types and ranges.
    (
        "agent = 3\nservice = \"web\"\n",
        "lb.toml:1: agent 3 is not a table (write [agent])\n\
         lb.toml:2: service \"web\" is not a list of tables (write [[service]])",
    ),
    (
        "[service]\nname = \"web\"\n",
        "lb.toml:1: service (a table) is not a list of tables (write [[service]])",
    ),
    (
        "service = [1]\n",
        "lb.toml:1: service[0] 1 is not a table (write [[service]])",
    ),
    (
        "[agent]\ninterfaces = \"eth0\"\npin_path = \"lb\"\nxdp_mode = 1\non_exit = \"stay\"\n",
        "lb.toml:2: agent: interfaces \"eth0\" is not a list (write [\"eth0\"])\n\
         lb.toml:3: agent: pin_path \"lb\" is not an absolute path (it must begin with \"/\")\n\
         lb.toml:4: agent: xdp_mode 1 is not a text (allowed: \"auto\", \"native\", \"generic\")\n\
         lb.toml:5: agent: on_exit \"stay\" is unknown (allowed: \"detach\", \"keep\")",
    ),
    (
        "[agent]\ninterfaces = [\n  \"eth0\",\n  \"a-name-far-too-long\",\n  7,\n  \"eth0\",\n]\n",
        "lb.toml:4: agent: interfaces \"a-name-far-too-long\" is not the name of an interface \
         (allowed: 1 to 15 characters, no spaces, no \"/\" and no \":\")\n\
         lb.toml:5: agent: interfaces 7 is not the name of an interface (a text in quotes)\n\
         lb.toml:6: agent: interfaces \"eth0\" is in the list twice",
    ),
    (
        "[limits]\nflows = 1023\nhalf_open_flows = 4194305\n",
        "lb.toml:2: limits: flows 1023 is out of range (allowed: 1024 to 16777216)\n\
         lb.toml:3: limits: half_open_flows 4194305 is out of range (allowed: 256 to 4194304)",
    ),
    (
        "[limits]\nflows = 0xffffffffffffffffffffffffffffffffffffffff\nhalf_open_flows = 1e3\n",
        "lb.toml:2: limits: flows 0xffffffffffffffffffffffffffffffffffffffff is out of range \
         (allowed: 1024 to 16777216)\n\
         lb.toml:3: limits: half_open_flows 1e3 is not a whole number (allowed: 256 to 4194304)",
    ),
    // A service.
    (
        "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\n[[service.backend]]\n",
        "lb.toml:3: service[0]: name is missing\n\
         lb.toml:3: service[0]: address is missing\n\
         lb.toml:3: service[0]: port is missing\n\
         lb.toml:4: service[0], backend[0]: name is missing\n\
         lb.toml:4: service[0], backend[0]: address is missing",
    ),
    (
        "AGENT\n[[service]]\nname = \"a b\"\naddress = 4\nport = 65536\nprotocol = \"sctp\"\n\
         scheduler = \"random\"\nforwarding = \"dsr\"\naffinity_seconds = -3\n\
         idle_timeout_seconds = -1\non_backend_down = true\non_no_backend = 1979-05-27\n\
         slow_start_seconds = 1e9\nsource_addresses = [\"10.0.0.2\", \"x\", \"10.0.0.2\"]\n\
         tunnel_source = \"10.1.2.3/8\"\nmaglev_table_size = 100\none_packet = 1\n\
         mss_clamp = 100\n",
        "lb.toml:4: service \"a b\": name \"a b\" is not a name (allowed: 1 to 64 characters, no \
         spaces and no \"/\")\n\
         lb.toml:5: service \"a b\": address 4 is not an IP address (a text in quotes)\n\
         lb.toml:6: service \"a b\": port 65536 is out of range (allowed: 1 to 65535)\n\
         lb.toml:7: service \"a b\": protocol \"sctp\" is unknown (allowed: \"tcp\", \"udp\")\n\
         lb.toml:8: service \"a b\": scheduler \"random\" is unknown (allowed: \"round-robin\", \
         \"least-connections\", \"maglev\", \"source-hash\")\n\
         lb.toml:9: service \"a b\": forwarding \"dsr\" is unknown (allowed: \"nat\", \
         \"full-nat\", \"dsr-l2\", \"dsr-ipip\", \"dsr-gue\")\n\
         lb.toml:10: service \"a b\": affinity_seconds -3 is out of range (allowed: 0 to \
         604800)\n\
         lb.toml:11: service \"a b\": idle_timeout_seconds -1 is out of range (allowed: 1 to \
         604800)\n\
         lb.toml:12: service \"a b\": on_backend_down true is not a text (allowed: \
         \"reschedule\", \"reset\", \"hold\")\n\
         lb.toml:13: service \"a b\": on_no_backend (a date) is not a text (allowed: \"reset\", \
         \"unreachable\", \"drop\")\n\
         lb.toml:14: service \"a b\": slow_start_seconds 1e9 is out of range (allowed: 0 to \
         3600)\n\
         lb.toml:15: service \"a b\": source_addresses \"x\" is not an IP address (a \
         name is not looked up)\n\
         lb.toml:15: service \"a b\": source_addresses \"10.0.0.2\" is in the list twice\n\
         lb.toml:16: service \"a b\": tunnel_source \"10.1.2.3/8\" has bits set behind its prefix \
         (write \"10.0.0.0/8\")\n\
         lb.toml:17: service \"a b\": maglev_table_size 100 is not a prime number (the next one is \
         101)\n\
         lb.toml:18: service \"a b\": one_packet 1 is not a switch (allowed: true, false)\n\
         lb.toml:19: service \"a b\": mss_clamp 100 is out of range (allowed: \"off\", \"auto\", 536 \
         to 65495)",
    ),
    // What does not go together.
    (
        "AGENT\nSERVICEforwarding = \"full-nat\"\nBACKEND",
        "lb.toml:3: service \"web\": source_addresses is missing, and forwarding \"full-nat\" needs \
         addresses of this host to send from (write source_addresses = [\"10.0.0.2\"])",
    ),
    (
        "AGENT\nSERVICEforwarding = \"full-nat\"\nsource_addresses = [\"fd00::2\"]\n\
         one_packet = true\nquic_server_id = true\nBACKENDserver_id = \"0a0\"\n",
        "lb.toml:8: service \"web\": source_addresses \"fd00::2\" is not of the family of the \
         service's \"203.0.113.10\"\n\
         lb.toml:9: service \"web\": one_packet true is for udp services (a tcp connection has to \
         stay with its backend)\n\
         lb.toml:10: service \"web\": quic_server_id true is for udp services (QUIC runs over \
         UDP)\n\
         lb.toml:14: service \"web\", backend \"web1\": server_id \"0a0\" is not a server id \
         (allowed: 1 to 15 bytes in hexadecimal digits, \"0a0b\")",
    ),
    (
        "AGENT\nSERVICEprotocol = \"udp\"\none_packet = true\nmaglev_table_size = 3\n\
         scheduler = \"maglev\"\nquic_server_id = true\nBACKENDserver_id = \"0a0b\"\n\
         [[service.backend]]\nname = \"b\"\naddress = \"10.0.0.2\"\nserver_id = \"0A0B\"\n\
         [[service.backend]]\nname = \"c\"\naddress = \"10.0.0.3\"\nserver_id = \"0a\"\n\
         [[service.backend]]\nname = \"d\"\naddress = \"10.0.0.4\"\n",
        "lb.toml:8: service \"web\": one_packet true does not go with forwarding \"nat\": without a \
         flow, replies could not be translated (use \"dsr-l2\", \"dsr-ipip\" or \"dsr-gue\")\n\
         lb.toml:9: service \"web\": maglev_table_size 3 is too small for 4 backends (each needs a \
         slot, and should have a hundred)\n\
         lb.toml:19: service \"web\", backend \"b\": server_id is taken by the backend of line 15\n\
         lb.toml:23: service \"web\", backend \"c\": server_id has 1 bytes, but the first one of the \
         service has 2 (all must have the same length)\n\
         lb.toml:24: service \"web\", backend \"d\": server_id is missing, and the service has \
         quic_server_id = true",
    ),
    (
        "AGENT\nSERVICEforwarding = \"dsr-ipip\"\ntunnel_source = \"fd00::/64\"\nBACKENDport = 81\n",
        "lb.toml:8: service \"web\": tunnel_source \"fd00::/64\" is not of the family of the \
         backend \"10.0.0.11\"\n\
         lb.toml:12: service \"web\", backend \"web1\": port 81 is not the service's port 80, and \
         forwarding \"dsr-ipip\" cannot change ports",
    ),
    (
        "SERVICE\nBACKEND",
        "lb.toml:1: agent: interfaces is empty, but there are services (name the interfaces \
         where steering attaches: interfaces = [\"eth0\"])",
    ),
    (
        "AGENT\n[[service]]\nname = \"web\"\naddress = \"127.0.0.1\"\nport = 80\n\
         [[service]]\nname = \"web\"\naddress = \"127.0.0.1\"\nport = 80\n",
        "lb.toml:5: service \"web\": address \"127.0.0.1\" is a loopback address (clients cannot \
         reach it from outside)\n\
         lb.toml:8: service \"web\": name \"web\" is taken by the service of line 4\n\
         lb.toml:9: service \"web\": address 127.0.0.1, port 80, tcp is taken by the service of \
         line 3\n\
         lb.toml:9: service \"web\": address \"127.0.0.1\" is a loopback address (clients cannot \
         reach it from outside)",
    ),
    // A health check.
    (
        "AGENT\nSERVICE\n[service.health_check]\nkind = \"ldap\"\npath = \"healthz\"\n\
         expect_status = \"2xx\"\ninterval_seconds = 0.05\ntimeout_seconds = 0\nrise = 0\n\
         fall = 101\nport = 0\nretries = 3\n",
        "lb.toml:8: service \"web\", health_check: kind \"ldap\" is unknown (allowed: \
         \"none\", \"tcp\", \"http\", \"https\", \"grpc\", \"mysql\", \"script\")\n\
         lb.toml:9: service \"web\", health_check: path \"healthz\" is not the path of a URL (it \
         must begin with \"/\"; no spaces, no \"#\", other than ASCII as %XX)\n\
         lb.toml:10: service \"web\", health_check: expect_status \"2xx\" is not a list of HTTP \
         status codes from 100 to 599 (write \"200-399\" or \"200,204,301-302\")\n\
         lb.toml:11: service \"web\", health_check: interval_seconds 0.05 is out of range \
         (allowed: 0.1 to 3600)\n\
         lb.toml:12: service \"web\", health_check: timeout_seconds 0 is out of range (allowed: \
         0.001 to 3600)\n\
         lb.toml:13: service \"web\", health_check: rise 0 is out of range (allowed: 1 to 100)\n\
         lb.toml:14: service \"web\", health_check: fall 101 is out of range (allowed: 1 to 100)\n\
         lb.toml:15: service \"web\", health_check: port 0 is out of range (allowed: 1 to 65535)\n\
         lb.toml:16: service \"web\", health_check: unknown key \"retries\" (allowed: kind, via, path, \
         host, expect_status, sni, ca_file, insecure, grpc_service, user, password_file, require, max_lag_seconds, command, port, agent_check_port, interval_seconds, timeout_seconds, rise, fall, passive, passive_fall, passive_window_seconds, passive_percent, passive_hold_seconds)",
    ),
    (
        "AGENT\nSERVICE\n[service.health_check]\ninterval_seconds = nan\ntimeout_seconds = inf\n",
        "lb.toml:8: service \"web\", health_check: interval_seconds nan is out of range \
         (allowed: 0.1 to 3600)\n\
         lb.toml:9: service \"web\", health_check: timeout_seconds inf is out of range (allowed: \
         0.001 to 3600)",
    ),
    (
        "AGENT\nSERVICE\n[service.health_check]\nkind = \"https\"\nsni = \"10.0.0.1\"\n\
         ca_file = \"ca.pem\"\ninsecure = \"yes\"\nhost = \"a b\"\n",
        "lb.toml:9: service \"web\", health_check: sni \"10.0.0.1\" is not the name of a host \
         (write \"www.example.org\")\n\
         lb.toml:10: service \"web\", health_check: ca_file \"ca.pem\" is not an absolute path (it \
         must begin with \"/\")\n\
         lb.toml:11: service \"web\", health_check: insecure \"yes\" is not a switch (allowed: \
         true, false)\n\
         lb.toml:12: service \"web\", health_check: host \"a b\" is not the name of a host (write \
         \"www.example.org\" or \"www.example.org:8080\")",
    ),
    (
        "AGENT\nSERVICE\n[service.health_check]\nkind = \"script\"\ncommand = [\"check\", 7]\n",
        "lb.toml:9: service \"web\", health_check: command \"check\" is not an absolute path (it \
         must begin with \"/\")\n\
         lb.toml:9: service \"web\", health_check: command 7 is not a text in quotes",
    ),
    (
        "AGENT\nSERVICE\n[service.health_check]\nkind = \"script\"\ncommand = []\n",
        "lb.toml:9: service \"web\", health_check: command (a list) is empty (write \
         [\"/usr/local/bin/check\", \"argument\"])",
    ),
    (
        "AGENT\nSERVICE\n[service.health_check]\nkind = \"script\"\n",
        "lb.toml:7: service \"web\", health_check: command is missing (kind = \"script\" needs one: \
         command = [\"/usr/local/bin/check\", \"argument\"])",
    ),
    (
        "AGENT\nSERVICE\n[service.health_check]\nkind = \"mysql\"\nrequire = \"master\"\n\
         max_lag_seconds = -1\n",
        "lb.toml:7: service \"web\", health_check: user is missing (kind = \"mysql\" needs one, and \
         the server has to know it)\n\
         lb.toml:9: service \"web\", health_check: require \"master\" is unknown (allowed: \"any\", \
         \"primary\", \"replica\")\n\
         lb.toml:10: service \"web\", health_check: max_lag_seconds -1 is out of range (allowed: 0 \
         to 86400)",
    ),
    // Backends.
    (
        "AGENT\nSERVICE\n[[service.backend]]\nname = \"web1\"\naddress = \"10.0.0.300\"\n\
         port = \"80\"\nweight = 257\nrole = \"spare\"\n",
        "lb.toml:9: service \"web\", backend \"web1\": address \"10.0.0.300\" is not an IP \
         address\n\
         lb.toml:10: service \"web\", backend \"web1\": port \"80\" is not a whole number \
         (allowed: 1 to 65535)\n\
         lb.toml:11: service \"web\", backend \"web1\": weight 257 is out of range (allowed: 0 to \
         256)\n\
         lb.toml:12: service \"web\", backend \"web1\": role \"spare\" is unknown (allowed: \
         \"active\", \"backup\")",
    ),
    (
        "AGENT\nSERVICE\nBACKEND\n[[service.backend]]\nname = \"web1\"\naddress = \"10.0.0.11\"\n\
         [[service.backend]]\nname = \"v6\"\naddress = \"2001:db8::1\"\n\
         [[service.backend]]\nname = \"lo\"\naddress = \"127.0.0.1\"\n\
         [[service.backend]]\nname = \"self\"\naddress = \"203.0.113.10\"\nport = 8080\n\
         [[service.backend]]\nname = \"mapped\"\naddress = \"::ffff:10.0.0.1\"\n\
         [[service.backend]]\nname = \"all\"\naddress = \"255.255.255.255\"\n",
        "lb.toml:11: service \"web\", backend \"web1\": name \"web1\" is taken by the backend of \
         line 8\n\
         lb.toml:12: service \"web\", backend \"web1\": address 10.0.0.11, port 80 is taken by \
         the backend of line 9\n\
         lb.toml:15: service \"web\", backend \"v6\": address \"2001:db8::1\" is an IPv6 address, \
         but the service's \"203.0.113.10\" is IPv4\n\
         lb.toml:18: service \"web\", backend \"lo\": address \"127.0.0.1\" is a loopback address \
         (steered packets leave by an interface and never get there)\n\
         lb.toml:21: service \"web\", backend \"self\": address \"203.0.113.10\" is the service's \
         own (a backend has its own)\n\
         lb.toml:25: service \"web\", backend \"mapped\": address \"::ffff:10.0.0.1\" is an IPv4 \
         address in IPv6 clothes (write \"10.0.0.1\")\n\
         lb.toml:28: service \"web\", backend \"all\": address \"255.255.255.255\" is the \
         broadcast address (name one host)",
    ),
    (
        "AGENT\nSERVICEforwarding = \"dsr-l2\"\nBACKENDport = 8080\n",
        "lb.toml:11: service \"web\", backend \"web1\": port 8080 is not the service's port 80, \
         and forwarding \"dsr-l2\" cannot change ports",
    ),
];

#[test]
fn every_problem_is_reported_at_once_with_its_line() {
    for (text, expected) in ROWS {
        let text = text
            .replace("AGENT\n", AGENT)
            .replace("SERVICE\n", SERVICE)
            .replace("BACKEND\n", BACKEND)
            .replace("SERVICE", SERVICE)
            .replace("BACKEND", BACKEND);
        assert_eq!(&problems(&text), expected, "\n--- of\n{text}");
    }
}

#[test]
fn a_wrong_value_is_not_taken_for_its_default() {
    let text = format!("{AGENT}{SERVICE}{BACKEND}{BACKEND}port = 0\n").replacen("web1", "a", 1);
    assert_eq!(
        problems(&text),
        "lb.toml:13: service \"web\", backend \"web1\": port 0 is out of range (allowed: 1 to \
         65535)"
    );
}

#[test]
fn limits_themselves_are_allowed() {
    for key in [
        "weight = 0",
        "weight = 256",
        "port = 1",
        "port = 65535",
        "[limits]\nflows = 1024",
        "[limits]\nflows = 16777216",
        "[limits]\nhalf_open_flows = 256",
        "[limits]\nhalf_open_flows = 4194304",
        "[service.health_check]\ninterval_seconds = 0.1",
        "[service.health_check]\ninterval_seconds = 3600",
        "[service.health_check]\nrise = 1\nfall = 100",
    ] {
        let text = format!("{AGENT}{SERVICE}{BACKEND}{key}\n");
        assert_eq!(problems(&text), "no problem", "{key}");
    }
}

#[test]
fn a_problem_has_the_path_of_its_key() {
    let text = format!(
        "{AGENT}{SERVICE}{}{BACKEND}weight = -1\n[[service.backend]]\nname = \"b\"\n",
        SERVICE.replace("web", "b").replace("80", "81")
    );
    let list = config::parse(text.as_bytes()).unwrap_err();
    let paths: Vec<&str> = list.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "service[1].backend[0].weight",
            "service[1].backend[1].address"
        ]
    );
}

#[test]
fn what_is_allowed_and_odd_is_a_warning() {
    for (text, expected) in [
        ("", "lb.toml:1: there is no [[service]], nothing to steer"),
        (
            "AGENTSERVICE",
            "lb.toml:3: service \"web\": there is no [[service.backend]], nobody will answer",
        ),
        (
            "AGENTSERVICEBACKENDweight = 0\n",
            "lb.toml:3: service \"web\": every backend has weight 0, nobody will answer",
        ),
        (
            "AGENTSERVICE[service.health_check]\nkind = \"tcp\"\npath = \"/x\"\nBACKEND",
            "lb.toml:9: service \"web\", health_check: path does nothing with kind = \"tcp\"",
        ),
        (
            "AGENTSERVICEBACKEND[admin]\ntoken_file = \"/t\"\n",
            "lb.toml:11: admin: token_file does nothing without listen",
        ),
        (
            "AGENTSERVICEBACKEND[admin]\ntoken_file = \"/t\"\nlisten = \"[::]:9900\"\n",
            "lb.toml:11: admin: the token crosses the network in clear text: whoever can read along can \
             make changes (tls_certificate and tls_key keep it secret)",
        ),
        (
            "AGENTSERVICEBACKEND[admin]\ntoken_file = \"/t\"\nlisten = \"127.0.0.1:9900\"\n",
            "",
        ),
        (
            "AGENTSERVICEBACKEND[admin]\ntoken_file = \"/t\"\nlisten = \"[::]:9900\"\n\
             tls_certificate = \"/c\"\ntls_key = \"/k\"\n",
            "",
        ),
        (
            "AGENTSERVICEBACKEND[admin]\ntls_certificate = \"/c\"\ntls_key = \"/k\"\n",
            "lb.toml:11: admin: tls_certificate does nothing without listen",
        ),
        (
            "AGENTSERVICE[service.health_check]\nkind = \"http\"\nsni = \"a.example\"\n\
             insecure = true\nBACKEND",
            "lb.toml:9: service \"web\", health_check: sni does nothing with kind = \"http\"\n\
             lb.toml:10: service \"web\", health_check: insecure does nothing with kind = \"http\"",
        ),
        (
            "AGENTSERVICE[service.health_check]\nkind = \"https\"\nca_file = \"/ca.pem\"\n\
             insecure = true\nBACKEND",
            "lb.toml:9: service \"web\", health_check: ca_file does nothing with insecure = true",
        ),
        (
            "AGENTSERVICE[service.health_check]\npassive_fall = 3\npassive_hold_seconds = 1\nBACKEND",
            "lb.toml:8: service \"web\", health_check: passive_fall does nothing without passive = true\n\
             lb.toml:9: service \"web\", health_check: passive_hold_seconds does nothing without passive = \
             true",
        ),
        (
            "AGENTSERVICEmin_up_percent = 50\n[service.health_check]\npassive = true\n\
             passive_hold_seconds = 1\nBACKEND",
            "lb.toml:10: service \"web\", health_check: passive_hold_seconds does nothing with kind = \
             \"tcp\", which says when a backend is up again",
        ),
        (
            "AGENTSERVICE[service.health_check]\npassive = true\nBACKEND",
            "lb.toml:8: service \"web\", health_check: passive true with min_up_percent 0 lets clients \
             that all backends refuse or ban take every one of them down (set min_up_percent, to 50 say)",
        ),
    ] {
        let text = text
            .replace("AGENT", AGENT)
            .replace("SERVICE", SERVICE)
            .replace("BACKEND", BACKEND);
        assert_eq!(warnings(&text), expected);
    }
}

#[test]
fn a_file_that_cannot_be_read_gets_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let sentence = |file: &std::path::Path| config::load(file).unwrap_err().to_string();
    let missing = folder.path().join("lb.toml");
    assert_eq!(
        sentence(&missing),
        format!(
            "cannot read the config file {}: there is no such file",
            missing.display()
        )
    );
    assert_eq!(
        sentence(folder.path()),
        format!(
            "cannot read the config file {}: it is a directory",
            folder.path().display()
        )
    );
    std::fs::write(&missing, b"[agent]\n# \xff\n").unwrap();
    assert_eq!(
        sentence(&missing),
        format!(
            "{}:2: the file is not text in UTF-8: byte 0xff (save it in UTF-8)",
            missing.display()
        )
    );
}

/// A config of that size.
fn large(services: u32, backends: u32) -> String {
    let mut text = AGENT.to_owned();
    for service in 0..services {
        let vip = IpAddr::from((0xcb00_0000_u32 + service).to_be_bytes());
        let _ = writeln!(
            text,
            "[[service]]\nname = \"service-{service}\"\naddress = \"{vip}\"\nport = 80"
        );
        for backend in 0..backends {
            let address = IpAddr::from((0x0a00_0000_u32 + backend).to_be_bytes());
            let _ = writeln!(
                text,
                "[[service.backend]]\nname = \"web{backend}\"\naddress = \"{address}\"\n\
                 port = 8080"
            );
        }
    }
    text
}

#[test]
fn two_hundred_services_of_two_hundred_servers_take_no_time() {
    let text = large(200, 200);
    let start = std::time::Instant::now();
    let model = model(&text);
    let took = start.elapsed();
    assert_eq!(
        model
            .services
            .iter()
            .map(|service| service.backends.len())
            .sum::<usize>(),
        40_000
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = config::parse(&bytes);
    }

    #[test]
    fn a_mangled_config_never_panics_and_names_lines_it_has(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..6_usize), 0..8)
    ) {
        let mut text = format!("{AGENT}{SERVICE}[service.health_check]\nrise = 2\n{BACKEND}");
        for (place, edit) in edits {
            let at = place.index(text.len());
            match edit {
                0 => { text.remove(at); }
                1 => text.insert(at, '\n'),
                2 => text.insert(at, '"'),
                3 => text.insert(at, '['),
                4 => text.insert(at, '9'),
                _ => text.insert(at, '='),
            }
            if text.is_empty() {
                break;
            }
        }
        let lines = text.split('\n').count();
        match config::parse(text.as_bytes()) {
            Ok(loaded) => prop_assert!(!loaded.model.services.is_empty() || !loaded.warnings.is_empty()),
            Err(list) => {
                prop_assert!(!list.is_empty());
                for problem in list {
                    prop_assert!((1..=lines).contains(&problem.line), "{problem:?}");
                    prop_assert!(!problem.message.is_empty() && !problem.message.contains('\n'));
                }
            }
        }
    }

    #[test]
    fn whole_numbers_are_taken_exactly_within_their_range(weight in -600_i64..600) {
        let text = format!("{AGENT}{SERVICE}{BACKEND}weight = {weight}\n");
        let read = config::parse(text.as_bytes()).map(|it| it.model.services[0].backends[0].weight);
        prop_assert_eq!(read.ok().map(i64::from), (0..=256).contains(&weight).then_some(weight));
    }
}

#[test]
fn files_that_a_check_needs_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let config = path("lb.toml");
    let sentence = |check: &str| {
        let check = format!("[service.health_check]\n{check}\n");
        let text = format!("{AGENT}{SERVICE}{check}{BACKEND}");
        assert!(
            config::parse(text.as_bytes()).is_ok(),
            "bytes name no files"
        );
        std::fs::write(&config, text).unwrap();
        config::load(&config).map_or_else(|error| error.to_string(), |_| "no problem".to_owned())
    };
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    write("empty.pem", "hello\n");
    std::fs::create_dir(path("folder.pem")).unwrap();
    for (kind, key, file, reason) in [
        (
            "https",
            "ca_file",
            "missing.pem",
            "cannot be used: there is no such file",
        ),
        ("https", "ca_file", "folder.pem", "is not a file"),
        (
            "https",
            "ca_file",
            "empty.pem",
            "has no certificate in it (PEM, -----BEGIN CERTIFICATE-----)",
        ),
        (
            "script",
            "command",
            "missing",
            "cannot be used: there is no such file",
        ),
        (
            "script",
            "command",
            "empty.pem",
            "is not executable (chmod +x)",
        ),
    ] {
        let file = path(file).display().to_string();
        let value = if kind == "script" {
            format!("[\"{file}\"]")
        } else {
            format!("\"{file}\"")
        };
        assert_eq!(
            sentence(&format!(
                "kind = \"{kind}\"
{key} = {value}"
            )),
            format!(
                "{}:9: service \"web\", health_check: {key} \"{file}\" {reason}",
                config.display()
            )
        );
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    write("ca.pem", &certificate.pem());
    let ca_file = path("ca.pem").display().to_string();
    assert_eq!(
        sentence(&format!("kind = \"https\"\nca_file = \"{ca_file}\"")),
        "no problem"
    );
    assert_eq!(
        sentence("kind = \"script\"\ncommand = [\"/bin/sh\", \"-c\", \"\"]"),
        "no problem"
    );
}
