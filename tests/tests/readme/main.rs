//! Runs every command of README.md, in its order. A command that this test does not know how to
//! run fails it, so none is added unnoticed.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by a panic, which says where"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use lb_lab::Lab;
use lb_tests::database::{Database, Family};
use lb_tests::scenario::{await_until, binary};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const START: Duration = Duration::from_secs(20);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The text of all fenced blocks of that language, in order.
fn blocks(language: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(root().join("README.md"))?;
    let mut blocks = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(name)) => open = Some((name == language, String::new())),
            (Some(_), Some(_)) => {
                if let Some((true, block)) = open.take() {
                    blocks.push(block);
                }
            }
            (Some((_, block)), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    Ok(blocks)
}

fn succeeds(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?} ended with {}:\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

fn shell(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(root());
    command
}

/// `cargo xtask run` as somebody who watches it until it is up, does something from another terminal
/// and then presses Ctrl-C.
fn watched(line: &str, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut words = line.split_whitespace();
    let program = words.next().context("a command")?;
    let mut child = Command::new(program)
        .args(words)
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().context("its output")?;
    let (mut meanwhile, mut done) = (Some(meanwhile), Ok(()));
    for line in BufReader::new(output).lines() {
        if line?.contains("Live, until Ctrl-C")
            && let Some(meanwhile) = meanwhile.take()
        {
            done = meanwhile();
            kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
        }
    }
    let status = child.wait()?;
    let was_live = meanwhile.is_none();
    ensure!(was_live, "{line} ended with {status} before its live view");
    done?;
    ensure!(status.success(), "{line} ended with {status} after Ctrl-C");
    Ok(())
}

fn run(line: &str) -> Result<()> {
    match line {
        // The first runs this test, and its tier `package` runs the second.
        "cargo xtask test" | "cargo xtask dist" => Ok(()),
        // The tier `lab` plays its story, in both modes.
        "cargo xtask run --example foobar --once" => Ok(()),
        "cargo xtask run" => watched(line, || Ok(())),
        "cargo xtask run --once" | "cargo xtask build" => succeeds(&mut shell(line)).map(drop),
        _ if line.starts_with("cargo xtask lab ") => succeeds(&mut shell(line)).map(drop),
        _ => match line.strip_prefix("target/release/lb ") {
            // By a shell, which knows what quotes mean.
            Some(arguments) => {
                let line = format!("{} {arguments}", binary()?.display());
                succeeds(&mut shell(&line)).map(drop)
            }
            None => bail!("README.md has a command that this test does not know: {line}"),
        },
    }
}

#[test]
fn every_command_works() {
    let blocks = blocks("sh").unwrap();
    let lines: Vec<&str> = blocks.iter().flat_map(|block| block.lines()).collect();
    assert!(lines.len() >= 10, "only {} commands found", lines.len());
    for line in lines {
        println!("$ {line}");
        run(line).unwrap_or_else(|error| panic!("{error:#}"));
    }
    let left = succeeds(&mut shell("ip netns list")).unwrap();
    assert!(!left.contains("lblab-"), "namespaces are left:\n{left}");
}

/// The cures, each in the deployment that has the fault.
#[test]
fn faults_are_cured() {
    let lines = blocks("sh foobar").unwrap().concat();
    assert!(lines.lines().count() >= 10, "{lines}");
    let cure = || {
        lines.lines().try_for_each(|line| {
            ensure!(line.starts_with("cargo xtask lab exec "), "{line}");
            println!("$ {line}\n{}", succeeds(&mut shell(line))?);
            Ok(())
        })
    };
    watched("cargo xtask run --example foobar", cure).unwrap_or_else(|error| panic!("{error:#}"));
}

/// The config and the commands of "On a real interface", with the default paths, on a host with an
/// interface `eth0`.
#[test]
fn the_config_runs_on_a_host() {
    let config = blocks("toml").unwrap().remove(0);
    let commands = blocks("console").unwrap().remove(0);
    assert_eq!(commands, "# lb run --config /etc/lb/lb.toml\n# lb status\n");
    let (_, questions) = questions().unwrap();
    assert!(questions.len() >= 8, "{questions:?}");
    on_a_host(&config, &questions).unwrap_or_else(|error| panic!("{error:#}"));
}

/// The section about MySQL: its config in front of real servers, and its questions.
#[test]
fn mysql_is_routed() {
    let (questions, _) = questions().unwrap();
    assert!(questions.len() >= 4, "{questions:?}");
    in_front_of_mysql(&questions).unwrap_or_else(|error| panic!("{error:#}"));
}

/// What is asked of a running agent: of one that routes MySQL, and of one that steers.
fn questions() -> Result<(Vec<String>, Vec<String>)> {
    let all = blocks("console")?.split_off(1).concat();
    let lines = all.lines().map(str::to_owned);
    Ok(lines.partition(|line| line.starts_with("# lb mysql ")))
}

fn ask(lb: &Path, folder: &Path, questions: &[String]) -> Result<()> {
    for question in questions {
        let line = question.strip_prefix("# lb ").context("a question to lb")?;
        let mut command = shell(&format!("{} {line}", lb.display()));
        command.current_dir(folder);
        println!("$ {question}\n{}", succeeds(&mut command)?);
    }
    Ok(())
}

fn in_front_of_mysql(questions: &[String]) -> Result<()> {
    let mut lab = Lab::new()?;
    let host = lab.add("host")?;
    host.ip("link set lo up")?;
    for server in 11..=13 {
        host.ip(&format!("address add 10.0.0.{server}/32 dev lo"))?;
    }
    let start = |number: u8| {
        let options: &[&str] = match number {
            1 => &[],
            _ => &["--super-read-only=ON"],
        };
        let place = ("host", ([10, 0, 0, 10 + number], 3306).into());
        Database::start(&lab, Family::MySql, number, place, options)
    };
    let servers = (1..=3).map(start).collect::<Result<Vec<_>>>()?;
    servers[0].run(
        "CREATE USER copy@'%' IDENTIFIED BY 'copy'; GRANT REPLICATION SLAVE ON *.* TO copy@'%'; \
         CREATE USER lbmon@'%'; GRANT REPLICATION CLIENT ON *.* TO lbmon@'%'",
    )?;
    for replica in &servers[1..] {
        replica.run(&Family::MySql.follow("10.0.0.11", 3306))?;
    }
    let example = fs::read_to_string(root().join("lb-userspace/docs/examples/mysql.toml"))?;
    let file = lab.folder().join("lb.toml");
    let state = lab.folder().join("state.json");
    fs::write(
        &file,
        format!("{example}\n[agent]\nstate_file = {state:?}\n"),
    )?;
    let lb = binary()?;
    let mut command = lab.command("host", &lb)?;
    command.args(["run", "--config"]).arg(&file);
    let mut agent = lab.spawn("lb", command)?;
    await_until(START, "all servers get statements", || {
        let status = succeeds(Command::new(&lb).args(["mysql", "status"]))?;
        let serve = |what: &str| status.matches(what).count();
        ensure!(serve(" writes ") == 1 && serve(" reads ") == 2, "{status}");
        Ok(())
    })
    .with_context(|| agent.log())?;
    ask(&lb, lab.folder().as_ref(), questions)?;
    agent.stop()?;
    Ok(())
}

fn on_a_host(config: &str, questions: &[String]) -> Result<()> {
    let mut lab = Lab::new()?;
    lab.add("host")?;
    lab.add("switch")?;
    lab.join(("host", "eth0"), ("switch", "port"))?;
    lab.namespace("host")?
        .ip("address add 10.0.0.1/24 dev eth0")?;
    let file = lab.folder().join("lb.toml");
    // What is set at run time must not stay on this machine.
    let state = format!(
        "[agent]\nstate_file = {:?}\n",
        lab.folder().join("state.json")
    );
    fs::write(&file, config.replacen("[agent]\n", &state, 1))?;
    let lb = binary()?;
    succeeds(Command::new(&lb).args(["check", "--config"]).arg(&file))?;
    let mut command = lab.command("host", &lb)?;
    command.args(["run", "--config"]).arg(&file);
    let mut agent = lab.spawn("lb", command)?;
    let answer = await_until(START, "lb status answers", || {
        succeeds(Command::new(&lb).arg("status"))
    });
    let status = answer.with_context(|| agent.log())?;
    ensure!(
        status.contains("web1") && status.contains("web2"),
        "{status}"
    );
    ask(&lb, lab.folder().as_ref(), questions)?;
    agent.stop()?;
    succeeds(Command::new(&lb).args(["detach", "--config"]).arg(&file))?;
    Ok(())
}

#[test]
fn the_example_is_valid() {
    let example = "lb-userspace/docs/examples/foobar.toml";
    let mut command = Command::new(binary().unwrap());
    let said = succeeds(
        command
            .args(["check", "--config", example])
            .current_dir(root()),
    )
    .unwrap();
    assert!(said.contains("1 service, 3 backends, ok"), "{said}");
}
