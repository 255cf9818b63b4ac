//! `announce`: a VIP is on `lo` while a service there has a backend in rotation, and an agent takes
//! away what it put there, and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::{Lab, Pair, VIP4, VIP6};
use lb_tests::in_both_modes;
use lb_tests::scenario::{Agent, Backend, Check, Config, Mode, Server, Service, await_until};

in_both_modes!(
    a_vip_comes_and_goes_with_its_backends,
    a_killed_agents_vips_are_taken_away,
    what_was_there_before_stays
);

const DEADLINE: Duration = Duration::from_secs(10);
const BALANCER: &str = "lb1";

fn backends(port: u16) -> Vec<Backend> {
    let backend = Backend {
        name: "web1".to_owned(),
        address: Pair::server_address(1),
        port,
        weight: 1,
        is_backup: false,
    };
    vec![backend]
}

/// Two services at the VIP, of which either will do, and a third one that does not count.
fn config(lab: &Pair, mode: Mode) -> Config {
    let interfaces = ["f0".to_owned(), "b0".to_owned()];
    let service =
        |name: &str, port| Service::tcp(name, VIP4, port, backends(port)).check(Check::Tcp);
    Config::new(lab as &Lab, &interfaces, mode)
        .service(service("one", 7001).key("announce", "lo"))
        .service(service("two", 7002).key("announce", "lo"))
        .service(service("three", 7003))
}

fn echo(lab: &Pair, port: u16) -> Result<Server> {
    let address = SocketAddr::new(Pair::server_address(1), port);
    Server::echo(lab, "web1", &[address])
}

fn is_on_lo(lab: &Pair, address: &str) -> Result<bool> {
    let list = lab.namespace(BALANCER)?.ip("-o addr show dev lo")?;
    Ok(list.contains(&format!(" {address}")))
}

fn await_vip(lab: &Pair, agent: &Agent, is_there: bool) -> Result<()> {
    await_until(DEADLINE, &format!("on lo: {is_there}"), || {
        let found = is_on_lo(lab, &format!("{VIP4}/32"))?;
        ensure!(found == is_there, "on lo: {found}\n{}", agent.log());
        Ok(())
    })
}

fn lab(mode: Mode) -> Result<Pair> {
    let lab = Pair::new(1)?;
    if mode == Mode::Native {
        lab.receive_native()?;
    }
    Ok(lab)
}

fn a_vip_comes_and_goes_with_its_backends(mode: Mode) -> Result<()> {
    let lab = lab(mode)?;
    let _third = echo(&lab, 7003)?;
    let mut agent = Agent::start_in(&lab, BALANCER, &config(&lab, mode))?;
    agent.await_log(&["no service there has a backend"])?;
    ensure!(!is_on_lo(&lab, &VIP4.to_string())?, "{}", agent.log());
    let first = echo(&lab, 7001)?;
    await_vip(&lab, &agent, true)?;
    agent.await_log(&[&format!("{VIP4} is on lo, to be announced")])?;
    let second = echo(&lab, 7002)?;
    agent.await_service(DEADLINE, "two", "two has 1", |service| {
        service.expect_in_rotation(1)
    })?;
    drop(first);
    agent.await_service(DEADLINE, "one", "one has 0", |service| {
        service.expect_in_rotation(0)
    })?;
    ensure!(is_on_lo(&lab, &VIP4.to_string())?, "{}", agent.log());
    drop(second);
    await_vip(&lab, &agent, false)?;
    let page = agent.asked(&["status"])?.expect_success()?;
    let line = format!("NOT announced (no backend in rotation): {VIP4}");
    ensure!(page.contains(&line), "{page}");

    let _first = echo(&lab, 7001)?;
    await_vip(&lab, &agent, true)?;
    // What somebody takes away comes back within 5 s.
    let namespace = lab.namespace(BALANCER)?;
    namespace.ip(&format!("addr del {VIP4}/32 dev lo"))?;
    await_vip(&lab, &agent, true)?;
    agent
        .asked(&["backend", "set", "one/web1", "--state", "maint"])?
        .expect_success()?;
    await_vip(&lab, &agent, false)?;
    agent
        .asked(&["backend", "set", "one/web1", "--state", "ready"])?
        .expect_success()?;
    await_vip(&lab, &agent, true)?;
    agent.stop()?;
    ensure!(!is_on_lo(&lab, &VIP4.to_string())?, "{}", agent.log());
    Ok(())
}

fn a_killed_agents_vips_are_taken_away(mode: Mode) -> Result<()> {
    let lab = lab(mode)?;
    let _first = echo(&lab, 7001)?;
    let config = config(&lab, mode);
    let mut agent = Agent::start_in(&lab, BALANCER, &config)?;
    await_vip(&lab, &agent, true)?;
    agent.kill()?;
    ensure!(is_on_lo(&lab, &VIP4.to_string())?, "the program steers on");
    let said = agent.detach()?.expect_success()?;
    ensure!(said.contains("not announced any more: 1 VIP"), "{said}");
    ensure!(!is_on_lo(&lab, &VIP4.to_string())?, "{said}");

    agent.start_again(&lab)?;
    await_vip(&lab, &agent, true)?;
    agent.kill()?;
    // By an agent that is not asked to announce it.
    let text = std::fs::read_to_string(agent.config_file())?;
    std::fs::write(agent.config_file(), text.replace("announce = \"lo\"", ""))?;
    agent.start_again(&lab)?;
    await_vip(&lab, &agent, false)?;
    // And by a reload.
    std::fs::write(agent.config_file(), &text)?;
    agent.asked(&["reload"])?.expect_success()?;
    await_vip(&lab, &agent, true)?;
    std::fs::write(agent.config_file(), text.replace("announce = \"lo\"", ""))?;
    agent.asked(&["reload"])?.expect_success()?;
    await_vip(&lab, &agent, false)
}

fn what_was_there_before_stays(mode: Mode) -> Result<()> {
    let lab = lab(mode)?;
    let namespace = lab.namespace(BALANCER)?;
    namespace.ip(&format!("addr add {VIP4}/32 dev lo"))?;
    namespace.ip(&format!("addr add {VIP6}/128 dev lo nodad"))?;
    let first = echo(&lab, 7001)?;
    let mut agent = Agent::start_in(&lab, BALANCER, &config(&lab, mode))?;
    await_vip(&lab, &agent, true)?;
    drop(first);
    agent.await_service(DEADLINE, "one", "one has 0", |service| {
        service.expect_in_rotation(0)
    })?;
    agent.stop()?;
    ensure!(is_on_lo(&lab, &VIP4.to_string())?, "{}", agent.log());
    ensure!(is_on_lo(&lab, &VIP6.to_string())?, "{}", agent.log());
    Ok(())
}
