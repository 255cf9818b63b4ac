//! A service's own lists: who may use it, by TCP and UDP, IPv4 and IPv6.

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use lb_lab::{Routed, VIP4, VIP6};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Config, EchoClient, Farm, Mode, Server, Service, ask_datagram, routed_backends,
};

in_both_modes!(
    who_is_kept_out_is_cut_off_and_others_go_on,
    lists_outlive_the_agent,
    what_is_set_while_it_runs_is_of_one_service,
);

const PORT: u16 = 7000;
/// Of the service that everybody may use.
const OPEN_PORT: u16 = 7001;
const UDP_PORT: u16 = 5300;
const BACKEND_PORT: u16 = 7007;
/// Long enough for a connection that is to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nobody in the lab.
const STRANGERS: &str = "allow = [\"192.0.2.0/24\", \"2001:db8:ffff::/48\"]";

const VIPS: [IpAddr; 2] = [IpAddr::V4(VIP4), IpAddr::V6(VIP6)];

struct Stage {
    lab: Routed,
    _servers: Vec<Server>,
    agent: Agent,
    mode: Mode,
}

fn stage(mode: Mode, lists: &str) -> Result<Stage> {
    let lab = Farm::wired(mode, 3)?;
    let mut servers = Vec::new();
    for number in 1..=3 {
        let name = format!("web{number}");
        let listen = Routed::server_addresses(number).map(|ip| SocketAddr::new(ip, BACKEND_PORT));
        servers.push(Server::echo(&lab, &name, &listen)?);
        servers.push(Server::datagrams(&lab, &name, &listen)?);
    }
    let agent = Agent::start(&lab, &config(&lab, mode, lists, ""))?;
    Ok(Stage {
        lab,
        _servers: servers,
        agent,
        mode,
    })
}

fn config(lab: &Routed, mode: Mode, lists: &str, tables: &str) -> Config {
    let lists = format!("{{ {} }}", lists.replace('\n', ", "));
    let mut config = Farm::config(lab, mode);
    for (vip, version) in VIPS.into_iter().zip(["4", "6"]) {
        let backends = || routed_backends(vip, 3, BACKEND_PORT);
        let tcp = |name: &str, port| {
            Service::tcp(&format!("{name}{version}"), vip, port, backends()).check(Check::None)
        };
        let udp = Service::udp(&format!("udp{version}"), vip, UDP_PORT, backends());
        config = config
            .service(tcp("echo", PORT).raw("firewall", &lists))
            .service(tcp("open", OPEN_PORT))
            .service(udp.raw("firewall", &lists));
    }
    config.tables(tables)
}

impl Stage {
    fn reload(&self, lists: &str, tables: &str) -> Result<String> {
        let config = config(&self.lab, self.mode, lists, tables).text();
        fs::write(self.agent.config_file(), config)?;
        self.agent.asked(&["reload"])?.expect_success()
    }

    fn opens(&self, vip: IpAddr, port: u16) -> Result<EchoClient> {
        let to = SocketAddr::new(vip, port);
        let mut client = self.lab.within("client", move || EchoClient::open(to))??;
        client.ask("hello")?;
        Ok(client)
    }

    /// Whether the first SYN is answered.
    fn connects(&self, vip: IpAddr, port: u16) -> Result<bool> {
        let to = SocketAddr::new(vip, port);
        let wait = Duration::from_millis(500);
        self.lab.within("client", move || {
            std::net::TcpStream::connect_timeout(&to, wait).is_ok()
        })
    }

    fn socket(&self, vip: IpAddr) -> Result<UdpSocket> {
        let any = SocketAddr::new(
            if vip.is_ipv4() {
                IpAddr::from([0; 4])
            } else {
                IpAddr::from([0; 16])
            },
            0,
        );
        let socket = self.lab.within("client", move || UdpSocket::bind(any))??;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        Ok(socket)
    }

    fn denied(&self, service: &str) -> Result<u64> {
        let status = self.agent.status()?;
        status.service(service)?.entry("firewall")?.number("denied")
    }

    /// Waits until a service has no flow.
    fn await_end(&self, service: &str) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self
            .agent
            .status()?
            .service(service)?
            .number("active_flows")?
            > 0
        {
            ensure!(Instant::now() < end, "flows of {service} go on");
        }
        Ok(())
    }

    fn why(&self, from: IpAddr, to: SocketAddr) -> Result<String> {
        let from = SocketAddr::new(from, 40_000).to_string();
        let asked = ["why", "--from", &from, "--to", &to.to_string()].map(str::to_owned);
        let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
        self.agent.asked(&asked)?.expect_success()
    }
}

/// Whether somebody is cut off before patience ends.
fn is_cut_off(mut asks: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if !asks() {
            return true;
        }
    }
    false
}

fn who_is_kept_out_is_cut_off_and_others_go_on(mode: Mode) -> Result<()> {
    let clients = Routed::client_addresses();
    let stage = stage(mode, "")?;
    let deny = format!("deny = {:?}", clients.map(|one| one.to_string()));
    for (vip, from) in VIPS.into_iter().zip(clients) {
        let version = if vip.is_ipv4() { "4" } else { "6" };
        let (echo, udp) = (format!("echo{version}"), format!("udp{version}"));
        stage.reload("", "")?;
        let mut open = stage.opens(vip, PORT)?;
        let mut other = stage.opens(vip, OPEN_PORT)?;
        let socket = stage.socket(vip)?;
        let datagrams = SocketAddr::new(vip, UDP_PORT);
        ask_datagram(&socket, datagrams, "hello")?;

        stage.reload(&deny, "")?;
        open.be_patient_for(Duration::from_secs(1))?;
        ensure!(
            is_cut_off(|| open.ask("still there?").is_ok()),
            "an established connection goes on"
        );
        ensure!(
            is_cut_off(|| ask_datagram(&socket, datagrams, "still there?").is_ok()),
            "datagrams go on"
        );
        ensure!(!stage.connects(vip, PORT)?, "a denied client connects");
        ensure!(stage.denied(&echo)? > 0 && stage.denied(&udp)? > 0);
        ensure!(stage.agent.status()?.verdict("drop_service_denied")? > 0);
        other.ask("another service goes on")?;
        stage.opens(vip, OPEN_PORT)?;
        let said = stage.why(from, SocketAddr::new(vip, PORT))?;
        let bits = if vip.is_ipv4() { 32 } else { 128 };
        let words = format!(
            "the service keeps its source out ([service.firewall]), by a prefix of {bits} bits"
        );
        ensure!(
            said.contains(&words) && said.contains("drop_service_denied"),
            "{said}"
        );

        let list = stage.agent.asked(&["firewall", "list"])?.expect_success()?;
        let rule = format!("service {echo}\n  deny  {}/32 (config)", clients[0]);
        ensure!(list.contains(&rule), "{list}");

        // Counted, and nothing else.
        stage.reload(&deny, "[firewall]\ndry_run = true\n")?;
        let before = stage.denied(&echo)?;
        let open = stage.opens(vip, PORT)?;
        ensure!(stage.denied(&echo)? > before, "a dry run does not count");
        stage.reload(&deny, "")?;
        stage.await_end(&echo)?;
        drop(open);

        // Only some: the longest prefix decides.
        let allow = format!("allow = [\"{from}\"]\ndeny = [\"0.0.0.0/0\", \"::/0\"]");
        stage.reload(&allow, "")?;
        let mut open = stage.opens(vip, PORT)?;
        ask_datagram(&socket, datagrams, "hello")?;
        stage.reload(&format!("allow = [\"{from}\"]"), "")?;
        open.ask("an allowed one goes on")?;
        stage.reload(STRANGERS, "")?;
        stage.await_end(&echo)?;
        ensure!(
            !stage.connects(vip, PORT)?,
            "one who is not allowed connects"
        );
        let said = stage.why(from, SocketAddr::new(vip, PORT))?;
        ensure!(
            said.contains("only for those that its allow names"),
            "{said}"
        );
    }
    let said = stage.agent.asked(&["status"])?.expect_success()?;
    ensure!(
        said.contains("for 2 allowed prefixes only but 0 denied ones"),
        "{said}"
    );
    Ok(())
}

fn lists_outlive_the_agent(mode: Mode) -> Result<()> {
    let mut stage = stage(mode, STRANGERS)?;
    let file = stage.lab.folder().join("allowed.txt");
    for vip in VIPS {
        ensure!(
            !stage.connects(vip, PORT)?,
            "one who is not allowed connects"
        );
        stage.opens(vip, OPEN_PORT)?;
    }
    stage.agent.kill()?;
    ensure!(
        !stage.connects(VIPS[0], PORT)?,
        "nobody is kept out without an agent"
    );
    // A list that somebody emptied allows nobody.
    fs::write(&file, "# nobody yet\n")?;
    let listed = format!("allow_files = [{file:?}]");
    let text = config(&stage.lab, mode, &listed, "").text();
    fs::write(stage.agent.config_file(), text)?;
    stage.agent.start_again(&stage.lab)?;
    for vip in VIPS {
        ensure!(!stage.connects(vip, PORT)?, "an empty list allows somebody");
    }
    let [v4, v6] = Routed::client_addresses();
    fs::write(&file, format!("{v4}\n{v6} ; the client\n"))?;
    stage.agent.asked(&["reload"])?.expect_success()?;
    for vip in VIPS {
        stage.opens(vip, PORT)?;
    }
    fs::write(&file, format!("{v4}\n{v6}/129\n"))?;
    stage
        .agent
        .asked(&["reload"])?
        .expect_sentence(2, &["allowed.txt:2", "is not a prefix"])?;
    stage.opens(VIPS[1], PORT)?;
    Ok(())
}

fn what_is_set_while_it_runs_is_of_one_service(mode: Mode) -> Result<()> {
    let mut stage = stage(mode, "")?;
    let clients = Routed::client_addresses();
    for (vip, from) in VIPS.into_iter().zip(clients) {
        let echo = if vip.is_ipv4() { "echo4" } else { "echo6" };
        let set = |stage: &Stage, act: &str| {
            let words = ["firewall", act, &from.to_string(), "--service", echo];
            stage.agent.asked(&words)?.expect_success()
        };
        let mut open = stage.opens(vip, PORT)?;
        let mut other = stage.opens(vip, OPEN_PORT)?;
        let said = set(&stage, "deny")?;
        ensure!(
            said.contains(&format!("of service {echo} is denied")),
            "{said}"
        );
        open.be_patient_for(Duration::from_secs(1))?;
        ensure!(
            is_cut_off(|| open.ask("still there?").is_ok()),
            "an established connection goes on"
        );
        ensure!(!stage.connects(vip, PORT)?, "a denied client connects");
        other.ask("another service goes on")?;
        stage.opens(vip, OPEN_PORT)?;
        let list = stage.agent.asked(&["firewall", "list"])?.expect_success()?;
        let bits = if vip.is_ipv4() { 32 } else { 128 };
        let rule = format!("service {echo}\n  deny  {from}/{bits} (run time)");
        ensure!(list.contains(&rule), "{list}");
        // Neither a reload nor a restart forgets it.
        stage.reload("", "")?;
        ensure!(!stage.connects(vip, PORT)?, "a reload forgets it");
        stage.agent.kill()?;
        stage.agent.start_again(&stage.lab)?;
        ensure!(!stage.connects(vip, PORT)?, "a restart forgets it");
        set(&stage, "clear")?;
        stage.opens(vip, PORT)?;
        // It goes before the config's list, and leaves it as it was.
        stage.reload("deny = [\"0.0.0.0/0\", \"::/0\"]", "")?;
        ensure!(!stage.connects(vip, PORT)?, "a denied client connects");
        set(&stage, "allow")?;
        stage.opens(vip, PORT)?;
        let words = ["firewall", "clear", "--all", "--service", echo];
        stage.agent.asked(&words)?.expect_success()?;
        ensure!(!stage.connects(vip, PORT)?, "a denied client connects");
        stage.reload("", "")?;
        stage.opens(vip, PORT)?;
    }
    let words = ["firewall", "deny", "192.0.2.1", "--service", "nobody"];
    stage
        .agent
        .asked(&words)?
        .expect_sentence(1, &["there is no service nobody; there are echo4, open4"])
}
