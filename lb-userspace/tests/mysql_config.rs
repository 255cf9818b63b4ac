//! What `[mysql]` means.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use lb_userspace::config::{
    self, Problems,
    model::{
        EtcdServers,
        mysql::{
            Authentication, Automatic, Consistency, KeyPair, Proxy, ReadScheduler, Reads, Role,
            ServerTls,
        },
    },
};

fn parsed(text: &str) -> (Proxy, String) {
    let loaded = config::parse(text.as_bytes()).unwrap();
    let file = "lb.toml".to_owned();
    let list = loaded.warnings;
    (
        loaded.model.mysql.unwrap(),
        Problems { file, list }.to_string(),
    )
}

/// Interface.md's, word for word but for comments and the file of TLS.
const CONTRACT: &str = r#"
[mysql]
listen = ["127.0.0.1:3306"]
unix_socket = "/run/lb/mysql.sock"   # optional
max_connections = 10000
authentication = "learn"
read_scheduler = "round-robin"
reads = "replicas"
consistency = "session"
consistency_timeout_seconds = 0.2
max_lag_seconds = 10
pool = true

[mysql.monitor]
user = "lbmon"
password_file = "/etc/lb/lbmon"
interval_seconds = 1.0

[[mysql.server]]
name = "db1"
address = "10.0.0.11:3306"
weight = 1
role = "auto"
tls = "prefer"

[[mysql.user]]
name = "shop"
password_file = "/etc/lb/shop"
"#;

#[test]
fn the_contract_s_example_is_taken_and_spells_out_the_defaults() {
    let (spelled_out, warnings) = parsed(CONTRACT);
    assert_eq!(warnings, "");
    let (short, warnings) = parsed(
        "[mysql]\nlisten = [\"127.0.0.1:3306\"]\nunix_socket = \"/run/lb/mysql.sock\"\n\
         [mysql.monitor]\nuser = \"lbmon\"\npassword_file = \"/etc/lb/lbmon\"\n\
         [[mysql.server]]\nname = \"db1\"\naddress = \"10.0.0.11:3306\"\n\
         [[mysql.user]]\nname = \"shop\"\npassword_file = \"/etc/lb/shop\"\n",
    );
    assert_eq!((&short, &*warnings), (&spelled_out, ""));
    assert_eq!(short.listen, ["127.0.0.1:3306".parse().unwrap()]);
    assert_eq!(short.max_connections, 10_000);
    assert_eq!(short.authentication, Authentication::Learn);
    assert_eq!(short.read_scheduler, ReadScheduler::RoundRobin);
    assert_eq!(short.reads, Reads::Replicas);
    assert_eq!(short.consistency, Consistency::Session);
    assert_eq!(short.consistency_timeout, Duration::from_millis(200));
    assert_eq!(short.max_lag, Duration::from_secs(10));
    assert!(short.pool && short.intercept.is_none() && short.tls.is_none());
    assert_eq!(short.primary_wait, Duration::from_secs(10));
    assert_eq!(short.slow_statement, None);
    let monitor = &short.monitor;
    let times = (monitor.interval, monitor.timeout, monitor.fall);
    assert_eq!(times, (Duration::from_secs(1), Duration::from_secs(1), 2));
    assert_eq!(
        (short.failover.automatic, short.failover.replication),
        (None, None)
    );
    let server = &short.servers[0];
    assert_eq!((server.weight, server.role), (1, Role::Auto));
    assert_eq!((&server.tls, &server.client), (&ServerTls::Prefer, &None));
    assert_eq!(
        (server.max_connections, short.users[0].max_connections),
        (None, None)
    );
}

#[test]
fn without_it_there_is_none() {
    let loaded = config::parse(b"[agent]\ninterfaces = [\"eth0\"]\n").unwrap();
    assert_eq!(loaded.model.mysql, None);
    let explained = config::explain(b"").unwrap();
    assert!(explained.contains("\n# no [mysql]\n"), "{explained}");
    assert!(!explained.contains("\n[mysql"), "{explained}");
}

#[test]
fn tls_and_failover_are_taken_whole() {
    let (proxy, warnings) = parsed(
        "[mysql]\nlisten = [\"127.0.0.1:3306\"]\ntls_certificate = \"/a.pem\"\ntls_key = \"/a.key\"\n\
         [mysql.monitor]\nuser = \"m\"\n\
         [mysql.failover]\nautomatic = true\nendpoints = [\"http://10.0.0.5:2379\"]\n\
         [[mysql.server]]\nname = \"a\"\naddress = \"10.0.0.11:3306\"\ntls = \"require\"\n\
         tls_ca = \"/ca.pem\"\ntls_name = \"db.example\"\n\
         tls_client_certificate = \"/c.pem\"\ntls_client_key = \"/c.key\"\n\
         [[mysql.server]]\nname = \"b\"\naddress = \"[2001:db8::1]:3306\"\n",
    );
    assert_eq!(warnings, "");
    let pair = |certificate: &str, key: &str| KeyPair {
        certificate: certificate.into(),
        key: key.into(),
    };
    assert_eq!(proxy.tls, Some(pair("/a.pem", "/a.key")));
    assert_eq!(proxy.servers[0].client, Some(pair("/c.pem", "/c.key")));
    let tls = ServerTls::Require {
        ca: "/ca.pem".into(),
        name: Some("db.example".to_owned()),
    };
    assert_eq!(proxy.servers[0].tls, tls);
    let automatic = Automatic {
        wait: Duration::from_secs(10),
        servers: EtcdServers {
            endpoints: vec!["http://10.0.0.5:2379".to_owned()],
            tls: None,
        },
        prefix: "/lb/mysql/".to_owned(),
    };
    assert_eq!(proxy.failover.automatic, Some(automatic));
}

#[test]
fn what_is_odd_is_warned_of() {
    let servers = "[mysql.monitor]\nuser = \"m\"\n\
                   [[mysql.server]]\nname = \"a\"\naddress = \"10.0.0.11:3306\"\nweight = 0\n\
                   tls = \"off\"\ntls_ca = \"/ca.pem\"\ntls_name = \"a\"\n\
                   [[mysql.server]]\nname = \"b\"\naddress = \"10.0.0.12:3306\"\nweight = 0\n\
                   tls_ca = \"/ca.pem\"\n\
                   [mysql.failover]\nwait_seconds = 3\nprefix = \"/x/\"\n";
    let (_, warnings) = parsed(&format!(
        "[mysql]\nlisten = [\"0.0.0.0:3306\"]\nconsistency = \"eventual\"\n\
         consistency_timeout_seconds = 1\n{servers}"
    ));
    assert_eq!(
        warnings,
        "lb.toml:1: mysql: every server has weight 0: all reads go to the primary (reads = \
         \"primary\" says so)\n\
         lb.toml:2: mysql: listen 0.0.0.0:3306 is open to other hosts, and their accounts see this \
         host's address: accounts that are bound to hosts no longer tell them apart\n\
         lb.toml:4: mysql: consistency_timeout_seconds does nothing with consistency = \"eventual\"\n\
         lb.toml:12: mysql, server \"a\": tls_ca does nothing with tls = \"off\"\n\
         lb.toml:13: mysql, server \"a\": tls_name does nothing with tls = \"off\"\n\
         lb.toml:18: mysql, server \"b\": tls_ca does nothing with tls = \"prefer\"\n\
         lb.toml:20: mysql, failover: wait_seconds does nothing without automatic = true\n\
         lb.toml:21: mysql, failover: prefix does nothing without automatic = true"
    );
    let (_, warnings) = parsed(&format!(
        "[mysql]\nlisten = [\"127.0.0.1:3306\"]\nreads = \"primary\"\nread_scheduler = \
         \"least-connections\"\nconsistency = \"global\"\nmax_lag_seconds = 3\n{}",
        servers
            .replace("weight = 0\n", "")
            .replace("tls", "# tls")
            .replace("[mysql.failover]", "#")
            .replace("wait_seconds", "# ")
            .replace("prefix", "# ")
    ));
    assert_eq!(
        warnings,
        "lb.toml:4: mysql: read_scheduler does nothing with reads = \"primary\"\n\
         lb.toml:5: mysql: consistency does nothing with reads = \"primary\"\n\
         lb.toml:6: mysql: max_lag_seconds does nothing with reads = \"primary\""
    );
}

#[test]
fn files_that_are_named_have_to_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lb.toml");
    let text = CONTRACT.replace("/etc/lb/", &format!("{}/", folder.path().display()));
    std::fs::write(&file, &text).unwrap();
    std::fs::write(folder.path().join("shop"), "secret\n").unwrap();
    let error = config::load(&file).unwrap_err().to_string();
    let lacks = format!(
        "{}:16: mysql, monitor: password_file \"{}/lbmon\" cannot be used: there is no such file",
        file.display(),
        folder.path().display()
    );
    assert_eq!(error, lacks);
}
