use proptest::prelude::*;

use super::*;
use crate::cluster::wire::{Datagram, datagram};

fn peers() -> (Peer, Peer) {
    let key = Arc::new(Key::new(&[b'k'; 32]));
    (Peer::new(Arc::clone(&key)), Peer::new(key))
}

fn hear(peer: &mut Peer, bytes: &[u8], now: Instant) -> Result<Greeted, Refused> {
    match datagram(bytes) {
        Ok(Datagram::Hello(hello, signed, code)) => peer.on_hello(hello, (signed, code), now),
        _ => Err(Refused::Malformed),
    }
}

fn open(peer: &mut Peer, bytes: &[u8], now: Instant) -> Result<Vec<u8>, Refused> {
    let mut bytes = bytes.to_vec();
    match datagram(&bytes.clone()) {
        Ok(Datagram::Sealed(head)) => peer.open(&head, &mut bytes, now).map(<[u8]>::to_vec),
        _ => Err(Refused::Malformed),
    }
}

/// Lets both talk until neither has anything to say. Returns all that was said.
fn meet(one: &mut Peer, two: &mut Peer, now: Instant) -> Vec<Vec<u8>> {
    let mut said = Vec::new();
    let mut queue: Vec<(bool, Vec<u8>)> = one.greet(now).into_iter().map(|m| (true, m)).collect();
    queue.extend(two.greet(now).map(|message| (false, message)));
    while let Some((to_two, message)) = queue.pop() {
        let hearer = if to_two { &mut *two } else { &mut *one };
        if let Ok(Greeted {
            answer: Some(answer),
            ..
        }) = hear(hearer, &message, now)
        {
            queue.push((!to_two, answer));
        }
        said.push(message);
        assert!(said.len() < 20, "they never stop");
    }
    said
}

#[test]
fn two_peers_meet_and_talk() {
    let (mut one, mut two) = peers();
    let now = Instant::now();
    meet(&mut one, &mut two, now);
    assert!(one.is_up() && two.is_up());
    let sealed = one.seal(b"flows").unwrap();
    assert_eq!(open(&mut two, &sealed, now), Ok(b"flows".to_vec()));
    assert_eq!(open(&mut two, &sealed, now), Err(Refused::Replayed));
    let sealed = two.seal(b"more").unwrap();
    assert_eq!(open(&mut one, &sealed, now), Ok(b"more".to_vec()));
}

#[test]
fn who_starts_anew_is_met_again_and_old_messages_open_nothing() {
    let (mut one, mut two) = peers();
    let now = Instant::now();
    let said = meet(&mut one, &mut two, now);
    let old = one.seal(b"old").unwrap();
    let (anew, _) = peers();
    let mut one = anew;
    let later = now + Duration::from_secs(1);
    meet(&mut one, &mut two, later);
    let sealed = one.seal(b"new").unwrap();
    assert_eq!(open(&mut two, &sealed, later), Ok(b"new".to_vec()));
    assert_eq!(open(&mut two, &old, later), Err(Refused::UnknownSession));
    // All that was ever said, again: the session stays.
    let much_later = later + Duration::from_secs(1);
    for message in &said {
        if let Ok(greeted) = hear(&mut two, message, much_later) {
            assert!(!greeted.is_new);
        }
    }
    let sealed = one.seal(b"still").unwrap();
    assert_eq!(open(&mut two, &sealed, much_later), Ok(b"still".to_vec()));
}

#[test]
fn what_is_sent_back_begins_nothing() {
    let (mut one, _) = peers();
    let now = Instant::now();
    let hello = one.greet(now).unwrap();
    assert_eq!(hear(&mut one, &hello, now).unwrap_err(), Refused::Replayed);
    assert!(!one.is_up());
}

#[test]
fn another_key_is_refused() {
    let (mut one, _) = peers();
    let mut stranger = Peer::new(Arc::new(Key::new(&[b'x'; 32])));
    let now = Instant::now();
    let hello = stranger.greet(now).unwrap();
    assert_eq!(hear(&mut one, &hello, now).unwrap_err(), Refused::Forged);
}

#[test]
fn silence_ends_a_session() {
    let (mut one, mut two) = peers();
    let now = Instant::now();
    meet(&mut one, &mut two, now);
    assert!(!one.tire(now + Duration::from_secs(2)));
    assert!(one.tire(now + SILENCE));
    assert!(!one.is_up() && one.greet(now + SILENCE).is_some());
    assert!(one.greet(now + SILENCE).is_none(), "not again at once");
}

proptest! {
    #[test]
    fn a_message_that_was_touched_opens_nothing(at in 0usize..60, bit in 0u8..8, cut in 0usize..60) {
        let (mut one, mut two) = peers();
        let now = Instant::now();
        meet(&mut one, &mut two, now);
        let sealed = one.seal(b"twenty bytes of flow").unwrap();
        let mut touched = sealed.clone();
        touched[at] ^= 1 << bit;
        prop_assert!(open(&mut two, &touched, now).is_err());
        if cut > 0 {
            prop_assert!(open(&mut two, &sealed[..sealed.len() - cut], now).is_err());
        }
        prop_assert!(open(&mut two, &sealed, now).is_ok());
    }
}
