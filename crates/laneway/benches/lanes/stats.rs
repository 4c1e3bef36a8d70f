//! Figures of several runs, and how they are shown.

use std::collections::BTreeMap;

use crate::Failure;

/// What a child measured, by name.
pub(crate) type Figures = BTreeMap<String, f64>;

/// The figures of the runs of one client.
#[derive(Default)]
pub(crate) struct Runs(Vec<Figures>);

impl Runs {
    pub(crate) fn push(&mut self, figures: Figures) {
        self.0.push(figures);
    }

    /// The median of one figure.
    pub(crate) fn median(&self, name: &str) -> Result<f64, Failure> {
        let mut values: Vec<f64> = self.0.iter().filter_map(|figures| figures.get(name).copied()).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len().checked_sub(1).ok_or_else(|| format!("no run measured {name}"))? / 2;
        // Of an even number the mean of both in the middle.
        Ok(if values.len() % 2 == 1 { values[middle] } else { (values[middle] + values[middle + 1]) / 2.0 })
    }

    /// The smallest and the largest of one figure.
    pub(crate) fn range(&self, name: &str) -> (f64, f64) {
        let values = self.0.iter().filter_map(|figures| figures.get(name).copied());
        values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    }
}

/// A number with commas between thousands.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// Millions, with two digits behind the point.
pub(crate) fn millions(number: f64) -> String {
    format!("{:.2} M", number / 1e6)
}

/// So many runs, in words.
pub(crate) fn times(runs: usize) -> String {
    if runs == 1 { "one run".into() } else { format!("{runs} runs") }
}

/// How a target was met.
pub(crate) fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}

/// A child's figures, for the terminal.
pub(crate) fn line(figures: &Figures) -> String {
    let shown = figures.iter().map(|(name, value)| format!("{name} {}", thousands(value.round() as u64)));
    shown.collect::<Vec<_>>().join(", ")
}
