//! Logs in to a server.
//!
//! [`Login::begin`] gives what the login's first packet ends with (or a
//! [`COM_CHANGE_USER`](crate::wire::change_user) has in it); then every payload that the server
//! sends goes to [`Login::feed`], until it says that the server has decided.

use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::{
    Channel, Plugin, Secret, ed25519,
    parsec::{self, Recipe},
    rsa, scramble,
};
use crate::wire::{Reader, error::ERR, ok::OK};

/// Packets of a login that a server sends at most. More are a loop.
const MOST_STEPS: u8 = 8;
/// A name that nobody knows is shown up to here.
const LONGEST_SHOWN: usize = 64;
/// The first byte of a packet that asks for another plugin.
const SWITCH: u8 = 0xfe;
/// The first byte of a packet with more for the plugin.
const MORE: u8 = 1;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this payload.
    Send(Zeroizing<Vec<u8>>),
    /// Read the next one.
    Read,
    /// The payload is the server's OK.
    Done,
    /// The payload is the server's error, to be passed on as it is.
    Refused,
}

/// Why there is no login. None of these is the server's own error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The account has a plugin that is not known here.
    #[error(
        "the server wants a login by {0}, which lb does not know; let the user have \
         caching_sha2_password, or a plugin of MariaDB's own"
    )]
    UnknownPlugin(String),
    /// The password would have to be said for everyone to hear.
    #[error("the server asks for the password as it is, on a connection without TLS; use TLS")]
    WouldTell,
    /// The server's RSA key is none, or too short for the password.
    #[error(
        "the server has no TLS, and its RSA key cannot encrypt the password; switch its TLS on"
    )]
    BadKey,
    /// What the server says is no login.
    #[error("the server's part of the login is malformed")]
    Malformed,
    /// The system has no random numbers.
    #[error("the system has no random numbers")]
    NoRandom,
}

/// What a login begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct First {
    /// The plugin to name.
    pub plugin: Plugin,
    /// What it says first.
    pub proof: Zeroizing<Vec<u8>>,
}

/// A login in its course.
#[derive(Debug)]
pub struct Login {
    secret: Secret,
    channel: Channel,
    plugin: Plugin,
    nonce: Vec<u8>,
    steps: u8,
    state: State,
}

/// What the server may say next, beside its decision and another plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Whether it knows the password, where the plugin has that.
    Proved,
    /// Its key.
    AskedForKey,
    /// How a key is made from the password.
    AskedForRecipe,
    /// Only its decision.
    Told,
}

impl Login {
    /// With this password, over such a connection.
    #[must_use]
    pub const fn new(secret: Secret, channel: Channel) -> Self {
        Self {
            secret,
            channel,
            plugin: Plugin::Native,
            nonce: Vec::new(),
            steps: 0,
            state: State::Told,
        }
    }

    /// What to say first to a server that greeted with this plugin and nonce. Where the account has
    /// another one, the server says so.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn begin(&mut self, plugin: &[u8], nonce: &[u8]) -> Result<First, Error> {
        let known = Plugin::named(plugin);
        // The others say too much or too little without being asked.
        let plugin = match known {
            Some(plugin @ (Plugin::Native | Plugin::CachingSha2)) => plugin,
            Some(Plugin::Sha256 | Plugin::Clear | Plugin::Ed25519 | Plugin::Parsec) | None => {
                Plugin::Native
            }
        };
        let proof = self.prove(plugin, nonce)?;
        Ok(First { plugin, proof })
    }

    /// Looks at a payload of the server's.
    ///
    /// # Errors
    /// When the login cannot go on; nothing more is to be sent then.
    pub fn feed(&mut self, payload: &[u8]) -> Result<Action, Error> {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            return Err(Error::Malformed);
        }
        match payload.split_first().ok_or(Error::Malformed)? {
            (&OK, _) => Ok(Action::Done),
            (&ERR, _) => Ok(Action::Refused),
            (&SWITCH, data) => self.switch(data),
            (&MORE, data) => self.more(data),
            // MariaDB does without the first byte where no other reading is possible.
            (_, _) if self.state == State::AskedForRecipe => self.more(payload),
            (_, _) => Err(Error::Malformed),
        }
    }

    fn switch(&mut self, data: &[u8]) -> Result<Action, Error> {
        let mut reader = Reader(data);
        // Without a name it is the plugin of before 4.1.
        let name = reader.until_zero().unwrap_or(b"mysql_old_password");
        let plugin = Plugin::named(name).ok_or_else(|| {
            let shown = &name[..name.len().min(LONGEST_SHOWN)];
            Error::UnknownPlugin(String::from_utf8_lossy(shown).escape_debug().to_string())
        })?;
        self.prove(plugin, reader.0).map(Action::Send)
    }

    /// What a login by this plugin begins with.
    fn prove(&mut self, plugin: Plugin, nonce: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.plugin = plugin;
        self.state = State::Told;
        // Those of twenty bytes end with a zero.
        let nonce = match (plugin, nonce) {
            (Plugin::Native | Plugin::CachingSha2 | Plugin::Sha256, [nonce @ .., 0]) => nonce,
            (_, nonce) => nonce,
        };
        self.nonce = nonce.to_vec();
        let password = self.secret.expose();
        let proof = match plugin {
            Plugin::Native => scramble::native(password, nonce),
            Plugin::CachingSha2 => {
                self.state = State::Proved;
                scramble::caching_sha2(password, nonce)
            }
            Plugin::Sha256 if self.secret.is_empty() => vec![0],
            // The Unix socket is not private enough for it.
            Plugin::Sha256 if self.channel == Channel::Tls => return Ok(self.secret.whole()),
            Plugin::Sha256 => {
                self.state = State::AskedForKey;
                vec![1]
            }
            Plugin::Clear if self.channel.is_private() => return Ok(self.secret.whole()),
            Plugin::Clear => return Err(Error::WouldTell),
            Plugin::Ed25519 => {
                let nonce = nonce.first_chunk::<{ ed25519::NONCE }>();
                ed25519::sign(password, nonce.ok_or(Error::Malformed)?).to_vec()
            }
            Plugin::Parsec => {
                self.state = State::AskedForRecipe;
                Vec::new()
            }
        };
        Ok(Zeroizing::new(proof))
    }

    fn more(&mut self, data: &[u8]) -> Result<Action, Error> {
        /// The server knows the password, or does not and has to have it whole.
        const KNOWN: &[u8] = &[3];
        const WANTED: &[u8] = &[4];
        match (self.state, data) {
            (State::Proved, KNOWN) => {
                self.state = State::Told;
                Ok(Action::Read)
            }
            (State::Proved, WANTED) if self.channel.is_private() => {
                self.state = State::Told;
                Ok(Action::Send(self.secret.whole()))
            }
            (State::Proved, WANTED) => {
                self.state = State::AskedForKey;
                Ok(Action::Send(Zeroizing::new(vec![2])))
            }
            (State::AskedForKey, key) => {
                self.state = State::Told;
                let sealed = rsa::seal(self.secret.expose(), &self.nonce, key);
                Ok(Action::Send(Zeroizing::new(sealed.ok_or(Error::BadKey)?)))
            }
            (State::AskedForRecipe, recipe) => {
                self.state = State::Told;
                let recipe = Recipe::read(recipe).ok_or(Error::Malformed)?;
                let server = self.nonce.first_chunk().ok_or(Error::Malformed)?;
                let mut client = [0; parsec::NONCE];
                let filled = SystemRandom::new().fill(&mut client);
                filled.map_err(|_| Error::NoRandom)?;
                let signed = recipe.sign(self.secret.expose(), server, &client);
                Ok(Action::Send(Zeroizing::new(
                    signed.ok_or(Error::Malformed)?,
                )))
            }
            (State::Proved | State::Told, _) => Err(Error::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::scramble::{caching_sha2, native};

    const NONCE: &[u8] = b"abcdefghijklmnopqrst";
    const SWITCHED: &[u8] = b"\xfenative";

    fn login(channel: Channel) -> Login {
        Login::new(Secret::new(b"secret".to_vec()), channel)
    }

    fn send(bytes: &[u8]) -> Result<Action, Error> {
        Ok(Action::Send(Zeroizing::new(bytes.to_vec())))
    }

    fn switch(plugin: &str, data: &[u8]) -> Vec<u8> {
        [&[SWITCH], plugin.as_bytes(), &[0], data].concat()
    }

    #[test]
    fn a_server_that_knows_the_password_lets_in() {
        let mut login = login(Channel::Plain);
        let first = login.begin(b"caching_sha2_password", NONCE).unwrap();
        assert_eq!(first.plugin, Plugin::CachingSha2);
        assert_eq!(*first.proof, caching_sha2(b"secret", NONCE));
        assert_eq!(login.feed(b"\x01\x03"), Ok(Action::Read));
        assert_eq!(login.feed(b"\0\0\0\x02\0\0\0"), Ok(Action::Done));
    }

    #[test]
    fn a_server_that_does_not_gets_it_as_the_channel_allows() {
        for channel in [Channel::Tls, Channel::Socket] {
            let mut login = login(channel);
            login.begin(b"caching_sha2_password", NONCE).unwrap();
            assert_eq!(login.feed(b"\x01\x04"), send(b"secret\0"));
            assert_eq!(login.feed(b"\xff\x15\x04#28000No"), Ok(Action::Refused));
        }
        let mut login = login(Channel::Plain);
        login.begin(b"caching_sha2_password", NONCE).unwrap();
        assert_eq!(login.feed(b"\x01\x04"), send(b"\x02"));
        assert_eq!(login.feed(b"\x01no key"), Err(Error::BadKey));
    }

    #[test]
    fn another_plugin_has_a_nonce_of_its_own() {
        let zero_ended = [b"another nonce, other", &[0][..]].concat();
        let mut login = login(Channel::Plain);
        // An unknown default is no obstacle.
        assert_eq!(
            login.begin(b"unknown", NONCE).unwrap().plugin,
            Plugin::Native
        );
        let expected = native(b"secret", b"another nonce, other");
        assert_eq!(
            login.feed(&switch("mysql_native_password", &zero_ended)),
            send(&expected)
        );
        let expected = ed25519::sign(b"secret", &[0; 32]);
        assert_eq!(
            login.feed(&switch("client_ed25519", &[0; 32])),
            send(&expected)
        );
        assert_eq!(
            login.feed(&switch("sha256_password", &zero_ended)),
            send(b"\x01")
        );
        assert_eq!(login.feed(&switch("parsec", &[0; 32])), send(b""));
        let recipe = [b"P\0", &[7; 18][..]].concat();
        let Ok(Action::Send(signed)) = login.feed(&recipe) else {
            panic!("no signature");
        };
        assert_eq!(signed.len(), 96);
    }

    #[test]
    fn a_password_is_not_told_to_everyone() {
        let clear = switch("mysql_clear_password", b"");
        assert_eq!(login(Channel::Plain).feed(&clear), Err(Error::WouldTell));
        assert_eq!(login(Channel::Tls).feed(&clear), send(b"secret\0"));
        let sha256 = switch("sha256_password", NONCE);
        assert_eq!(login(Channel::Tls).feed(&sha256), send(b"secret\0"));
        assert_eq!(login(Channel::Socket).feed(&sha256), send(b"\x01"));
    }

    #[test]
    fn what_is_not_understood_ends_the_login() {
        let unknown = Error::UnknownPlugin("dia\\nlog".to_owned());
        assert_eq!(
            login(Channel::Tls).feed(&switch("dia\nlog", b"")),
            Err(unknown)
        );
        let old = Error::UnknownPlugin("mysql_old_password".to_owned());
        assert_eq!(login(Channel::Tls).feed(&[SWITCH]), Err(old));
        for payload in [&b""[..], b"\x01\x04", b"\x01", b"\x05", SWITCHED] {
            assert!(login(Channel::Tls).feed(payload).is_err(), "{payload:?}");
        }
        let mut login = login(Channel::Plain);
        let again = switch("mysql_native_password", NONCE);
        for _ in 0..MOST_STEPS {
            assert!(login.feed(&again).is_ok());
        }
        assert_eq!(login.feed(&again), Err(Error::Malformed));
    }

    #[test]
    fn no_password_is_proved_by_nothing() {
        let mut login = Login::new(Secret::empty(), Channel::Plain);
        for plugin in [&b"caching_sha2_password"[..], b"mysql_native_password"] {
            assert_eq!(*login.begin(plugin, NONCE).unwrap().proof, []);
        }
        assert_eq!(login.feed(&switch("sha256_password", NONCE)), send(b"\0"));
    }

    proptest! {
        #[test]
        fn a_server_that_says_anything_is_no_panic(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..12),
            plugin in 0..6_usize
        ) {
            let mut login = login(Channel::Plain);
            let _ = login.feed(&switch(Plugin::ALL[plugin].name(), &[7; 32]));
            for payload in &payloads {
                let _ = login.feed(payload);
            }
        }
    }
}
