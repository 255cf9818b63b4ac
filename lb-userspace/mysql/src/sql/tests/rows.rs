//! What statements are, as rows: text, class, facts in alphabetical order.

use super::super::{Class, Dialect, Facts, Family, Hint, SqlMode, classify};

pub(super) const MYSQL: Dialect = Dialect::new(Family::MySql, 90_704);
pub(super) const MARIADB: Dialect = Dialect::new(Family::MariaDb, 101_119);

fn describe(sql: &str, dialect: Dialect) -> String {
    let statement = classify(sql.as_bytes(), dialect);
    // Those that routing does not ask for in this class would only clutter the rows.
    let clutter = ["WRITE_WORD", "IMPLICIT_COMMIT", "HAS_FROM"];
    let mut facts: Vec<&str> = statement.facts.names().collect();
    facts.retain(|fact| !clutter.contains(fact));
    facts.sort_unstable();
    let mut words = vec![statement.class.label()];
    words.extend(facts);
    words.join(" ")
}

fn check(rows: &[(&str, &str)], dialect: Dialect) {
    let wrong: Vec<String> = rows
        .iter()
        .filter(|(sql, expected)| describe(sql, dialect) != *expected)
        .map(|(sql, expected)| format!("{sql}: {} and not {expected}", describe(sql, dialect)))
        .collect();
    assert!(wrong.is_empty(), "{dialect:?}\n{}", wrong.join("\n"));
}

pub(super) const BOTH: &[(&str, &str)] = &[
    // Reads in all their clothes.
    ("SELECT 1", "read"),
    ("select\t1", "read"),
    ("SeLeCt 1;", "read"),
    ("SELECT 1; -- x", "read"),
    ("SELECT 1 ;; ", "multi"),
    ("/* x */ SELECT 1", "read"),
    ("-- x\nSELECT 1", "read"),
    ("--\nSELECT 1", "read"),
    ("# x\r\nSELECT 1", "read"),
    ("SELECT 1 -- x\n; DELETE FROM t", "multi"),
    ("SELECT 5--3", "read"),
    ("SELECT 5--UPDATE", "write"),
    ("SELECT '-- x' FROM t", "read"),
    ("SELECT 'FOR UPDATE'", "read"),
    ("SELECT \"INTO OUTFILE\"", "read"),
    ("SELECT `FOR UPDATE` FROM `into`", "read"),
    ("SELECT 'a\\'; DELETE FROM t; -- '", "read"),
    ("SELECT 'a''; DELETE FROM t; -- '", "read"),
    ("SELECT 'a\\\\'; DELETE FROM t", "multi"),
    ("(SELECT 1)", "read"),
    ("((SELECT 1)) UNION (SELECT 2)", "read"),
    ("WITH a AS (SELECT 1) SELECT * FROM a", "read"),
    (
        "WITH RECURSIVE a (n) AS (SELECT 1 UNION ALL SELECT n+1 FROM a), b (m) AS (SELECT 2) SELECT * FROM a",
        "read",
    ),
    ("WITH a AS (SELECT f(1)) SELECT 1", "read CALLS"),
    (
        "SELECT a FROM t GROUP BY a WITH ROLLUP ORDER BY 1, f(a)",
        "read CALLS",
    ),
    (
        "WITH a AS (SELECT 1) (SELECT 1) ORDER BY 1, f(1)",
        "read CALLS",
    ),
    (
        "WITH a AS (SELECT 1) SELECT 1 UNION SELECT 2 ORDER BY 1, f(1)",
        "read CALLS",
    ),
    (
        "WITH a AS (SELECT 1), `b` (x) AS (SELECT 2) SELECT 1",
        "read",
    ),
    ("(SELECT 1) INTERSECT (SELECT 2) EXCEPT (SELECT 3)", "read"),
    ("TABLE t", "read"),
    ("VALUES ROW(1, 2), ROW(3, 4)", "read"),
    ("SELECT * FROM (SELECT 1) AS d (a)", "read"),
    (
        "SELECT * FROM t AS a JOIN (b) USING (id) WHERE a.x IN (1, 2) AND (b.y = 3)",
        "read",
    ),
    (
        "SELECT COUNT(*), MAX(a), CAST(b AS CHAR(10)), CONVERT(c, DECIMAL(10, 2)) FROM t",
        "read",
    ),
    (
        "SELECT REPLACE(a, 'x', 'y'), INSERT(a, 1, 2, 'b'), TRUNCATE(1.5, 1), IF(a, b, c), LEFT(a, 2) FROM t",
        "read",
    ),
    (
        "SELECT CASE WHEN (a) THEN (b) ELSE (c) END FROM t LIMIT 1",
        "read",
    ),
    (
        "SELECT ROW_NUMBER() OVER (PARTITION BY a ORDER BY b) FROM t",
        "read",
    ),
    (
        "SELECT * FROM t USE INDEX (i) WHERE MATCH (a) AGAINST ('x' IN BOOLEAN MODE)",
        "read",
    ),
    (
        "SELECT DATE_ADD(NOW(), INTERVAL 1 DAY), UUID(), RAND(), SLEEP(0)",
        "read",
    ),
    (
        "SELECT * FROM t WHERE a > ANY (SELECT 1) AND EXISTS (SELECT 2)",
        "read",
    ),
    ("SELECT DISTINCT (a) FROM t WHERE NOT (a) XOR (b)", "read"),
    (
        "SELECT t.5, 1.5e3, .5, 0x1F, x'41', b'1', 1e5, _utf8'a', N'b' FROM t",
        "read",
    ),
    ("SELECT ? FROM t WHERE a = ?", "read PARAMETER"),
    ("SELECT CONNECTION_ID()", "read CONNECTION_ID"),
    ("SELECT * FROM information_schema.tables", "read"),
    ("SELECT * FROM information_schema . `COLUMNS`", "read"),
    ("SELECT é FROM tàble", "read"),
    ("SELECT a /*+ NO_INDEX_MERGE(t) */ FROM t", "read"),
    ("DESCRIBE t", "read"),
    ("DESC t a", "read"),
    ("EXPLAIN SELECT 1", "read"),
    ("EXPLAIN FORMAT=JSON SELECT 1", "read"),
    ("EXPLAIN ANALYZE SELECT 1", "read"),
    ("EXPLAIN (SELECT 1)", "read"),
    ("HELP 'x'", "read"),
    ("CHECKSUM TABLE t", "read"),
    ("SHOW TABLES", "read"),
    ("SHOW FULL COLUMNS FROM t", "read"),
    ("SHOW CREATE TABLE t", "read"),
    ("SHOW CREATE PROCEDURE p", "read"),
    ("SHOW TABLE STATUS LIKE 'x'", "read"),
    ("SHOW PROCEDURE STATUS", "read"),
    ("SHOW TABLES WHERE f(1)", "read CALLS"),
    (
        "SHOW TABLES WHERE EXISTS (SELECT 1 FROM t)",
        "locking_read LOCKING",
    ),
    ("SHOW DATABASES", "read"),
    // Locks, files, variables.
    ("SELECT 1 FOR UPDATE", "locking_read LOCKING"),
    (
        "SELECT 1 FOR /* x */ UPDATE SKIP LOCKED",
        "locking_read LOCKING",
    ),
    ("SELECT 1 FOR SHARE", "locking_read LOCKING"),
    (
        "SELECT * FROM (SELECT 1 FOR SHARE) a",
        "locking_read LOCKING",
    ),
    ("SELECT 1 LOCK IN SHARE MODE", "locking_read LOCKING"),
    ("(SELECT 1 FOR UPDATE)", "locking_read LOCKING"),
    (
        "WITH a AS (SELECT 1) SELECT 1 FROM a FOR UPDATE",
        "locking_read LOCKING",
    ),
    ("SELECT .5for update", "locking_read LOCKING ODD"),
    ("SELECT 1.5for update", "locking_read LOCKING ODD"),
    ("SELECT 1e5for update", "locking_read LOCKING ODD"),
    ("SELECT 1for FROM t", "read"),
    ("SELECT 1 INTO OUTFILE '/x'", "select_into INTO"),
    ("SELECT 1 FROM t INTO DUMPFILE '/x'", "select_into INTO"),
    (
        "SELECT 1, 2 INTO @a, @b",
        "select_into ASSIGNS INTO USER_VARIABLE",
    ),
    ("SELECT @a := 1", "read ASSIGNS USER_VARIABLE"),
    ("SELECT @a, @`b`, @'c', @\"d\"", "read USER_VARIABLE"),
    ("SELECT @@version", "read SYSTEM_VARIABLE"),
    (
        "SELECT @@session.sql_mode, @@global.`read_only`",
        "read SYSTEM_VARIABLE",
    ),
    (
        "SELECT @@last_insert_id",
        "read LAST_INSERT_ID SYSTEM_VARIABLE",
    ),
    (
        "SELECT @@session . Identity",
        "read LAST_INSERT_ID SYSTEM_VARIABLE",
    ),
    ("SELECT @@`identity`", "read LAST_INSERT_ID SYSTEM_VARIABLE"),
    ("SELECT @@warning_count", "read SYSTEM_VARIABLE WARNINGS"),
    ("SELECT last_insert_id ()", "read LAST_INSERT_ID"),
    ("SELECT ROW_COUNT()", "read ROW_COUNT"),
    ("SELECT FOUND_ROWS()", "read FOUND_ROWS"),
    ("SELECT SQL_CALC_FOUND_ROWS 1", "read CALC_FOUND_ROWS"),
    ("SELECT GET_LOCK('a', 1)", "read TAKES_LOCK"),
    (
        "WITH a AS (SELECT get_lock ('a', 1)) SELECT * FROM a",
        "read TAKES_LOCK",
    ),
    (
        "SELECT IS_FREE_LOCK('a'), RELEASE_LOCK('a')",
        "read ASKS_LOCK",
    ),
    ("SELECT RELEASE_ALL_LOCKS()", "read ASKS_LOCK RELEASES_ALL"),
    ("SELECT RELEASE_ALL_LOCKS() FROM t", "read ASKS_LOCK"),
    ("DO RELEASE_ALL_LOCKS()", "do ASKS_LOCK RELEASES_ALL"),
    ("DO SLEEP()", "do"),
    ("SELECT MASTER_POS_WAIT('a', 1)", "read WAITS"),
    ("SELECT VERSION()", "read SERVER_STATE"),
    ("SELECT LOAD_FILE('/x')", "read SERVER_STATE"),
    (
        "SELECT * FROM performance_schema.threads",
        "read SERVER_STATE",
    ),
    ("SELECT * FROM `sys`.`session`", "read SERVER_STATE"),
    (
        "SELECT * FROM information_schema.processlist",
        "read SERVER_STATE",
    ),
    (
        "SELECT * FROM `information_schema`.innodb_trx",
        "read SERVER_STATE",
    ),
    // Functions.
    ("SELECT f()", "read CALLS"),
    ("SELECT `abs`(1)", "read CALLS"),
    ("SELECT abs (1)", "read"),
    ("SELECT count (1)", "read CALLS"),
    ("SELECT d.abs(1)", "read CALLS"),
    ("SELECT `d` . `if` (1)", "read CALLS"),
    ("SELECT d.if(1), d.left(2)", "read CALLS"),
    (
        "SELECT a(), b(), c(), d(), e()",
        "read CALLS TOO_MANY_CALLS",
    ),
    ("SELECT 1 PROCEDURE ANALYSE()", "write CALLS"),
    // Writes.
    ("INSERT INTO t VALUES (1)", "write INTO"),
    ("insert t set a=1", "write"),
    ("REPLACE INTO t VALUES (1)", "write INTO"),
    ("UPDATE t SET a=1", "write"),
    ("DELETE FROM t", "write"),
    ("LOAD DATA LOCAL INFILE 'x' INTO TABLE t", "write INTO"),
    ("WITH a AS (SELECT 1) UPDATE t SET a=1", "write"),
    ("WITH a AS (SELECT 1) DELETE FROM t", "write"),
    ("EXPLAIN UPDATE t SET a=1", "write"),
    ("EXPLAIN ANALYZE DELETE FROM t", "write"),
    ("EXPLAIN FORMAT=TREE INSERT INTO t SELECT 1", "write INTO"),
    ("DESC INSERT t VALUES (1)", "write"),
    ("CREATE TABLE t (a INT)", "ddl CALLS"),
    ("DROP TABLE t", "ddl MAY_DROP_TEMPORARY"),
    ("TRUNCATE t", "ddl"),
    ("GRANT ALL ON *.* TO a", "ddl"),
    ("CREATE TEMPORARY TABLE t SELECT 1", "ddl TEMPORARY"),
    (
        "CREATE OR REPLACE TEMPORARY TABLE t SELECT 1",
        "ddl TEMPORARY",
    ),
    ("DROP TEMPORARY TABLE t", "ddl MAY_DROP_TEMPORARY TEMPORARY"),
    ("ALTER TABLE t RENAME TO u", "ddl RENAMES"),
    (
        "CREATE PROCEDURE p() BEGIN SELECT 1; CREATE TEMPORARY TABLE x SELECT 1; END",
        "ddl CALLS",
    ),
    (
        "CREATE DEFINER=`a`@`b` PROCEDURE p() BEGIN IF 1 THEN SELECT 1; END IF; CASE 1 WHEN 1 THEN SELECT 2; END CASE; END; SELECT 1",
        "multi CALLS USER_VARIABLE",
    ),
    (
        "CREATE TABLE event (begin INT); DROP TABLE x",
        "multi CALLS",
    ),
    // Transactions.
    ("BEGIN", "begin"),
    ("BEGIN WORK", "begin"),
    ("START TRANSACTION", "begin"),
    ("START TRANSACTION READ ONLY", "begin READ_ONLY"),
    (
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        "begin READ_ONLY SNAPSHOT",
    ),
    ("START TRANSACTION READ WRITE", "begin READ_WRITE"),
    ("COMMIT", "commit"),
    ("COMMIT AND CHAIN", "commit CHAIN"),
    ("COMMIT WORK AND NO CHAIN NO RELEASE", "commit"),
    ("ROLLBACK RELEASE", "rollback RELEASE"),
    ("ROLLBACK TO SAVEPOINT a", "savepoint"),
    ("SAVEPOINT a", "savepoint"),
    ("RELEASE SAVEPOINT a", "savepoint"),
    ("XA START 'a'", "xa BEGINS"),
    ("XA END 'a'", "xa"),
    ("XA COMMIT 'a' ONE PHASE", "xa ENDS"),
    // The session.
    ("SET NAMES utf8mb4", "set"),
    ("SET time_zone = '+00:00'", "set"),
    ("SET @x=1, autocommit=0", "set USER_VARIABLE"),
    ("SET GLOBAL a = 1", "set_global"),
    ("SET GLOBAL a = 1, b = 2", "set_global"),
    ("SET GLOBAL a = 1, SESSION b = 2", "set"),
    ("SET @@GLOBAL.a = 1", "set_global SYSTEM_VARIABLE"),
    ("SET @@GLOBAL.a = 1, b = 2", "set SYSTEM_VARIABLE"),
    ("SET PERSIST a = 1", "set_global"),
    ("SET @@session.a = 1", "set SYSTEM_VARIABLE"),
    ("SET TRANSACTION READ ONLY", "set_transaction READ_ONLY"),
    ("SET SESSION TRANSACTION READ ONLY", "set READ_ONLY"),
    ("SET PASSWORD = 'x'", "set_global"),
    ("SET ROLE admin", "set"),
    ("SET DEFAULT ROLE a TO b", "set_global"),
    ("USE x", "use"),
    ("PREPARE s FROM 'SELECT 1'", "prepare LITERAL"),
    ("PREPARE s FROM @a", "prepare USER_VARIABLE"),
    ("EXECUTE s USING @a", "execute USER_VARIABLE"),
    ("DEALLOCATE PREPARE s", "deallocate"),
    ("DROP PREPARE s", "deallocate"),
    ("EXECUTE IMMEDIATE 'SELECT 1'", "execute_immediate LITERAL"),
    ("HANDLER t OPEN AS x", "handler BEGINS"),
    ("HANDLER x CLOSE", "handler ENDS"),
    ("LOCK TABLES t READ", "lock_tables LOCKING"),
    ("UNLOCK TABLES", "unlock_tables ENDS"),
    ("FLUSH TABLES WITH READ LOCK", "flush LOCKING READ_LOCK"),
    ("FLUSH TABLES t FOR EXPORT", "flush READ_LOCK"),
    ("FLUSH STATUS", "flush"),
    // The server.
    ("SHOW WARNINGS", "diagnostics"),
    ("SHOW COUNT(*) WARNINGS", "diagnostics"),
    ("SHOW ERRORS LIMIT 1", "diagnostics"),
    ("GET DIAGNOSTICS @a = NUMBER", "diagnostics USER_VARIABLE"),
    ("SHOW PROCESSLIST", "show_server"),
    ("SHOW FULL PROCESSLIST", "show_server"),
    ("SHOW GLOBAL STATUS", "show_server"),
    ("SHOW VARIABLES LIKE 'x'", "show_server"),
    ("SHOW REPLICA STATUS", "show_server"),
    ("SHOW BINARY LOG STATUS", "show_server"),
    ("EXPLAIN FOR CONNECTION 5", "show_server"),
    ("KILL 5", "kill"),
    ("KILL QUERY 5", "kill"),
    ("CALL p()", "call CALLS"),
    ("OPTIMIZE TABLE t", "administration"),
    ("CACHE INDEX t IN k", "administration"),
    ("STOP REPLICA", "administration"),
    ("RESET MASTER", "administration"),
    // Several, none, nonsense.
    ("SELECT 1; SELECT 2", "multi"),
    (";SELECT 1", "multi"),
    ("", "empty"),
    (" /* x */ ", "empty"),
    (";", "empty"),
    ("BEGIN NOT ATOMIC SELECT 1; END", "compound"),
    ("IF 1 THEN SELECT 1; END IF", "multi"),
    ("FOO", "unknown"),
    ("lbl: BEGIN NOT ATOMIC SELECT 1; END", "multi"),
    ("(UPDATE t SET a=1)", "unknown"),
    // What never ends, or is nobody's.
    ("SELECT 'a", "read ODD"),
    ("SELECT 'a\\'", "read ODD"),
    ("SELECT `a", "read ODD"),
    ("SELECT @'a", "read ODD USER_VARIABLE"),
    ("SELECT 1 /* x", "read ODD"),
    ("SELECT 1 /*! +1", "read ODD"),
    ("SELECT /*/ */ 1", "read"),
    ("SELECT $$a$$", "read ODD"),
    ("SELECT 1\0FOR UPDATE", "locking_read LOCKING ODD"),
    ("SELECT 1 -- \0\n", "read ODD"),
    ("SELECT `a\0b`", "read ODD"),
    ("SELECT \\N", "read ODD"),
    ("SELECT 1\x01", "read ODD"),
    ("SELECT /*+ QB_NAME(`*/ x`) */ 1", "read ODD"),
    // Comments with versions.
    ("/*!40000 SELECT 1 */", "read"),
    ("/*!40000 INSERT INTO t VALUES (1) */", "write INTO"),
    ("SELECT 1 /*!40000 FOR UPDATE */", "locking_read LOCKING"),
    ("SELECT 1 /*! FOR UPDATE */", "locking_read LOCKING"),
    ("SELECT 1 /*!99999 FOR UPDATE */", "read"),
    ("SELECT 1 /*!99999 FOR /* x */ UPDATE */", "read"),
    (
        "SELECT 1 /*!99999 FOR /* x */ UPDATE */ FOR SHARE",
        "locking_read LOCKING",
    ),
    ("SELECT 1 /*! /* x */ */", "read"),
    ("/*!40101 SET NAMES utf8 */;", "set"),
];

#[test]
fn both_families() {
    check(BOTH, MYSQL);
    check(BOTH, MARIADB);
}

#[test]
fn mysql() {
    check(
        &[
            ("SELECT 1 /*!90704 FOR UPDATE */", "locking_read LOCKING"),
            ("SELECT 1 /*!90705 FOR UPDATE */", "read"),
            ("SELECT 1 /*!080000 FOR UPDATE */", "locking_read LOCKING"),
            ("SELECT 1 /*!101100 FOR UPDATE */", "read"),
            ("SELECT 1 /*M! FOR UPDATE */", "read"),
            ("SELECT NEXTVAL(s)", "read CALLS"),
            (
                "SELECT * FROM JSON_TABLE('[1]', '$[*]' COLUMNS (a INT PATH '$')) AS j",
                "read",
            ),
            ("SELECT * FROM t, LATERAL (SELECT 1) AS d", "read"),
            ("SELECT 1 MEMBER OF ('[1]')", "read"),
            ("ANALYZE TABLE t", "administration"),
            ("LOCK INSTANCE FOR BACKUP", "lock_tables LOCKING"),
            ("SELECT WAIT_FOR_EXECUTED_GTID_SET('x')", "read WAITS"),
        ],
        MYSQL,
    );
}

#[test]
fn mariadb() {
    check(
        &[
            ("SELECT 1 /*!50700 FOR UPDATE */", "read"),
            ("SELECT 1 /*M!50700 FOR UPDATE */", "locking_read LOCKING"),
            ("SELECT 1 /*!101119 FOR UPDATE */", "locking_read LOCKING"),
            ("SELECT 1 /*!101120 FOR UPDATE */", "read"),
            ("SELECT 1 /*M! FOR UPDATE */", "locking_read LOCKING"),
            ("SELECT NEXT VALUE FOR s", "read SEQUENCE"),
            ("SELECT NEXTVAL(s)", "read SEQUENCE"),
            ("SELECT SETVAL(s, 5)", "read SEQUENCE"),
            ("SELECT PREVIOUS VALUE FOR s", "read LAST_INSERT_ID"),
            ("SELECT LASTVAL(s)", "read LAST_INSERT_ID SEQUENCE"),
            ("INSERT INTO t VALUES (1) RETURNING a", "write INTO"),
            ("ANALYZE SELECT 1", "read"),
            ("ANALYZE FORMAT=JSON UPDATE t SET a=1", "write"),
            ("ANALYZE TABLE t", "administration"),
            (
                "SET STATEMENT max_statement_time=1 FOR SELECT 1",
                "set_statement",
            ),
            ("SELECT * FROM t FOR SYSTEM_TIME AS OF f(1)", "read CALLS"),
            ("SELECT columns(1)", "read CALLS"),
            ("SELECT of(1)", "read CALLS"),
            ("BACKUP STAGE START", "lock_tables"),
        ],
        MARIADB,
    );
}

#[test]
fn modes_and_character_sets() {
    let mut ansi = MYSQL;
    ansi.mode.ansi_quotes = true;
    check(
        &[
            ("SELECT \"a\\\" FROM t", "read"),
            ("SELECT \"f\"(1)", "read CALLS"),
            ("SELECT @\"a\\\"", "read USER_VARIABLE"),
        ],
        ansi,
    );
    let mut plain = MYSQL;
    plain.mode.no_backslash_escapes = true;
    check(
        &[
            ("SELECT 'a\\'; DELETE FROM t; -- '", "multi"),
            ("SELECT 'a\\' FROM t", "read"),
        ],
        plain,
    );
    let mut unknown = MYSQL;
    unknown.mode = SqlMode::UNKNOWN;
    check(&[("SELECT 1", "read ODD")], unknown);
    let mut latin = MYSQL;
    latin.charset = super::super::Charset::AsciiAndMore;
    check(&[("SELECT 'é'", "read"), ("SELECT é", "read ODD")], latin);
    let mut gbk = MYSQL;
    gbk.charset = super::super::Charset::Unsafe;
    check(
        &[
            ("SELECT 1", "read ODD"),
            ("SELECT 'é'", "read HIGH_BYTES ODD"),
        ],
        gbk,
    );
    let mut mixed = MYSQL;
    mixed.oldest = 80_036;
    check(
        &[
            ("SELECT 1 /*!80036 FOR UPDATE */", "locking_read LOCKING"),
            ("SELECT 1 /*!80400 +1 */", "read ODD"),
            ("SELECT 1 /*!99999 +1 */", "read"),
        ],
        mixed,
    );
}

#[test]
fn hints() {
    let hint = |sql: &str| classify(sql.as_bytes(), MYSQL).hint;
    assert_eq!(hint("/* lb:primary */ SELECT 1"), Some(Hint::Primary));
    assert_eq!(hint("SELECT 1 /*LB:Replica*/"), Some(Hint::Replica));
    assert_eq!(
        hint("/* lb:replica *//* lb:primary */ SELECT 1"),
        Some(Hint::Primary)
    );
    assert_eq!(hint("SELECT '/* lb:primary */'"), None);
    assert_eq!(hint("/* lb:primary please */ SELECT 1"), None);
    assert_eq!(hint("-- lb:primary\nSELECT 1"), None);
}

#[test]
fn calls_are_named() {
    let sql = b"SELECT f(1), `a b` . `g`(2), abs(3)";
    let statement = classify(sql, MYSQL);
    let calls: Vec<_> = statement
        .calls()
        .iter()
        .map(|call| call.names(sql))
        .collect();
    let expected = [
        Some((None, &b"f"[..])),
        Some((Some(&b"a b"[..]), &b"g"[..])),
    ];
    assert_eq!(calls, expected);
    assert!(statement.has(Facts::CALLS));
    assert_eq!(statement.class, Class::Read);
}
