//! Connections that are to be taken into the MySQL proxy.

use super::{Finding, Severity};
use crate::{
    config::model::mysql::Intercept,
    dataplane,
    status::{MysqlIntercept, Status},
};

/// What stands in the way, by the system; nothing where nothing does.
pub(super) fn gather(intercept: &Intercept) -> Option<String> {
    dataplane::check_intercept()
        .and_then(|()| dataplane::intercepted_cgroup(intercept.cgroup.as_deref()))
        .err()
        .map(|error| error.to_string())
}

/// What is wrong with it, by what stands in the way and what a running agent says.
pub(super) fn judge(refused: Option<String>, status: Option<&Status>) -> Vec<Finding> {
    let finding = |severity, found| Finding::new(severity, "intercept", "[mysql]", found);
    if let Some(refused) = refused {
        let why = "lb run does not start, and applications would have to be told of the proxy";
        let cure = "run the agent with what is missing, or take out mysql.intercept";
        return vec![finding(Severity::Error, refused).why(why).cure(cure)];
    }
    let Some(mysql) = status.and_then(|status| status.mysql.as_ref()) else {
        return Vec::new();
    };
    let Some(MysqlIntercept {
        other_namespace,
        no_listener,
        ..
    }) = &mysql.intercept
    else {
        let found = "mysql.intercept is on in the file, and the agent takes no connections";
        return vec![
            finding(Severity::Warning, found.to_owned())
                .why("applications reach the servers past the proxy, so reads go to the primary")
                .cure("systemctl restart lb"),
        ];
    };
    let mut findings = Vec::new();
    if *no_listener > 0 {
        let found = format!("{no_listener} connections of IPv4 sockets could not be taken");
        findings.push(
            finding(Severity::Warning, found)
                .why("an IPv4 socket reaches no IPv6 address, so they went to the servers")
                .cure("an IPv4 address in mysql.listen, as \"127.0.0.1:3306\""),
        );
    }
    if *other_namespace > 0 {
        let found = format!("{other_namespace} connections from containers went to the servers");
        findings.push(
            finding(Severity::Note, found)
                .why(
                    "they were made in other network namespaces, where the proxy's address is \
                     another one",
                )
                .cure(
                    "have those containers connect to an address of mysql.listen that they reach",
                ),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::report::checks,
        status::{self, Mysql, MysqlStatements},
    };

    fn of(intercept: Option<MysqlIntercept>) -> Status {
        let mut status = status::tests::example();
        status.mysql = Some(Mysql {
            servers: Vec::new(),
            users: Vec::new(),
            sessions: 0,
            statements: MysqlStatements {
                primary: 0,
                replica: 0,
            },
            reasons: [].into(),
            no_primary: None,
            epoch: 0,
            intercept,
            by_target: [].into(),
            durations: [].into(),
            errors: [].into(),
        });
        status
    }

    #[test]
    fn what_is_not_taken_is_told() {
        let counted = |other_namespace, no_listener| MysqlIntercept {
            cgroup: "/sys/fs/cgroup".to_owned(),
            servers: Vec::new(),
            intercepted: 9,
            own: 9,
            other_namespace,
            no_listener,
        };
        for (severities, intercept) in [
            (&[][..], Some(counted(0, 0))),
            (&[Severity::Note], Some(counted(1, 0))),
            (&[Severity::Warning, Severity::Note], Some(counted(1, 1))),
            (&[Severity::Warning], None),
        ] {
            let findings = judge(None, Some(&of(intercept)));
            let found: Vec<Severity> = findings.iter().map(|one| one.severity).collect();
            assert_eq!(found, severities);
            assert!(checks(&findings).iter().all(|check| *check == "intercept"));
        }
        assert_eq!(judge(None, None), []);
        let refused = judge(Some("no".to_owned()), None);
        assert_eq!(checks(&refused), ["intercept"]);
    }
}
