//! ABI `holo` v1: names of exports, and the bytes of a tile descriptor.

use holo_core::{DType, limits};

/// Value of the export `holo_abi`.
pub(super) const ABI_VERSION: i32 = 1;

pub(super) const MEMORY: &str = "memory";
pub(super) const ABI: &str = "holo_abi";
pub(super) const RESERVE: &str = "holo_reserve";
pub(super) const INIT: &str = "holo_init";
pub(super) const TILE: &str = "holo_tile";
pub(super) const FINISH: &str = "holo_finish";
pub(super) const COMBINE: &str = "holo_combine";
pub(super) const TASK: &str = "holo_task";
/// Not an export: what runs while a module is instantiated.
pub(super) const START: &str = "the start function";

/// Bytes of a partial result, the value that `holo_finish` writes and `holo_combine` joins.
pub(super) const PARTIAL_BYTES_MAX: u32 = 128 << 10;

/// Alignment of everything that the host places in guest memory.
pub(super) const ALIGN: u32 = 64;

const HEADER_BYTES: usize = 24;
const OPERAND_BYTES: usize = 16;

/// Bytes kept for a descriptor of the most operands there can be.
pub(super) const DESCRIPTOR_BYTES_MAX: u32 = 512;
const _: () = assert!(
    HEADER_BYTES + OPERAND_BYTES * limits::RUN_OPERANDS_MAX <= DESCRIPTOR_BYTES_MAX as usize
);

/// Whether the guest reads or writes a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Mode {
    In = 0,
    Out = 1,
}

/// One operand of a tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    pub(super) pointer: u32,
    pub(super) dtype: DType,
    pub(super) mode: Mode,
}

/// Writes the descriptor of one tile; all numbers little-endian.
///
/// `{u32 size, u32 n_ops, u64 first_index, u32 n_elems, u32 flags = 0}`, then per operand
/// `{u32 ptr, u32 byte_len, u16 dtype, u16 mode, u32 stride}`.
pub(super) fn tile_descriptor(operands: &[Operand], first_index: u64, elems: u32) -> Vec<u8> {
    let size = HEADER_BYTES + OPERAND_BYTES * operands.len();
    let mut bytes = Vec::with_capacity(size);
    bytes.extend(count(size).to_le_bytes());
    bytes.extend(count(operands.len()).to_le_bytes());
    bytes.extend(first_index.to_le_bytes());
    bytes.extend(elems.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    for operand in operands {
        let stride = count(operand.dtype.size());
        bytes.extend(operand.pointer.to_le_bytes());
        bytes.extend((elems * stride).to_le_bytes());
        bytes.extend(u16::from(operand.dtype.to_byte()).to_le_bytes());
        bytes.extend((operand.mode as u16).to_le_bytes());
        bytes.extend(stride.to_le_bytes());
    }
    bytes
}

fn count(small: usize) -> u32 {
    u32::try_from(small).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_has_the_documented_bytes() {
        let operands = [
            Operand { pointer: 0x1_0000, dtype: DType::F32, mode: Mode::In },
            Operand { pointer: 0x2_0000, dtype: DType::I64, mode: Mode::Out },
        ];
        let bytes = tile_descriptor(&operands, 0x1122_3344_5566, 5);
        let expected: &[u8] = &[
            56, 0, 0, 0, 2, 0, 0, 0, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 5, 0, 0, 0, 0, 0, 0,
            0, //
            0, 0, 1, 0, 20, 0, 0, 0, 10, 0, 0, 0, 4, 0, 0, 0, //
            0, 0, 2, 0, 40, 0, 0, 0, 5, 0, 1, 0, 8, 0, 0, 0,
        ];
        assert_eq!(bytes, expected);
    }
}
