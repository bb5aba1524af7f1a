//! Slices of n-d arrays as runs of flat elements.

use crate::{ErrorCode, Failure, Shape};

/// One axis of a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AxisIndex {
    /// One index; the axis disappears. Negative ones count from the end.
    At(i64),
    /// A range; the axis stays.
    Slice(Slice),
}

/// NumPy's `start:stop:step` with a positive step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// First index; from the beginning when it is not given.
    pub start: Option<i64>,
    /// Index behind the last; to the end when it is not given.
    pub stop: Option<i64>,
    /// Distance of the indexes, at least 1.
    pub step: u64,
}

/// Elements of an array, picked axis by axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    shape: Shape,
}

impl Selection {
    /// Resolves indexes against a shape.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`], [`ErrorCode::OutOfRange`].
    pub fn new(_indexes: &[AxisIndex], _shape: &Shape) -> Result<Self, Failure> {
        Err(Failure::new(ErrorCode::NotYet, "selection"))
    }

    /// Reads `[0:10, ::2, 3]`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`], [`ErrorCode::OutOfRange`].
    pub fn parse(_text: &str, _shape: &Shape) -> Result<Self, Failure> {
        Err(Failure::new(ErrorCode::NotYet, "selection"))
    }

    /// Shape of the result.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Flat runs `(first element, elements)` in C order, as long as can be.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        std::iter::empty()
    }
}
