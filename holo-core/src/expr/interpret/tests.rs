use proptest::prelude::*;

use super::*;
use crate::expr::{BinaryOp, CompareOp, Input, NodeIndex, UnaryOp};

fn bytes(values: &[Scalar]) -> Vec<u8> {
    values.iter().flat_map(|v| v.le_bytes()[..v.dtype().size()].to_vec()).collect()
}

fn scalars(dtype: DType, bytes: &[u8]) -> Vec<Scalar> {
    bytes.chunks_exact(dtype.size()).map(|c| Scalar::from_le_bytes(dtype, c).unwrap()).collect()
}

/// One operation over two inputs of one dtype.
fn apply(op: Op, a: Scalar, b: Scalar) -> Scalar {
    let input = |name: &str| Input { name: name.into(), dtype: a.dtype() };
    let ops = vec![Op::Input(0), Op::Input(1), op];
    let program = Program::new(vec![input("a"), input("b")], ops, NodeIndex(2), None).unwrap();
    let (a, b) = (bytes(&[a]), bytes(&[b]));
    let out = evaluate(&program, &[&a, &b], 0, 1).unwrap();
    Scalar::from_le_bytes(program.output_dtype(), &out).unwrap()
}

fn binary(op: BinaryOp, a: Scalar, b: Scalar) -> Scalar {
    apply(Op::Binary(op, NodeIndex(0), NodeIndex(1)), a, b)
}

fn unary(op: UnaryOp, a: Scalar) -> Scalar {
    apply(Op::Unary(op, NodeIndex(0)), a, a)
}

fn i8s(value: i8) -> Scalar {
    Scalar::from_bits(DType::I8, u64::from(value.cast_unsigned()))
}

#[test]
fn small_integers_behave_as_documented_for_all_pairs() {
    let mut wide = Vec::new();
    for a in i8::MIN..=i8::MAX {
        for b in [i8::MIN, -100, -7, -1, 0, 1, 2, 7, 8, 100, i8::MAX] {
            wide.push((a, b));
        }
    }
    for (a, b) in wide {
        let (x, y) = (i32::from(a), i32::from(b));
        // Only -128..=127 and 0 come in, so Euclid's quotient needs one correction.
        let euclid = if y == 0 { 0 } else { x.div_euclid(y) };
        let floor = euclid - i32::from(y < 0 && x.rem_euclid(y) != 0);
        let rest = if y == 0 { 0 } else { x - floor * y };
        let distance = y & 0xff;
        for (op, expected) in [
            (BinaryOp::Add, x + y),
            (BinaryOp::Sub, x - y),
            (BinaryOp::Mul, x * y),
            (BinaryOp::FloorDiv, floor),
            (BinaryOp::Rem, rest),
            (BinaryOp::Min, x.min(y)),
            (BinaryOp::Max, x.max(y)),
            (BinaryOp::And, x & y),
            (BinaryOp::Or, x | y),
            (BinaryOp::Xor, x ^ y),
            (BinaryOp::Shl, if distance < 8 { x << distance } else { 0 }),
            (BinaryOp::Shr, if distance < 8 { x >> distance } else { x >> 31 }),
        ] {
            let got = binary(op, i8s(a), i8s(b)).to_i128();
            let expected = (expected + 128).rem_euclid(256) - 128;
            assert_eq!(got, i128::from(expected), "{op:?} {a} {b}");
        }
    }
    assert_eq!(unary(UnaryOp::Abs, i8s(-128)), i8s(-128));
    assert_eq!(unary(UnaryOp::Neg, i8s(-128)), i8s(-128));
    assert_eq!(unary(UnaryOp::Not, i8s(5)), i8s(-6));
    assert_eq!(unary(UnaryOp::Not, Scalar::bool(true)), Scalar::bool(false));
    let u8s = |value: u64| Scalar::from_bits(DType::U8, value);
    assert_eq!(binary(BinaryOp::Shr, u8s(0x80), u8s(8)), u8s(0));
    assert_eq!(binary(BinaryOp::Shr, u8s(0x80), u8s(7)), u8s(1));
    assert_eq!(unary(UnaryOp::Neg, u8s(1)), u8s(255));
}

#[test]
fn float_division_remainder_and_extrema_are_numpys() {
    let inf = f64::INFINITY;
    let nan = f64::NAN;
    // a, b, a // b, a % b
    for (a, b, quotient, rest) in [
        (7.0, 2.0, 3.0, 1.0),
        (-7.0, 2.0, -4.0, 1.0),
        (7.0, -2.0, -4.0, -1.0),
        (1.0, 0.1, 9.0, 0.099_999_999_999_999_95),
        (5.0, inf, 0.0, 5.0),
        (-5.0, inf, -1.0, inf),
        (5.0, 0.0, inf, nan),
        (-5.0, 0.0, -inf, nan),
        (0.0, 0.0, nan, nan),
        (inf, 2.0, nan, nan),
        (nan, 2.0, nan, nan),
        (-4.0, 2.0, -2.0, 0.0),
        (4.0, -2.0, -2.0, -0.0),
        (-0.0, 2.0, -0.0, 0.0),
    ] {
        let (a, b) = (Scalar::f64(a), Scalar::f64(b));
        let canonical = |v: f64| if v.is_nan() { Scalar::f64(f64::NAN) } else { Scalar::f64(v) };
        assert_eq!(binary(BinaryOp::FloorDiv, a, b), canonical(quotient), "{a} // {b}");
        assert_eq!(binary(BinaryOp::Rem, a, b), canonical(rest), "{a} % {b}");
    }
    for (op, a, b, expected) in [
        (BinaryOp::Min, 0.0, -0.0, -0.0),
        (BinaryOp::Min, -0.0, 0.0, -0.0),
        (BinaryOp::Max, 0.0, -0.0, 0.0),
        (BinaryOp::Max, -0.0, 0.0, 0.0),
        (BinaryOp::Max, nan, 1.0, nan),
        (BinaryOp::Min, 1.0, nan, nan),
        (BinaryOp::Min, 1.0, 2.0, 1.0),
    ] {
        assert_eq!(
            binary(op, Scalar::f64(a), Scalar::f64(b)),
            Scalar::f64(expected),
            "{op:?} {a} {b}"
        );
    }
    assert_eq!(unary(UnaryOp::Round, Scalar::f64(2.5)), Scalar::f64(2.0));
    assert_eq!(unary(UnaryOp::Round, Scalar::f64(-3.5)), Scalar::f64(-4.0));
    let compare =
        |op| apply(Op::Compare(op, NodeIndex(0), NodeIndex(1)), Scalar::f64(nan), Scalar::f64(nan));
    assert_eq!(compare(CompareOp::Ne), Scalar::bool(true));
    assert_eq!(compare(CompareOp::Ge), Scalar::bool(false));
}

#[test]
fn casts_wrap_saturate_and_make_bools() {
    let cast = |value: Scalar, to: DType| apply(Op::Cast(to, NodeIndex(0)), value, value);
    assert_eq!(cast(Scalar::i64(-1), DType::U16), Scalar::from_bits(DType::U16, 0xffff));
    assert_eq!(cast(Scalar::i64(300), DType::I8), i8s(44));
    assert_eq!(cast(Scalar::f64(1e20), DType::I32).to_i128(), i128::from(i32::MAX));
    assert_eq!(cast(Scalar::f64(-3.9), DType::U8).to_i128(), 0);
    assert_eq!(cast(Scalar::f64(-3.9), DType::I8).to_i128(), -3);
    assert_eq!(cast(Scalar::f64(f64::NAN), DType::I64).to_i128(), 0);
    assert_eq!(cast(Scalar::f64(f64::NAN), DType::Bool), Scalar::bool(true));
    assert_eq!(cast(Scalar::f64(-0.0), DType::Bool), Scalar::bool(false));
    assert_eq!(cast(Scalar::bool(true), DType::F32), Scalar::f32(1.0));
    assert_eq!(cast(Scalar::i64(i64::MAX), DType::F32), Scalar::f32(9.223_372e18));
    assert_eq!(
        cast(Scalar::from_bits(DType::U64, u64::MAX), DType::F64),
        Scalar::f64(18_446_744_073_709_551_616.0)
    );
}

#[test]
fn a_nan_is_stored_as_the_one_quiet_nan() {
    for (dtype, noisy, quiet) in [
        (DType::F32, 0xffc0_1234, 0x7fc0_0000),
        (DType::F64, 0xfff8_0000_0000_0007, 0x7ff8_0000_0000_0000),
    ] {
        let value = Scalar::from_bits(dtype, noisy);
        assert_eq!(unary(UnaryOp::Neg, value), Scalar::from_bits(dtype, quiet));
        let copied = binary(BinaryOp::Add, value, Scalar::from_bits(dtype, 0));
        assert_eq!(copied, Scalar::from_bits(dtype, quiet));
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let program = Program::new(
        vec![Input { name: "x".into(), dtype: DType::I32 }],
        vec![Op::Input(0)],
        NodeIndex(0),
        None,
    )
    .unwrap();
    let code = |inputs: &[&[u8]], elems| evaluate(&program, inputs, 0, elems).unwrap_err().code;
    assert_eq!(code(&[], 0), ErrorCode::InvalidArgument);
    assert_eq!(code(&[&[0; 7]], 2), ErrorCode::InvalidArgument);
    assert_eq!(code(&[&[0; 8]], usize::MAX), ErrorCode::InvalidArgument);
    assert_eq!(evaluate(&program, &[&[]], 0, 0).unwrap(), Vec::<u8>::new());
}

proptest! {
    #[test]
    fn blocks_do_not_show(elems in 0usize..3 * BLOCK_ELEMS, first in any::<u32>()) {
        let input = Input { name: "x".into(), dtype: DType::I64 };
        let ops = vec![Op::Input(0), Op::Index, Op::Binary(BinaryOp::Sub, NodeIndex(0), NodeIndex(1))];
        let program = Program::new(vec![input], ops, NodeIndex(2), None).unwrap();
        let first = u64::from(first);
        let indexes: Vec<u8> = (first..first + elems as u64).flat_map(u64::to_le_bytes).collect();
        prop_assert_eq!(evaluate(&program, &[&indexes], first, elems).unwrap(), vec![0; 8 * elems]);
    }

    #[test]
    fn wide_integers_wrap_as_wider_arithmetic_cut_down(a in any::<i64>(), b in any::<i64>()) {
        let (x, y) = (Scalar::i64(a), Scalar::i64(b));
        prop_assert_eq!(binary(BinaryOp::Mul, x, y), Scalar::i64(a.wrapping_mul(b)));
        prop_assert_eq!(binary(BinaryOp::Add, x, y), Scalar::i64(a.wrapping_add(b)));
        let (u, v) = (Scalar::from_bits(DType::U64, x.bits()), Scalar::from_bits(DType::U64, y.bits()));
        prop_assert_eq!(binary(BinaryOp::Mul, u, v).bits(), binary(BinaryOp::Mul, x, y).bits());
        prop_assert_eq!(scalars(DType::I64, &bytes(&[x, y])), vec![x, y]);
    }
}
