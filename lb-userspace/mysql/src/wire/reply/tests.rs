use proptest::prelude::*;

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

const DEFINITION: &[u8] = b"\x03def\x00\x00\x00\x01a\x00\x0c\x3f\0\x01\0\0\0\x08\x81\0\0\0\0";
const ROW: &[u8] = b"\x011";
const NULL_ROW: &[u8] = b"\xfb";
const OK_PACKET: &[u8] = b"\0\0\0\x02\0\0\0";
const OK_MORE: &[u8] = b"\0\0\0\x0a\0\0\0";
const END: &[u8] = b"\xfe\0\0\x02\0\0\0";
const END_MORE: &[u8] = b"\xfe\0\0\x0a\0\0\0";
const END_TRACKED: &[u8] = b"\xfe\0\0\x02\x40\0\0\0\x05\x01\x03\x02ab";
const EOF: &[u8] = b"\xfe\0\0\x02\0";
const EOF_MORE: &[u8] = b"\xfe\0\0\x0a\0";
const EOF_CURSOR: &[u8] = b"\xfe\0\0\x42\0";
const END_CURSOR: &[u8] = b"\xfe\0\0\x42\0\0\0";
const ERROR: &[u8] = b"\xff\x28\x04#42000You have an error";
const PROGRESS: &[u8] = b"\xff\xff\xff\x01\x01\x02\x10\x27\0\x04Sort";
const FILE: &[u8] = b"\xfb/tmp/x";

struct Row {
    name: &'static str,
    capabilities: Capabilities,
    expect: Expect,
    packets: Vec<&'static [u8]>,
    events: &'static [&'static str],
}

fn row(
    name: &'static str,
    capabilities: Capabilities,
    expect: Expect,
    packets: &[&'static [u8]],
    events: &'static [&'static str],
) -> Row {
    Row {
        name,
        capabilities,
        expect,
        packets: packets.to_vec(),
        events,
    }
}

fn rows() -> Vec<Row> {
    use Expect::{Binlog, Columns, Prepared, Results, Rows, Text};
    const SOME: Capabilities = NEW.with(Capabilities::OPTIONAL_METADATA);
    const CACHED: Capabilities = OLD.with(Capabilities::CACHED_METADATA);
    const REPORTS: Capabilities = NEW.with(Capabilities::PROGRESS);
    let prepared = |parameters, columns| -> &'static [u8] {
        match (parameters, columns) {
            (0, 0) => b"\0\x01\0\0\0\0\0\0\0\0\0\0",
            (0, 1) => b"\0\x01\0\0\0\x01\0\0\0\0\0\0",
            (2, 0) => b"\0\x01\0\0\0\0\0\x02\0\0\0\0",
            _ => b"\0\x01\0\0\0\x01\0\x02\0\0\0\0",
        }
    };
    let d = DEFINITION;
    vec![
        row("ok", OLD, Expect::Done, &[OK_PACKET], &["Done"]),
        row("eof of an option", OLD, Expect::Done, &[EOF], &["Done"]),
        row("end of an option", NEW, Expect::Done, &[END], &["Done"]),
        row("error", OLD, Expect::Done, &[ERROR], &["Refused"]),
        row("update", NEW, Results, &[OK_PACKET], &["Done"]),
        row("error of a query", NEW, Results, &[ERROR], &["Refused"]),
        row(
            "rows",
            OLD,
            Results,
            &[b"\x02", d, d, EOF, ROW, NULL_ROW, EOF],
            &["Columns", "ColumnsEnd", "Done"],
        ),
        row(
            "rows without eof",
            NEW,
            Results,
            &[b"\x01", d, ROW, b"\0\0\x01", END_TRACKED],
            &["Columns", "Done"],
        ),
        row(
            "no rows",
            NEW,
            Results,
            &[b"\x01", d, END],
            &["Columns", "Done"],
        ),
        row(
            "error behind columns",
            OLD,
            Results,
            &[b"\x01", d, ERROR],
            &["Columns", "Refused"],
        ),
        row(
            "error behind rows",
            NEW,
            Results,
            &[b"\x01", d, ROW, ROW, ERROR],
            &["Columns", "Refused"],
        ),
        row(
            "several results",
            NEW,
            Results,
            &[
                b"\x01", d, ROW, END_MORE, OK_MORE, b"\x01", d, END_MORE, OK_PACKET,
            ],
            &["Columns", "Done", "Done", "Columns", "Done", "Done"],
        ),
        row(
            "several results with eof, then an error",
            OLD,
            Results,
            &[b"\x01", d, EOF_MORE, ROW, EOF_MORE, ERROR],
            &["Columns", "ColumnsEnd", "Done", "Refused"],
        ),
        row(
            "a cursor",
            OLD,
            Results,
            &[b"\x01", d, EOF_CURSOR],
            &["Columns", "Done"],
        ),
        row(
            "a cursor without eof",
            NEW,
            Results,
            &[b"\x01", d, END_CURSOR],
            &["Columns", "Done"],
        ),
        row("rows of a cursor", OLD, Rows, &[ROW, ROW, EOF], &["Done"]),
        row(
            "rows of a cursor, new",
            NEW,
            Rows,
            &[b"\0\0\x01", END],
            &["Done"],
        ),
        row("no cursor", OLD, Rows, &[ERROR], &["Refused"]),
        row("rows are the last", NEW, Rows, &[ROW, END_MORE], &["Done"]),
        row("columns of a table", OLD, Columns, &[d, d, EOF], &["Done"]),
        row(
            "columns of a table, new",
            NEW,
            Columns,
            &[d, END],
            &["Done"],
        ),
        row("no table", OLD, Columns, &[ERROR], &["Refused"]),
        row("statistics", OLD, Text, &[b"Uptime: 1"], &["Text"]),
        row(
            "binlog",
            OLD,
            Binlog,
            &[b"\0event", b"\0event", EOF],
            &["Done"],
        ),
        row(
            "binlog's error",
            NEW,
            Binlog,
            &[b"\0event", ERROR],
            &["Refused"],
        ),
        row(
            "nothing prepared",
            OLD,
            Prepared,
            &[prepared(0, 0)],
            &["Prepared"],
        ),
        row(
            "columns prepared",
            OLD,
            Prepared,
            &[prepared(0, 1), d, EOF],
            &["Prepared", "ColumnsEnd"],
        ),
        row(
            "parameters prepared",
            OLD,
            Prepared,
            &[prepared(2, 0), d, d, EOF],
            &["Prepared", "ColumnsEnd"],
        ),
        row(
            "both prepared",
            OLD,
            Prepared,
            &[prepared(2, 1), d, d, EOF, d, EOF],
            &["Prepared", "ColumnsEnd", "ColumnsEnd"],
        ),
        row(
            "both prepared, new",
            NEW,
            Prepared,
            &[prepared(2, 1), d, d, d],
            &["Prepared"],
        ),
        row(
            "prepared without metadata",
            SOME,
            Prepared,
            &[b"\0\x01\0\0\0\x01\0\x02\0\0\0\0\0"],
            &["Prepared"],
        ),
        row(
            "prepared without metadata, with eof",
            OLD.with(Capabilities::OPTIONAL_METADATA),
            Prepared,
            &[b"\0\x01\0\0\0\x01\0\x02\0\0\0\0\0", EOF, EOF],
            &["Prepared", "ColumnsEnd", "ColumnsEnd"],
        ),
        row(
            "prepared without metadata, parameters only",
            OLD.with(Capabilities::OPTIONAL_METADATA),
            Prepared,
            &[b"\0\x01\0\0\0\0\0\x01\0\0\0\0\0", EOF],
            &["Prepared", "ColumnsEnd"],
        ),
        row("not prepared", NEW, Prepared, &[ERROR], &["Refused"]),
        row(
            "rows without metadata",
            SOME,
            Results,
            &[b"\x02\0", ROW, END],
            &["Columns", "Done"],
        ),
        row(
            "rows with metadata",
            SOME,
            Results,
            &[b"\x01\x01", d, ROW, END],
            &["Columns", "Done"],
        ),
        row(
            "rows with cached metadata",
            CACHED,
            Results,
            &[b"\x02\0", EOF, ROW, EOF],
            &["Columns", "ColumnsEnd", "Done"],
        ),
        row(
            "a file",
            NEW,
            Results,
            &[FILE, b"abc", b"", OK_MORE, ERROR],
            &["File", "Done", "Refused"],
        ),
        row(
            "progress",
            REPORTS,
            Results,
            &[PROGRESS, PROGRESS, OK_PACKET],
            &["Progress", "Progress", "Done"],
        ),
        row("no progress", NEW, Results, &[PROGRESS], &["Refused"]),
    ]
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
