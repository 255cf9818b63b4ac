//! What a new config changes of the proxy: a pure comparison, and who has to start anew.

use std::{collections::BTreeMap, fmt::Debug};

use crate::config::model::mysql::{Proxy, Server, User};

/// How two configs of the proxy differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// What a running proxy cannot take over, by keys.
    pub needs_restart: Vec<String>,
    /// What becomes different, a line each.
    pub changes: Vec<String>,
}

/// From the proxy that runs to a new one.
#[must_use]
pub fn difference(old: Option<&Proxy>, new: Option<&Proxy>) -> Difference {
    let mut found = Difference::default();
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (None, None) => return found,
        (Some(_), None) | (None, Some(_)) => {
            found.needs_restart.push("[mysql]".to_owned());
            return found;
        }
    };
    let Proxy {
        listen,
        unix_socket,
        proxy_protocol,
        max_connections,
        authentication,
        tls,
        read_scheduler,
        reads,
        consistency,
        consistency_timeout,
        max_lag,
        pool,
        primary_wait,
        connection_wait,
        intercept,
        slow_statement,
        statement_digests,
        monitor,
        failover,
        servers,
        users,
    } = old;
    for (key, is_same) in [
        ("listen", *listen == new.listen),
        ("unix_socket", *unix_socket == new.unix_socket),
        ("pool", *pool == new.pool),
        ("intercept", *intercept == new.intercept),
        (
            "slow_statement_seconds",
            *slow_statement == new.slow_statement,
        ),
        (
            "statement_digests",
            *statement_digests == new.statement_digests,
        ),
        (
            "connection_wait_seconds",
            *connection_wait == new.connection_wait,
        ),
        ("user.max_connections", have_same_limits(users, &new.users)),
        ("monitor", *monitor == new.monitor),
        ("failover", *failover == new.failover),
        ("server", are_same_servers(servers, &new.servers)),
    ] {
        if !is_same {
            found.needs_restart.push(format!("mysql.{key}"));
        }
    }
    let lines = &mut found.changes;
    from_to(
        lines,
        "max_connections",
        max_connections,
        &new.max_connections,
    );
    let ways = (authentication, &new.authentication);
    from_to(lines, "authentication", ways.0, ways.1);
    from_to(lines, "reads", reads, &new.reads);
    from_to(lines, "consistency", consistency, &new.consistency);
    let timeouts = (consistency_timeout, &new.consistency_timeout);
    from_to(lines, "consistency_timeout_seconds", timeouts.0, timeouts.1);
    from_to(lines, "max_lag_seconds", max_lag, &new.max_lag);
    from_to(
        lines,
        "primary_wait_seconds",
        primary_wait,
        &new.primary_wait,
    );
    for (key, is_same) in [
        ("read_scheduler", *read_scheduler == new.read_scheduler),
        ("proxy_protocol", *proxy_protocol == new.proxy_protocol),
        ("tls_certificate", *tls == new.tls),
    ] {
        if !is_same {
            lines.push(format!("mysql.{key}"));
        }
    }
    user_changes(lines, users, &new.users);
    for (old, new) in servers.iter().zip(&new.servers) {
        let key = |key: &str| format!("server {}: {key}", old.name);
        from_to(lines, &key("weight"), &old.weight, &new.weight);
        if (&old.tls, &old.client) != (&new.tls, &new.client) {
            lines.push(format!("mysql.{}", key("tls")));
        }
    }
    found
}

/// Whether all that is known of servers can be gone on with.
fn are_same_servers(old: &[Server], new: &[Server]) -> bool {
    let same = |(old, new): (&Server, &Server)| {
        (&old.name, old.address, old.role, old.max_connections)
            == (&new.name, new.address, new.role, new.max_connections)
    };
    old.len() == new.len() && old.iter().zip(new).all(same)
}

/// Whether the same users have the same limits, which are counted from the start.
fn have_same_limits(old: &[User], new: &[User]) -> bool {
    let limits = |users: &[User]| {
        let limited = users
            .iter()
            .filter_map(|user| Some((user.name.clone(), user.max_connections?)));
        limited.collect::<BTreeMap<_, _>>()
    };
    limits(old) == limits(new)
}

fn from_to<T: Debug + PartialEq>(lines: &mut Vec<String>, key: &str, old: &T, new: &T) {
    if old != new {
        let words = format!("{old:?} -> {new:?}").to_lowercase();
        lines.push(format!("mysql.{key}: {words}"));
    }
}

fn user_changes(lines: &mut Vec<String>, old: &[User], new: &[User]) {
    let has = |users: &[User], name: &str| users.iter().any(|user| user.name == name);
    for user in new {
        if !has(old, &user.name) {
            lines.push(format!("mysql: user {} is new", user.name));
        } else if !old.contains(user) {
            lines.push(format!("mysql: user {}", user.name));
        }
    }
    for user in old.iter().filter(|user| !has(new, &user.name)) {
        lines.push(format!("mysql: user {} is gone", user.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"
        [mysql]
        listen = ["127.0.0.1:3306"]
        [mysql.monitor]
        user = "watcher"
        [[mysql.server]]
        name = "db1"
        address = "10.0.0.11:3306"
        [[mysql.server]]
        name = "db2"
        address = "10.0.0.12:3306"
        [[mysql.user]]
        name = "shop"
        password_file = "/etc/passwd"
    "#;

    fn parsed(text: &str) -> Proxy {
        let loaded = crate::config::parse(text.as_bytes()).unwrap();
        loaded.model.mysql.unwrap()
    }

    fn from_base((old, new): (&str, &str)) -> Difference {
        assert!(BASE.contains(old), "{old}");
        let text = BASE.replacen(old, new, 1);
        difference(Some(&parsed(BASE)), Some(&parsed(&text)))
    }

    #[test]
    fn the_same_is_no_difference() {
        assert_eq!(from_base(("", "")), Difference::default());
        assert_eq!(difference(None, None), Difference::default());
        let gone = difference(Some(&parsed(BASE)), None);
        assert_eq!(gone.needs_restart, ["[mysql]"]);
    }

    #[test]
    fn each_change_is_a_line() {
        let key = |line: &'static str| ("3306\"]", line);
        for (edit, expected) in [
            (
                key("3306\"]\nconsistency = \"global\""),
                "mysql.consistency: session -> global",
            ),
            (
                key("3306\"]\nreads = \"all\"\nmax_lag_seconds = 3"),
                "mysql.reads: replicas -> all|mysql.max_lag_seconds: 10s -> 3s",
            ),
            (
                key("3306\"]\nread_scheduler = \"least-connections\""),
                "mysql.read_scheduler",
            ),
            (
                key("3306\"]\nauthentication = \"list\""),
                "mysql.authentication: learn -> list",
            ),
            (
                key("3306\"]\nproxy_protocol = [\"10.0.0.0/8\"]"),
                "mysql.proxy_protocol",
            ),
            (
                ("12:3306\"", "12:3306\"\nweight = 3"),
                "mysql.server db2: weight: 1 -> 3",
            ),
            (
                ("12:3306\"", "12:3306\"\ntls = \"off\""),
                "mysql.server db2: tls",
            ),
            (
                ("\"shop\"", "\"store\""),
                "mysql: user store is new|mysql: user shop is gone",
            ),
            (("/etc/passwd", "/etc/group"), "mysql: user shop"),
        ] {
            let found = from_base(edit);
            assert_eq!(found.changes.join("|"), expected);
            assert_eq!(found.needs_restart, [""; 0], "{found:?}");
        }
    }

    #[test]
    fn what_takes_a_restart_is_named() {
        for (edit, expected) in [
            (("127.0.0.1:3306", "127.0.0.1:3307"), "mysql.listen"),
            (("3306\"]", "3306\"]\npool = false"), "mysql.pool"),
            (("3306\"]", "3306\"]\nintercept = true"), "mysql.intercept"),
            (("watcher", "guard"), "mysql.monitor"),
            (("db2", "db3"), "mysql.server"),
            (("10.0.0.12", "10.0.0.13"), "mysql.server"),
            (
                ("12:3306\"", "12:3306\"\nrole = \"replica\""),
                "mysql.server",
            ),
        ] {
            let found = from_base(edit);
            assert_eq!(found.needs_restart, [expected], "{edit:?}");
        }
    }
}
