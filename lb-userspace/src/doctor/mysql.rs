//! The MySQL proxy's servers, as a running agent sees them.

use super::{Finding, Severity};
use crate::{config::model::mysql::Proxy, status::Status};

/// What is wrong with them.
pub(super) fn judge(proxy: &Proxy, status: Option<&Status>) -> Vec<Finding> {
    let Some(status) = status else {
        return Vec::new();
    };
    let Some(mysql) = &status.mysql else {
        let found = "the file has [mysql], and the agent routes no MySQL sessions";
        return vec![
            Finding::new(Severity::Error, "mysql", "[mysql]", found)
                .why("clients find nobody to talk to")
                .cure("systemctl restart lb"),
        ];
    };
    let mut findings = Vec::new();
    if let Some(why) = &mysql.no_primary {
        findings.push(
            Finding::new(Severity::Error, "mysql_primary", "[mysql]", why.clone())
                .why(format!(
                    "writes wait for {:.0} s and fail then; reads go on",
                    proxy.primary_wait.as_secs_f64()
                ))
                .cure("read_only = OFF on one server (lb mysql failover, if the primary is lost)"),
        );
    }
    for server in &mysql.servers {
        let trouble = server.trouble.as_ref();
        let Some(why) = trouble.or(server.no_reads.as_ref()) else {
            continue;
        };
        let mut configured = proxy.servers.iter();
        let has_weight = configured.any(|one| one.name == server.name && one.weight > 0);
        // Somebody wants it to get no reads.
        if trouble.is_none() && (server.role == "primary" || !has_weight) {
            continue;
        }
        findings.push(
            Finding::new(
                Severity::Warning,
                "mysql_server",
                server.name.clone(),
                why.clone(),
            )
            .why("it gets no statements, so the others get more")
            .cure("lb mysql status, and that server's own log"),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::model::Model,
        doctor::report::checks,
        status::{self, Mysql, MysqlServer, MysqlStatements},
    };

    const CONFIG: &str = r#"
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
        [[mysql.server]]
        name = "spare"
        address = "10.0.0.13:3306"
        weight = 0
    "#;

    fn model() -> Model {
        crate::config::parse(CONFIG.as_bytes()).unwrap().model
    }

    fn server(
        name: &str,
        role: &str,
        trouble: Option<&str>,
        no_reads: Option<&str>,
    ) -> MysqlServer {
        MysqlServer {
            name: name.to_owned(),
            address: String::new(),
            role: role.to_owned(),
            health: "up".to_owned(),
            lag_seconds: None,
            read_only: None,
            in_rotation: no_reads.is_none(),
            connections: 0,
            max_connections: None,
            waiting: 0,
            statements: 0,
            seconds: 0.0,
            gtid: String::new(),
            version: None,
            trouble: trouble.map(str::to_owned),
            no_reads: no_reads.map(str::to_owned),
        }
    }

    fn seen(no_primary: Option<&str>, servers: Vec<MysqlServer>) -> Status {
        let mut status = status::tests::example();
        status.mysql = Some(Mysql {
            servers,
            users: Vec::new(),
            sessions: 0,
            statements: MysqlStatements {
                primary: 0,
                replica: 0,
            },
            reasons: [].into(),
            no_primary: no_primary.map(str::to_owned),
            epoch: 0,
            intercept: None,
            by_target: [].into(),
            durations: [].into(),
            errors: [].into(),
        });
        status
    }

    #[test]
    fn servers_that_get_nothing_are_told() {
        let proxy = model().mysql.unwrap();
        let judged = |status: &Status| {
            let findings = judge(&proxy, Some(status));
            let subjects = findings.iter().map(|one| one.subject.clone());
            subjects.collect::<Vec<_>>()
        };
        let good = || {
            vec![
                server("db1", "primary", None, Some("it is the primary")),
                server("db2", "replica", None, None),
                server("spare", "replica", None, Some("its weight is 0")),
            ]
        };
        assert_eq!(judged(&seen(None, good())), [""; 0]);
        assert_eq!(judged(&seen(Some("nobody"), good())), ["[mysql]"]);
        let mut behind = good();
        behind[1].no_reads = Some("it is 11.0 s behind".to_owned());
        behind[2].trouble = Some("nobody listens there".to_owned());
        assert_eq!(judged(&seen(None, behind)), ["db2", "spare"]);
        assert_eq!(judge(&proxy, None), []);
        let other = status::tests::example();
        assert_eq!(checks(&judge(&proxy, Some(&other))), ["mysql"]);
    }

    #[test]
    fn only_what_loads_programs_needs_the_kernels_leave() {
        let mut model = model();
        assert!(!model.steers() && !model.loads_programs());
        model.agent.interfaces.push("eth0".to_owned());
        assert!(model.steers());
        model.mysql = None;
        model.agent.interfaces.clear();
        assert!(model.loads_programs(), "services may come by a reload");
    }
}
