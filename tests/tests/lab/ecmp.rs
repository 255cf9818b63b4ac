//! The example for BIRD: a router divides connections among two balancers, which come and go under
//! load, and every connection that is established goes on. A service without backends is withdrawn.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_lab::{Fabric, Lab, Nginx, Process, VIP4, VIP6};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Backend, Check, Config, EchoClient, Mode, Server, Service, await_until,
};

use crate::sync_failover::Download;

in_both_modes!(
    balancers_come_and_go_under_load,
    by_their_hash_connections_go_on_without_a_word
);

const EXAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../lb-userspace/docs/examples/bird.conf"
);
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// From the death of a balancer to the first answer by another one.
const BAR: Duration = Duration::from_secs(1);
const WEB: u16 = 80;
const TURNS: u16 = 7000;
const HASHED: u16 = 7001;
const TALK: u16 = 4789;
const SERVERS: u8 = 3;
/// Idle connections to each service, before and after the second balancer comes.
const CLIENTS: usize = 150;
const SIZE: usize = 100 << 20;

/// BIRD's config of the router.
pub(crate) const ROUTER: &str = "
log stderr all;
router id 10.51.0.1;
protocol device { }
protocol kernel { ipv4 { export all; }; merge paths on; }
protocol kernel { ipv6 { export all; }; merge paths on; }
protocol bfd { interface \"f0\" { min rx interval 100 ms; min tx interval 100 ms; multiplier 3; }; }
template bgp balancer {
    local 10.51.0.1 as 65000;
    bfd on;
    connect delay time 1;
    connect retry time 1;
    error wait time 1, 2;
    ipv4 { import all; export none; };
    ipv6 { import all; export none; };
}
protocol bgp lb1 from balancer { neighbor 10.51.0.11 as 65001; }
protocol bgp lb2 from balancer { neighbor 10.51.0.12 as 65001; }
";

/// Connections, each with the name of the server that answers.
type Clients = Vec<(EchoClient, String)>;

/// The fields are dropped in this order.
struct Stage {
    birds: Vec<Process>,
    agents: Vec<Agent>,
    webs: Vec<Nginx>,
    servers: Vec<Server>,
    lab: Fabric,
}

fn backends(vip: IpAddr, port: u16) -> Vec<Backend> {
    let backend = |number: u8| {
        let [v4, v6] = Fabric::server_addresses(number);
        Backend {
            name: format!("web{number}"),
            address: if vip.is_ipv4() { v4 } else { v6 },
            port,
            weight: 1,
            is_backup: false,
        }
    };
    (1..=SERVERS).map(backend).collect()
}

/// The config of a balancer, which may talk to the other one.
fn config(lab: &Fabric, number: u8, mode: Mode, talks: bool) -> Result<Config> {
    let key = lab.folder().join("cluster.key");
    fs::write(&key, "a-secret-of-this-test-of-which-nobody-else-knows\n")?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    let cluster = format!(
        "[cluster]\nlisten = \"{}:{TALK}\"\npeers = [\"{}:{TALK}\"]\nkey_file = \"{}\"\n\n",
        Fabric::back_address(number),
        Fabric::back_address(3 - number),
        key.display()
    );
    let interfaces = ["f0".to_owned(), "b0".to_owned()];
    let name = format!("lb{number}");
    let state = lab.folder().join(format!("{name}.json"));
    let service = |name: &str, vip: IpAddr, port| {
        Service::tcp(name, vip, port, backends(vip, port))
            .check(Check::Tcp)
            .key("forwarding", "dsr-l2")
            .key("announce", "lo")
    };
    let mut config = Config::new(lab as &Lab, &interfaces, mode)
        .agent("state_file", &state.to_string_lossy())
        .tables(if talks { &cluster } else { "" })
        .service(service("web", VIP4.into(), WEB))
        .service(service("turns", VIP4.into(), TURNS))
        .service(service("hashed", VIP4.into(), HASHED).key("scheduler", "maglev"))
        .service(service("turns6", VIP6.into(), TURNS));
    config.pins = lab.pins().join(&name);
    config.socket = lab.folder().join(format!("{name}.sock"));
    Ok(config)
}

/// BIRD in a namespace, with this config.
pub(crate) fn bird(lab: &Lab, name: &str, text: &str) -> Result<Process> {
    let path = |end: &str| lab.folder().join(format!("{name}.bird.{end}"));
    fs::write(path("conf"), text)?;
    let program = ["/usr/sbin/bird", "/sbin/bird"];
    let program = program.iter().find(|file| Path::new(file).exists());
    let mut command = lab.command(name, program.context("bird2 is not installed")?)?;
    command
        .arg("-f")
        .arg("-c")
        .arg(path("conf"))
        .arg("-s")
        .arg(path("ctl"))
        .arg("-P")
        .arg(path("pid"));
    lab.spawn(&format!("bird-{name}"), command)
}

/// The example, with this lab's names in it.
pub(crate) fn example(number: u8) -> Result<String> {
    let own = Fabric::front_address(number).to_string();
    let router = format!("neighbor {}", Fabric::router_address());
    let mut text = fs::read_to_string(EXAMPLE).with_context(|| EXAMPLE.to_owned())?;
    for (from, to) in [
        ("10.0.0.2", own.as_str()),
        ("neighbor 10.0.0.1", &router),
        ("2001:db8:113::/48", "2001:db8::/48"),
        ("eth0", "f0"),
        // Here nobody wants to wait for five seconds.
        ("    bfd on;", "    bfd on;\n    connect delay time 1;"),
    ] {
        ensure!(text.contains(from), "{from} is not in the example");
        text = text.replace(from, to);
    }
    Ok(text)
}

impl Stage {
    fn new(mode: Mode, talks: bool) -> Result<Self> {
        let lab = Fabric::new(2, SERVERS)?;
        if mode == Mode::Native {
            lab.receive_native()?;
        }
        let (mut webs, mut servers) = (Vec::new(), Vec::new());
        for number in 1..=SERVERS {
            webs.push(lab.start_nginx(number, WEB)?);
            let [v4, v6] = Fabric::server_addresses(number);
            let addresses = [v4, v6, VIP4.into(), VIP6.into()];
            for port in [TURNS, HASHED] {
                let listen = addresses.map(|address| SocketAddr::new(address, port));
                servers.push(Server::echo(&lab, &format!("web{number}"), &listen)?);
            }
        }
        let agents = [1, 2].into_iter().map(|number| {
            let config = config(&lab, number, mode, talks)?;
            Agent::start_in(&lab, &format!("lb{number}"), &config)
        });
        let agents = agents.collect::<Result<Vec<_>>>()?;
        let birds = vec![
            bird(&lab, "router", ROUTER)?,
            bird(&lab, "lb1", &example(1)?)?,
        ];
        for agent in &agents {
            await_until(DEADLINE, "the balancers talk", || {
                let status = agent.status()?;
                ensure!(!talks || status.is_peer_up()?, "{status:?}");
                for service in ["web", "turns", "hashed", "turns6"] {
                    status
                        .service(service)?
                        .expect_in_rotation(SERVERS.into())?;
                }
                Ok(())
            })?;
        }
        Ok(Self {
            birds,
            agents,
            webs,
            servers,
            lab,
        })
    }

    fn await_ways(&self, vip: IpAddr, balancers: &[u8]) -> Result<()> {
        await_ways(&self.lab, &self.birds, vip, balancers)
    }

    fn open(&self, clients: &mut Clients) -> Result<()> {
        let services = [
            SocketAddr::new(VIP4.into(), TURNS),
            SocketAddr::new(VIP4.into(), HASHED),
            SocketAddr::new(VIP6.into(), TURNS),
        ];
        for service in services {
            clients.extend(self.open_to(service)?);
        }
        Ok(())
    }

    fn open_to(&self, service: SocketAddr) -> Result<Clients> {
        let open = |_| {
            let mut client = self.lab.within("client", || EchoClient::open(service))??;
            let name = client.ask("before")?;
            Ok((client, name))
        };
        (0..CLIENTS).map(open).collect()
    }

    /// Takes the first balancer's power away.
    fn kill_first(&mut self) -> Result<()> {
        let dead = self.lab.namespace("lb1")?;
        dead.ip_batch("link set dev f0 down\nlink set dev b0 down\n")?;
        self.agents[0].kill()?;
        self.birds[1].kill()?;
        Ok(())
    }

    fn connections(&self, balancer: usize) -> Result<u64> {
        let status = self.agents[balancer].status()?;
        let services = ["web", "turns", "hashed", "turns6"].iter();
        services
            .map(|name| status.service(name)?.number("connections"))
            .sum()
    }
}

/// Waits until the router has a VIP by exactly these balancers.
pub(crate) fn await_ways(
    lab: &Fabric,
    birds: &[Process],
    vip: IpAddr,
    balancers: &[u8],
) -> Result<()> {
    let router = lab.namespace("router")?;
    await_until(DEADLINE, &format!("{vip} by {balancers:?}"), || {
        let version = if vip.is_ipv4() { "-4" } else { "-6" };
        let ways = router.ip(&format!("{version} route show {vip}"))?;
        for number in [1, 2] {
            let address = if vip.is_ipv4() {
                format!("via {} ", Fabric::front_address(number))
            } else {
                format!("via fd00:51::{} ", 10 + number)
            };
            let is_way = ways.contains(&address);
            let wanted = balancers.contains(&number);
            let logs: Vec<String> = birds.iter().map(Process::log).collect();
            ensure!(is_way == wanted, "{ways}\n{}", logs.join("\n"));
        }
        Ok(())
    })
}

/// How many of them still get answers from whom they had them.
fn kept(clients: &mut [(EchoClient, String)], line: &str) -> usize {
    let is_kept = |(client, name): &mut (EchoClient, String)| {
        client.ask(line).is_ok_and(|answer| answer == *name)
    };
    clients.iter_mut().map(is_kept).filter(|is| *is).count()
}

fn balancers_come_and_go_under_load(mode: Mode) -> Result<()> {
    let mut stage = Stage::new(mode, true)?;
    let vips = [IpAddr::from(VIP4), VIP6.into()];
    for vip in vips {
        stage.await_ways(vip, &[1])?;
    }
    let mut clients = Clients::new();
    stage.open(&mut clients)?;
    let mut download = Download::begin(&stage.lab, &stage.webs, SIZE)?;
    download.read_to(SIZE / 4)?;

    // The second one comes, and takes half of the connections.
    let second = bird(&stage.lab, "lb2", &example(2)?)?;
    stage.birds.push(second);
    for vip in vips {
        stage.await_ways(vip, &[1, 2])?;
    }
    let all = clients.len();
    let after = kept(&mut clients, "added");
    ensure!(after == all, "{after} of {all} are kept when one comes");
    download.read_to(SIZE / 2)?;
    stage.open(&mut clients)?;
    let all = clients.len();
    let [one, two] = [stage.connections(0)?, stage.connections(1)?];
    ensure!(
        one + two == all as u64 + 1 && two as usize * 10 > CLIENTS * 3,
        "{one} and {two} of {all} connections"
    );
    for agent in &stage.agents {
        await_until(DEADLINE, "the flows are known", || {
            let entries = agent
                .status()?
                .flow_table("established")?
                .number("entries")?;
            ensure!(entries > all as u64, "{entries} of {all}");
            Ok(())
        })?;
    }

    // The first one loses its power.
    let died = Instant::now();
    stage.kill_first()?;
    let (client, name) = &mut clients[0];
    ensure!(client.ask("dead")? == *name, "another one answers");
    let took = died.elapsed();
    let after = kept(&mut clients, "killed");
    download.finish()?;
    println!("the first answer came after {took:?}; {after} of {all} connections are kept");
    ensure!(after == all, "{after} of {all} are kept when one dies");
    ensure!(took <= BAR, "the first answer came after {took:?}");
    for vip in vips {
        stage.await_ways(vip, &[2])?;
    }

    // Without backends of its services a VIP is not announced; the other one is.
    drop(clients);
    stage.servers.clear();
    stage.await_ways(VIP6.into(), &[])?;
    stage.await_ways(VIP4.into(), &[2])?;
    drop(std::mem::take(&mut stage.webs));
    stage.await_ways(VIP4.into(), &[])
}

/// The balancers do not talk: where they agree by a hash and replies do not pass them, a connection
/// that the router sends to another one goes on to the same server; the others are reset.
fn by_their_hash_connections_go_on_without_a_word(mode: Mode) -> Result<()> {
    let mut stage = Stage::new(mode, false)?;
    let vip = IpAddr::from(VIP4);
    stage.await_ways(vip, &[1])?;
    let mut hashed = stage.open_to(SocketAddr::new(vip, HASHED))?;
    let mut in_turn = stage.open_to(SocketAddr::new(vip, TURNS))?;
    let second = bird(&stage.lab, "lb2", &example(2)?)?;
    stage.birds.push(second);
    stage.await_ways(vip, &[1, 2])?;
    let after = kept(&mut hashed, "added");
    ensure!(
        after == CLIENTS,
        "{after} of {CLIENTS} are kept when one comes"
    );
    let lost = CLIENTS - kept(&mut in_turn, "added");
    ensure!(
        lost * 5 > CLIENTS,
        "only {lost} of {CLIENTS} by turns are lost"
    );
    hashed.extend(stage.open_to(SocketAddr::new(vip, HASHED))?);
    stage.kill_first()?;
    let (all, after) = (hashed.len(), kept(&mut hashed, "killed"));
    ensure!(after == all, "{after} of {all} are kept when one dies");
    let taken_up = stage.agents[1].status()?.event("connection_taken_up")?;
    println!(
        "{after} of {all} are kept, {taken_up} were taken up; {lost} of {CLIENTS} by turns are lost"
    );
    // Those that moved, and what ends those by turns that were lost there.
    ensure!(taken_up as usize * 3 > CLIENTS, "{taken_up} were taken up");
    Ok(())
}
