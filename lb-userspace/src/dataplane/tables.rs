//! Typed access to the tables. Nothing here decides; the reconciler does.

use std::{borrow::Borrow, os::fd::AsFd as _, sync::Arc};

use aya::maps::{Array, HashMap, IterableMap as _, Map, MapData, MapError, PerCpuArray};
use lb_common::{
    abi::{
        ABI_VERSION, Backend, BackendCounters, Counters, Cursor, EndpointKey, Interface, Meta,
        NextHop, ServerIdKey, Service, Settings, features, maps,
    },
    address::Address,
    verdict::{Event, Verdict},
};
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

use super::{
    checks::CheckTable,
    error::{Error, chain},
    firewall::FirewallTable,
    flow_counts::FlowScanner,
    flow_tables::FlowTables,
    half_open::HalfOpenCounts,
    offenders::OffenderTable,
    pins::Pins,
    plain::Plain,
    sys,
    words::Words,
};

/// The tables of a data path.
pub struct Tables {
    settings: Settings,
    meta: Array<MapData, Plain<Meta>>,
    services: HashMap<MapData, Plain<EndpointKey>, Plain<Service>>,
    slots: Array<MapData, u32>,
    cursors: Array<MapData, Plain<Cursor>>,
    backends: Array<MapData, Plain<Backend>>,
    backend_stats: PerCpuArray<MapData, Plain<BackendCounters>>,
    next_hops: Array<MapData, Plain<NextHop>>,
    interfaces: HashMap<MapData, u32, Plain<Interface>>,
    filter: Array<MapData, u64>,
    counters: PerCpuArray<MapData, Plain<Counters>>,
    sources: Array<MapData, Plain<Address>>,
    source_count: u32,
    source_index: HashMap<MapData, Plain<Address>, u32>,
    server_ids: HashMap<MapData, Plain<ServerIdKey>, u32>,
    capacity: Capacity,
    flows: FlowScanner,
    loads: Words,
    ports: Words,
    port_owners: Words,
    sync: Words,
    rates: Words,
    checks: CheckTable,
    firewall: FirewallTable,
    half_open: Arc<HalfOpenCounts>,
}

/// How many elements fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Services; each address with services takes one more.
    pub services: u32,
    /// Slots.
    pub slots: u32,
    /// Backend ids, of which 0 is never used.
    pub backends: u32,
    /// Next hops, of which 0 is never used.
    pub next_hops: u32,
}

fn read(table: &'static str) -> impl FnOnce(MapError) -> Error {
    move |error| Error::Table {
        table,
        action: "read",
        reason: chain(&error),
    }
}

fn write(table: &'static str) -> impl FnOnce(MapError) -> Error {
    move |error| Error::Table {
        table,
        action: "write",
        reason: chain(&error),
    }
}

/// A pinned map as its type, and its number of elements.
fn open<M: TryFrom<Map, Error = MapError>>(
    pins: &Pins,
    name: &'static str,
) -> Result<(M, u32), Error> {
    let data = MapData::from_pin(pins.file(name)).map_err(read(name))?;
    let size = data.info().map_err(read(name))?.max_entries();
    let map = Map::from_map_data(data)
        .and_then(M::try_from)
        .map_err(read(name))?;
    Ok((map, size))
}

impl Tables {
    /// Opens the pinned tables.
    pub(super) fn open(pins: &Pins, settings: Settings) -> Result<Self, Error> {
        let (services, service_count) = open(pins, maps::SERVICES)?;
        let (slots, slot_count) = open(pins, maps::SLOTS)?;
        let (backends, backend_count) = open(pins, maps::BACKENDS)?;
        let (next_hops, next_hop_count) = open(pins, maps::NEXT_HOPS)?;
        let flow_table = |name| -> Result<(MapData, u32), Error> {
            let data = MapData::from_pin(pins.file(name)).map_err(read(name))?;
            let size = data.info().map_err(read(name))?.max_entries();
            Ok((data, size))
        };
        let (established, established_count) = flow_table(maps::ESTABLISHED)?;
        let (half_open, half_open_count) = flow_table(maps::HALF_OPEN)?;
        let flows = FlowTables::of(
            (established.fd().as_fd(), established_count),
            (half_open.fd().as_fd(), half_open_count),
        )
        .map_err(|error| Error::Table {
            table: maps::ESTABLISHED,
            action: "map",
            reason: error.to_string(),
        })?;
        let flows = FlowScanner::new(flows);
        let words = |table| -> Result<Words, Error> {
            let (map, count) = flow_table(table)?;
            Words::map(map.fd().as_fd(), count).map_err(|errno| Error::Table {
                table,
                action: "map",
                reason: errno.to_string(),
            })
        };
        let (sources, source_count) = open(pins, maps::SOURCES)?;
        let (cursors, cursor_count) = flow_table(maps::CURSORS)?;
        let cursor_words = Words::map(cursors.fd().as_fd(), HalfOpenCounts::words(cursor_count))
            .map_err(|errno| Error::Table {
                table: maps::CURSORS,
                action: "map",
                reason: errno.to_string(),
            })?;
        let half_open = Arc::new(HalfOpenCounts {
            flows: flows.tables().clone(),
            cursors: cursor_words,
            backends: open(pins, maps::BACKENDS)?.0,
        });
        Ok(Self {
            settings,
            meta: open(pins, maps::META)?.0,
            services,
            slots,
            cursors: open(pins, maps::CURSORS)?.0,
            backends,
            backend_stats: open(pins, maps::BACKEND_STATS)?.0,
            next_hops,
            interfaces: open(pins, maps::INTERFACES)?.0,
            filter: open(pins, maps::FILTER)?.0,
            counters: open(pins, maps::COUNTERS)?.0,
            sources,
            source_count,
            source_index: open(pins, maps::SOURCE_INDEX)?.0,
            server_ids: open(pins, maps::SERVER_IDS)?.0,
            capacity: Capacity {
                services: service_count,
                slots: slot_count,
                backends: backend_count,
                next_hops: next_hop_count,
            },
            flows,
            loads: words(maps::LOADS)?,
            ports: words(maps::PORTS)?,
            port_owners: words(maps::PORT_OWNERS)?,
            sync: words(maps::SYNC)?,
            rates: {
                let (rates, lines) = flow_table(maps::RATES)?;
                let count = lines * lb_common::firewall::rate::WAYS as u32;
                Words::map(rates.fd().as_fd(), count).map_err(|errno| Error::Table {
                    table: maps::RATES,
                    action: "map",
                    reason: errno.to_string(),
                })?
            },
            checks: CheckTable::new(open(pins, maps::CHECKS)?.0),
            firewall: FirewallTable::new(
                words(maps::FIREWALL)?,
                open(pins, maps::FIREWALL_LPM)?.0,
                OffenderTable::new(open(pins, maps::OFFENDERS)?.0),
                settings,
            ),
            half_open,
        })
    }

    /// Sets the source addresses of full NAT, by index, and says whether flows of the addresses
    /// that were there before are lost, because they had other indexes.
    pub fn set_sources(&mut self, addresses: &[Address]) -> Result<bool, Error> {
        let mut old = std::collections::HashMap::new();
        for entry in self.source_index.iter() {
            let (address, index) = entry.map_err(read(maps::SOURCE_INDEX))?;
            old.insert(address.0, index);
        }
        let mut is_lost = false;
        for (index, address) in (0u32..).zip(addresses) {
            self.sources
                .set(index, Plain(*address), 0)
                .map_err(write(maps::SOURCES))?;
            self.source_index
                .insert(Plain(*address), index, 0)
                .map_err(write(maps::SOURCE_INDEX))?;
        }
        for (address, index) in old {
            let new = addresses.iter().position(|known| *known == address);
            is_lost |= new != Some(index as usize);
            if new.is_none() {
                absent_is_fine(self.source_index.remove(&Plain(address)))
                    .map_err(write(maps::SOURCE_INDEX))?;
            }
        }
        Ok(is_lost)
    }

    /// Whether there is room for so many source addresses of full NAT.
    pub fn check_sources(&self, needed: usize) -> Result<(), Error> {
        if self.settings.features & features::FULL_NAT == 0 || needed <= self.source_count as usize
        {
            return Ok(());
        }
        Err(Error::Full {
            what: "source addresses",
            capacity: self.source_count,
            needed,
        })
    }

    /// Backends by QUIC server id.
    pub fn server_ids(&self) -> Result<std::collections::HashMap<ServerIdKey, u32>, Error> {
        self.server_ids
            .iter()
            .map(|entry| entry.map(|(key, id)| (key.0, id)))
            .collect::<Result<_, _>>()
            .map_err(read(maps::SERVER_IDS))
    }

    /// Names a backend to QUIC connection ids.
    pub fn set_server_id(&mut self, key: ServerIdKey, backend: u32) -> Result<(), Error> {
        self.server_ids
            .insert(Plain(key), backend, 0)
            .map_err(write(maps::SERVER_IDS))
    }

    /// Removes such a name; one that is not there is fine.
    pub fn remove_server_id(&mut self, key: ServerIdKey) -> Result<(), Error> {
        absent_is_fine(self.server_ids.remove(&Plain(key))).map_err(write(maps::SERVER_IDS))
    }

    /// Half-open flows of each service, for SYN cookies.
    #[must_use]
    pub fn half_open_counts(&self) -> Arc<HalfOpenCounts> {
        Arc::clone(&self.half_open)
    }

    /// Live flows by backend id, for least connections.
    #[must_use]
    pub fn loads(&self) -> Words {
        self.loads.clone()
    }

    /// The bitmap of source ports in use, and whose they are; see [`lb_common::ports`].
    #[must_use]
    pub fn ports(&self) -> (Words, Words) {
        (self.ports.clone(), self.port_owners.clone())
    }

    /// The rings in which the data path tells of flows; see [`lb_common::sync`].
    #[must_use]
    pub fn sync(&self) -> Words {
        self.sync.clone()
    }

    /// Health checks that go through the data path.
    #[must_use]
    pub fn checks(&self) -> CheckTable {
        self.checks.clone()
    }

    /// Who may send.
    pub fn firewall(&mut self) -> &mut FirewallTable {
        &mut self.firewall
    }

    /// The firewall's words, and those of the lines of sources.
    #[must_use]
    pub fn source_words(&self) -> (Words, Words) {
        (self.firewall.words(), self.rates.clone())
    }

    /// How many elements fit.
    #[must_use]
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// What the program was loaded with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Counts flows, without borrowing the tables.
    #[must_use]
    pub fn flows(&self) -> FlowScanner {
        self.flows.clone()
    }

    pub(super) fn set_meta(&mut self, meta: &Meta) -> Result<(), Error> {
        self.meta.set(0, Plain(*meta), 0).map_err(write(maps::META))
    }

    /// Says that the tables can be taken over from now on.
    pub fn mark_filled(&mut self) -> Result<(), Error> {
        let settings = self.settings;
        self.set_meta(&Meta {
            abi: ABI_VERSION,
            reserved: 0,
            settings,
        })
    }

    /// All services, and the entries that say which addresses have some.
    pub fn services(&self) -> Result<Vec<(EndpointKey, Service)>, Error> {
        self.services
            .iter()
            .map(|entry| entry.map(|(key, service)| (key.0, service.0)))
            .collect::<Result<_, _>>()
            .map_err(read(maps::SERVICES))
    }

    /// Adds or replaces a service as a whole.
    pub fn set_service(&mut self, key: EndpointKey, service: Service) -> Result<(), Error> {
        self.services
            .insert(Plain(key), Plain(service), 0)
            .map_err(write(maps::SERVICES))
    }

    /// Removes a service; one that is not there is fine.
    pub fn remove_service(&mut self, key: EndpointKey) -> Result<(), Error> {
        absent_is_fine(self.services.remove(&Plain(key))).map_err(write(maps::SERVICES))
    }

    /// A region of slots.
    pub fn slots(&self, offset: u32, length: u32) -> Result<Vec<u32>, Error> {
        (offset..offset.saturating_add(length))
            .map(|index| self.slots.get(&index, 0))
            .collect::<Result<_, _>>()
            .map_err(read(maps::SLOTS))
    }

    /// Fills a region of slots, to which no service points yet.
    pub fn set_slots(&mut self, offset: u32, ids: &[u32]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        sys::update_u32_array(self.slots.map().fd().as_fd(), offset, ids).map_err(|error| {
            Error::Table {
                table: maps::SLOTS,
                action: "write",
                reason: error.to_string(),
            }
        })
    }

    /// Lets a service begin at its first slot.
    pub fn reset_cursor(&mut self, service: u32) -> Result<(), Error> {
        self.cursors
            .set(service, Plain(Cursor::new_zeroed()), 0)
            .map_err(write(maps::CURSORS))
    }

    /// Packets that a service's own lists kept out.
    pub fn denied(&self, service: u32) -> Result<u64, Error> {
        let cursor = self.cursors.get(&service, 0);
        let cursor = cursor.map_err(read(maps::CURSORS))?;
        Ok(cursor.0.denied)
    }

    /// A backend.
    pub fn backend(&self, id: u32) -> Result<Backend, Error> {
        self.backends
            .get(&id, 0)
            .map(|value| value.0)
            .map_err(read(maps::BACKENDS))
    }

    /// Replaces a backend.
    pub fn set_backend(&mut self, id: u32, backend: &Backend) -> Result<(), Error> {
        self.backends
            .set(id, Plain(*backend), 0)
            .map_err(write(maps::BACKENDS))
    }

    /// What was steered to a backend, on all CPUs.
    pub fn backend_counters(&self, id: u32) -> Result<BackendCounters, Error> {
        let values = self
            .backend_stats
            .get(&id, 0)
            .map_err(read(maps::BACKEND_STATS))?;
        Ok(values
            .iter()
            .fold(BackendCounters::default(), |sum, value| add(&sum, &value.0)))
    }

    /// The same of all backends whose ids are below `end`, by id. Element 0, which is none, is 0.
    pub fn all_backend_counters(&self, end: u32) -> Result<Vec<BackendCounters>, Error> {
        /// Words that are read at a time.
        const AT_ONCE: usize = 1 << 16;
        const WORDS: usize = size_of::<BackendCounters>() / size_of::<u64>();
        let end = end.min(self.capacity.backends);
        let mut all = vec![BackendCounters::default(); end as usize];
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| Error::Table {
            table: maps::BACKEND_STATS,
            action: "read",
            reason: error.to_string(),
        })?;
        let map = self.backend_stats.map().fd().as_fd();
        let mut values = vec![0; (AT_ONCE / (WORDS * cpus)).max(1) * WORDS * cpus];
        let mut next = 1;
        while next < all.len() {
            let room = (all.len() - next) * WORDS * cpus;
            let length = values.len().min(room);
            let part = &mut values[..length];
            match sys::lookup_percpu_array(map, next as u32 - 1, (WORDS, cpus), part) {
                Ok(count @ 1..) => {
                    let elements = part.chunks_exact(WORDS * cpus).take(count);
                    for (sum, element) in all[next..].iter_mut().zip(elements) {
                        for cpu in element.chunks_exact(WORDS) {
                            if let Ok(counters) = BackendCounters::read_from_bytes(cpu.as_bytes()) {
                                *sum = add(sum, &counters);
                            }
                        }
                    }
                    next += count;
                }
                // A kernel that cannot (before Linux 5.13), or does not want to.
                Ok(_) | Err(_) => {
                    for (id, sum) in (next as u32..).zip(&mut all[next..]) {
                        *sum = self.backend_counters(id)?;
                    }
                    break;
                }
            }
        }
        Ok(all)
    }

    /// Sets a backend's counters to 0, before its id is given to another.
    pub fn reset_backend_counters(&mut self, id: u32) -> Result<(), Error> {
        let zeros = aya::util::nr_cpus()
            .map_err(|(_, error)| error)
            .and_then(|cpus| aya::maps::PerCpuValues::try_from(vec![Plain::default(); cpus]))
            .map_err(|error| write(maps::BACKEND_STATS)(error.into()))?;
        self.backend_stats
            .set(id, zeros, 0)
            .map_err(write(maps::BACKEND_STATS))
    }

    /// A next hop.
    pub fn next_hop(&self, index: u32) -> Result<NextHop, Error> {
        self.next_hops
            .get(&index, 0)
            .map(|value| value.0)
            .map_err(read(maps::NEXT_HOPS))
    }

    /// Fills a next hop, at which no backend points.
    pub fn set_next_hop(&mut self, index: u32, next_hop: &NextHop) -> Result<(), Error> {
        self.next_hops
            .set(index, Plain(*next_hop), 0)
            .map_err(write(maps::NEXT_HOPS))
    }

    /// A word of the endpoint filter.
    pub fn filter_word(&self, index: u32) -> Result<u64, Error> {
        self.filter.get(&index, 0).map_err(read(maps::FILTER))
    }

    /// Replaces a word of the endpoint filter.
    pub fn set_filter_word(&mut self, index: u32, word: u64) -> Result<(), Error> {
        self.filter.set(index, word, 0).map_err(write(maps::FILTER))
    }

    /// What the data path was told of an interface.
    #[must_use]
    pub fn interface(&self, ifindex: u32) -> Option<Interface> {
        self.interfaces.get(&ifindex, 0).ok().map(|value| value.0)
    }

    /// Makes the interfaces those given, by index.
    pub fn set_interfaces(&mut self, interfaces: &[(u32, Interface)]) -> Result<(), Error> {
        for (ifindex, interface) in interfaces {
            self.interfaces
                .insert(ifindex, Plain(*interface), 0)
                .map_err(write(maps::INTERFACES))?;
        }
        let old = self.interfaces.keys().collect::<Result<Vec<_>, _>>();
        for ifindex in old.map_err(read(maps::INTERFACES))? {
            if !interfaces.iter().any(|(kept, _)| *kept == ifindex) {
                absent_is_fine(self.interfaces.remove(&ifindex))
                    .map_err(write(maps::INTERFACES))?;
            }
        }
        Ok(())
    }

    /// Packets by verdict and events, each by its label, on all CPUs.
    pub fn counters(&self) -> Result<CounterSums, Error> {
        let values = self.counters.get(&0, 0).map_err(read(maps::COUNTERS))?;
        let verdicts = Verdict::ALL.map(|verdict| {
            let index = verdict as usize;
            (
                verdict.label(),
                values.iter().map(|cpu| cpu.0.verdicts[index]).sum(),
            )
        });
        let events = Event::ALL.map(|event| {
            let index = event as usize;
            (
                event.label(),
                values.iter().map(|cpu| cpu.0.events[index]).sum(),
            )
        });
        Ok(CounterSums {
            verdicts: verdicts.to_vec(),
            events: events.to_vec(),
        })
    }
}

/// What [`Tables::counters`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CounterSums {
    /// Packets by the verdict's label, in the order of the verdicts.
    pub verdicts: Vec<(&'static str, u64)>,
    /// Events by their label.
    pub events: Vec<(&'static str, u64)>,
}

/// The sum of two sets of counters.
#[must_use]
pub fn add(a: &impl Borrow<BackendCounters>, b: &impl Borrow<BackendCounters>) -> BackendCounters {
    let (a, b) = (a.borrow(), b.borrow());
    BackendCounters {
        packets: a.packets + b.packets,
        bytes: a.bytes + b.bytes,
        connections: a.connections + b.connections,
        reply_packets: a.reply_packets + b.reply_packets,
        reply_bytes: a.reply_bytes + b.reply_bytes,
        accepted: a.accepted + b.accepted,
        refused: a.refused + b.refused,
        unanswered: a.unanswered + b.unanswered,
    }
}

/// An entry that is to go may be gone.
pub(super) fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        result => result,
    }
}
