//! The data plane in the kernel: the pinned program, its links and its tables.
//!
//! This is the only room that knows aya. It does what it is told, typed and with errors that are
//! sentences, and decides nothing about steering: [`crate::agent`] does.
//!
//! A data path outlives its agent. [`Dataplane::open`] finds what an earlier agent left in the pin
//! directory and goes on with it; [`Dataplane::close`] leaves it there, [`Dataplane::detach`] and
//! [`detach`] remove it.

mod attach;
mod bpffs;
mod capture;
mod checks;
mod decap;
mod error;
mod firewall;
mod flow_counts;
mod flow_tables;
mod former;
mod half_open;
mod intercept;
mod kernel_log;
mod load;
mod mapping;
mod offenders;
mod pins;
mod plain;
mod privilege;
mod sys;
mod tables;
mod twin;
mod words;

use std::{collections::BTreeMap, path::Path, sync::Arc};

pub use attach::{Attached, How, Mode, Target, Wish};
pub use capture::Capturer;
pub use checks::CheckTable;
pub use decap::{Decap, Rules as DecapRules};
pub use error::Error;

/// Finds or mounts the BPF file system of a pin path, while this process may: it will be found there
/// after the process gave up its privileges, too.
pub fn hold(pin_path: &Path) -> Result<(), Error> {
    bpffs::hold(pin_path)
}

/// Makes the pin path and all pins in it a user's.
pub fn hand_over(pin_path: &Path, uid: u32, gid: u32) -> Result<(), Error> {
    bpffs::hand_over(pin_path, uid, gid)
}
pub use firewall::{FirewallTable, Limits};
pub use flow_counts::{FlowCounts, FlowScanner};
pub use flow_tables::{FlowTables, Window};
pub use former::{Moved, Replace};
pub use half_open::HalfOpenCounts;
pub use intercept::{Interceptor, cgroup as intercepted_cgroup};
pub use load::Sizes;
pub use offenders::OffenderTable;
pub use privilege::{check as check_privilege, check_intercept};
pub use tables::{Capacity, CounterSums, Tables, add};
pub use twin::{DryRun, DryRunner, TwinSource};
pub use words::Words;

use lb_common::{
    abi::{Backend, features, maps},
    flow::INTERFACE_LIMIT,
};

use attach::Attachments;
use former::Former;
use pins::{Hook, Pins};

/// A loaded program with its tables, and the lock that keeps other agents away from them.
pub struct Dataplane {
    /// The tables.
    pub tables: Tables,
    /// Whether the tables were there before, with services and flows in them.
    pub taken_over: bool,
    attachments: Attachments,
    /// Tables that these replace, until the program took the former one's place.
    former: Option<Former>,
    // Last, so that the lock outlives all else.
    pins: Arc<Pins>,
}

impl Dataplane {
    /// Locks the pins, takes over their tables or makes new ones of the given sizes, and loads the
    /// program. Nothing is attached or changed yet: what runs goes on running, also on tables that are
    /// to be replaced.
    pub fn open(pin_path: &Path, sizes: Sizes, replace: Replace) -> Result<Self, Error> {
        let pins = Arc::new(Pins::create(pin_path)?);
        Former::recover(&pins)?;
        let former = Former::step_aside(&pins, replace)?;
        let loaded = match load::load(&pins, sizes, former.is_some()) {
            Ok(loaded) => loaded,
            Err(failure) => {
                // What a first start made is of no use; what was there before still forwards.
                if failure.is_fresh
                    && let Err(error) = pins.remove_all()
                {
                    tracing::warn!("{error}");
                }
                return Err(failure.error);
            }
        };
        let attachments = Attachments::new(Hook::Steer, loaded.program)?;
        Ok(Self {
            tables: loaded.tables,
            taken_over: loaded.taken_over || former.is_some(),
            attachments,
            former,
            pins,
        })
    }

    /// Attaches to an interface, or takes over the pinned link on it.
    pub fn attach(&mut self, target: &Target, wish: Wish) -> Result<How, Error> {
        if target.ifindex >= INTERFACE_LIMIT {
            return Err(Error::InterfaceIndex {
                name: target.name.clone(),
                index: target.ifindex,
            });
        }
        let source = self.twin();
        self.attachments
            .attach(&self.pins, target, wish, Some(&source))
    }

    /// Copies flows from tables that these replace, if they do: once they are filled, and before the
    /// program is attached.
    pub fn copy_flows(&mut self) -> Result<(), Error> {
        match &mut self.former {
            Some(former) => former.copy_flows(&self.tables),
            None => Ok(()),
        }
    }

    /// Backends in tables that these replace, if they do and those can be read.
    pub fn former_backends(&self) -> impl Iterator<Item = &Backend> {
        self.former.iter().flat_map(Former::backends)
    }

    /// Removes the tables that these replaced, if they did, and says what became of their flows: once
    /// the program is attached everywhere.
    pub fn finish_replacing(&mut self) -> Result<Option<Moved>, Error> {
        let former = self.former.take();
        former.map(|former| former.finish(&self.tables)).transpose()
    }

    /// Forgets an interface that is gone.
    pub fn forget(&mut self, name: &str) -> Result<(), Error> {
        self.attachments.forget(&self.pins, name)
    }

    /// Detaches from all interfaces but those named, and says from which.
    pub fn detach_others(&mut self, keep: &[String]) -> Result<Vec<String>, Error> {
        self.attachments.detach_others(&self.pins, keep)
    }

    /// Removes what an agent of an app host left, where this host is none any more, and says from
    /// which interfaces.
    pub fn clear_decap(&self) -> Result<Vec<String>, Error> {
        decap::clear(&self.pins)
    }

    /// Where the program is attached, by interface name.
    #[must_use]
    pub fn attached(&self) -> &BTreeMap<String, Attached> {
        self.attachments.interfaces()
    }

    /// What loading a watched twin of the program takes.
    #[must_use]
    pub fn twin(&self) -> TwinSource {
        let mut settings = *self.tables.settings();
        // It has to fit on every interface that the program fits on.
        if self.attachments.is_multi_buffer() {
            settings.features |= features::MULTI_BUFFER;
        }
        TwinSource {
            settings,
            pins: maps::ALL.iter().map(|name| self.pins.file(name)).collect(),
        }
    }

    /// Puts a capturing twin in the program's place, on every interface, in one atomic step each.
    pub fn swap_in(&mut self, capturer: &mut Capturer) -> Result<(), Error> {
        self.attachments
            .replace(&self.pins, Some(&mut capturer.program))
    }

    /// Puts the program back in its place.
    pub fn swap_back(&mut self) -> Result<(), Error> {
        self.attachments.replace(&self.pins, None)
    }

    /// Loads a program that can do more on the same tables, and puts it in the present one's place,
    /// in one atomic step on each interface. Tables that only its new features use are made anew.
    pub fn change(&mut self, sizes: Sizes) -> Result<(), Error> {
        let loaded = load::load(&self.pins, sizes, false).map_err(|failure| failure.error)?;
        let mut tables = loaded.tables;
        let program = if self.attachments.is_multi_buffer() {
            let source = TwinSource {
                settings: *tables.settings(),
                ..self.twin()
            };
            source.load_for_frags()?
        } else {
            loaded.program
        };
        self.attachments.exchange(&self.pins, program)?;
        tables.mark_filled()?;
        self.tables = tables;
        Ok(())
    }

    /// Lets go of the data path, which goes on forwarding.
    pub fn close(self) {
        drop(self);
    }

    /// Removes programs and pins.
    pub fn detach(self) -> Result<Detached, Error> {
        let Self {
            tables,
            attachments,
            pins,
            ..
        } = self;
        drop((attachments, tables));
        remove(&pins)
    }
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detached {
    /// Interfaces that had the program.
    pub links: Vec<String>,
    /// Number of tables.
    pub maps: usize,
}

/// Removes programs and pins of whoever left them in a pin directory, and does something else that
/// no other agent may see half done, once the programs are gone. An agent that still runs is an
/// error; a directory that does not exist is fine.
pub fn detach<T>(pin_path: &Path, between: impl FnOnce() -> T) -> Result<(Detached, T), Error> {
    let Some(pins) = Pins::open_existing(pin_path)? else {
        return Ok((Detached::default(), between()));
    };
    let links = pins.remove_links()?;
    let done = between();
    let Detached { maps, .. } = remove(&pins)?;
    Ok((Detached { links, maps }, done))
}

/// The interfaces whose program an agent that is gone left in a pin directory; nothing where an
/// agent is at work, or nothing was left.
#[must_use]
pub fn left_behind(pin_path: &Path) -> Option<Vec<String>> {
    let pins = Pins::open_existing(pin_path).ok()??;
    let interfaces = pins.interfaces().ok()?;
    (!interfaces.is_empty()).then_some(interfaces)
}

fn remove(pins: &Pins) -> Result<Detached, Error> {
    let removed = pins.remove_all()?;
    Ok(Detached {
        links: removed.links,
        maps: removed.maps,
    })
}
