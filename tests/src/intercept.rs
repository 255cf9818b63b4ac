//! The programs that take connects into the MySQL proxy, in the real kernel, on a cgroup that only
//! this process is in.

use std::fs::File;

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{Array, HashMap, PerCpuArray},
    programs::{CgroupAttachMode, CgroupSockAddr},
};
use lb_common::intercept::{Counters, Endpoint, Settings, maps, programs};

use crate::{
    cgroup::Cgroup,
    kernel::{INTERCEPT, Plain, plain},
};

/// The programs at work.
#[derive(Debug)]
pub struct Kernel(Ebpf);

impl Kernel {
    /// Loads and attaches them; nothing is taken yet.
    ///
    /// # Errors
    /// When the kernel refuses one of them.
    pub fn attach(cgroup: &Cgroup) -> Result<Self> {
        let mut ebpf = Ebpf::load(INTERCEPT).context("loading the object")?;
        let directory = File::open(cgroup.path())?;
        for name in programs::PEER.into_iter().chain(programs::CONNECT) {
            let program = ebpf.program_mut(name).context(name)?;
            let program: &mut CgroupSockAddr = program.try_into()?;
            program
                .load()
                .with_context(|| format!("the verifier refused {name}"))?;
            // Links are always beside others.
            program
                .attach(&directory, CgroupAttachMode::Single)
                .with_context(|| format!("attaching {name}"))?;
        }
        Ok(Self(ebpf))
    }

    /// What the verifier walked through for the largest of them.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn verified(&mut self) -> Result<u32> {
        let mut most = 0;
        for name in programs::PEER.into_iter().chain(programs::CONNECT) {
            let program: &mut CgroupSockAddr =
                self.0.program_mut(name).context(name)?.try_into()?;
            most = most.max(program.info()?.verified_instruction_count().unwrap_or(0));
        }
        Ok(most)
    }

    /// Tells them what to do.
    ///
    /// # Errors
    /// When the table refuses it.
    pub fn set(&mut self, settings: Settings) -> Result<()> {
        let map = self.0.map_mut(maps::SETTINGS).context("no settings")?;
        let mut table: Array<_, Plain<Settings>> = map.try_into()?;
        Ok(table.set(0, plain(settings), 0)?)
    }

    /// Tells them of a server.
    ///
    /// # Errors
    /// When the table refuses it.
    pub fn add_server(&mut self, server: Endpoint) -> Result<()> {
        let map = self.0.map_mut(maps::SERVERS).context("no servers")?;
        let mut table: HashMap<_, Plain<Endpoint>, u32> = map.try_into()?;
        Ok(table.insert(plain(server), 1, 0)?)
    }

    /// The process that made itself known.
    ///
    /// # Errors
    /// When the table is not there.
    pub fn agent(&self) -> Result<u32> {
        let map = self.0.map(maps::AGENT).context("no agent")?;
        let table: Array<_, u32> = map.try_into()?;
        Ok(table.get(&0, 0)?)
    }

    /// What was counted.
    ///
    /// # Errors
    /// When the table is not there.
    pub fn counters(&self) -> Result<Counters> {
        let map = self.0.map(maps::COUNTERS).context("no counters")?;
        let table: PerCpuArray<_, Plain<Counters>> = map.try_into()?;
        let mut sum = Counters::default();
        for Plain(cpu) in table.get(&0, 0)?.iter() {
            sum.intercepted += cpu.intercepted;
            sum.own += cpu.own;
            sum.other_namespace += cpu.other_namespace;
            sum.no_listener += cpu.no_listener;
        }
        Ok(sum)
    }
}
