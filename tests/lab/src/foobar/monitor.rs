//! Prometheus, which scrapes the agents and has the package's rules.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::process::Process;

use super::certificate::Authority;
use super::network::{self, APPS, BALANCERS, MONITOR};
use super::{agent, patience, write_command};

/// The rules that people get with the package.
const RULES: &str = include_str!("../../../../lb-userspace/packaging/monitoring/lb.rules.yml");

const NAMESPACE: &str = "monitor";
const PORT: u16 = 9090;
const TIMEOUT: Duration = Duration::from_secs(5);

/// A running Prometheus; dropping it stops it.
#[derive(Debug)]
pub struct Monitor {
    namespace: Arc<Namespace>,
    process: Process,
}

impl Monitor {
    pub(super) fn start(lab: &Lab, authority: &Authority) -> Result<Self> {
        let folder = lab.sub_folder("prometheus")?;
        fs::write(folder.join("lb.rules.yml"), hasty(RULES))?;
        let balancers = (1..=BALANCERS).map(network::balancer);
        let targets: Vec<_> = balancers
            .chain((1..=APPS).map(network::app))
            .map(|address| format!("'{address}:{}'", agent::PORT))
            .collect();
        let config = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n\
             rule_files: [lb.rules.yml]\nscrape_configs:\n- job_name: lb\n  \
             scheme: https\n  tls_config:\n    ca_file: {}\n  \
             static_configs:\n  - targets: [{}]\n",
            authority.certificate().display(),
            targets.join(", ")
        );
        let file = folder.join("prometheus.yml");
        fs::write(&file, config)?;
        let mut command = lab.command(NAMESPACE, "prometheus")?;
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!(
            "--storage.tsdb.path={}",
            folder.join("data").display()
        ));
        command.arg(format!("--web.listen-address={MONITOR}:{PORT}"));
        let curl = format!(
            "#!/bin/sh\nexec /usr/bin/curl --cacert '{}' \"$@\"\n",
            authority.certificate().display()
        );
        write_command(lab, NAMESPACE, "curl", &curl)?;
        Ok(Self {
            namespace: Arc::new(Namespace::open(lab.namespace(NAMESPACE)?.full_name())?),
            process: lab.spawn("prometheus", command)?,
        })
    }

    /// Where its pages are, in the inner network.
    #[must_use]
    pub fn url() -> String {
        format!("http://{MONITOR}:{PORT}/")
    }

    pub(super) fn await_scraped(&self) -> Result<()> {
        patience::await_until(patience::LONG, "Prometheus has scraped all agents", || {
            let up = self.ask("/api/v1/query?query=sum(up)")?;
            let value = up.pointer("/data/result/0/value/1").and_then(Value::as_str);
            ensure!(value == Some("4"), "{up}");
            Ok(())
        })
        .with_context(|| self.process.log())
    }

    /// The names of the alerts that fire now.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn firing(&self) -> Result<BTreeSet<String>> {
        let alerts = self.ask("/api/v1/alerts")?;
        let list = alerts.pointer("/data/alerts").and_then(Value::as_array);
        let firing = list.context("no list of alerts")?.iter();
        let firing = firing.filter(|alert| alert["state"] == "firing");
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().map(str::to_owned);
        Ok(firing.filter_map(name).collect())
    }

    /// Waits until these alerts fire; others may too.
    ///
    /// # Errors
    /// When they do not.
    pub fn await_firing(&self, names: &[&str]) -> Result<()> {
        patience::await_until(
            patience::LONG,
            &format!("{} fire", names.join(", ")),
            || {
                let firing = self.firing()?;
                ensure!(
                    names.iter().all(|&name| firing.contains(name)),
                    "{firing:?}"
                );
                Ok(())
            },
        )
    }

    /// Waits until no alert fires.
    ///
    /// # Errors
    /// When one goes on to.
    pub fn await_quiet(&self) -> Result<()> {
        patience::await_until(patience::LONG, "all alerts have resolved", || {
            let firing = self.firing()?;
            ensure!(firing.is_empty(), "{firing:?}");
            Ok(())
        })
    }

    fn ask(&self, path: &str) -> Result<Value> {
        let address = SocketAddr::new(MONITOR.into(), PORT);
        let answer = self
            .namespace
            .within(|| crate::get(address, path, TIMEOUT))??;
        ensure!(answer.status == 200, "{path}: {}", answer.status);
        Ok(serde_json::from_slice(&answer.body)?)
    }
}

/// The same rules for a story that has no minutes to wait: what has to be so for some time has to
/// be so for a second, and rates are those of the last seconds.
fn hasty(rules: &str) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix("for: ") {
        Some(_) => "        for: 1s\n".to_owned(),
        None => format!("{}\n", line.replace("[5m]", "[5s]")),
    };
    rules.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{RULES, hasty};

    #[test]
    fn nothing_but_times_is_changed_in_the_rules() {
        let hasty = hasty(RULES);
        let pairs = RULES.lines().zip(hasty.lines());
        let changed: Vec<_> = pairs.filter(|(one, other)| one != other).collect();
        assert!(changed.len() > 4, "{changed:?}");
        for (before, after) in changed {
            assert!(
                before.contains("for: ") || before.contains("[5m]"),
                "{before}"
            );
            assert_eq!(before.split(':').next(), after.split(':').next());
        }
        assert_eq!(RULES.lines().count(), hasty.lines().count());
    }
}
