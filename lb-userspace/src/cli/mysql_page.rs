//! `lb mysql status` for people.

use std::fmt::Write as _;

use comfy_table::CellAlignment;

use super::status_page::{align, plain_table, trimmed};
use crate::status::{Mysql, MysqlServer};

/// The names of columns and their alignments.
const COLUMNS: [(&str, CellAlignment); 9] = [
    ("server", CellAlignment::Left),
    ("address", CellAlignment::Left),
    ("role", CellAlignment::Left),
    ("health", CellAlignment::Left),
    ("lag", CellAlignment::Right),
    ("gets", CellAlignment::Left),
    ("connections", CellAlignment::Right),
    ("statements", CellAlignment::Right),
    ("why not", CellAlignment::Left),
];

/// The page.
pub(super) fn render(mysql: &Mysql, on_terminal: bool) -> String {
    let Mysql {
        servers,
        sessions,
        users,
        statements,
        no_primary,
        by_target,
        intercept,
        ..
    } = mysql;
    let mut page = format!(
        "mysql: {sessions} sessions, {} statements to the primary, {} to replicas\n",
        statements.primary, statements.replica
    );
    if let Some(why) = no_primary {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(page, "nobody takes writes: {why}");
    }
    if let Some(intercept) = intercept {
        let _ = writeln!(
            page,
            "intercepts connections to {}: {} so far",
            intercept.servers.join(", "),
            intercept.intercepted
        );
    }
    for user in users {
        let _ = writeln!(
            page,
            "user {}: {} of {} connections",
            super::mysql_sessions::clean(&user.name),
            user.sessions,
            user.max_connections
        );
    }
    let mut table = plain_table(on_terminal);
    table.set_header(COLUMNS.map(|(name, _)| name));
    for server in servers {
        table.add_row(row(server));
    }
    align(&mut table, &COLUMNS.map(|(_, alignment)| alignment));
    let _ = writeln!(page, "{}", trimmed(&table));
    if !by_target.is_empty() {
        let mut table = plain_table(on_terminal);
        for (target, count) in by_target {
            table.add_row([target.clone(), count.to_string()]);
        }
        align(&mut table, &[CellAlignment::Left, CellAlignment::Right]);
        let _ = writeln!(
            page,
            "\nstatements by target and reason:\n{}",
            trimmed(&table)
        );
    }
    page
}

fn row(server: &MysqlServer) -> [String; 9] {
    let gets = match (server.role.as_str(), server.in_rotation) {
        ("primary", true) => "writes",
        (_, true) => "reads",
        (_, false) => "nothing",
    };
    let why = match (&server.trouble, &server.no_reads) {
        (Some(why), _) => why.clone(),
        (None, Some(why)) if !server.in_rotation => why.clone(),
        (None, _) => String::new(),
    };
    [
        server.name.clone(),
        server.address.clone(),
        server.role.clone(),
        server.health.clone(),
        server
            .lag_seconds
            .map(|lag| format!("{lag:.1} s"))
            .unwrap_or_default(),
        gets.to_owned(),
        connections(server),
        server.statements.to_string(),
        why,
    ]
}

/// "3", "3 of 10", "10 of 10, 4 wait"
fn connections(server: &MysqlServer) -> String {
    let of = server.max_connections.map(|most| format!(" of {most}"));
    let wait = match server.waiting {
        0 => String::new(),
        waiting => format!(", {waiting} wait"),
    };
    format!("{}{}{wait}", server.connections, of.unwrap_or_default())
}
