//! The checklist: statements and sequences, as rows of target and reason.

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

const SEQUENCES: &[(&[&str], &[&str])] = &[
    (
        &[
            "SET TRANSACTION READ ONLY",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "BEGIN",
        ],
        &[
            "proxy next_transaction",
            "primary next_transaction",
            "primary begin",
        ],
    ),
    (
        &[
            "START TRANSACTION READ ONLY",
            "SET autocommit = 0",
            "SELECT 1",
        ],
        &[
            "replica read_only_transaction",
            "both session_state",
            "primary in_transaction",
        ],
    ),
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
            "SET @a = 1",
            "SELECT @a",
            "SET @a = NOW()",
            "SELECT @a",
            "SELECT 1",
            "SET @A = 'x'",
            "SELECT @a",
        ],
        &[
            "both session_state",
            "replica read",
            "both session_state +",
            "primary pinned_user_variable",
            "primary pinned_user_variable",
            "both session_state",
            "replica read",
        ],
    ),
    // The bytes of the string mean something else after it.
    (
        &["SET @a = 'x'", "SET NAMES latin1", "SELECT @a"],
        &[
            "both session_state",
            "both session_state",
            "primary pinned_user_variable",
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
            "BEGIN",
            "SELECT 1",
            "SAVEPOINT a",
            "ROLLBACK TO a",
            "COMMIT",
            "SELECT 1",
        ],
        &[
            "primary begin",
            "primary in_transaction",
            "primary in_transaction",
            "primary in_transaction",
            "primary in_transaction",
            "replica read",
        ],
    ),
    (
        &[
            "BEGIN",
            "COMMIT AND CHAIN",
            "SELECT 1",
            "/* lb:replica */ SELECT 1",
            "ROLLBACK",
            "SELECT 1",
        ],
        &[
            "primary begin",
            "primary in_transaction",
            "primary in_transaction",
            "primary in_transaction",
            "primary in_transaction",
            "replica read",
        ],
    ),
    (
        &[
            "START TRANSACTION READ ONLY",
            "SELECT 1",
            "COMMIT",
            "SELECT 1",
            "BEGIN",
        ],
        &[
            "replica read_only_transaction",
            "replica read_only_transaction",
            "replica in_transaction",
            "replica read",
            "primary begin",
        ],
    ),
    // The primary says what the application would hear from it.
    (
        &[
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
            "INSERT INTO t VALUES (1)",
            "SELECT 1",
            "COMMIT",
            "SELECT 1",
        ],
        &[
            "replica read_only_transaction",
            "primary write",
            "primary in_transaction",
            "primary in_transaction",
            "replica read",
        ],
    ),
    (
        &["START TRANSACTION READ ONLY", "BEGIN", "SELECT 1"],
        &[
            "replica read_only_transaction",
            "primary begin",
            "primary in_transaction",
        ],
    ),
    (
        &[
            "START TRANSACTION READ ONLY",
            "SET time_zone = '+00:00'",
            "SELECT 1",
            "COMMIT",
        ],
        &[
            "replica read_only_transaction",
            "both session_state",
            "replica read_only_transaction",
            "replica in_transaction",
        ],
    ),
    (
        &[
            "SET TRANSACTION READ ONLY",
            "BEGIN",
            "SELECT 1",
            "COMMIT",
            "BEGIN",
            "SELECT 1",
        ],
        &[
            "proxy next_transaction",
            "replica read_only_transaction",
            "replica read_only_transaction",
            "replica in_transaction",
            "primary begin",
            "primary in_transaction",
        ],
    ),
    (
        &[
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SELECT 1",
            "SELECT 1 FROM t",
            "SELECT 1",
        ],
        &[
            "proxy next_transaction",
            "primary next_transaction",
            "primary next_transaction",
            "replica read",
        ],
    ),
    (
        &[
            "SET TRANSACTION READ ONLY",
            "SET SESSION TRANSACTION READ WRITE",
            "BEGIN",
        ],
        &[
            "proxy next_transaction",
            "both session_state",
            "primary begin",
        ],
    ),
    (
        &[
            "SET @@transaction_read_only = 1",
            "BEGIN",
            "COMMIT",
            "SELECT 1",
        ],
        &[
            "primary next_transaction",
            "primary begin",
            "primary in_transaction",
            "replica read",
        ],
    ),
    (
        &[
            "SET SESSION TRANSACTION READ ONLY",
            "BEGIN",
            "SELECT 1",
            "COMMIT",
            "START TRANSACTION READ WRITE",
        ],
        &[
            "both session_state",
            "replica read_only_transaction",
            "replica read_only_transaction",
            "replica in_transaction",
            "primary begin",
        ],
    ),
    (
        &[
            "SET @x=1, autocommit=0",
            "SELECT 1",
            "COMMIT",
            "SELECT 1",
            "SET autocommit = 1",
            "SELECT 1",
        ],
        &[
            "both session_state",
            "primary autocommit_off",
            "primary in_transaction",
            "primary autocommit_off",
            "both session_state",
            "replica read",
        ],
    ),
    (
        &["SET SESSION autocommit = OFF", "SELECT 1"],
        &["both session_state", "primary autocommit_off"],
    ),
    (
        &["SET @@autocommit := 0", "SELECT 1"],
        &["both session_state", "primary autocommit_off"],
    ),
    (
        &["SET @@LOCAL.autocommit = 'OFF'", "SELECT 1"],
        &["both session_state", "primary autocommit_off"],
    ),
    (
        &["BEGIN", "CREATE TABLE t (a INT)", "SELECT 1"],
        &["primary begin", "primary ddl", "replica read"],
    ),
    (
        &[
            "XA START 'a'",
            "SELECT 1",
            "XA END 'a'",
            "XA PREPARE 'a'",
            "SELECT 1",
            "XA COMMIT 'a'",
            "SELECT 1",
        ],
        &[
            "primary xa +",
            "primary pinned_xa",
            "primary xa",
            "primary xa",
            "primary pinned_xa",
            "primary xa",
            "replica read",
        ],
    ),
    (
        &[
            "CREATE TEMPORARY TABLE x (a INT)",
            "INSERT INTO x VALUES (1)",
            "SELECT * FROM x",
            "DROP TABLE x",
            "SELECT 1",
        ],
        &[
            "primary ddl +",
            "primary write",
            "primary pinned_temporary_table",
            "primary ddl",
            "replica read",
        ],
    ),
    (
        &[
            "CREATE TEMPORARY TABLE x (a INT)",
            "CREATE TEMPORARY TABLE b.x (a INT)",
            "DROP TEMPORARY TABLE test.x",
            "SELECT 1",
            "DROP TABLE IF EXISTS y, `b`.`x`",
            "SELECT 1",
        ],
        &[
            "primary ddl +",
            "primary ddl +",
            "primary ddl",
            "primary pinned_temporary_table",
            "primary ddl",
            "replica read",
        ],
    ),
    // After a new name nobody knows which is dropped.
    (
        &[
            "CREATE TEMPORARY TABLE x (a INT)",
            "ALTER TABLE x RENAME TO y",
            "CREATE TEMPORARY TABLE x (a INT)",
            "DROP TABLE x",
            "SELECT 1",
        ],
        &[
            "primary ddl +",
            "primary ddl",
            "primary ddl +",
            "primary ddl",
            "primary pinned_temporary_table",
        ],
    ),
    (
        &[
            "SELECT GET_LOCK('a', 1)",
            "SELECT 1",
            "SELECT RELEASE_LOCK('a')",
            "SELECT 1",
            "SELECT RELEASE_ALL_LOCKS()",
            "SELECT 1",
        ],
        &[
            "primary user_lock +",
            "primary pinned_user_lock",
            "primary user_lock",
            "primary pinned_user_lock",
            "primary user_lock",
            "replica read",
        ],
    ),
    (
        &[
            "LOCK TABLES t READ",
            "SELECT 1",
            "UNLOCK TABLES",
            "SELECT 1",
        ],
        &[
            "primary lock_tables +",
            "primary pinned_table_lock",
            "primary lock_tables",
            "replica read",
        ],
    ),
    (
        &["LOCK TABLES t READ", "BEGIN", "COMMIT", "SELECT 1"],
        &[
            "primary lock_tables +",
            "primary begin",
            "primary in_transaction",
            "replica read",
        ],
    ),
    (
        &[
            "FLUSH TABLES WITH READ LOCK",
            "BEGIN",
            "COMMIT",
            "SELECT 1",
            "UNLOCK TABLES",
            "SELECT 1",
        ],
        &[
            "primary administration +",
            "primary begin",
            "primary in_transaction",
            "primary pinned_table_lock",
            "primary lock_tables",
            "replica read",
        ],
    ),
    (
        &[
            "HANDLER t OPEN",
            "SELECT 1",
            "HANDLER t READ FIRST",
            "HANDLER t CLOSE",
            "SELECT 1",
        ],
        &[
            "primary handler +",
            "primary pinned_handler",
            "primary handler",
            "primary handler",
            "replica read",
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
            "SELECT 1; CREATE TEMPORARY TABLE x (a INT)",
            "SELECT 1",
            "DROP TABLE x",
            "SELECT 1",
        ],
        &[
            "primary multi_statement +",
            "primary pinned_temporary_table",
            "primary ddl",
            "replica read",
        ],
    ),
    (
        &["SET @x = 1; SET autocommit = 0", "SELECT 1"],
        &["primary multi_statement", "primary autocommit_off"],
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
    (
        &[
            "SET time_zone = @x",
            "SELECT 1",
            "SET time_zone = SYSTEM",
            "SELECT 1",
        ],
        &[
            "both session_state +",
            "primary pinned_session_variable",
            "both session_state",
            "replica read",
        ],
    ),
    (
        &[
            "SET gtid_next = 'a:1'",
            "SELECT 1",
            "SET gtid_next = 'AUTOMATIC'",
            "SELECT 1",
        ],
        &[
            "both session_state +",
            "primary pinned_session_variable",
            "both session_state",
            "replica read",
        ],
    ),
];

#[test]
fn sequences() {
    check(SEQUENCES, MYSQL);
    check(SEQUENCES, MARIADB);
}
