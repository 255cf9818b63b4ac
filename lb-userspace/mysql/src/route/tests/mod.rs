//! The checklist, as rows of target and reason: statements of a fresh session here, and sequences of
//! statements by what they are about.

mod pins;
mod session;
mod transactions;

use crate::explain::explain;
use crate::sql::{Dialect, Family};

const MYSQL: Dialect = Dialect::new(Family::MySql, 90_704);
const MARIADB: Dialect = Dialect::new(Family::MariaDb, 101_119);

/// Each row is a session: its statements, and what becomes of each. A `+` stands for pins.
fn check(rows: &[(&[&str], &[&str])], dialect: Dialect) {
    let mut wrong = Vec::new();
    for (statements, expected) in rows {
        let found: Vec<String> = explain(statements, dialect)
            .iter()
            .map(|row| {
                let pins = if row.pins { " +" } else { "" };
                format!("{} {}{pins}", row.target.label(), row.reason.label())
            })
            .collect();
        if found != *expected {
            wrong.push(format!(
                "{statements:#?}\n  {found:?}\nand not\n  {expected:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{dialect:?}\n{}", wrong.join("\n"));
}

fn check_each(rows: &[(&str, &str)], dialect: Dialect) {
    for (statement, expected) in rows {
        check(&[(&[statement], &[expected])], dialect);
    }
}

const EACH: &[(&str, &str)] = &[
    ("SELECT 1", "replica read"),
    ("sELECT\t1 ; -- x", "replica read"),
    ("/*!40000 SELECT 1 */", "replica read"),
    ("/*!40000 INSERT INTO t VALUES (1) */", "primary write"),
    ("SELECT 1 /*!40000 FOR UPDATE */", "primary locking_read"),
    (
        "SELECT 'FOR UPDATE' /* FOR UPDATE */ FROM `FOR UPDATE`",
        "replica read",
    ),
    ("((SELECT 1)) UNION (SELECT 2)", "replica read"),
    ("WITH a AS (SELECT 1) SELECT * FROM a", "replica read"),
    ("TABLE t", "replica read"),
    ("VALUES ROW(1)", "replica read"),
    ("WITH a AS (SELECT 1) UPDATE t SET a=1", "primary write"),
    ("WITH a AS (SELECT 1) DELETE FROM t", "primary write"),
    ("SELECT 1 FOR UPDATE SKIP LOCKED", "primary locking_read"),
    ("SELECT 1 FOR SHARE", "primary locking_read"),
    ("SELECT 1 LOCK IN SHARE MODE", "primary locking_read"),
    ("(SELECT 1 FOR UPDATE)", "primary locking_read"),
    ("SELECT 1 INTO OUTFILE '/x'", "primary into"),
    ("SELECT 1 INTO @v", "primary into +"),
    ("SELECT @a := 1", "primary assigns_variable +"),
    ("SELECT GET_LOCK('a', 1)", "primary user_lock +"),
    (
        "WITH a AS (SELECT GET_LOCK ('a', 1)) SELECT * FROM a",
        "primary user_lock +",
    ),
    ("SELECT RELEASE_LOCK('a')", "primary user_lock"),
    ("SELECT IS_FREE_LOCK('a')", "primary user_lock"),
    ("SELECT f()", "primary unknown_function"),
    ("SELECT d.f()", "primary unknown_function"),
    ("CALL p()", "primary call"),
    ("CALL p(@a)", "primary call +"),
    ("DO SLEEP(1)", "primary do"),
    ("SELECT * FROM information_schema.tables", "replica read"),
    (
        "SELECT SLEEP(0), UUID(), RAND(), NOW(), CONNECTION_ID()",
        "replica read",
    ),
    (
        "SELECT MASTER_POS_WAIT('a', 1)",
        "primary waits_for_replication",
    ),
    ("SHOW TABLES", "replica read"),
    ("SHOW CREATE TABLE t", "replica read"),
    ("SHOW VARIABLES", "primary server_state"),
    ("SHOW PROCESSLIST", "primary server_state"),
    ("SHOW GLOBAL STATUS", "primary server_state"),
    ("SHOW WARNINGS", "primary last_statement"),
    ("SELECT @@hostname", "replica read"),
    ("SELECT @@GLOBAL.server_id, @@`port`", "replica read"),
    (
        "SELECT @@server_uuid, @@read_only",
        "primary system_variable",
    ),
    ("SELECT @@server_id.a", "primary system_variable"),
    ("SELECT @@", "primary system_variable"),
    ("DESCRIBE t", "replica read"),
    ("EXPLAIN ANALYZE SELECT 1", "replica read"),
    ("HELP 'x'", "replica read"),
    ("CHECKSUM TABLE t", "replica read"),
    ("EXPLAIN UPDATE t SET a=1", "primary write"),
    ("ANALYZE TABLE t", "primary administration"),
    ("CREATE TABLE t (a INT)", "primary ddl"),
    ("GRANT ALL ON *.* TO a", "primary ddl"),
    ("INSERT INTO t VALUES (@a)", "primary write"),
    ("REPLACE t VALUES (1)", "primary write"),
    ("LOAD DATA LOCAL INFILE 'x' INTO TABLE t", "primary write"),
    (
        "LOAD DATA LOCAL INFILE 'x' INTO TABLE t (@a)",
        "primary write +",
    ),
    ("HANDLER t OPEN", "primary handler +"),
    ("LOCK TABLES t READ", "primary lock_tables +"),
    ("FLUSH TABLES WITH READ LOCK", "primary administration +"),
    ("FLUSH STATUS", "primary administration"),
    ("CACHE INDEX t IN k", "primary administration"),
    ("KILL 5", "proxy kill"),
    ("SET GLOBAL a = 1", "primary set_global"),
    ("SET PERSIST a = 1", "primary set_global"),
    ("SET time_zone = '+00:00'", "both session_state"),
    ("SET time_zone = @x", "both session_state +"),
    ("SET NAMES utf8mb4", "both session_state"),
    ("SET @a = 1", "both session_state"),
    ("SET @a = NOW()", "both session_state +"),
    ("SET @a = (@b := 1)", "both session_state +"),
    ("SET @lb_route = 'replica'", "proxy route_variable"),
    ("SET @lb_route = 'elsewhere'", "both session_state"),
    ("SET session_track_gtids = OFF", "proxy tracker"),
    ("SET TRANSACTION READ ONLY", "proxy next_transaction"),
    (
        "SET @@transaction_isolation = 'SERIALIZABLE'",
        "primary next_transaction",
    ),
    ("USE x", "both session_state"),
    ("SELECT 1; SELECT 2", "primary multi_statement"),
    (
        "SELECT 1; CREATE TEMPORARY TABLE x SELECT 1",
        "primary multi_statement +",
    ),
    (";SELECT 1", "primary multi_statement"),
    ("", "primary empty"),
    (";", "primary empty"),
    ("-- x", "primary empty"),
    ("SELEKT 1", "primary unknown_statement"),
    ("SELECT 'a", "primary not_understood"),
    ("BEGIN", "primary begin"),
    (
        "START TRANSACTION READ ONLY",
        "replica read_only_transaction",
    ),
    ("COMMIT", "primary transaction_control"),
    ("XA START 'a'", "primary xa +"),
    ("CREATE TEMPORARY TABLE x SELECT 1", "primary ddl +"),
    // Hints.
    ("/* lb:primary */ SELECT 1", "primary hint"),
    ("/* lb:replica */ SELECT 1", "replica hint"),
    ("/* lb:replica */ SHOW PROCESSLIST", "replica hint"),
    ("/* lb:replica */ SELECT @@hostname", "replica hint"),
    ("/* lb:replica */ INSERT INTO t VALUES (1)", "primary write"),
    (
        "/* lb:replica */ SELECT 1 FOR UPDATE",
        "primary locking_read",
    ),
    ("/* lb:replica */ SELECT f()", "primary unknown_function"),
    (
        "/* lb:replica */ SELECT GET_LOCK('a', 1)",
        "primary user_lock +",
    ),
    ("/* lb:replica */ BEGIN", "primary begin"),
    (
        "/* lb:replica */ EXPLAIN ANALYZE FOR SCHEMA a DELETE FROM t",
        "primary server_state",
    ),
    (
        "/* lb:replica */ SELECT 1; DELETE FROM t",
        "primary multi_statement",
    ),
];

#[test]
fn statements() {
    check_each(EACH, MYSQL);
    check_each(EACH, MARIADB);
}

#[test]
fn statements_of_mariadb() {
    check_each(
        &[
            ("SELECT NEXT VALUE FOR s", "primary sequence"),
            ("SELECT NEXTVAL(s)", "primary sequence"),
            ("SELECT PREVIOUS VALUE FOR s", "primary last_insert_id"),
            ("INSERT INTO t VALUES (1) RETURNING a", "primary write"),
            ("BEGIN NOT ATOMIC SELECT 1; END", "primary compound"),
            (
                "SET STATEMENT max_statement_time=1 FOR SELECT 1",
                "primary set_statement",
            ),
            ("EXECUTE IMMEDIATE 'SELECT 1'", "primary unknown_prepared"),
            ("ANALYZE SELECT 1", "replica read"),
        ],
        MARIADB,
    );
}
