//! What the package has for Prometheus and Grafana, checked by Prometheus' own tool and against the
//! metrics that there are.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lb_userspace::metrics;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/monitoring")
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(folder())
        .output()
        .expect("promtool is in the package prometheus, which `cargo xtask setup` installs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

#[test]
fn the_rules_are_sound_and_alert_when_they_should() {
    promtool(&["check", "rules", "lb.rules.yml"]);
    promtool(&["test", "rules", "lb.rules.test.yml"]);
}

#[test]
fn every_alert_is_tested() {
    let rules = fs::read_to_string(folder().join("lb.rules.yml")).unwrap();
    let tests = fs::read_to_string(folder().join("lb.rules.test.yml")).unwrap();
    let alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let mut count = 0;
    for alert in alerts {
        let name = format!("alertname: {alert}\n");
        let (_, after) = tests.split_once(&name).unwrap_or_else(|| panic!("{alert}"));
        assert!(after.contains("exp_labels"), "{alert} fires in no test");
        count += 1;
    }
    assert!(count >= 7, "{count} alerts");
}

/// Every name of ours in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_part(c))
        .filter(|word| word.starts_with("lb_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn rules_and_dashboard_name_only_metrics_that_there_are() {
    let reference = metrics::reference();
    for file in ["lb.rules.yml", "grafana-dashboard.json"] {
        let text = fs::read_to_string(folder().join(file)).unwrap();
        let found = names(&text);
        assert!(found.len() >= 8, "{file}: {found:?}");
        for name in found {
            let family = name.strip_suffix("_bucket").unwrap_or(&name);
            let is_known = reference.contains(&format!("| `{family}` |"));
            assert!(is_known, "{file}: {name}");
        }
    }
}

#[test]
fn every_query_of_the_dashboard_is_one() {
    let text = fs::read_to_string(folder().join("grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    let (mut ids, mut count) = (BTreeSet::new(), 0);
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            // What Grafana puts in place of its variables.
            let query = query.replace("$__rate_interval", "1m").replace('\'', "''");
            rules.push_str(&format!(
                "  - record: dashboard:query:{count}\n    expr: '{query}'\n"
            ));
            count += 1;
        }
    }
    assert!(count >= 15, "{count} queries");
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("rules.yml");
    fs::write(&file, rules).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
}
