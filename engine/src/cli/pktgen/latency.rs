//! Latencies: an HDR histogram, its percentiles, its file.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longest that is told apart, in nanoseconds: a minute. Longer ones count as that.
const LONGEST_NS: u64 = 60_000_000_000;
/// Told to a thousandth.
const DIGITS: u8 = 3;
/// Steps to each halving of the distance to 100 %, in the file: as HdrHistogram's own tools have them.
const TICKS: u32 = 5;
/// What is told to people and machines.
const PERCENTILES: [(&str, f64); 6] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("p99.99", 99.99), ("max", 100.0)];

/// How long something took, each time. Fixed memory, about 0.2 MB.
#[derive(Clone, Debug)]
pub(super) struct Latency(Histogram<u64>);

impl Latency {
    pub(super) fn new() -> Latency {
        Latency(Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("constant bounds"))
    }

    /// So long, `count` times.
    #[inline]
    pub(super) fn record(&mut self, ns: u64, count: u64) {
        self.0.saturating_record_n(ns, count);
    }

    pub(super) fn add(&mut self, other: &Latency) {
        // Of the same bounds.
        let _ = self.0.add(&other.0);
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// `p50 1.2 us  p90 ...`
    pub(super) fn text(&self) -> String {
        let one = |(name, percentile)| format!("{name} {}", time(self.0.value_at_percentile(percentile)));
        PERCENTILES.map(one).join("  ")
    }

    /// In nanoseconds.
    pub(super) fn json(&self) -> Value {
        let mut value = json!({"count": self.count(), "mean_ns": self.0.mean()});
        for (name, percentile) in PERCENTILES {
            value[format!("{name}_ns")] = self.0.value_at_percentile(percentile).into();
        }
        value
    }

    /// Writes it as HdrHistogram's percentile distribution (`.hgrm`), in microseconds.
    pub(super) fn write_hgrm(&self, file: &File) -> io::Result<()> {
        let mut file = BufWriter::new(file);
        self.write_to(&mut file)?;
        file.flush()
    }

    fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        let us = |ns: f64| ns / 1000.0;
        writeln!(to, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
        let mut total = 0;
        for step in self.0.iter_quantiles(TICKS) {
            total += step.count_since_last_iteration();
            let (value, quantile) = (us(step.value_iterated_to() as f64), step.quantile_iterated_to());
            if quantile < 1.0 {
                writeln!(to, "{value:12.3} {quantile:2.12} {total:10} {:14.2}", 1.0 / (1.0 - quantile))?;
            } else {
                writeln!(to, "{value:12.3} {quantile:2.12} {total:10}")?;
            }
        }
        let (mean, deviation, max) = (us(self.0.mean()), us(self.0.stdev()), us(self.0.max() as f64));
        writeln!(to, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]")?;
        writeln!(to, "#[Max     = {max:12.3}, Total count    = {:12}]", self.count())?;
        writeln!(to, "#[Buckets = {:12}, SubBuckets     = {:12}]", self.0.buckets(), 2048)?;
        writeln!(to, "# microseconds")
    }
}

/// Nanoseconds as people say them.
pub(super) fn time(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_file_agree() {
        let mut latency = Latency::new();
        for us in 1..=1000 {
            latency.record(us * 1000, 1);
        }
        latency.record(u64::MAX, 1);
        assert_eq!(latency.count(), 1001);
        let json = latency.json();
        let near = |name: &str, us: f64| (json[name].as_f64().unwrap() / 1000.0 / us - 1.0).abs() < 0.002;
        assert!(near("p50_ns", 501.0) && near("p99_ns", 991.0) && near("max_ns", 60e6), "{json}");
        let mut file = Vec::new();
        latency.write_to(&mut file).unwrap();
        let text = String::from_utf8(file).unwrap();
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|number| number.parse().unwrap()).collect())
            .collect();
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]), "{text}");
        let median = rows.iter().find(|row| row[1] == 0.5).unwrap();
        assert!((median[0] - 501.0).abs() < 1.0 && median[2] == 501.0 && median[3] == 2.0, "{median:?}");
        assert_eq!(rows.last().unwrap()[1..], [1.0, 1001.0]);
        assert!(text.contains("Total count    =         1001]"), "{text}");
    }

    #[test]
    fn times_have_their_unit() {
        assert_eq!(
            [time(7), time(1_234), time(5_600_000), time(2_000_000_000)],
            ["7 ns", "1.2 us", "5.60 ms", "2.00 s"]
        );
    }
}
