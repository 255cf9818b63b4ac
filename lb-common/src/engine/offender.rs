//! Sources that exceeded a limit: all of their packets are dropped for a while.

use super::wall::{drop_unless, is_exempt};
use crate::{
    abi::{Ticks, features},
    address::Address,
    engine::{Family, check},
    firewall::{
        offender::{Offender, SPAN, Spot},
        rate::{Kind, SOURCES, Sources},
    },
    frame::Frame,
    tables::Tables,
    trace::Decision,
    verdict::{Event, Verdict},
};

/// Drops a packet of a source that is denied.
#[inline(always)]
pub(super) fn refuse<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    family: Family,
    source: Address,
) -> Result<(), Verdict> {
    let now = tables.now();
    if !holds(tables, Spot::ALL, now) {
        return Ok(());
    }
    let sources = Sources(tables.firewall_word(SOURCES));
    let own = sources.of(family, source);
    if !holds(tables, Spot::of(tables.settings().hash_seed, own), now) {
        return Ok(());
    }
    let offender = Offender(tables.offender(&own));
    if offender.until().since(now) == 0
        || is_exempt(tables, source)
        || (tables.has(features::CHECKS) && check::comes_by(frame, tables))
    {
        return Ok(());
    }
    tables.note(Decision::Offender, offender.about(now));
    drop_unless(tables, sources.is_dry_run(), Verdict::DropOffender)
}

/// Denies a source from now on, if the config says so.
#[inline(always)]
pub(super) fn condemn<T: Tables>(tables: &T, kind: Kind, family: Family, source: Address) {
    if !tables.has(features::OFFENDERS) {
        return;
    }
    let span = tables.firewall_word(SPAN) as u32;
    // With them all neighbours and routers would be denied.
    if span == 0 || source.is_link_local() {
        return;
    }
    let sources = Sources(tables.firewall_word(SOURCES));
    let own = sources.of(family, source);
    let now = tables.now();
    let until = Ticks(now.0.wrapping_add(span));
    tables.set_offender(&own, Offender::new(kind, sources.length(family), until).0);
    raise(tables, Spot::of(tables.settings().hash_seed, own), until);
    raise(tables, Spot::ALL, until);
    tables.count_event(Event::OffenderDenied);
}

/// Whether a word's time is still to come.
#[inline(always)]
fn holds<T: Tables>(tables: &T, spot: Spot, now: Ticks) -> bool {
    let mut until = 0;
    tables.change_bucket(spot.line, |line| {
        until = line.0[spot.way].load();
        None
    });
    Ticks(until as u32).since(now) != 0
}

#[inline(always)]
fn raise<T: Tables>(tables: &T, spot: Spot, until: Ticks) {
    tables.change_bucket(spot.line, |line| {
        let old = line.0[spot.way].load();
        (until.since(Ticks(old as u32)) != 0).then_some((spot.way, old, u64::from(until.0)))
    });
}
