//! What WGSL allows to be inexact, against the host's `float64`, within the bounds that `lower_to_wgsl` states.

use holo_core::expr::{BinaryOp, NodeIndex, Op, UnaryOp, evaluate};
use holo_core::{DType, Scalar};

use super::Bench;
use super::arrays::{bytes_of, edges};
use super::programs::{Numbers, X, Y, program};

/// Smallest positive normal `float32`: below it a GPU may flush to zero.
const NORMAL_MIN: f64 = 1.175_494_350_822_287_5e-38;

/// Floats of every size and sign, edge values first.
fn floats(seed: u64, count: usize) -> Vec<f32> {
    let mut numbers = Numbers::from_seed(seed);
    let edge = edges(DType::F32)
        .into_iter()
        .map(|value| f32::from_bits(u32::try_from(value.bits()).unwrap()));
    let any =
        std::iter::from_fn(|| Some(f32::from_bits(u32::try_from(numbers.next() >> 32).unwrap())));
    edge.chain(any.filter(|value| value.is_normal())).take(count).collect()
}

/// Floats of moderate size, where exponentials and powers are finite.
fn moderate(seed: u64, count: usize) -> Vec<f32> {
    floats(seed, count)
        .into_iter()
        .map(|value| value % 90.0)
        .filter(|value| !value.is_subnormal())
        .collect()
}

fn scalars(values: &[f32]) -> Vec<u8> {
    bytes_of(&values.iter().map(|value| Scalar::f32(*value)).collect::<Vec<_>>())
}

/// Relative to a result of normal size; special values must be the same ones.
fn assert_close(got: f32, exact: f64, bound: f64, what: impl Fn() -> String) {
    let got = f64::from(got);
    let smallest = NORMAL_MIN;
    let largest = f64::from(f32::MAX);
    let fine = if exact.is_nan() || got.is_nan() {
        exact.is_nan() && got.is_nan()
    } else if exact.abs() > largest * (1.0 - bound) {
        got.abs() >= largest * (1.0 - 2.0 * bound) && got.signum() == exact.signum()
    } else {
        (got - exact).abs() <= bound * exact.abs().max(smallest) + smallest
    };
    assert!(fine, "{}: got {got:e}, exact {exact:e}, bound {bound:e}", what());
}

#[test]
fn functions_stay_within_their_bounds() {
    let Some(bench) = Bench::open("accuracy of functions") else { return };
    let bound = 1.0 / f64::from(1 << 21);
    type Function = (UnaryOp, fn(f64) -> f64);
    let functions: [Function; 6] = [
        (UnaryOp::Sqrt, f64::sqrt),
        (UnaryOp::Exp, f64::exp),
        (UnaryOp::Log, f64::ln),
        (UnaryOp::Sin, f64::sin),
        (UnaryOp::Cos, f64::cos),
        (UnaryOp::Tanh, f64::tanh),
    ];
    for (op, exact) in functions {
        let program = program(&[DType::F32], &[Op::Input(0), Op::Unary(op, X)], None).unwrap();
        for values in [floats(6, 20_000), moderate(7, 20_000)] {
            let stored = bench.elements(&program, &[&scalars(&values)], 0, values.len());
            for (x, bytes) in values.iter().zip(stored.chunks(4)) {
                let got = f32::from_le_bytes(bytes.try_into().unwrap());
                assert_close(got, exact(f64::from(*x)), bound, || format!("{op:?} of {x:e}"));
            }
        }
    }
}

#[test]
fn arithmetic_stays_within_its_bounds() {
    let Some(bench) = Bench::open("accuracy of arithmetic") else { return };
    type Function = (BinaryOp, fn(f64, f64) -> f64);
    let functions: [Function; 5] = [
        (BinaryOp::Add, |x, y| x + y),
        (BinaryOp::Sub, |x, y| x - y),
        (BinaryOp::Mul, |x, y| x * y),
        (BinaryOp::Div, |x, y| x / y),
        (BinaryOp::Pow, f64::powf),
    ];
    for (op, exact) in functions {
        let ops = [Op::Input(0), Op::Input(1), Op::Binary(op, X, Y)];
        let program = program(&[DType::F32, DType::F32], &ops, None).unwrap();
        for (left, right) in
            [(floats(8, 20_000), floats(9, 20_000)), (moderate(10, 9_000), moderate(11, 9_000))]
        {
            let count = left.len().min(right.len());
            let arrays = [scalars(&left[..count]), scalars(&right[..count])];
            let stored = bench.elements(&program, &[&arrays[0], &arrays[1]], 0, count);
            for ((x, y), bytes) in left.iter().zip(&right).zip(stored.chunks(4)) {
                let (wide_x, wide_y) = (f64::from(*x), f64::from(*y));
                let bound = match op {
                    BinaryOp::Pow => {
                        let slope = (wide_y * wide_x.abs().ln()).abs();
                        (4.0 + 2.0 * if slope.is_finite() { slope.min(200.0) } else { 0.0 })
                            / f64::from(1 << 22)
                    }
                    BinaryOp::Div => 1.0 / f64::from(1 << 22),
                    _ => 1.0 / f64::from(1 << 23),
                };
                let got = f32::from_le_bytes(bytes.try_into().unwrap());
                assert_close(got, exact(wide_x, wide_y), bound, || {
                    format!("{op:?} of {x:e}, {y:e}")
                });
            }
        }
    }
}

#[test]
fn the_floor_of_a_quotient_is_numpys() {
    let Some(bench) = Bench::open("floor division") else { return };
    let ops = [Op::Input(0), Op::Input(1), Op::Binary(BinaryOp::FloorDiv, X, Y)];
    let program = program(&[DType::F32, DType::F32], &ops, None).unwrap();
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.1,
        -0.1,
        0.3,
        3.0,
        -7.0,
        2.5,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    let pairs: Vec<(f32, f32)> =
        special.iter().flat_map(|a| special.iter().map(move |b| (*a, *b))).collect();
    let (left, right): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
    let arrays = [scalars(&left), scalars(&right)];
    bench.assert_exact(&program, &[&arrays[0], &arrays[1]], 0, left.len());
}

#[test]
fn a_chain_of_arithmetic_stays_close_to_the_interpreter() {
    let Some(bench) = Bench::open("a chain of arithmetic") else { return };
    // sqrt(x * x + 1): the sum may be contracted with the product.
    let ops = [
        Op::Input(0),
        Op::Binary(BinaryOp::Mul, X, X),
        Op::Const(Scalar::f32(1.0)),
        Op::Binary(BinaryOp::Add, NodeIndex(1), NodeIndex(2)),
        Op::Unary(UnaryOp::Sqrt, NodeIndex(3)),
    ];
    let program = program(&[DType::F32], &ops, None).unwrap();
    let array = scalars(&moderate(12, 50_000));
    let count = array.len() / 4;
    let expected = evaluate(&program, &[&array], 0, count).unwrap();
    let stored = bench.elements(&program, &[&array], 0, count);
    for (got, wanted) in stored.chunks(4).zip(expected.chunks(4)) {
        let wanted = f64::from(f32::from_le_bytes(wanted.try_into().unwrap()));
        let got = f32::from_le_bytes(got.try_into().unwrap());
        assert_close(got, wanted, 1.0 / f64::from(1 << 21), || "sqrt(x * x + 1)".into());
    }
}
