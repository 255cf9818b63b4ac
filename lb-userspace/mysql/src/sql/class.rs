//! What kinds of statements there are.

macro_rules! classes {
    ($($variant:ident $label:literal $explanation:literal)*) => {
        /// What a statement is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Class { $(#[doc = $explanation] $variant,)* }

        impl Class {
            /// All of them.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// Its stable name.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// One sentence for the reference.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation,)* }
            }
        }
    };
}

classes! {
    Read "read" "Reads rows or metadata and changes nothing, as far as its text says: SELECT, WITH, TABLE, VALUES, DESCRIBE, EXPLAIN of such, HELP, CHECKSUM, SHOW of what is the same on all servers."
    LockingRead "locking_read" "A SELECT that locks what it reads: FOR UPDATE, FOR SHARE, LOCK IN SHARE MODE."
    SelectInto "select_into" "A SELECT into a file or into variables."
    Write "write" "Changes rows: INSERT, UPDATE, DELETE, REPLACE, LOAD DATA, EXPLAIN of such; or what has a word of such where it is not quoted."
    Ddl "ddl" "Changes schemas, accounts or other metadata: CREATE, ALTER, DROP, RENAME, TRUNCATE, GRANT, REVOKE and others."
    Begin "begin" "Begins a transaction: BEGIN, START TRANSACTION."
    Commit "commit" "Ends a transaction: COMMIT."
    Rollback "rollback" "Ends a transaction: ROLLBACK."
    Savepoint "savepoint" "SAVEPOINT, ROLLBACK TO, RELEASE SAVEPOINT."
    SetTransaction "set_transaction" "SET TRANSACTION without SESSION or GLOBAL, for the next transaction alone."
    Set "set" "Changes variables of the session: SET, SET NAMES, SET CHARACTER SET, SET ROLE."
    SetGlobal "set_global" "Changes something of the server's: SET GLOBAL, SET PERSIST, SET PASSWORD and others; nothing of the session's."
    SetStatement "set_statement" "MariaDB's SET STATEMENT … FOR."
    Use "use" "Another default schema."
    ShowServer "show_server" "SHOW of what is a server's own: processes, status, variables, logs, replication, engines."
    Diagnostics "diagnostics" "Is about the last statement: SHOW WARNINGS, SHOW ERRORS, GET DIAGNOSTICS."
    Prepare "prepare" "PREPARE from a text."
    Execute "execute" "EXECUTE of a prepared text."
    ExecuteImmediate "execute_immediate" "MariaDB's EXECUTE IMMEDIATE."
    Deallocate "deallocate" "DEALLOCATE PREPARE, DROP PREPARE."
    Call "call" "CALL of a procedure, which may do anything."
    Do "do" "DO: expressions without a result."
    Handler "handler" "HANDLER, which reads a table by a cursor of the connection."
    LockTables "lock_tables" "LOCK TABLES, LOCK INSTANCE, BACKUP."
    UnlockTables "unlock_tables" "UNLOCK TABLES, UNLOCK INSTANCE."
    Flush "flush" "FLUSH, with or without a lock."
    Xa "xa" "A distributed transaction: XA."
    Kill "kill" "KILL of a connection or of its statement."
    Administration "administration" "Is done to a server: ANALYZE TABLE, OPTIMIZE, RESET, PURGE, START REPLICA, SHUTDOWN and others."
    Compound "compound" "MariaDB's compound statements outside of procedures: BEGIN NOT ATOMIC, IF, LOOP and others, which may do anything."
    Multi "multi" "Several statements in one text."
    Empty "empty" "Nothing, or comments alone."
    Unknown "unknown" "Begins with a word that begins no statement known here."
}
