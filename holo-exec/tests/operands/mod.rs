//! Memory that kernels read and write in tests, and elements to fill it with.
#![allow(dead_code, reason = "each test program uses its part")]

use holo_core::{DType, Scalar, TileSink, TileSource};

/// A shard of an input.
pub(crate) struct Source<'a>(pub &'a [u8]);

impl TileSource for Source<'_> {
    fn copy_to(&self, byte_offset: u64, dst: &mut [u8]) {
        let start = usize::try_from(byte_offset).unwrap();
        dst.copy_from_slice(&self.0[start..][..dst.len()]);
    }
}

/// A shard of an output, which has to be written in ascending order.
#[derive(Default)]
pub(crate) struct Sink(pub Vec<u8>);

impl TileSink for Sink {
    fn copy_from(&mut self, byte_offset: u64, src: &[u8]) {
        assert_eq!(byte_offset, self.0.len() as u64, "each byte is written once, in order");
        self.0.extend_from_slice(src);
    }
}

/// A small seeded generator.
pub(crate) struct Draw(pub u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn dtype(&mut self) -> DType {
        DType::ALL[self.below(DType::ALL.len())]
    }
}

/// Values at the edges of a dtype, ordinary ones first.
pub(crate) fn interesting(dtype: DType) -> Vec<Scalar> {
    let of = |bits: &[u64]| bits.iter().map(|bits| Scalar::from_bits(dtype, *bits)).collect();
    match dtype {
        DType::Bool => of(&[0, 1, 1, 0, 1]),
        DType::F32 => edges32(),
        DType::F64 => edges64(),
        _ => {
            let width = 8 * dtype.size();
            let top = 1u64 << (width - 1);
            let mut bits: Vec<u64> =
                vec![1, 3, 7, 0, u64::MAX, 2, 5, 8, 15, 16, 31, 32, 33, 63, 64, 65];
            bits.extend([
                top,
                top - 1,
                top + 1,
                top | 0x55,
                u64::MAX - 1,
                u64::MAX - 6,
                100,
                0x1234_5678_9abc_def1,
            ]);
            bits.extend([0xffff_fffe_8000_0001, 0x0040_0000_0000_0001, 0x7fff_ffff_ffff_fc01]);
            of(&bits)
        }
    }
}

fn edges32() -> Vec<Scalar> {
    [
        1.0f32,
        -2.5,
        3.0,
        0.0,
        -0.0,
        0.5,
        -0.5,
        1.5,
        -1.5,
        7.25,
        1e-3,
        -1e10,
        127.5,
        255.9,
        300.0,
        -129.0,
        2_147_483_648.0,
        -2_147_483_904.0,
        4_294_967_296.0,
        9.3e18,
        -9.3e18,
        1.9e19,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        1e-45,
        -1e-42,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::from_bits(0xffc0_0001),
        f32::from_bits(0x7f80_0001),
        88.8,
        -104.0,
        1e-7,
    ]
    .map(Scalar::f32)
    .to_vec()
}

fn edges64() -> Vec<Scalar> {
    [
        1.0,
        -2.5,
        3.0,
        0.0,
        -0.0,
        0.5,
        -0.5,
        1.5,
        -1.5,
        7.25,
        1e-3,
        -1e10,
        127.5,
        255.9,
        300.0,
        -129.0,
        2_147_483_647.5,
        -2_147_483_649.0,
        4_294_967_295.9,
        9.223_372_036_854_775e18,
        9.3e18,
        -9.3e18,
        1.844_674_407_370_955e19,
        1.9e19,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
        -1e-310,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        f64::from_bits(0xfff8_0000_0000_0001),
        f64::from_bits(0x7ff0_0000_0000_0001),
        709.9,
        -745.2,
        1e-17,
        3.5e38,
        16_777_217.0,
    ]
    .map(Scalar::f64)
    .to_vec()
}

/// Elements half of which are at an edge, the other half random bits.
pub(crate) fn elements(dtype: DType, count: usize, draw: &mut Draw) -> Vec<u8> {
    let edges = interesting(dtype);
    let mut bytes = Vec::with_capacity(count * dtype.size());
    for _ in 0..count {
        let value = match draw.below(2) {
            0 => edges[draw.below(edges.len())],
            _ => Scalar::from_bits(dtype, draw.next()),
        };
        bytes.extend(&value.le_bytes()[..dtype.size()]);
    }
    bytes
}

/// Elements without NaN, infinities or extremes.
pub(crate) fn plain(dtype: DType, count: usize, draw: &mut Draw) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count * dtype.size());
    for _ in 0..count {
        let small = i32::try_from(draw.below(2001)).unwrap() - 1000;
        let value = match dtype {
            DType::F32 => Scalar::f64(f64::from(small) / 917.0).to_f64(),
            _ => f64::from(small) / 913.0,
        };
        let value = match dtype {
            #[expect(clippy::cast_possible_truncation, reason = "any float32 will do")]
            DType::F32 => Scalar::f32(value as f32),
            DType::F64 => Scalar::f64(value),
            _ => Scalar::from_bits(dtype, draw.next()),
        };
        bytes.extend(&value.le_bytes()[..dtype.size()]);
    }
    bytes
}
