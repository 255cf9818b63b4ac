//! What a benchmark found: a table on screen, a document in a file.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::num::NonZero;
use std::thread;

use serde_json::{Map, Value, json};

use crate::bench::conditions::Conditions;

/// What was measured, a number for each round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Of no round yet.
    pub const NONE: Self = Self(Vec::new());

    /// Adds the next round's.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Notes that rounds up to this one gave nothing where no number was added.
    pub fn skip_to(&mut self, round: usize) {
        self.0.resize(round.max(self.0.len()), f64::NAN);
    }

    /// All of them, by round.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// The one in the middle, or the upper of the two in the middle.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.retain(|value| !value.is_nan());
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The least.
    #[must_use]
    pub fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    /// The greatest.
    #[must_use]
    pub fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }

    /// Each round's ratio to what another peer got in the same round.
    #[must_use]
    pub fn relative_to(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }

    /// Each number put through a function.
    #[must_use]
    pub fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        Self(self.0.iter().copied().map(change).collect())
    }
}

/// What a bar is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The row's median.
    Value,
    /// The median ratio to the peer of this name.
    Ratio(&'static str),
}

/// What the project asks of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// No more than that.
    AtMost(Measure, f64),
    /// No less than that.
    AtLeast(Measure, f64),
}

impl Display for Bar {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (sign, measure, limit) = match *self {
            Self::AtMost(measure, limit) => ("<=", measure, limit),
            Self::AtLeast(measure, limit) => (">=", measure, limit),
        };
        match measure {
            Measure::Value => write!(f, "{sign} {limit}"),
            Measure::Ratio(peer) => write!(f, "{sign} {limit}x {peer}"),
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// In the report's unit.
    pub samples: Samples,
    /// Ratios to other rows' peers in the same rounds.
    pub ratios: Vec<(&'static str, Samples)>,
    /// What is asked of it.
    pub bars: Vec<Bar>,
    /// More columns: heading, number, decimals.
    pub details: Vec<(&'static str, f64, usize)>,
    /// Why the row must not be believed.
    pub problems: Vec<String>,
}

impl Row {
    /// Whether all its bars are met; `None` when there is none or the row is not valid.
    #[must_use]
    pub fn is_met(&self) -> Option<bool> {
        if self.bars.is_empty() || !self.problems.is_empty() {
            return None;
        }
        Some(self.bars.iter().all(|bar| match *bar {
            Bar::AtMost(measure, limit) => self.measured(measure) <= limit,
            Bar::AtLeast(measure, limit) => self.measured(measure) >= limit,
        }))
    }

    fn measured(&self, measure: Measure) -> f64 {
        match measure {
            Measure::Value => self.samples.median(),
            Measure::Ratio(peer) => self
                .ratios
                .iter()
                .find(|(name, _)| *name == peer)
                .map_or(f64::NAN, |(_, ratio)| ratio.median()),
        }
    }

    fn met_text(&self) -> &'static str {
        match self.is_met() {
            _ if !self.problems.is_empty() => "INVALID",
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        }
    }

    fn bars_text(&self) -> String {
        let bars: Vec<_> = self.bars.iter().map(ToString::to_string).collect();
        bars.join(", ")
    }

    fn cells(&self, decimals: usize, details: &[&str]) -> Vec<String> {
        let number = |value: f64, decimals: usize| {
            if value.is_nan() {
                "-".to_owned()
            } else {
                format!("{value:.decimals$}")
            }
        };
        let ratios = self
            .ratios
            .iter()
            .map(|(peer, ratio)| format!("{} {peer}", number(ratio.median(), 2)));
        let mut cells = vec![
            self.name.clone(),
            number(self.samples.median(), decimals),
            format!(
                "{}..{}",
                number(self.samples.min(), decimals),
                number(self.samples.max(), decimals)
            ),
            ratios.collect::<Vec<_>>().join(", "),
        ];
        cells.extend(details.iter().map(|wanted| {
            self.details
                .iter()
                .find(|(heading, ..)| heading == wanted)
                .map_or_else(String::new, |&(_, value, decimals)| number(value, decimals))
        }));
        cells.extend([self.bars_text(), self.met_text().to_owned()]);
        cells
    }

    fn to_json(&self) -> Value {
        let ratios: Map<_, _> = self
            .ratios
            .iter()
            .map(|(peer, ratio)| ((*peer).to_owned(), json!(ratio.median())))
            .collect();
        let details: Map<_, _> = self
            .details
            .iter()
            .map(|(heading, value, _)| ((*heading).to_owned(), json!(value)))
            .collect();
        json!({
            "name": self.name,
            "median": self.samples.median(),
            "min": self.samples.min(),
            "max": self.samples.max(),
            "rounds": self.samples.0,
            "ratios": ratios,
            "details": details,
            "bar": self.bars_text(),
            "met": self.is_met(),
            "problems": self.problems,
        })
    }
}

/// What a benchmark found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The benchmark's name.
    pub name: &'static str,
    /// What the numbers are, as "ns per packet".
    pub unit: &'static str,
    /// Decimals of the numbers.
    pub decimals: usize,
    /// What else to know.
    pub notes: Vec<String>,
    /// The rows.
    pub rows: Vec<Row>,
    /// The machine when it began and when it ended.
    pub conditions: (Conditions, Conditions),
}

impl Report {
    /// As a document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        json!({
            "benchmark": self.name,
            "unit": self.unit,
            "kernel": kernel.trim(),
            "cpus": thread::available_parallelism().map_or(0, NonZero::get),
            "begin": self.conditions.0.to_json(),
            "end": self.conditions.1.to_json(),
            "notes": self.notes,
            "rows": self.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        })
    }

    fn missed(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.is_met() == Some(false))
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (begin, end) = self.conditions;
        writeln!(
            f,
            "{}: {}, medians of interleaved rounds\n  from the beginning to the end: load average \
             {:.1} to {:.1}, a random load from 32 MiB {:.0} to {:.0} ns",
            self.name, self.unit, begin.load, end.load, begin.memory_nanos, end.memory_nanos
        )?;
        let mut details: Vec<&str> = Vec::new();
        for (heading, ..) in self.rows.iter().flat_map(|row| &row.details) {
            if !details.contains(heading) {
                details.push(heading);
            }
        }
        let mut headings = vec!["peer", "median", "min..max", "ratio"];
        headings.extend(&details);
        headings.extend(["bar", "met"]);
        let mut lines = vec![headings.into_iter().map(str::to_owned).collect::<Vec<_>>()];
        lines.extend(
            self.rows
                .iter()
                .map(|row| row.cells(self.decimals, &details)),
        );
        // A column in which nothing stands is not worth its width.
        let width = |column: usize| {
            let filled = lines.iter().skip(1).any(|line| !line[column].is_empty());
            let cells = lines.iter().map(|line| line[column].chars().count());
            cells.max().filter(|_| filled).unwrap_or(0)
        };
        let widths: Vec<_> = (0..lines[0].len()).map(width).collect();
        for line in &lines {
            let mut text = String::new();
            for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
                match width {
                    0 => {}
                    _ if column == 0 => text.push_str(&format!("{cell:width$}")),
                    _ => text.push_str(&format!("  {cell:>width$}")),
                }
            }
            writeln!(f, "  {}", text.trim_end())?;
        }
        for row in &self.rows {
            for problem in &row.problems {
                writeln!(f, "  INVALID: {}: {problem}", row.name)?;
            }
        }
        for row in self.missed() {
            writeln!(f, "  bar missed: {} ({})", row.name, row.bars_text())?;
        }
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples(values.to_vec())
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        let rounds = samples(&[5.0, 1.0, 3.0]);
        assert_eq!(
            (rounds.median(), rounds.min(), rounds.max()),
            (3.0, 1.0, 5.0)
        );
        assert!(Samples::default().median().is_nan());
    }

    #[test]
    fn a_round_without_a_figure_does_not_count() {
        let mut rounds = samples(&[5.0]);
        rounds.skip_to(2);
        rounds.push(1.0);
        rounds.skip_to(3);
        assert_eq!((rounds.min(), rounds.max()), (1.0, 5.0));
        let ratio = samples(&[10.0, 7.0, 8.0]).relative_to(&rounds);
        assert_eq!((ratio.min(), ratio.max()), (2.0, 8.0));
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        let ratio = samples(&[10.0, 40.0]).relative_to(&samples(&[5.0, 10.0]));
        assert_eq!(ratio, samples(&[2.0, 4.0]));
    }

    #[test]
    fn a_bar_is_met_missed_or_not_answered() {
        let mut row = Row {
            samples: samples(&[8.0]),
            ratios: vec![("nft", samples(&[5.0]))],
            bars: vec![Bar::AtLeast(Measure::Value, 7.5)],
            ..Row::default()
        };
        assert_eq!(row.is_met(), Some(true));
        row.bars.push(Bar::AtLeast(Measure::Ratio("nft"), 6.0));
        assert_eq!(row.is_met(), Some(false));
        row.problems
            .push("half of the packets were lost".to_owned());
        assert_eq!(row.is_met(), None);
        row.problems.clear();
        row.bars = vec![Bar::AtLeast(Measure::Ratio("katran"), 1.0)];
        assert_eq!(
            row.is_met(),
            Some(false),
            "what was not measured is not met"
        );
    }
}
