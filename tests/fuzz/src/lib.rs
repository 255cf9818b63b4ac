//! Fuzzing: of the engine, and of what reads the bytes of MySQL's clients and servers.
//!
//! A [`Target`] takes an input of any bytes and asks more than "did it panic": see [`oracle`] for
//! the engine, and [`mysql`].

pub mod mysql;
pub mod oracle;
pub mod story;

mod engine;

/// What an input showed, to tell inputs apart: a number for each kind of thing that happened.
pub type Signature = Vec<u32>;

/// The variable of the environment that tells libFuzzer's binary its target.
pub const NAME_OF_TARGET: &str = "LB_FUZZ_TARGET";

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The engine, by frames.
    Engine,
    /// The watch over a server's reply, and packets of clients.
    MysqlReply,
    /// Logins, of clients at the proxy and of the proxy at servers.
    MysqlLogin,
    /// The lexer and the classes of statements.
    MysqlStatement,
    /// Sets of transactions.
    MysqlGtid,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Engine,
        Self::MysqlReply,
        Self::MysqlLogin,
        Self::MysqlStatement,
        Self::MysqlGtid,
    ];

    /// Its name, which is that of the folder of its corpus as well.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::MysqlReply => "mysql-reply",
            Self::MysqlLogin => "mysql-login",
            Self::MysqlStatement => "mysql-statement",
            Self::MysqlGtid => "mysql-gtid",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    /// Plays an input.
    ///
    /// # Errors
    /// What was done wrong.
    pub fn run(self, input: &[u8]) -> Result<Signature, String> {
        let mut signature = match self {
            Self::Engine => engine::run(input),
            Self::MysqlReply => mysql::reply::run(input),
            Self::MysqlLogin => mysql::login::run(input),
            Self::MysqlStatement => mysql::statement::run(input),
            Self::MysqlGtid => mysql::gtid::run(input),
        }?;
        signature.sort_unstable();
        signature.dedup();
        Ok(signature)
    }
}
