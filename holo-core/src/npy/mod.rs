//! The header of `.npy` files.

use crate::{DType, ErrorCode, Failure, Shape};

/// A checked header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NpyHeader {
    /// Extents as the file says.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
    /// Whether elements have their most significant byte first.
    pub big_endian: bool,
    /// Whether the first axis runs fastest.
    pub fortran_order: bool,
    /// Where the elements begin in the file.
    pub data_offset: usize,
}

impl NpyHeader {
    /// Bytes from the start of the file up to the elements, when `prefix` (12 bytes or more) is the start of one.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnsupportedFormat`], [`ErrorCode::TooLarge`].
    pub fn data_offset(_prefix: &[u8]) -> Result<usize, Failure> {
        Err(Failure::new(ErrorCode::NotYet, "npy"))
    }

    /// Reads the header from the first bytes of a file; more may follow.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnsupportedFormat`], [`ErrorCode::TooLarge`], [`ErrorCode::ShapeOverflow`].
    pub fn parse(_bytes: &[u8]) -> Result<Self, Failure> {
        Err(Failure::new(ErrorCode::NotYet, "npy"))
    }

    /// The elements in C order, little-endian.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnsupportedFormat`] when `data` has not the bytes that the header says.
    pub fn to_c_order_le(&self, _data: &[u8]) -> Result<Vec<u8>, Failure> {
        Err(Failure::new(ErrorCode::NotYet, "npy"))
    }
}

/// The header of a file of little-endian elements in C order; its length is a multiple of 64.
pub fn encode_header(_shape: &Shape, _dtype: DType) -> Vec<u8> {
    Vec::new()
}
