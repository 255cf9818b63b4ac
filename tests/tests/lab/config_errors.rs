//! A config with mistakes: all of them are named with their lines, and what runs goes on running.

use std::fs;

use anyhow::{Result, ensure};
use lb_lab::Lab;
use lb_tests::in_both_modes;
use lb_tests::scenario::{Farm, Mode, Outcome, binary, expect_cycle, names, run};

use crate::{WEBS, web};

in_both_modes!(a_bad_file_leaves_the_running_agent_alone);

/// Five mistakes, on lines 2, 9, 11, 15 and 19.
const BAD: &str = r#"[agent]
interface = ["lc"]
interfaces = ["lc"]

[[service]]
name = "web"
address = "203.0.113.10"
port = 80
protocol = "sctp"
forwarding = "nat"
on_no_backend = "ignore"

[[service.backend]]
name = "web1"
address = "10.20.1"

[[service.backend]]
name = "web2"
address = "fd00:20:2::2"
"#;
const LINES: [usize; 5] = [2, 9, 11, 15, 19];

fn expect_all_problems(outcome: &Outcome) -> Result<()> {
    outcome.expect_sentence(2, &["5 problems"])?;
    for line in LINES {
        let place = format!(".toml:{line}:");
        ensure!(
            outcome.stderr.contains(&place),
            "line {line} is not named: {}",
            outcome.stderr
        );
    }
    for word in ["interface", "sctp", "ignore", "10.20.1", "fd00:20:2::2"] {
        ensure!(
            outcome.stderr.contains(word),
            "{word} is not named: {}",
            outcome.stderr
        );
    }
    Ok(())
}

#[test]
fn check_names_every_problem_and_its_line() -> Result<()> {
    let lab = Lab::new()?;
    let file = lab.folder().join("bad.toml");
    fs::write(&file, BAD)?;
    let outcome = run(&["check", "--config", &file.to_string_lossy()])?;
    expect_all_problems(&outcome)?;
    ensure!(outcome.stdout.is_empty(), "stdout has {:?}", outcome.stdout);

    let missing = lab.folder().join("missing.toml");
    run(&["check", "--config", &missing.to_string_lossy()])?
        .expect_sentence(2, &["missing.toml", "no such file"])?;
    // Wrong usage is the same class.
    ensure!(run(&["check"])?.code == Some(2));
    ensure!(run(&["no-such-command"])?.code == Some(2));
    Ok(())
}

#[test]
fn check_accepts_what_the_scenarios_use() -> Result<()> {
    let lab = Lab::new()?;
    let interfaces = ["lc".to_owned()];
    let config = lb_tests::scenario::Config::new(&lab, &interfaces, Mode::Native).service(
        Farm::web(3)
            .weights(&[3, 1, 1])
            .key("on_no_backend", "drop"),
    );
    let file = config.write(&lab, "good.toml")?;
    let said = run(&["check", "--config", &file.to_string_lossy()])?.expect_success()?;
    ensure!(said.contains("1 service, 3 backends, ok"), "{said}");
    Ok(())
}

fn a_bad_file_leaves_the_running_agent_alone(mode: Mode) -> Result<()> {
    let farm = Farm::of_three(mode)?;
    expect_cycle(&names(&farm.lab, web(), 3)?, &WEBS)?;
    let file = farm.lab.folder().join("bad.toml");
    // With the running agent's own pins and socket.
    let own = format!(
        "\n[admin]\nsocket = {:?}\n",
        farm.agent.socket().to_string_lossy()
    );
    fs::write(&file, format!("{BAD}{own}"))?;
    let mut command = farm.lab.command("lb", binary()?)?;
    let outcome = Outcome::of(command.args(["run", "--config"]).arg(&file))?;
    expect_all_problems(&outcome)?;
    expect_cycle(&names(&farm.lab, web(), 6)?, &WEBS)?;
    let status = farm.agent.status()?;
    ensure!(status.pid()? == u64::from(farm.agent.pid()));
    status.service("web")?.expect("connections", &[3, 3, 3])
}
