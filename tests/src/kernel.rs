//! The real object in the real kernel, with the same tables as a host fixture.

mod clear;

use std::{collections, iter};

use anyhow::{Context, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, lpm_trie},
    programs::{TestRun, TestRunOptions, Xdp},
};
use lb_common::{
    abi::{
        self, Affinity, AffinityKey, BackendCounters, CHECK_CAPACITY, Check, Counters, Cursor,
        EVENT_CAPACITY, Fragment, FragmentKey, Settings, VERDICT_CAPACITY, maps,
    },
    address::Address,
    firewall,
    host::HostTables,
    ports, sync,
    verdict::Verdict,
};
use zerocopy::{Immutable, IntoBytes};

/// The object with the steering program.
pub static STEER: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-steer.o"));
/// The object with the decapsulation program.
pub static DECAP: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-decap.o"));
/// The object with the programs that take connects into the MySQL proxy.
pub static INTERCEPT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-intercept.o"));
/// The object with the programs for labs and benchmarks.
pub static LAB: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-lab.o"));

/// Source addresses of full NAT for which there is room.
const SOURCES: u32 = 4;

/// Entries that maps have at least, for what a later [`Kernel::refill`] may bring.
const ROOM: usize = 64;

/// Entries of maps that make room for new ones: so many that no test fills them, since the host's
/// tables never make room.
const LRU_ROOM: u32 = 16_384;

/// A value of the ABI as aya takes it.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Plain<T>(pub(crate) T);

// SAFETY: only types of the ABI that derive `IntoBytes` are wrapped (see `plain`), so they have no
// padding; those that are read back are made of plain integers, valid for all bytes.
unsafe impl<T: Copy + 'static> Pod for Plain<T> {}

/// Wraps a value of the ABI.
pub fn plain<T: IntoBytes + Immutable + Copy>(value: T) -> Plain<T> {
    Plain(value)
}

/// A loaded steering program.
#[derive(Debug)]
pub struct Kernel {
    ebpf: Ebpf,
    /// The program that its features ask for.
    name: &'static str,
    written: Written,
}

/// What stands in the arrays that only this process writes, by name: a row changes little, and
/// writing all of it costs more than the row.
type Written = collections::HashMap<&'static str, Vec<Vec<u8>>>;

/// What a test run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The XDP action.
    pub action: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

impl Kernel {
    /// Loads the program with maps of the fixture's sizes and content. Flow tables begin empty.
    pub fn load(tables: &HostTables) -> Result<Self> {
        let settings = plain(tables.settings);
        Self::load_with(loader(tables, &settings), tables)
    }

    /// Loads the program by a loader of its own.
    pub(crate) fn load_with(mut loader: EbpfLoader<'_>, tables: &HostTables) -> Result<Self> {
        let mut ebpf = loader.load(STEER).context("loading the steering object")?;
        let mut written = Written::new();
        fill_all(&mut ebpf, &mut written, tables)?;
        let name = abi::steer_program(tables.settings.features);
        program(&mut ebpf, name)?
            .load()
            .context("the verifier refused the program")?;
        Ok(Self {
            ebpf,
            name,
            written,
        })
    }

    /// Writes the tables anew, as an agent does whose model changed. Flows stay.
    pub fn refill(&mut self, tables: &HostTables) -> Result<()> {
        fill_all(&mut self.ebpf, &mut self.written, tables)
    }

    /// Empties both flow tables and sets every cursor to its beginning.
    pub fn forget_flows(&mut self, tables: &HostTables) -> Result<()> {
        for name in [
            maps::ESTABLISHED,
            maps::HALF_OPEN,
            maps::PORT_OWNERS,
            maps::LOADS,
            maps::RATES,
        ] {
            clear::clear(&mut self.ebpf, name)?;
        }
        fill(&mut self.ebpf, maps::PORTS, tables.port_words().into_iter())?;
        insert(
            &mut self.ebpf,
            maps::AFFINITY,
            iter::empty::<(AffinityKey, Affinity)>(),
        )?;
        insert(
            &mut self.ebpf,
            maps::FRAGMENTS,
            iter::empty::<(FragmentKey, Fragment)>(),
        )?;
        insert(
            &mut self.ebpf,
            maps::OFFENDERS,
            iter::empty::<(Address, u64)>(),
        )?;
        let cursors = tables.services.len();
        let start = Cursor {
            value: 0,
            half_open: 0,
            cookie_sent: 0,
            denied: 0,
            reserved: [0; 4],
        };
        fill(
            &mut self.ebpf,
            maps::CURSORS,
            std::iter::repeat_n(start, cursors),
        )
    }

    /// The maps.
    #[must_use]
    pub const fn maps(&self) -> &Ebpf {
        &self.ebpf
    }

    /// Runs the program once on a frame.
    pub fn run(&mut self, frame: &[u8]) -> Result<Ran> {
        run(self.steer()?, frame)
    }

    /// The program.
    pub fn steer(&mut self) -> Result<&mut Xdp> {
        program(&mut self.ebpf, self.name)
    }

    /// All counters, summed over CPUs.
    pub fn counters(&self) -> Result<Counters> {
        let map = self.ebpf.map(maps::COUNTERS).context("no counters")?;
        let map: PerCpuArray<&MapData, Plain<Counters>> = PerCpuArray::try_from(map)?;
        let mut sum = Counters {
            verdicts: [0; VERDICT_CAPACITY],
            events: [0; EVENT_CAPACITY],
        };
        for Plain(cpu) in map.get(&0, 0)?.iter() {
            for (total, value) in sum.verdicts.iter_mut().zip(cpu.verdicts) {
                *total += value;
            }
            for (total, value) in sum.events.iter_mut().zip(cpu.events) {
                *total += value;
            }
        }
        Ok(sum)
    }

    /// What was steered to a backend, summed over CPUs.
    pub fn backend_counters(&self, id: u32) -> Result<BackendCounters> {
        let map = self.ebpf.map(maps::BACKEND_STATS).context("no counters")?;
        let map: PerCpuArray<&MapData, Plain<BackendCounters>> = PerCpuArray::try_from(map)?;
        let mut sum = BackendCounters::default();
        for Plain(cpu) in map.get(&id, 0)?.iter() {
            sum.packets += cpu.packets;
            sum.bytes += cpu.bytes;
            sum.connections += cpu.connections;
            sum.reply_packets += cpu.reply_packets;
            sum.reply_bytes += cpu.reply_bytes;
            sum.accepted += cpu.accepted;
            sum.refused += cpu.refused;
            sum.unanswered += cpu.unanswered;
        }
        Ok(sum)
    }

    /// Where the rings stand in which the program tells of flows, see [`sync`].
    pub fn told_so_far(&self) -> Result<Vec<u64>> {
        let map = self.ebpf.map(maps::SYNC).context("no rings")?;
        let map: Array<&MapData, u64> = Array::try_from(map)?;
        (0..sync::LANES)
            .map(|cpu| Ok(map.get(&sync::cursor(cpu), 0)?))
            .collect()
    }

    /// The marks that it told of since then, in order of their values, as far as they were not
    /// overwritten.
    pub fn told_since(&self, before: &[u64]) -> Result<Vec<u64>> {
        let now = self.told_so_far()?;
        let map = self.ebpf.map(maps::SYNC).context("no rings")?;
        let map: Array<&MapData, u64> = Array::try_from(map)?;
        let mut marks = Vec::new();
        for ((cpu, before), now) in (0..).zip(before).zip(now) {
            for number in *before..now {
                marks.push(map.get(&sync::slot(cpu, number), 0)?);
            }
        }
        marks.sort_unstable();
        Ok(marks)
    }

    /// How often a verdict was given.
    pub fn verdict(&self, verdict: Verdict) -> Result<u64> {
        Ok(self.counters()?.verdicts[verdict as usize])
    }
}

/// Runs a program once on a frame.
pub fn run(program: &Xdp, frame: &[u8]) -> Result<Ran> {
    let mut out = vec![0; frame.len() + 512];
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ..TestRunOptions::default()
    })?;
    out.truncate(result.data_size_out as usize);
    Ok(Ran {
        action: result.return_value,
        frame: out,
    })
}

/// A loader with maps of the fixture's sizes.
pub(crate) fn loader<'a>(tables: &HostTables, settings: &'a Plain<Settings>) -> EbpfLoader<'a> {
    let entries = |count: usize| count.max(ROOM) as u32;
    let mut loader = EbpfLoader::new();
    loader
        .override_global(abi::SETTINGS_GLOBAL, settings, true)
        .map_max_entries(maps::SERVICES, entries(tables.services.len()))
        .map_max_entries(maps::SLOTS, entries(tables.slots.len()))
        .map_max_entries(maps::CURSORS, entries(tables.services.len()))
        .map_max_entries(maps::BACKENDS, entries(tables.backends.len()))
        .map_max_entries(maps::BACKEND_STATS, entries(tables.backends.len()))
        .map_max_entries(maps::NEXT_HOPS, entries(tables.next_hops.len()))
        .map_max_entries(maps::FILTER, entries(tables.filter().len()))
        .map_max_entries(maps::ESTABLISHED, tables.settings.established_mask + 1)
        .map_max_entries(maps::HALF_OPEN, tables.settings.half_open_mask + 1)
        .map_max_entries(maps::LOADS, entries(tables.backends.len()))
        .map_max_entries(maps::SOURCES, entries(tables.sources.len()))
        .map_max_entries(maps::SOURCE_INDEX, entries(tables.sources.len()))
        .map_max_entries(maps::PORTS, ports::words(SOURCES))
        .map_max_entries(maps::PORT_OWNERS, ports::owners(SOURCES))
        .map_max_entries(maps::AFFINITY, LRU_ROOM)
        .map_max_entries(maps::FRAGMENTS, LRU_ROOM)
        .map_max_entries(maps::SERVER_IDS, entries(tables.server_ids.len()))
        .map_max_entries(maps::CHECKS, CHECK_CAPACITY)
        .map_max_entries(maps::FIREWALL, firewall::WORDS)
        .map_max_entries(maps::RATES, firewall::rate::ALL_LINES)
        .map_max_entries(maps::OFFENDERS, LRU_ROOM)
        .map_max_entries(maps::FIREWALL_LPM, firewall::MOST_PREFIXES)
        .map_max_entries(maps::SYNC, sync::WORDS);
    loader
}

/// The XDP program of that name.
pub fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| anyhow!("no program {name}"))?;
    Ok(program.try_into()?)
}

fn fill_all(ebpf: &mut Ebpf, written: &mut Written, tables: &HostTables) -> Result<()> {
    refill(ebpf, written, maps::SLOTS, padded(&tables.slots))?;
    refill(ebpf, written, maps::BACKENDS, padded(&tables.backends))?;
    refill(ebpf, written, maps::NEXT_HOPS, padded(&tables.next_hops))?;
    let filter = tables.filter().iter().copied();
    refill(ebpf, written, maps::FILTER, filter)?;
    insert(
        ebpf,
        maps::SERVICES,
        tables.services.iter().map(|(k, v)| (*k, *v)),
    )?;
    let sources = tables.sources.iter().copied();
    refill(ebpf, written, maps::SOURCES, sources)?;
    insert(
        ebpf,
        maps::SOURCE_INDEX,
        (0u32..)
            .zip(&tables.sources)
            .map(|(index, address)| (*address, index)),
    )?;
    insert(
        ebpf,
        maps::SERVER_IDS,
        tables.server_ids.iter().map(|(k, v)| (*k, *v)),
    )?;
    fill_checks(ebpf, written, tables)?;
    fill_firewall(ebpf, written, tables)?;
    insert(
        ebpf,
        maps::INTERFACES,
        tables.interfaces.iter().map(|(k, v)| (*k, *v)),
    )?;
    Ok(())
}

/// Writes the checks under way, and nothing at the ports of those before.
fn fill_checks(ebpf: &mut Ebpf, written: &mut Written, tables: &HostTables) -> Result<()> {
    let known = written.entry(maps::CHECKS).or_default();
    let mut map = array(ebpf, maps::CHECKS)?;
    for port in known.drain(..) {
        let port = u16::from_ne_bytes(port.as_slice().try_into()?);
        map.set(u32::from(port), plain(Check::default()), 0)?;
    }
    for (port, check) in &tables.checks {
        map.set(u32::from(*port), plain(*check), 0)?;
        known.push(port.to_ne_bytes().to_vec());
    }
    Ok(())
}

/// Writes the words of the firewall that are set, and nothing over those before; and the trie.
fn fill_firewall(ebpf: &mut Ebpf, written: &mut Written, tables: &HostTables) -> Result<()> {
    let known = written.entry(maps::FIREWALL).or_default();
    let mut map = array::<u64>(ebpf, maps::FIREWALL)?;
    for index in known.drain(..) {
        map.set(
            u32::from_ne_bytes(index.as_slice().try_into()?),
            plain(0),
            0,
        )?;
    }
    for (index, word) in tables.firewall.words() {
        map.set(index, plain(word), 0)?;
        known.push(index.to_ne_bytes().to_vec());
    }
    let map = ebpf.map_mut(maps::FIREWALL_LPM).context("no trie")?;
    let mut map: LpmTrie<&mut MapData, [u8; 20], u32> = LpmTrie::try_from(map)?;
    let old: Vec<_> = map.keys().collect::<Result<_, _>>()?;
    for key in &old {
        map.remove(key)?;
    }
    for (key, entry) in tables.firewall.entries() {
        let data = key.as_bytes()[4..].try_into()?;
        map.insert(&lpm_trie::Key::new(key.prefix_length, data), entry.0, 0)?;
    }
    Ok(())
}

/// The values, and empty ones over what an earlier, longer filling may have left.
fn padded<T: Copy + Default>(values: &[T]) -> impl Iterator<Item = T> {
    let missing = ROOM.saturating_sub(values.len());
    let padding = std::iter::repeat_n(T::default(), missing);
    values.iter().copied().chain(padding)
}

/// Writes what has changed of an array that only this process writes.
fn refill<T>(
    ebpf: &mut Ebpf,
    written: &mut Written,
    name: &'static str,
    values: impl Iterator<Item = T>,
) -> Result<()>
where
    T: IntoBytes + Immutable + Copy + 'static,
{
    let known = written.entry(name).or_default();
    let mut map = array(ebpf, name)?;
    for (index, value) in values.enumerate() {
        let bytes = value.as_bytes();
        match known.get_mut(index) {
            Some(old) if old == bytes => continue,
            Some(old) => *old = bytes.to_vec(),
            None => known.push(bytes.to_vec()),
        }
        map.set(index as u32, plain(value), 0)?;
    }
    Ok(())
}

fn array<'e, T: Copy + 'static>(
    ebpf: &'e mut Ebpf,
    name: &str,
) -> Result<Array<&'e mut MapData, Plain<T>>> {
    let map = ebpf.map_mut(name).ok_or_else(|| anyhow!("no map {name}"))?;
    Ok(Array::try_from(map)?)
}

fn fill<T>(ebpf: &mut Ebpf, name: &str, values: impl Iterator<Item = T>) -> Result<()>
where
    T: IntoBytes + Immutable + Copy + 'static,
{
    let mut map = array(ebpf, name)?;
    for (index, value) in values.enumerate() {
        map.set(index as u32, plain(value), 0)?;
    }
    Ok(())
}

fn insert<K, V>(ebpf: &mut Ebpf, name: &str, values: impl Iterator<Item = (K, V)>) -> Result<()>
where
    K: IntoBytes + Immutable + Copy + 'static,
    V: IntoBytes + Immutable + Copy + 'static,
{
    let map = ebpf.map_mut(name).ok_or_else(|| anyhow!("no map {name}"))?;
    let mut map: HashMap<&mut MapData, Plain<K>, Plain<V>> = HashMap::try_from(map)?;
    let old: Vec<_> = map.keys().collect::<Result<_, _>>()?;
    for key in &old {
        map.remove(key)?;
    }
    for (key, value) in values {
        map.insert(plain(key), plain(value), 0)?;
    }
    Ok(())
}
