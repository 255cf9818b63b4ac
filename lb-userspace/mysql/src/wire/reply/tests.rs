mod rows;

use proptest::prelude::*;

use self::rows::*;
use super::*;
use crate::wire::{
    Capabilities, Status,
    packet::{FULL, HEADER, put},
};

const OLD: Capabilities = Capabilities::SESSION_TRACK.with(Capabilities::LOCAL_FILES);
const NEW: Capabilities = OLD.with(Capabilities::DEPRECATE_EOF);

/// What was seen of a reply, in an order that no cut changes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Names of events, each with the bytes that were forwarded before it.
    events: Vec<(String, usize)>,
    /// Everything that a client would have got.
    bytes: Vec<u8>,
    error: Option<Error>,
    is_ended: bool,
}

/// Feeds pieces as a reader would. No more is ever kept than the automaton asks for.
fn watch(
    capabilities: Capabilities,
    expect: Expect,
    stream: &[u8],
    pieces: impl Iterator<Item = usize>,
) -> Seen {
    let mut watch = Watch::new(capabilities);
    watch.begin(expect, 1);
    let mut seen = Seen::default();
    let (mut used, mut end) = (0, 0);
    'pieces: for piece in pieces.chain([stream.len()]) {
        end = (end + piece).min(stream.len());
        loop {
            if watch.is_ended() {
                break 'pieces;
            }
            let kept = &stream[used..end];
            let step = match watch.feed(kept) {
                Ok(step) => step,
                Err(error) => {
                    seen.error = Some(error);
                    break 'pieces;
                }
            };
            used += step.forward;
            if let Some(event) = step.event {
                let mut name = format!("{:?}", event.packet);
                name.truncate(name.find([' ', '(']).unwrap_or(name.len()));
                seen.events.push((name, used));
                used += event.raw.len();
                if let Packet::File(_) = event.packet {
                    watch.file_sent(event.sequence.wrapping_add(3));
                }
            } else {
                assert!(kept.len() - step.forward < HEADER + MOST_OFFERED);
                assert!(
                    step.is_last || step.needs > kept.len() - step.forward,
                    "{step:?}"
                );
                break;
            }
        }
    }
    seen.bytes = stream[..used].to_vec();
    seen.is_ended = watch.is_ended();
    seen
}

/// Packets, the first with sequence id 1.
fn stream(packets: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut sequence = 1;
    packets
        .iter()
        .for_each(|packet| put(&mut out, &mut sequence, packet));
    out
}

/// The packets of a file are the client's, and no server sends them.
fn of_server(row: &Row) -> Vec<u8> {
    let mut all = Vec::new();
    let mut sequence = 1;
    for packet in &row.packets {
        let start = all.len();
        put(&mut all, &mut sequence, packet);
        if row.name == "a file" && [&b"abc"[..], b""].contains(packet) {
            all.truncate(start);
        }
    }
    all
}

#[test]
fn replies_end_where_they_end() {
    for row in rows() {
        let mut bytes = of_server(&row);
        let end = bytes.len();
        bytes.extend_from_slice(b"\x01\0\0");
        let seen = watch(row.capabilities, row.expect, &bytes, [].into_iter());
        let events: Vec<_> = seen.events.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(events, row.events, "{}: {seen:?}", row.name);
        assert_eq!(seen.error, None, "{}", row.name);
        assert!(seen.is_ended, "{}: {seen:?}", row.name);
        assert_eq!(seen.bytes.len(), end, "{}", row.name);
    }
}

#[test]
fn a_byte_at_a_time_gives_the_same() {
    for row in rows() {
        let bytes = of_server(&row);
        let whole = watch(row.capabilities, row.expect, &bytes, [].into_iter());
        let ones = std::iter::repeat_n(1, bytes.len());
        let cut = watch(row.capabilities, row.expect, &bytes, ones);
        assert_eq!(cut, whole, "{}", row.name);
    }
}

#[test]
fn a_row_of_sixteen_mebibytes_is_no_end() {
    // A text of 16 MiB begins as an end does; what follows a full packet is whatever it is.
    let mut text = vec![0xfe];
    text.extend_from_slice(&(FULL as u64).to_le_bytes());
    text.resize(FULL, b'x');
    text.extend_from_slice(b"\xfe\0\0\x02\0\xff");
    let mut exact = text.clone();
    exact.truncate(FULL);
    for (capabilities, end) in [(NEW, END), (OLD, EOF)] {
        let mut packets = vec![&b"\x01"[..], DEFINITION];
        if capabilities == OLD {
            packets.push(EOF);
        }
        packets.extend([&text[..], ROW, &exact, end]);
        let bytes = stream(&packets);
        for pieces in [vec![], vec![50, 1, 1, 1, 1, 1, FULL, 3, 1, 2, 5]] {
            let seen = watch(capabilities, Expect::Results, &bytes, pieces.into_iter());
            assert!(seen.is_ended && seen.error.is_none(), "{:?}", seen.error);
            assert_eq!(seen.events.last().unwrap().0, "Done");
            assert_eq!(seen.bytes.len(), bytes.len());
        }
    }
}

#[test]
fn what_a_server_may_not_say_is_an_error() {
    use Expect::{Prepared, Results};
    for (name, capabilities, expect, packets, error) in [
        (
            "rows of nothing",
            NEW,
            Results,
            &[&b"\0"[..]][..],
            Error::Malformed,
        ),
        ("an empty packet", NEW, Results, &[b""], Error::Malformed),
        (
            "an empty row",
            NEW,
            Results,
            &[b"\x01", DEFINITION, b""],
            Error::Malformed,
        ),
        ("an end first", NEW, Results, &[END], Error::Malformed),
        (
            "more than columns",
            NEW,
            Results,
            &[b"\x01\0"],
            Error::Malformed,
        ),
        (
            "too many columns",
            NEW,
            Results,
            &[b"\xfd\0\0\x01"],
            Error::Malformed,
        ),
        (
            "a short end",
            OLD,
            Results,
            &[b"\x01", DEFINITION, EOF, b"\xfe\0\0"],
            Error::Malformed,
        ),
        (
            "a row for an end of columns",
            OLD,
            Results,
            &[b"\x01", DEFINITION, ROW],
            Error::Malformed,
        ),
        (
            "a file that nobody allows",
            Capabilities::NONE,
            Results,
            &[FILE],
            Error::Malformed,
        ),
        (
            "columns for ok",
            NEW,
            Expect::Done,
            &[b"\x01"],
            Error::Malformed,
        ),
        (
            "ok for prepared",
            NEW,
            Prepared,
            &[OK_PACKET],
            Error::Malformed,
        ),
    ] {
        let seen = watch(capabilities, expect, &stream(packets), [].into_iter());
        assert_eq!(seen.error, Some(error), "{name}: {seen:?}");
    }
    let mut bytes = stream(&[b"\x01", DEFINITION, END]);
    bytes[8] = 9;
    let seen = watch(NEW, Expect::Results, &bytes, [].into_iter());
    let (expected, found) = (2, 9);
    assert_eq!(seen.error, Some(Error::OutOfOrder { expected, found }));
    let long = vec![0; MOST_OFFERED + 1];
    let long = stream(&[&long]);
    let seen = watch(NEW, Expect::Results, &long[..HEADER + 1], [].into_iter());
    let length = MOST_OFFERED + 1;
    assert_eq!(seen.error, Some(Error::TooLong { length }));
    let mut idle = Watch::new(NEW);
    assert_eq!(idle.feed(b"\x01"), Err(Error::Unasked));
    assert!(idle.feed(b"").unwrap().is_last);
}

#[test]
fn a_server_that_closes_does_not_count() {
    let mut watch = Watch::new(NEW);
    watch.begin(Expect::Results, 1);
    let step = watch.feed(b"\x0e\0\0\0\xff\xbf\x0f#HY000Close").unwrap();
    let event = step.event.unwrap();
    assert!(matches!(event.packet, Packet::Refused(error) if error.is_farewell()));
    assert_eq!((event.sequence, step.is_last), (1, true));
    watch.begin(Expect::Results, 1);
    let other = watch.feed(b"\x0e\0\0\0\xff\x10\x04#HY000Other");
    let (expected, found) = (1, 0);
    assert_eq!(other, Err(Error::OutOfOrder { expected, found }));
}

#[test]
fn what_an_ok_says_is_handed_on() {
    let mut watch = Watch::new(NEW);
    watch.begin(Expect::Rows, 1);
    let bytes = stream(&[END_TRACKED]);
    let event = watch.feed(&bytes).unwrap().event.unwrap();
    let Packet::Done(done) = event.packet else {
        panic!("{event:?}");
    };
    assert!(
        done.status
            .has(Status::AUTOCOMMIT.with(Status::SESSION_STATE_CHANGED))
    );
    let tracked: Vec<_> = done.trackers.iter().collect();
    assert_eq!(tracked, [Ok(crate::wire::track::Tracked::Schema(b"ab"))]);
    assert_eq!(event.raw, bytes);
}

fn any_expect() -> impl Strategy<Value = Expect> {
    proptest::sample::select(vec![
        Expect::Done,
        Expect::Results,
        Expect::Prepared,
        Expect::Rows,
        Expect::Columns,
        Expect::Text,
        Expect::Binlog,
    ])
}

fn any_packet() -> impl Strategy<Value = Vec<u8>> {
    let known = vec![
        DEFINITION,
        ROW,
        NULL_ROW,
        OK_PACKET,
        OK_MORE,
        END,
        END_MORE,
        END_TRACKED,
        EOF,
        EOF_MORE,
        EOF_CURSOR,
        END_CURSOR,
        ERROR,
        PROGRESS,
        FILE,
        b"\x01",
        b"\x02",
        b"\x01\x01",
        b"\x01\0",
        b"\0\x01\0\0\0\x01\0\x02\0\0\0\0",
    ];
    let known = proptest::sample::select(known).prop_map(<[u8]>::to_vec);
    prop_oneof![8 => known, 1 => proptest::collection::vec(any::<u8>(), 0..40)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_cut_of_any_packets_gives_the_same(
        capabilities in (any::<u64>(), any::<bool>()), expect in any_expect(),
        packets in proptest::collection::vec(any_packet(), 1..12),
        cuts in proptest::collection::vec(0..20_usize, 0..60)
    ) {
        // Whether packets go well with each other or not, the answer is the same.
        let capabilities = if capabilities.1 { NEW } else { Capabilities(capabilities.0) };
        let packets: Vec<_> = packets.iter().map(|packet| &packet[..]).collect();
        let bytes = stream(&packets);
        let whole = watch(capabilities, expect, &bytes, [].into_iter());
        let cut = watch(capabilities, expect, &bytes, cuts.into_iter());
        if whole.error.is_none() {
            prop_assert_eq!(&cut, &whole);
        } else {
            // What was forwarded before an error depends on when it was seen, and no more.
            prop_assert_eq!(cut.error, whole.error);
            prop_assert_eq!(&cut.events, &whole.events);
        }
    }

    #[test]
    fn garbage_is_no_panic_and_is_not_kept(
        bits: u64, expect in any_expect(), bytes: Vec<u8>, cuts in proptest::collection::vec(1..9_usize, 0..30)
    ) {
        let _ = watch(Capabilities(bits), expect, &bytes, cuts.into_iter());
    }
}
