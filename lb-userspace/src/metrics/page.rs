//! Samples as text, in Prometheus' format 0.0.4.
//!
//! Written by hand: encoders of libraries took 2 µs a line, and ten thousand backends have 200,000.

use std::fmt::{Display, Write as _};

use super::{
    check_times::Histogram,
    families::{Family, Kind},
};

/// What is written so far. Writing to a String cannot fail.
pub(super) struct Page(String);

impl Page {
    /// With room for so many backends.
    pub(super) fn new(backends: usize) -> Self {
        Self(String::with_capacity(16_384 + backends * 2048))
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }

    /// Numbers that only grow, each with the values of the family's labels.
    pub(super) fn counters<'a, const N: usize>(
        &mut self,
        family: Family,
        samples: impl IntoIterator<Item = ([&'a str; N], u64)>,
    ) {
        debug_assert_eq!(family.kind, Kind::Counter);
        self.family(family, samples, |page, labels, value| {
            page.sample(family.name, "", labels, "", value);
        });
    }

    /// Numbers that go up and down.
    pub(super) fn gauges<'a, const N: usize>(
        &mut self,
        family: Family,
        samples: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) {
        debug_assert_eq!(family.kind, Kind::Gauge);
        self.family(family, samples, |page, labels, value| {
            page.sample(family.name, "", labels, "", value);
        });
    }

    /// How often something took how long.
    pub(super) fn histograms<'a, const N: usize>(
        &mut self,
        family: Family,
        samples: impl IntoIterator<Item = ([&'a str; N], &'a Histogram)>,
    ) {
        debug_assert_eq!(family.kind, Kind::Histogram);
        self.family(family, samples, |page, labels, value| {
            let buckets = value.cumulative();
            page.buckets(family, labels, buckets, (value.count(), value.sum()));
        });
    }

    /// The same of what was counted elsewhere: how many took no longer than so many seconds, how
    /// many there were, and seconds of all together.
    pub(super) fn durations<'a, const N: usize>(
        &mut self,
        family: Family,
        samples: impl IntoIterator<Item = ([&'a str; N], (&'a [(f64, u64)], u64, f64))>,
    ) {
        debug_assert_eq!(family.kind, Kind::Histogram);
        self.family(
            family,
            samples,
            |page, labels, (buckets, count, seconds)| {
                let buckets = buckets.iter().copied();
                page.buckets(family, labels, buckets, (count, seconds));
            },
        );
    }

    fn buckets(
        &mut self,
        family: Family,
        labels: &str,
        buckets: impl Iterator<Item = (f64, u64)>,
        (count, sum): (u64, f64),
    ) {
        let mut end = String::new();
        for (bound, count) in buckets {
            end.clear();
            let _ = write!(end, "le=\"{bound}\"");
            self.sample(family.name, "_bucket", labels, &end, count);
        }
        self.sample(family.name, "_bucket", labels, "le=\"+Inf\"", count);
        self.sample(family.name, "_sum", labels, "", sum);
        self.sample(family.name, "_count", labels, "", count);
    }

    /// The head of a family, if there are samples, and each with its labels as they are written.
    fn family<'a, Value, const N: usize>(
        &mut self,
        family: Family,
        samples: impl IntoIterator<Item = ([&'a str; N], Value)>,
        mut write: impl FnMut(&mut Self, &str, Value),
    ) {
        debug_assert_eq!(family.labels.len(), N);
        let mut labels = String::new();
        for (index, (values, value)) in samples.into_iter().enumerate() {
            if index == 0 {
                let Family {
                    name, kind, help, ..
                } = family;
                let kind = kind.word();
                let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            }
            labels.clear();
            for (name, value) in family.labels.iter().zip(values) {
                let comma = if labels.is_empty() { "" } else { "," };
                let _ = write!(labels, "{comma}{name}=\"");
                escape(value, &mut labels);
                labels.push('"');
            }
            write(self, &labels, value);
        }
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &str, more: &str, value: impl Display) {
        let text = &mut self.0;
        text.push_str(name);
        text.push_str(suffix);
        if !labels.is_empty() || !more.is_empty() {
            text.push('{');
            text.push_str(labels);
            if !labels.is_empty() && !more.is_empty() {
                text.push(',');
            }
            text.push_str(more);
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

/// As the format asks for in values of labels.
fn escape(value: &str, to: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => to.push_str("\\\\"),
            '"' => to.push_str("\\\""),
            '\n' => to.push_str("\\n"),
            other => to.push(other),
        }
    }
}
