//! Transactions: where they run, and what comes after them.

use super::{MARIADB, MYSQL, check};

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
        &["SET @x = 1; SET autocommit = 0", "SELECT 1"],
        &["primary multi_statement", "primary autocommit_off"],
    ),
];

#[test]
fn sequences() {
    check(SEQUENCES, MYSQL);
    check(SEQUENCES, MARIADB);
}
