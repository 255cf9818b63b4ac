//! Replies, packet by packet.

use super::{Capabilities, Expect, NEW, OLD};

pub(super) const DEFINITION: &[u8] =
    b"\x03def\x00\x00\x00\x01a\x00\x0c\x3f\0\x01\0\0\0\x08\x81\0\0\0\0";
pub(super) const ROW: &[u8] = b"\x011";
pub(super) const NULL_ROW: &[u8] = b"\xfb";
pub(super) const OK_PACKET: &[u8] = b"\0\0\0\x02\0\0\0";
pub(super) const OK_MORE: &[u8] = b"\0\0\0\x0a\0\0\0";
pub(super) const END: &[u8] = b"\xfe\0\0\x02\0\0\0";
pub(super) const END_MORE: &[u8] = b"\xfe\0\0\x0a\0\0\0";
pub(super) const END_TRACKED: &[u8] = b"\xfe\0\0\x02\x40\0\0\0\x05\x01\x03\x02ab";
pub(super) const EOF: &[u8] = b"\xfe\0\0\x02\0";
pub(super) const EOF_MORE: &[u8] = b"\xfe\0\0\x0a\0";
pub(super) const EOF_CURSOR: &[u8] = b"\xfe\0\0\x42\0";
pub(super) const END_CURSOR: &[u8] = b"\xfe\0\0\x42\0\0\0";
pub(super) const ERROR: &[u8] = b"\xff\x28\x04#42000You have an error";
pub(super) const PROGRESS: &[u8] = b"\xff\xff\xff\x01\x01\x02\x10\x27\0\x04Sort";
pub(super) const FILE: &[u8] = b"\xfb/tmp/x";

/// A reply and what is to be seen of it.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) capabilities: Capabilities,
    pub(super) expect: Expect,
    pub(super) packets: Vec<&'static [u8]>,
    pub(super) events: &'static [&'static str],
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

pub(super) fn rows() -> Vec<Row> {
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
            "error among columns",
            NEW,
            Results,
            &[b"\x02", d, ERROR],
            &["Columns", "Refused"],
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
