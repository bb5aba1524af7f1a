//! Shapes: C order, up to eight axes, checked against overflow when made.

use std::fmt;

use crate::{ErrorCode, Failure, limits};

/// Extents of an array, outermost first. No axes means one element.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: Vec<u64>,
    elems: u64,
}

impl Shape {
    /// Checks the extents.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ShapeOverflow`] when there are more than 8 axes or the elements do not count in 50 bits.
    pub fn new(dims: &[u64]) -> Result<Self, Failure> {
        let refuse = |why: String| Err(Failure::new(ErrorCode::ShapeOverflow, why));
        if dims.len() > limits::DIMS_MAX {
            return refuse(format!(
                "{} axes, at most {} are possible",
                dims.len(),
                limits::DIMS_MAX
            ));
        }
        // An empty axis makes the array empty, whatever the others say, but they still have to be countable.
        let countable = dims
            .iter()
            .filter(|dim| **dim > 0)
            .try_fold(1u64, |product, dim| product.checked_mul(*dim));
        match countable.filter(|elems| *elems <= limits::ARRAY_BYTES_MAX) {
            Some(elems) => {
                Ok(Self { dims: dims.to_vec(), elems: if dims.contains(&0) { 0 } else { elems } })
            }
            None => refuse(format!("shape {} has more than 2^50 elements", Dims(dims))),
        }
    }

    /// Reads `100,200`, `(100, 200)`, `100x200` or `100000000`; `_` may group digits.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`] or [`ErrorCode::ShapeOverflow`].
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let inner = text.trim().trim_start_matches(['(', '[']).trim_end_matches([')', ']']).trim();
        let inner = inner.strip_suffix(',').unwrap_or(inner);
        if inner.is_empty() {
            return Self::new(&[]);
        }
        let dims: Result<Vec<u64>, _> =
            inner.split([',', 'x']).map(|dim| dim.trim().replace('_', "").parse::<u64>()).collect();
        let dims = dims.map_err(|source| {
            Failure::new(ErrorCode::InvalidArgument, format!("{text:?} is no shape: {source}"))
                .help("write extents parted by commas, such as 1000,1000")
        })?;
        Self::new(&dims)
    }

    /// The extents, outermost first.
    pub fn dims(&self) -> &[u64] {
        &self.dims
    }

    /// Product of the extents.
    pub fn elems(&self) -> u64 {
        self.elems
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Dims(&self.dims), f)
    }
}

struct Dims<'a>(&'a [u64]);

impl fmt::Display for Dims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<_> = self.0.iter().map(u64::to_string).collect();
        let comma = if dims.len() == 1 { "," } else { "" };
        write!(f, "({}{comma})", dims.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_counted_or_refused() {
        assert_eq!(Shape::new(&[]).unwrap().elems(), 1);
        assert_eq!(Shape::new(&[3, 0]).unwrap().elems(), 0);
        assert_eq!(Shape::parse("(1_000, 200)").unwrap().dims(), [1000, 200]);
        assert_eq!(Shape::parse("7").unwrap().to_string(), "(7,)");
        for bad in [&[u64::MAX, 2][..], &[1 << 51], &[1; 9], &[0, u64::MAX, u64::MAX]] {
            assert_eq!(Shape::new(bad).unwrap_err().code, ErrorCode::ShapeOverflow, "{bad:?}");
        }
        for bad in ["a", "1,,2", "-3", "1.5"] {
            assert_eq!(Shape::parse(bad).unwrap_err().code, ErrorCode::InvalidArgument, "{bad:?}");
        }
    }
}
