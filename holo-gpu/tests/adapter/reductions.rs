//! Reductions: integers exactly, sums of `float32` within their bound.

use holo_core::expr::{BinaryOp, Op, Reduction};
use holo_core::{DType, Scalar};

use super::Bench;
use super::arrays::{bytes_of, edges, random_elements};
use super::programs::{DTYPES, Numbers, REDUCTIONS, X, Y, program};

const LENGTHS: [usize; 12] = [0, 1, 2, 63, 64, 65, 255, 256, 257, 4095, 4097, 65_535 * 3 + 7];

#[test]
fn every_exact_reduction_matches_the_interpreter() {
    let Some(bench) = Bench::open("reductions") else { return };
    let mut numbers = Numbers::from_seed(3);
    for dtype in DTYPES {
        for reduction in REDUCTIONS {
            let exact = dtype != DType::F32 || matches!(reduction, Reduction::Min | Reduction::Max);
            let program = program(&[dtype], &[Op::Input(0)], Some(reduction)).unwrap();
            for length in LENGTHS.into_iter().filter(|_| exact) {
                let array = random_elements(&mut numbers, dtype, length);
                bench.assert_exact_reduction(&program, &[&array], 0, length);
            }
        }
    }
}

#[test]
fn integer_sums_are_exact_beyond_32_bits() {
    let Some(bench) = Bench::open("wide sums") else { return };
    for dtype in [DType::I32, DType::U32, DType::I64, DType::U64] {
        let length = 100_001;
        let largest =
            if dtype.is_signed_int() { u64::MAX >> 1 >> (64 - 8 * dtype.size()) } else { u64::MAX };
        for bits in [largest, largest.wrapping_add(1)] {
            let array = bytes_of(&vec![Scalar::from_bits(dtype, bits); length]);
            let program = program(&[dtype], &[Op::Input(0)], Some(Reduction::Sum)).unwrap();
            bench.assert_exact_reduction(&program, &[&array], 0, length);
        }
    }
}

#[test]
fn the_quadratic_sum_of_a_shard_is_exact() {
    let Some(bench) = Bench::open("the quadratic sum") else { return };
    let ops = [Op::Index, Op::Binary(BinaryOp::Mul, X, X), Op::Binary(BinaryOp::Add, Y, X)];
    let program = program(&[], &ops, Some(Reduction::Sum)).unwrap();
    bench.assert_exact_reduction(&program, &[], 99_000_000, 524_288);
}

#[test]
fn nan_wins_minimum_and_maximum_and_minus_zero_is_the_smaller_zero() {
    let Some(bench) = Bench::open("NaN in a reduction") else { return };
    for reduction in [Reduction::Min, Reduction::Max] {
        let program = program(&[DType::F32], &[Op::Input(0)], Some(reduction)).unwrap();
        let mut numbers = Numbers::from_seed(4);
        let mut array = random_elements(&mut numbers, DType::F32, 9000);
        array[4 * 4096..4 * 4097].copy_from_slice(&bytes_of(&[Scalar::f32(f32::NAN)]));
        bench.assert_exact_reduction(&program, &[&array], 0, 9000);
        let zeros = bytes_of(&[0.0, -0.0, 0.0, 0.0].map(Scalar::f32));
        bench.assert_exact_reduction(&program, &[&zeros], 0, 4);
        let finite: Vec<_> =
            edges(DType::F32).into_iter().filter(|value| !value.to_f64().is_nan()).collect();
        bench.assert_exact_reduction(&program, &[&bytes_of(&finite)], 0, finite.len());
        let only_infinite = bytes_of(&[f32::INFINITY, f32::NEG_INFINITY].map(Scalar::f32));
        for half in only_infinite.chunks(4) {
            bench.assert_exact_reduction(&program, &[half], 0, 1);
        }
    }
}

#[test]
fn float_sums_stay_within_their_bound() {
    let Some(bench) = Bench::open("sums of float32") else { return };
    let program = program(&[DType::F32], &[Op::Input(0)], Some(Reduction::Sum)).unwrap();
    let mut numbers = Numbers::from_seed(5);
    for length in LENGTHS.into_iter().chain([1 << 22, (1 << 22) + 9000]) {
        let array = random_elements(&mut numbers, DType::F32, length);
        let values = || {
            array.chunks(4).map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap())))
        };
        let exact: f64 = values().sum();
        let magnitude: f64 = values().map(f64::abs).sum();
        let got = bench.accumulator(&program, &[&array], 0, length);
        assert_eq!(got.dtype(), DType::F64);
        let error = (got.to_f64() - exact).abs();
        assert!(error <= 24.0 / f64::from(1 << 24) * magnitude, "{length}: {got} for {exact}");
    }
}

#[test]
fn a_float_sum_with_a_nan_or_an_infinity_is_one() {
    let Some(bench) = Bench::open("special values in a sum") else { return };
    let program = program(&[DType::F32], &[Op::Input(0)], Some(Reduction::Sum)).unwrap();
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = vec![Scalar::f32(1.0); 5000];
        values[4321] = Scalar::f32(special);
        bench.assert_exact_reduction(&program, &[&bytes_of(&values)], 0, 5000);
    }
}
