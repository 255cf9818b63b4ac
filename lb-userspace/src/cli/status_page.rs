//! A [`Status`] for people.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};

use crate::status::{AppHost, Backend, Cluster, Counts, FlowTable, Service, Status, Vip};

/// The columns of a service's table; numbers are to the right.
const COLUMNS: [(&str, CellAlignment); 12] = [
    ("backend", CellAlignment::Left),
    ("address", CellAlignment::Left),
    ("weight", CellAlignment::Right),
    ("state", CellAlignment::Left),
    ("health", CellAlignment::Left),
    ("in rotation", CellAlignment::Left),
    ("connections", CellAlignment::Right),
    ("active", CellAlignment::Right),
    ("packets", CellAlignment::Right),
    ("bytes", CellAlignment::Right),
    ("last check", CellAlignment::Left),
    ("since", CellAlignment::Right),
];

/// The page of `lb status`; with lines between the rows on a terminal.
pub(super) fn render(status: &Status, on_terminal: bool) -> String {
    let Status {
        version,
        agent,
        interfaces,
        services,
        verdicts,
        flow_tables,
        events,
        app_host,
        mysql,
        cluster,
        announced,
    } = status;
    let interfaces: Vec<String> = interfaces
        .iter()
        .map(|interface| format!("{} ({})", interface.name, interface.xdp_mode))
        .collect();
    let mut page = format!(
        "lb {version}, pid {}, up {}, config {} (generation {})\nattached to: {}\n",
        agent.pid,
        span(agent.uptime_seconds),
        agent.config_file,
        agent.config_generation,
        if interfaces.is_empty() {
            "nothing".to_owned()
        } else {
            interfaces.join(", ")
        },
    );
    page.push_str(&announced_part(announced));
    if let Some(app_host) = app_host {
        page.push_str(&app_host_part(app_host, on_terminal));
    }
    if let Some(mysql) = mysql {
        page.push('\n');
        page.push_str(&super::mysql_page::render(mysql, on_terminal));
    }
    for service in services {
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n{}\n{}\n",
            heading(service),
            backends(service, on_terminal)
        );
    }
    if let Some(cluster) = cluster {
        page.push_str(&cluster_part(cluster, on_terminal));
    }
    if !flow_tables.is_empty() {
        let tables: Vec<String> = flow_tables.iter().map(flow_table).collect();
        let _ = writeln!(page, "\nflows: {}", tables.join(", "));
    }
    for (what, by_label) in [("packets by verdict", verdicts), ("events", events)] {
        if by_label.non_zero().next().is_some() {
            let _ = write!(page, "\n{what}:\n{}\n", counts(by_label, on_terminal));
        }
    }
    page.truncate(page.trim_end().len());
    page
}

/// Which VIPs a routing daemon may tell of, and which not.
fn announced_part(vips: &[Vip]) -> String {
    let list = |is_there: bool| -> Vec<&str> {
        let vips = vips.iter().filter(|vip| vip.on_lo == is_there);
        vips.map(|vip| vip.address.as_str()).collect()
    };
    let mut part = String::new();
    for (what, list) in [
        ("announced on lo", list(true)),
        ("NOT announced (no backend in rotation)", list(false)),
    ] {
        if !list.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(part, "{what}: {}", list.join(", "));
        }
    }
    part
}

/// What is known of other balancers.
fn cluster_part(cluster: &Cluster, on_terminal: bool) -> String {
    let Cluster {
        listen,
        caught_up,
        peers,
        flows,
        refused,
        overwritten,
        unsent,
        shared_addresses,
    } = cluster;
    let mut page = format!("\nother balancers (listening at {listen}):\n");
    let mut table = plain_table(on_terminal);
    table.set_header(["balancer", "there", "heard", "flows sent", "received"]);
    for peer in peers {
        let heard = peer.heard_seconds.map_or("never".to_owned(), |seconds| {
            format!("{} ago", span(seconds))
        });
        table.add_row([
            peer.address.clone(),
            if peer.up { "yes" } else { "no" }.to_owned(),
            heard,
            peer.flows_sent.to_string(),
            peer.flows_received.to_string(),
        ]);
    }
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(page, "{}", trimmed(&table));
    if !caught_up {
        let _ = writeln!(
            page,
            "NOT READY: waiting until they have told of their connections"
        );
    }
    for address in shared_addresses {
        let _ = writeln!(page, "SPLIT BRAIN: another balancer has {address}, too");
    }
    for (what, by_label) in [
        ("flows that they told of", flows),
        ("messages that were refused", refused),
    ] {
        if by_label.non_zero().next().is_some() {
            let _ = writeln!(page, "\n{what}:\n{}", counts(by_label, on_terminal));
        }
    }
    if overwritten + unsent > 0 {
        let _ = writeln!(
            page,
            "\ntold late: {overwritten} flows overwritten, {unsent} messages not sent"
        );
    }
    page
}

/// What an app host shows beside the rest.
fn app_host_part(app_host: &AppHost, on_terminal: bool) -> String {
    let AppHost {
        interfaces,
        vips,
        verdicts,
    } = app_host;
    let mut page = String::from("\napp host:\n");
    let mut table = plain_table(on_terminal);
    table.set_header(["VIP", "on lo"]);
    for vip in vips {
        table.add_row([vip.address.as_str(), if vip.on_lo { "yes" } else { "no" }]);
    }
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(page, "{}", trimmed(&table));
    let mut table = plain_table(on_terminal);
    table.set_header(["interface", "decapsulation", "program"]);
    for interface in interfaces {
        let id = interface.program_id.map(|id| id.to_string());
        table.add_row([
            interface.name.as_str(),
            interface.xdp_mode.as_deref().unwrap_or("none"),
            id.as_deref().unwrap_or(""),
        ]);
    }
    let _ = writeln!(page, "{}", trimmed(&table));
    if verdicts.non_zero().next().is_some() {
        let _ = writeln!(
            page,
            "\npackets by verdict of the decapsulation:\n{}",
            counts(verdicts, on_terminal)
        );
    }
    page
}

/// The labels with something to tell.
fn counts(counts: &Counts, on_terminal: bool) -> String {
    let mut table = plain_table(on_terminal);
    for (label, count) in counts.non_zero() {
        table.add_row([label.to_owned(), count.to_string()]);
    }
    align(&mut table, &[CellAlignment::Left, CellAlignment::Right]);
    trimmed(&table)
}

/// "established 3 of 262144 (17 expired)"
fn flow_table(table: &FlowTable) -> String {
    let FlowTable {
        name,
        entries,
        capacity,
        expired,
    } = table;
    format!("{name} {entries} of {capacity} ({expired} expired)")
}

fn heading(service: &Service) -> String {
    let firewall = service.firewall.as_ref().map_or(String::new(), |lists| {
        let allow = if lists.allowed_only {
            format!("for {} allowed prefixes only", lists.allow)
        } else {
            "for everybody".to_owned()
        };
        format!(
            "; {allow} but {} denied ones, {} packets kept out",
            lists.deny, lists.denied
        )
    });
    format!(
        "{}: {} {}, {}, {}; {} connections, {} active, {} packets, {}{firewall}",
        service.name,
        service.protocol,
        endpoint(&service.address, service.port),
        service.scheduler,
        service.forwarding,
        service.connections,
        service.active_flows,
        service.packets,
        size(service.bytes),
    )
}

fn backends(service: &Service, on_terminal: bool) -> String {
    if service.backends.is_empty() {
        return "no backends".to_owned();
    }
    let mut table = plain_table(on_terminal);
    table.set_header(COLUMNS.map(|(name, _)| name));
    align(&mut table, &COLUMNS.map(|(_, alignment)| alignment));
    for backend in &service.backends {
        table.add_row(row(backend));
    }
    trimmed(&table)
}

fn row(backend: &Backend) -> [String; 12] {
    let name = match backend.role.as_str() {
        "active" => backend.name.clone(),
        role => format!("{} ({role})", backend.name),
    };
    let in_rotation = match (backend.in_rotation, &backend.next_hop) {
        (false, _) => "no",
        (true, Some(_)) => "yes",
        (true, None) => "yes, no next hop",
    };
    [
        name,
        endpoint(&backend.address, backend.port),
        backend.weight.to_string(),
        backend.state.clone(),
        backend.health.clone(),
        in_rotation.to_owned(),
        backend.connections.to_string(),
        backend.active_flows.to_string(),
        backend.packets.to_string(),
        size(backend.bytes),
        backend.last_check.clone(),
        span(backend.since_seconds),
    ]
}

pub(super) fn plain_table(on_terminal: bool) -> Table {
    let mut table = Table::new();
    table.load_style(if on_terminal {
        presets::UTF8_HORIZONTAL_ONLY
    } else {
        presets::NOTHING
    });
    table
}

pub(super) fn align(table: &mut Table, alignments: &[CellAlignment]) {
    for (column, alignment) in table.column_iter_mut().zip(alignments) {
        column.set_cell_alignment(*alignment);
    }
}

/// Without spaces at the ends of lines.
pub(super) fn trimmed(table: &Table) -> String {
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

fn endpoint(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

/// "950 B", "18.0 kB", "1.2 GB"
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB", "PB"] {
        if value < 999.95 || unit == "PB" {
            return match unit {
                "B" => format!("{bytes} B"),
                _ => format!("{value:.1} {unit}"),
            };
        }
        value /= 1000.0;
    }
    format!("{bytes} B")
}

/// "3.0 s", "12 min", "5 h", "3 d"
pub(super) fn span(seconds: f64) -> String {
    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 60.0 * MINUTE;
    const DAY: f64 = 24.0 * HOUR;
    match seconds {
        _ if seconds < 2.0 * MINUTE => format!("{seconds:.1} s"),
        _ if seconds < 2.0 * HOUR => format!("{:.0} min", (seconds / MINUTE).floor()),
        _ if seconds < 2.0 * DAY => format!("{:.0} h", (seconds / HOUR).floor()),
        _ => format!("{:.0} d", (seconds / DAY).floor()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::example;

    #[test]
    fn a_page_shows_what_an_operator_looks_for() {
        let mut status = example();
        let spare = Backend {
            name: "spare".to_owned(),
            role: "backup".to_owned(),
            health: "down".to_owned(),
            in_rotation: false,
            last_check: "connect refused".to_owned(),
            since_seconds: 7300.0,
            ..status.services[0].backends[0].clone()
        };
        status.services[0].backends[0].next_hop = Some("10.0.0.11 on eth0".to_owned());
        let mut service = status.services[0].clone();
        assert!(!heading(&service).contains("kept out"));
        service.firewall = Some(crate::status::ServiceFirewall {
            deny: 1,
            allow: 2,
            allowed_only: true,
            denied: 7,
        });
        let said = heading(&service);
        assert!(
            said.ends_with("for 2 allowed prefixes only but 1 denied ones, 7 packets kept out"),
            "{said}"
        );
        status.services[0].backends.push(spare);
        status.flow_tables = vec![FlowTable {
            name: "established".to_owned(),
            entries: 3,
            capacity: 262_144,
            expired: 17,
        }];
        let expected = "\
lb 0.1.0, pid 4711, up 3.2 s, config lb.toml (generation 1)
attached to: eth0 (native)

web: tcp 203.0.113.10:80, round-robin, nat; 12 connections, 3 active, 240 packets, 18.0 kB
 backend         address         weight  state  health  in rotation  connections  active  packets   bytes  last check          since
 web1            10.0.0.11:8080       1  ready  up      yes                    4       1       80  6.0 kB  HTTP 200 in 1.2 ms  3.0 s
 spare (backup)  10.0.0.11:8080       1  ready  down    no                     4       1       80  6.0 kB  connect refused       2 h

flows: established 3 of 262144 (17 expired)

packets by verdict:
 steered        240
 pass_not_ours   12";
        assert_eq!(render(&status, false), expected);
    }

    #[test]
    fn a_terminal_gets_lines() {
        assert!(render(&example(), true).contains('─'));
        assert!(!render(&example(), false).contains('─'));
    }

    #[test]
    fn sizes_and_spans_have_the_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_960, "1.0 MB"),
            (u64::MAX, "18446.7 PB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (seconds, text) in [
            (0.04, "0.0 s"),
            (119.0, "119.0 s"),
            (120.0, "2 min"),
            (7200.0, "2 h"),
            (200_000.0, "2 d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
