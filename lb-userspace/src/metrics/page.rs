//! Samples as text.

use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{check_times, families::Family};

/// What is written so far.
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
        self.write(family, MetricType::COUNTER, samples, |metric, value| {
            let mut counter = Counter::default();
            counter.set_value(value as f64);
            metric.set_counter(counter);
        });
    }

    /// Numbers that go up and down.
    pub(super) fn gauges<'a, const N: usize>(
        &mut self,
        family: Family,
        samples: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) {
        self.write(family, MetricType::GAUGE, samples, |metric, value| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        });
    }

    /// How often something took how long.
    pub(super) fn histograms<'a, const N: usize>(
        &mut self,
        family: Family,
        samples: impl IntoIterator<Item = ([&'a str; N], &'a check_times::Histogram)>,
    ) {
        self.write(family, MetricType::HISTOGRAM, samples, |metric, value| {
            let mut histogram = Histogram::default();
            histogram.set_sample_count(value.count());
            histogram.set_sample_sum(value.sum());
            let bucket = |(end, count)| {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(end);
                bucket.set_cumulative_count(count);
                bucket
            };
            histogram.set_bucket(value.cumulative().map(bucket).collect());
            metric.set_histogram(histogram);
        });
    }

    /// One family at a time, so that only one is in memory twice.
    fn write<'a, Value, const N: usize>(
        &mut self,
        family: Family,
        kind: MetricType,
        samples: impl IntoIterator<Item = ([&'a str; N], Value)>,
        set: impl Fn(&mut Metric, Value),
    ) {
        debug_assert_eq!((family.kind, family.labels.len()), (kind, N));
        let metrics: Vec<Metric> = samples
            .into_iter()
            .map(|(values, value)| {
                let pairs = family.labels.iter().zip(values);
                let labels = pairs.map(|(name, value)| {
                    let mut pair = LabelPair::default();
                    pair.set_name((*name).to_owned());
                    pair.set_value(value.to_owned());
                    pair
                });
                let mut metric = Metric::from_label(labels.collect());
                set(&mut metric, value);
                metric
            })
            .collect();
        if metrics.is_empty() {
            return;
        }
        let mut written = MetricFamily::default();
        written.set_name(family.name.to_owned());
        written.set_help(family.help.to_owned());
        written.set_field_type(family.kind);
        written.set_metric(metrics);
        // It fails for families without a name or without metrics.
        let _ = TextEncoder::new().encode_utf8(&[written], &mut self.0);
    }
}
