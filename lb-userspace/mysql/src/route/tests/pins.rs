//! What keeps a session at the primary, and until when.

use super::{MARIADB, MYSQL, check};

const SEQUENCES: &[(&[&str], &[&str])] = &[
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
