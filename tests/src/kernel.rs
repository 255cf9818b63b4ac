//! The real object in the real kernel, with the same tables as a host fixture.

use anyhow::{Context, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, MapData, PerCpuArray},
    programs::{TestRun, TestRunOptions, Xdp},
};
use lb_common::{
    abi::{self, Counters, EVENT_CAPACITY, STEER_PROGRAM, VERDICT_CAPACITY, maps},
    host::HostTables,
    verdict::Verdict,
};
use zerocopy::{Immutable, IntoBytes};

/// The object with the steering program.
pub static STEER: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-steer.o"));
/// The object with the programs for labs and benchmarks.
pub static LAB: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-lab.o"));

/// A value of the ABI as aya takes it.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Plain<T>(T);

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
}

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
        let entries = |count: usize| count.max(1) as u32;
        let cursors = tables.services.values().map(|service| service.id + 1).max();
        let mut ebpf = EbpfLoader::new()
            .override_global(abi::SETTINGS_GLOBAL, &settings, true)
            .map_max_entries(maps::SERVICES, entries(tables.services.len()))
            .map_max_entries(maps::SLOTS, entries(tables.slots.len()))
            .map_max_entries(maps::CURSORS, cursors.unwrap_or(1))
            .map_max_entries(maps::BACKENDS, entries(tables.backends.len()))
            .map_max_entries(maps::BACKEND_STATS, entries(tables.backends.len()))
            .map_max_entries(maps::NEXT_HOPS, entries(tables.next_hops.len()))
            .map_max_entries(maps::FILTER, entries(tables.filter().len()))
            .map_max_entries(maps::ESTABLISHED, tables.settings.established_mask + 1)
            .map_max_entries(maps::HALF_OPEN, tables.settings.half_open_mask + 1)
            .load(STEER)
            .context("loading the steering object")?;
        fill(&mut ebpf, maps::SLOTS, tables.slots.iter().copied())?;
        fill(&mut ebpf, maps::BACKENDS, tables.backends.iter().copied())?;
        fill(&mut ebpf, maps::NEXT_HOPS, tables.next_hops.iter().copied())?;
        fill(&mut ebpf, maps::FILTER, tables.filter().iter().copied())?;
        insert(
            &mut ebpf,
            maps::SERVICES,
            tables.services.iter().map(|(k, v)| (*k, *v)),
        )?;
        insert(
            &mut ebpf,
            maps::INTERFACES,
            tables.interfaces.iter().map(|(k, v)| (*k, *v)),
        )?;
        program(&mut ebpf, STEER_PROGRAM)?
            .load()
            .context("the verifier refused the program")?;
        Ok(Self { ebpf })
    }

    /// Runs the program once on a frame.
    pub fn run(&mut self, frame: &[u8]) -> Result<Ran> {
        let mut out = vec![0; frame.len() + 512];
        let program = program(&mut self.ebpf, STEER_PROGRAM)?;
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

    /// Takes a program out of the object, for benchmarks.
    pub fn program(&mut self, name: &str) -> Result<&mut Xdp> {
        program(&mut self.ebpf, name)
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

    /// How often a verdict was given.
    pub fn verdict(&self, verdict: Verdict) -> Result<u64> {
        Ok(self.counters()?.verdicts[verdict as usize])
    }
}

/// The XDP program of that name.
pub fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| anyhow!("no program {name}"))?;
    Ok(program.try_into()?)
}

fn fill<T>(ebpf: &mut Ebpf, name: &str, values: impl Iterator<Item = T>) -> Result<()>
where
    T: IntoBytes + Immutable + Copy + 'static,
{
    let map = ebpf.map_mut(name).ok_or_else(|| anyhow!("no map {name}"))?;
    let mut map: Array<&mut MapData, Plain<T>> = Array::try_from(map)?;
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
    for (key, value) in values {
        map.insert(plain(key), plain(value), 0)?;
    }
    Ok(())
}
