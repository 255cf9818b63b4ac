//! What the agent may still do once it runs: what steering needs and nothing else, as root, as the
//! config's user, and as a user that a service manager gave three capabilities. It takes down what
//! it brought up all the same.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_lab::{Lab, Segment};
use lb_tests::in_both_modes;
use lb_tests::scenario::{
    Agent, Config, Farm, Mode, Outcome, binary, expect_cycle, has_xdp, names,
};

use crate::{WEBS, web};

in_both_modes!(
    root_gives_up_what_it_does_not_need,
    root_becomes_the_configs_user,
    a_user_with_three_capabilities_is_enough
);

/// `CAP_NET_ADMIN`, `CAP_PERFMON` and `CAP_BPF`.
const NEEDED: &str = "000000c000001000";
/// Everybody has them.
const USER: &str = "nobody";
const NOBODY: u32 = 65534;

/// What `/proc` says of each thread of a process, by the beginning of a line.
fn of_each_thread(pid: u32, field: &str) -> Result<Vec<String>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
    let mut found = Vec::new();
    for thread in threads {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let value = line.with_context(|| format!("no {field}"))?;
        found.push(value.trim_matches([':', '\t']).to_owned());
    }
    Ok(found)
}

fn expect_confined(agent: &Agent, uid: u32) -> Result<()> {
    let expect = |field: &str, wanted: &str| {
        let found = of_each_thread(agent.pid(), field)?;
        ensure!(
            found.len() > 1 && found.iter().all(|value| value == wanted),
            "{field} of the threads: {found:?}, and not {wanted}"
        );
        Ok(())
    };
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        expect(set, NEEDED)?;
    }
    expect("CapAmb", "0000000000000000")?;
    expect("NoNewPrivs", "1")?;
    expect("Uid", &format!("{uid}\t{uid}\t{uid}\t{uid}"))
}

fn expect_it_works(farm: &Farm) -> Result<()> {
    expect_cycle(&names(&farm.lab, web(), 6)?, &WEBS)?;
    // These load programs of their own.
    let packet = [
        "why",
        "--from",
        "10.10.0.2:40000",
        "--to",
        "203.0.113.10:80",
    ];
    farm.agent.asked(&packet)?.expect_success()?;
    farm.agent.asked(&["flows"])?.expect_success()?;
    let file = farm.lab.folder().join("few.pcapng");
    let capture = ["capture", "--seconds", "1", "-w", &file.to_string_lossy()];
    farm.agent.asked(&capture)?.expect_success()?;
    Ok(())
}

fn expect_it_goes(farm: &mut Farm) -> Result<()> {
    let status = farm.agent.stop()?;
    ensure!(status.success(), "it ended with {status}");
    for interface in farm.lab.balancer_interfaces() {
        ensure!(
            !has_xdp(&farm.lab, "lb", &interface)?,
            "still on {interface}"
        );
    }
    ensure!(!farm.agent.socket().exists(), "its socket is still there");
    let pins = fs::read_dir(farm.agent.pins());
    ensure!(
        pins.is_err() || pins.is_ok_and(|pins| pins.count() == 0),
        "pins are left"
    );
    Ok(())
}

fn root_gives_up_what_it_does_not_need(mode: Mode) -> Result<()> {
    let mut farm = Farm::of_three(mode)?;
    expect_confined(&farm.agent, 0)?;
    expect_it_works(&farm)?;
    expect_it_goes(&mut farm)
}

/// A shell that goes on with a script, apart from the folders that belong to every agent here, which
/// would be given away.
fn apart(lab: &Lab, namespace: &str) -> Result<Command> {
    let hide = r#"set -e; mount --make-rprivate /
        for folder in /run/lb /var/lib/lb; do
            mkdir -p $folder
            mount -t tmpfs lb $folder
        done
        script=$1; shift; eval "$script""#;
    let mut command = lab.command(namespace, "unshare")?;
    command.args(["--mount", "sh", "-c", hide, "sh"]);
    Ok(command)
}

/// A config whose socket and state are in folders that do not exist yet.
fn homeless(lab: &Lab, config: Config) -> Config {
    let mut config = config;
    config.socket = lab.folder().join("run/lb.sock");
    let state = lab.folder().join("state/state.json");
    config
        .agent("state_file", &state.to_string_lossy())
        .service(Farm::web(3))
}

fn root_becomes_the_configs_user(mode: Mode) -> Result<()> {
    let as_root = Farm::start(mode, 3, |config| {
        config.agent("on_exit", "keep").service(Farm::web(3))
    })?;
    // What root left, the user goes on with.
    let Farm {
        mut agent,
        servers,
        lab,
    } = as_root;
    expect_cycle(&names(&lab, web(), 4)?, &WEBS)?;
    agent.stop()?;
    drop(agent);
    let config = homeless(&lab, Farm::config(&lab, mode)).agent("user", USER);
    let mut command = apart(&lab, "lb")?;
    command.arg(r#"exec "$@""#).arg(binary()?);
    let agent = Agent::start_by(&lab, &config, command)?;
    let mut farm = Farm {
        agent,
        servers,
        lab,
    };
    expect_confined(&farm.agent, NOBODY)?;
    expect_cycle(&names(&farm.lab, web(), 2)?, &["web2", "web3"])?;
    let status = farm.agent.status()?;
    ensure!(
        status.service("web")?.number("connections")? == 6,
        "{status:?}"
    );
    expect_it_works(&farm)?;
    ensure!(fs::metadata(farm.agent.socket())?.uid() == NOBODY);
    expect_it_goes(&mut farm)
}

fn a_user_with_three_capabilities_is_enough(mode: Mode) -> Result<()> {
    let lab = Farm::wired(mode, 3)?;
    let servers = Farm::nginx(&lab)?;
    let config = homeless(&lab, Farm::config(&lab, mode));
    let file = config.write(&lab, "lb.toml")?;
    // The build may be in a folder that nobody else may enter.
    let copy = lab.folder().join("lb-of-everybody");
    fs::copy(binary()?, &copy)?;
    let mut command = apart(&lab, "lb")?;
    command
        .arg(
            r#""$LB" prepare --config "$CONFIG" --user nobody || exit
            exec setpriv --reuid=nobody --regid=nogroup --clear-groups --no-new-privs \
                --inh-caps="$CAPS" --ambient-caps="$CAPS" --bounding-set="$CAPS" "$LB" "$@""#,
        )
        .env("LB", &copy)
        .env("CONFIG", &file)
        .env("CAPS", "-all,+bpf,+perfmon,+net_admin");
    let agent = Agent::start_by(&lab, &config, command)?;
    let mut farm = Farm {
        agent,
        servers,
        lab,
    };
    farm.agent.await_log(&["prepared for nobody: "])?;
    expect_confined(&farm.agent, NOBODY)?;
    expect_it_works(&farm)?;
    expect_it_goes(&mut farm)
}

/// The sysctls of `net` are root's files; the kernel opens them to whoever administers the network.
#[test]
fn an_app_host_is_undone_by_another_user() -> Result<()> {
    let lab = Segment::new(1)?;
    let value = |name: &str| -> Result<String> {
        let path = format!("/proc/sys/net/ipv4/conf/e1/{name}");
        lab.within("web1", || Ok(fs::read_to_string(Path::new(&path))?))?
    };
    // The lab has put the usual one there.
    let vip = "203.0.113.77";
    let before = [value("arp_ignore")?, value("arp_announce")?];
    let mut config = Config::of_app_host(&lab, "web1", Mode::Generic)
        .app_host("interfaces", &["e1"])
        .app_host("vips", &[vip])
        .app_host("decap", &["ipip"])
        .agent("user", USER);
    config.socket = lab.folder().join("run/web1.sock");
    let state = lab.folder().join("state/state.json");
    let config = config.agent("state_file", &state.to_string_lossy());
    let mut command = apart(&lab, "web1")?;
    command.arg(r#"exec "$@""#).arg(binary()?);
    let mut agent = Agent::start_by(&lab, &config, command)?;
    expect_confined(&agent, NOBODY)?;
    ensure!(value("arp_ignore")? != before[0], "nothing was set");
    let vips = || lab.run("web1", "ip", &["address", "show", "dev", "lo"]);
    ensure!(vips()?.contains(vip), "{}", vips()?);
    let status = agent.stop()?;
    ensure!(status.success(), "it ended with {status}");
    ensure!([value("arp_ignore")?, value("arp_announce")?] == before);
    ensure!(!vips()?.contains(vip), "{}", vips()?);
    ensure!(!has_xdp(&lab, "web1", "e1")?, "it is still attached");
    Ok(())
}

/// A config in somebody's home: root reads it anew when it is told to reload.
#[test]
fn root_keeps_what_files_of_others_need() -> Result<()> {
    let lab = Farm::wired(Mode::Generic, 1)?;
    let config = Farm::config(&lab, Mode::Generic).service(Farm::web(1));
    let file = config.write(&lab, "lb.toml")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    std::os::unix::fs::chown(&file, Some(NOBODY), None)?;
    let agent = Agent::start(&lab, &config)?;
    let found = of_each_thread(agent.pid(), "CapEff")?;
    ensure!(
        found.iter().all(|value| value == "000000c000001002"),
        "{found:?}"
    );
    agent.await_log(&["keeping CAP_DAC_OVERRIDE"])
}

#[test]
fn users_that_cannot_be_are_told() -> Result<()> {
    let lab = Farm::wired(Mode::Generic, 1)?;
    let config = |user: &str| {
        Farm::config(&lab, Mode::Generic)
            .agent("user", user)
            .service(Farm::web(1))
    };
    let start = |config: &Config| {
        let file = config.write(&lab, "lb.toml")?;
        let mut command: Command = lab.command("lb", binary()?)?;
        Outcome::of(command.args(["run", "--config"]).arg(file))
    };
    start(&config("lb-nobody-knows"))?
        .expect_sentence(1, &["no user \"lb-nobody-knows\" in /etc/passwd"])?;
    // The lab's folder, where the socket would be, is root's.
    start(&config(USER))?.expect_sentence(1, &["nobody may not write in", "admin.socket"])?;
    ensure!(!config(USER).pins.join("META").exists(), "there are pins");
    Ok(())
}
