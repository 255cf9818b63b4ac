//! One peer: how a session with it begins, and what is sealed in it. Pure: no socket and no clock.
//!
//! Each side has a random number ready. Who has no session sends a hello with its own; whoever gets
//! one answers with the number it got and its own. A hello that names the number that is ready here
//! was made for it, and by somebody with the key, and so begins a session; then there is a new number
//! ready. So what was recorded of another session, or of this host before it started anew, begins
//! nothing and opens nothing: the keys are made of both numbers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ring::{
    aead::{Aad, Nonce},
    rand::{SecureRandom as _, SystemRandom},
};
use zerocopy::IntoBytes as _;

use super::{
    key::{Key, Keys},
    tally::Refused,
    window::Window,
    wire::{Hello, MAC, NONCE, SEALED_HEAD, SealedHead},
};

/// A peer that was not heard of for that long is gone.
pub(super) const SILENCE: Duration = Duration::from_secs(3);
/// How often a peer is greeted that there is no session with.
const GREET_EVERY: Duration = Duration::from_millis(500);
/// How often a hello that begins nothing is answered.
const ANSWER_EVERY: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Peer {
    key: Arc<Key>,
    ready: [u8; NONCE],
    session: Option<Session>,
    greeted: Option<Instant>,
    answered: Option<Instant>,
}

struct Session {
    keys: Keys,
    own: [u8; NONCE],
    theirs: [u8; NONCE],
    sent: u64,
    window: Window,
    heard: Instant,
}

/// What came of a hello.
#[derive(Debug, Default)]
pub(super) struct Greeted {
    /// To be sent back.
    pub(super) answer: Option<Vec<u8>>,
    /// There is a new session.
    pub(super) is_new: bool,
}

impl Peer {
    pub(super) fn new(key: Arc<Key>) -> Self {
        Self {
            key,
            ready: random(),
            session: None,
            greeted: None,
            answered: None,
        }
    }

    /// Whether there is a session.
    pub(super) const fn is_up(&self) -> bool {
        self.session.is_some()
    }

    /// Ends a session in which nothing was heard, and says whether there was one.
    pub(super) fn tire(&mut self, now: Instant) -> bool {
        let is_silent = |session: &Session| now.duration_since(session.heard) >= SILENCE;
        let ends = self.session.as_ref().is_some_and(is_silent);
        if ends {
            self.session = None;
        }
        ends
    }

    /// A hello, if it is time for one.
    pub(super) fn greet(&mut self, now: Instant) -> Option<Vec<u8>> {
        let is_due = |at: Instant| now.duration_since(at) >= GREET_EVERY;
        if self.is_up() || !self.greeted.is_none_or(is_due) {
            return None;
        }
        self.greeted = Some(now);
        Some(self.hello(self.ready, [0; NONCE]))
    }

    fn hello(&self, own: [u8; NONCE], yours: [u8; NONCE]) -> Vec<u8> {
        Hello { own, yours }.bytes(|bytes| self.key.sign(bytes))
    }

    /// Takes in a hello.
    pub(super) fn on_hello(
        &mut self,
        hello: Hello,
        (signed, code): (&[u8], &[u8; MAC]),
        now: Instant,
    ) -> Result<Greeted, Refused> {
        if !self.key.is_signed(signed, code) {
            return Err(Refused::Forged);
        }
        let is_own = |number: &[u8; NONCE]| {
            *number == self.ready || self.session.as_ref().is_some_and(|one| *number == one.own)
        };
        // Somebody sent back what came from here.
        if is_own(&hello.own) {
            return Err(Refused::Replayed);
        }
        if let Some(session) = &self.session
            && session.theirs == hello.own
            && session.own == hello.yours
        {
            // The answer to the answer.
            return Ok(Greeted::default());
        }
        if hello.yours == self.ready {
            let own = std::mem::replace(&mut self.ready, random());
            self.session = Some(Session {
                keys: self.key.keys(&own, &hello.own),
                own,
                theirs: hello.own,
                sent: 0,
                window: Window::default(),
                heard: now,
            });
            return Ok(Greeted {
                answer: Some(self.hello(own, hello.own)),
                is_new: true,
            });
        }
        let is_due = |at: Instant| now.duration_since(at) >= ANSWER_EVERY;
        if !self.answered.is_none_or(is_due) {
            return Err(Refused::Throttled);
        }
        self.answered = Some(now);
        Ok(Greeted {
            answer: Some(self.hello(self.ready, hello.own)),
            is_new: false,
        })
    }

    /// Seals a message; `None` without a session.
    pub(super) fn seal(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let session = self.session.as_mut()?;
        session.sent += 1;
        let head = SealedHead::new(session.keys.session, session.sent);
        let mut bytes = Vec::with_capacity(SEALED_HEAD + message.len() + 16);
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(message);
        let tag = session
            .keys
            .to_peer
            .seal_in_place_separate_tag(
                nonce(session.sent),
                Aad::from(head.as_bytes()),
                &mut bytes[SEALED_HEAD..],
            )
            .ok()?;
        bytes.extend_from_slice(tag.as_ref());
        Some(bytes)
    }

    /// Whether it may be worth the work to open a message.
    pub(super) fn look_at(&self, head: &SealedHead) -> Result<(), Refused> {
        match &self.session {
            Some(session) if session.keys.session == head.session() => {
                if session.window.is_new(head.number()) {
                    Ok(())
                } else {
                    Err(Refused::Replayed)
                }
            }
            _ => Err(Refused::UnknownSession),
        }
    }

    /// Opens a message in its place.
    pub(super) fn open<'b>(
        &mut self,
        head: &SealedHead,
        bytes: &'b mut [u8],
        now: Instant,
    ) -> Result<&'b [u8], Refused> {
        self.look_at(head)?;
        let session = self.session.as_mut().ok_or(Refused::UnknownSession)?;
        let sealed = bytes.get_mut(SEALED_HEAD..).ok_or(Refused::Malformed)?;
        let opened = session
            .keys
            .from_peer
            .open_in_place(nonce(head.number()), Aad::from(head.as_bytes()), sealed)
            .map_err(|_| Refused::Forged)?;
        session.window.note(head.number());
        session.heard = now;
        Ok(opened)
    }
}

/// Of a message, whose number comes once in a session and direction.
fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn random() -> [u8; NONCE] {
    let mut bytes = [0; NONCE];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("Linux has random numbers");
    bytes
}

#[cfg(test)]
mod tests;
