//! The command `lb`, from outside: output, errors, exit status. Nothing here needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use lb_userspace::{
    admin::{Pieces, Server, StatusSource},
    flow_list::Query,
    status::Status,
};
use tempfile::TempDir;

const GOOD: &str = r#"
[agent]
interfaces = ["eth0"]

[[service]]
name = "web"
address = "203.0.113.10"
port = 80

[[service.backend]]
name = "web1"
address = "10.0.0.11"
"#;

fn lb(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lb"))
        .args(arguments)
        .env_remove("LB_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn file(content: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lb.toml");
    std::fs::write(&file, content).unwrap();
    let name = file.to_str().unwrap().to_owned();
    (folder, name)
}

#[test]
fn a_good_config_is_summed_up() {
    let (_folder, file) = file(GOOD);
    let output = lb(&["check", "--config", &file]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        format!("{file}: 1 service, 1 backend, ok\n")
    );
    assert_eq!(stderr(&output), "");
}

#[test]
fn what_is_explained_is_a_config_file() {
    let (_folder, original) = file(&format!("{GOOD}weight = 0\n"));
    let output = lb(&["check", "--explain", "--config", &original]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).ends_with(" nobody will answer\n"));
    let text = stdout(&output).to_owned();
    assert!(text.contains("\nrise = 2 # default\n"), "{text}");
    assert!(text.contains("\nweight = 0\n"), "{text}");
    let (_folder, explained) = file(&text);
    let again = lb(&["check", "--explain", "--config", &explained]);
    assert_eq!(stdout(&again), text);
}

#[test]
fn an_app_host_is_in_the_sum() {
    let (_folder, file) = file("[app_host]\ninterfaces = [\"eth0\"]\nvips = [\"203.0.113.10\"]\n");
    let output = lb(&["check", "--config", &file]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        format!("{file}: 0 services, 0 backends, app host with 1 VIP, ok\n")
    );
}

#[test]
fn a_mysql_section_is_counted() {
    let (_folder, file) = file(
        "[mysql]\nlisten = [\"127.0.0.1:3306\"]\nread_scheduler = \"least-connections\"\n[mysql.monitor]\nuser = \"m\"\n\
         [[mysql.server]]\nname = \"a\"\naddress = \"10.0.0.11:3306\"\n",
    );
    let output = lb(&["check", "--config", &file]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        format!("{file}: 0 services, 0 backends, 1 MySQL server, ok\n")
    );
}

#[test]
fn warnings_are_shown_and_do_no_harm() {
    let (_folder, file) = file(&format!("{GOOD}weight = 0\n"));
    let output = lb(&["check", "--config", &file]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stdout(&output),
        format!("{file}: 1 service, 1 backend, ok, 1 warning\n")
    );
    assert_eq!(
        stderr(&output),
        format!(
            "{file}:5: warning: service \"web\": every backend has weight 0, nobody will answer\n"
        )
    );
}

#[test]
fn every_problem_of_a_config_is_a_line_and_the_status_is_2() {
    let (_folder, file) = file(&format!("{GOOD}wieght = 1\nrole = \"spare\"\n"));
    for command in ["check", "run", "detach"] {
        let output = lb(&[command, "--config", &file]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert_eq!(stdout(&output), "");
        assert_eq!(
            stderr(&output),
            format!(
                "{file}:13: service \"web\", backend \"web1\": unknown key \"wieght\", did you mean \
                 \"weight\"? (allowed: name, address, port, weight, role, server_id)\n\
                 {file}:14: service \"web\", backend \"web1\": role \"spare\" is unknown (allowed: \
                 \"active\", \"backup\")\n\
                 lb: 2 problems in {file}\n"
            )
        );
    }
}

#[test]
fn a_config_that_is_not_there_is_one_sentence() {
    let output = lb(&["check", "--config", "/nowhere/lb.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "lb: cannot read the config file /nowhere/lb.toml: there is no such file\n"
    );
}

#[test]
fn wrong_usage_is_2_and_help_and_version_are_0() {
    for arguments in [
        &[][..],
        &["fly"],
        &["run"],
        &["check"],
        &["status", "--jsno"],
        &["detach", "--config", "a", "--pin-path", "b"],
        &["completions", "tcsh"],
    ] {
        let output = lb(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
    let version = lb(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(
        stdout(&version),
        format!("lb {}\n", env!("CARGO_PKG_VERSION"))
    );
    let help = lb(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(!stdout(&help).contains("gen-docs"), "{}", stdout(&help));
}

#[test]
fn without_an_agent_status_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("lb.sock");
    let socket = socket.to_str().unwrap();
    for arguments in [
        ["--socket", socket, "status"],
        ["status", "--socket", socket],
    ] {
        let output = lb(&arguments);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stdout(&output), "");
        assert_eq!(
            stderr(&output),
            format!(
                "lb: there is no agent at {socket}: is \"lb run\" running? (--socket names another)\n"
            )
        );
    }
}

const STATUS: &str = r#"{"version":"0.1.0","agent":{"pid":4711,"uptime_seconds":3.2,"config_file":"lb.toml","config_generation":1,"abi":1},"interfaces":[{"name":"eth0","xdp_mode":"native","program_id":12}],"services":[],"verdicts":{"steered":240,"pass_not_ours":12,"drop_no_backend":0},"flow_tables":[],"events":{}}"#;

struct Fixed;

impl StatusSource for Fixed {
    fn status(&self) -> Status {
        serde_json::from_str(STATUS).unwrap()
    }

    fn flows(&self, _: &Query) -> Result<Box<dyn Pieces>, String> {
        Err("there are no flows here".to_owned())
    }

    fn capture(&self, _: &lb_userspace::capture::Query) -> Result<Box<dyn Pieces>, String> {
        Err("nothing can be captured here".to_owned())
    }

    fn why(&self, _: &lb_userspace::why::Query) -> Result<lb_userspace::why::Answer, String> {
        Err("nothing can be asked here".to_owned())
    }
}

/// An agent's admin socket, without the agent.
fn with_agent(test: impl FnOnce(&str)) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("lb.sock");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut server = Server::bind(&socket).unwrap();
    runtime.block_on(async { server.serve(Arc::new(Fixed)).unwrap() });
    test(socket.to_str().unwrap());
}

#[test]
fn status_is_one_json_document_or_a_page() {
    with_agent(|socket| {
        let output = lb(&["status", "--json", "--socket", socket]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let document: Status = serde_json::from_str(stdout(&output)).unwrap();
        assert_eq!(serde_json::to_string(&document).unwrap(), STATUS);

        let output = lb(&["status", "--socket", socket]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(
            stdout(&output).contains("\n steered        240\n"),
            "{}",
            stdout(&output)
        );
        assert!(
            !stdout(&output).contains("drop_no_backend"),
            "{}",
            stdout(&output)
        );
    });
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lb"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = lb(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("detach"), "{shell}");
    }
}

#[test]
fn the_reference_pages_are_as_the_code_has_them() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let output = lb(&["gen-docs", "--check", "--out", docs.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn what_is_imported_is_a_config_and_the_rest_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join("haproxy.cfg");
    std::fs::write(
        &theirs,
        "listen web\n bind 203.0.113.10:80\n maxconn 9\n server a 10.0.0.11:8080 check\n",
    )
    .unwrap();
    let theirs = theirs.to_str().unwrap();
    let output = lb(&["import", "haproxy", theirs]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains(&format!("{theirs}:3: web: maxconn 9: has no equivalent\n")),
        "{}",
        stderr(&output)
    );
    let (_folder, ours) = file(stdout(&output));
    assert_eq!(lb(&["check", "--config", &ours]).status.code(), Some(0));

    let to = folder.path().join("lb.toml");
    let to = to.to_str().unwrap();
    let written = lb(&["import", "haproxy", theirs, "-o", to]);
    assert_eq!(written.status.code(), Some(0), "{}", stderr(&written));
    assert_eq!(stdout(&written), "");
    assert_eq!(std::fs::read_to_string(to).unwrap(), stdout(&output));
    let again = lb(&["import", "haproxy", theirs, "-o", to]);
    assert_eq!(again.status.code(), Some(1), "it takes no file's place");
    let missing = lb(&["import", "keepalived", "/nowhere/keepalived.conf"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).starts_with("lb: cannot read /nowhere/keepalived.conf: "));
}

#[test]
fn fragments_are_read_and_named() {
    let (folder, main) = file(GOOD);
    let fragments = folder.path().join("lb.toml.d");
    std::fs::create_dir(&fragments).unwrap();
    let more = GOOD
        .replace("[agent]\ninterfaces = [\"eth0\"]\n", "")
        .replace("\"web\"", "\"api\"")
        .replace("port = 80", "port = 81");
    let fragment = fragments.join("10-api.toml");
    std::fs::write(&fragment, &more).unwrap();
    let fragment = fragment.to_str().unwrap();
    let output = lb(&["check", "--config", &main]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        format!("{main}, {fragment}: 2 services, 2 backends, ok\n")
    );
    std::fs::write(fragment, format!("{more}weight = 0\n")).unwrap();
    let output = lb(&["check", "--config", &main]);
    assert!(
        stderr(&output).starts_with(&format!("{fragment}:3: warning: service \"api\": ")),
        "{}",
        stderr(&output)
    );
    std::fs::write(fragment, format!("{more}weight = -1\n")).unwrap();
    let output = lb(&["check", "--config", &main]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).starts_with(&format!("{fragment}:11: service \"api\", backend ")),
        "{}",
        stderr(&output)
    );
}
