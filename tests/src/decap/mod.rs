//! The decapsulation program on both sides: the function of `lb-common` on the host, and the real
//! object in the kernel, by the same rules.

mod rows;

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{
        HashMap, MapData, PerCpuArray,
        lpm_trie::{Key, LpmTrie},
    },
    programs::Xdp,
};
use lb_common::{
    decap::{
        Disposition, Verdict,
        abi::{Counters, PROGRAM, SETTINGS_GLOBAL, SourceKey, VERDICT_CAPACITY, maps},
        host::HostRules,
        process,
    },
    host::{HostFrame, INGRESS},
};

pub use rows::{Row, all};

use crate::{
    kernel::{DECAP, Plain, plain, program, run},
    rows::run::action,
};

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Why.
    pub verdict: Verdict,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// By the function on the host.
#[must_use]
pub fn on_host(rules: &HostRules, frame: &[u8]) -> Left {
    let mut host = HostFrame::new(frame, INGRESS);
    let verdict = process(&mut host, rules);
    Left {
        verdict,
        frame: host.bytes().to_vec(),
    }
}

/// The loaded program.
#[derive(Debug)]
pub struct Kernel(Ebpf);

impl Kernel {
    /// Loads it with these rules.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn load(rules: &HostRules) -> Result<Self> {
        let settings = plain(rules.settings);
        let mut ebpf = EbpfLoader::new()
            .override_global(SETTINGS_GLOBAL, &settings, true)
            .map_max_entries(maps::VIPS, rules.vips.len().max(1) as u32)
            .map_max_entries(maps::SOURCES, rules.sources.len().max(1) as u32)
            .load(DECAP)
            .context("loading the decapsulation object")?;
        let map = ebpf.map_mut(maps::VIPS).context("no VIPs")?;
        let mut vips: HashMap<&mut MapData, Plain<_>, u32> = HashMap::try_from(map)?;
        for vip in &rules.vips {
            vips.insert(plain(*vip), 1, 0)?;
        }
        let map = ebpf.map_mut(maps::SOURCES).context("no sources")?;
        let mut sources: LpmTrie<&mut MapData, Plain<[u32; 5]>, u32> = LpmTrie::try_from(map)?;
        for (address, length) in &rules.sources {
            let key = SourceKey::new(*address, *length);
            let [a, b, c, d] = zerocopy::transmute!(key.address);
            let data = plain([key.family, a, b, c, d]);
            sources.insert(&Key::new(key.length, data), 1, 0)?;
        }
        program(&mut ebpf, PROGRAM)?
            .load()
            .context("the verifier refused the program")?;
        Ok(Self(ebpf))
    }

    /// Runs it once on a frame.
    ///
    /// # Errors
    /// When the action or the counters do not go with exactly one verdict.
    pub fn run(&mut self, frame: &[u8]) -> Result<Left> {
        let before = self.counters()?;
        let ran = run(program(&mut self.0, PROGRAM)?, frame)?;
        let after = self.counters()?;
        let mut counted = Verdict::ALL
            .into_iter()
            .filter(|one| after[*one as usize] != before[*one as usize]);
        let (Some(verdict), None) = (counted.next(), counted.next()) else {
            anyhow::bail!("not exactly one verdict was counted");
        };
        ensure!(after[verdict as usize] == before[verdict as usize] + 1);
        let expected = match verdict.disposition() {
            Disposition::Pass => action::PASS,
            Disposition::Drop => action::DROP,
        };
        ensure!(
            ran.action == expected,
            "{verdict:?} and action {}",
            ran.action
        );
        Ok(Left {
            verdict,
            frame: ran.frame,
        })
    }

    /// The program itself.
    ///
    /// # Errors
    /// When the object has none.
    pub fn program(&mut self) -> Result<&mut Xdp> {
        program(&mut self.0, PROGRAM)
    }

    /// The instructions that the verifier walked through.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn verified(&mut self) -> Result<u32> {
        let info = program(&mut self.0, PROGRAM)?.info()?;
        info.verified_instruction_count().context("not told")
    }

    fn counters(&self) -> Result<[u64; VERDICT_CAPACITY]> {
        let map = self.0.map(maps::COUNTERS).context("no counters")?;
        let map: PerCpuArray<&MapData, [u64; VERDICT_CAPACITY]> = PerCpuArray::try_from(map)?;
        let mut sums = [0; VERDICT_CAPACITY];
        for cpu in map.get(&0, 0)?.iter() {
            for (sum, count) in sums.iter_mut().zip(cpu) {
                *sum += count;
            }
        }
        Ok(sums)
    }
}

const _: () = assert!(size_of::<Counters>() == size_of::<[u64; VERDICT_CAPACITY]>());
