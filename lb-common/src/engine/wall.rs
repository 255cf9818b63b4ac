//! Who may send at all, and how much: the firewall, before anything else costs a cycle.

use crate::{
    abi::{Service, Ticks, features},
    address::Address,
    engine::{Family, check, filter_has, has_services, offender},
    filter::Role,
    firewall::{
        self, Bit, Control, HOST, Key,
        count::{COUNTED, FLOW_LIMIT, STALE},
        lock::TRUSTED,
        rate::{Kind, Place, Rate, SOURCES, Sources},
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
pub(super) fn judge<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    family: Family,
    payload: usize,
) -> Result<(), Verdict> {
    let Some([source, destination]) = ends(frame, family, payload) else {
        return Ok(());
    };
    if tables.has(features::FIREWALL) && admit(frame, tables, family, source)? {
        return Ok(());
    }
    if tables.has(features::OFFENDERS) {
        offender::refuse(frame, tables, family, source)?;
    }
    if tables.has(features::PACKET_LIMIT) {
        count_packet(frame, tables, family, source, destination)?;
    }
    Ok(())
}

/// Asks the prefixes. Says whether the source is allowed in so many words.
#[inline(always)]
fn admit<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    family: Family,
    source: Address,
) -> Result<bool, Verdict> {
    let control = Control(tables.firewall_word(firewall::CONTROL));
    if !control.is_on() || !may_match(tables, control, family, source) {
        return Ok(false);
    }
    let entry = tables.firewall_entry(&Key::of(control.generation(), HOST, source));
    if !entry.denies() {
        if entry.is_there() {
            tables.note(Decision::Allowed, entry.length());
        }
        return Ok(entry.is_there());
    }
    // The balancer's own checks have its own address.
    if tables.has(features::CHECKS) && check::comes_by(frame, tables) {
        return Ok(true);
    }
    tables.note(Decision::Denied, entry.length());
    drop_unless(tables, control.is_dry_run(), Verdict::DropDenied)?;
    Ok(false)
}

/// Drops a packet, unless that is only to be counted.
#[inline(always)]
pub(super) fn drop_unless<T: Tables>(
    tables: &T,
    is_dry_run: bool,
    verdict: Verdict,
) -> Result<(), Verdict> {
    if !is_dry_run {
        return Err(verdict);
    }
    tables.note(Decision::DryRun, 0);
    tables.count_event(Event::FirewallWouldDrop);
    Ok(())
}

/// Takes a token for a packet that may begin a connection, and counts it as a flow. A source that
/// has none is denied from now on only where it does so deliberately.
#[inline(always)]
pub(super) fn begin<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    family: Family,
    payload: usize,
    deliberate: bool,
) -> Result<(), Verdict> {
    let Some([source, _]) = ends(frame, family, payload) else {
        return Ok(());
    };
    let sources = Sources(tables.firewall_word(SOURCES));
    let own = sources.of(family, source);
    let (kind, verdict) =
        if tables.has(features::RATE_LIMIT) && !has_token(frame, tables, Kind::Connections, own) {
            tables.note(Decision::RateExceeded, 0);
            (Kind::Connections, Verdict::DropRateNewConnections)
        } else if tables.has(features::FLOW_LIMIT) && !has_room(frame, tables, own) {
            tables.note(Decision::FlowsExceeded, 0);
            (Kind::Flows, Verdict::DropRateFlows)
        } else {
            return Ok(());
        };
    if is_exempt(tables, source) {
        return Ok(());
    }
    if deliberate {
        offender::condemn(tables, kind, family, source);
    }
    drop_unless(tables, sources.is_dry_run(), verdict)
}

/// Counts a flow that a source is about to begin, if it may have one more.
#[inline(always)]
fn has_room<F: Frame, T: Tables>(frame: &F, tables: &T, source: Address) -> bool {
    let most = tables.firewall_word(FLOW_LIMIT) as u32;
    let counted = Ticks(tables.firewall_word(COUNTED) as u32);
    if most == 0 || tables.now().since(counted) > STALE {
        return true;
    }
    let place = Place::of(tables.settings().hash_seed, Kind::Flows, source);
    let forget = |number: u64| frame.forget(number as usize) as u64;
    tables.change_bucket(place.line, |line| place.count_more(line, most, &forget))
}

/// Takes a token for a packet, where it is for an address of services.
#[inline(always)]
fn count_packet<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    family: Family,
    source: Address,
    destination: Address,
) -> Result<(), Verdict> {
    if !filter_has(tables, Role::Service, destination, 0, 0) {
        return Ok(());
    }
    let sources = Sources(tables.firewall_word(SOURCES));
    if has_token(frame, tables, Kind::Packets, sources.of(family, source))
        // The filter may be wrong, and only now it matters.
        || !has_services(tables, destination)
        || is_exempt(tables, source)
        || (tables.has(features::CHECKS) && check::comes_by(frame, tables))
    {
        return Ok(());
    }
    tables.note(Decision::PacketsExceeded, 0);
    offender::condemn(tables, Kind::Packets, family, source);
    drop_unless(tables, sources.is_dry_run(), Verdict::DropRatePackets)
}

/// Takes a token from a source's bucket, if there is a limit.
#[inline(always)]
fn has_token<F: Frame, T: Tables>(frame: &F, tables: &T, kind: Kind, source: Address) -> bool {
    let rate = Rate(tables.firewall_word(kind.word()));
    if !rate.is_on() {
        return true;
    }
    let place = Place::of(tables.settings().hash_seed, kind, source);
    let now = tables.now();
    let forget = |number: u64| frame.forget(number as usize) as u64;
    tables.change_bucket(place.line, |line| rate.take(line, place, now, &forget))
}

/// Whether no limit holds for a source. Only asked of one that is over a limit, because it costs a
/// look-up.
#[inline(always)]
pub(super) fn is_exempt<T: Tables>(tables: &T, source: Address) -> bool {
    let control = Control(tables.firewall_word(firewall::CONTROL));
    let entry = tables.firewall_entry(&Key::of(control.generation(), TRUSTED, source));
    if entry.is_there() {
        tables.note(Decision::Exempt, entry.length());
    }
    entry.is_there()
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

/// Who sends, and to whom.
#[inline(always)]
fn ends<F: Frame>(frame: &mut F, family: Family, payload: usize) -> Option<[Address; 2]> {
    match family {
        Family::V4 => {
            let header: &mut Ipv4 = frame.header(payload)?;
            let [source, destination] = [header.source, header.destination];
            Some([source.to_bytes(), destination.to_bytes()].map(Address::from_v4))
        }
        Family::V6 => {
            let header: &mut Ipv6 = frame.header(payload)?;
            let ends = [header.source, header.destination];
            Some(ends.map(|[high, low]| Address::from_words([high.get(), low.get()])))
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
