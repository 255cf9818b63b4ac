//! What a session sets, prepares and asks about its last statement.

use super::{MARIADB, MYSQL, check};

const SEQUENCES: &[(&[&str], &[&str])] = &[
    (
        &[
            "INSERT INTO t VALUES (1)",
            "SELECT 1",
            "SELECT LAST_INSERT_ID()",
            "SELECT @@identity",
        ],
        &[
            "primary write",
            "replica read",
            "primary last_insert_id",
            "primary last_insert_id",
        ],
    ),
    (
        &[
            "UPDATE t SET a=1",
            "SELECT ROW_COUNT()",
            "SELECT 1 FROM t",
            "SELECT FOUND_ROWS()",
            "SHOW WARNINGS",
        ],
        &[
            "primary write",
            "primary last_statement",
            "replica read",
            "replica last_statement",
            "replica last_statement",
        ],
    ),
    (
        &[
            "SET time_zone = '+00:00'",
            "USE x",
            "SELECT 1",
            "INSERT INTO t VALUES (1)",
        ],
        &[
            "both session_state",
            "both session_state",
            "replica read",
            "primary write",
        ],
    ),
    (
        &[
            "PREPARE s FROM 'SELECT ?'",
            "EXECUTE s USING @a",
            "DEALLOCATE PREPARE s",
            "EXECUTE s",
        ],
        &[
            "both prepared_text",
            "replica read",
            "both prepared_text",
            "primary unknown_prepared",
        ],
    ),
    (
        &[
            "PREPARE s FROM 'DELETE FROM t'",
            "EXECUTE s",
            "PREPARE s FROM @a",
            "EXECUTE s",
        ],
        &[
            "both prepared_text",
            "primary write",
            "both prepared_text",
            "primary unknown_prepared",
        ],
    ),
    (
        &["PREPARE s FROM 'SELECT 1'", "USE other", "EXECUTE s"],
        &[
            "both prepared_text",
            "both session_state",
            "primary prepared_elsewhere",
        ],
    ),
    (
        &[
            "PREPARE s FROM 'CREATE TEMPORARY TABLE x (a INT)'",
            "EXECUTE s",
            "SELECT 1",
        ],
        &[
            "both prepared_text",
            "primary ddl",
            "primary pinned_temporary_table",
        ],
    ),
    (
        &[
            "SET sql_mode = 'ANSI_QUOTES'",
            "SELECT \"f\"(1)",
            "SET sql_mode = DEFAULT",
            "SELECT 1",
            "SET sql_mode = ''",
            "SELECT 1",
        ],
        &[
            "both session_state",
            "primary unknown_function",
            "both session_state",
            "primary sql_mode",
            "both session_state",
            "replica read",
        ],
    ),
    (
        &["SET NAMES gbk", "SELECT 1", "SET NAMES utf8mb4", "SELECT 1"],
        &[
            "both session_state",
            "primary character_set",
            "both session_state",
            "replica read",
        ],
    ),
    (
        &[
            "USE performance_schema",
            "SELECT * FROM threads",
            "USE test",
            "SELECT 1",
        ],
        &[
            "both session_state",
            "primary server_state",
            "both session_state",
            "replica read",
        ],
    ),
    (
        &[
            "SET @lb_route = 'primary'",
            "SELECT 1",
            "/* lb:replica */ SELECT 1",
            "SET @lb_route = 'auto'",
            "SELECT 1",
        ],
        &[
            "proxy route_variable",
            "primary hint",
            "replica hint",
            "proxy route_variable",
            "replica read",
        ],
    ),
];

#[test]
fn sequences() {
    check(SEQUENCES, MYSQL);
    check(SEQUENCES, MARIADB);
}
