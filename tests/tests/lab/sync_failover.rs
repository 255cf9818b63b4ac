//! Two balancers that tell each other of their connections: when the addresses move from one to the
//! other, downloads go on and idle connections answer, whatever the forwarding.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_lab::{Lab, Nginx, Pair, VIP4};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Backend, Check, Config, EchoClient, Mode, PATIENCE, Server, Service, ask_datagram,
    await_until,
};

use crate::{bulk::content, clock_jumps};

const DEADLINE: Duration = Duration::from_secs(10);
const WEB: u16 = 80;
pub(crate) const ECHO: u16 = 7000;
const FULL_NAT: u16 = 7001;
/// Of the balancers among themselves.
pub(crate) const TALK: u16 = 4789;
/// Bytes of the download.
const SIZE: usize = 100 << 20;
const SERVERS: u8 = 2;

in_both_modes!(
    connections_survive_a_move,
    a_restarted_balancer_learns_all,
    no_clock_of_the_wall_has_a_part
);

/// Both balancers, and the servers. The fields are dropped in this order.
pub(crate) struct Stage {
    pub(crate) agents: Vec<Agent>,
    pub(crate) webs: Vec<Nginx>,
    _servers: Vec<Server>,
    pub(crate) lab: Pair,
}

fn backends(port: u16) -> Vec<Backend> {
    let backend = |number: u8| Backend {
        name: format!("web{number}"),
        address: Pair::server_address(number),
        port,
        weight: 1,
        is_backup: false,
    };
    (1..=SERVERS).map(backend).collect()
}

/// The config of a balancer, of which there are two.
pub(crate) fn config(lab: &Pair, number: u8, mode: Mode) -> Result<Config> {
    let key = lab.folder().join("cluster.key");
    fs::write(
        &key,
        "a secret of this test, of which nobody else knows\n".replace(' ', "-"),
    )?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    let other = 3 - number;
    let cluster = format!(
        "[cluster]\nlisten = \"{}:{TALK}\"\npeers = [\"{}:{TALK}\"]\nkey_file = \"{}\"\n\n",
        Pair::balancer_address(number),
        Pair::balancer_address(other),
        key.display()
    );
    let [_, (_, gateway)] = Pair::floating();
    let gateway = gateway.trim_end_matches("/32");
    let interfaces = ["f0".to_owned(), "b0".to_owned()];
    let name = format!("lb{number}");
    let state = lab.folder().join(format!("{name}.json"));
    let mut config = Config::new(lab as &Lab, &interfaces, mode)
        .agent("state_file", &state.to_string_lossy())
        .tables(&cluster)
        .service(Service::tcp("web", VIP4, WEB, backends(8080)).check(Check::Tcp))
        .service(Service::tcp("echo", VIP4, ECHO, backends(ECHO)).check(Check::Tcp))
        .service(
            Service::tcp("full", VIP4, FULL_NAT, backends(ECHO))
                .check(Check::Tcp)
                .key("forwarding", "full-nat")
                .raw("source_addresses", &format!("[\"{gateway}\"]")),
        )
        .service(Service::udp("ask", VIP4, ECHO, backends(ECHO)));
    config.pins = lab.pins().join(&name);
    config.socket = lab.folder().join(format!("{name}.sock"));
    Ok(config)
}

impl Stage {
    pub(crate) fn new(mode: Mode) -> Result<Self> {
        Self::with(mode, "")
    }

    /// The same with more tables in both configs.
    pub(crate) fn with(mode: Mode, tables: &str) -> Result<Self> {
        Self::started(mode, |lab, number, config| {
            let config = config.tables(tables);
            Agent::start_in(lab, &format!("lb{number}"), &config)
        })
    }

    /// With agents that are started so.
    fn started(mode: Mode, start: impl Fn(&Pair, u8, Config) -> Result<Agent>) -> Result<Self> {
        let lab = Pair::new(SERVERS)?;
        if mode == Mode::Native {
            lab.receive_native()?;
        }
        let (mut webs, mut servers) = (Vec::new(), Vec::new());
        for number in 1..=SERVERS {
            webs.push(lab.start_nginx(number, 8080)?);
            let address = [SocketAddr::new(Pair::server_address(number), ECHO)];
            let name = format!("web{number}");
            servers.push(Server::echo(&lab, &name, &address)?);
            servers.push(Server::datagrams(&lab, &name, &address)?);
        }
        let agents = [1, 2]
            .into_iter()
            .map(|number| start(&lab, number, config(&lab, number, mode)?))
            .collect::<Result<Vec<_>>>()?;
        let stage = Self {
            agents,
            webs,
            _servers: servers,
            lab,
        };
        stage.await_peers()?;
        Ok(stage)
    }

    /// Waits until both know of each other and have backends.
    pub(crate) fn await_peers(&self) -> Result<()> {
        for agent in &self.agents {
            await_until(DEADLINE, "the balancers talk", || {
                let status = agent.status()?;
                ensure!(status.is_peer_up()?, "{status:?}");
                for service in ["web", "echo", "full"] {
                    status
                        .service(service)?
                        .expect_in_rotation(SERVERS.into())?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Waits until a balancer knows of so many flows.
    pub(crate) fn await_flows(&self, balancer: usize, count: u64) -> Result<()> {
        await_until(DEADLINE, "the flows are known", || {
            let status = self.agents[balancer].status()?;
            let entries = status.flow_table("established")?.number("entries")?;
            ensure!(entries >= count, "{entries} of {count}");
            Ok(())
        })
    }

    pub(crate) fn move_over(&self, from: u8, to: u8) -> Result<()> {
        self.lab.deactivate(from)?;
        self.lab.activate(to)
    }
}

pub(crate) fn vip(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(VIP4), port)
}

/// A download that can be watched.
pub(crate) struct Download {
    stream: TcpStream,
    content: Vec<u8>,
    read: usize,
    size: usize,
}

impl Download {
    /// Begins to read a file of that size, from both servers' roots.
    pub(crate) fn begin(lab: &Lab, webs: &[Nginx], size: usize) -> Result<Self> {
        let content = content();
        for web in webs {
            let mut file = fs::File::create(web.root().join("big"))?;
            for _ in 0..size.div_ceil(content.len()) {
                file.write_all(&content)?;
            }
            file.set_len(size as u64)?;
        }
        let mut stream =
            lab.within("client", || TcpStream::connect_timeout(&vip(WEB), PATIENCE))??;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /big HTTP/1.0\r\n\r\n")?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).context("no head")?;
            head.push(byte[0]);
        }
        ensure!(head.starts_with(b"HTTP/1.1 200"), "{head:?}");
        Ok(Self {
            stream,
            content,
            read: 0,
            size,
        })
    }

    /// Reads up to so many bytes in all, and compares.
    pub(crate) fn read_to(&mut self, end: usize) -> Result<()> {
        let mut buffer = vec![0; 1 << 16];
        while self.read < end {
            let most = buffer.len().min(end - self.read);
            let length = self
                .stream
                .read(&mut buffer[..most])
                .with_context(|| format!("after {} bytes", self.read))?;
            ensure!(length > 0, "it ends after {} bytes", self.read);
            for (offset, byte) in buffer[..length].iter().enumerate() {
                let at = (self.read + offset) % self.content.len();
                ensure!(*byte == self.content[at], "another byte at {}", self.read);
            }
            self.read += length;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        self.read_to(self.size)?;
        let rest = self.stream.read(&mut [0; 1])?;
        ensure!(rest == 0, "more came than the file has");
        Ok(())
    }
}

fn connections_survive_a_move(mode: Mode) -> Result<()> {
    let stage = Stage::new(mode)?;
    let lab = &stage.lab;
    lab.activate(1)?;
    let open = |port| -> Result<Vec<(EchoClient, String)>> {
        let clients = (0..4).map(|_| {
            let mut client = lab.within("client", || EchoClient::open(vip(port)))??;
            let name = client.ask("before")?;
            Ok((client, name))
        });
        clients.collect()
    };
    let mut clients = open(ECHO)?;
    clients.extend(open(FULL_NAT)?);
    let socket = lab.within("client", || UdpSocket::bind("0.0.0.0:0"))??;
    let datagram = ask_datagram(&socket, vip(ECHO), "before")?;
    let mut download = Download::begin(lab, &stage.webs, SIZE)?;
    download.read_to(SIZE / 3)?;
    // 8 idle ones, the datagrams, the download.
    stage.await_flows(1, 10)?;
    stage.move_over(1, 2)?;
    download.read_to(2 * SIZE / 3)?;
    for (client, name) in &mut clients {
        let after = client.ask("after")?;
        ensure!(after == *name, "{after} answers for {name}");
    }
    let after = ask_datagram(&socket, vip(ECHO), "after")?;
    ensure!(after == datagram, "{after} answers for {datagram}");
    let status = stage.agents[1].status()?;
    ensure!(
        status.service("echo")?.number("connections")? == 0
            && status.service("ask")?.number("connections")? == 0,
        "{status:?}"
    );
    // And back, with all of them told to the first one by the second.
    stage.move_over(2, 1)?;
    download.finish()?;
    for (client, name) in &mut clients {
        let after = client.ask("back")?;
        ensure!(after == *name, "{after} answers for {name}");
    }
    // What ends here ends there.
    drop(clients);
    await_until(DEADLINE, "the flows end at both", || {
        for agent in &stage.agents {
            let status = agent.status()?;
            for service in ["echo", "full", "web"] {
                let active = status.service(service)?.number("active_flows")?;
                ensure!(active == 0, "{service} has {active} active flows");
            }
        }
        Ok(())
    })
}

/// A balancer that was killed and starts anew, with nothing in its tables, is told of everything.
fn a_restarted_balancer_learns_all(mode: Mode) -> Result<()> {
    let mut stage = Stage::new(mode)?;
    stage.lab.activate(1)?;
    let mut clients = (0..20)
        .map(|_| stage.lab.within("client", || EchoClient::open(vip(ECHO)))?)
        .collect::<Result<Vec<_>>>()?;
    for client in &mut clients {
        client.ask("before")?;
    }
    stage.await_flows(1, 20)?;
    stage.agents[1].stop()?;
    stage.agents[1].start_again(&stage.lab)?;
    await_until(DEADLINE, "it is ready", || {
        stage.agents[1]
            .asked(&["status", "--ready"])?
            .expect_success()
    })?;
    // At once: who is ready has been told of everything.
    let status = stage.agents[1].status()?;
    let entries = status.flow_table("established")?.number("entries")?;
    ensure!(entries >= 20, "ready with {entries} of 20");
    stage.await_peers()?;
    stage.move_over(1, 2)?;
    for client in &mut clients {
        client.ask("after")?;
    }
    Ok(())
}

/// The second balancer's clock jumps by ten years to and fro while it is told of connections, and
/// tells of them.
fn no_clock_of_the_wall_has_a_part(mode: Mode) -> Result<()> {
    let stage = Stage::started(mode, |lab, number, config| {
        let name = format!("lb{number}");
        let mut command = lab.command(&name, lb_tests::scenario::binary()?)?;
        if number == 2 {
            command
                .env("LD_PRELOAD", clock_jumps::compile(&lab.folder())?)
                .env("LB_LATER", lab.folder().join("later"))
                .env("LB_EARLIER", lab.folder().join("earlier"));
        }
        Agent::start_by(lab, &config, command)
    })?;
    let lab = &stage.lab;
    lab.activate(1)?;
    let mut clients = Vec::new();
    for (from, to, file) in [(1, 2, "later"), (2, 1, "earlier")] {
        for _ in 0..10 {
            let mut client = lab.within("client", || EchoClient::open(vip(ECHO)))??;
            let name = client.ask("before")?;
            clients.push((client, name));
        }
        let file = lab.folder().join(file);
        fs::write(&file, "")?;
        // Longer than a peer may be silent.
        std::thread::sleep(Duration::from_secs(4));
        stage.await_flows(usize::from(to) - 1, clients.len() as u64)?;
        stage.move_over(from, to)?;
        for (client, name) in &mut clients {
            let after = client.ask("after")?;
            ensure!(after == *name, "{after} answers for {name}");
        }
        fs::remove_file(&file)?;
    }
    for agent in &stage.agents {
        let sessions = agent.status()?.cluster("/peers/0/sessions")?;
        ensure!(sessions == 1, "{sessions} sessions began");
    }
    Ok(())
}
