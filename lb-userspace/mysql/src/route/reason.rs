//! Where a statement goes, and why.

/// Where a statement goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// To the primary.
    Primary,
    /// To a replica.
    Replica,
    /// To the primary now, and kept, to be done on a replica before the session uses it.
    Both,
    /// To no server: the proxy answers.
    Proxy,
}

impl Target {
    /// Its stable name.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Both => "both",
            Self::Proxy => "proxy",
        }
    }
}

macro_rules! reasons {
    ($($variant:ident $label:literal $explanation:literal)*) => {
        /// Why a statement goes where it goes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $(#[doc = $explanation] $variant,)* }

        impl Reason {
            /// All of them.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// Its stable name, for metrics and status.
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

reasons! {
    Read "read" "It is a read: to a replica."
    NoReplica "no_replica" "It is a read, but no replica may get reads now: to the primary."
    Hint "hint" "A comment `/* lb:primary */` or `/* lb:replica */`, or `SET @lb_route`, asks for it. A hint to a replica moves reads alone."
    ReadOnlyTransaction "read_only_transaction" "It begins a transaction that is READ ONLY, or reads in one: to a replica, the same until it ends."
    InTransaction "in_transaction" "A transaction is open, and all its statements go to one server."
    AutocommitOff "autocommit_off" "`autocommit` is 0, so that every statement is part of a transaction: to the primary."
    Begin "begin" "It begins a transaction that may write: to the primary."
    TransactionControl "transaction_control" "COMMIT, ROLLBACK or SAVEPOINT without a transaction: to the primary, where it does what it always does."
    NextTransaction "next_transaction" "SET TRANSACTION: the proxy keeps it and sends it in front of the next transaction, to that one's server. Where that cannot be, the primary gets it and what follows."
    Write "write" "It changes rows: to the primary."
    Ddl "ddl" "It changes schemas or accounts: to the primary."
    Administration "administration" "It is done to a server: to the primary."
    SetGlobal "set_global" "It changes something of the server's and nothing of the session's: to the primary."
    SetStatement "set_statement" "MariaDB's SET STATEMENT: to the primary."
    SessionState "session_state" "It changes the session (SET, USE): to the primary, and kept for the other server."
    RouteVariable "route_variable" "`SET @lb_route`: the proxy takes note."
    Tracker "tracker" "SET of `session_track_…` alone: the proxy answers, as it needs the servers' trackers itself."
    LockingRead "locking_read" "It locks what it reads: to the primary."
    Into "into" "SELECT … INTO a file or variables: to the primary."
    AssignsVariable "assigns_variable" "It assigns to a user variable while it reads: to the primary, where the session then stays."
    Call "call" "A procedure may do anything: to the primary."
    UnknownFunction "unknown_function" "It calls a function that is neither the servers' own nor known to read: to the primary."
    Do "do" "DO is made for side effects: to the primary."
    UserLock "user_lock" "It takes, releases or asks for a user lock (GET_LOCK): to the primary."
    Sequence "sequence" "It takes the next value of a sequence: to the primary."
    LastInsertId "last_insert_id" "It asks for the last generated id, which the primary knows."
    LastStatement "last_statement" "It asks about the statement before (ROW_COUNT, FOUND_ROWS, warnings): to that one's connection."
    SystemVariable "system_variable" "It reads a system variable, which may differ between servers: to the primary. The ones that say which server it is (`hostname`, `port`, `server_id`, `server_uuid`) are read where other reads go."
    ServerState "server_state" "It reads what every server has of its own (processes, status, variables, performance_schema): to the primary."
    WaitsForReplication "waits_for_replication" "It waits for replication, which an application does at the server that it knows: the primary."
    Handler "handler" "HANDLER reads by a cursor of the connection: to the primary."
    LockTables "lock_tables" "LOCK or UNLOCK TABLES: to the primary."
    Xa "xa" "A distributed transaction: to the primary."
    Kill "kill" "KILL names a connection of the proxy's; the proxy finds the server's."
    PreparedText "prepared_text" "PREPARE or DEALLOCATE: to the primary, and kept for the other server where what it prepares is a read."
    UnknownPrepared "unknown_prepared" "EXECUTE of something whose text is not known: to the primary."
    PreparedElsewhere "prepared_elsewhere" "EXECUTE of a read that was prepared with another default schema, mode or character set: to the primary, where it is."
    MultiStatement "multi_statement" "Several statements in one text: to the primary."
    Compound "compound" "A compound statement may do anything: to the primary."
    Empty "empty" "There is no statement: to the primary, for its answer."
    UnknownStatement "unknown_statement" "It begins with a word that begins no statement known here: to the primary."
    NotUnderstood "not_understood" "It has something on which servers may not agree, or a quote or comment that never ends: to the primary."
    SqlMode "sql_mode" "The session's `sql_mode` makes another language of it, or is not known: to the primary."
    CharacterSet "character_set" "In the client's character set a character may look like a quote (GBK, SJIS, Big5 and others): to the primary."
    PinnedTemporaryTable "pinned_temporary_table" "The session has a temporary table, which only the primary knows."
    PinnedTableLock "pinned_table_lock" "The session has locked tables."
    PinnedUserLock "pinned_user_lock" "The session may hold a user lock."
    PinnedHandler "pinned_handler" "The session has a HANDLER open."
    PinnedXa "pinned_xa" "The session is in a distributed transaction."
    PinnedCursor "pinned_cursor" "The session has a cursor open on the primary that may not be left."
    PinnedUserVariable "pinned_user_variable" "The session has a user variable whose value only the primary knows."
    PinnedSessionVariable "pinned_session_variable" "The session has a system variable whose value could not be carried over."
    PinnedUnknownState "pinned_unknown_state" "A procedure or a text that was not understood may have changed the session in ways that nobody told of."
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The labels are a promise to whoever has them in a dashboard.
    #[test]
    fn labels_are_stable_and_told_apart() {
        let mut labels: Vec<&str> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        let table = labels.join("\n") + "\n";
        assert_eq!(table, include_str!("reasons.txt"));
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(reason.explanation().ends_with('.'), "{}", reason.label());
        }
    }
}
