//! Elements to compute with.

use holo_core::{DType, Scalar};

use super::programs::Numbers;

/// Values of a dtype that go wrong first. No subnormal float: a GPU may flush them to zero.
pub(crate) fn edges(dtype: DType) -> Vec<Scalar> {
    if dtype == DType::F32 {
        let floats = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            -0.5,
            1.5,
            2.5,
            -2.5,
            3.0,
            -7.0,
            0.1,
            1e-30,
            -1e-30,
            1e30,
            -3.5e37,
            127.0,
            128.5,
            -129.0,
            255.0,
            256.0,
            32767.5,
            65535.0,
            65536.0,
            2_147_483_520.0,
            2_147_483_648.0,
            -2_147_483_648.0,
            4_294_967_040.0,
            4_294_967_296.0,
            8_388_609.0,
            16_777_216.0,
            9.223_372e18,
            -9.223_372e18,
            1.844_674_4e19,
            1.844_674_3e19,
            f32::MAX,
            f32::MIN,
            f32::MIN_POSITIVE,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            f32::from_bits(0xffc0_1234),
            f32::from_bits(0x7f80_0001),
        ];
        return floats.into_iter().map(Scalar::f32).collect();
    }
    let bits = 8 * dtype.size();
    let mut values: Vec<u64> = (0..9).collect();
    values.extend((1..9u64).map(|small| 0u64.wrapping_sub(small)));
    for shift in [bits / 2, bits - 1] {
        let border = 1u64 << shift;
        values.extend([border - 2, border - 1, border, border + 1]);
    }
    values.extend([
        bits as u64 - 1,
        bits as u64,
        bits as u64 + 1,
        100,
        1_000_003,
        0x0123_4567_89ab_cdef,
    ]);
    values.into_iter().map(|value| Scalar::from_bits(dtype, value)).collect()
}

/// The bytes of values of one dtype.
pub(crate) fn bytes_of(values: &[Scalar]) -> Vec<u8> {
    values.iter().flat_map(|value| value.le_bytes()[..value.dtype().size()].to_vec()).collect()
}

/// Any elements of a dtype; floats are finite and within a million.
pub(crate) fn random_elements(numbers: &mut Numbers, dtype: DType, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count * dtype.size());
    for _ in 0..count {
        let value = match dtype {
            DType::F32 => {
                let whole = f32::from(u16::try_from(numbers.next() & 0xffff).unwrap());
                Scalar::f32((whole - 32768.0) / 32.0)
            }
            _ => Scalar::from_bits(dtype, numbers.next()),
        };
        bytes.extend_from_slice(&value.le_bytes()[..dtype.size()]);
    }
    bytes
}
