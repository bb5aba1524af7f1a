//! Accuracy against the platform's library, which is itself within one unit in the last place.

use proptest::prelude::*;

use crate::expr::{BinaryOp, Input, NodeIndex, Op, Program, UnaryOp, evaluate, lower};
use crate::{DType, limits};

/// A function of the platform's library.
type Reference = fn(f64) -> f64;

fn unary(op: UnaryOp, dtype: DType) -> Program {
    let input = Input { name: "x".into(), dtype };
    Program::new(vec![input], vec![Op::Input(0), Op::Unary(op, NodeIndex(0))], NodeIndex(1), None)
        .unwrap()
}

fn power(dtype: DType) -> Program {
    let inputs = ["x", "y"].map(|name| Input { name: name.into(), dtype });
    let ops =
        vec![Op::Input(0), Op::Input(1), Op::Binary(BinaryOp::Pow, NodeIndex(0), NodeIndex(1))];
    Program::new(inputs.into(), ops, NodeIndex(2), None).unwrap()
}

fn bytes64(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn bytes32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn run64(program: &Program, inputs: &[&[f64]]) -> Vec<f64> {
    let bytes: Vec<Vec<u8>> = inputs.iter().map(|values| bytes64(values)).collect();
    let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    let out = evaluate(program, &slices, 0, inputs[0].len()).unwrap();
    out.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().unwrap())).collect()
}

fn run32(program: &Program, inputs: &[&[f32]]) -> Vec<f32> {
    let bytes: Vec<Vec<u8>> = inputs.iter().map(|values| bytes32(values)).collect();
    let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    let out = evaluate(program, &slices, 0, inputs[0].len()).unwrap();
    out.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
}

/// Floats between two values: 0 for the same, whatever the sign of a zero.
fn distance64(a: f64, b: f64) -> u64 {
    let place = |v: f64| {
        let bits = v.to_bits().cast_signed();
        if bits < 0 { i64::MIN - bits } else { bits }
    };
    match (a.is_nan(), b.is_nan()) {
        (true, true) => 0,
        (false, false) => place(a).abs_diff(place(b)),
        _ => u64::MAX,
    }
}

fn distance32(a: f32, b: f32) -> u32 {
    let place = |v: f32| {
        let bits = v.to_bits().cast_signed();
        if bits < 0 { i32::MIN - bits } else { bits }
    };
    match (a.is_nan(), b.is_nan()) {
        (true, true) => 0,
        (false, false) => place(a).abs_diff(place(b)),
        _ => u32::MAX,
    }
}

/// A seeded stream of numbers, spread as `shape` says over 64 random bits.
fn draw(count: usize, shape: impl Fn(u64) -> f64) -> Vec<f64> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..count).map(|_| shape(next())).collect()
}

/// Uniform between two bounds.
fn between(low: f64, high: f64) -> impl Fn(u64) -> f64 {
    move |bits| low + (high - low) * ((bits >> 11) as f64 / (1u64 << 53) as f64)
}

/// Any finite float64 below 2^20 in size.
fn any_magnitude(bits: u64) -> f64 {
    let value = f64::from_bits(bits);
    if value.abs() <= 1_048_576.0 { value } else { f64::from_bits(bits & 0xbfff_ffff_ffff_ffff) }
}

fn worst(values: &[f64], got: &[f64], expected: impl Fn(f64) -> f64) -> (u64, f64) {
    let distances = values.iter().zip(got).map(|(x, y)| (distance64(*y, expected(*x)), *x));
    distances.max_by_key(|(distance, _)| *distance).unwrap()
}

#[test]
fn float64_functions_are_within_two_units_in_the_last_place() {
    let cases: [(UnaryOp, Reference, Vec<f64>); 10] = [
        (UnaryOp::Exp, f64::exp, draw(200_000, between(-746.0, 710.0))),
        (UnaryOp::Exp, f64::exp, draw(200_000, between(-1.5, 1.5))),
        (UnaryOp::Log, f64::ln, draw(200_000, |bits| f64::from_bits(bits >> 1))),
        (UnaryOp::Log, f64::ln, draw(200_000, between(0.5, 2.0))),
        (UnaryOp::Sin, f64::sin, draw(200_000, between(-1_048_576.0, 1_048_576.0))),
        (UnaryOp::Sin, f64::sin, draw(200_000, any_magnitude)),
        (UnaryOp::Cos, f64::cos, draw(200_000, between(-10.0, 10.0))),
        (UnaryOp::Cos, f64::cos, draw(200_000, any_magnitude)),
        (UnaryOp::Tanh, f64::tanh, draw(200_000, between(-25.0, 25.0))),
        (UnaryOp::Tanh, f64::tanh, draw(200_000, between(-0.7, 0.7))),
    ];
    for (op, expected, values) in cases {
        let got = run64(&unary(op, DType::F64), &[&values]);
        let (distance, at) = worst(&values, &got, expected);
        println!("{op:?}: {distance} at {at:e}");
        assert!(distance <= 2, "{op:?} of {at:e} is {distance} units off");
    }
}

#[test]
fn sine_keeps_its_relative_accuracy_next_to_multiples_of_pi() {
    let multiples = (1..600_000).map(|n| f64::from(n) * std::f64::consts::FRAC_PI_2);
    let values: Vec<f64> = multiples.filter(|x| *x < 1_048_576.0).collect();
    for (op, expected) in [(UnaryOp::Sin, f64::sin as Reference), (UnaryOp::Cos, f64::cos)] {
        let got = run64(&unary(op, DType::F64), &[&values]);
        let (distance, at) = worst(&values, &got, expected);
        assert!(distance <= 2, "{op:?} of {at:e} is {distance} units off");
    }
}

#[test]
#[expect(clippy::cast_possible_truncation, reason = "float32 test values are drawn as float64")]
fn float32_functions_are_the_rounded_float64_ones() {
    let functions: [(UnaryOp, Reference, f64); 5] = [
        (UnaryOp::Exp, f64::exp, 110.0),
        (UnaryOp::Log, f64::ln, 1e30),
        (UnaryOp::Sin, f64::sin, 1e6),
        (UnaryOp::Cos, f64::cos, 1e6),
        (UnaryOp::Tanh, f64::tanh, 12.0),
    ];
    for (op, expected, limit) in functions {
        let values: Vec<f32> =
            draw(100_000, between(-limit, limit)).iter().map(|v| *v as f32).collect();
        for (x, y) in values.iter().zip(run32(&unary(op, DType::F32), &[&values])) {
            let distance = distance32(y, expected(f64::from(*x)) as f32);
            assert!(distance <= 1, "{op:?} of {x:e} is {distance} units off");
        }
    }
    let (x, y) = (draw(100_000, between(0.0, 60.0)), draw(100_000, between(20.0, -20.0)));
    let (x, y): (Vec<f32>, Vec<f32>) =
        (x.iter().map(|v| *v as f32).collect(), y.iter().map(|v| *v as f32).collect());
    for ((x, y), z) in x.iter().zip(&y).zip(run32(&power(DType::F32), &[&x, &y])) {
        let distance = distance32(z, f64::from(*x).powf(f64::from(*y)) as f32);
        assert!(distance <= 1, "{x:e} ** {y:e} is {distance} units off");
    }
}

#[test]
fn powers_are_within_two_units_in_the_last_place() {
    let wide = |bits: u64| f64::from_bits((bits >> 1) % 0x7ff0_0000_0000_0000);
    let cases = [
        (draw(200_000, between(0.0, 20.0)), draw(200_000, between(150.0, -150.0))),
        (draw(200_000, wide), draw(200_000, between(1.1, -1.1))),
        (draw(200_000, between(0.999, 1.001)), draw(200_000, between(7e5, -7e5))),
        (
            draw(200_000, between(-9.0, 9.0)),
            (0..200_000u32).map(|n| f64::from(n % 40) - 20.0).collect(),
        ),
    ];
    for (x, y) in cases {
        let got = run64(&power(DType::F64), &[&x, &y]);
        for ((x, y), z) in x.iter().zip(&y).zip(got) {
            let distance = distance64(z, x.powf(*y));
            assert!(distance <= 2, "{x:e} ** {y:e} is {distance} units off: {z:e}");
        }
    }
}

#[test]
fn special_values_are_those_of_the_platform_bit_for_bit() {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.0,
        -2.0,
        3.0,
        -3.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        5e-324,
        -5e-324,
        2.2e-308,
        f64::MAX,
        f64::MIN,
        1e-300,
        709.9,
        -745.2,
        4e15,
        9e15,
        1e300,
        -1e300,
        0.999_999_999_999_999_9,
        1.000_000_000_000_000_2,
    ];
    let same = |got: f64, expected: f64| {
        got.is_nan() && expected.is_nan()
            || distance64(got, expected) <= 1
                && got.is_sign_negative() == expected.is_sign_negative()
    };
    let functions: [(UnaryOp, Reference); 5] = [
        (UnaryOp::Exp, f64::exp),
        (UnaryOp::Log, f64::ln),
        (UnaryOp::Tanh, f64::tanh),
        (UnaryOp::Sin, f64::sin),
        (UnaryOp::Cos, f64::cos),
    ];
    for (op, expected) in functions {
        for (x, y) in special.iter().zip(run64(&unary(op, DType::F64), &[&special])) {
            let trigonometric = matches!(op, UnaryOp::Sin | UnaryOp::Cos);
            if trigonometric && x.abs() > 1_048_576.0 {
                assert!(y.is_nan(), "{op:?} of {x:e} is beyond its range");
            } else {
                assert!(same(y, expected(*x)), "{op:?} of {x:e} is {y:e}, not {:e}", expected(*x));
            }
        }
    }
    for x in special {
        let bases = [x; 27];
        for (y, z) in special.iter().zip(run64(&power(DType::F64), &[&bases, &special])) {
            assert!(same(z, x.powf(*y)), "{x:e} ** {y:e} is {z:e}, not {:e}", x.powf(*y));
        }
    }
}

#[test]
fn lowered_programs_are_primitive_stay_as_they_are_and_keep_their_bounds() {
    for dtype in [DType::F32, DType::F64] {
        let functions = [UnaryOp::Exp, UnaryOp::Log, UnaryOp::Sin, UnaryOp::Cos, UnaryOp::Tanh];
        let programs = functions.map(|op| unary(op, dtype)).into_iter().chain([power(dtype)]);
        for program in programs {
            let lowered = lower(&program);
            let transcendental = lowered.nodes().iter().any(|(op, _)| {
                matches!(op, Op::Binary(BinaryOp::Pow, _, _))
                    || matches!(op, Op::Unary(op, _) if functions.contains(op))
            });
            assert!(!transcendental);
            assert_eq!(lower(&lowered), lowered);
            let bound: usize = program.nodes().iter().map(|(op, _)| op.lowered_nodes_max()).sum();
            println!("{:?}: {} of {bound}", program.nodes().last(), lowered.nodes().len());
            assert!(lowered.nodes().len() <= bound, "{:?}", program.nodes());
        }
    }
}

#[test]
fn a_program_that_would_grow_too_large_is_refused() {
    let mut ops = vec![Op::Input(0)];
    for _ in 0..100 {
        let last = NodeIndex(u32::try_from(ops.len() - 1).unwrap());
        ops.push(Op::Unary(UnaryOp::Sin, last));
    }
    let root = NodeIndex(100);
    let inputs = vec![Input { name: "x".into(), dtype: DType::F64 }];
    let refused = Program::new(inputs, ops, root, None).unwrap_err();
    assert_eq!(refused.code, crate::ErrorCode::TooLarge);
    const { assert!(limits::EXPR_LOWERED_NODES_MAX < 100 * 120) };
}

proptest! {
    #[test]
    fn odd_functions_mirror_exactly(x in any::<f64>()) {
        for op in [UnaryOp::Sin, UnaryOp::Tanh] {
            let [there, back] = run64(&unary(op, DType::F64), &[&[x, -x]])[..] else { unreachable!() };
            prop_assert_eq!(distance64(there, -back), 0);
        }
    }
}
