//! The real Prometheus scrapes the agent; when a web server stops, the package's alert fires, and
//! when it is back the alert resolves.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::scenario::{Farm, Mode, await_until, names};
use serde_json::Value;

use crate::web;

const DEADLINE: Duration = Duration::from_secs(30);
const RULES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../lb-userspace/packaging/monitoring/lb.rules.yml"
);

#[test]
fn an_alert_fires_when_a_backend_stops_and_resolves_when_it_is_back() -> Result<()> {
    let mut farm = Farm::start(Mode::Native, 3, |config| {
        config
            .admin("listen", "127.0.0.1:9900")
            .service(Farm::web(3))
    })?;
    names(&farm.lab, web(), 9)?;
    let folder = farm.lab.folder().join("prometheus");
    fs::create_dir(&folder)?;
    write_config(&folder)?;
    let mut command = farm.lab.command("lb", "prometheus")?;
    command
        .arg(format!(
            "--config.file={}",
            folder.join("prometheus.yml").display()
        ))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.join("data").display()
        ))
        .arg("--web.listen-address=127.0.0.1:9090");
    let prometheus = farm.lab.spawn("prometheus", command)?;
    let balancer = farm.lab.namespace("lb")?;
    let ask = |path: &str| -> Result<Value> {
        let address = "127.0.0.1:9090".parse()?;
        let response = balancer.within(|| lb_lab::get(address, path, DEADLINE))??;
        ensure!(response.status == 200, "{path}: {}", response.status);
        Ok(serde_json::from_slice(&response.body)?)
    };
    let query = |query: &str| -> Result<Value> {
        Ok(ask(&format!("/api/v1/query?query={query}"))?["data"]["result"].clone())
    };
    let scraped = await_until(DEADLINE, "Prometheus has scraped", || {
        let result = query("lb_backend_up")?;
        ensure!(
            result.as_array().is_some_and(|list| list.len() == 3),
            "{result}"
        );
        query("lb_backend_connections_total")
    });
    let connections = scraped.with_context(|| prometheus.log())?;
    for backend in connections.as_array().context("no list")? {
        ensure!(backend["value"][1] == "3", "{backend}");
    }
    let firing = || -> Result<Vec<String>> {
        let alerts = ask("/api/v1/alerts")?;
        let list = alerts["data"]["alerts"].as_array().context("no list")?;
        let is_firing = |alert: &&Value| alert["state"] == "firing";
        let word = |alert: &Value, label: &str| alert["labels"][label].as_str().map(str::to_owned);
        let name = |alert: &Value| {
            let subject = word(alert, "backend").unwrap_or_default();
            Some(format!("{} {subject}", word(alert, "alertname")?))
        };
        Ok(list.iter().filter(is_firing).filter_map(name).collect())
    };
    ensure!(firing()?.is_empty(), "{:?}", firing()?);
    farm.servers[1].stop()?;
    await_until(DEADLINE, "the alert fires", || {
        let firing = firing()?;
        ensure!(firing == ["LbBackendDown web2"], "{firing:?}");
        Ok(())
    })?;
    farm.servers[1].start_again(&farm.lab)?;
    await_until(DEADLINE, "the alert resolves", || {
        let firing = firing()?;
        ensure!(firing.is_empty(), "{firing:?}");
        Ok(())
    })
}

/// The package's rules, but for the time that they wait.
fn write_config(folder: &Path) -> Result<()> {
    let rules = fs::read_to_string(RULES)?;
    let hasty: Vec<&str> = rules
        .lines()
        .map(|line| match line.trim().starts_with("for: ") {
            true => "        for: 1s",
            false => line,
        })
        .collect();
    fs::write(folder.join("lb.rules.yml"), hasty.join("\n"))?;
    let config = "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n\
                  rule_files: [lb.rules.yml]\nscrape_configs:\n- job_name: lb\n  \
                  static_configs:\n  - targets: ['127.0.0.1:9900']\n";
    Ok(fs::write(folder.join("prometheus.yml"), config)?)
}
