//! Who may send at all: the firewall, before anything else costs a cycle.

use crate::{
    abi::{Service, features},
    address::Address,
    engine::{Family, check},
    firewall::{
        self, Bit, Control, HOST, Key,
        rate::{RATE, Rate, SOURCES, Sources},
    },
    frame::Frame,
    headers::{Ipv4, Ipv6},
    tables::Tables,
    trace::Decision,
    verdict::{Event, Verdict},
};

/// Lets a packet through, or says that it may not come. `payload` is where IP begins. What is not
/// whole is left to whoever reads it further.
#[inline(always)]
pub(super) fn admit<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    family: Family,
    payload: usize,
) -> Result<(), Verdict> {
    let control = Control(tables.firewall_word(firewall::CONTROL));
    if !control.is_on() {
        return Ok(());
    }
    let Some(source) = source(frame, family, payload) else {
        return Ok(());
    };
    if !may_match(tables, control, family, source) {
        return Ok(());
    }
    let entry = tables.firewall_entry(&Key::of(control.generation(), HOST, source));
    if !entry.denies() {
        if entry.is_there() {
            tables.note(Decision::Allowed, entry.length());
        }
        return Ok(());
    }
    // The balancer's own checks have its own address.
    if tables.has(features::CHECKS) && check::comes_by(frame, tables) {
        return Ok(());
    }
    tables.note(Decision::Denied, entry.length());
    if control.is_dry_run() {
        tables.note(Decision::DryRun, 0);
        tables.count_event(Event::FirewallWouldDrop);
        return Ok(());
    }
    Err(Verdict::DropDenied)
}

/// Takes a token for a packet that may begin a connection.
#[inline(always)]
pub(super) fn limit<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    family: Family,
    payload: usize,
) -> Result<(), Verdict> {
    let rate = Rate(tables.firewall_word(RATE));
    if !rate.is_on() {
        return Ok(());
    }
    let Some(source) = source(frame, family, payload) else {
        return Ok(());
    };
    let sources = Sources(tables.firewall_word(SOURCES));
    let source = match family {
        Family::V4 => sources.of_v4(source),
        Family::V6 => sources.of_v6(source),
    };
    let now = tables.now();
    let mut is_over = false;
    tables.change_bucket(&source, |bucket| {
        let taken = rate.take(bucket, now);
        is_over = taken.is_none();
        taken
    });
    if !is_over {
        return Ok(());
    }
    tables.note(Decision::RateExceeded, 0);
    if sources.is_dry_run() {
        tables.note(Decision::DryRun, 0);
        tables.count_event(Event::FirewallWouldDrop);
        return Ok(());
    }
    Err(Verdict::DropRateNewConnections)
}

/// Whether a service's own lists keep a source out.
#[inline(always)]
pub(super) fn keeps_out<T: Tables>(tables: &T, service: &Service, source: Address) -> bool {
    if service.lists == 0 {
        return false;
    }
    let control = Control(tables.firewall_word(firewall::CONTROL));
    let entry = tables.firewall_entry(&Key::of(control.generation(), service.lists, source));
    if !entry.denies() {
        if entry.is_there() {
            tables.note(Decision::ServiceAllowed, entry.length());
        }
        return false;
    }
    tables.note(Decision::ServiceDenied, entry.length());
    tables.count_denied(service.id);
    if control.is_dry_run() {
        tables.note(Decision::DryRun, 0);
        tables.count_event(Event::FirewallWouldDrop);
        return false;
    }
    true
}

#[inline(always)]
fn source<F: Frame>(frame: &mut F, family: Family, payload: usize) -> Option<Address> {
    match family {
        Family::V4 => {
            let header: &mut Ipv4 = frame.header(payload)?;
            Some(Address::from_v4(header.source.to_bytes()))
        }
        Family::V6 => {
            let header: &mut Ipv6 = frame.header(payload)?;
            let [high, low] = header.source;
            Some(Address::from_words([high.get(), low.get()]))
        }
    }
}

/// Whether some prefix may match.
#[inline(always)]
fn may_match<T: Tables>(tables: &T, control: Control, family: Family, source: Address) -> bool {
    let is_set = |bit: Bit| tables.firewall_word(bit.word) & bit.mask != 0;
    let generation = control.generation();
    match family {
        Family::V4 => is_set(firewall::bit_of_v4(generation, source)),
        Family::V6 => {
            let seed = tables.settings().hash_seed;
            let [short, long] = firewall::bits_of_v6(generation, seed, source);
            control.has_short_v6() || is_set(short) || is_set(long)
        }
    }
}
