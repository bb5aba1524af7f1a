//! Lowering needs no adapter: every kernel must be valid WGSL, and say no where a GPU cannot follow.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "programs/mod.rs"]
mod programs;

use holo_core::expr::{BinaryOp, NodeIndex, Op, Program, UnaryOp};
use holo_core::{DType, ErrorCode, Failure, Scalar, limits};
use holo_gpu::{GpuError, lower_to_wgsl};
use programs::{
    BINARY, COMPARE, DTYPES, Numbers, REDUCTIONS, UNARY, X, Y, inputs, program, random_program,
};

/// Parses and validates with no extension of WGSL at all.
fn assert_valid(program: &Program) {
    let kernel = lower_to_wgsl(program).unwrap_or_else(|error| panic!("{error}: {program:?}"));
    let module = naga::front::wgsl::parse_str(kernel.source()).unwrap_or_else(|error| {
        panic!("{}\n{}", error.emit_to_string(kernel.source()), kernel.source())
    });
    let flags = naga::valid::ValidationFlags::all();
    let mut validator = naga::valid::Validator::new(flags, naga::valid::Capabilities::empty());
    validator.validate(&module).unwrap_or_else(|error| {
        panic!("{}\n{}", error.emit_to_string(kernel.source()), kernel.source())
    });
}

#[test]
fn every_operation_on_every_dtype_is_valid_wgsl() {
    let mut lowered = 0;
    let mut check = |dtypes: &[DType], ops: &[Op]| {
        if let Some(program) = program(dtypes, ops, None) {
            assert_valid(&program);
            lowered += 1;
        }
    };
    for dtype in DTYPES {
        let x = Op::Input(0);
        let both = [dtype, dtype];
        for op in UNARY {
            check(&[dtype], &[x, Op::Unary(op, X)]);
        }
        for op in BINARY {
            check(&both, &[x, Op::Input(1), Op::Binary(op, X, Y)]);
        }
        for op in COMPARE {
            check(&both, &[x, Op::Input(1), Op::Compare(op, X, Y)]);
        }
        for to in DTYPES {
            check(&[dtype], &[x, Op::Cast(to, X)]);
            check(&[dtype], &[x, Op::Reinterpret(to, X)]);
        }
        check(&[], &[Op::Const(Scalar::from_bits(dtype, u64::MAX))]);
        let select = Op::Select { condition: NodeIndex(2), yes: X, no: Y };
        check(&[dtype, dtype, DType::Bool], &[x, Op::Input(1), Op::Input(2), select]);
    }
    assert!(lowered > 300, "{lowered}");
}

#[test]
fn every_reduction_of_every_dtype_is_valid_wgsl() {
    for dtype in DTYPES {
        for reduction in REDUCTIONS {
            let program = program(&[dtype], &[Op::Input(0)], Some(reduction)).unwrap();
            match lower_to_wgsl(&program) {
                Ok(_) => assert_valid(&program),
                Err(error) => {
                    assert_eq!(
                        (dtype, reduction),
                        (DType::F32, holo_core::expr::Reduction::Prod),
                        "{error}"
                    );
                }
            }
        }
    }
}

#[test]
fn random_programs_are_valid_wgsl() {
    for seed in 0..300 {
        let mut numbers = Numbers::from_seed(seed);
        let count = numbers.below(5);
        let dtypes: Vec<DType> =
            (0..count).map(|_| numbers.pick(&DTYPES)).chain([DType::I32]).collect();
        let size = dtypes.len() + 2 + numbers.below(60);
        let reduction = (numbers.below(3) == 0).then(|| numbers.pick(&REDUCTIONS[2..]));
        assert_valid(&random_program(&mut numbers, &dtypes, size, reduction, |_, _| true));
    }
}

#[test]
fn the_largest_program_is_valid_and_fits_a_frame() {
    let mut ops = vec![Op::Input(0)];
    while ops.len() < limits::EXPR_NODES_MAX {
        let last = NodeIndex(u32::try_from(ops.len() - 1).unwrap());
        let next = match ops.len() % 5 {
            0 => Op::Const(Scalar::f32(1.5)),
            1 => Op::Binary(BinaryOp::Add, last, X),
            2 if ops.len() % 8 == 0 => Op::Unary(UnaryOp::Sin, last),
            _ => Op::Unary(UnaryOp::Sqrt, last),
        };
        ops.push(next);
    }
    let root = NodeIndex(u32::try_from(ops.len() - 1).unwrap());
    let program = Program::new(inputs(&[DType::F32]), ops, root, None).unwrap();
    assert_valid(&program);
    assert!(lower_to_wgsl(&program).unwrap().source().len() < 128 << 10);
}

#[test]
fn a_kernel_reads_like_its_program() {
    let ops = [
        Op::Input(0),
        Op::Const(Scalar::f32(1.0)),
        Op::Binary(BinaryOp::Mul, X, X),
        Op::Binary(BinaryOp::Add, NodeIndex(2), NodeIndex(1)),
        Op::Unary(UnaryOp::Sqrt, NodeIndex(3)),
    ];
    let program = program(&[DType::F32], &ops, None).unwrap();
    let kernel = lower_to_wgsl(&program).unwrap();
    let element = "\
fn element(i: u32) -> f32 {
    let v0 = bitcast<f32>(data[params[3] + i]);
    let v1 = bitcast<f32>(params[4]);
    let v2 = v0 * v0;
    let v3 = v2 + v1;
    let v4 = f32_sqrt(v3);
    return v4;
}
";
    assert!(kernel.source().contains(element), "{}", kernel.source());
}

#[test]
fn programs_that_differ_in_constants_share_a_kernel() {
    let times = |factor: i128| {
        let bits = u64::try_from(factor).unwrap();
        let ops = [
            Op::Input(0),
            Op::Const(Scalar::from_bits(DType::I32, bits)),
            Op::Binary(BinaryOp::Mul, X, Y),
        ];
        lower_to_wgsl(&program(&[DType::I32], &ops, None).unwrap()).unwrap()
    };
    assert_eq!(times(2).source(), times(3).source());
    assert_ne!(times(2), times(3));
}

#[test]
fn float64_is_refused_with_what_to_use_instead() {
    let root = program(&[DType::F64], &[Op::Input(0), Op::Unary(UnaryOp::Sqrt, X)], None).unwrap();
    let inside = program(
        &[DType::I32],
        &[Op::Input(0), Op::Cast(DType::F64, X), Op::Cast(DType::I32, Y)],
        None,
    )
    .unwrap();
    for program in [root, inside] {
        let failure = Failure::from(lower_to_wgsl(&program).unwrap_err());
        assert_eq!(failure.code, ErrorCode::GpuUnsupported);
        assert!(failure.message.contains("float64"), "{failure}");
        assert!(failure.help.unwrap().contains("--device cpu"));
    }
}

#[test]
fn what_nobody_uses_need_not_fit() {
    let ops = [Op::Const(Scalar::f64(1.0)), Op::Input(0)];
    assert_valid(&program(&[DType::I32], &ops, None).unwrap());
}

#[test]
fn a_float_product_is_refused() {
    let product =
        program(&[DType::F32], &[Op::Input(0)], Some(holo_core::expr::Reduction::Prod)).unwrap();
    assert!(matches!(lower_to_wgsl(&product), Err(GpuError::Unsupported { .. })));
}

#[test]
fn more_division_than_every_driver_runs_is_refused() {
    let divisions = |count: usize| {
        let mut ops = vec![Op::Input(0)];
        for last in 0..count {
            ops.push(Op::Binary(BinaryOp::FloorDiv, NodeIndex(u32::try_from(last).unwrap()), X));
        }
        let root = NodeIndex(u32::try_from(count).unwrap());
        Program::new(inputs(&[DType::I64]), ops, root, None).unwrap()
    };
    assert_valid(&divisions(200));
    let failure = Failure::from(lower_to_wgsl(&divisions(300)).unwrap_err());
    assert_eq!(failure.code, ErrorCode::GpuUnsupported);
    assert!(failure.message.contains("60000"), "{failure}");
}
