//! What can go wrong for a client, each with a name that is counted.

macro_rules! troubles {
    ($($variant:ident $label:literal $explanation:literal)*) => {
        /// Why a client or a statement did not get what it wanted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Trouble { $(#[doc = $explanation] $variant,)* }

        impl Trouble {
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

troubles! {
    TooManyConnections "too_many_connections" "A client was refused because `max_connections` were there."
    UserLimit "user_limit" "A client was refused because its user's `max_connections` were there."
    ServerFull "server_full" "A client or a statement waited in vain for a connection to a server whose `max_connections` are in use."
    NoServer "no_server" "A client was refused because no server was reached."
    BadHandshake "bad_handshake" "A client did not log in as the protocol has it."
    Login "login" "A server refused a client's login."
    PacketTooLarge "packet_too_large" "A client's command was longer than the primary's `max_allowed_packet`."
    SlowCommand "slow_command" "A client stopped in the middle of a command, or sent a long one too slowly while others waited for the memory."
    NoMemory "no_memory" "A client's command of more than 64 KiB waited in vain for the memory that such commands share."
    PreparedFull "prepared_full" "A preparation was refused: its session had 16,382 statements or 64 MiB of texts prepared, or all sessions together 512 MiB."
    ClientLost "client_lost" "A client broke off in the middle of something."
    ServerLost "server_lost" "A server was lost in the middle of a statement, and its client was told so."
    Retried "retried" "A server was lost before it answered a read, which another one did."
    NoPrimary "no_primary" "A statement waited for a primary in vain."
    Behind "behind" "A replica did not have in time what a session has written; the primary answered."
    TurnedBack "turned_back" "A replica refused as a write what reads by its words, such as a call of a function that does not say that it writes; the primary ran it."
    PrimaryReadOnly "primary_read_only" "The primary refused a write because somebody had just made it read-only; the statement, which had not begun, waited for the primary that came next."
    StateRefused "state_refused" "A replica did not take over what a session has set; the primary answered."
}
