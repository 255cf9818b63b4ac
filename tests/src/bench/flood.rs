//! Real clients beside a flood of SYNs that is as fast as one CPU makes and works off.
//!
//! ```text
//! client c0 ── lc lb lb1 ── e1 web1
//! crowd  g9 ══ l9    lb2 ── e2 web2
//! ```
//! The crowd's forged SYNs are live frames of 64 bytes ([`Generator`]), made and worked off on one
//! CPU, and what is answered to them is counted and dropped. The clients, the servers and the agent
//! share what is left of the machine.

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use lb_common::headers::Mac;
use lb_lab::{Lab, Nginx, Routed, VIP4, get};

use crate::bench::{
    Effort,
    conditions::Conditions,
    http::peers::{self, Balancer, SERVER_PORT, SERVERS},
    pps::bed::{Generator, stay_on_one_cpu},
    report::{Bar, Measure, Report, Row, Samples},
    template::{Segment, frame, plan},
};
use crate::scenario::{Agent, Config, Farm, Mode, Session};

/// Where the flood comes from.
const CROWD: &str = "crowd";
const CROWD_END: &str = "g9";
const BALANCER_END: &str = "l9";
/// The flood's first flow.
const FLOODER: &str = "11.0.0.1:32768";
const MAC_FLOODER: Mac = [2, 0, 0, 0, 0, 0xc9];
/// Frames between two looks whether the flood is over.
const VOLLEY: u32 = 65_536;
/// Connections that are there before the flood.
const ESTABLISHED: usize = 100;
/// Threads that connect anew, again and again.
const CLIENTS: usize = 4;
/// How long clients connect.
const SPAN: Duration = Duration::from_secs(5);
/// How long a new connection may take, its first page included, and when a client gives up.
const IN_TIME: Duration = Duration::from_secs(1);
const GIVES_UP: Duration = Duration::from_secs(4);

/// What stands before the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Lb { syn_cookies: u32 },
    Nftables,
    Haproxy,
}

struct Case {
    name: &'static str,
    peer: Peer,
    is_flooded: bool,
    /// The least percentage of new connections in time.
    bar: Option<f64>,
    figures: Figures,
}

const fn case(name: &'static str, peer: Peer) -> Case {
    Case {
        name,
        peer,
        is_flooded: true,
        bar: None,
        figures: Figures::NONE,
    }
}

/// What was found of a case so far.
#[derive(Debug)]
struct Figures {
    /// Percentage of new connections in time.
    in_time: Samples,
    per_second: Samples,
    /// Milliseconds of the slowest connection that came about.
    slowest: Samples,
    mpps: Samples,
    /// Established connections that did not answer any more.
    lost: usize,
}

/// New connections of one client.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    tried: usize,
    in_time: usize,
    slowest: Duration,
}

/// Measures every peer.
///
/// # Errors
/// When the lab or a peer does not start.
pub fn run(effort: Effort) -> Result<Report> {
    let begin = Conditions::now();
    let mut lab = Lab::new()?;
    lab.add(CROWD)?;
    let lab = Routed::build(lab, SERVERS)?;
    lab.receive_native_tx()?;
    peers::prepare(&lab)?;
    join_crowd(&lab)?;
    let servers = (1..=SERVERS).map(|number| lab.start_nginx(number, SERVER_PORT));
    let _servers: Vec<Nginx> = servers.collect::<Result<_>>()?;
    let cookies = Peer::Lb { syn_cookies: 256 };
    let mut cases = [
        Case {
            is_flooded: false,
            ..case("lb, no flood", cookies)
        },
        Case {
            bar: Some(99.0),
            ..case("lb, SYN cookies", cookies)
        },
        case("lb, no SYN cookies", Peer::Lb { syn_cookies: 0 }),
        case("nftables DNAT", Peer::Nftables),
        case("HAProxy, the kernel's SYN cookies", Peer::Haproxy),
    ];
    for round in 1..=effort.rounds(5) {
        eprintln!("flood: round {round}");
        for case in &mut cases {
            case.measure(&lab).with_context(|| case.name)?;
        }
    }
    Ok(Report {
        name: "flood",
        unit: "% of new connections that have their first page within 1 s",
        decimals: 2,
        notes: vec![format!(
            "{CLIENTS} clients connect again and again for {} s while forged SYNs come in as fast \
             as one CPU makes and works them off; {ESTABLISHED} connections from before are used \
             all the while",
            SPAN.as_secs()
        )],
        rows: cases.into_iter().map(Case::row).collect(),
        conditions: (begin, Conditions::now()),
    })
}

/// Wires the flood's namespace to the balancer.
fn join_crowd(lab: &Lab) -> Result<()> {
    lab.join(("lb", BALANCER_END), (CROWD, CROWD_END))?;
    lab.namespace("lb")?.ip_batch(&format!(
        "addr add 10.99.0.1/24 dev {BALANCER_END}\nroute add 11.0.0.0/8 via 10.99.0.2\n\
         neigh add 10.99.0.2 dev {BALANCER_END} lladdr {} nud permanent\n",
        MAC_FLOODER.map(|byte| format!("{byte:02x}")).join(":")
    ))?;
    lab.prepare_end("lb", BALANCER_END)?;
    lab.prepare_end(CROWD, CROWD_END)
}

/// What keeps a peer running; dropped, it is gone.
enum Standing<'l> {
    Agent(Agent),
    Other(Balancer<'l>),
}

impl Standing<'_> {
    fn stop(self) -> Result<()> {
        match self {
            Self::Agent(mut agent) => {
                let status = agent.stop()?;
                ensure!(status.success(), "lb ended with {status}");
                Ok(())
            }
            Self::Other(balancer) => balancer.stop(),
        }
    }
}

impl Peer {
    fn start(self, lab: &Routed) -> Result<Standing<'_>> {
        match self {
            Self::Nftables => peers::Peer::Nftables.start(lab).map(Standing::Other),
            Self::Haproxy => peers::Peer::Haproxy.start(lab).map(Standing::Other),
            Self::Lb { syn_cookies } => {
                let mut interfaces = lab.balancer_interfaces();
                interfaces.push(BALANCER_END.to_owned());
                let mut service = Farm::web(SERVERS);
                if syn_cookies != 0 {
                    service = service.number("syn_cookies", syn_cookies);
                }
                let config = Config::new(lab, &interfaces, Mode::Native).service(service);
                Agent::start(lab, &config).map(Standing::Agent)
            }
        }
    }
}

impl Case {
    fn measure(&mut self, lab: &Routed) -> Result<()> {
        let standing = self.peer.start(lab)?;
        let address = SocketAddr::new(VIP4.into(), 80);
        let mut sessions = Vec::with_capacity(ESTABLISHED);
        for _ in 0..ESTABLISHED {
            let mut session = Session::open(lab, address)?;
            session.name()?;
            sessions.push(session);
        }
        let is_over = AtomicBool::new(false);
        let sent = AtomicU64::new(0);
        let before = Instant::now();
        let (tallies, lost) = thread::scope(|scope| {
            let flood = self
                .is_flooded
                .then(|| scope.spawn(|| flood(lab, &is_over, &sent)));
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| scope.spawn(|| lab.within("client", || connect(address))))
                .collect();
            let lost = sessions.retain_until(before + SPAN);
            let mut tallies = Vec::new();
            for client in clients {
                tallies.push(client.join().map_err(|_| anyhow!("a client panicked"))?);
            }
            is_over.store(true, Ordering::Relaxed);
            if let Some(flood) = flood {
                flood.join().map_err(|_| anyhow!("the flood panicked"))??;
            }
            let tallies = tallies.into_iter().collect::<Result<Vec<_>>>()?;
            Ok::<_, anyhow::Error>((tallies, lost))
        })?;
        let span = before.elapsed().as_secs_f64();
        // Before who stands between: the servers are to forget them, too.
        drop(sessions);
        standing.stop()?;
        self.figures.add(&tallies);
        self.figures.lost += lost;
        let sent = sent.load(Ordering::Relaxed) as f64;
        self.figures.mpps.push(sent / span / 1e6);
        Ok(())
    }

    fn row(self) -> Row {
        let figures = self.figures;
        let least = self.bar.map(|least| Bar::AtLeast(Measure::Value, least));
        let problem = (self.bar.is_some() && figures.lost > 0).then(|| {
            let lost = figures.lost;
            format!("{lost} established connections did not answer")
        });
        Row {
            name: self.name.to_owned(),
            bars: least.into_iter().collect(),
            details: vec![
                ("connections/s", figures.per_second.median(), 0),
                ("slowest ms", figures.slowest.median(), 0),
                ("flood Mpps", figures.mpps.median(), 2),
                ("established lost", figures.lost as f64, 0),
            ],
            samples: figures.in_time,
            problems: problem.into_iter().collect(),
            ..Row::default()
        }
    }
}

impl Figures {
    const NONE: Self = Self {
        in_time: Samples::NONE,
        per_second: Samples::NONE,
        slowest: Samples::NONE,
        mpps: Samples::NONE,
        lost: 0,
    };

    fn add(&mut self, tallies: &[Tally]) {
        let tried: usize = tallies.iter().map(|tally| tally.tried).sum();
        let in_time: usize = tallies.iter().map(|tally| tally.in_time).sum();
        let slowest = tallies.iter().map(|tally| tally.slowest).max();
        self.in_time.push(in_time as f64 * 100.0 / tried as f64);
        self.per_second.push(in_time as f64 / SPAN.as_secs_f64());
        self.slowest
            .push(slowest.unwrap_or_default().as_secs_f64() * 1e3);
    }
}

/// Established connections.
trait Established {
    /// Uses them in turn until then, and drops those that do not answer; how many that were.
    fn retain_until(&mut self, end: Instant) -> usize;
}

impl Established for Vec<Session> {
    fn retain_until(&mut self, end: Instant) -> usize {
        let all = self.len();
        // Once at least, and no faster than people click.
        loop {
            self.retain_mut(|session| session.name().is_ok());
            if Instant::now() >= end || self.is_empty() {
                return all - self.len();
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A client that fetches a page on a new connection, again and again.
fn connect(address: SocketAddr) -> Tally {
    let mut tally = Tally::default();
    let end = Instant::now() + SPAN;
    while Instant::now() < end {
        let began = Instant::now();
        let is_answered = get(address, "/", GIVES_UP).is_ok_and(|answer| answer.status == 200);
        let took = began.elapsed();
        tally.tried += 1;
        if is_answered {
            tally.slowest = tally.slowest.max(took);
            tally.in_time += usize::from(took <= IN_TIME);
        }
    }
    tally
}

/// Sends forged SYNs until it is over.
fn flood(lab: &Lab, is_over: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    let mac = lab.namespace("lb")?.mac(BALANCER_END)?;
    lab.within(CROWD, || {
        stay_on_one_cpu()?;
        let service = SocketAddrV4::new(VIP4, 80).into();
        let frame = frame((MAC_FLOODER, mac), FLOODER.parse()?, service, Segment::Syn)?;
        let plan = plan(&frame, 1 << 40, 0);
        let mut generator = Generator::new(&[CROWD_END])?;
        generator.set(plan)?;
        while !is_over.load(Ordering::Relaxed) {
            generator.fire(&plan, VOLLEY)?;
            sent.fetch_add(VOLLEY.into(), Ordering::Relaxed);
        }
        Ok(())
    })?
}
