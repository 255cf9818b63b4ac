//! The firewall: whose packets are dropped, by the config, by files and at run time.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use lb_lab::{Routed, VIP4};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Config, EchoClient, Farm, Mode, Outcome, Server, Service, binary,
    routed_backends, run,
};

in_both_modes!(
    a_denied_client_gets_nothing_and_others_everything,
    a_list_of_a_hundred_thousand_is_reloaded_in_one_step,
    what_is_set_at_run_time_holds_and_ends,
    what_nobody_confirms_is_taken_back,
    who_is_logged_in_is_not_cut_off_by_a_reload,
    a_source_begins_as_many_as_it_may,
    a_source_sends_as_many_packets_as_it_may,
    a_source_has_as_many_flows_as_it_may,
    who_exceeds_a_limit_is_denied_until_that_is_lifted_or_over,
);

const PORT: u16 = 7000;
const BACKEND_PORT: u16 = 7007;

/// Long enough for a connection that would succeed.
const PATIENCE: Duration = Duration::from_secs(5);

struct Stage {
    lab: Routed,
    _servers: Vec<Server>,
    agent: Agent,
    service: SocketAddr,
}

fn stage(mode: Mode, firewall: &str) -> Result<Stage> {
    let lab = Farm::wired(mode, 3)?;
    let servers = (1..=3)
        .map(|number| {
            let [v4, _] = Routed::server_addresses(number);
            let listen = [SocketAddr::new(v4, BACKEND_PORT)];
            Server::echo(&lab, &format!("web{number}"), &listen)
        })
        .collect::<Result<Vec<_>>>()?;
    let agent = Agent::start(&lab, &config(&lab, mode, firewall))?;
    Ok(Stage {
        lab,
        _servers: servers,
        agent,
        service: SocketAddr::new(IpAddr::V4(VIP4), PORT),
    })
}

fn config(lab: &Routed, mode: Mode, firewall: &str) -> Config {
    let backends = routed_backends(VIP4, 3, BACKEND_PORT);
    let service = Service::tcp("echo", VIP4, PORT, backends).check(Check::None);
    Farm::config(lab, mode).service(service).tables(firewall)
}

impl Stage {
    fn opens(&self) -> Result<EchoClient> {
        let service = self.service;
        self.lab
            .within("client", move || EchoClient::open(service))?
    }

    /// Whether the first SYN is answered.
    fn connects(&self) -> Result<bool> {
        let service = self.service;
        let wait = Duration::from_millis(700);
        self.lab.within("client", move || {
            std::net::TcpStream::connect_timeout(&service, wait).is_ok()
        })
    }

    /// Whether a client is cut off: it asks until it is, or until patience ends.
    fn is_cut_off(&self, client: &mut EchoClient) -> bool {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if client.ask("still there?").is_err() {
                return true;
            }
        }
        false
    }

    fn reload(&self, mode: Mode, firewall: &str) -> Result<String> {
        fs::write(
            self.agent.config_file(),
            config(&self.lab, mode, firewall).text(),
        )?;
        self.agent.asked(&["reload"])?.expect_success()
    }
}

fn a_denied_client_gets_nothing_and_others_everything(mode: Mode) -> Result<()> {
    let [client, _] = Routed::client_addresses();
    let stage = stage(mode, "")?;
    let mut open = stage.opens()?;
    open.ask("hello")?;

    stage.reload(mode, &format!("[firewall]\ndeny = [\"{client}\"]\n"))?;
    let denied = || stage.agent.status()?.verdict("drop_denied");
    let before = denied()?;
    ensure!(stage.is_cut_off(&mut open), "an established flow goes on");
    ensure!(!stage.connects()?, "a denied client connects");
    ensure!(denied()? > before, "nothing was counted");
    let from = SocketAddr::new(client, 40_000).to_string();
    let to = stage.service.to_string();
    let why = stage
        .agent
        .asked(&["why", "--from", &from, "--to", &to])?
        .expect_success()?;
    ensure!(why.contains("drop_denied"), "{why}");
    ensure!(why.contains("by a prefix of 32 bits"), "{why}");

    stage.reload(
        mode,
        &format!("[firewall]\ndeny = [\"{client}\"]\ndry_run = true\n"),
    )?;
    let before = denied()?;
    stage.opens()?.ask("hello")?;
    ensure!(denied()? == before, "a dry run drops");
    ensure!(stage.agent.status()?.event("firewall_would_drop")? > 0);

    // Bogons: the backends' own network is in them, and the client is let through by name.
    stage.reload(
        mode,
        &format!("[firewall]\ndeny = [\"0.0.0.0/0\", \"::/0\"]\nallow = [\"{client}\"]\n"),
    )?;
    let mut open = stage.opens()?;
    open.ask("hello")?;
    stage.reload(mode, "")?;
    open.ask("hello")?;
    Ok(())
}

fn a_list_of_a_hundred_thousand_is_reloaded_in_one_step(mode: Mode) -> Result<()> {
    let [client, _] = Routed::client_addresses();
    let stage = stage(mode, "")?;
    let file = stage.lab.folder().join("deny.txt");
    let mut list = String::from("# a hundred thousand\n");
    for number in 0..100_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        // Some shorter, some of IPv6.
        match number % 10 {
            0 => writeln!(
                list,
                "2001:{:x}:{:x}::/48",
                0x1000 + (number >> 16),
                number & 0xffff
            )?,
            1 => writeln!(list, "11.{a}.{b}.{}/32 ; odd", c | 1)?,
            _ => writeln!(list, "11.{a}.{b}.{c}")?,
        }
    }
    fs::write(&file, &list)?;
    let firewall = format!("[firewall]\ndeny_files = [{file:?}]\n");
    let began = Instant::now();
    stage.reload(mode, &firewall)?;
    println!("a reload with 100,000 prefixes takes {:?}", began.elapsed());
    stage.opens()?.ask("hello")?;
    let status = stage.agent.status()?;
    ensure!(status.verdict("drop_denied")? == 0);

    fs::write(&file, format!("{list}{client}\n"))?;
    let began = Instant::now();
    stage.agent.asked(&["reload"])?.expect_success()?;
    println!("one with one more, {:?}", began.elapsed());
    ensure!(!stage.connects()?, "a denied client connects");

    // Garbage leaves what holds, and says where.
    fs::write(
        &file,
        format!("{list}what is this\n{client}\n10.0.0.0/99\n"),
    )?;
    let refused = stage.agent.asked(&["reload"])?;
    let config = stage.agent.config_file().display().to_string();
    for said in [refused, run(&["check", "--config", &config])?] {
        ensure!(said.code == Some(2), "{said:?}");
        for words in [
            "deny.txt:100002: \"what is this\" is not a prefix",
            "deny.txt:100004: \"10.0.0.0/99\" is not a prefix",
        ] {
            ensure!(said.stderr.contains(words), "{said:?}");
        }
    }
    ensure!(!stage.connects()?, "a denied client connects");

    fs::write(&file, "")?;
    let began = Instant::now();
    stage.agent.asked(&["reload"])?.expect_success()?;
    println!("one with none, {:?}", began.elapsed());
    stage.opens()?.ask("hello")?;
    Ok(())
}

impl Stage {
    fn firewall(&self, arguments: &[&str]) -> Result<lb_tests::scenario::Outcome> {
        self.agent.asked(&[&["firewall"], arguments].concat())
    }

    /// Waits until the client gets through again.
    fn await_open(&self) -> Result<()> {
        let end = Instant::now() + 2 * PATIENCE;
        loop {
            match self.opens().and_then(|mut client| client.ask("hello")) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => {}
            }
        }
    }
}

fn what_is_set_at_run_time_holds_and_ends(mode: Mode) -> Result<()> {
    let [client, _] = Routed::client_addresses();
    let prefix = client.to_string();
    // No [firewall]: the program is another one from the first rule on.
    let mut stage = stage(mode, "")?;
    let mut open = stage.opens()?;
    open.ask("hello")?;
    let said = stage.firewall(&["list"])?.expect_success()?;
    ensure!(said.contains("not in use"), "{said}");

    let said = stage.firewall(&["deny", &prefix])?.expect_success()?;
    ensure!(said.contains(&format!("{client}/32 is denied")), "{said}");
    ensure!(stage.is_cut_off(&mut open), "an established flow goes on");
    let said = stage.firewall(&["list"])?.expect_success()?;
    ensure!(
        said.contains(&format!("deny  {client}/32 (run time)")),
        "{said}"
    );

    // Over a crash.
    stage.agent.kill()?;
    stage.agent.start_again(&stage.lab)?;
    ensure!(!stage.connects()?, "a denied client connects");
    stage
        .firewall(&["allow", &prefix, "--seconds", "2"])?
        .expect_success()?;
    stage.opens()?.ask("hello")?;
    stage.await_open()?;
    stage.firewall(&["clear", "--all"])?.expect_success()?;
    stage.opens()?.ask("hello")?;

    stage
        .firewall(&["deny", "0.0.0.0/0", "--seconds", "2"])?
        .expect_success()?;
    ensure!(!stage.connects()?, "a denied client connects");
    stage.await_open()?;

    for (arguments, words) in [
        (&["deny", "nobody"][..], &["\"nobody\" is not a prefix"][..]),
        (&["deny", "192.0.2.1/24"], &["192.0.2.0/24"]),
        (&["confirm"], &["nothing to confirm"]),
    ] {
        stage.firewall(arguments)?.expect_sentence(2, words)?;
    }
    stage
        .firewall(&["clear", "192.0.2.0/24"])?
        .expect_sentence(1, &["was not set at run time"])?;
    Ok(())
}

fn what_nobody_confirms_is_taken_back(mode: Mode) -> Result<()> {
    let [client, _] = Routed::client_addresses();
    let stage = stage(mode, "")?;
    let config = |firewall: &str| {
        let text = config(&stage.lab, mode, firewall).text();
        fs::write(stage.agent.config_file(), text)
    };
    config(&format!("[firewall]\ndeny = [\"{client}\"]\n"))?;
    let apply = || stage.firewall(&["apply", "--confirm", "3"]);
    apply()?.expect_success()?;
    ensure!(!stage.connects()?, "a denied client connects");
    stage.await_open()?;
    stage
        .agent
        .await_log(&["nobody confirmed", "holds again"])?;

    apply()?.expect_success()?;
    let refused = stage.agent.asked(&["reload"])?;
    ensure!(refused.code != Some(0), "{refused:?}");
    stage.firewall(&["confirm"])?.expect_success()?;
    std::thread::sleep(Duration::from_secs(4));
    ensure!(!stage.connects()?, "a denied client connects");

    config("[firewall]\ndeny = [\"what\"]\n")?;
    let refused = apply()?;
    ensure!(refused.code == Some(2), "{refused:?}");
    ensure!(refused.stderr.contains("is not a prefix"), "{refused:?}");
    Ok(())
}

fn who_is_logged_in_is_not_cut_off_by_a_reload(mode: Mode) -> Result<()> {
    let stage = stage(mode, "")?;
    // Nobody else's: environments are looked at on the whole machine.
    let session = match mode {
        Mode::Native => "198.18.77.7 50000 198.18.77.1 22",
        Mode::Generic => "198.18.78.7 50000 198.18.78.1 22",
    };
    let client = session.split(' ').next().unwrap_or_default();
    let firewall = |more: &str| format!("[firewall]\ndeny = [\"{client}\"]\n{more}");
    let reload = |firewall: &str, force: &[&str]| -> Result<Outcome> {
        let text = config(&stage.lab, mode, firewall).text();
        fs::write(stage.agent.config_file(), text)?;
        let mut command = std::process::Command::new(binary()?);
        command.env("SSH_CONNECTION", session).arg("reload");
        command.args(force).arg("--socket");
        Outcome::of(command.arg(stage.agent.socket()))
    };
    let words = [client, "would cut off", "--force", "nothing was changed"];
    reload(&firewall(""), &[])?.expect_sentence(2, &words)?;
    let said = stage.firewall(&["list"])?.expect_success()?;
    ensure!(said.contains("not in use"), "{said}");
    reload(&firewall("dry_run = true"), &[])?.expect_success()?;
    reload(&firewall(""), &[])?.expect_sentence(2, &words)?;
    let said = reload(&firewall(""), &["--force"])?;
    ensure!(said.code == Some(0), "{said:?}");
    ensure!(said.stderr.contains("[firewall] would cut off"), "{said:?}");
    // Who is cut off already is no reason to refuse.
    reload(&firewall(""), &[])?.expect_success()?;
    Ok(())
}

fn a_source_begins_as_many_as_it_may(mode: Mode) -> Result<()> {
    let stage = stage(mode, "")?;
    let mut open = stage.opens()?;
    open.ask("hello")?;
    let rate = "[firewall.rate]\nnew_connections = 1\nburst = 3\n";
    stage.reload(mode, rate)?;
    for _ in 0..3 {
        ensure!(stage.connects()?, "fewer connections than it may");
    }
    let limited = || stage.agent.status()?.verdict("drop_rate_new_connections");
    ensure!(limited()? == 0);
    let refused = (0..3)
        .map(|_| stage.connects())
        .collect::<Result<Vec<_>>>()?;
    ensure!(refused.contains(&false), "more connections than it may");
    ensure!(limited()? > 0, "nothing was counted");
    for _ in 0..100 {
        open.ask("and what is established goes on")?;
    }

    stage.reload(mode, &format!("[firewall]\ndry_run = true\n{rate}"))?;
    let before = limited()?;
    for _ in 0..10 {
        ensure!(stage.connects()?, "a dry run limits");
    }
    ensure!(limited()? == before);
    ensure!(stage.agent.status()?.event("firewall_would_drop")? > 0);
    stage.reload(mode, "")?;
    for _ in 0..10 {
        ensure!(stage.connects()?, "there is no limit any more");
    }
    Ok(())
}

fn a_source_sends_as_many_packets_as_it_may(mode: Mode) -> Result<()> {
    let [client, _] = Routed::client_addresses();
    let stage = stage(mode, "")?;
    let mut open = stage.opens()?;
    open.ask("hello")?;
    stage.reload(mode, "[firewall.rate]\npackets = 10\npackets_burst = 40\n")?;
    let limited = || stage.agent.status()?.verdict("drop_rate_packets");
    ensure!(limited()? == 0);
    // An established flow is limited too, and goes on by what it is allowed: TCP repeats.
    let end = Instant::now() + PATIENCE;
    while limited()? == 0 {
        ensure!(Instant::now() < end, "no packet is too many");
        open.ask("and again")?;
    }
    let from = SocketAddr::new(client, 40_000).to_string();
    let to = stage.service.to_string();
    let why = || -> Result<String> {
        stage
            .agent
            .asked(&["why", "--from", &from, "--to", &to])?
            .expect_success()
    };
    let end = Instant::now() + PATIENCE;
    loop {
        // A moment later there may be a token again.
        let why = why()?;
        if why.contains("drop_rate_packets") {
            ensure!(why.contains("[firewall.rate] packets"), "{why}");
            break;
        }
        ensure!(Instant::now() < end, "{why}");
        let _ = open.ask("and again");
    }

    // Who is allowed is not limited, nor is anybody in a dry run.
    for more in [
        format!("[firewall]\nallow = [\"{client}\"]\n"),
        "[firewall]\ndry_run = true\n".to_owned(),
    ] {
        let rate = "[firewall.rate]\npackets = 1\npackets_burst = 1\n";
        stage.reload(mode, &format!("{more}{rate}"))?;
        let mut open = stage.opens()?;
        let before = limited()?;
        for _ in 0..100 {
            open.ask("hello")?;
        }
        ensure!(limited()? == before, "{more}");
    }
    ensure!(stage.agent.status()?.event("firewall_would_drop")? > 0);
    Ok(())
}

/// Begins connections until a source has begun too many.
fn offend(stage: &Stage) -> Result<()> {
    let end = Instant::now() + 2 * PATIENCE;
    while stage.connects()? {
        ensure!(Instant::now() < end, "nothing is too much");
    }
    Ok(())
}

fn who_exceeds_a_limit_is_denied_until_that_is_lifted_or_over(mode: Mode) -> Result<()> {
    let [client, _] = Routed::client_addresses();
    let mut stage = stage(mode, "")?;
    let mut open = stage.opens()?;
    open.ask("hello")?;
    let with = |seconds: u32| {
        format!("[firewall.rate]\nnew_connections = 1\nburst = 2\ndeny_seconds = {seconds}\n")
    };
    stage.reload(mode, &with(600))?;
    offend(&stage)?;
    ensure!(
        stage.is_cut_off(&mut open),
        "an established flow of an offender goes on"
    );
    ensure!(stage.agent.status()?.verdict("drop_offender")? > 0);
    ensure!(stage.agent.status()?.event("offender_denied")? == 1);
    let listed = stage.firewall(&["list"])?.expect_success()?;
    let line = format!("deny  {client}/32 (exceeded new_connections, 59");
    ensure!(listed.contains(&line), "{listed}");
    let from = SocketAddr::new(client, 40_000).to_string();
    let to = stage.service.to_string();
    let why = stage
        .agent
        .asked(&["why", "--from", &from, "--to", &to])?
        .expect_success()?;
    ensure!(
        why.contains("drop_offender") && why.contains("exceeded [firewall.rate] new_connections"),
        "{why}"
    );

    // Over a crash, and until somebody lifts it.
    stage.agent.kill()?;
    stage.agent.start_again(&stage.lab)?;
    ensure!(!stage.connects()?, "an offender connects");
    let address = client.to_string();
    let said = stage.firewall(&["clear", &address])?.expect_success()?;
    ensure!(said.contains("1 sources"), "{said}");
    ensure!(stage.connects()?, "who was forgiven does not connect");
    let listed = stage.firewall(&["list"])?.expect_success()?;
    ensure!(!listed.contains("exceeded new_connections"), "{listed}");
    offend(&stage)?;
    stage.firewall(&["allow", &address])?.expect_success()?;
    for _ in 0..10 {
        ensure!(stage.connects()?, "who is allowed is limited");
    }
    stage.firewall(&["clear", "--all"])?.expect_success()?;

    // By itself, and by a config without.
    stage.reload(mode, &with(3))?;
    offend(&stage)?;
    stage.await_open()?;
    stage.reload(mode, &with(600))?;
    offend(&stage)?;
    stage.reload(mode, "[firewall.rate]\nnew_connections = 100\n")?;
    ensure!(stage.connects()?, "nobody is denied any more");
    stage.reload(mode, &format!("[firewall]\ndry_run = true\n{}", with(600)))?;
    let dropped = || stage.agent.status()?.verdict("drop_offender");
    let before = dropped()?;
    for _ in 0..10 {
        ensure!(stage.connects()?, "a dry run denies");
    }
    ensure!(dropped()? == before);
    Ok(())
}

fn a_source_has_as_many_flows_as_it_may(mode: Mode) -> Result<()> {
    let stage = stage(mode, "")?;
    let mut open = stage.opens()?;
    open.ask("hello")?;
    stage.reload(mode, "[firewall.rate]\nflows = 4\n")?;
    // The agent has counted the one that there is.
    std::thread::sleep(Duration::from_millis(2500));
    let mut more = (0..3).map(|_| stage.opens()).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(Duration::from_millis(2500));
    ensure!(!stage.connects()?, "more flows than it may");
    let refused = || stage.agent.status()?.verdict("drop_rate_flows");
    ensure!(refused()? > 0, "nothing was counted");
    for client in more.iter_mut().chain([&mut open]) {
        client.ask("and what is established goes on")?;
    }
    // Flows that end make room.
    more.truncate(1);
    let end = Instant::now() + 2 * PATIENCE;
    while !stage.connects()? {
        ensure!(Instant::now() < end, "flows that have ended make no room");
    }
    // Many one after the other are not many at a time.
    stage.reload(mode, "[firewall.rate]\nflows = 30\n")?;
    let before = refused()?;
    for _ in 0..60 {
        ensure!(stage.connects()?, "flows that have ended count");
        std::thread::sleep(Duration::from_millis(60));
    }
    ensure!(refused()? == before);
    open.ask("and still")?;
    Ok(())
}
