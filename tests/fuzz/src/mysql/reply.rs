//! A server's reply, watched as it goes by, and a client's packets.
//!
//! However the bytes come cut, the same things have to be found in them, what is to be forwarded
//! has to be all that is not offered, and the watch may wait for nothing but what is bounded.

use lb_mysql::wire::{
    Capabilities,
    change_user::ChangeUser,
    command::Request,
    error::Refusal,
    execute::Execute,
    ok::Done,
    packet::{self, HEADER, Measure},
    reply::{Error, Expect, FileWatch, MOST_OFFERED, Packet, Watch},
};

use super::{choice, demand, payloads};
use crate::Signature;

const EXPECTED: [Expect; 8] = [
    Expect::Nothing,
    Expect::Done,
    Expect::Results,
    Expect::Prepared,
    Expect::Rows,
    Expect::Columns,
    Expect::Text,
    Expect::Binlog,
];

/// Capabilities that decide how a reply looks.
const CAPABILITIES: [Capabilities; 8] = [
    Capabilities::DEPRECATE_EOF,
    Capabilities::SESSION_TRACK,
    Capabilities::LOCAL_FILES,
    Capabilities::OPTIONAL_METADATA,
    Capabilities::CACHED_METADATA,
    Capabilities::PROGRESS,
    Capabilities::QUERY_ATTRIBUTES,
    Capabilities::PLUGIN_AUTH,
];

/// What came of bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Kinds of packets that were offered, and their bytes.
    events: Vec<(u32, Vec<u8>)>,
    /// Bytes that were forwarded and offered, in their order.
    passed: usize,
    is_last: bool,
    error: Option<Error>,
}

pub(crate) fn run(mut input: &[u8]) -> Result<Signature, String> {
    let flags = choice(&mut input);
    let mut capabilities = Capabilities::PROTOCOL_41;
    for (bit, one) in CAPABILITIES.into_iter().enumerate() {
        if flags >> bit & 1 != 0 {
            capabilities = capabilities.with(one);
        }
    }
    let how = choice(&mut input);
    let expect = EXPECTED[usize::from(how & 7)];
    let step = usize::from(choice(&mut input)).max(1);
    // As they are, or as payloads with the headers that belong to them.
    let bytes = if how & 8 == 0 {
        input.to_vec()
    } else {
        let mut out = Vec::new();
        let mut sequence = 1;
        for payload in payloads(input) {
            packet::put(&mut out, &mut sequence, payload);
        }
        out
    };
    let whole = watch(&bytes, bytes.len().max(1), expect, capabilities)?;
    let cut = watch(&bytes, step, expect, capabilities)?;
    demand!(
        (&whole.events, whole.is_last, whole.error) == (&cut.events, cut.is_last, cut.error),
        "whole {whole:?}\n in steps of {step} {cut:?}"
    );
    demand!(
        whole.error.is_some() || whole.passed == cut.passed,
        "{} bytes passed, and {} in steps of {step}",
        whole.passed,
        cut.passed
    );
    client(&bytes, how, capabilities)?;
    let mut signature: Signature = whole.events.iter().map(|(kind, _)| *kind).collect();
    signature.push(100 + u32::from(how & 7));
    if let Some(error) = whole.error {
        signature.push(match error {
            Error::OutOfOrder { .. } => 201,
            Error::TooLong { .. } => 202,
            Error::Malformed => 203,
            Error::Unasked => 204,
        });
    }
    signature.push(300 + u32::from(whole.is_last));
    Ok(signature)
}

/// Hands the bytes to a watch as a session would, so many at a time.
fn watch(
    bytes: &[u8],
    step: usize,
    expect: Expect,
    capabilities: Capabilities,
) -> Result<Seen, String> {
    let mut watch = Watch::new(capabilities);
    watch.begin(expect, 1);
    let mut seen = Seen::default();
    let mut read = 0;
    loop {
        let unread = &bytes[seen.passed..read];
        let step_seen = match watch.feed(unread) {
            Ok(found) => found,
            Err(error) => {
                seen.error = Some(error);
                return Ok(seen);
            }
        };
        let forward = step_seen.forward;
        demand!(
            forward <= unread.len(),
            "{forward} of {} bytes to be forwarded",
            unread.len()
        );
        demand!(
            step_seen.needs <= HEADER + MOST_OFFERED,
            "{} bytes are waited for",
            step_seen.needs
        );
        seen.passed += forward;
        seen.is_last = step_seen.is_last;
        if let Some(event) = step_seen.event {
            let raw = unread.get(forward..forward + event.raw.len());
            demand!(
                raw == Some(event.raw),
                "the event's bytes are not those behind what is forwarded"
            );
            seen.passed += event.raw.len();
            seen.events
                .push((kind(&event.packet, capabilities)?, event.raw.to_vec()));
            if matches!(event.packet, Packet::File(_)) {
                // An empty file, by which the server's next packet has the number after next.
                watch.file_sent(event.sequence.wrapping_add(2));
            }
        } else if !step_seen.is_last {
            let left = unread.len() - forward;
            demand!(
                step_seen.needs > left,
                "nothing is found in {left} bytes where {} are waited for",
                step_seen.needs
            );
        }
        if seen.is_last || (step_seen.event.is_none() && read == bytes.len()) {
            demand!(seen.is_last == watch.is_ended(), "the watch has not ended");
            return Ok(seen);
        }
        if step_seen.event.is_none() {
            read = (read + step).min(bytes.len());
        }
    }
}

/// A number for the kind of a packet, which is put together again.
fn kind(packet: &Packet<'_>, capabilities: Capabilities) -> Result<u32, String> {
    let put_done = |done: &Done<'_>| {
        let mut out = Vec::new();
        done.put(capabilities, &mut out);
        let again = Done::read(&out, capabilities);
        let trackers: usize = done.trackers.iter().count();
        demand!(
            trackers <= done.trackers.0.len() + 1,
            "{trackers} trackers in {} bytes",
            done.trackers.0.len()
        );
        // It stands for trackers, and goes with them.
        let changed = lb_mysql::wire::Status::SESSION_STATE_CHANGED;
        let is_same = again.is_ok_and(|again| {
            again.status.without(changed) == done.status.without(changed)
                && again.warnings == done.warnings
        });
        demand!(is_same, "{done:?}\n is put as {again:?}");
        Ok(trackers.min(9) as u32)
    };
    Ok(match packet {
        Packet::Done(done) => 10 + put_done(done)?,
        Packet::ColumnsEnd(done) => 20 + put_done(done)?,
        Packet::Refused(refusal) => {
            let mut out = Vec::new();
            refusal.put(&mut out);
            let again = Refusal::read(&out);
            demand!(
                again.is_some_and(|again| again.code == refusal.code),
                "{refusal:?}\n is put as {again:?}"
            );
            30
        }
        Packet::Progress => 31,
        Packet::Columns(count) => 40 + count.ilog2(),
        Packet::Prepared(prepared) => {
            let mut out = Vec::new();
            prepared.put(capabilities.has(Capabilities::OPTIONAL_METADATA), &mut out);
            60 + u32::from(prepared.has_metadata)
        }
        Packet::File(_) => 70,
        Packet::Text(_) => 71,
    })
}

/// The same bytes as a client's.
fn client(bytes: &[u8], how: u8, capabilities: Capabilities) -> Result<(), String> {
    const MOST: usize = 4096;
    match packet::measure(bytes, 1, MOST) {
        Ok(Measure::Whole(extent)) => {
            let payload = packet::payload(&bytes[..extent.bytes]);
            demand!(
                payload.len() == extent.payload && extent.payload <= MOST,
                "{} bytes of payload, measured as {}",
                payload.len(),
                extent.payload
            );
            request(&payload, how, capabilities)?;
        }
        Ok(Measure::Needs(needs)) => demand!(
            needs > bytes.len() && needs <= bytes.len() + HEADER + MOST,
            "{needs} bytes are waited for where {} are there",
            bytes.len()
        ),
        Err(_) => {}
    }
    let mut file = FileWatch::new(0);
    if let Ok(forward) = file.feed(bytes) {
        demand!(forward <= bytes.len(), "{forward} bytes of a file");
        demand!(
            file.is_ended() || forward + HEADER > bytes.len(),
            "{forward} of {} bytes of a file that goes on",
            bytes.len()
        );
    }
    Ok(())
}

fn request(payload: &[u8], how: u8, capabilities: Capabilities) -> Result<(), String> {
    if let Ok(Request::Query(query)) = Request::read(payload, capabilities) {
        let attributes = query.attributes.iter().count();
        demand!(
            attributes <= payload.len(),
            "{attributes} attributes in {} bytes",
            payload.len()
        );
    }
    if let Ok(execute) = Execute::read(payload, u16::from(how >> 4), capabilities)
        && execute.lacks_types()
    {
        let mut out = Vec::new();
        execute.complete(&[1, 0], &mut out);
        demand!(
            out.len() <= payload.len() + 16,
            "{} bytes become {}",
            payload.len(),
            out.len()
        );
    }
    if let Ok(change) = ChangeUser::read(payload, capabilities) {
        let mut out = Vec::new();
        change.put(capabilities, &mut out);
        let again = ChangeUser::read(&out, capabilities);
        demand!(
            again.is_ok_and(|again| again.user == change.user),
            "{change:?}\n is put as {again:?}"
        );
    }
    Ok(())
}
