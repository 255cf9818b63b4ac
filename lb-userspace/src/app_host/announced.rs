//! VIPs of a balancer that stand on `lo` while they are announced: a routing daemon tells routers of
//! them. Notes and locks are as for an app host.

use std::{net::IpAddr, path::Path};

use super::{
    Undone, addresses, elsewhere,
    error::Error,
    inherited,
    namespace::Identity,
    note::{Cause, Note},
    on_lo, take_back, undo_elsewhere, without,
};

/// Puts these VIPs on `lo`, and takes those away that an agent of this pin path put there and that
/// are not among them. One that somebody else put there is left alone.
pub fn announce(pin_path: &Path, vips: &[IpAddr]) -> Result<(), Error> {
    elsewhere(|| apply(pin_path, vips))?
}

/// Takes away what an agent of this pin path put on `lo`, in whichever network namespace that was.
pub fn withdraw(pin_path: &Path) -> Result<Option<Undone>, Error> {
    elsewhere(|| undo_elsewhere(Cause::Announcing, pin_path))?
}

fn apply(pin_path: &Path, vips: &[IpAddr]) -> Result<(), Error> {
    let own = Identity::own()?;
    let former = inherited(Cause::Announcing, pin_path, &own)?;
    let there = on_lo(&addresses::list()?);
    let is_ours = |vip: &IpAddr| !there.contains(vip) || former.vips.contains(vip);
    let note = |vips| Note {
        vips,
        ..Note::empty(own.clone())
    };
    let needed = note(vips.iter().copied().filter(is_ours).collect());
    let obsolete = note(without(&former.vips, &needed.vips));
    let mut both = needed.clone();
    both.vips.extend(&obsolete.vips);
    both.write(Cause::Announcing, pin_path)?;
    addresses::add(&without(vips, &there))?;
    take_back(&obsolete)?;
    needed.write(Cause::Announcing, pin_path)
}
