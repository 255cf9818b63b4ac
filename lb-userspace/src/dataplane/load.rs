//! Makes the tables, or takes over pinned ones, and loads the program on them.

use std::{fs, path::PathBuf};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, MapData},
    programs::{ProgramError, Xdp},
};
use lb_common::{
    abi::{
        self, ABI_VERSION, Affinity, Backend, BackendCounters, Check, Counters, Cursor, Fragment,
        Interface, Meta, NextHop, Service, Settings, features, maps,
    },
    address::Address,
    filter, firewall,
    flow::{self, Bucket},
    ports, sync,
};

use nix::sys::signal::SigSet;

use super::{
    error::{Error, chain},
    kernel_log,
    pins::{Hook, Pins},
    plain::Plain,
    privilege,
    tables::Tables,
};

/// The program, compiled.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-steer.o"));

/// Elements of every table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Buckets of the established table, a power of two.
    pub established: u32,
    /// Buckets of the half-open table, a power of two.
    pub half_open: u32,
    /// Services, including one entry per address.
    pub services: u32,
    /// Slots of all services, with room for the tables that replace them.
    pub slots: u32,
    /// Backends, including those whose flows have not ended.
    pub backends: u32,
    /// Next hops.
    pub next_hops: u32,
    /// Words of the endpoint filter, a power of two.
    pub filter: u32,
    /// Packets in fragments.
    pub fragments: u32,
    /// Bits of [`lb_common::abi::features`] that are in use. Tables of others are as small as can
    /// be.
    pub features: u32,
    /// Source addresses of full NAT.
    pub sources: u32,
    /// Clients that keep their backend.
    pub affinity: u32,
}

/// Tables that only one feature uses, and its bit.
const OPTIONAL: [(&str, u32); 13] = [
    (maps::LOADS, features::LEAST_CONNECTIONS),
    (maps::SOURCES, features::FULL_NAT),
    (maps::SOURCE_INDEX, features::FULL_NAT),
    (maps::PORTS, features::FULL_NAT),
    (maps::PORT_OWNERS, features::FULL_NAT),
    (maps::AFFINITY, features::AFFINITY),
    (maps::SERVER_IDS, features::SERVER_ID),
    (maps::CHECKS, features::CHECKS),
    (
        maps::FIREWALL,
        features::FIREWALL | features::LIMITS | features::LOCK_DOWN | features::SERVICE_LISTS,
    ),
    (maps::RATES, features::LIMITS),
    (maps::OFFENDERS, features::OFFENDERS),
    (
        maps::FIREWALL_LPM,
        features::FIREWALL | features::LIMITS | features::LOCK_DOWN | features::SERVICE_LISTS,
    ),
    (maps::SYNC, features::SYNC),
];

/// Interfaces that one agent may attach to.
const INTERFACES: u32 = 256;
/// Highest number of backend ids: flows have 24 bits for it.
const MOST_BACKENDS: u32 = 1 << 24;

impl Sizes {
    /// For that many flows, services, backends and slots, with headroom for later configs.
    #[must_use]
    pub fn with_headroom(
        flows: u32,
        half_open_flows: u32,
        services: usize,
        backends: usize,
        slots: usize,
    ) -> Self {
        let roomy = |needed: usize, least: u32, factor: u32| {
            u32::try_from(needed)
                .unwrap_or(u32::MAX)
                .saturating_mul(factor)
                .max(least)
        };
        let services = roomy(services, 512, 4);
        let backends = roomy(backends, 4096, 2).min(MOST_BACKENDS);
        Self {
            established: flow::established_buckets(flows),
            half_open: flow::half_open_buckets(half_open_flows),
            services,
            slots: roomy(slots, 65_536, 4),
            backends,
            next_hops: roomy(backends as usize, 4096, 2),
            filter: filter::words_for(services.saturating_add(backends)),
            fragments: 1,
            features: 0,
            sources: 0,
            affinity: 1,
        }
    }

    fn of(&self, map: &str) -> u32 {
        let is_off = |(name, feature): &(&str, u32)| *name == map && self.features & feature == 0;
        if OPTIONAL.iter().any(is_off) {
            return 1;
        }
        match map {
            maps::LOADS => self.backends,
            maps::SOURCES | maps::SOURCE_INDEX => self.sources,
            maps::PORTS => ports::words(self.sources),
            maps::PORT_OWNERS => ports::owners(self.sources),
            maps::AFFINITY => self.affinity,
            maps::FRAGMENTS => self.fragments,
            maps::SERVER_IDS => self.backends,
            maps::CHECKS => abi::CHECK_CAPACITY,
            maps::RATES => firewall::rate::ALL_LINES,
            maps::OFFENDERS => firewall::offender::OFFENDERS,
            maps::FIREWALL => firewall::WORDS,
            // Two generations; it takes memory for what is in it only.
            maps::FIREWALL_LPM => 2 * firewall::MOST_PREFIXES,
            maps::SYNC => sync::WORDS,
            maps::SERVICES => self.services,
            maps::SLOTS => self.slots,
            maps::CURSORS => self.services,
            maps::BACKENDS | maps::BACKEND_STATS => self.backends,
            maps::NEXT_HOPS => self.next_hops,
            maps::INTERFACES => INTERFACES,
            maps::FILTER => self.filter,
            maps::ESTABLISHED => self.established,
            maps::HALF_OPEN => self.half_open,
            _ => 1,
        }
    }
}

/// An object, and the one of its programs that is used.
#[derive(Debug)]
pub(super) struct Program {
    /// The object, with its maps.
    pub(super) ebpf: Ebpf,
    name: &'static str,
}

impl Program {
    /// Hands the program of that name to the verifier.
    pub(super) fn verified(ebpf: Ebpf, name: &'static str) -> Result<Self, Error> {
        let mut program = Self { ebpf, name };
        without_signals(|| program.xdp()?.load().map_err(refused))?;
        Ok(program)
    }

    pub(super) fn xdp(&mut self) -> Result<&mut Xdp, Error> {
        self.ebpf
            .program_mut(self.name)
            .ok_or_else(|| Error::Load(format!("the object has no program {}", self.name)))?
            .try_into()
            .map_err(|error: ProgramError| Error::Load(chain(&error)))
    }

    /// Its id in the kernel.
    pub(super) fn id(&mut self) -> Result<u32, Error> {
        let info = self.xdp()?.info();
        info.map(|info| info.id())
            .map_err(|error| Error::Load(chain(&error)))
    }
}

/// A loaded program and its tables.
pub(super) struct Loaded {
    /// The program.
    pub(super) program: Program,
    /// Its tables.
    pub(super) tables: Tables,
    /// Whether the tables were there before.
    pub(super) taken_over: bool,
}

/// Loads the program on pinned tables if there are any, else on new ones of the given sizes, which
/// it pins.
///
/// New tables count as unfinished, and are made anew by the next agent, until
/// [`Tables::mark_filled`].
pub(super) fn load(pins: &Pins, sizes: Sizes, has_former: bool) -> Result<Loaded, Failure> {
    let pinned = pinned_meta(pins, has_former).map_err(|error| Failure {
        error,
        is_fresh: false,
    })?;
    let is_fresh = pinned.is_none() && !has_former;
    load_on(pins, pinned, sizes).map_err(|error| Failure { error, is_fresh })
}

/// Why loading failed.
pub(super) struct Failure {
    pub(super) error: Error,
    /// There were no tables before.
    pub(super) is_fresh: bool,
}

fn load_on(pins: &Pins, pinned: Option<Meta>, sizes: Sizes) -> Result<Loaded, Error> {
    let (settings, sizes) = match pinned {
        Some(meta) => {
            let mut used = meta.settings.features;
            if used & features::BOTH_IP_VERSIONS == 0 {
                // The agent before did not tell them apart yet.
                used |= features::BOTH_IP_VERSIONS;
            }
            make_room(pins, used, sizes)?;
            let settings = Settings {
                // Flows of backends that the config does not name any more go on.
                features: used | sizes.features,
                ..meta.settings
            };
            (settings, pinned_sizes(pins, sizes, used)?)
        }
        None => (new_settings(sizes)?, sizes),
    };
    let settings_value = Plain(settings);
    let pin_files: Vec<PathBuf> = maps::ALL.iter().map(|name| pins.file(name)).collect();
    let mut loader = EbpfLoader::new();
    loader.override_global(abi::SETTINGS_GLOBAL, &settings_value, true);
    for (name, file) in maps::ALL.into_iter().zip(&pin_files) {
        loader
            .map_max_entries(name, sizes.of(name))
            .map_pin_path(name, file.as_path());
    }
    let ebpf = loader.load(OBJECT).map_err(load_failed)?;
    let mut tables = Tables::open(pins, settings)?;
    if pinned.is_none() {
        tables.set_meta(&Meta {
            abi: 0,
            reserved: 0,
            settings,
        })?;
    }
    let mut program = Program::verified(ebpf, abi::STEER_PROGRAM)?;
    kernel_log::forward(&mut program.ebpf);
    Ok(Loaded {
        program,
        tables,
        taken_over: pinned.is_some(),
    })
}

/// Runs something while other threads take the signals: one in the middle of a verification would
/// break it off, and aya's second attempt, with a log, takes seconds.
pub(super) fn without_signals<T>(act: impl FnOnce() -> T) -> T {
    let before = SigSet::thread_get_mask();
    let is_blocked = SigSet::all().thread_block();
    let result = act();
    if let (Ok(before), Ok(())) = (before, is_blocked) {
        // Cannot fail with a mask that the kernel gave.
        let _ = before.thread_set_mask();
    }
    result
}

/// The description of pinned tables that are whole; `None` if there are none. Remains of an agent
/// that died before it had filled its tables are removed.
fn pinned_meta(pins: &Pins, has_former: bool) -> Result<Option<Meta>, Error> {
    match meta(pins)? {
        Some(meta) if meta.abi == ABI_VERSION => Ok(Some(meta)),
        Some(meta) if meta.abi != 0 => Err(Error::Abi {
            path: pins.path().into(),
            found: meta.abi,
            expected: ABI_VERSION,
        }),
        _ => {
            // Links come after the tables are filled, so these belong to nothing that runs, unless
            // there are other tables which these replace.
            for interface in pins.linked_interfaces(Hook::Steer)? {
                if !has_former {
                    pins.remove_link(Hook::Steer, &interface)?;
                }
            }
            for name in maps::ALL {
                pins.remove(name)?;
            }
            Ok(None)
        }
    }
}

/// The description of pinned tables, whatever their layout; `None` if there are none.
pub(super) fn meta(pins: &Pins) -> Result<Option<Meta>, Error> {
    if pins.has(maps::META) {
        read_meta(pins).map(Some)
    } else {
        Ok(None)
    }
}

fn read_meta(pins: &Pins) -> Result<Meta, Error> {
    let damaged = |error: &dyn std::error::Error| Error::Damaged {
        path: pins.path().into(),
        reason: format!("{}: {}", maps::META, chain(error)),
    };
    let map = MapData::from_pin(pins.file(maps::META)).map_err(|error| damaged(&error))?;
    let map = aya::maps::Map::from_map_data(map).map_err(|error| damaged(&error))?;
    let array: Array<MapData, Plain<Meta>> = map.try_into().map_err(|error| damaged(&error))?;
    array
        .get(&0, 0)
        .map(|value| value.0)
        .map_err(|error| damaged(&error))
}

/// Removes pinned tables that are made for nothing, because nobody used their feature until now.
fn make_room(pins: &Pins, used: u32, wanted: Sizes) -> Result<(), Error> {
    for (name, feature) in OPTIONAL {
        if used & feature == 0 && wanted.features & feature != 0 {
            pins.remove(name)?;
        }
    }
    Ok(())
}

/// Sizes of the pinned tables, which stay; a config that wants others is told so.
fn pinned_sizes(pins: &Pins, wanted: Sizes, used: u32) -> Result<Sizes, Error> {
    let size = |name: &str| {
        let damaged = |reason: String| Error::Damaged {
            path: pins.path().into(),
            reason: format!("{name}: {reason}"),
        };
        let info = MapData::from_pin(pins.file(name))
            .and_then(|map| map.info())
            .map_err(|error| damaged(chain(&error)))?;
        let expected = value_size(name);
        if info.value_size() as usize != expected {
            return Err(damaged(format!(
                "values of {} bytes, not {expected}",
                info.value_size()
            )));
        }
        Ok(info.max_entries())
    };
    for name in maps::ALL {
        if pins.has(name) {
            size(name)?;
        }
    }
    let of_used = |name: &str, feature: u32, otherwise: u32| {
        if used & feature == 0 {
            Ok(otherwise)
        } else {
            size(name)
        }
    };
    let sources = of_used(maps::SOURCES, features::FULL_NAT, wanted.sources)?;
    if sources < wanted.sources {
        return Err(Error::Load(format!(
            "the pinned tables have room for {sources} source addresses, and the config names {}: \
             a start with `lb run --replace-tables` makes room",
            wanted.sources
        )));
    }
    let pinned = Sizes {
        features: used | wanted.features,
        sources,
        affinity: of_used(maps::AFFINITY, features::AFFINITY, wanted.affinity)?,
        fragments: size(maps::FRAGMENTS)?,
        established: size(maps::ESTABLISHED)?,
        half_open: size(maps::HALF_OPEN)?,
        services: size(maps::SERVICES)?,
        slots: size(maps::SLOTS)?,
        backends: size(maps::BACKENDS)?,
        next_hops: size(maps::NEXT_HOPS)?,
        filter: size(maps::FILTER)?,
    };
    if (pinned.established, pinned.half_open) != (wanted.established, wanted.half_open) {
        tracing::warn!(
            "the pinned flow tables keep their sizes ({} established and {} half-open places), \
             which differ from those of the config's [limits]; a start with \
             `lb run --replace-tables` resizes them",
            u64::from(pinned.established) * flow::BUCKET_WAYS as u64,
            u64::from(pinned.half_open) * flow::BUCKET_WAYS as u64,
        );
    }
    Ok(pinned)
}

fn value_size(map: &str) -> usize {
    match map {
        maps::META => size_of::<Meta>(),
        maps::SERVICES => size_of::<Service>(),
        maps::CURSORS => size_of::<Cursor>(),
        maps::BACKENDS => size_of::<Backend>(),
        maps::BACKEND_STATS => size_of::<BackendCounters>(),
        maps::NEXT_HOPS => size_of::<NextHop>(),
        maps::INTERFACES => size_of::<Interface>(),
        maps::FILTER | maps::FIREWALL | maps::OFFENDERS => size_of::<u64>(),
        maps::RATES => size_of::<firewall::rate::Line>(),
        maps::ESTABLISHED | maps::HALF_OPEN => size_of::<Bucket>(),
        maps::COUNTERS => size_of::<Counters>(),
        maps::LOADS | maps::PORTS | maps::PORT_OWNERS | maps::SYNC => size_of::<u64>(),
        maps::SOURCES => size_of::<Address>(),
        maps::AFFINITY => size_of::<Affinity>(),
        maps::FRAGMENTS => size_of::<Fragment>(),
        maps::CHECKS => size_of::<Check>(),
        _ => size_of::<u32>(),
    }
}

fn new_settings(sizes: Sizes) -> Result<Settings, Error> {
    let mut seed = [0; 8];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut seed))
        .map_err(|source| Error::Path {
            action: "read",
            path: "/dev/urandom".into(),
            source,
        })?;
    Ok(Settings {
        hash_seed: u64::from_ne_bytes(seed),
        established_mask: sizes.established - 1,
        half_open_mask: sizes.half_open - 1,
        filter_mask: sizes.filter - 1,
        errors_per_tick: abi::ERRORS_PER_TICK,
        features: sizes.features,
        reserved: 0,
    })
}

pub(super) fn load_failed(error: EbpfError) -> Error {
    if let EbpfError::ProgramError(error) = error {
        refused(error)
    } else {
        Error::Load(chain(&error))
    }
}

/// Puts the verifier's log, which is long, into a file.
pub(super) fn refused(error: ProgramError) -> Error {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return Error::Load(chain(&error));
    };
    let name = format!("lb-verifier-{}.log", std::process::id());
    let candidates = [
        PathBuf::from("/run/lb"),
        PathBuf::from("/run"),
        std::env::temp_dir(),
    ];
    for directory in candidates {
        let log = directory.join(&name);
        if fs::write(&log, verifier_log.to_string()).is_ok() {
            return Error::Verifier {
                reason: io_error,
                log,
                untested_release: privilege::untested(),
            };
        }
    }
    Error::Load(format!("the kernel refused the program: {io_error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_configs_get_room_to_grow() {
        let sizes = Sizes::with_headroom(262_144, 65_536, 1, 3, 3);
        assert_eq!(sizes.established, 65_536);
        assert_eq!(sizes.half_open, 8192);
        assert!(sizes.backends >= 4096 && sizes.services >= 512);
        assert!(sizes.filter.is_power_of_two());
    }

    #[test]
    fn large_configs_fit_twice() {
        let sizes = Sizes::with_headroom(1, 1, 1000, 10_000, 100_000);
        assert!(sizes.backends >= 20_000 && sizes.slots >= 200_000 && sizes.services >= 2000);
    }
}
