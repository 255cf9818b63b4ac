//! Drivers' own suites: what passes at the primary itself has to pass through the proxy, and nothing
//! else. `cargo xtask setup` brings them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_lab::Lab;
use lb_tests::database::Family;

use crate::mysql_bed::{Bed, PRIMARY, PROXY, one_host};

const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/clients");
/// Seconds that a program may take.
const PATIENCE: &str = "120";

/// Tests of MariaDB's that are not run, and why.
const LEFT_OUT: &[&str] = &[
    // 20 times refused, for which a server sleeps a second each: `mysql_change_user` does the same.
    "test_change_user",
    // A password of 2048 bytes, which RSA cannot seal, of a user that the config does not list.
    "test_bug31669",
    // It spoils a file of the primary's data, which a replica does not have.
    "test_frm_bug",
];

/// A suite's program; nothing where the set-up found that it cannot be had.
fn suite(name: &str) -> Result<Option<PathBuf>> {
    let folder = Path::new(TOOLS).join(name);
    let program = folder.join("tests");
    if folder.join("not-offered").exists() {
        eprintln!("skipped: {name} is not to be had on this machine");
        return Ok(None);
    }
    ensure!(
        program.is_file(),
        "{} is missing: `cargo xtask setup` brings it",
        program.display()
    );
    Ok(Some(program))
}

/// What it says, and whether it succeeds.
fn said(command: &mut Command) -> Result<(bool, String)> {
    let output = command.output().context("it cannot be started")?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.success(), text))
}

fn run(lab: &Lab, program: &Path, words: &[&str]) -> Result<(bool, String)> {
    let mut command = lab.command("db", "timeout")?;
    command.arg(PATIENCE).arg(program).args(words);
    said(command.current_dir(lab.folder()))
}

/// The last lines.
fn end(text: &str) -> &str {
    let start = text.rmatch_indices('\n').nth(4).map_or(0, |(at, _)| at);
    text[start..].trim()
}

#[test]
fn mariadb_s_own_tests_give_the_same() -> Result<()> {
    let Some(program) = suite("mariadb-test")? else {
        return Ok(());
    };
    let lab = one_host()?;
    let bed = Bed::start(&lab, Family::MariaDb)?;
    let prepare = "CREATE DATABASE test; GRANT ALL ON *.* TO app@'%' WITH GRANT OPTION";
    bed.pair.primary.run(prepare)?;
    // By statements, replicas of MariaDB have other values than the primary of parameters that are
    // binary in a column that is not.
    bed.pair.primary.run("SET GLOBAL binlog_format = ROW")?;
    let (_, names) = run(&lab, &program, &["--no-defaults", "--show-tests"])?;
    let names = names.lines().filter(|line| !line.contains(' '));
    let names = names.filter(|name| !name.is_empty() && !LEFT_OUT.contains(name));
    let (mut passed, mut wrong) = (0, Vec::new());
    for name in names {
        let [direct, routed] = [PRIMARY, PROXY].map(|port| {
            let port = format!("--port={port}");
            let login = [
                "--no-defaults",
                "-h127.0.0.1",
                "-uapp",
                "-papp",
                &port,
                name,
            ];
            let outcome = run(&lab, &program, &login)?;
            if !outcome.0 {
                let clear = "DROP DATABASE IF EXISTS client_test_db";
                bed.pair.primary.run(clear)?;
            }
            anyhow::Ok(outcome)
        });
        let (direct, routed) = (direct?, routed?);
        passed += u32::from(direct.0);
        if direct.0 != routed.0 {
            let said = end(&[direct.1, routed.1][usize::from(direct.0)]).to_owned();
            wrong.push(format!("{name}: directly {}, {said}", direct.0));
        }
    }
    eprintln!("{passed} tests pass directly");
    ensure!(passed > 250, "only {passed} tests pass directly");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Tests and what became of them.
fn outcomes(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("test "));
    lines.filter_map(|line| line.split_once(" ... ")).collect()
}

#[test]
fn mysql_async_s_own_tests_give_the_same() -> Result<()> {
    let Some(program) = suite("mysql-async")? else {
        return Ok(());
    };
    if !Family::MySql.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let bed = Bed::start(&lab, Family::MySql)?;
    bed.pair.primary.run("CREATE DATABASE test1")?;
    let ways = |words: &[&str]| -> Result<[String; 2]> {
        let [direct, routed] = [PRIMARY, PROXY].map(|port| {
            // A client would leave the proxy for the server's own socket, were that in its reach.
            let hide = "mount -t tmpfs none \"$1\" && shift && exec \"$@\"";
            let mut command = lab.command("db", "unshare")?;
            command.args(["--mount", "sh", "-c", hide, "sh"]);
            command.arg(bed.pair.primary.socket().with_file_name(""));
            command
                .args(["timeout", PATIENCE])
                .arg(&program)
                .args(words);
            let url = format!("mysql://app:app@127.0.0.1:{port}/test1");
            command.env("DATABASE_URL", url);
            let mut text = String::new();
            // One that is not in time may take all others along, also directly: it panics twice.
            for _ in 0..3 {
                text = said(&mut command)?.1;
                if text.contains("test result: ") {
                    break;
                }
            }
            anyhow::Ok(text)
        });
        Ok([direct?, routed?])
    };
    let texts = ways(&["--test-threads=4"])?;
    let [direct, routed] = [0, 1].map(|way: usize| outcomes(&texts[way]));
    let passed = direct.values().filter(|outcome| **outcome == "ok").count();
    eprintln!("{passed} tests pass directly");
    ensure!(
        passed > 75,
        "only {passed} tests pass directly: {}",
        texts[0]
    );
    ensure!(direct.keys().eq(routed.keys()), "{}", texts[1]);
    let mut wrong = Vec::new();
    for (name, outcome) in &direct {
        if routed.get(name) == Some(outcome) {
            continue;
        }
        // Some have to be in time, which is easier alone.
        let again = ways(&["--exact", name])?;
        if outcomes(&again[0]) != outcomes(&again[1]) {
            wrong.push(again.join("\n"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
