//! Tables of another layout, as an upgrade of lb may find them: refused, or replaced in one step
//! while connections go on. The same for tables of another size.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use lb_lab::{Routed, VIP4};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Check, Config, EchoClient, Farm, Mode, Outcome, Server, Service, binary, expect_cycle,
    expect_rotation, names, routed_backends,
};

use crate::{WEBS, agent_killed::while_streaming, web};

const PORT: u16 = 7000;
/// Live connections, beside a busy one.
const CONNECTIONS: usize = 200;
/// Before `version`, nothing; then it and 4 bytes of nothing; then settings.
const META_WORDS: usize = 10;

in_both_modes!(
    another_layout_is_replaced_under_load,
    another_size_is_had_without_a_loss
);

/// Says that the pinned tables have that layout.
pub(crate) fn pretend(pins: &Path, version: u32) -> Result<()> {
    let map = Map::from_map_data(MapData::from_pin(pins.join("META"))?)?;
    let mut meta: Array<MapData, [u32; META_WORDS]> = map.try_into()?;
    let mut words = meta.get(&0, 0)?;
    ensure!(words[0] == 5, "the layout is {words:?}");
    words[0] = version;
    meta.set(0, words, 0)?;
    Ok(())
}

fn config(lab: &Routed, mode: Mode) -> Config {
    let echo = Service::tcp("echo", VIP4, PORT, routed_backends(VIP4, 1, PORT));
    Farm::config(lab, mode)
        .agent("on_exit", "keep")
        .service(Farm::web(3))
        .service(echo.check(Check::None))
}

fn vip() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(VIP4), PORT)
}

/// A server, and so many connections to it.
fn echo(lab: &Routed, count: usize) -> Result<(Server, Vec<EchoClient>)> {
    let [v4, _] = Routed::server_addresses(1);
    let server = Server::echo(lab, "web1", &[SocketAddr::new(v4, PORT)])?;
    let open = || {
        (0..count)
            .map(|_| EchoClient::open(vip()))
            .collect::<Result<_>>()
    };
    let mut clients: Vec<_> = lab.within("client", open)??;
    ask_all(&mut clients)?;
    Ok((server, clients))
}

fn ask_all(clients: &mut [EchoClient]) -> Result<()> {
    for client in clients {
        ensure!(client.ask("there?")? == "web1");
    }
    Ok(())
}

fn pins(agent: &Agent) -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(agent.pins())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

/// An agent of a newer lb comes to tables of layout 2, which differs from 3 in where flows stand.
fn another_layout_is_replaced_under_load(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 3)?;
    let _servers = Farm::nginx(&lab)?;
    let mut agent = Agent::start(&lab, &config(&lab, mode))?;
    let (_server, mut clients) = echo(&lab, CONNECTIONS)?;
    let before = pins(&agent)?;
    let life = || {
        agent.stop()?;
        pretend(agent.pins(), 2)?;

        // It says what to do, and changes nothing.
        let mut command = lab.command("lb", binary()?)?;
        let refused = Outcome::of(command.args(["run", "--config"]).arg(agent.config_file()))?;
        refused.expect_sentence(
            1,
            &[
                "layout version 2",
                "has version 5",
                "--replace-tables",
                "on_new_layout",
            ],
        )?;
        ensure!(pins(&agent)? == before, "{:?}", pins(&agent)?);

        let replacing = config(&lab, mode).agent("on_new_layout", "replace");
        fs::write(agent.config_file(), replacing.text())?;
        agent.start_again(&lab)
    };
    let ((), echoes) = while_streaming(&lab, vip(), life)?;
    eprintln!("{echoes} echoes");
    ask_all(&mut clients)?;
    agent.await_log(&[
        "of layout version 2, were replaced by new ones, of version 5",
        " 0 TCP connections are lost",
    ])?;
    ensure!(pins(&agent)? == before, "{:?}", pins(&agent)?);
    expect_rotation(&names(&lab, web(), 6)?, &WEBS)?;
    let status = agent.status()?;
    let flows = status.service("echo")?.number("active_flows")?;
    ensure!(flows == CONNECTIONS as u64, "{flows} flows");
    ensure!(status.verdict("answered_reset_no_flow")? == 0, "{status:?}");
    status.expect_no_drops()
}

/// `[limits]` that changed.
fn another_size_is_had_without_a_loss(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 3)?;
    let _servers = Farm::nginx(&lab)?;
    let mut agent = Agent::start(&lab, &config(&lab, mode))?;
    let (_server, mut clients) = echo(&lab, CONNECTIONS)?;
    let capacity = |agent: &Agent| {
        let status = agent.status()?;
        status.flow_table("established")?.number("capacity")
    };
    let before = capacity(&agent)?;
    let file = agent.config_file().to_owned();
    let life = || {
        agent.stop()?;
        let larger = config(&lab, mode).flows(1_000_000);
        let mut command = lab.command("lb", "sh")?;
        command
            .args(["-c", r#"exec "$0" "$@" --replace-tables"#])
            .arg(binary()?);
        agent = Agent::start_by(&lab, &larger, command)?;
        Ok(())
    };
    let ((), echoes) = while_streaming(&lab, vip(), life)?;
    eprintln!("{echoes} echoes");
    ask_all(&mut clients)?;
    ensure!(
        capacity(&agent)? > 3 * before,
        "{} flows fit, before {before}",
        capacity(&agent)?
    );
    agent.await_log(&[" 0 TCP connections are lost"])?;
    ensure!(agent.config_file() == file);
    Ok(())
}

/// An agent that is killed while it replaces tables leaves pins aside; the next one puts them back,
/// as the new ones were not ready.
#[test]
fn one_that_was_killed_in_the_middle_is_made_good() -> Result<()> {
    let mode = Mode::Generic;
    let lab = Farm::wired(mode, 3)?;
    let _servers = Farm::nginx(&lab)?;
    let mut agent = Agent::start(&lab, &config(&lab, mode))?;
    let (_server, mut clients) = echo(&lab, 3)?;
    expect_cycle(&names(&lab, web(), 4)?, &WEBS)?;
    let before = pins(&agent)?;
    agent.kill()?;
    for name in ["META", "ESTABLISHED", "SERVICES"] {
        let pin = agent.pins().join(name);
        fs::rename(&pin, pin.with_file_name(format!("old_{name}")))
            .with_context(|| pin.display().to_string())?;
    }
    agent.start_again(&lab)?;
    agent.await_log(&["the former ones stay"])?;
    ensure!(pins(&agent)? == before, "{:?}", pins(&agent)?);
    ask_all(&mut clients)?;
    expect_cycle(&names(&lab, web(), 2)?, &["web2", "web3"])?;
    agent
        .status()?
        .service("web")?
        .expect("connections", &[2, 2, 2])
}

/// What this lb cannot read is replaced all the same, and it says that everything is lost.
#[test]
fn an_unknown_layout_is_replaced_too() -> Result<()> {
    let mode = Mode::Generic;
    let lab = Farm::wired(mode, 3)?;
    let _servers = Farm::nginx(&lab)?;
    let config = config(&lab, mode).agent("on_new_layout", "replace");
    let mut agent = Agent::start(&lab, &config)?;
    agent.stop()?;
    pretend(agent.pins(), 77)?;
    agent.start_again(&lab)?;
    agent.await_log(&["layout version 77, which this lb cannot read"])?;
    expect_cycle(&names(&lab, web(), 3)?, &WEBS)
}
