//! The decapsulation program of app hosts.
//!
//! Its rules are made anew with every program, so the update of a link replaces both in one step;
//! only its counters are pinned.

use std::{path::Path, sync::Arc};

use aya::{
    Ebpf, EbpfLoader,
    maps::{
        HashMap, MapData, PerCpuArray,
        lpm_trie::{Key, LpmTrie},
    },
};
use lb_common::{
    address::Address,
    decap::{
        self, Verdict,
        abi::{Counters, SETTINGS_GLOBAL, Settings, SourceKey, VERDICT_CAPACITY, maps},
    },
};

use super::{
    Dataplane,
    attach::{Attached, Attachments, How, Target, Wish},
    error::{Error, chain},
    load::{self, load_failed},
    pins::{Hook, Pins},
    plain::Plain,
    remove,
};

/// The program, compiled.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-decap.o"));

/// What the program goes by.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Bits of [`lb_common::decap::abi::accepts`].
    pub accepts: u32,
    /// Addresses that packets are taken out for.
    pub vips: Vec<Address>,
    /// Where tunnels may come from, and how many bits of it count; nothing is anywhere.
    pub sources: Vec<(Address, u8)>,
}

/// The program, where one is needed, and the lock on the pins.
pub struct Decap {
    /// Whether an earlier agent's program is attached somewhere.
    pub taken_over: bool,
    program: Option<Program>,
    // Last, so that the lock outlives all else.
    pins: Arc<Pins>,
}

struct Program {
    counters: PerCpuArray<MapData, Plain<Counters>>,
    attachments: Attachments,
}

impl Decap {
    /// Locks the pins and loads the program, on a host that does not steer. Nothing is attached
    /// yet.
    pub fn open(pin_path: &Path, rules: &Rules) -> Result<Self, Error> {
        let pins = Arc::new(Pins::create(pin_path)?);
        match Self::load(Arc::clone(&pins), rules) {
            Ok(decap) => Ok(decap),
            Err(error) => {
                // What was there before still works; an empty directory is of no use.
                if pins.names().is_ok_and(|names| names.is_empty())
                    && let Err(error) = pins.remove_all()
                {
                    tracing::warn!("{error}");
                }
                Err(error)
            }
        }
    }

    /// The same beside steering.
    pub fn beside(dataplane: &Dataplane, rules: &Rules) -> Result<Self, Error> {
        Self::load(Arc::clone(&dataplane.pins), rules)
    }

    fn load(pins: Arc<Pins>, rules: &Rules) -> Result<Self, Error> {
        Ok(Self {
            taken_over: !pins.linked_interfaces(Hook::Decap)?.is_empty(),
            program: if rules.accepts == 0 {
                None
            } else {
                Some(Program::load(&pins, rules)?)
            },
            pins,
        })
    }

    /// Attaches to an interface, or takes over the pinned link on it; `None` where no program is
    /// needed.
    pub fn attach(&mut self, target: &Target, wish: Wish) -> Result<Option<How>, Error> {
        match &mut self.program {
            Some(program) => program
                .attachments
                .attach(&self.pins, target, wish, None)
                .map(Some),
            None => Ok(None),
        }
    }

    /// Forgets an interface that is gone.
    pub fn forget(&mut self, name: &str) -> Result<(), Error> {
        match &mut self.program {
            Some(program) => program.attachments.forget(&self.pins, name),
            None => Ok(()),
        }
    }

    /// Detaches from all interfaces but those named, also what an earlier agent attached, and says
    /// from which.
    pub fn detach_others(&mut self, keep: &[String]) -> Result<Vec<String>, Error> {
        match &mut self.program {
            Some(program) => program.attachments.detach_others(&self.pins, keep),
            None => clear(&self.pins),
        }
    }

    /// The program on an interface.
    #[must_use]
    pub fn attached(&self, name: &str) -> Option<&Attached> {
        let program = self.program.as_ref()?;
        program.attachments.interfaces().get(name)
    }

    /// Packets by verdict, all of them, zeros included, summed over CPUs.
    pub fn verdicts(&self) -> Result<Vec<(&'static str, u64)>, Error> {
        let mut sums = [0u64; VERDICT_CAPACITY];
        if let Some(program) = &self.program {
            let values = program.counters.get(&0, 0);
            let values = values.map_err(|error| table(maps::COUNTERS, "read", &error))?;
            for Plain(cpu) in values.iter() {
                for (sum, count) in sums.iter_mut().zip(cpu.verdicts) {
                    *sum += count;
                }
            }
        }
        let labelled = Verdict::ALL.map(|verdict| (verdict.label(), sums[verdict as usize]));
        Ok(labelled.to_vec())
    }

    /// Removes what a steering agent left, on a host that does not steer.
    pub fn clear_steering(&self) -> Result<Vec<String>, Error> {
        let interfaces = self.pins.linked_interfaces(Hook::Steer)?;
        for interface in &interfaces {
            self.pins.remove_link(Hook::Steer, interface)?;
        }
        for name in lb_common::abi::maps::ALL {
            self.pins.remove(name)?;
        }
        Ok(interfaces)
    }

    /// Lets go of the program, which goes on.
    pub fn close(self) {
        drop(self);
    }

    /// Removes the program and its pins; beside steering, only those.
    pub fn detach(self) -> Result<(), Error> {
        let Self { program, pins, .. } = self;
        drop(program);
        clear(&pins)?;
        if let Some(alone) = Arc::into_inner(pins) {
            remove(&alone)?;
        }
        Ok(())
    }
}

impl Program {
    fn load(pins: &Pins, rules: &Rules) -> Result<Self, Error> {
        let counters = pins.file(maps::COUNTERS);
        // One of another layout cannot be gone on with.
        let is_ours = MapData::from_pin(&counters)
            .and_then(|map| map.info())
            .is_ok_and(|info| info.value_size() as usize == size_of::<Counters>());
        if !is_ours {
            pins.remove(maps::COUNTERS)?;
        }
        let settings = Plain(Settings {
            accepts: rules.accepts,
            checks_sources: u32::from(!rules.sources.is_empty()),
        });
        let entries = |count: usize| u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let mut ebpf = EbpfLoader::new()
            .override_global(SETTINGS_GLOBAL, &settings, true)
            .map_max_entries(maps::VIPS, entries(rules.vips.len()))
            .map_max_entries(maps::SOURCES, entries(rules.sources.len()))
            .map_pin_path(maps::COUNTERS, counters)
            .load(OBJECT)
            .map_err(load_failed)?;
        fill(&mut ebpf, rules)?;
        let mut program = load::Program::verified(ebpf, decap::abi::PROGRAM)?;
        let counters = program
            .ebpf
            .take_map(maps::COUNTERS)
            .ok_or_else(|| missing(maps::COUNTERS))?;
        Ok(Self {
            counters: counters
                .try_into()
                .map_err(|error| table(maps::COUNTERS, "read", &error))?,
            attachments: Attachments::new(Hook::Decap, program)?,
        })
    }
}

/// Removes what an earlier agent of an app host left beside steering.
pub(super) fn clear(pins: &Pins) -> Result<Vec<String>, Error> {
    let interfaces = pins.linked_interfaces(Hook::Decap)?;
    for interface in &interfaces {
        pins.remove_link(Hook::Decap, interface)?;
    }
    pins.remove(maps::COUNTERS)?;
    Ok(interfaces)
}

fn fill(ebpf: &mut Ebpf, rules: &Rules) -> Result<(), Error> {
    let map = ebpf
        .map_mut(maps::VIPS)
        .ok_or_else(|| missing(maps::VIPS))?;
    let failed = |error| table(maps::VIPS, "write", &error);
    let mut vips: HashMap<_, Plain<Address>, u32> = map.try_into().map_err(failed)?;
    for vip in &rules.vips {
        vips.insert(Plain(*vip), 1, 0).map_err(failed)?;
    }
    let map = ebpf
        .map_mut(maps::SOURCES)
        .ok_or_else(|| missing(maps::SOURCES))?;
    let failed = |error| table(maps::SOURCES, "write", &error);
    let mut sources: LpmTrie<_, Plain<[u32; 5]>, u32> = map.try_into().map_err(failed)?;
    for (address, length) in &rules.sources {
        let SourceKey {
            length,
            family,
            address,
        } = SourceKey::new(*address, *length);
        let [a, b, c, d] = zerocopy::transmute!(address);
        let key = Key::new(length, Plain([family, a, b, c, d]));
        sources.insert(&key, 1, 0).map_err(failed)?;
    }
    Ok(())
}

fn missing(table: &str) -> Error {
    Error::Load(format!("the object has no table {table}"))
}

fn table(table: &'static str, action: &'static str, error: &aya::maps::MapError) -> Error {
    Error::Table {
        table,
        action,
        reason: chain(error),
    }
}
