//! Packets per second of live frames over veth, by the kernel's own clock.
//!
//! `BPF_PROG_TEST_RUN` with `BPF_F_TEST_XDP_LIVE_FRAMES` makes real frames of what the generator
//! writes and sends them into a veth; the program under test is attached to its other end, and
//! sinks count what leaves. A row in which fewer arrive than were sent is not valid.

pub(super) mod bed;
pub mod listing;
mod peers;

use anyhow::{Context, Result};
use aya::programs::xdp::{XdpLink, XdpMode};
use lb_common::{abi::Forwarding, host::MAC_BALANCER, lab::Plan};
use lb_lab::Lab;

use crate::bench::{
    Effort,
    conditions::Conditions,
    flows::Endpoints,
    report::{Bar, Measure, Report, Row, Samples},
    template::{Segment, frame, plan},
};
use bed::{Bed, MAC_G0, NAMESPACE};
use peers::{Steer, VIP, flush_conntrack, load_nftables};

/// What stands on l0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// A program that drops: no forwarder is faster.
    Drop,
    /// A program that sends frames back: the least that a forwarder can do.
    Bounce,
    Nat,
    NatCookies,
    NatGeneric,
    FullNat,
    Dsr,
    Ipip,
    Gue,
    Nftables,
}

/// What is sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traffic {
    /// Packets of so many established flows in turn, a power of two.
    Established(u64),
    /// SYNs, every one a new flow.
    New,
    /// The same beside 65,536 established flows, which must all be there afterwards.
    Flood,
}

struct Case {
    name: &'static str,
    peer: Peer,
    traffic: Traffic,
    /// The least Mpps, and the least ratio to nftables.
    bars: [Option<f64>; 2],
}

const fn case(name: &'static str, peer: Peer, traffic: Traffic) -> Case {
    Case {
        name,
        peer,
        traffic,
        bars: [None; 2],
    }
}

const FEW: Traffic = Traffic::Established(1024);
const MANY: Traffic = Traffic::Established(65_536);

const CASES: [Case; 15] = [
    case("XDP_DROP (ceiling)", Peer::Drop, FEW),
    case("XDP_TX, MACs exchanged", Peer::Bounce, FEW),
    Case {
        bars: [Some(7.5), Some(6.0)],
        ..case("lb nat, 1,024 flows", Peer::Nat, FEW)
    },
    case("nftables, 1,024 flows", Peer::Nftables, FEW),
    case("lb full-nat, 1,024 flows", Peer::FullNat, FEW),
    case("lb dsr-l2, 1,024 flows", Peer::Dsr, FEW),
    case("lb dsr-ipip, 1,024 flows", Peer::Ipip, FEW),
    case("lb dsr-gue, 1,024 flows", Peer::Gue, FEW),
    case("lb nat generic mode, 1,024 flows", Peer::NatGeneric, FEW),
    case("lb nat, 65,536 flows", Peer::Nat, MANY),
    case("nftables, 65,536 flows", Peer::Nftables, MANY),
    Case {
        bars: [Some(3.0), None],
        ..case("lb nat, every packet a new flow", Peer::Nat, Traffic::New)
    },
    Case {
        bars: [Some(3.0), None],
        ..case(
            "lb nat, SYN flood beside 65,536 flows",
            Peer::Nat,
            Traffic::Flood,
        )
    },
    Case {
        bars: [Some(3.0), None],
        ..case(
            "lb nat, SYN flood answered with cookies",
            Peer::NatCookies,
            Traffic::Flood,
        )
    },
    case(
        "nftables, every packet a new flow",
        Peer::Nftables,
        Traffic::New,
    ),
];

/// Name of the peer that ratios are to.
const NFT: &str = "nft";

/// The flood's flow 0; none of them is a client's.
const FLOODER: &str = "11.0.0.1:32768";

/// Packets of a run of established flows.
const PACKETS: u32 = 1_000_000;

/// Packets of a run of new flows: as many as the kernel's connection tracking holds by default
/// without having to look for room.
const NEW_FLOWS: u32 = 131_072;

/// Runs of which a round takes the best: what else the machine does only ever slows one down, and
/// a round is to compare peers, not moments.
const RUNS: usize = 3;

/// Measures every peer.
pub fn run(effort: Effort) -> Result<Report> {
    let begin = Conditions::now();
    let mut lab = Lab::new()?;
    bed::wire(&mut lab)?;
    load_nftables(&lab)?;
    let rows = lab.within(NAMESPACE, || Bench::new()?.run(effort))??;
    Ok(Report {
        name: "pps",
        unit: "Mpps on one core, live frames of 64 bytes over veth",
        decimals: 2,
        notes: Vec::new(),
        rows,
        conditions: (begin, Conditions::now()),
    })
}

struct Bench {
    bed: Bed,
    endpoints: Endpoints,
    nat: Steer,
    cookies: Steer,
    full_nat: Steer,
    dsr: Steer,
    ipip: Steer,
    gue: Steer,
    fresh: Steer,
}

/// A case's figures so far.
#[derive(Default)]
struct Figures {
    nanos: Samples,
    problems: Vec<String>,
}

impl Bench {
    fn new() -> Result<Self> {
        let bed = Bed::new()?;
        let endpoints = Endpoints {
            client: "10.64.0.1:32768".parse()?,
            vip: VIP.parse()?,
            service_mask: 0,
        };
        eprintln!("pps: establishing flows");
        let steer = |forwarding, flows| Steer::new(bed.interfaces, forwarding, endpoints, flows);
        Ok(Self {
            nat: steer(Forwarding::Nat, 65_536)?,
            cookies: Steer::with_cookies(bed.interfaces, endpoints, 65_536)?,
            full_nat: steer(Forwarding::FullNat, 1024)?,
            dsr: steer(Forwarding::DsrL2, 1024)?,
            ipip: steer(Forwarding::DsrIpip, 1024)?,
            gue: steer(Forwarding::DsrGue, 1024)?,
            fresh: steer(Forwarding::Nat, 0)?,
            bed,
            endpoints,
        })
    }

    fn run(mut self, effort: Effort) -> Result<Vec<Row>> {
        let mut figures: Vec<_> = CASES.iter().map(|_| Figures::default()).collect();
        let rounds = effort.rounds(7);
        for round in 1..=rounds {
            eprintln!("pps: round {round} of {rounds}");
            for (case, figures) in CASES.iter().zip(&mut figures) {
                self.measure(case, effort, figures)
                    .with_context(|| case.name)?;
            }
        }
        let cases = CASES.iter().zip(&figures);
        Ok(cases.map(|(case, own)| row(case, own, &figures)).collect())
    }

    fn measure(&mut self, case: &Case, effort: Effort, figures: &mut Figures) -> Result<()> {
        let (segment, flows, usual) = match case.traffic {
            Traffic::Established(flows) => (Segment::Ack(5001), flows, PACKETS),
            Traffic::New | Traffic::Flood => (Segment::Syn, 1 << 40, NEW_FLOWS),
        };
        let Endpoints { client, vip, .. } = self.endpoints;
        let client = if case.traffic == Traffic::Flood {
            FLOODER.parse()?
        } else {
            client
        };
        let frame = frame((MAC_G0, MAC_BALANCER), client, vip, segment)?;
        let plan = plan(&frame, flows, 0);
        let link = self.attach(case)?;
        if case.peer == Peer::Nftables {
            flush_conntrack()?;
        }
        if let Traffic::Established(flows) = case.traffic {
            // Nftables takes them for its own from here on, and everybody's caches are warm.
            self.bed.send(plan, flows as u32)?;
        }
        let mut best = f64::INFINITY;
        let (mut clean, mut tries) = (0, 0);
        while clean < RUNS && tries < 3 * RUNS {
            if case.peer == Peer::Nftables && case.traffic == Traffic::New {
                flush_conntrack()?;
            }
            tries += 1;
            if let Some(nanos) = self.once(case, plan, effort.packets(usual), figures)? {
                best = best.min(nanos);
                clean += 1;
            }
        }
        if clean == 0 {
            let problem = "much of the work escaped the kernel's clock, the machine is too busy";
            figures.problems.push(problem.to_owned());
            best = f64::NAN;
        }
        if case.traffic == Traffic::Flood {
            figures.problems.extend(self.survivors(case)?);
        }
        drop(link);
        figures.nanos.push(best);
        Ok(())
    }

    /// Sends a packet of each established flow of NAT, and says if one is not steered any more.
    fn survivors(&mut self, case: &Case) -> Result<Option<String>> {
        const FLOWS: u32 = 65_536;
        let Endpoints { client, vip, .. } = self.endpoints;
        let frame = frame((MAC_G0, MAC_BALANCER), client, vip, Segment::Ack(5001))?;
        let counted = |bench: &mut Self| match bench.steer(case) {
            Some(steer) => Ok::<_, anyhow::Error>((steer.steered()?, steer.evicted()?)),
            None => Ok((0, 0)),
        };
        let (before, _) = counted(self)?;
        self.bed.send(plan(&frame, u64::from(FLOWS), 0), FLOWS)?;
        let (steered, evicted) = counted(self)?;
        let steered = steered - before;
        let is_whole = steered == u64::from(FLOWS) && evicted == 0;
        Ok((!is_whole).then(|| {
            format!("{steered} of {FLOWS} flows survived the flood, {evicted} were evicted")
        }))
    }

    /// Nanoseconds per packet of one run; `None` when another thread may have done more than a
    /// tenth of the work, which the kernel's clock does not see.
    fn once(
        &mut self,
        case: &Case,
        plan: Plan,
        packets: u32,
        figures: &mut Figures,
    ) -> Result<Option<f64>> {
        let steered = |bench: &mut Self| match bench.steer(case) {
            Some(steer) if case.traffic == Traffic::Flood => steer.dealt_with().map(Some),
            Some(steer) => steer.steered().map(Some),
            None => Ok(None),
        };
        let (before, put_off) = (steered(self)?, self.bed.put_off_nanos()?);
        let sent = self.bed.send(plan, packets)?;
        let put_off = (self.bed.put_off_nanos()? - put_off) as f64 / f64::from(packets);
        let offered = u64::from(packets);
        if sent.delivered != offered {
            let problem = format!("{} of {offered} packets delivered", sent.delivered);
            figures.problems.push(problem);
        }
        if let (Some(before), Some(after)) = (before, steered(self)?)
            && after - before != offered
        {
            let problem = format!("{} of {offered} packets steered", after - before);
            figures.problems.push(problem);
        }
        Ok((put_off <= sent.nanos / 10.0).then_some(sent.nanos))
    }

    fn steer(&mut self, case: &Case) -> Option<&mut Steer> {
        match (case.peer, case.traffic) {
            (Peer::Nat, Traffic::New) => Some(&mut self.fresh),
            (Peer::Nat | Peer::NatGeneric, _) => Some(&mut self.nat),
            (Peer::NatCookies, _) => Some(&mut self.cookies),
            (Peer::FullNat, _) => Some(&mut self.full_nat),
            (Peer::Dsr, _) => Some(&mut self.dsr),
            (Peer::Ipip, _) => Some(&mut self.ipip),
            (Peer::Gue, _) => Some(&mut self.gue),
            (Peer::Drop | Peer::Bounce | Peer::Nftables, _) => None,
        }
    }

    fn attach(&mut self, case: &Case) -> Result<Option<XdpLink>> {
        let mode = match case.peer {
            Peer::NatGeneric => XdpMode::Skb,
            Peer::Drop
            | Peer::Bounce
            | Peer::Nat
            | Peer::NatCookies
            | Peer::FullNat
            | Peer::Dsr
            | Peer::Ipip
            | Peer::Gue
            | Peer::Nftables => XdpMode::Driver,
        };
        if let Some(steer) = self.steer(case) {
            return steer.attach(mode).map(Some);
        }
        match case.peer {
            Peer::Drop => self.bed.attach("sink").map(Some),
            Peer::Bounce => self.bed.attach("bounce").map(Some),
            Peer::Nat
            | Peer::NatCookies
            | Peer::NatGeneric
            | Peer::FullNat
            | Peer::Dsr
            | Peer::Ipip
            | Peer::Gue
            | Peer::Nftables => Ok(None),
        }
    }
}

fn row(case: &Case, own: &Figures, all: &[Figures]) -> Row {
    let mpps = |figures: &Figures| figures.nanos.map(|nanos| 1000.0 / nanos);
    let nftables = CASES
        .iter()
        .zip(all)
        .find(|(other, _)| other.peer == Peer::Nftables && other.traffic == case.traffic);
    let mut problems = own.problems.clone();
    problems.dedup();
    let [value, ratio] = case.bars;
    let value = value.map(|least| Bar::AtLeast(Measure::Value, least));
    let ratio = ratio.map(|least| Bar::AtLeast(Measure::Ratio(NFT), least));
    Row {
        name: case.name.to_owned(),
        samples: mpps(own),
        ratios: nftables
            .map(|(_, nftables)| (NFT, mpps(own).relative_to(&mpps(nftables))))
            .into_iter()
            .collect(),
        bars: value.into_iter().chain(ratio).collect(),
        details: vec![("ns/packet", own.nanos.median(), 0)],
        problems,
    }
}
