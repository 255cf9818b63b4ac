//! What an app host needs beside the decapsulation program: the VIPs on `lo`, and sysctls that keep
//! it from claiming them and from taking its clients' packets for forged.
//!
//! [`Host::prepare`] changes what has to be changed and [`undo`] takes exactly that back, also for an
//! agent that was killed: a note says what was there before. Whoever calls either holds the lock on
//! the pins, so there is one at a time. Everything here blocks for a moment.

mod addresses;
mod announced;
mod error;
mod namespace;
mod note;
mod settings;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
};

pub use announced::{announce, withdraw};
pub use error::Error;

use namespace::Identity;
use note::{Cause, Note, Setting};

/// A host that is prepared.
#[derive(Debug)]
pub struct Host {
    pin_path: PathBuf,
    interfaces: Vec<String>,
    vips: Vec<IpAddr>,
}

/// What was undone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undone {
    /// Addresses taken from `lo`.
    pub vips: Vec<IpAddr>,
    /// Number of sysctls that are what they were.
    pub settings: usize,
}

impl Host {
    /// Puts the VIPs on `lo` and sets the sysctls of the interfaces. What an earlier agent changed
    /// and this one does not need is undone.
    pub fn prepare(pin_path: &Path, interfaces: &[String], vips: &[IpAddr]) -> Result<Self, Error> {
        let host = Self {
            pin_path: pin_path.to_owned(),
            interfaces: interfaces.to_vec(),
            vips: vips.to_vec(),
        };
        elsewhere(|| host.apply())??;
        Ok(host)
    }

    /// Sets what somebody changed since, also the sysctls of an interface that has just come back.
    pub fn restore(&self) -> Result<(), Error> {
        elsewhere(|| self.apply())?
    }

    /// The VIPs, each with whether it is on `lo` now.
    pub fn vips(&self) -> Result<Vec<(IpAddr, bool)>, Error> {
        let list = addresses::list()?;
        let vips = self.vips.iter();
        Ok(vips
            .map(|vip| (*vip, addresses::is_on_lo(&list, *vip)))
            .collect())
    }

    fn apply(&self) -> Result<(), Error> {
        let own = Identity::own()?;
        let former = inherited(Cause::AppHost, &self.pin_path, &own)?;
        let there = addresses::list()?;
        for vip in &self.vips {
            if there.contains(&(*vip, false)) {
                tracing::warn!(
                    "{vip} is also on an interface other than lo, where this host answers for it"
                );
            }
        }
        let is_ours =
            |vip: &IpAddr| !addresses::is_on_lo(&there, *vip) || former.vips.contains(vip);
        let vips: Vec<IpAddr> = self.vips.iter().copied().filter(is_ours).collect();
        let changes = settings::changes(&self.interfaces, settings::read)?;
        let is_needed = |setting: &&Setting| {
            let interface = settings::interface(&setting.name);
            interface == "all" || self.interfaces.iter().any(|own| own == interface)
        };
        let mut settings: Vec<Setting> =
            former.settings.iter().filter(is_needed).cloned().collect();
        for change in &changes {
            // Either new, or somebody else set it since: then that is what there was before.
            settings.retain(|known| known.name != change.name);
            settings.push(Setting {
                name: change.name.clone(),
                before: change.before,
                after: change.after,
            });
        }
        let obsolete = Note {
            namespace: own.clone(),
            vips: without(&former.vips, &vips),
            settings: former
                .settings
                .iter()
                .filter(|setting| !is_needed(setting))
                .cloned()
                .collect(),
        };
        let needed = Note {
            namespace: own,
            vips,
            settings,
        };
        let mut both = needed.clone();
        both.vips.extend(&obsolete.vips);
        both.settings.extend(obsolete.settings.iter().cloned());
        both.write(Cause::AppHost, &self.pin_path)?;
        // Before the addresses are there, so that nobody hears an answer for them.
        for change in &changes {
            match settings::write(&change.name, change.after) {
                // Its interface has just gone.
                Err(error) if settings::is_absent(&error) => {}
                written => written?,
            }
        }
        addresses::add(&without(&self.vips, &on_lo(&there)))?;
        take_back(&obsolete)?;
        needed.write(Cause::AppHost, &self.pin_path)
    }
}

/// What an earlier agent noted, as far as it is about this namespace; the rest is undone.
fn inherited(cause: Cause, pin_path: &Path, own: &Identity) -> Result<Note, Error> {
    match Note::read(cause, pin_path)? {
        Some(note) if note.namespace == *own => Ok(note),
        Some(_) => {
            undo_elsewhere(cause, pin_path)?;
            Ok(Note::empty(own.clone()))
        }
        None => Ok(Note::empty(own.clone())),
    }
}

/// Whether an agent of this pin path changed something that is not undone yet.
#[must_use]
pub fn is_noted(pin_path: &Path) -> bool {
    matches!(Note::read(Cause::AppHost, pin_path), Ok(Some(_)))
}

/// Whether that was in another network namespace of this boot.
#[must_use]
pub fn is_noted_elsewhere(pin_path: &Path) -> bool {
    let Ok(own) = Identity::own() else {
        return false;
    };
    let causes = [Cause::AppHost, Cause::Announcing].into_iter();
    let mut notes = causes.filter_map(|cause| Note::read(cause, pin_path).ok()?);
    notes.any(|note| note.namespace != own && note.namespace.is_of_this_boot(&own))
}

/// Undoes what an agent of this pin path changed, if there is something, in whichever network
/// namespace that was.
pub fn undo(pin_path: &Path) -> Result<Option<Undone>, Error> {
    elsewhere(|| undo_elsewhere(Cause::AppHost, pin_path))?
}

fn undo_elsewhere(cause: Cause, pin_path: &Path) -> Result<Option<Undone>, Error> {
    let Some(note) = Note::read(cause, pin_path)? else {
        return Ok(None);
    };
    let own = Identity::own()?;
    let undone = if note.namespace == own {
        take_back(&note)?
    } else if note.namespace.is_of_this_boot(&own) {
        match note.namespace.within(|| take_back(&note)) {
            Some(undone) => undone?,
            None => {
                tracing::info!("the network namespace that had the VIPs is gone");
                Undone::default()
            }
        }
    } else {
        Undone::default()
    };
    note::remove(cause, pin_path)?;
    Ok(Some(undone))
}

/// Undoes a note, in the namespace of this thread. What somebody else changed since stays so.
fn take_back(note: &Note) -> Result<Undone, Error> {
    let there = addresses::list()?;
    let vips: Vec<IpAddr> = note
        .vips
        .iter()
        .copied()
        .filter(|vip| addresses::is_on_lo(&there, *vip))
        .collect();
    addresses::remove(&vips)?;
    let mut restored = 0;
    for setting in &note.settings {
        if settings::exists(&setting.name) && settings::read(&setting.name)? == setting.after {
            settings::write(&setting.name, setting.before)?;
            restored += 1;
        }
    }
    Ok(Undone {
        vips,
        settings: restored,
    })
}

fn on_lo(list: &[(IpAddr, bool)]) -> Vec<IpAddr> {
    let on_lo = list.iter().filter(|(_, is_on_lo)| *is_on_lo);
    on_lo.map(|(address, _)| *address).collect()
}

fn without(addresses: &[IpAddr], others: &[IpAddr]) -> Vec<IpAddr> {
    let mut addresses = addresses.to_vec();
    addresses.retain(|address| !others.contains(address));
    addresses
}

/// On a thread of its own: netlink needs a runtime, and the caller may be inside of another.
fn elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    thread::scope(|scope| scope.spawn(work).join()).map_err(|_| Error::System {
        action: "change addresses",
        source: std::io::Error::other("the thread died"),
    })
}
