//! The page of metrics as text: Prometheus' text exposition format, version 0.0.4.
//!
//! Written by hand: the format is a line a number, and what is counted is counted elsewhere.

use std::fmt::{Display, Write as _};

use super::names::{Family, Shape};
use crate::metrics::Distribution;

/// What the page is, as HTTP says it.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page that is being written.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// Begins a family. All of its series follow before the next.
    pub(super) fn family(&mut self, family: &'static Family) -> Series<'_> {
        let Family { name, shape, help, .. } = family;
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {}\n", shape.as_str()));
        Series { text: &mut self.text, family }
    }

    /// A family of one series without labels.
    pub(super) fn one(&mut self, family: &'static Family, value: impl Display) {
        self.family(family).put(&[], value);
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// The series of one family.
#[derive(Debug)]
pub(super) struct Series<'a> {
    text: &'a mut String,
    family: &'static Family,
}

impl Series<'_> {
    /// A series, with the values of its labels in the family's order; those that are empty are left
    /// out.
    pub(super) fn put(&mut self, labels: &[&str], value: impl Display) {
        self.line("", labels, None, value);
    }

    /// A histogram, of which so many make one.
    pub(super) fn spread(&mut self, labels: &[&str], distribution: &Distribution, per_one: f64) {
        debug_assert_eq!(self.family.shape, Shape::Histogram);
        let mut upto = 0;
        for (bound, bucket) in distribution.bounds.iter().zip(&distribution.buckets) {
            upto += bucket;
            let bound = (*bound as f64 / per_one).to_string();
            self.line("_bucket", labels, Some(&bound), upto);
        }
        let count = distribution.count();
        self.line("_bucket", labels, Some("+Inf"), count);
        self.line("_sum", labels, None, distribution.sum as f64 / per_one);
        self.line("_count", labels, None, count);
    }

    fn line(&mut self, suffix: &str, labels: &[&str], le: Option<&str>, value: impl Display) {
        debug_assert_eq!(labels.len(), self.family.labels.len());
        self.text.push_str(self.family.name);
        self.text.push_str(suffix);
        let named = self.family.labels.iter().zip(labels).filter(|(_, value)| !value.is_empty());
        let mut mark = '{';
        for (name, value) in
            named.map(|(name, value)| (*name, *value)).chain(le.map(|le| ("le", le)))
        {
            self.text.push(mark);
            self.text.push_str(name);
            self.text.push_str("=\"");
            for character in value.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
            mark = ',';
        }
        if mark == ',' {
            self.text.push('}');
        }
        // Writing to a string does not fail.
        let _ = writeln!(self.text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_histograms_are_cumulative() {
        const FAMILY: &Family =
            &Family { name: "n", shape: Shape::Histogram, labels: &["a", "b"], help: "it \\ is" };
        let mut page = Page::default();
        let mut series = page.family(FAMILY);
        series.put(&["x\\\"\ny", ""], 1.5);
        let distribution = Distribution { bounds: &[5, 10], buckets: vec![1, 0, 2], sum: 40 };
        series.spread(&["", "z"], &distribution, 10.0);
        assert_eq!(
            page.into_text(),
            "# HELP n it \\\\ is\n# TYPE n histogram\n\
             n{a=\"x\\\\\\\"\\ny\"} 1.5\n\
             n_bucket{b=\"z\",le=\"0.5\"} 1\n\
             n_bucket{b=\"z\",le=\"1\"} 1\n\
             n_bucket{b=\"z\",le=\"+Inf\"} 3\n\
             n_sum{b=\"z\"} 4\n\
             n_count{b=\"z\"} 3\n"
        );
    }
}
