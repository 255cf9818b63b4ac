//! The namespace that live frames run in: wires, generator, sinks.
//!
//! ```text
//! generator g0 ═ l0 (program under test) l1 ═ s1 sink
//! ```
//! Everything is in one namespace and on one CPU, with one queue for each end.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, PerCpuArray},
    programs::{
        TestRun, TestRunAttrs, TestRunOptions,
        xdp::{XdpLink, XdpMode},
    },
};
use lb_common::{headers::Mac, host::MAC_BALANCER, lab::Plan};
use lb_lab::Lab;
use nix::{
    net::if_::if_nametoindex,
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::kernel::{self, LAB, Plain, program};

/// The one namespace.
pub(super) const NAMESPACE: &str = "pps";
/// MAC of the balancer's other interface.
pub(super) const MAC_L1: Mac = [2, 0, 0, 0, 0, 0x1c];
/// MAC of the generator's interface.
pub(super) const MAC_G0: Mac = [2, 0, 0, 0, 0, 0xc1];
/// MAC of the sink, whom the kernel takes for all the backends.
pub(super) const MAC_S1: Mac = [2, 0, 0, 0, 0, 0xb1];

/// Frames that the kernel makes before it lets the interface work them off. Larger ones are no
/// faster; smaller ones measure the wires.
const BATCH: u32 = 64;

/// How long the last batch may take to arrive.
const PATIENCE: Duration = Duration::from_millis(500);

/// Adds the namespace to a lab and wires it.
pub(super) fn wire(lab: &mut Lab) -> Result<()> {
    let namespace = lab.add(NAMESPACE)?;
    // Sinks count every frame, and IPv6 would send some of its own.
    for scope in ["all", "default"] {
        namespace.sysctl(&format!("net.ipv6.conf.{scope}.disable_ipv6"), "1")?;
    }
    namespace.sysctl("net.ipv4.ip_forward", "1")?;
    let mac = |mac: Mac| mac.map(|byte| format!("{byte:02x}")).join(":");
    let pair = |near: (&str, Mac), far: (&str, Mac)| {
        let queues = "numtxqueues 1 numrxqueues 1";
        format!(
            "link add {} address {} {queues} type veth peer name {} address {} {queues}\n\
             link set dev {} up\nlink set dev {} up\n",
            near.0,
            mac(near.1),
            far.0,
            mac(far.1),
            near.0,
            far.0
        )
    };
    let mut lines = pair(("g0", MAC_G0), ("l0", MAC_BALANCER));
    lines += &pair(("l1", MAC_L1), ("s1", MAC_S1));
    lines += "addr add 10.79.255.1/12 dev l0\naddr add 10.0.0.1/24 dev l1\n";
    for host in [11, 12, 13] {
        let neighbour = mac(MAC_S1);
        lines += &format!("neigh add 10.0.0.{host} dev l1 lladdr {neighbour} nud permanent\n");
    }
    namespace.ip_batch(&lines)?;
    for interface in ["l0", "l1"] {
        // Without a program, a veth has a receive queue of its own only for GRO.
        lab.prepare_end(NAMESPACE, interface)?;
    }
    Ok(())
}

/// Interface indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interfaces {
    pub(super) g0: u32,
    pub(super) l0: u32,
    pub(super) l1: u32,
}

impl Interfaces {
    /// Looks them up; the caller is in the namespace.
    pub(super) fn find() -> Result<Self> {
        let index = |name| if_nametoindex(name).with_context(|| format!("no interface {name}"));
        Ok(Self {
            g0: index("g0")?,
            l0: index("l0")?,
            l1: index("l1")?,
        })
    }
}

/// What a run gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sent {
    /// Nanoseconds per packet, by the kernel's clock.
    pub(super) nanos: f64,
    /// Packets that reached a sink.
    pub(super) delivered: u64,
}

/// Makes frames, on one CPU, and counts those that reach a sink.
pub(in crate::bench) struct Generator {
    lab: Ebpf,
    ifindex: u32,
}

impl Generator {
    /// Loads the programs and attaches the sinks to these interfaces; frames leave by the first. The
    /// caller is in their namespace, and stays there.
    pub(in crate::bench) fn new(interfaces: &[&str]) -> Result<Self> {
        let mut lab = EbpfLoader::new().load(LAB)?;
        for name in ["generate", "sink", "bounce"] {
            program(&mut lab, name)?.load()?;
        }
        let sink = program(&mut lab, "sink")?;
        for interface in interfaces {
            sink.attach(interface, XdpMode::Driver)?;
        }
        let first = interfaces.first().context("no interface to send by")?;
        Ok(Self {
            lab,
            ifindex: if_nametoindex(*first)?,
        })
    }

    /// Sets what the frames are.
    pub(in crate::bench) fn set(&mut self, plan: Plan) -> Result<()> {
        let mut plans: Array<&mut MapData, Plain<Plan>> = self
            .lab
            .map_mut("PLAN")
            .context("no map PLAN")?
            .try_into()?;
        Ok(plans.set(0, kernel::plain(plan), 0)?)
    }

    /// Sends the next frames of what was set, and says how long that took by the kernel's clock.
    pub(in crate::bench) fn fire(&mut self, plan: &Plan, packets: u32) -> Result<Duration> {
        // As long as the shortest frame on a wire.
        let frame = &plan.template[..64];
        let context = context(frame.len(), self.ifindex);
        let ran = program(&mut self.lab, "generate")?.test_run(TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            repeat: packets,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        })?;
        Ok(ran.duration)
    }

    /// Frames that reached a sink so far.
    pub(in crate::bench) fn sunk(&self) -> Result<u64> {
        let map = self.lab.map("SUNK").context("no map SUNK")?;
        let map: PerCpuArray<&MapData, u64> = PerCpuArray::try_from(map)?;
        Ok(map.get(&0, 0)?.iter().sum())
    }
}

/// The generator and the sinks.
pub(super) struct Bed {
    pub(super) interfaces: Interfaces,
    generator: Generator,
    cpu: usize,
}

impl Bed {
    /// Loads the programs and attaches the sinks; the caller is in the namespace, and stays on one
    /// CPU from here on.
    pub(super) fn new() -> Result<Self> {
        let cpu = stay_on_one_cpu()?;
        let interfaces = Interfaces::find()?;
        Ok(Self {
            interfaces,
            generator: Generator::new(&["g0", "s1"])?,
            cpu,
        })
    }

    /// Attaches one of the lab's own programs to l0 until the link is dropped.
    pub(super) fn attach(&mut self, name: &str) -> Result<XdpLink> {
        let l0 = self.interfaces.l0;
        let program = program(&mut self.generator.lab, name)?;
        let id = program.attach_to_if_index(l0, XdpMode::Driver)?;
        Ok(program.take_link(id)?)
    }

    /// Sends packets by the plan from g0.
    pub(super) fn send(&mut self, plan: Plan, packets: u32) -> Result<Sent> {
        self.generator.set(plan)?;
        let before = self.generator.sunk()?;
        let took = self.generator.fire(&plan, packets)?;
        let deadline = Instant::now() + PATIENCE;
        while self.generator.sunk()? < before + u64::from(packets) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(Sent {
            nanos: took.as_nanos() as f64,
            delivered: self.generator.sunk()? - before,
        })
    }

    /// CPU time of the thread that softirqs of this CPU are put off to, in nanoseconds. The
    /// kernel's clock stops while another thread runs, so it has to have none.
    pub(super) fn put_off_nanos(&self) -> Result<u64> {
        let name = format!("ksoftirqd/{}\n", self.cpu);
        let is_it = |folder: &std::path::Path| {
            fs::read_to_string(folder.join("comm")).is_ok_and(|comm| comm == name)
        };
        let found = fs::read_dir("/proc")?
            .flatten()
            .map(|entry| entry.path())
            .find(|folder| is_it(folder))
            .with_context(|| format!("no thread {name}"))?;
        let text = fs::read_to_string(found.join("schedstat"))?;
        let first = text.split(' ').next().context("schedstat is empty")?;
        Ok(first.parse()?)
    }
}

/// `struct xdp_md` of a frame that came in by an interface.
pub(super) fn context(length: usize, ifindex: u32) -> Vec<u8> {
    let (data, queue, egress) = (0, 0, 0);
    [data, length as u32, data, ifindex, queue, egress]
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect()
}

/// Keeps the calling thread on the last CPU that it may use.
pub(in crate::bench) fn stay_on_one_cpu() -> Result<usize> {
    let this_thread = Pid::from_raw(0);
    let allowed = sched_getaffinity(this_thread)?;
    let cpu = (0..CpuSet::count())
        .rev()
        .find(|&cpu| allowed.is_set(cpu) == Ok(true));
    let cpu = cpu.context("this process may run on no CPU")?;
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(this_thread, &set)?;
    ensure!(nix::sched::sched_getcpu()? == cpu, "still on another CPU");
    Ok(cpu)
}
