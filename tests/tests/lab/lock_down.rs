//! A host that is locked down: who gets in, what goes on, and that nobody locks himself out.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lb_lab::{Routed, VIP4};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Config, EchoClient, Farm, Mode, Outcome, Server, Service, routed_backends, run,
};

use crate::ping::ping;

in_both_modes!(
    only_what_is_named_gets_in,
    the_same_by_ipv6,
    nobody_locks_himself_out,
);

const PORT: u16 = 7000;
const BACKEND_PORT: u16 = 7007;
/// The balancer's own address, and its ports.
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 10, 0, 1));
const HOST6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 1));
const SSH: u16 = 2222;
const OTHER: u16 = 9000;
/// Below those that the kernel gives to clients in the lab.
const OTHER_UDP: u16 = 900;

const LOCKED: &str = "[firewall]\ndefault = \"deny\"\nhost_ports = [\"tcp/2222\"]\n";
const LOCKED_OUT: &str = "[firewall]\ndefault = \"deny\"\n";

struct Stage {
    lab: Routed,
    _servers: Vec<Server>,
    _listeners: Vec<TcpListener>,
    agent: Agent,
    mode: Mode,
}

fn stage(mode: Mode) -> Result<Stage> {
    let lab = Farm::wired(mode, 3)?;
    let servers = (1..=3)
        .map(|number| {
            let [v4, _] = Routed::server_addresses(number);
            let listen = [SocketAddr::new(v4, BACKEND_PORT)];
            Server::echo(&lab, &format!("web{number}"), &listen)
        })
        .collect::<Result<Vec<_>>>()?;
    let listeners = [SSH, OTHER]
        .map(|port| lab.within("lb", || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))))
        .into_iter()
        .map(|listener| Ok(listener??))
        .collect::<Result<Vec<_>>>()?;
    let agent = Agent::start(&lab, &config(&lab, mode, ""))?;
    Ok(Stage {
        lab,
        _servers: servers,
        _listeners: listeners,
        agent,
        mode,
    })
}

fn config(lab: &Routed, mode: Mode, firewall: &str) -> Config {
    let backends = routed_backends(VIP4, 3, BACKEND_PORT);
    let service = Service::tcp("echo", VIP4, PORT, backends).check(Check::None);
    Farm::config(lab, mode).service(service).tables(firewall)
}

impl Stage {
    fn write(&self, firewall: &str) -> Result<()> {
        let config = config(&self.lab, self.mode, firewall).text();
        Ok(fs::write(self.agent.config_file(), config)?)
    }

    fn reload(&self, firewall: &str) -> Result<Outcome> {
        self.write(firewall)?;
        self.agent.asked(&["reload"])
    }

    fn connects_from(&self, namespace: &str, address: IpAddr, port: u16) -> Result<bool> {
        let to = SocketAddr::new(address, port);
        let wait = Duration::from_millis(700);
        self.lab.within(namespace, move || {
            TcpStream::connect_timeout(&to, wait).is_ok()
        })
    }

    fn connects(&self, port: u16) -> Result<bool> {
        self.connects_from("client", HOST, port)
    }

    fn hello(&self) -> Result<()> {
        let service = SocketAddr::new(IpAddr::V4(VIP4), PORT);
        let client = self
            .lab
            .within("client", move || EchoClient::open(service))?;
        client?.ask("hello")?;
        Ok(())
    }

    fn verdict(&self) -> Result<u64> {
        self.agent.status()?.verdict("drop_locked_down")
    }
}

fn only_what_is_named_gets_in(mode: Mode) -> Result<()> {
    let [client, _] = Routed::client_addresses();
    let stage = stage(mode)?;
    ensure!(stage.connects(SSH)? && stage.connects(OTHER)?);
    stage.reload(LOCKED)?.expect_success()?;
    stage.agent.await_log(&["locked down but for tcp/2222"])?;
    let before = stage.verdict()?;
    ensure!(stage.connects(SSH)?, "a named port is not reached");
    ensure!(!stage.connects(OTHER)?, "any port is reached");
    ensure!(stage.verdict()? > before, "nothing was counted");
    stage.hello()?;
    // Backends are trusted.
    let [near_web1] = [IpAddr::V4(Ipv4Addr::new(10, 20, 1, 1))];
    ensure!(stage.connects_from("web1", near_web1, OTHER)?);
    // What this host begins is answered, by TCP and UDP, and a ping too.
    let far = stage
        .lab
        .within("client", move || TcpListener::bind((client, 9100)))??;
    ensure!(stage.connects_from("lb", client, 9100)?);
    drop(far);
    let server = stage
        .lab
        .within("client", move || UdpSocket::bind((client, 53)))??;
    let asker = stage
        .lab
        .within("lb", || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
    asker.set_read_timeout(Some(Duration::from_secs(2)))?;
    server.set_read_timeout(Some(Duration::from_secs(2)))?;
    asker.send_to(b"question", (client, 53))?;
    let mut buffer = [0; 16];
    let (_, from) = server.recv_from(&mut buffer)?;
    server.send_to(b"answer", from)?;
    asker.recv_from(&mut buffer).context("no answer by UDP")?;
    stage
        .lab
        .namespace("client")?
        .sysctl("net.ipv4.ping_group_range", "0 0")?;
    ensure!(ping(&stage.lab, HOST, 8)?, "a ping is not answered");

    let to = SocketAddr::new(HOST, OTHER).to_string();
    let from = SocketAddr::new(client, 40_000).to_string();
    let why = stage
        .agent
        .asked(&["why", "--from", &from, "--to", &to])?
        .expect_success()?;
    ensure!(why.contains("drop_locked_down"), "{why}");
    ensure!(why.contains("TCP port 9000 is not among"), "{why}");

    // Whom allow names, also at run time.
    let rule = ["firewall", "allow", &client.to_string()].map(str::to_owned);
    let rule: Vec<&str> = rule.iter().map(String::as_str).collect();
    stage.agent.asked(&rule)?.expect_success()?;
    ensure!(stage.connects(OTHER)?, "a trusted source is kept out");
    stage
        .agent
        .asked(&["firewall", "clear", "--all"])?
        .expect_success()?;
    ensure!(!stage.connects(OTHER)?, "it is trusted still");

    stage
        .reload(&format!("{LOCKED}dry_run = true\n"))?
        .expect_success()?;
    let before = stage.verdict()?;
    ensure!(stage.connects(OTHER)?, "a dry run drops");
    ensure!(stage.verdict()? == before);
    ensure!(stage.agent.status()?.event("firewall_would_drop")? > 0);
    stage.reload("")?.expect_success()?;
    ensure!(stage.connects(OTHER)?);
    Ok(())
}

/// Neighbours too: their addresses are forgotten first, so that they have to be asked for anew.
fn the_same_by_ipv6(mode: Mode) -> Result<()> {
    let [_, client] = Routed::client_addresses();
    let stage = stage(mode)?;
    // The same ports by IPv6.
    let _listeners = [SSH, OTHER]
        .map(|port| {
            stage
                .lab
                .within("lb", move || TcpListener::bind((HOST6, port)))
        })
        .into_iter()
        .map(|listener| Ok(listener??))
        .collect::<Result<Vec<_>>>()?;
    ensure!(stage.connects_from("client", HOST6, OTHER)?);
    stage.reload(LOCKED)?.expect_success()?;
    for namespace in ["client", "lb"] {
        let flushed = stage
            .lab
            .command(namespace, "ip")?
            .args(["-6", "neigh", "flush", "all"])
            .status()?;
        ensure!(flushed.success());
    }
    let before = stage.verdict()?;
    ensure!(
        stage.connects_from("client", HOST6, SSH)?,
        "a named port is not reached"
    );
    ensure!(stage.verdict()? == before, "neighbours are dropped");
    ensure!(
        !stage.connects_from("client", HOST6, OTHER)?,
        "any port is reached"
    );
    let before_datagram = stage.verdict()?;
    ensure!(before_datagram > before, "nothing was counted");
    let heard = stage
        .lab
        .within("lb", move || UdpSocket::bind((HOST6, OTHER_UDP)))??;
    heard.set_read_timeout(Some(Duration::from_millis(500)))?;
    let socket = stage
        .lab
        .within("client", || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)))??;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.send_to(b"anybody?", (HOST6, OTHER_UDP))?;
    let mut buffer = [0; 16];
    ensure!(heard.recv_from(&mut buffer).is_err(), "a datagram passes");
    ensure!(stage.verdict()? > before_datagram, "it was not counted");
    // What this host begins is answered.
    let _far = stage
        .lab
        .within("client", move || TcpListener::bind((client, 9100)))??;
    ensure!(stage.connects_from("lb", client, 9100)?);
    let asker = stage
        .lab
        .within("lb", || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)))??;
    asker.set_read_timeout(Some(Duration::from_secs(2)))?;
    asker.send_to(b"question", socket_of(&socket, client)?)?;
    let (_, from) = socket.recv_from(&mut buffer)?;
    socket.send_to(b"answer", from)?;
    asker.recv_from(&mut buffer).context("no answer by UDP")?;
    Ok(())
}

/// Where a socket of the client hears.
fn socket_of(socket: &UdpSocket, client: IpAddr) -> Result<SocketAddr> {
    Ok(SocketAddr::new(client, socket.local_addr()?.port()))
}

fn nobody_locks_himself_out(mode: Mode) -> Result<()> {
    let mut stage = stage(mode)?;
    let host = SocketAddr::new(HOST, SSH);
    let session = stage
        .lab
        .within("client", move || TcpStream::connect(host))??;
    stage
        .reload(LOCKED_OUT)?
        .expect_sentence(2, &["keep out", "with port 2222 here", "\"tcp/2222\""])?;
    ensure!(stage.connects(SSH)?, "a refused reload does something");

    let firewall = |arguments: &[&str]| stage.agent.asked(&[&["firewall"], arguments].concat());
    let said = firewall(&["apply", "--confirm", "4"])?;
    ensure!(said.code == Some(0), "{said:?}");
    ensure!(said.stderr.contains("\"tcp/2222\""), "{said:?}");
    ensure!(!stage.connects(SSH)?, "it is not tried");
    // Whoever confirms sits behind a connection that goes on.
    firewall(&["confirm"])?.expect_sentence(2, &["keep out", "--force"])?;
    stage.agent.await_log(&["nobody confirmed"])?;
    let end = Instant::now() + Duration::from_secs(5);
    while !stage.connects(SSH)? {
        ensure!(Instant::now() < end, "it is not taken back");
    }

    // Nor by a start, while that session is there.
    stage.agent.stop()?;
    let config = stage.agent.config_file().display().to_string();
    let socket = stage.agent.socket().display().to_string();
    let output = stage
        .lab
        .command("lb", lb_tests::scenario::binary()?)?
        .args(["run", "--config", &config, "--socket", &socket])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "{said}");
    ensure!(said.contains("\"tcp/2222\""), "{said}");
    drop(session);
    let said = run(&["check", "--config", &config])?;
    ensure!(said.code == Some(0), "{said:?}");
    stage.agent.start_again(&stage.lab)?;
    ensure!(!stage.connects(SSH)?, "it starts and locks nothing");
    stage.hello()
}
