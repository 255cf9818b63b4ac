//! Lets a client say who it is.
//!
//! Nobody is let in here. The outcome is a [`Claim`]: the password with which a server is to be
//! asked, whose OK or error the client gets. Even when a client has shown already that it does not
//! know the password, a server is asked, with one that nobody has: its error is the one that the
//! client would see without a proxy.
//!
//! How a client proves itself: by a scramble, where the proxy knows the password (because a client
//! has said it before, or from its config); else by saying it, which `caching_sha2_password` knows
//! how to ask for, over TLS or the Unix socket as it is, else sealed by RSA.

use zeroize::Zeroizing;

use super::{
    Channel, Nonce, Plugin, Secret,
    rsa::{KeyPair, PublicKey},
    scramble,
};
use crate::wire::{error::Refusal, reader::put_zero_ended};

/// The plugin that greetings name.
pub const DEFAULT: Plugin = Plugin::CachingSha2;
/// The client's scramble was right.
const KNOWN: [u8; 2] = [1, 3];
/// The client is to say its password.
const WANTED: [u8; 2] = [1, 4];
/// A client asks for the key.
const WANTS_KEY: u8 = 2;
/// Bytes of a password at most; no server takes that many.
const LONGEST_PASSWORD: usize = 4096;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this payload, and feed the client's answer.
    Send(Vec<u8>),
    /// Call [`Login::key`] with the proxy's key.
    Key,
    /// Call [`Sealed::open`] with the proxy's key pair, and [`Login::unsealed`] with what it gives.
    Unseal(Sealed),
    /// Ask a server.
    Judge(Claim),
    /// Send this error, and close. No server can be asked for a client that cannot say anything.
    Refuse(Refusal<'static>),
}

/// What a client claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// To be tried at a server.
    pub secret: Secret,
    /// What stands behind it.
    pub basis: Basis,
}

impl Claim {
    /// What the client has to get before the server's OK, as a payload.
    #[must_use]
    pub const fn before_ok(&self) -> Option<&'static [u8]> {
        match self.basis {
            Basis::Proved(Plugin::CachingSha2) => Some(&KNOWN),
            Basis::Proved(_) | Basis::Said | Basis::Empty | Basis::Wrong => None,
        }
    }
}

/// What stands behind a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The client has proved by this plugin that it knows the known password. To be forgotten when
    /// a server refuses it.
    Proved(Plugin),
    /// The client has said it. To be remembered when a server takes it.
    Said,
    /// The client says that it has none. There is nothing to be remembered.
    Empty,
    /// The client does not know it; the secret is nobody's.
    Wrong,
}

/// A password that only the owner of the key can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    bytes: Vec<u8>,
    nonce: Nonce,
}

impl Sealed {
    /// Reads it. Takes a millisecond or two, and may be done on another thread.
    #[must_use]
    pub fn open(&self, pair: &KeyPair) -> Option<Secret> {
        pair.unseal(&self.bytes, self.nonce.bytes())
    }
}

/// What the proxy knows of a user.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The user's password: one of the config, or one that was learned.
    pub secret: Option<Secret>,
    /// Whether it is from the config, so that there is no need to ask the client for it, and a
    /// client that knows only `mysql_native_password` can prove itself.
    pub is_listed: bool,
}

/// A client's login in its course.
#[derive(Debug)]
pub struct Login {
    channel: Channel,
    /// Of the scramble that is waited for.
    nonce: Nonce,
    /// Of the next plugin, if there has to be another one.
    next_nonce: Nonce,
    known: Known,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing yet.
    Begun,
    /// A scramble.
    Proof(Plugin),
    /// The password, or a request for the key.
    Password,
    /// The password, sealed.
    Sealed,
    /// Nothing more.
    Ended,
}

impl Login {
    /// Of a client that was told the first nonce. The second is for another plugin.
    #[must_use]
    pub const fn new(channel: Channel, greeted: Nonce, next: Nonce, known: Known) -> Self {
        Self {
            channel,
            nonce: greeted,
            next_nonce: next,
            known,
            state: State::Begun,
        }
    }

    /// The client's first packet says this, by that plugin; without one it is of a time when there
    /// were none.
    pub fn begin(&mut self, plugin: Option<&[u8]>, proof: &[u8]) -> Action {
        let named = plugin.map(Plugin::named);
        match named {
            Some(Some(DEFAULT)) => self.proof(DEFAULT, proof),
            // A client whose plugin is not the greeting's may leave its first word to the next.
            Some(_) if proof.is_empty() => self.begin_again(plugin, proof),
            // It is said already.
            Some(Some(Plugin::Clear)) if self.channel.is_private() => self.said(proof),
            Some(Some(Plugin::Native)) if self.can_be_native(proof) => {
                self.proof(Plugin::Native, proof)
            }
            Some(_) => self.switch(DEFAULT),
            None if self.known.is_listed || proof.is_empty() => self.proof(Plugin::Native, proof),
            None => self.refuse(),
        }
    }

    /// A client on a connection of its own logs in anew, by `COM_CHANGE_USER`; the first of its nonces
    /// is the one that it has proved itself with before. It is asked again, as servers do it; of one
    /// that knows no plugins the packet's proof counts.
    pub fn begin_again(&mut self, plugin: Option<&[u8]>, proof: &[u8]) -> Action {
        match plugin.map(Plugin::named) {
            // MariaDB's clients scramble by the nonce that they had, and look at no other; its servers
            // send that one again.
            Some(Some(Plugin::Native)) if self.can_be_native(proof) => self.ask(Plugin::Native),
            Some(_) => self.switch(DEFAULT),
            None => self.begin(None, proof),
        }
    }

    /// The nonce that the client was told last.
    #[must_use]
    pub const fn nonce(&self) -> Nonce {
        self.nonce
    }

    /// Whether the user is of the config.
    #[must_use]
    pub const fn is_listed(&self) -> bool {
        self.known.is_listed
    }

    /// A payload of the client's.
    pub fn feed(&mut self, payload: &[u8]) -> Action {
        match self.state {
            State::Proof(plugin) => self.proof(plugin, payload),
            State::Password if self.channel.is_private() => self.said(payload),
            State::Password if payload == [WANTS_KEY] => {
                self.state = State::Sealed;
                Action::Key
            }
            // Some clients have the key already.
            State::Password | State::Sealed => {
                self.state = State::Ended;
                Action::Unseal(Sealed {
                    bytes: payload.to_vec(),
                    nonce: self.nonce,
                })
            }
            State::Begun | State::Ended => self.refuse(),
        }
    }

    /// The answer to [`Action::Key`].
    pub fn key(&mut self, key: &PublicKey) -> Action {
        Action::Send([&[1], key.pem().as_bytes()].concat())
    }

    /// What [`Action::Unseal`] has given.
    pub fn unsealed(&mut self, secret: Option<Secret>) -> Action {
        self.judge_or_refuse(secret, Basis::Said)
    }

    /// Whether a scramble of SHA-1 is worth a look: else the client is asked for more.
    fn can_be_native(&self, proof: &[u8]) -> bool {
        let is_right = |secret: &Secret| self.is_right(Plugin::Native, secret, proof);
        self.known.is_listed || self.known.secret.as_ref().is_some_and(is_right)
    }

    fn is_right(&self, plugin: Plugin, secret: &Secret, proof: &[u8]) -> bool {
        let nonce = self.nonce.bytes();
        let right = match plugin {
            Plugin::Native => scramble::native(secret.expose(), nonce),
            Plugin::CachingSha2 => scramble::caching_sha2(secret.expose(), nonce),
            Plugin::Sha256 | Plugin::Clear | Plugin::Ed25519 | Plugin::Parsec => return false,
        };
        !proof.is_empty() && scramble::is_same(&Zeroizing::new(right), proof)
    }

    fn proof(&mut self, plugin: Plugin, proof: &[u8]) -> Action {
        if matches!(proof, [] | [0]) {
            return self.judge(Secret::empty(), Basis::Empty);
        }
        if let Some(secret) = self.known.secret.clone()
            && self.is_right(plugin, &secret, proof)
        {
            return self.judge(secret, Basis::Proved(plugin));
        }
        // A password that was learned may have changed since; servers ask as well.
        if plugin == Plugin::CachingSha2 {
            self.state = State::Password;
            return Action::Send(WANTED.to_vec());
        }
        self.judge_or_refuse(Secret::nobodys(), Basis::Wrong)
    }

    fn said(&mut self, payload: &[u8]) -> Action {
        if payload.len() > LONGEST_PASSWORD {
            return self.refuse();
        }
        let secret = Secret::said(payload);
        let basis = if secret.is_empty() {
            Basis::Empty
        } else {
            Basis::Said
        };
        self.judge(secret, basis)
    }

    fn switch(&mut self, plugin: Plugin) -> Action {
        self.nonce = self.next_nonce;
        self.ask(plugin)
    }

    fn ask(&mut self, plugin: Plugin) -> Action {
        self.state = State::Proof(plugin);
        let mut payload = vec![0xfe];
        put_zero_ended(&mut payload, plugin.name().as_bytes());
        put_zero_ended(&mut payload, self.nonce.bytes());
        Action::Send(payload)
    }

    fn judge(&mut self, secret: Secret, basis: Basis) -> Action {
        self.state = State::Ended;
        Action::Judge(Claim { secret, basis })
    }

    fn judge_or_refuse(&mut self, secret: Option<Secret>, basis: Basis) -> Action {
        match secret {
            Some(secret) => self.judge(secret, basis),
            None => self.refuse(),
        }
    }

    fn refuse(&mut self) -> Action {
        let is_old = self.state == State::Begun;
        self.state = State::Ended;
        Action::Refuse(if is_old {
            crate::wire::response::Refused::TooOld.refusal()
        } else {
            crate::wire::response::Refused::Malformed.refusal()
        })
    }
}

#[cfg(test)]
mod tests;
