//! `.npy` files as NumPy writes them, byte by byte.

use std::path::Path;

/// A version 1.0 file of any header text.
pub(crate) fn file(descr: &str, fortran_order: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran_order { "True" } else { "False" };
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// Writes a file of little-endian `int64` in C order.
pub(crate) fn write_i64(path: &Path, shape: &str, values: impl IntoIterator<Item = i64>) {
    let data: Vec<u8> = values.into_iter().flat_map(i64::to_le_bytes).collect();
    std::fs::write(path, file("<i8", false, shape, &data)).unwrap();
}

/// The header text and the elements of a file that we wrote: version 1.0, `int64`.
pub(crate) fn read_i64(path: &Path) -> (String, Vec<i64>) {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!(end % 64, 0);
    let (values, rest) = bytes[end..].as_chunks::<8>();
    assert!(rest.is_empty());
    let header = String::from_utf8(bytes[10..end].to_vec()).unwrap();
    (header, values.iter().map(|value| i64::from_le_bytes(*value)).collect())
}
