//! Checks by a login to the real thing: MySQL 9 with and without TLS, and replicas of MySQL and of
//! MariaDB by their role and their lag.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, ensure};
use lb_lab::{Lab, Routed, VIP4};
use lb_tests::database::{Database, Family, Pair};
use lb_tests::scenario::{Agent, Farm, Mode, Service, routed_backends};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

const PORT: u16 = 3306;

fn address(number: u8) -> SocketAddr {
    SocketAddr::new(Routed::server_addresses(number)[0], PORT)
}

/// Accounts of all kinds, some of which the server has never seen log in.
const ACCOUNTS: &str = "SET sql_log_bin=0; \
     CREATE USER checker@'%' IDENTIFIED WITH caching_sha2_password BY 'secret'; \
     CREATE USER older@'%' IDENTIFIED WITH sha256_password BY 'secret'; \
     CREATE USER open@'%' IDENTIFIED WITH caching_sha2_password BY ''; \
     CREATE USER open_older@'%' IDENTIFIED WITH sha256_password BY ''";

/// A login: to which server, by whom, with which password, what else the check has; what becomes
/// of it, and what is said.
type Row<'r> = (u8, &'r str, &'r str, String, &'r str, String);

/// One service per row, all checked by one agent.
fn start(lab: &Routed, rows: &[Row<'_>]) -> Result<Agent> {
    let mut config = Farm::config(lab, Mode::Generic);
    for (number, (server, user, password, more, ..)) in (1u16..).zip(rows) {
        let file = password_file(lab, &format!("password-{number}"), password)?;
        let mut backends = routed_backends(VIP4, *server, PORT);
        let backend = backends.split_off(usize::from(*server) - 1);
        let check = format!("kind = \"mysql\"\nuser = \"{user}\"\n{file}\n{more}");
        let service = Service::tcp(&format!("row-{number}"), VIP4, 3300 + number, backend);
        config = config.service(service.check_lines(&check));
    }
    Agent::start(lab, &config)
}

fn password_file(lab: &Lab, name: &str, password: &str) -> Result<String> {
    if password.is_empty() {
        return Ok(String::new());
    }
    let file = lab.folder().join(name);
    fs::write(&file, format!("{password}\n"))?;
    Ok(format!("password_file = \"{}\"", file.display()))
}

fn ca_file(path: &Path) -> String {
    format!("ca_file = \"{}\"", path.display())
}

/// Writes a certificate that signed itself, as `openssl req -x509` makes them, and its key.
fn own_certificate(lab: &Lab) -> Result<[String; 2]> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["db.example".to_owned()])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let files = ["own.pem", "own-key.pem"].map(|name| lab.folder().join(name));
    fs::write(&files[0], params.self_signed(&key)?.pem())?;
    fs::write(&files[1], key.serialize_pem())?;
    Ok(files.map(|file| file.display().to_string()))
}

#[test]
fn a_login_to_mysql_works_in_all_its_ways_and_says_why_not() -> Result<()> {
    if !Family::MySql.is_there()? {
        return Ok(());
    }
    let lab = Farm::wired(Mode::Generic, 3)?;
    let [own, key] = own_certificate(&lab)?;
    let options: [&[&str]; 3] = [
        &[],
        &["--tls-version="],
        &[&format!("--ssl-cert={own}"), &format!("--ssl-key={key}")],
    ];
    let mut servers = Vec::new();
    for (number, options) in (1u8..).zip(options) {
        let name = format!("web{number}");
        let place = (&*name, address(number));
        let server = Database::start(&lab, Family::MySql, number, place, options)?;
        server.run(ACCOUNTS)?;
        servers.push(server);
    }
    let by_ca = ca_file(&servers[0].data("ca.pem"));
    let by_own = ca_file(Path::new(&own));
    let denied = |user: &str| format!("MySQL error 1045: Access denied for user '{user}'");
    let good = || "MySQL primary in ".to_owned();
    let not_signed = || format!("the certificate is not signed by one of those in {own}");
    let none = String::new;
    let rows: &[Row<'_>] = &[
        // Over TLS.
        (1, "checker", "secret", none(), "up", good()),
        (1, "older", "secret", none(), "up", good()),
        (1, "open", "", none(), "up", good()),
        (1, "open_older", "", none(), "up", good()),
        (1, "checker", "wrong", none(), "down", denied("checker")),
        (1, "older", "wrong", none(), "down", denied("older")),
        (1, "checker", "", none(), "down", denied("checker")),
        (1, "nobody", "secret", none(), "down", denied("nobody")),
        (1, "checker", "secret", by_ca.clone(), "up", good()),
        (1, "checker", "secret", by_own.clone(), "down", not_signed()),
        (
            1,
            "checker",
            "secret",
            format!("{by_ca}\nsni = \"db.example\""),
            "down",
            "the certificate is not for db.example".to_owned(),
        ),
        // Without.
        (2, "checker", "secret", none(), "up", good()),
        (2, "older", "secret", none(), "up", good()),
        (2, "open", "", none(), "up", good()),
        (2, "checker", "wrong", none(), "down", denied("checker")),
        (2, "older", "wrong", none(), "down", denied("older")),
        (
            2,
            "checker",
            &"long".repeat(60),
            none(),
            "down",
            "its RSA key cannot encrypt the password; switch its TLS on".to_owned(),
        ),
        (
            2,
            "checker",
            "secret",
            by_ca,
            "down",
            "the server has no TLS, which ca_file asks for".to_owned(),
        ),
        // With a certificate that is among those to trust.
        (3, "checker", "secret", by_own, "up", good()),
    ];
    let agent = start(&lab, rows)?;
    let all_as_expected = || {
        (1..).zip(rows).try_for_each(|(number, row)| {
            let (server, _, _, _, health, words) = row;
            let (service, backend) = (format!("row-{number}"), format!("web{server}"));
            agent.await_check((&service, &backend), health, words)
        })
    };
    all_as_expected()?;
    // Its memory of passwords is empty as after a start, and full logins are asked for again.
    for server in &servers {
        server.run("FLUSH PRIVILEGES")?;
    }
    all_as_expected()
}

fn a_replica_is_known_by_its_role_and_its_lag(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = Farm::wired(Mode::Generic, 2)?;
    let mut pair = Pair::start(&lab, family, ("web1", address(1)), ("web2", address(2)))?;
    let monitor = match family {
        Family::MySql => "REPLICATION CLIENT",
        Family::MariaDb => "REPLICA MONITOR",
    };
    pair.primary.run(&format!(
        "CREATE USER checker@'%' IDENTIFIED BY 'secret'; GRANT {monitor} ON *.* TO checker@'%'"
    ))?;
    pair.write(1)?;
    pair.await_copy(1)?;
    let password = password_file(&lab, "password", "secret")?;
    let check = |require: &str| {
        format!(
            "kind = \"mysql\"\nuser = \"checker\"\n{password}\nrequire = \"{require}\"\n\
             max_lag_seconds = 2"
        )
    };
    let service = |name: &str, port: u16, require: &str| {
        let backends = routed_backends(VIP4, 2, PORT);
        Service::tcp(name, VIP4, port, backends).check_lines(check(require))
    };
    let config = Farm::config(&lab, Mode::Generic)
        .service(service("reads", 3307, "replica"))
        .service(service("writes", 3306, "primary"));
    let agent = Agent::start(&lab, &config)?;
    let is_replica = "the server is read-only, and no primary";
    let is_primary = "the server is not read-only, and no replica";
    let is_level = || agent.await_check(("reads", "web2"), "up", "MySQL replica 0 s behind in ");
    is_level()?;
    agent.await_check(("reads", "web1"), "down", is_primary)?;
    agent.await_check(("writes", "web1"), "up", "MySQL primary in ")?;
    agent.await_check(("writes", "web2"), "down", is_replica)?;
    ensure!(lag(&agent, "web2")? == Some(0.0));
    ensure!(lag(&agent, "web1")?.is_none());

    // Nothing is applied, and nobody knows how far it is behind.
    pair.stop_applying()?;
    agent.await_check(("reads", "web2"), "down", "replication has stopped")?;
    ensure!(lag(&agent, "web2")?.is_none());
    pair.apply_after(0)?;
    is_level()?;

    // It is known how far, and that is too far.
    pair.apply_after(600)?;
    pair.write(2)?;
    let too_far = "s behind, and max_lag_seconds is 2";
    agent.await_check(("reads", "web2"), "down", too_far)?;
    let seen = lag(&agent, "web2")?;
    ensure!(
        seen.is_some_and(|lag| (2.0..60.0).contains(&lag)),
        "{seen:?}"
    );
    ensure!(
        !agent
            .status()?
            .backend("reads", "web2")?
            .is("in_rotation")?
    );
    let page = metrics(&lab, &agent)?;
    let name = "lb_backend_replication_lag_seconds{service=\"reads\",backend=\"web2\"} ";
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    let value: f64 = line.unwrap_or_default().parse()?;
    ensure!((2.0..60.0).contains(&value), "{value}");
    pair.apply_after(0)?;
    is_level()?;
    pair.await_copy(2)?;

    // It goes, and comes back. By request: as it runs here, it writes to the disk when it likes, and
    // a replica of MariaDB may not find its place again after a crash.
    pair.replica.stop()?;
    agent.await_check(("reads", "web2"), "down", "connect refused")?;
    pair.replica.start_again()?;
    is_level()?;

    // They change places.
    pair.replica.run("SET GLOBAL read_only=0")?;
    pair.primary.run("SET GLOBAL read_only=1")?;
    agent.await_check(("writes", "web2"), "up", "MySQL primary 0 s behind in ")?;
    agent.await_check(("writes", "web1"), "down", is_replica)?;
    agent.await_check(("reads", "web2"), "down", is_primary)?;
    agent.await_check(("reads", "web1"), "down", "replicates from nobody")
}

/// What the status says of a backend of `reads`.
fn lag(agent: &Agent, backend: &str) -> Result<Option<f64>> {
    let status = agent.status()?;
    let entry = status.backend("reads", backend)?;
    Ok(entry.real("replication_lag_seconds").ok())
}

fn metrics(lab: &Lab, agent: &Agent) -> Result<String> {
    let socket = agent.socket().display().to_string();
    let words = ["-sS", "--unix-socket", &socket, "http://lb/metrics"];
    lab.run("lb", "curl", &words)
}

#[test]
fn a_replica_of_mysql_is_known_by_its_role_and_its_lag() -> Result<()> {
    a_replica_is_known_by_its_role_and_its_lag(Family::MySql)
}

#[test]
fn a_replica_of_mariadb_is_known_by_its_role_and_its_lag() -> Result<()> {
    a_replica_is_known_by_its_role_and_its_lag(Family::MariaDb)
}
