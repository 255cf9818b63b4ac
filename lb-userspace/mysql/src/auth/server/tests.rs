use proptest::prelude::*;

use super::*;
use crate::auth::{client, rsa};

const NATIVE: Option<&[u8]> = Some(b"mysql_native_password");
const CACHING: Option<&[u8]> = Some(b"caching_sha2_password");

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn nonces() -> (Nonce, Nonce) {
    (Nonce::from_bytes([7; 20]), Nonce::from_bytes([8; 20]))
}

fn login(channel: Channel, known: Option<&str>, is_listed: bool) -> Login {
    let (greeted, next) = nonces();
    let secret = known.map(secret);
    Login::new(channel, greeted, next, Known { secret, is_listed })
}

fn claim(text: &str, basis: Basis) -> Action {
    let secret = secret(text);
    Action::Judge(Claim { secret, basis })
}

/// One for all tests, as it takes its time.
fn pair() -> &'static KeyPair {
    static PAIR: std::sync::LazyLock<KeyPair> =
        std::sync::LazyLock::new(|| KeyPair::generate().unwrap());
    &PAIR
}

/// Both halves against each other, as far as the claim.
fn met(
    mut login: Login,
    begins: fn(&mut Login, Option<&[u8]>, &[u8]) -> Action,
    password: &str,
    plugin: Option<Plugin>,
) -> Action {
    let mut client = client::Login::new(secret(password), login.channel);
    let name = plugin.map(Plugin::name);
    let (greeted, _) = nonces();
    let first = client
        .begin(name.unwrap_or_default().as_bytes(), greeted.bytes())
        .unwrap();
    let mut action = begins(&mut login, name.map(str::as_bytes), &first.proof);
    loop {
        action = match action {
            Action::Send(payload) => {
                let client::Action::Send(answer) = client.feed(&payload).unwrap() else {
                    panic!("no answer to {payload:?}");
                };
                login.feed(&answer)
            }
            Action::Key => login.key(pair().public()),
            Action::Unseal(sealed) => login.unsealed(sealed.open(pair())),
            Action::Judge(_) | Action::Refuse(_) => return action,
        };
    }
}

#[test]
fn an_unknown_password_is_said_and_a_known_one_proved() {
    for channel in [Channel::Plain, Channel::Tls, Channel::Socket] {
        for plugin in [Plugin::CachingSha2, Plugin::Native] {
            let proved = Basis::Proved(plugin);
            let plugin = Some(plugin);
            let first = met(login(channel, None, false), Login::begin, "word", plugin);
            assert_eq!(first, claim("word", Basis::Said), "{channel:?} {plugin:?}");
            let known = login(channel, Some("word"), false);
            let second = met(known, Login::begin, "word", plugin);
            assert_eq!(second, claim("word", proved), "{channel:?} {plugin:?}");
            // The password has changed on the server, or the client is wrong: a server will say.
            let known = login(channel, Some("old"), false);
            let changed = met(known, Login::begin, "word", plugin);
            assert_eq!(
                changed,
                claim("word", Basis::Said),
                "{channel:?} {plugin:?}"
            );
        }
    }
}

#[test]
fn a_change_of_the_user_is_a_login_by_another_nonce() {
    for channel in [Channel::Plain, Channel::Tls] {
        let plugin = Some(Plugin::CachingSha2);
        let first = met(
            login(channel, None, false),
            Login::begin_again,
            "word",
            plugin,
        );
        assert_eq!(first, claim("word", Basis::Said));
        let known = login(channel, Some("word"), false);
        let second = met(known, Login::begin_again, "word", plugin);
        assert_eq!(second, claim("word", Basis::Proved(Plugin::CachingSha2)));
        let listed = login(channel, Some("word"), true);
        let third = met(listed, Login::begin_again, "word", Some(Plugin::Native));
        assert_eq!(third, claim("word", Basis::Proved(Plugin::Native)));
    }
}

#[test]
fn whoever_scrambles_by_the_nonce_it_had_is_asked_with_that_one_again() {
    let (had, next) = nonces();
    let proof = scramble::native(b"word", had.bytes());
    for (is_listed, proof, expected) in [
        (true, &proof[..], had),
        (true, b"", had),
        (false, &proof, had),
        (false, &[1; 20], next),
    ] {
        let mut login = login(Channel::Plain, Some("word"), is_listed);
        let Action::Send(asked) = login.begin_again(NATIVE, proof) else {
            panic!("not asked");
        };
        assert!(asked.ends_with(&[expected.bytes(), &[0][..]].concat()));
        assert_eq!(login.nonce(), expected);
    }
}

#[test]
fn only_after_a_scramble_a_client_waits_for_more_before_ok() {
    let known = login(Channel::Tls, Some("word"), false);
    let Action::Judge(claim) = met(known, Login::begin, "word", Some(Plugin::CachingSha2)) else {
        panic!("no claim");
    };
    assert_eq!(claim.before_ok(), Some(&[1, 3][..]));
    for basis in [
        Basis::Said,
        Basis::Empty,
        Basis::Wrong,
        Basis::Proved(Plugin::Native),
    ] {
        let claim = Claim {
            basis,
            ..claim.clone()
        };
        assert_eq!(claim.before_ok(), None);
    }
}

#[test]
fn a_listed_user_may_have_an_old_client() {
    for plugin in [Some(Plugin::Native), None] {
        let listed = login(Channel::Plain, Some("word"), true);
        let right = met(listed, Login::begin, "word", plugin);
        assert_eq!(
            right,
            claim("word", Basis::Proved(Plugin::Native)),
            "{plugin:?}"
        );
        let listed = login(Channel::Plain, Some("word"), true);
        let Action::Judge(wrong) = met(listed, Login::begin, "other", plugin) else {
            panic!("no claim");
        };
        // The server's own error is what the client gets.
        assert_eq!(wrong.basis, Basis::Wrong);
        assert!(!["word", "other"].map(secret).contains(&wrong.secret));
    }
    let unlisted = met(
        login(Channel::Plain, Some("word"), false),
        Login::begin,
        "word",
        None,
    );
    assert!(matches!(unlisted, Action::Refuse(error) if error.code == 1251));
}

#[test]
fn no_password_is_a_claim_too() {
    for proof in [&b""[..], &[0]] {
        let mut login = login(Channel::Plain, Some("word"), true);
        assert_eq!(login.begin(CACHING, proof), claim("", Basis::Empty));
    }
    // By a plugin that was not greeted with it is none yet.
    for (is_listed, next) in [(true, Plugin::Native), (false, Plugin::CachingSha2)] {
        let mut login = login(Channel::Plain, Some("word"), is_listed);
        let Action::Send(payload) = login.begin(NATIVE, b"") else {
            panic!("a claim");
        };
        assert!(
            payload[1..].starts_with(next.name().as_bytes()),
            "{payload:?}"
        );
        assert_eq!(login.feed(b""), claim("", Basis::Empty));
    }
    let mut old = login(Channel::Plain, None, false);
    assert_eq!(old.begin(None, b""), claim("", Basis::Empty));
    let mut login = login(Channel::Tls, None, false);
    assert!(matches!(login.begin(CACHING, &[1; 32]), Action::Send(_)));
    assert_eq!(login.feed(b"\0"), claim("", Basis::Empty));
}

#[test]
fn nobody_is_asked_for_the_password_as_it_is_without_tls() {
    let clear = Some(&b"mysql_clear_password"[..]);
    let mut private = login(Channel::Tls, None, false);
    assert_eq!(private.begin(clear, b"word\0"), claim("word", Basis::Said));
    let mut plain = login(Channel::Plain, None, false);
    let Action::Send(payload) = plain.begin(clear, b"word\0") else {
        panic!("taken");
    };
    assert!(payload.starts_with(b"\xfecaching_sha2_password\0"));
    // What such a client says now is no scramble, and it is not heard either.
    assert_eq!(plain.feed(b"word\0"), Action::Send(vec![1, 4]));
    let Action::Unseal(sealed) = plain.feed(b"word\0") else {
        panic!("taken");
    };
    let secret = sealed.open(pair()).unwrap();
    assert_eq!(secret.expose().len(), 32);
}

#[test]
fn what_is_sealed_for_another_login_is_nobodys() {
    let pem = pair().public().pem();
    let other = rsa::seal(b"word", &[9; 20], pem.as_bytes()).unwrap();
    let mut login = login(Channel::Plain, None, false);
    login.begin(CACHING, &[1; 32]);
    assert_eq!(login.feed(&[WANTS_KEY]), Action::Key);
    let Action::Unseal(sealed) = login.feed(&other) else {
        panic!("no password");
    };
    assert_ne!(sealed.open(pair()), Some(secret("word")));
    let Action::Refuse(error) = login.feed(&other) else {
        panic!("twice");
    };
    assert_eq!(error.code, 1043);
}

proptest! {
    #[test]
    fn a_client_that_says_anything_is_no_panic_and_has_an_end(
        plugin in proptest::option::of(proptest::sample::select(vec![
            "caching_sha2_password", "mysql_native_password", "mysql_clear_password", "other"
        ])),
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 6),
        known: bool, is_listed: bool, again: bool, tls: bool
    ) {
        let channel = if tls { Channel::Tls } else { Channel::Plain };
        let mut login = login(channel, known.then_some("word"), is_listed);
        let plugin = plugin.map(str::as_bytes);
        let mut action = if again {
            login.begin_again(plugin, &payloads[0])
        } else {
            login.begin(plugin, &payloads[0])
        };
        for payload in &payloads[1..] {
            if matches!(action, Action::Judge(_) | Action::Refuse(_)) {
                break;
            }
            action = login.feed(payload);
            // Guessing does not get anyone in.
            if let Action::Judge(claim) = &action {
                prop_assert!(!matches!(claim.basis, Basis::Proved(_)));
            }
        }
        prop_assert!(matches!(action, Action::Judge(_) | Action::Refuse(_) | Action::Unseal(_)));
    }
}
