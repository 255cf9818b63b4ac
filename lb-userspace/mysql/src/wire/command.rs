//! Commands: what a client says once it is logged in.

use super::{Capabilities, Malformed, Reader, query::Query, reply::Expect};

/// A command by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Command {
    /// Internal to servers.
    Sleep = 0,
    /// The end; it has no answer.
    Quit = 1,
    /// The default database.
    InitDatabase = 2,
    /// Statements as text.
    Query = 3,
    /// The columns of a table; of old clients.
    FieldList = 4,
    /// No server knows it any more.
    CreateDatabase = 5,
    /// No server knows it any more.
    DropDatabase = 6,
    /// `FLUSH`.
    Refresh = 7,
    /// The server's end.
    Shutdown = 8,
    /// A line for people.
    Statistics = 9,
    /// `SHOW PROCESSLIST`.
    ProcessInfo = 10,
    /// Internal to servers.
    Connect = 11,
    /// `KILL`.
    ProcessKill = 12,
    /// The server writes into its log.
    Debug = 13,
    /// Is it alive?
    Ping = 14,
    /// Internal to servers.
    Time = 15,
    /// Internal to servers.
    DelayedInsert = 16,
    /// A login anew.
    ChangeUser = 17,
    /// Replication, from a place in a file; without an end.
    BinlogDump = 18,
    /// Replication of long ago.
    TableDump = 19,
    /// Internal to servers.
    ConnectOut = 20,
    /// A replica says who it is.
    RegisterReplica = 21,
    /// Prepares a statement.
    Prepare = 22,
    /// Executes a prepared statement.
    Execute = 23,
    /// A part of a parameter; it has no answer.
    LongData = 24,
    /// Forgets a prepared statement; it has no answer.
    Close = 25,
    /// Forgets long data and the cursor of a prepared statement.
    Reset = 26,
    /// Multi-statements on or off.
    SetOption = 27,
    /// Rows of a cursor.
    Fetch = 28,
    /// Internal to servers.
    Daemon = 29,
    /// Replication, from a set of GTIDs; without an end.
    BinlogDumpGtid = 30,
    /// The session as after a login.
    ResetConnection = 31,
    /// A copy of a server.
    Clone = 32,
    /// Group replication.
    SubscribeGroup = 33,
    /// MariaDB: executes a prepared statement for many rows.
    BulkExecute = 0xfa,
}

impl Command {
    const ALL: [Self; 35] = [
        Self::Sleep,
        Self::Quit,
        Self::InitDatabase,
        Self::Query,
        Self::FieldList,
        Self::CreateDatabase,
        Self::DropDatabase,
        Self::Refresh,
        Self::Shutdown,
        Self::Statistics,
        Self::ProcessInfo,
        Self::Connect,
        Self::ProcessKill,
        Self::Debug,
        Self::Ping,
        Self::Time,
        Self::DelayedInsert,
        Self::ChangeUser,
        Self::BinlogDump,
        Self::TableDump,
        Self::ConnectOut,
        Self::RegisterReplica,
        Self::Prepare,
        Self::Execute,
        Self::LongData,
        Self::Close,
        Self::Reset,
        Self::SetOption,
        Self::Fetch,
        Self::Daemon,
        Self::BinlogDumpGtid,
        Self::ResetConnection,
        Self::Clone,
        Self::SubscribeGroup,
        Self::BulkExecute,
    ];

    /// The command with that first byte. One that nobody knows is answered by servers with error
    /// 1047.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        let command = match byte {
            0xfa => 34,
            other => usize::from(other),
        };
        let found = Self::ALL.get(command).copied();
        found.filter(|found| *found as u8 == byte)
    }

    /// What the server's answer looks like; nothing for those which this proxy does not carry.
    #[must_use]
    pub const fn expects(self) -> Option<Expect> {
        Some(match self {
            Self::Quit | Self::LongData | Self::Close => Expect::Nothing,
            Self::Query | Self::Execute | Self::BulkExecute | Self::ProcessInfo => Expect::Results,
            Self::InitDatabase
            | Self::CreateDatabase
            | Self::DropDatabase
            | Self::Refresh
            | Self::Shutdown
            | Self::ProcessKill
            | Self::Debug
            | Self::Ping
            | Self::RegisterReplica
            | Self::Reset
            | Self::SetOption
            | Self::ResetConnection
            | Self::Sleep
            | Self::Connect
            | Self::Time
            | Self::DelayedInsert
            | Self::ConnectOut
            | Self::Daemon => Expect::Done,
            Self::FieldList => Expect::Columns,
            Self::Statistics => Expect::Text,
            Self::Prepare => Expect::Prepared,
            Self::Fetch => Expect::Rows,
            Self::BinlogDump | Self::BinlogDumpGtid => Expect::Binlog,
            // A dialogue of `auth`.
            Self::ChangeUser => return None,
            Self::TableDump | Self::Clone | Self::SubscribeGroup => return None,
        })
    }

    /// Whether its payload has the id of a prepared statement.
    #[must_use]
    pub const fn has_statement(self) -> bool {
        matches!(
            self,
            Self::Execute
                | Self::LongData
                | Self::Close
                | Self::Reset
                | Self::Fetch
                | Self::BulkExecute
        )
    }
}

/// MariaDB: the statement that was prepared last, whose id the client does not know yet.
pub const LAST_PREPARED: u32 = 0xffff_ffff;
/// Where the id of a prepared statement stands in a payload.
const STATEMENT: std::ops::Range<usize> = 1..5;

/// Puts another id of a prepared statement into a payload of a command that
/// [has one](Command::has_statement), or into a `PREPARE_OK`.
///
/// # Errors
/// When it is too short.
pub fn set_statement(payload: &mut [u8], id: u32) -> Result<(), Malformed> {
    let place = payload.get_mut(STATEMENT).ok_or(Malformed)?;
    place.copy_from_slice(&id.to_le_bytes());
    Ok(())
}

/// A command taken apart as far as its routing needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'p> {
    /// `COM_INIT_DB`: this database.
    InitDatabase(&'p [u8]),
    /// `COM_QUERY`.
    Query(Query<'p>),
    /// `COM_STMT_PREPARE`: this text.
    Prepare(&'p [u8]),
    /// `COM_STMT_EXECUTE` or `COM_STMT_BULK_EXECUTE` of this statement; see
    /// [`super::execute::Execute`].
    Execute(u32),
    /// `COM_STMT_SEND_LONG_DATA`.
    LongData {
        /// Of the statement.
        statement: u32,
        /// Which parameter.
        parameter: u16,
        /// To be appended to it.
        data: &'p [u8],
    },
    /// `COM_STMT_CLOSE`.
    Close(u32),
    /// `COM_STMT_RESET`.
    Reset(u32),
    /// `COM_STMT_FETCH`.
    Fetch {
        /// Of the statement.
        statement: u32,
        /// At most so many.
        rows: u32,
    },
    /// `COM_FIELD_LIST` of this table.
    FieldList {
        /// The table's name.
        table: &'p [u8],
        /// Which columns.
        wildcard: &'p [u8],
    },
    /// `COM_PROCESS_KILL` of this connection.
    ProcessKill(u32),
    /// `COM_SET_OPTION`: whether multi-statements are on.
    MultiStatements(bool),
    /// `COM_SET_OPTION` with something that nobody knows.
    UnknownOption(u16),
    /// Nothing in it that routing could need.
    Other(Command),
    /// No command; servers answer with error 1047.
    Unknown(u8),
}

impl<'p> Request<'p> {
    /// Reads a command from a client with these capabilities.
    ///
    /// # Errors
    /// When it is malformed. Servers answer with error 1835 (MySQL) or 1047 (MariaDB), so that it
    /// is best left to one of them.
    pub fn read(payload: &'p [u8], capabilities: Capabilities) -> Result<Self, Malformed> {
        let (first, rest) = payload.split_first().ok_or(Malformed)?;
        let Some(command) = Command::from_byte(*first) else {
            return Ok(Self::Unknown(*first));
        };
        Self::parse(command, Reader(rest), capabilities).ok_or(Malformed)
    }

    fn parse(command: Command, mut reader: Reader<'p>, client: Capabilities) -> Option<Self> {
        Some(match command {
            Command::InitDatabase => Self::InitDatabase(reader.rest()),
            Command::Query => Self::Query(Query::read(reader.0, client)?),
            Command::Prepare => Self::Prepare(reader.rest()),
            Command::Execute | Command::BulkExecute => Self::Execute(reader.u32()?),
            Command::LongData => Self::LongData {
                statement: reader.u32()?,
                parameter: reader.u16()?,
                data: reader.rest(),
            },
            Command::Close => Self::Close(reader.u32()?),
            Command::Reset => Self::Reset(reader.u32()?),
            Command::Fetch => Self::Fetch {
                statement: reader.u32()?,
                rows: reader.u32()?,
            },
            Command::FieldList => Self::FieldList {
                table: reader.until_zero()?,
                wildcard: reader.rest(),
            },
            Command::ProcessKill => Self::ProcessKill(reader.u32()?),
            Command::SetOption => match reader.u16()? {
                0 => Self::MultiStatements(true),
                1 => Self::MultiStatements(false),
                unknown => Self::UnknownOption(unknown),
            },
            Command::Sleep
            | Command::Quit
            | Command::CreateDatabase
            | Command::DropDatabase
            | Command::Refresh
            | Command::Shutdown
            | Command::Statistics
            | Command::ProcessInfo
            | Command::Connect
            | Command::Debug
            | Command::Ping
            | Command::Time
            | Command::DelayedInsert
            | Command::ChangeUser
            | Command::BinlogDump
            | Command::TableDump
            | Command::ConnectOut
            | Command::RegisterReplica
            | Command::Daemon
            | Command::BinlogDumpGtid
            | Command::ResetConnection
            | Command::Clone
            | Command::SubscribeGroup => Self::Other(command),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(payload: &[u8]) -> Result<Request<'_>, Malformed> {
        Request::read(payload, Capabilities::NONE)
    }

    #[test]
    fn commands_are_found_by_their_byte() {
        for byte in 0..=u8::MAX {
            let command = Command::from_byte(byte);
            assert!(command.is_none_or(|command| command as u8 == byte));
            assert_eq!(command.is_some(), byte <= 33 || byte == 0xfa, "{byte}");
        }
    }

    #[test]
    fn commands_are_taken_apart() {
        for (payload, expected) in [
            (&b"\x02db"[..], Request::InitDatabase(b"db")),
            (b"\x16SELECT ?", Request::Prepare(b"SELECT ?")),
            (b"\x17\x01\0\0\0\0\x01\0\0\0", Request::Execute(1)),
            (b"\xfa\xff\xff\xff\xff\0\0", Request::Execute(LAST_PREPARED)),
            (
                b"\x18\x02\0\0\0\x01\0abc",
                Request::LongData {
                    statement: 2,
                    parameter: 1,
                    data: b"abc",
                },
            ),
            (b"\x19\x03\0\0\0", Request::Close(3)),
            (b"\x1a\x03\0\0\0", Request::Reset(3)),
            (
                b"\x1c\x03\0\0\0\x0a\0\0\0",
                Request::Fetch {
                    statement: 3,
                    rows: 10,
                },
            ),
            (
                b"\x04t\0%",
                Request::FieldList {
                    table: b"t",
                    wildcard: b"%",
                },
            ),
            (b"\x0c\x07\0\0\0", Request::ProcessKill(7)),
            (b"\x1b\0\0", Request::MultiStatements(true)),
            (b"\x1b\x01\0", Request::MultiStatements(false)),
            (b"\x1b\x02\0", Request::UnknownOption(2)),
            (b"\x0e", Request::Other(Command::Ping)),
            (b"\x7f", Request::Unknown(0x7f)),
        ] {
            assert_eq!(read(payload), Ok(expected), "{payload:?}");
        }
        for malformed in [
            &b""[..],
            b"\x17\x01",
            b"\x0c",
            b"\x04t",
            b"\x1b\0",
            b"\x18\0\0\0\0\0",
        ] {
            assert_eq!(read(malformed), Err(Malformed), "{malformed:?}");
        }
    }

    #[test]
    fn a_statement_gets_another_id_in_place() {
        let mut payload = *b"\x17\x01\0\0\0\0\x01\0\0\0";
        set_statement(&mut payload, 0x0102_0304).unwrap();
        assert_eq!(read(&payload), Ok(Request::Execute(0x0102_0304)));
        assert_eq!(set_statement(&mut [0x17, 1, 2, 3], 5), Err(Malformed));
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(first in 0..40_u8, mut payload: Vec<u8>, new: bool) {
            payload.insert(0, first);
            let client = if new { Capabilities(!0) } else { Capabilities::NONE };
            let _ = Request::read(&payload, client);
        }
    }
}
