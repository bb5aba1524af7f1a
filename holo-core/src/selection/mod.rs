//! Slices of n-d arrays as runs of flat C-order elements.
//!
//! NumPy's basic indexing with positive steps: an integer drops its axis, a slice keeps it, `...` stands for the axes
//! that are not named, and missing ones at the end are taken whole. Ends of slices clamp to the axis; an integer
//! outside of it is an error.

mod text;

use crate::{ErrorCode, Failure, Shape, limits};

/// One axis of a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AxisIndex {
    /// One index; the axis disappears from the result. Negative ones count from the end.
    At(i64),
    /// A range; the axis stays.
    Slice(Slice),
    /// All axes that the other indexes leave over; at most once.
    Ellipsis,
}

/// NumPy's `start:stop:step` with a positive step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// First index, from the end when negative; the first of the axis when it is not given.
    pub start: Option<i64>,
    /// Index behind the last, from the end when negative; the end of the axis when it is not given.
    pub stop: Option<i64>,
    /// Distance of the indexes, at least 1.
    pub step: u64,
}

impl Slice {
    /// The whole axis.
    pub const ALL: Self = Self { start: None, stop: None, step: 1 };

    /// `start..stop`, one by one.
    pub fn range(start: i64, stop: i64) -> Self {
        Self { start: Some(start), stop: Some(stop), step: 1 }
    }
}

/// Elements of an array, picked axis by axis.
///
/// # Invariants
///
/// Every flat index that [`Self::runs`] gives is below the number of elements of the shape it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    shape: Shape,
    axes: Vec<Axis>,
}

/// The indexes `start, start + step, ...` of one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    start: u64,
    count: u64,
    step: u64,
    /// Elements between neighbours on this axis.
    stride: u64,
    /// Extent of the axis in the array.
    extent: u64,
}

impl Selection {
    /// All elements of an array.
    pub fn all(shape: &Shape) -> Self {
        let axes = resolve(&[], shape).unwrap_or_default();
        Self { shape: shape.clone(), axes }
    }

    /// Resolves indexes against the shape of an array.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`] for a step of 0, more indexes than axes or two ellipses,
    /// [`ErrorCode::OutOfRange`] for an integer outside its axis.
    pub fn new(indexes: &[AxisIndex], shape: &Shape) -> Result<Self, Failure> {
        let full = expand(indexes, shape)?;
        let axes = resolve(&full, shape)?;
        let dims: Vec<u64> = full
            .iter()
            .zip(&axes)
            .filter(|(index, _)| !matches!(index, AxisIndex::At(_)))
            .map(|(_, axis)| axis.count)
            .collect();
        Ok(Self { shape: Shape::new(&dims)?, axes })
    }

    /// Reads `[0:10, ::2, 3]`; the brackets may be left away, and nothing at all is the whole array.
    ///
    /// # Errors
    ///
    /// As [`Self::new`]; [`ErrorCode::InvalidArgument`] with the part that cannot be read.
    pub fn parse(text: &str, shape: &Shape) -> Result<Self, Failure> {
        Self::new(&text::parse(text)?, shape)
    }

    /// Shape of the result: the extents of the axes that are sliced.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Elements of the result.
    pub fn elems(&self) -> u64 {
        self.shape.elems()
    }

    /// The picked elements in C order of the result as flat runs `(first element, elements)`, each as long as can be.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let mut pieces = Pieces::new(&self.axes);
        let mut pending = pieces.next();
        std::iter::from_fn(move || {
            let (start, mut count) = pending?;
            loop {
                pending = pieces.next();
                match pending {
                    Some((next, more)) if next == start + count => count += more,
                    _ => return Some((start, count)),
                }
            }
        })
    }
}

/// Runs along the innermost axes, before neighbours are joined.
struct Pieces {
    /// The axes outside of a piece, with the position on each.
    outer: Vec<(Axis, u64)>,
    /// Flat index of the next piece less what the outer axes add.
    base: u64,
    len: u64,
    done: bool,
}

impl Pieces {
    fn new(axes: &[Axis]) -> Self {
        let mut outer: Vec<(Axis, u64)> = axes.iter().map(|axis| (*axis, 0)).collect();
        let done = axes.iter().any(|axis| axis.count == 0);
        let (mut len, mut base) = (1, 0);
        // Whole axes at the inner end belong to one piece, and one more axis that is taken one by one.
        while let Some((axis, _)) = outer.last().copied() {
            if axis.step != 1 && axis.count > 1 {
                break;
            }
            outer.pop();
            base += axis.start * axis.stride;
            len *= axis.count;
            if axis.count != axis.extent {
                break;
            }
        }
        Self { outer, base, len, done }
    }
}

impl Iterator for Pieces {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        if self.done {
            return None;
        }
        let offsets =
            self.outer.iter().map(|(axis, at)| (axis.start + at * axis.step) * axis.stride);
        let start = self.base + offsets.sum::<u64>();
        self.done = true;
        for (axis, at) in self.outer.iter_mut().rev() {
            *at += 1;
            if *at < axis.count {
                self.done = false;
                break;
            }
            *at = 0;
        }
        Some((start, self.len))
    }
}

/// One index per axis: the ellipsis, or the end, filled with whole axes.
fn expand(indexes: &[AxisIndex], shape: &Shape) -> Result<Vec<AxisIndex>, Failure> {
    let refuse = |why: String| Err(Failure::new(ErrorCode::InvalidArgument, why));
    let axes = shape.dims().len();
    let ellipses = indexes.iter().filter(|index| **index == AxisIndex::Ellipsis).count();
    if ellipses > 1 {
        return refuse("only one ... may be in an index".to_owned());
    }
    let named = indexes.len() - ellipses;
    if named > axes || indexes.len() > limits::DIMS_MAX + 1 {
        let plural = if axes == 1 { "axis" } else { "axes" };
        return refuse(format!("{named} indexes into {axes} {plural} of shape {shape}"));
    }
    let fill = vec![AxisIndex::Slice(Slice::ALL); axes - named];
    let at = indexes.iter().position(|index| *index == AxisIndex::Ellipsis);
    let (before, after) = match at {
        Some(at) => (&indexes[..at], &indexes[at + 1..]),
        None => (indexes, &[][..]),
    };
    Ok([before, &fill, after].concat())
}

/// What each index means on its axis; missing ones mean all of it.
fn resolve(indexes: &[AxisIndex], shape: &Shape) -> Result<Vec<Axis>, Failure> {
    let mut stride = 1u64;
    let mut axes = Vec::with_capacity(shape.dims().len());
    for (axis, extent) in shape.dims().iter().copied().enumerate().rev() {
        let index = indexes.get(axis).copied().unwrap_or(AxisIndex::Slice(Slice::ALL));
        let (start, count, step) = match index {
            AxisIndex::At(at) => (resolve_integer(at, extent, axis)?, 1, 1),
            AxisIndex::Slice(slice) => resolve_slice(slice, extent)?,
            AxisIndex::Ellipsis => (0, extent, 1),
        };
        axes.push(Axis { start, count, step, stride, extent });
        // An empty axis makes every product above it 0, and nothing is picked.
        stride = stride.saturating_mul(extent);
    }
    axes.reverse();
    if axes.iter().any(|axis| axis.count == 0) {
        // No flat index is ever computed then, so none can leave the array.
        for axis in &mut axes {
            axis.stride = 0;
        }
    }
    Ok(axes)
}

fn resolve_integer(at: i64, extent: u64, axis: usize) -> Result<u64, Failure> {
    let resolved = if at < 0 {
        extent.checked_sub(at.unsigned_abs())
    } else {
        Some(at.unsigned_abs()).filter(|at| *at < extent)
    };
    resolved.ok_or_else(|| {
        let message = format!("index {at} on axis {axis} of {extent} elements");
        Failure::new(ErrorCode::OutOfRange, message).help(match extent.checked_sub(1) {
            Some(last) => format!("ask for 0 to {last}, or for -{extent} to -1 from the end"),
            None => "the axis has no elements".to_owned(),
        })
    })
}

fn resolve_slice(slice: Slice, extent: u64) -> Result<(u64, u64, u64), Failure> {
    if slice.step == 0 {
        return Err(Failure::new(ErrorCode::InvalidArgument, "a slice with step 0"));
    }
    let clamp = |end: i64| {
        if end < 0 {
            extent.saturating_sub(end.unsigned_abs())
        } else {
            extent.min(end.unsigned_abs())
        }
    };
    let start = slice.start.map_or(0, clamp);
    let stop = slice.stop.map_or(extent, clamp);
    let count = stop.saturating_sub(start).div_ceil(slice.step);
    Ok((start, count, slice.step))
}

#[cfg(test)]
mod tests;
