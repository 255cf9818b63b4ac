//! `--compare OLD.json`: what became of each figure since an earlier run.

use std::fmt::Write as _;

use serde_json::Value;

use crate::bench::report::Report;

/// A line for each row that both have: the earlier median, the present one, and their ratio. Rows
/// that only one of them has are named.
#[must_use]
pub fn against(report: &Report, old: &Value) -> String {
    let mut text = format!("{}: compared with the earlier run\n", report.name);
    let Some(before) = rows(report.name, old) else {
        let _ = writeln!(text, "  it has no figures of {}", report.name);
        return text;
    };
    let width = report.rows.iter().map(|row| row.name.chars().count());
    let width = width.max().unwrap_or(0);
    for row in &report.rows {
        let name = &row.name;
        let new = row.samples.median();
        let earlier = before
            .iter()
            .find(|old| old["name"] == name.as_str())
            .and_then(|old| old["median"].as_f64());
        let _ = match earlier {
            Some(old) => writeln!(
                text,
                "  {name:width$}  {old:>9.1}  ->  {new:>9.1}  {:>5.2}x",
                new / old
            ),
            None => writeln!(text, "  {name:width$}  {:>9}  ->  {new:>9.1}", "-"),
        };
    }
    for old in before {
        let name = old["name"].as_str().unwrap_or_default();
        if !report.rows.iter().any(|row| row.name == name) {
            let _ = writeln!(text, "  {name:width$}  is not measured any more");
        }
    }
    text
}

/// The rows of a benchmark in a document: of one benchmark, or a list of several.
fn rows<'v>(benchmark: &str, document: &'v Value) -> Option<&'v Vec<Value>> {
    let one = std::slice::from_ref(document);
    let all = document.as_array().map_or(one, Vec::as_slice);
    all.iter()
        .find(|report| report["benchmark"] == benchmark)?
        .get("rows")?
        .as_array()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bench::{
        conditions::Conditions,
        report::{Row, Samples},
    };

    fn report() -> Report {
        let row = |name: &str, value: f64| {
            let mut samples = Samples::default();
            samples.push(value);
            Row {
                name: name.to_owned(),
                samples,
                ..Row::default()
            }
        };
        Report {
            name: "packet",
            unit: "ns",
            decimals: 1,
            notes: Vec::new(),
            rows: vec![row("nat", 30.0), row("gue", 40.0)],
            conditions: (Conditions::now(), Conditions::now()),
        }
    }

    #[test]
    fn rows_are_compared_by_name() {
        let old = json!({"benchmark": "packet", "rows": [
            {"name": "nat", "median": 20.0}, {"name": "gone", "median": 1.0}]});
        for old in [old.clone(), json!([{"benchmark": "pps", "rows": []}, old])] {
            let text = against(&report(), &old);
            assert!(text.contains("1.50x"), "{text}");
            assert!(text.contains("gone  is not measured any more"), "{text}");
            let gue = text.lines().find(|line| line.contains("gue")).unwrap();
            assert!(gue.contains("->") && !gue.contains('x'), "{text}");
        }
    }

    #[test]
    fn a_document_of_another_benchmark_says_nothing() {
        let text = against(&report(), &json!({"benchmark": "pps", "rows": []}));
        assert!(text.contains("no figures of packet"), "{text}");
        let text = against(&report(), &json!("noise"));
        assert!(text.contains("no figures of packet"), "{text}");
    }
}
