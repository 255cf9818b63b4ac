//! Tables that are replaced by others, of another layout or other sizes.
//!
//! Their pins step aside under other names, new tables are made and filled, flows are copied, and
//! only then the program on the new tables takes the former one's place in the links, each in one
//! atomic step. Then what began meanwhile is copied too and the former pins are removed. Whoever
//! fails before that puts the former pins back, and whoever is killed leaves that to the next agent.
//!
//! From the first copy to the last link, some milliseconds, a connection that begins may be known to
//! one program and not to the other, and be reset; those that were there before go on.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::AsFd as _,
    sync::Arc,
    time::{Duration, Instant},
};

use aya::maps::{Array, Map, MapData};
use lb_common::{
    abi::{ABI_VERSION, Backend, Meta, Protocol, backend_flags, maps},
    address::Address,
    decap,
    flow::{Bucket, FlowView, Inserted},
    host::FlowMemory,
    tables::FlowTable,
};

use super::{
    FlowTables,
    error::{Error, chain},
    load,
    pins::Pins,
    plain::Plain,
    tables::Tables,
};

/// What the name of a pin that stepped aside begins with.
const ASIDE: &str = "old_";

/// Layouts whose backends and flows are as they are now; in 2, flows only stand elsewhere, 3 counts
/// less, and 4 has no SYN cookies, no tables of the firewall and tells no other balancer.
const READABLE: [u32; 4] = [2, 3, 4, ABI_VERSION];

/// When pinned tables are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Never; those of another layout are refused.
    Never,
    /// When their layout is another one.
    OtherLayout,
    /// In any case.
    Always,
}

impl Replace {
    const fn covers(self, found: u32) -> bool {
        match self {
            Self::Never => false,
            Self::OtherLayout => found != ABI_VERSION,
            Self::Always => true,
        }
    }
}

/// What became of the flows of replaced tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Layout of the tables.
    pub found: u32,
    /// Flows that go on.
    pub kept: u64,
    /// TCP connections that do not; `None` where the tables could not be read.
    pub lost_connections: Option<u64>,
    /// Live flows of UDP that begin anew.
    pub lost_datagrams: u64,
    /// From the first copy to the last: connections that began meanwhile may have been reset.
    pub took: Duration,
}

/// Client and service of a flow, and its protocol.
type Key = (Address, u16, Address, u16, u8);

fn key(view: &FlowView) -> Key {
    let key = &view.flow.key;
    (
        key.client,
        key.client_port,
        key.service,
        key.service_port,
        key.protocol,
    )
}

/// Pinned tables that stepped aside. Dropped before [`Former::finish`], they are put back.
pub(super) struct Former {
    pins: Arc<Pins>,
    found: u32,
    readable: Option<Readable>,
    kept: HashSet<Key>,
    began: Option<Instant>,
    is_over: bool,
}

struct Readable {
    flows: FlowTables,
    /// By id, of the former tables.
    backends: Vec<Backend>,
}

impl Former {
    /// Has the tables step aside if they are to be replaced.
    pub(super) fn step_aside(pins: &Arc<Pins>, replace: Replace) -> Result<Option<Self>, Error> {
        let Some(Meta { abi: found, .. }) = load::meta(pins)? else {
            return Ok(None);
        };
        // 0 are remains of one that was never finished.
        if found == 0 || !replace.covers(found) {
            return Ok(None);
        }
        let readable = if READABLE.contains(&found) {
            Readable::open(pins)
                .inspect_err(|error| tracing::warn!("{error}"))
                .ok()
        } else {
            None
        };
        let former = Self {
            pins: Arc::clone(pins),
            found,
            readable,
            kept: HashSet::new(),
            began: None,
            is_over: false,
        };
        for name in tables(pins)? {
            pins.rename(&name, &format!("{ASIDE}{name}"))?;
        }
        Ok(Some(former))
    }

    /// Goes on where an agent was killed in the middle: either the new tables were ready, and those
    /// aside go, or they were not, and those aside come back.
    pub(super) fn recover(pins: &Pins) -> Result<(), Error> {
        if !pins.has(&format!("{ASIDE}{}", maps::META)) {
            return Ok(());
        }
        let is_ready = matches!(load::meta(pins), Ok(Some(meta)) if meta.abi == ABI_VERSION);
        tracing::warn!(
            "an agent ended while it replaced tables: {}",
            if is_ready {
                "the new ones were ready"
            } else {
                "the former ones stay"
            }
        );
        if is_ready {
            remove_aside(pins)
        } else {
            put_back(pins)
        }
    }

    /// The backends in them, if they can be read.
    pub(super) fn backends(&self) -> impl Iterator<Item = &Backend> {
        let backends = self.readable.iter().flat_map(|tables| &tables.backends);
        backends.filter(|backend| backend.flags & backend_flags::USED != 0)
    }

    /// Copies flows to new tables, which are filled. Those that are there already stay.
    pub(super) fn copy_flows(&mut self, tables: &Tables) -> Result<(), Error> {
        self.began.get_or_insert_with(Instant::now);
        let Some(readable) = &self.readable else {
            return Ok(());
        };
        let ids = new_ids(tables)?;
        let scanner = tables.flows();
        let target = scanner.tables();
        let whole = |table| {
            let window = target.window(table, 0..target.buckets(table));
            window.map_err(|error| unreadable(table, &error))
        };
        let established = whole(FlowTable::Established)?;
        let half_open = whole(FlowTable::HalfOpen)?;
        let now = FlowTables::now();
        let mut memory = FlowMemory::new(0, now, &established, &half_open);
        memory.settings = *tables.settings();
        let kept = &mut self.kept;
        for table in [FlowTable::HalfOpen, FlowTable::Established] {
            readable.for_each_live(table, |view| {
                // A source port would have to be taken, too.
                if view.flow.path.has_source() || kept.contains(&key(&view)) {
                    return;
                }
                let backend = readable.backends.get(view.flow.backend as usize);
                let Some(id) = backend.and_then(|backend| ids.get(&endpoint(backend))) else {
                    return;
                };
                let mut flow = view.flow;
                flow.backend = *id;
                if memory.insert(table, &flow) != Inserted::Contended {
                    kept.insert(key(&view));
                }
            })?;
        }
        Ok(())
    }

    /// Once no link has the former program: copies what began since, and removes the former pins.
    pub(super) fn finish(mut self, tables: &Tables) -> Result<Moved, Error> {
        self.copy_flows(tables)?;
        let mut moved = Moved {
            found: self.found,
            took: self.began.map_or(Duration::ZERO, |began| began.elapsed()),
            ..Moved::default()
        };
        if let Some(readable) = &self.readable {
            let mut lost = 0;
            readable.for_each_live(FlowTable::Established, |view| {
                if self.kept.contains(&key(&view)) {
                    moved.kept += 1;
                } else if view.flow.key.protocol == Protocol::Tcp as u8 {
                    lost += 1;
                } else {
                    moved.lost_datagrams += 1;
                }
            })?;
            moved.lost_connections = Some(lost);
        }
        self.is_over = true;
        remove_aside(&self.pins)?;
        Ok(moved)
    }
}

impl Drop for Former {
    fn drop(&mut self) {
        if !self.is_over
            && let Err(error) = put_back(&self.pins)
        {
            tracing::error!("{error}");
        }
    }
}

impl Readable {
    fn open(pins: &Pins) -> Result<Self, Error> {
        let open = |name: &'static str, value: usize| {
            let failed = |reason: String| Error::Table {
                table: name,
                action: "read",
                reason,
            };
            let map = MapData::from_pin(pins.file(name)).map_err(|error| failed(chain(&error)))?;
            let info = map.info().map_err(|error| failed(chain(&error)))?;
            if info.value_size() as usize != value {
                return Err(failed(format!("values of {} bytes", info.value_size())));
            }
            Ok((map, info.max_entries()))
        };
        let failed = |error: &dyn std::error::Error| Error::Table {
            table: maps::BACKENDS,
            action: "read",
            reason: chain(error),
        };
        let established = open(maps::ESTABLISHED, size_of::<Bucket>())?;
        let half_open = open(maps::HALF_OPEN, size_of::<Bucket>())?;
        let flows = FlowTables::of(
            (established.0.fd().as_fd(), established.1),
            (half_open.0.fd().as_fd(), half_open.1),
        )
        .map_err(|error| failed(&error))?;
        let (backends, count) = open(maps::BACKENDS, size_of::<Backend>())?;
        let backends = Map::from_map_data(backends).map_err(|error| failed(&error))?;
        let backends: Array<MapData, Plain<Backend>> =
            backends.try_into().map_err(|error| failed(&error))?;
        let backends = (0..count)
            .map(|id| backends.get(&id, 0).map(|value| value.0))
            .collect::<Result<_, _>>()
            .map_err(|error| failed(&error))?;
        Ok(Self { flows, backends })
    }

    /// Tells of flows that are neither expired nor closed.
    fn for_each_live(&self, table: FlowTable, mut each: impl FnMut(FlowView)) -> Result<(), Error> {
        let now = FlowTables::now();
        let look = |bucket: &Bucket| {
            bucket
                .views()
                .filter(|view| !view.is_closed && !view.is_expired(now))
                .for_each(&mut each);
        };
        let looked = self.flows.for_each(table, look);
        looked.map_err(|error| unreadable(table, &error))
    }
}

fn unreadable(table: FlowTable, error: &io::Error) -> Error {
    Error::Table {
        table: match table {
            FlowTable::Established => maps::ESTABLISHED,
            FlowTable::HalfOpen => maps::HALF_OPEN,
        },
        action: "read",
        reason: error.to_string(),
    }
}

/// What a backend is, whatever its id.
type Endpoint = (Address, u16, u8, Address, u16);

fn endpoint(backend: &Backend) -> Endpoint {
    (
        backend.service_address,
        backend.service_port,
        backend.protocol,
        backend.address,
        backend.port,
    )
}

fn new_ids(tables: &Tables) -> Result<HashMap<Endpoint, u32>, Error> {
    let mut ids = HashMap::new();
    for id in 1..tables.capacity().backends {
        let backend = tables.backend(id)?;
        if backend.flags & backend_flags::USED != 0 {
            ids.insert(endpoint(&backend), id);
        }
    }
    Ok(ids)
}

/// Names of the pinned tables, whatever their layout: all that is neither a link nor a table of the
/// decapsulation.
fn tables(pins: &Pins) -> Result<Vec<String>, Error> {
    let is_other = |name: &String| {
        Pins::is_link(name) || name.starts_with(ASIDE) || name == decap::abi::maps::COUNTERS
    };
    let mut names = pins.names()?;
    names.retain(|name| !is_other(name));
    // The last to go and the first to come back: by it whoever comes next knows.
    names.sort_by_key(|name| name != maps::META);
    Ok(names)
}

fn aside(pins: &Pins) -> Result<Vec<String>, Error> {
    let names = pins.names()?.into_iter();
    Ok(names.filter(|name| name.starts_with(ASIDE)).collect())
}

fn remove_aside(pins: &Pins) -> Result<(), Error> {
    let mut names = aside(pins)?;
    names.sort_by_key(|name| name.ends_with(maps::META));
    names.iter().try_for_each(|name| pins.remove(name))
}

fn put_back(pins: &Pins) -> Result<(), Error> {
    for name in tables(pins)? {
        // Of those that stepped aside only; an older one is where it was.
        if pins.has(&format!("{ASIDE}{name}")) || name == maps::META {
            pins.remove(&name)?;
        }
    }
    let mut names = aside(pins)?;
    names.sort_by_key(|name| name.ends_with(maps::META));
    for name in names {
        let former = name.strip_prefix(ASIDE).unwrap_or(&name);
        pins.rename(&name, former)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_replaced_as_somebody_wished() {
        assert!(!Replace::Never.covers(2));
        assert!(Replace::OtherLayout.covers(2));
        assert!(!Replace::OtherLayout.covers(ABI_VERSION));
        assert!(Replace::Always.covers(ABI_VERSION));
    }
}
