//! Stored elements: equal to the interpreter's, bit for bit, wherever we promise so.

use holo_core::expr::{BinaryOp, CompareOp, NodeIndex, Op, Program, UnaryOp};
use holo_core::{DType, Scalar};

use super::Bench;
use super::arrays::{bytes_of, edges, random_elements};
use super::programs::{BINARY, COMPARE, DTYPES, Numbers, UNARY, X, Y, program, random_program};

/// Both operands of every pair of edge values.
fn pairs(dtype: DType) -> (Vec<u8>, Vec<u8>, usize) {
    let values = edges(dtype);
    let all = || values.iter().flat_map(|a| values.iter().map(move |b| (*a, *b)));
    let (left, right): (Vec<Scalar>, Vec<Scalar>) = all().unzip();
    (bytes_of(&left), bytes_of(&right), left.len())
}

/// Operations on floats whose results WGSL leaves to the device within a tolerance.
fn is_approximate(op: &Op, dtype: DType) -> bool {
    let unary = |op| {
        matches!(
            op,
            UnaryOp::Sqrt
                | UnaryOp::Exp
                | UnaryOp::Log
                | UnaryOp::Sin
                | UnaryOp::Cos
                | UnaryOp::Tanh
        )
    };
    let binary = |op| {
        use BinaryOp::{Add, Div, FloorDiv, Mul, Pow, Sub};
        matches!(op, Add | Sub | Mul | Div | FloorDiv | Pow)
    };
    match *op {
        Op::Unary(op, _) => dtype == DType::F32 && unary(op),
        Op::Binary(op, ..) => dtype == DType::F32 && binary(op),
        _ => false,
    }
}

#[test]
fn results_are_exact_at_lengths_around_every_border() {
    let Some(bench) = Bench::open("lengths around borders") else { return };
    let lengths = [
        0,
        1,
        2,
        3,
        4,
        5,
        7,
        63,
        64,
        65,
        255,
        256,
        257,
        1023,
        1024,
        1025,
        4095,
        4096,
        4097,
        65_535,
        65_536,
        65_537,
        65_535 * 64 + 3,
    ];
    let doubled = |dtype: DType| {
        let ops = [Op::Input(0), Op::Binary(BinaryOp::Add, X, X)];
        program(&[dtype], &ops, None).unwrap()
    };
    let positive = {
        let ops = [Op::Input(0), Op::Const(Scalar::f32(0.0)), Op::Compare(CompareOp::Gt, X, Y)];
        program(&[DType::F32], &ops, None).unwrap()
    };
    let negated =
        program(&[DType::Bool], &[Op::Input(0), Op::Unary(UnaryOp::Not, X)], None).unwrap();
    let mut programs: Vec<Program> =
        [DType::F32, DType::I32, DType::U32, DType::I64, DType::I16, DType::U8]
            .into_iter()
            .map(doubled)
            .collect();
    programs.extend([positive, negated]);
    let mut numbers = Numbers::from_seed(1);
    for length in lengths {
        // The longest one only where elements share a word and where they do not.
        let few = if length > 100_000 { &programs[5..7] } else { &programs[..] };
        for program in few {
            let array = random_elements(&mut numbers, program.inputs()[0].dtype, length);
            bench.assert_exact(program, &[&array], 0, length);
        }
    }
}

#[test]
fn a_task_longer_than_a_launch_is_cut_at_the_right_places() {
    let Some(bench) = Bench::open("tasks of several launches") else { return };
    let ops = [
        Op::Input(0),
        Op::Index,
        Op::Cast(DType::U8, Y),
        Op::Binary(BinaryOp::Xor, X, NodeIndex(2)),
    ];
    let program = program(&[DType::U8], &ops, None).unwrap();
    let length = 2 * (1 << 22) + 5;
    let array = random_elements(&mut Numbers::from_seed(2), DType::U8, length);
    bench.assert_exact(&program, &[&array], 77, length);
}

#[test]
fn every_exact_operation_matches_the_interpreter_on_edge_values() {
    let Some(bench) = Bench::open("operations on edge values") else { return };
    for dtype in DTYPES {
        let (left, right, count) = pairs(dtype);
        let x = Op::Input(0);
        let run = |op: Op| {
            let ops = [x, Op::Input(1), op];
            if is_approximate(&op, dtype) {
                return;
            }
            if let Some(program) = program(&[dtype, dtype], &ops, None) {
                bench.assert_exact(&program, &[&left, &right], 0, count);
            }
        };
        UNARY.iter().for_each(|op| run(Op::Unary(*op, X)));
        BINARY.iter().for_each(|op| run(Op::Binary(*op, X, Y)));
        COMPARE.iter().for_each(|op| run(Op::Compare(*op, X, Y)));
    }
}

#[test]
fn every_cast_matches_the_interpreter_on_edge_values() {
    let Some(bench) = Bench::open("casts of edge values") else { return };
    for from in DTYPES {
        let mut values = edges(from);
        // Integers beyond 2^24 round to float32, ties to even.
        values.extend(
            (0..200).map(|k| Scalar::from_bits(from, (0x1_0000_0081 + k * 0x40) << (k % 31))),
        );
        if from == DType::F32 {
            values.truncate(edges(from).len());
        }
        for to in DTYPES {
            for op in [Op::Cast(to, X), Op::Reinterpret(to, X)] {
                // What bits a NaN has is not defined.
                if from == DType::F32 && matches!(op, Op::Reinterpret(..)) {
                    values.retain(|value| !value.to_f64().is_nan());
                }
                if let Some(program) = program(&[from], &[Op::Input(0), op], None) {
                    bench.assert_exact(&program, &[&bytes_of(&values)], 0, values.len());
                }
            }
        }
    }
}

#[test]
fn the_index_is_exact_beyond_32_bits() {
    let Some(bench) = Bench::open("the index") else { return };
    let square = [Op::Index, Op::Binary(BinaryOp::Mul, X, X)];
    bench.assert_exact(&program(&[], &square, None).unwrap(), &[], (1 << 32) - 100, 1000);
    for dtype in [DType::I32, DType::U8, DType::F32, DType::Bool] {
        let ops = [Op::Index, Op::Cast(dtype, X)];
        bench.assert_exact(&program(&[], &ops, None).unwrap(), &[], (1 << 33) - 500, 1000);
    }
}

#[test]
fn nan_reaches_the_right_branch() {
    let Some(bench) = Bench::open("NaN in a select") else { return };
    // x == x ? x : -1, which a compiler that assumes no NaN would fold to x.
    let ops = [
        Op::Input(0),
        Op::Compare(CompareOp::Eq, X, X),
        Op::Const(Scalar::f32(-1.0)),
        Op::Select { condition: Y, yes: X, no: NodeIndex(2) },
    ];
    let values = edges(DType::F32);
    bench.assert_exact(
        &program(&[DType::F32], &ops, None).unwrap(),
        &[&bytes_of(&values)],
        0,
        values.len(),
    );
}

#[test]
fn random_exact_programs_match_the_interpreter() {
    let Some(bench) = Bench::open("random programs") else { return };
    let length = 1003;
    for seed in 0..40 {
        let mut numbers = Numbers::from_seed(1000 + seed);
        let dtypes: Vec<DType> = (0..1 + numbers.below(4)).map(|_| numbers.pick(&DTYPES)).collect();
        let size = dtypes.len() + 4 + numbers.below(24);
        let program = random_program(&mut numbers, &dtypes, size, None, |op, dtype| {
            // Bits that become a float may be a subnormal or a NaN of any kind.
            let any_float = dtype == DType::F32 && matches!(op, Op::Reinterpret(..) | Op::Const(_));
            !any_float && !is_approximate(op, dtype)
        });
        let arrays: Vec<Vec<u8>> =
            dtypes.iter().map(|dtype| random_elements(&mut numbers, *dtype, length)).collect();
        let arrays: Vec<&[u8]> = arrays.iter().map(Vec::as_slice).collect();
        bench.assert_exact(&program, &arrays, numbers.next() >> 20, length);
    }
}
