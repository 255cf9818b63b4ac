//! There is one agent for one set of pins, one socket, one interface; another is refused with a
//! sentence and leaves the first alone.

use anyhow::{Result, ensure};
use lb_tests::in_both_modes;
use lb_tests::scenario::{Config, Farm, Mode, Outcome, binary, expect_cycle, names};

use crate::{WEBS, web};

in_both_modes!(another_agent_is_refused);

fn another_agent_is_refused(mode: Mode) -> Result<()> {
    let farm = Farm::of_three(mode)?;
    let folder = farm.lab.folder();
    let start = |name: &str, config: &Config| {
        let file = config.write(&farm.lab, name)?;
        let mut command = farm.lab.command("lb", binary()?)?;
        Outcome::of(command.args(["run", "--config"]).arg(file))
    };
    let mut other = Farm::config(&farm.lab, mode).service(Farm::web(2));

    other.socket = folder.join("other.sock");
    let pid = farm.agent.pid().to_string();
    start("same-pins.toml", &other)?.expect_sentence(1, &["holds the pins", &pid, "stop it"])?;

    other.pins = farm.lab.pins().join("other");
    start("same-interface.toml", &other)?.expect_sentence(
        1,
        &[
            "lc already has an XDP program",
            "ip link set dev lc xdp off",
        ],
    )?;
    ensure!(!has_entries(&other.pins), "the refused agent left pins");

    // Its own pins and interfaces, but the socket of the first.
    let mut third = Config::new(&farm.lab, &[], mode);
    third.pins = farm.lab.pins().join("third");
    start("same-socket.toml", &third)?.expect_sentence(1, &["another agent answers on"])?;
    ensure!(!has_entries(&third.pins), "the refused agent left pins");

    let pins = farm.agent.pins().to_string_lossy().into_owned();
    lb_tests::scenario::run(&["detach", "--pin-path", &pins])?
        .expect_sentence(1, &["holds the pins", &pid])?;

    expect_cycle(&names(&farm.lab, web(), 9)?, &WEBS)?;
    farm.agent
        .status()?
        .service("web")?
        .expect("connections", &[3, 3, 3])
}

fn has_entries(folder: &std::path::Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}
