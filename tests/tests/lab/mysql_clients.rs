//! Clients that people have: each does the same at the primary itself and through the proxy, and
//! has to be told the same. What they do is in `tests/clients`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lb_lab::Lab;
use lb_tests::database::Family;

use crate::mysql_bed::{Bed, PRIMARY, PROXY, one_host};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");
/// Where `cargo xtask setup` puts what is not of Debian.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/clients");

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    /// The command-line client of a family.
    CommandLine(Family),
    /// A driver of Python's.
    Python(&'static str),
    Node,
    Php,
}

/// What is run, and whether it encrypts where the server can.
const CASES: &[(Program, &str)] = &[
    (Program::CommandLine(Family::MySql), "tls"),
    (Program::CommandLine(Family::MariaDb), "plain"),
    (Program::Python("pymysql"), "plain"),
    (Program::Python("connector"), "tls"),
    (Program::Python("connector-pure"), "tls"),
    (Program::Node, "tls"),
    (Program::Php, "plain"),
];

impl Program {
    /// The command; nothing where it is not to be had on this machine.
    fn command(self, lab: &Lab, port: u16, tls: &str) -> Result<Option<Command>> {
        let script = |name: &str| Path::new(SCRIPTS).join(name);
        let port = port.to_string();
        Ok(Some(match self {
            Self::CommandLine(family) => {
                let mut command = lab.command("db", family.client())?;
                let ssl = match (family, tls) {
                    (Family::MySql, "tls") => "--ssl-mode=REQUIRED",
                    (Family::MySql, _) => "--ssl-mode=DISABLED",
                    (Family::MariaDb, "tls") => "--ssl",
                    (Family::MariaDb, _) => "--skip-ssl",
                };
                command.args(family.first_options()).args([
                    "-h127.0.0.1",
                    "-uapp",
                    "-papp",
                    ssl,
                    "-vv",
                    "--force",
                    "--comments",
                    "--local-infile=1",
                    "--show-warnings",
                    &format!("-P{port}"),
                ]);
                if family == Family::MySql {
                    command.arg("--commands");
                }
                let file = lab.folder().join("rows");
                fs::write(&file, "100\tfirst\n101\tsecond\n")?;
                let sql = fs::read_to_string(script("client.sql"))?;
                let own = lab.folder().join("client.sql");
                fs::write(
                    &own,
                    sql.replace("'FILE'", &format!("'{}'", file.display())),
                )?;
                command.stdin(File::open(own)?);
                command
            }
            Self::Python(driver) => {
                let Some(modules) = tool("python")? else {
                    return Ok(None);
                };
                let mut command = lab.command("db", "python3")?;
                command.env("PYTHONPATH", modules);
                command.arg(script("dbapi.py")).args([driver, &port, tls]);
                command
            }
            Self::Node => {
                let Some(modules) = tool("node")? else {
                    return Ok(None);
                };
                let mut command = lab.command("db", "node")?;
                command.arg(script("mysql2.js"));
                command.arg(modules.join("node_modules"));
                command.args([&port, tls]);
                command
            }
            Self::Php => {
                let mut command = lab.command("db", "php")?;
                command.arg(script("mysqlnd.php")).args([&port, tls]);
                command
            }
        }))
    }

    /// What a client of one family cannot do at a server of the other, proxy or not: MySQL's own
    /// has no `mysql_native_password` any more, and the connector has to encrypt.
    fn fits(self, family: Family) -> bool {
        let needs_mysql = [Self::CommandLine(Family::MySql), Self::Python("connector")];
        family == Family::MySql || !needs_mysql.contains(&self)
    }
}

/// A folder of the set-up's; nothing where it found that it cannot be had.
fn tool(name: &str) -> Result<Option<PathBuf>> {
    let folder = Path::new(TOOLS).join(name);
    ensure!(
        folder.exists(),
        "{} is missing: `cargo xtask setup` brings it",
        folder.display()
    );
    if folder.join("not-offered").exists() {
        eprintln!("skipped: {name} is not to be had on this machine");
        return Ok(None);
    }
    Ok(Some(folder))
}

/// What it says, line by line, whatever the port.
fn said(mut command: Command, port: u16) -> Result<Vec<String>> {
    command.stderr(Stdio::piped());
    let output = command.output().context("it cannot be started")?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    text += &format!("{}\n", output.status);
    let text = text.replace(&port.to_string(), "PORT");
    Ok(text.lines().map(str::to_owned).collect())
}

fn clients_are_told_the_same(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let bed = Bed::start(&lab, family)?;
    let mut wrong = Vec::new();
    for (program, tls) in CASES {
        if !program.fits(family) {
            continue;
        }
        // A server of MariaDB 10.11 has no TLS unless it is given a certificate.
        let tls = match family {
            Family::MySql => *tls,
            Family::MariaDb => "plain",
        };
        let name = format!("{program:?}, {tls}");
        let mut runs = Vec::new();
        for port in [PRIMARY, PROXY] {
            let Some(command) = program.command(&lab, port, tls)? else {
                break;
            };
            runs.push(said(command, port).with_context(|| name.clone())?);
        }
        let [direct, routed] = &runs[..] else {
            continue;
        };
        ensure!(direct.len() > 25, "{name} did not get far: {direct:?}");
        for (direct, routed) in direct.iter().zip(routed) {
            if direct != routed {
                wrong.push(format!("{name}\n  directly {direct}\n  routed   {routed}"));
            }
        }
        if direct.len() != routed.len() {
            wrong.push(format!(
                "{name}: {} and {} lines",
                direct.len(),
                routed.len()
            ));
        }
    }
    drop(bed);
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

of_both_families!(clients_are_told_the_same);
