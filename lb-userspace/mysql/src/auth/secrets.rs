//! Passwords: how they are held, and the store of those that clients have said.

use std::{collections::HashMap, fmt, sync::Arc};

use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A password. It is overwritten when the last who holds it lets go, and never shown.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// Takes a password over. Whoever made the bytes sees to it that there are no copies.
    #[must_use]
    pub fn new(password: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(password)))
    }

    /// No password.
    #[must_use]
    pub fn empty() -> Self {
        Self::new(Vec::new())
    }

    /// One that nobody has, for a login that is to fail; nothing where the system has no random
    /// numbers.
    #[must_use]
    pub fn nobodys() -> Option<Self> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).ok()?;
        // A zero would end it early, and none is the password of many.
        Some(Self::new(bytes.map(|byte| byte | 0x80).to_vec()))
    }

    /// The password as it was said, which ends with a zero.
    #[must_use]
    pub fn said(payload: &[u8]) -> Self {
        let end = payload.iter().position(|byte| *byte == 0);
        Self::new(payload[..end.unwrap_or(payload.len())].to_vec())
    }

    /// The password.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The password and a zero, as it is said.
    #[must_use]
    pub fn whole(&self) -> Zeroizing<Vec<u8>> {
        let mut whole = Zeroizing::new(Vec::with_capacity(self.0.len() + 1));
        whole.extend_from_slice(&self.0);
        whole.push(0);
        whole
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Secret {
    /// In a time that depends on lengths only.
    fn eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The passwords that clients have said and a server has found right, by user.
///
/// They are in memory only, and no more of them than the store has place for: the one that has not
/// been used for longest gives way, and its user is asked anew.
#[derive(Debug)]
pub struct Secrets {
    by_user: HashMap<Box<[u8]>, Kept>,
    most: usize,
    /// Counts uses, to tell which was the last.
    uses: u64,
}

#[derive(Debug)]
struct Kept {
    secret: Secret,
    last_use: u64,
}

impl Secrets {
    /// An empty store with place for so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            by_user: HashMap::new(),
            most: most.max(1),
            uses: 0,
        }
    }

    /// The user's, if it is known.
    pub fn of(&mut self, user: &[u8]) -> Option<Secret> {
        let kept = self.by_user.get_mut(user)?;
        self.uses += 1;
        kept.last_use = self.uses;
        Some(kept.secret.clone())
    }

    /// A server has let the user in with it.
    pub fn learn(&mut self, user: &[u8], secret: Secret) {
        self.uses += 1;
        if self.by_user.len() >= self.most && !self.by_user.contains_key(user) {
            let oldest = self.by_user.iter().min_by_key(|(_, kept)| kept.last_use);
            if let Some(oldest) = oldest.map(|(user, _)| user.clone()) {
                self.by_user.remove(&oldest);
            }
        }
        let last_use = self.uses;
        self.by_user.insert(user.into(), Kept { secret, last_use });
    }

    /// A server has refused it. One that was learned meanwhile stays.
    pub fn forget(&mut self, user: &[u8], secret: &Secret) {
        if self
            .by_user
            .get(user)
            .is_some_and(|kept| kept.secret == *secret)
        {
            self.by_user.remove(user);
        }
    }

    /// How many are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_user.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_user.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    #[test]
    fn what_a_server_refuses_is_forgotten_and_nothing_else() {
        let mut secrets = Secrets::new(9);
        secrets.learn(b"a", secret("old"));
        assert_eq!(secrets.of(b"a"), Some(secret("old")));
        secrets.learn(b"a", secret("new"));
        secrets.forget(b"a", &secret("old"));
        assert_eq!(secrets.of(b"a"), Some(secret("new")));
        secrets.forget(b"a", &secret("new"));
        assert_eq!(secrets.of(b"a"), None);
        assert!(secrets.is_empty());
    }

    #[test]
    fn the_one_that_was_not_used_for_longest_gives_way() {
        let mut secrets = Secrets::new(2);
        secrets.learn(b"a", secret("1"));
        secrets.learn(b"b", secret("2"));
        secrets.of(b"a").unwrap();
        secrets.learn(b"c", secret("3"));
        assert_eq!(secrets.of(b"b"), None);
        secrets.learn(b"a", secret("4"));
        assert_eq!((secrets.of(b"a"), secrets.len()), (Some(secret("4")), 2));
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", secret("x")), "Secret");
        assert_eq!(*secret("x").whole(), b"x\0");
        assert_eq!(Secret::said(b"x\0y"), secret("x"));
        assert!(Secret::empty().is_empty() && !secret("x").is_empty());
        let nobodys = Secret::nobodys().unwrap();
        assert_ne!(nobodys, Secret::nobodys().unwrap());
        assert!(!nobodys.expose().contains(&0));
    }
}
