use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use super::*;
use crate::{
    health::{BackendKey, Report},
    status::{self, Counts},
};

/// With something of everything.
fn full() -> (Status, Measures) {
    let mut status = status::tests::example();
    status.flow_tables = vec![status::FlowTable {
        name: "established".to_owned(),
        entries: 3,
        capacity: 262_144,
        expired: 9,
    }];
    status.services[0].backends[0].certificate_expires = Some(4_134_499_200);
    status.services[0].backends[0].replication_lag_seconds = Some(1.5);
    status.services[0].backends[0].handshakes = Some(status::Handshakes {
        accepted: 40,
        refused: 2,
        unanswered: 1,
    });
    status.services[0].firewall = Some(status::ServiceFirewall {
        deny: 2,
        allow: 0,
        allowed_only: false,
        denied: 5,
    });
    status.events = Counts(vec![("flow_evicted".to_owned(), 0)]);
    status.cluster = Some(status::Cluster {
        listen: "10.0.0.2:4789".to_owned(),
        caught_up: true,
        peers: vec![status::ClusterPeer {
            address: "10.0.0.3:4789".to_owned(),
            up: true,
            has_told: true,
            heard_seconds: Some(0.25),
            sessions: 1,
            flows_sent: 12,
            flows_received: 7,
            bytes_sent: 1400,
            bytes_received: 900,
        }],
        flows: Counts(vec![("inserted".to_owned(), 7)]),
        refused: Counts(vec![("forged".to_owned(), 0)]),
        overwritten: 0,
        unsent: 0,
        shared_addresses: Vec::new(),
    });
    status.mysql = Some(status::Mysql {
        servers: vec![status::MysqlServer {
            name: "db1".to_owned(),
            address: "10.0.0.11:3306".to_owned(),
            role: "replica".to_owned(),
            health: "up".to_owned(),
            lag_seconds: Some(0.5),
            read_only: Some(true),
            in_rotation: true,
            connections: 3,
            max_connections: None,
            waiting: 0,
            statements: 7,
            seconds: 0.5,
            gtid: String::new(),
            version: None,
            trouble: None,
            no_reads: None,
        }],
        sessions: 2,
        users: Vec::new(),
        statements: status::MysqlStatements {
            primary: 0,
            replica: 7,
        },
        reasons: [("read".to_owned(), 7)].into(),
        no_primary: None,
        epoch: 1,
        intercept: Some(status::MysqlIntercept {
            cgroup: "/sys/fs/cgroup".to_owned(),
            servers: Vec::new(),
            intercepted: 5,
            own: 3,
            other_namespace: 1,
            no_listener: 0,
        }),
        by_target: [("replica/read".to_owned(), 7)].into(),
        durations: [(
            "replica".to_owned(),
            status::MysqlDurations {
                buckets: vec![(0.001, 6), (0.01, 7)],
                count: 7,
                seconds: 0.25,
            },
        )]
        .into(),
        errors: [("login".to_owned(), 1)].into(),
    });
    status.app_host = Some(status::AppHost {
        interfaces: Vec::new(),
        vips: vec![status::Vip {
            address: "203.0.113.10".to_owned(),
            on_lo: true,
        }],
        verdicts: Counts(vec![("decapsulated".to_owned(), 5)]),
    });
    status.announced = vec![status::Vip {
        address: "203.0.113.10".to_owned(),
        on_lo: false,
    }];
    let mut measures = Measures::default();
    for took in [900, 1_000, 1_200, 40_000, 9_000_000] {
        measures
            .check_times
            .note(&report(Duration::from_micros(took)));
    }
    measures.check_times.note(&report(Duration::ZERO));
    measures.config.refused();
    (status, measures)
}

fn report(took: Duration) -> Report {
    Report {
        key: BackendKey {
            service: "web".into(),
            backend: "web1".into(),
        },
        target: 0,
        health: Health::Up,
        passed: Some(true),
        changed: false,
        detail: String::new(),
        took,
        certificate_ends: None,
        lag: None,
        agent: None,
    }
}

#[test]
fn the_names_of_the_contract_are_there_with_zeros() {
    let (status, measures) = full();
    let page = page(&status, &measures);
    for line in [
        "lb_service_connections_total{service=\"web\"} 12",
        "lb_service_packets_total{service=\"web\"} 240",
        "lb_service_bytes_total{service=\"web\"} 18000",
        "lb_backend_connections_total{service=\"web\",backend=\"web1\"} 4",
        "lb_backend_packets_total{service=\"web\",backend=\"web1\"} 80",
        "lb_backend_bytes_total{service=\"web\",backend=\"web1\"} 6000",
        "lb_backend_active_flows{service=\"web\",backend=\"web1\"} 1",
        "lb_backend_up{service=\"web\",backend=\"web1\"} 1",
        "lb_backend_weight{service=\"web\",backend=\"web1\"} 1",
        "lb_backend_replication_lag_seconds{service=\"web\",backend=\"web1\"} 1.5",
        "lb_backend_accepted_total{service=\"web\",backend=\"web1\"} 40",
        "lb_backend_refused_total{service=\"web\",backend=\"web1\"} 2",
        "lb_backend_unanswered_total{service=\"web\",backend=\"web1\"} 1",
        "lb_verdicts_total{verdict=\"steered\"} 240",
        "lb_verdicts_total{verdict=\"drop_no_backend\"} 0",
        "lb_flow_table_entries{table=\"established\"} 3",
        "lb_flow_table_capacity{table=\"established\"} 262144",
        "lb_config_last_reload_success 0",
        "lb_build_info{version=\"0.1.0\"} 1",
        "lb_interface_info{interface=\"eth0\",xdp_mode=\"native\"} 1",
        "lb_backend_info{service=\"web\",backend=\"web1\",role=\"active\",state=\"ready\"} 1",
        "lb_app_host_vip_on_lo{vip=\"203.0.113.10\"} 1",
        "lb_vip_announced{vip=\"203.0.113.10\"} 0",
        "lb_mysql_statements_total{target=\"replica\",reason=\"read\"} 7",
        "lb_mysql_statement_duration_seconds_bucket{target=\"replica\",le=\"0.001\"} 6",
        "lb_mysql_statement_duration_seconds_count{target=\"replica\"} 7",
        "lb_mysql_sessions 2",
        "lb_mysql_server_up{server=\"db1\"} 1",
        "lb_mysql_server_lag_seconds{server=\"db1\"} 0.5",
        "lb_mysql_server_role{server=\"db1\",role=\"replica\"} 1",
        "lb_mysql_server_connections{server=\"db1\"} 3",
        "lb_mysql_intercept_connects_total{outcome=\"taken\"} 5",
        "lb_mysql_intercept_connects_total{outcome=\"no_listener\"} 0",
        "lb_mysql_errors_total{kind=\"login\"} 1",
    ] {
        assert!(page.lines().any(|own| own == line), "{line}\n{page}");
    }
    let stamp = "\nlb_config_last_reload_timestamp_seconds 1";
    assert!(page.contains(stamp), "{page}");
}

#[test]
fn times_of_checks_are_in_their_buckets() {
    let (status, measures) = full();
    let page = page(&status, &measures);
    let name = "lb_backend_check_duration_seconds";
    let of = "service=\"web\",backend=\"web1\"";
    for (end, count) in [
        ("0.001", 2),
        ("0.0025", 3),
        ("0.025", 3),
        ("0.1", 4),
        ("5", 4),
        ("+Inf", 5),
    ] {
        let line = format!("\n{name}_bucket{{{of},le=\"{end}\"}} {count}\n");
        assert!(page.contains(&line), "{line}\n{page}");
    }
    assert!(
        page.contains(&format!("\n{name}_sum{{{of}}} 9.0431\n")),
        "{page}"
    );
    assert!(
        page.contains(&format!("\n{name}_count{{{of}}} 5\n")),
        "{page}"
    );
}

#[test]
fn every_family_is_on_the_page_and_in_the_reference() {
    let (status, measures) = full();
    let page = page(&status, &measures);
    let reference = reference();
    for family in families::ALL {
        assert!(
            page.contains(&format!("\n# TYPE {} ", family.name)),
            "{}",
            family.name
        );
        assert!(reference.contains(&format!("| `{}` | ", family.name)));
    }
    assert_eq!(page.matches("# TYPE ").count(), families::ALL.len());
}

#[test]
fn names_cannot_break_out_of_their_label() {
    let (mut status, measures) = full();
    status.services[0].name = "we\"b\\\n} 1".to_owned();
    let page = page(&status, &measures);
    let line = r#"lb_service_packets_total{service="we\"b\\\n} 1"} 240"#;
    assert!(page.lines().any(|own| own == line), "{page}");
}

#[test]
fn an_agent_that_has_nothing_still_has_a_page() {
    let mut status = status::tests::example();
    status.services.clear();
    status.interfaces.clear();
    let page = page(&status, &Measures::default());
    assert!(page.contains("lb_build_info"));
    assert!(!page.contains("lb_service_"), "{page}");
}

#[test]
fn promtool_has_nothing_to_say() {
    let (status, measures) = full();
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is in the package prometheus, which `cargo xtask setup` installs");
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(page(&status, &measures).as_bytes())
        .unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}
