//! Rows of the benchmark's table, and the same as JSON.

use serde::Serialize;

/// One workload.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) workload: String,
    /// Our figure.
    pub(crate) ours: f64,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// Whether more is better.
    pub(crate) more_is_better: bool,
    /// What it is compared with, measured in the same run.
    pub(crate) reference: &'static str,
    /// The reference's figure, in the same unit; 0 where there is none.
    pub(crate) reference_value: f64,
    /// The target of this stage; 0 where there is none.
    pub(crate) target: f64,
}

impl Row {
    /// Our figure over the reference's, turned so that more is always better; `None` without a reference.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let (ours, reference) = if self.more_is_better {
            (self.ours, self.reference_value)
        } else {
            (self.reference_value, self.ours)
        };
        (self.reference_value > 0.0 && reference > 0.0).then(|| ours / reference)
    }

    /// Whether the target is met; `None` without one.
    pub(crate) fn on_target(&self) -> Option<bool> {
        let met =
            if self.more_is_better { self.ours >= self.target } else { self.ours <= self.target };
        (self.target > 0.0).then_some(met)
    }
}

/// The table for people.
pub(crate) fn table(rows: &[Row]) -> String {
    let header = ["workload", "ours", "unit", "reference", "its figure", "ratio", "target", "met"]
        .map(str::to_owned);
    let cells = rows.iter().map(|row| {
        [
            row.workload.clone(),
            figure(row.ours),
            row.unit.to_owned(),
            row.reference.to_owned(),
            if row.reference_value > 0.0 { figure(row.reference_value) } else { String::new() },
            row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            if row.target > 0.0 { figure(row.target) } else { String::new() },
            row.on_target().map_or("", |met| if met { "yes" } else { "no" }).to_owned(),
        ]
    });
    let lines: Vec<[String; 8]> = std::iter::once(header).chain(cells).collect();
    let widths: [usize; 8] = std::array::from_fn(|column| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
    });
    let render = |line: &[String; 8]| {
        let cells =
            line.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
                1 | 4 | 5 | 6 => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(render).collect::<Vec<_>>().join("\n")
}

fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 10_000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_turned_so_that_more_is_better() {
        let mut row = Row {
            workload: "read".into(),
            ours: 2.0,
            unit: "GB/s",
            more_is_better: true,
            reference: "TCP",
            reference_value: 4.0,
            target: 3.0,
        };
        assert_eq!(row.ratio(), Some(0.5));
        assert_eq!(row.on_target(), Some(false));
        row.more_is_better = false;
        assert_eq!(row.ratio(), Some(2.0));
        assert_eq!(row.on_target(), Some(true));
        assert!(table(&[row]).contains("TCP"));
    }
}
