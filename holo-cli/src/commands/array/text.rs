//! Arrays as text in NumPy's manner: nested brackets, and only the edges of what is long.

use std::ops::Range;

use holo_core::Scalar;

/// Selections up to this many elements are shown whole.
const WHOLE_MAX: u64 = 1000;
/// Columns of a line.
const COLUMNS: usize = 88;

/// Which part of a selection is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    axes: Vec<Axis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    len: u64,
    /// Indexes shown at either end; `None` shows all.
    edge: Option<u64>,
}

impl Excerpt {
    /// Shows all of a small selection, and the edges of a large one: 3 indexes at either end of a long axis, fewer when
    /// there are many axes.
    pub(super) fn of(dims: &[u64]) -> Self {
        let elems = dims.iter().fold(1u64, |product, dim| product.saturating_mul(*dim));
        let edge = match dims.len() {
            0..=3 => 3,
            4 => 2,
            _ => 1,
        };
        let axes = dims.iter().map(|len| {
            let cut = elems > WHOLE_MAX && *len > 2 * edge;
            Axis { len: *len, edge: cut.then_some(edge) }
        });
        Self { axes: axes.collect() }
    }

    /// Positions of the shown elements within the packed C-order selection, ascending.
    pub(super) fn positions(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = std::iter::once(0..1).collect();
        let mut stride = 1u64;
        // From the innermost axis outwards, each axis repeats what is inside it.
        for axis in self.axes.iter().rev() {
            let outer: Vec<u64> = axis.shown().flatten().collect();
            ranges = outer
                .iter()
                .flat_map(|index| {
                    let shift = index * stride;
                    ranges
                        .iter()
                        .map(move |range| range.start + shift..range.end + shift)
                        .collect::<Vec<_>>()
                })
                .collect();
            ranges = joined(ranges);
            stride = stride.saturating_mul(axis.len);
        }
        ranges
    }

    /// The text; `values` are the elements of [`Self::positions`], in that order.
    pub(super) fn render(&self, values: &[Scalar]) -> String {
        let words: Vec<String> = values.iter().map(ToString::to_string).collect();
        let width = words.iter().map(String::len).max().unwrap_or(0);
        let mut words = words.iter().map(|word| format!("{word:>width$}"));
        let mut text = String::new();
        self.render_axis(0, &mut words, &mut text);
        text
    }

    fn render_axis(
        &self,
        depth: usize,
        words: &mut dyn Iterator<Item = String>,
        text: &mut String,
    ) {
        let Some(axis) = self.axes.get(depth) else {
            text.push_str(&words.next().unwrap_or_default());
            return;
        };
        text.push('[');
        if depth + 1 == self.axes.len() {
            render_row(*axis, depth + 1, words, text);
        } else {
            let between =
                format!("{}{}", "\n".repeat(self.axes.len() - depth - 1), " ".repeat(depth + 1));
            for (part, range) in axis.shown().enumerate() {
                if part > 0 {
                    text.push_str(&between);
                    text.push_str("...");
                }
                for index in range {
                    if index > 0 {
                        text.push_str(&between);
                    }
                    self.render_axis(depth + 1, words, text);
                }
            }
        }
        text.push(']');
    }
}

impl Axis {
    fn shown(self) -> impl Iterator<Item = Range<u64>> {
        let (head, tail) = match self.edge {
            None => (0..self.len, None),
            Some(edge) => (0..edge, Some(self.len - edge..self.len)),
        };
        std::iter::once(head).chain(tail)
    }
}

/// One innermost row, broken where a line is full.
fn render_row(
    axis: Axis,
    indent: usize,
    words: &mut dyn Iterator<Item = String>,
    text: &mut String,
) {
    let mut column = indent;
    let mut put = |word: &str, text: &mut String| {
        if column > indent && column + 1 + word.len() > COLUMNS {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            column = indent;
        } else if column > indent {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    };
    for (part, range) in axis.shown().enumerate() {
        if part > 0 {
            put("...", text);
        }
        for _ in range {
            put(&words.next().unwrap_or_default(), text);
        }
    }
}

/// Neighbouring ranges become one.
fn joined(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut result: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match result.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => result.push(range),
        }
    }
    result
}

/// Flat elements of the array behind ascending positions of a packed selection, which is made of `runs` of
/// `(first element, elements)`.
pub(super) fn flat_ranges(
    positions: &[Range<u64>],
    runs: impl Iterator<Item = (u64, u64)>,
) -> Vec<Range<u64>> {
    let mut flat = Vec::new();
    let mut wanted = positions.iter().cloned();
    let Some(mut range) = wanted.next() else { return flat };
    let mut before = 0;
    for (first, elems) in runs {
        let end = before + elems;
        while range.start < end {
            let upto = range.end.min(end);
            flat.push(first + (range.start - before)..first + (upto - before));
            range.start = upto;
            if range.start == range.end {
                match wanted.next() {
                    Some(next) => range = next,
                    None => return joined(flat),
                }
            }
        }
        before = end;
    }
    joined(flat)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(dims: &[u64]) -> String {
        let excerpt = Excerpt::of(dims);
        let values: Vec<Scalar> = excerpt
            .positions()
            .into_iter()
            .flatten()
            .map(|position| Scalar::i64(i64::try_from(position).unwrap()))
            .collect();
        excerpt.render(&values)
    }

    #[test]
    fn small_arrays_are_shown_whole() {
        assert_eq!(show(&[]), "0");
        assert_eq!(show(&[0]), "[]");
        assert_eq!(show(&[3]), "[0 1 2]");
        assert_eq!(show(&[2, 3]), "[[0 1 2]\n [3 4 5]]");
        assert_eq!(show(&[2, 1, 2]), "[[[0 1]]\n\n [[2 3]]]");
        assert_eq!(show(&[2, 0]), "[[]\n []]");
    }

    #[test]
    fn long_axes_show_their_edges() {
        assert_eq!(show(&[5000]), "[   0    1    2 ... 4997 4998 4999]");
        assert_eq!(
            show(&[600, 2]),
            "[[   0    1]\n [   2    3]\n [   4    5]\n ...\n [1194 1195]\n [1196 1197]\n [1198 1199]]"
        );
    }

    #[test]
    fn long_rows_are_broken() {
        let text = show(&[1000]);
        assert!(text.lines().all(|line| line.len() <= COLUMNS + 1), "{text}");
        assert_eq!(text.split_whitespace().count(), 1000 + usize::from(text.starts_with("[ ")));
    }

    #[test]
    fn positions_of_many_axes_stay_few() {
        let positions = Excerpt::of(&[10; 8]).positions();
        assert!(positions.len() <= 256, "{}", positions.len());
        assert_eq!(positions.first(), Some(&(0..1)));
        assert_eq!(positions.last(), Some(&(99_999_999..100_000_000)));
    }

    #[test]
    fn positions_lead_to_elements_through_runs() {
        // A selection of the elements 10, 11, 20, 21, 30, 31.
        let runs = [(10, 2), (20, 2), (30, 2)];
        let flat = |positions: &[Range<u64>]| flat_ranges(positions, runs.into_iter());
        assert_eq!(flat(&[0..4, 4..6]), [10..12, 20..22, 30..32]);
        assert_eq!(flat(&[1..3, 5..6]), [11..12, 20..21, 31..32]);
        assert_eq!(flat(&[]), Vec::<Range<u64>>::new());
    }
}
