//! The header of `.npy` files (NumPy enhancement proposal 1), on bytes: files belong to whoever opens them.
//!
//! Versions 1, 2 and 3 are read; version 1 is written. Elements that are big-endian or in Fortran order are converted
//! in memory. What we have no dtype for is refused by its name.

mod literal;

use crate::{DType, ErrorCode, Failure, Shape, limits};
use literal::Fields;

/// The first bytes of every `.npy` file.
const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// The header's end and with it the first element lie on a multiple of this.
const ALIGNMENT: usize = 64;
/// Bytes that [`NpyHeader::data_offset`] needs.
const PREFIX_BYTES: usize = 12;

/// What the header of a `.npy` file says, checked.
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
    /// Where in the file the elements begin, in bytes.
    pub data_offset: usize,
}

impl NpyHeader {
    /// Reads from the first 12 bytes of a file how long the header is: where the elements begin, in bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnsupportedFormat`] when it is no `.npy` file or of a version that we do not know,
    /// [`ErrorCode::TooLarge`] past [`limits::NPY_HEADER_BYTES_MAX`].
    pub fn data_offset(prefix: &[u8]) -> Result<usize, Failure> {
        let (start, len) = text_place(prefix)?;
        Ok(start + len)
    }

    /// Reads the header from the first bytes of a file, which must hold all of it; elements may follow.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnsupportedFormat`] when it is no such header or its dtype is none of ours,
    /// [`ErrorCode::TooLarge`], [`ErrorCode::ShapeOverflow`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let (start, len) = text_place(bytes)?;
        let text = bytes.get(start..start + len).ok_or_else(|| {
            unsupported(format!("the header has {len} bytes, the file ends before"))
        })?;
        let text = std::str::from_utf8(text)
            .map_err(|source| unsupported(format!("the header is no text: {source}")))?;
        let fields = Fields::parse(text)?;
        let (dtype, big_endian) = dtype_of(fields.descr)?;
        let shape = Shape::new(&fields.shape)?;
        Ok(Self {
            shape,
            dtype,
            big_endian,
            fortran_order: fields.fortran_order,
            data_offset: start + len,
        })
    }

    /// Bytes of the elements, which follow the header.
    pub fn data_bytes(&self) -> u64 {
        self.shape.elems() * self.dtype.size() as u64
    }

    /// Whether the file's elements are as we keep them, so that nothing has to be converted.
    pub fn is_native(&self) -> bool {
        !self.big_endian && (!self.fortran_order || self.shape.dims().len() < 2)
    }

    /// The elements in C order, little-endian, bools as 0 and 1: a converted copy.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnsupportedFormat`] when `data` has not exactly [`Self::data_bytes`] bytes.
    pub fn to_c_order_le(&self, data: &[u8]) -> Result<Vec<u8>, Failure> {
        if data.len() as u64 != self.data_bytes() {
            return Err(unsupported(format!(
                "{} bytes of elements, shape {} of {} has {}",
                data.len(),
                self.shape,
                self.dtype,
                self.data_bytes()
            )));
        }
        let mut data = data.to_vec();
        if self.dtype == DType::Bool {
            for byte in &mut data {
                *byte = u8::from(*byte != 0);
            }
        }
        if self.big_endian && self.dtype.size() > 1 {
            for element in data.chunks_exact_mut(self.dtype.size()) {
                element.reverse();
            }
        }
        if self.fortran_order && self.shape.dims().len() > 1 && self.shape.elems() > 0 {
            data = turn_axes(&data, self.shape.dims(), self.dtype.size());
        }
        Ok(data)
    }
}

/// The header of a file of little-endian elements in C order; its length is a multiple of 64.
pub fn encode_header(shape: &Shape, dtype: DType) -> Vec<u8> {
    let text =
        format!("{{'descr': '{}', 'fortran_order': False, 'shape': {shape}, }}", dtype.npy_descr());
    let before = MAGIC.len() + 4;
    let total = (before + text.len() + 1).next_multiple_of(ALIGNMENT);
    let len = u16::try_from(total - before).unwrap_or(u16::MAX);
    let mut header = Vec::with_capacity(total);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&[1, 0]);
    header.extend_from_slice(&len.to_le_bytes());
    header.extend_from_slice(text.as_bytes());
    header.resize(total - 1, b' ');
    header.push(b'\n');
    header
}

/// Where the header's text starts, and its bytes.
fn text_place(bytes: &[u8]) -> Result<(usize, usize), Failure> {
    let [prefix @ .., _, _] = bytes.get(..PREFIX_BYTES).ok_or_else(not_npy)? else {
        return Err(not_npy());
    };
    if !prefix.starts_with(MAGIC) {
        return Err(not_npy());
    }
    let (start, len) = match bytes[6..PREFIX_BYTES] {
        [1, _, a, b, _, _] => (10, u32::from(u16::from_le_bytes([a, b]))),
        [2 | 3, _, a, b, c, d] => (12, u32::from_le_bytes([a, b, c, d])),
        [major, minor, ..] => {
            return Err(unsupported(format!("version {major}.{minor} of .npy"))
                .help("save the file again with a current NumPy"));
        }
        _ => return Err(not_npy()),
    };
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > limits::NPY_HEADER_BYTES_MAX {
        let message = format!(
            "a .npy header of {len} bytes, at most {} are read",
            limits::NPY_HEADER_BYTES_MAX
        );
        return Err(Failure::new(ErrorCode::TooLarge, message));
    }
    Ok((start, len))
}

/// Element type and byte order of a `descr`.
fn dtype_of(descr: &str) -> Result<(DType, bool), Failure> {
    let mut chars = descr.chars();
    let order = chars.next();
    let big_endian = match order {
        // `=` is the byte order of the writer, which on every machine that we run on is little.
        Some('<' | '=' | '|') => Some(false),
        Some('>') => Some(true),
        _ => None,
    };
    let kind = chars.as_str();
    let dtype = DType::ALL.iter().copied().find(|dtype| dtype.npy_descr().get(1..) == Some(kind));
    match (dtype, big_endian) {
        (Some(dtype), Some(big_endian)) => Ok((dtype, big_endian && dtype.size() > 1)),
        _ => {
            let known: Vec<_> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
            Err(unsupported(format!("elements of dtype {descr:?} ({})", kind_name(kind)))
                .help(format!("convert them with astype to one of {}", known.join(", "))))
        }
    }
}

fn kind_name(kind: &str) -> &'static str {
    match kind.chars().next() {
        Some('c') => "complex numbers",
        Some('O') => "Python objects",
        Some('U' | 'S' | 'a') => "text",
        Some('M' | 'm') => "dates and times",
        Some('V') => "raw bytes",
        Some('f') => "floats of another size",
        _ => "unknown",
    }
}

/// Elements in C order from elements in Fortran order.
fn turn_axes(data: &[u8], dims: &[u64], size: usize) -> Vec<u8> {
    // The data are in memory, so their extents fit.
    let dims: Vec<usize> =
        dims.iter().map(|dim| usize::try_from(*dim).unwrap_or(usize::MAX)).collect();
    let mut strides = vec![size; dims.len()];
    for axis in 1..dims.len() {
        strides[axis] = strides[axis - 1] * dims[axis - 1];
    }
    let mut turned = Vec::with_capacity(data.len());
    let mut at = vec![0usize; dims.len()];
    let mut from = 0usize;
    while turned.len() < data.len() {
        turned.extend_from_slice(&data[from..from + size]);
        for axis in (0..dims.len()).rev() {
            at[axis] += 1;
            from += strides[axis];
            if at[axis] < dims[axis] {
                break;
            }
            from -= strides[axis] * dims[axis];
            at[axis] = 0;
        }
    }
    turned
}

fn not_npy() -> Failure {
    unsupported("it does not start as a .npy file".to_owned())
        .help("write it with numpy.save; .npz archives and text are not read")
}

fn unsupported(why: String) -> Failure {
    Failure::new(ErrorCode::UnsupportedFormat, why)
}

#[cfg(test)]
mod tests;
