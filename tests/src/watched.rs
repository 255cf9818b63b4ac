//! A program and its twin that only tells what it would do, on the same maps.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, MapData, PerCpuArray},
};
use lb_common::{
    abi::{
        Affinity, AffinityKey, Cursor, Fragment, FragmentKey, Settings, features, maps,
        steer_program,
    },
    flow::Bucket,
    host::HostTables,
    trace::{self, Trace},
};

use crate::kernel::{self, Kernel, Plain, Ran, loader, plain, program};

/// A directory of pins that goes with this value.
#[derive(Debug)]
struct Pins(PathBuf);

impl Pins {
    fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new("/sys/fs/bpf").join(format!("lb-twin-{}-{number}", process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // What is left is said by the test run's own look at leftovers.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A loaded program, and its twin.
#[derive(Debug)]
pub struct Watched {
    /// The program.
    pub kernel: Kernel,
    twin: Ebpf,
    features: u32,
    runs: u32,
}

impl Watched {
    /// Loads both.
    ///
    /// # Errors
    /// When one is refused.
    pub fn load(tables: &HostTables) -> Result<Self> {
        let pins = Pins::new()?;
        let settings = plain(tables.settings);
        let kernel = {
            let mut loader = loader(tables, &settings);
            for name in maps::ALL {
                loader.map_pin_path(name, pins.0.join(name));
            }
            Kernel::load_with(loader, tables)?
        };
        let watching = plain(Settings {
            features: tables.settings.features | features::DRY_RUN,
            ..tables.settings
        });
        let mut loader = loader(tables, &watching);
        for name in maps::ALL {
            loader.map_pin_path(name, pins.0.join(name));
        }
        let mut twin = loader.load(crate::kernel::STEER)?;
        program(&mut twin, steer_program(tables.settings.features))?
            .load()
            .context("the verifier refused the twin")?;
        Ok(Self {
            kernel,
            twin,
            features: tables.settings.features,
            runs: 0,
        })
    }

    /// What would become of a frame.
    ///
    /// # Errors
    /// When it cannot be run, or something changed.
    pub fn dry_run(&mut self, frame: &[u8]) -> Result<(Ran, Trace)> {
        // Reading everything takes most of the time; one run in three stands for all.
        self.runs += 1;
        let before = if self.runs.is_multiple_of(3) {
            Some(self.snapshot()?)
        } else {
            None
        };
        let ran = kernel::run(
            program(&mut self.twin, steer_program(self.features))?,
            frame,
        )?;
        if let Some(before) = before {
            ensure!(self.snapshot()? == before, "a dry run changed something");
        }
        Ok((ran, self.trace()?))
    }

    /// The trace of the latest run: no other CPU ran as often as the one that it was on.
    fn trace(&mut self) -> Result<Trace> {
        let map = self.twin.map_mut(trace::MAP).context("no trace")?;
        let mut map: PerCpuArray<&mut MapData, Plain<Trace>> = PerCpuArray::try_from(map)?;
        let values = map.get(&0, 0)?;
        let mut ran = values.iter().map(|value| value.0).filter(|t| t.runs != 0);
        let found = ran.next().context("no CPU left a trace")?;
        ensure!(ran.next().is_none(), "two CPUs left a trace");
        let empty: Vec<_> = values.iter().map(|_| plain(Trace::default())).collect();
        map.set(0, aya::maps::PerCpuValues::try_from(empty)?, 0)?;
        Ok(found)
    }

    /// Everything that a packet may change.
    fn snapshot(&self) -> Result<Vec<u8>> {
        let ebpf = self.kernel.maps();
        let mut all = Vec::new();
        array::<[u8; size_of::<Bucket>()]>(ebpf, maps::ESTABLISHED, &mut all)?;
        array::<[u8; size_of::<Bucket>()]>(ebpf, maps::HALF_OPEN, &mut all)?;
        array::<[u8; size_of::<Cursor>()]>(ebpf, maps::CURSORS, &mut all)?;
        // Thousands of words, which nothing else can change.
        if self.features & features::FULL_NAT != 0 {
            array::<[u8; 8]>(ebpf, maps::PORTS, &mut all)?;
        }
        // Whatever is told of moves a cursor.
        let told = self.kernel.told_so_far()?;
        all.extend(told.iter().flat_map(|cursor| cursor.to_ne_bytes()));
        if self.features & features::LEAST_CONNECTIONS != 0 {
            array::<[u8; 8]>(ebpf, maps::LOADS, &mut all)?;
        }
        hash::<[u8; size_of::<AffinityKey>()], [u8; size_of::<Affinity>()]>(
            ebpf,
            maps::AFFINITY,
            &mut all,
        )?;
        hash::<[u8; size_of::<FragmentKey>()], [u8; size_of::<Fragment>()]>(
            ebpf,
            maps::FRAGMENTS,
            &mut all,
        )?;
        hash::<[u8; 16], [u8; 8]>(ebpf, maps::OFFENDERS, &mut all)?;
        let counters = self.kernel.counters()?;
        all.extend(
            counters
                .verdicts
                .iter()
                .flat_map(|count| count.to_ne_bytes()),
        );
        all.extend(counters.events.iter().flat_map(|count| count.to_ne_bytes()));
        Ok(all)
    }
}

fn array<T: Pod + AsRef<[u8]>>(ebpf: &Ebpf, name: &str, all: &mut Vec<u8>) -> Result<()> {
    let map: Array<&MapData, T> = Array::try_from(ebpf.map(name).context("no such map")?)?;
    for value in map.iter() {
        all.extend_from_slice(value?.as_ref());
    }
    Ok(())
}

fn hash<K: Pod + AsRef<[u8]>, V: Pod + AsRef<[u8]>>(
    ebpf: &Ebpf,
    name: &str,
    all: &mut Vec<u8>,
) -> Result<()> {
    let map: HashMap<&MapData, K, V> = HashMap::try_from(ebpf.map(name).context("no such map")?)?;
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for entry in map.iter() {
        let (key, value) = entry?;
        entries.push((key.as_ref().to_vec(), value.as_ref().to_vec()));
    }
    entries.sort();
    for (key, value) in entries {
        all.extend(key);
        all.extend(value);
    }
    Ok(())
}
