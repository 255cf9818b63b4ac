//! What was found: for every kernel and program, whether it loads, what the verifier walked
//! through, whether it steers in both modes, and how many rows it passes.

use std::fmt;

use serde_json::{Value, json};

use super::Tally;

/// One kernel.
#[derive(Debug)]
pub(super) struct Column {
    kernel: &'static str,
    /// Its full name, once it has said it.
    pub(super) release: String,
    reports: Vec<Value>,
    /// It has said that this was all.
    pub(super) is_done: bool,
    /// Why it has not.
    pub(super) trouble: Option<String>,
}

/// All kernels.
#[derive(Debug, Default)]
pub(super) struct Matrix {
    pub(super) columns: Vec<Column>,
}

const HEADINGS: [&str; 8] = [
    "kernel", "program", "loads", "verified", "left", "native", "generic", "rows",
];

impl Column {
    pub(super) fn new(kernel: &'static str) -> Self {
        Self {
            kernel,
            release: kernel.to_owned(),
            reports: Vec::new(),
            is_done: false,
            trouble: None,
        }
    }

    /// Takes one report; returns a line about it.
    pub(super) fn add(&mut self, report: &Value) -> Option<String> {
        if let Some(release) = report["release"].as_str() {
            release.clone_into(&mut self.release);
        } else if let Some(error) = report["error"].as_str() {
            self.trouble = Some(error.to_owned());
        } else if report["done"] == true {
            self.is_done = true;
        } else if report["variant"].is_string() {
            self.reports.push(report.clone());
            return Some(told(report));
        }
        None
    }
}

/// Whether all of a report is as it should be.
fn is_fine(report: &Value) -> bool {
    report["refused"].is_null()
        && report["native"] == "ok"
        && report["generic"] == "ok"
        && (report["is_agent"] == true || report["rows"].as_u64().is_some_and(|rows| rows > 0))
        && report["rows"] == report["rows_passed"]
}

/// A report on one line, and what is wrong below it.
fn told(report: &Value) -> String {
    let name = report["variant"].as_str().unwrap_or_default();
    let seconds = report["seconds"].as_f64().unwrap_or_default();
    if is_fine(report) {
        return format!("PASS {name} ({seconds:.1} s)");
    }
    let mut text = format!("FAIL {name}");
    for mode in ["refused", "native", "generic"] {
        if let Some(what) = report[mode].as_str().filter(|what| *what != "ok") {
            text.push_str(&format!("\n    {mode}: {what}"));
        }
    }
    let failures = report["failures"].as_array().into_iter().flatten();
    for failure in failures.filter_map(Value::as_str) {
        text.push_str(&format!("\n    row {failure}"));
    }
    text
}

impl Matrix {
    /// Each program on each kernel is one test, and so is getting to the end on each.
    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for column in &self.columns {
            let fine = column.reports.iter().filter(|report| is_fine(report));
            let passed = fine.count() as u64;
            tally.passed += passed;
            tally.failed += column.reports.len() as u64 - passed;
            tally.failed += u64::from(column.trouble.is_some());
        }
        tally
    }

    pub(super) fn to_json(&self) -> Value {
        let columns = self.columns.iter().map(|column| {
            json!({
                "kernel": column.kernel,
                "release": column.release,
                "programs": column.reports,
                "trouble": column.trouble,
            })
        });
        columns.collect()
    }

    fn lines(&self) -> Vec<[String; 8]> {
        let mut lines = vec![HEADINGS.map(str::to_owned)];
        for column in &self.columns {
            for report in &column.reports {
                let number = |key: &str| {
                    report[key]
                        .as_u64()
                        .map_or_else(|| "-".to_owned(), |number| number.to_string())
                };
                let mode = |key: &str| match report[key].as_str() {
                    Some("ok") => "yes".to_owned(),
                    Some(_) => "NO".to_owned(),
                    None => "-".to_owned(),
                };
                let rows = if report["rows"].is_null() {
                    "-".to_owned()
                } else {
                    format!("{}/{}", number("rows_passed"), number("rows"))
                };
                let loads = match (&report["refused"], &report["is_agent"]) {
                    (Value::Null, Value::Bool(true)) => "-",
                    (Value::Null, _) => "yes",
                    _ => "NO",
                };
                lines.push([
                    column.release.clone(),
                    report["variant"].as_str().unwrap_or_default().to_owned(),
                    loads.to_owned(),
                    number("verified"),
                    number("instructions"),
                    mode("native"),
                    mode("generic"),
                    rows,
                ]);
            }
        }
        lines
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        let widths: [usize; 8] = std::array::from_fn(|index| {
            let cells = lines.iter().map(|line| line[index].len());
            cells.max().unwrap_or(0)
        });
        for line in &lines {
            writeln!(formatter)?;
            for (index, (cell, width)) in line.iter().zip(widths).enumerate() {
                if index < 3 {
                    write!(formatter, "  {cell:<width$}")?;
                } else {
                    write!(formatter, "  {cell:>width$}")?;
                }
            }
        }
        writeln!(formatter)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Column, Matrix, Tally};

    fn matrix(reports: &[serde_json::Value]) -> Matrix {
        let mut column = Column::new("6.1");
        for report in reports {
            column.add(report);
        }
        Matrix {
            columns: vec![column],
        }
    }

    #[test]
    fn every_program_counts_once() {
        let fine =
            json!({ "variant": "a", "native": "ok", "generic": "ok", "rows": 2, "rows_passed": 2 });
        let mut row = fine.clone();
        row["rows_passed"] = 1.into();
        let mut mode = fine.clone();
        mode["native"] = "no".into();
        let refused = json!({ "variant": "b", "refused": "too large" });
        let mut none = fine.clone();
        none["rows"] = 0.into();
        none["rows_passed"] = 0.into();
        let reports = [
            fine,
            row,
            mode,
            refused,
            none,
            json!({ "release": "6.1.0" }),
        ];
        let expected = Tally {
            passed: 1,
            failed: 4,
            skipped: 0,
        };
        assert_eq!(matrix(&reports).tally(), expected);
        let agent = json!({ "variant": "c", "is_agent": true, "native": "ok", "generic": "ok" });
        assert_eq!(matrix(&[agent]).tally(), Tally::passed(1));
    }

    #[test]
    fn a_kernel_that_gets_nowhere_is_a_failure() {
        let matrix = matrix(&[json!({ "error": "no veth" })]);
        assert_eq!(matrix.tally(), Tally::failed(1));
    }
}
