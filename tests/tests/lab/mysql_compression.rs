//! Compression is not offered to MySQL's clients: those that would like it do without, and those
//! that insist are told so by themselves, as at a server that does not offer it.

use std::fs;
use std::process::Output;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::Lab;
use lb_tests::database::{Database, Family};
use lb_tests::scenario::{Agent, Config, Mode, await_until};

const PATIENCE: Duration = Duration::from_secs(20);
const SERVER: u16 = 3301;
const PROXY: u16 = 3306;

fn ask(lab: &Lab, family: Family, port: u16, options: &[&str]) -> Result<Output> {
    let mut command = lab.command("db", family.client())?;
    command.args(family.first_options()).args([
        "-h127.0.0.1",
        &format!("-P{port}"),
        "-uapp",
        "-papp",
        "-BN",
    ]);
    let sql = "SELECT 7; SELECT REPEAT('long', 100000); SHOW SESSION STATUS LIKE 'Compression'";
    Ok(command.args(options).args(["-e", sql]).output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn clients_do_without(family: Family, wishes: &[&str], demands: Option<&str>) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let mut lab = Lab::new()?;
    lab.add("db")?.ip("link set lo up")?;
    let place = ("db", ([127, 0, 0, 1], SERVER).into());
    let server = Database::start(&lab, family, 1, place, &[])?;
    let monitor = match family {
        Family::MySql => "REPLICATION CLIENT",
        Family::MariaDb => "SLAVE MONITOR",
    };
    server.run(&format!(
        "CREATE USER app@'%' IDENTIFIED BY 'app'; CREATE USER watcher@'%' IDENTIFIED BY 'watch'; \
         GRANT {monitor} ON *.* TO watcher@'%'"
    ))?;
    let watcher = lab.folder().join("watcher");
    fs::write(&watcher, "watch\n")?;
    let config = Config::of_app_host(&lab, "proxy", Mode::Generic).tables(&format!(
        "\n[mysql]\nlisten = [\"127.0.0.1:{PROXY}\"]\n[mysql.monitor]\nuser = \"watcher\"\n\
         password_file = \"{}\"\ninterval_seconds = 0.2\n[[mysql.server]]\nname = \"one\"\naddress = \
         \"127.0.0.1:{SERVER}\"\n",
        watcher.display()
    ));
    let _agent = Agent::start_in(&lab, "db", &config)?;
    await_until(PATIENCE, "the proxy serves", || {
        let output = ask(&lab, family, PROXY, &[])?;
        ensure!(output.status.success(), "{}", text(&output.stderr));
        Ok(())
    })?;
    for wish in wishes {
        let output = ask(&lab, family, PROXY, &[wish])?;
        ensure!(output.status.success(), "{wish}: {}", text(&output.stderr));
        let said = text(&output.stdout);
        let lines: Vec<&str> = said.lines().collect();
        let [seven, long, compression] = lines.as_slice() else {
            anyhow::bail!("{wish}: {} lines", lines.len());
        };
        ensure!(*seven == "7" && long.len() == 400_000, "{wish}");
        ensure!(*compression == "Compression\tOFF", "{wish}: {compression}");
        // The server itself would have had it.
        let direct = text(&ask(&lab, family, SERVER, &[wish])?.stdout);
        ensure!(direct.ends_with("Compression\tON\n"), "{wish} directly");
    }
    if let Some(demand) = demands {
        let output = ask(&lab, family, PROXY, &[demand])?;
        let said = text(&output.stderr);
        ensure!(!output.status.success(), "{demand} was let in");
        ensure!(said.contains("2066"), "{demand}: {said}");
    }
    Ok(())
}

mod mysql {
    #[test]
    fn clients_do_without() -> anyhow::Result<()> {
        let wishes = [
            "--compression-algorithms=zlib,zstd,uncompressed",
            "--compression-algorithms=zstd,uncompressed",
        ];
        let demand = "--compression-algorithms=zlib,zstd";
        super::clients_do_without(super::Family::MySql, &wishes, Some(demand))
    }
}

mod mariadb {
    #[test]
    fn clients_do_without() -> anyhow::Result<()> {
        super::clients_do_without(super::Family::MariaDb, &["-C"], None)
    }
}
