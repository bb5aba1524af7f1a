//! Compiled expressions against the reference interpreter: every operation on every dtype, and random programs.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod operands;

use std::sync::Arc;

use holo_core::{
    DType, Scalar, TileSink, TileSource,
    expr::{self, BinaryOp, CompareOp, Input, NodeIndex, Op, Program, Reduction, UnaryOp},
    limits,
};
use holo_exec::{Engine, EngineOptions, ExecError, RunControl, ShardTask};
use operands::{Draw, Sink, Source, elements};
use proptest::prelude::*;

const UNARY: [UnaryOp; 13] = [
    UnaryOp::Neg,
    UnaryOp::Abs,
    UnaryOp::Not,
    UnaryOp::Sqrt,
    UnaryOp::Floor,
    UnaryOp::Ceil,
    UnaryOp::Trunc,
    UnaryOp::Round,
    UnaryOp::Exp,
    UnaryOp::Log,
    UnaryOp::Sin,
    UnaryOp::Cos,
    UnaryOp::Tanh,
];
const BINARY: [BinaryOp; 14] = [
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Div,
    BinaryOp::FloorDiv,
    BinaryOp::Rem,
    BinaryOp::Min,
    BinaryOp::Max,
    BinaryOp::Pow,
    BinaryOp::And,
    BinaryOp::Or,
    BinaryOp::Xor,
    BinaryOp::Shl,
    BinaryOp::Shr,
];
const COMPARE: [CompareOp; 6] =
    [CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge];
const REDUCTIONS: [Reduction; 4] =
    [Reduction::Sum, Reduction::Prod, Reduction::Min, Reduction::Max];

fn engine() -> Engine {
    Engine::new(EngineOptions { instances_max: 4, ..EngineOptions::default() }).unwrap()
}

fn inputs(dtypes: &[DType]) -> Vec<Input> {
    let names = ["a", "b", "c", "d"];
    dtypes
        .iter()
        .zip(names)
        .map(|(dtype, name)| Input { name: name.into(), dtype: *dtype })
        .collect()
}

/// Runs the compiled program and the interpreter on the same elements and compares bytes.
fn agrees(engine: &Engine, program: &Program, bytes: &[Vec<u8>], first_index: u64, elems: usize) {
    let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    let sources: Vec<Source<'_>> = slices.iter().map(|bytes| Source(bytes)).collect();
    let sources: Vec<&dyn TileSource> =
        sources.iter().map(|source| source as &dyn TileSource).collect();
    let compiled = engine.expression(program).unwrap();
    let mut sink = Sink::default();
    let mut sinks: Vec<&mut dyn TileSink> = Vec::new();
    if program.reduction().is_none() {
        sinks.push(&mut sink);
    }
    let task =
        ShardTask { first_index, elems: elems as u64, inputs: &sources, outputs: &mut sinks };
    let output = compiled.run_shard(task, &RunControl::default()).unwrap();
    match program.reduction() {
        Some(_) => {
            let expected = expr::reduce_shard(program, &slices, first_index, elems).unwrap();
            assert_eq!(output.accumulator, Some(expected), "{elems} elements of {program:#?}");
        }
        None => {
            let expected = expr::evaluate(program, &slices, first_index, elems).unwrap();
            let size = program.output_dtype().size();
            let wrong =
                (0..elems).find(|i| sink.0[i * size..][..size] != expected[i * size..][..size]);
            if let Some(index) = wrong {
                let value = |bytes: &[u8], dtype: DType| {
                    Scalar::from_le_bytes(dtype, &bytes[index * dtype.size()..][..dtype.size()])
                        .unwrap()
                };
                let operands: Vec<String> = (program.inputs().iter().zip(&slices))
                    .map(|(input, bytes)| {
                        format!(
                            "{} ({:#x})",
                            value(bytes, input.dtype),
                            value(bytes, input.dtype).bits()
                        )
                    })
                    .collect();
                let (got, want) = (
                    value(&sink.0, program.output_dtype()),
                    value(&expected, program.output_dtype()),
                );
                panic!(
                    "element {index} of {elems}: {got} ({:#x}), not {want} ({:#x}), of {operands:?} by {program:#?}",
                    got.bits(),
                    want.bits()
                );
            }
            assert_eq!(sink.0.len(), expected.len());
        }
    }
}

/// Every pair of interesting values, an odd number of them so that both loops run.
fn pairs(dtype: DType) -> (Vec<u8>, Vec<u8>, usize) {
    let values = operands::interesting(dtype);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for x in &values {
        for y in &values {
            a.extend(&x.le_bytes()[..dtype.size()]);
            b.extend(&y.le_bytes()[..dtype.size()]);
        }
    }
    for _ in 0..5 {
        a.extend(&values[0].le_bytes()[..dtype.size()]);
        b.extend(&values[1].le_bytes()[..dtype.size()]);
    }
    let elems = a.len() / dtype.size();
    (a, b, elems)
}

/// Runs once forwards and once with the scalar loop on every element in turn.
fn agrees_in_both_loops(engine: &Engine, program: &Program, bytes: &[Vec<u8>], elems: usize) {
    agrees(engine, program, bytes, 7, elems);
    for start in (0..elems).step_by(13) {
        let count = (elems - start).min(13);
        let part: Vec<Vec<u8>> = (program.inputs().iter().zip(bytes))
            .map(|(input, bytes)| {
                let size = input.dtype.size();
                bytes[start * size..][..count * size].to_vec()
            })
            .collect();
        agrees(engine, program, &part, 7, count);
    }
}

#[test]
fn every_unary_operation_agrees_on_every_dtype() {
    let engine = engine();
    for dtype in DType::ALL.iter().copied() {
        let (a, _, elems) = pairs(dtype);
        for op in UNARY {
            let ops = vec![Op::Input(0), Op::Unary(op, NodeIndex(0))];
            if let Ok(program) = Program::new(inputs(&[dtype]), ops, NodeIndex(1), None) {
                agrees_in_both_loops(&engine, &program, std::slice::from_ref(&a), elems);
            }
        }
    }
}

#[test]
fn every_binary_operation_agrees_on_every_dtype() {
    let engine = engine();
    for dtype in DType::ALL.iter().copied() {
        let (a, b, elems) = pairs(dtype);
        for op in BINARY {
            let ops = vec![Op::Input(0), Op::Input(1), Op::Binary(op, NodeIndex(0), NodeIndex(1))];
            if let Ok(program) = Program::new(inputs(&[dtype, dtype]), ops, NodeIndex(2), None) {
                agrees_in_both_loops(&engine, &program, &[a.clone(), b.clone()], elems);
            }
        }
    }
}

#[test]
fn every_binary_operation_agrees_with_a_constant() {
    let engine = engine();
    for dtype in DType::ALL.iter().copied() {
        let (a, _, elems) = pairs(dtype);
        for op in BINARY {
            for value in operands::interesting(dtype).into_iter().step_by(3) {
                let ops = vec![
                    Op::Input(0),
                    Op::Const(value),
                    Op::Binary(op, NodeIndex(0), NodeIndex(1)),
                ];
                if let Ok(program) = Program::new(inputs(&[dtype]), ops, NodeIndex(2), None) {
                    agrees(&engine, &program, std::slice::from_ref(&a), 0, elems);
                }
            }
        }
    }
}

#[test]
fn every_comparison_agrees_and_selects() {
    let engine = engine();
    for dtype in DType::ALL.iter().copied() {
        let (a, b, elems) = pairs(dtype);
        for op in COMPARE {
            let mut ops =
                vec![Op::Input(0), Op::Input(1), Op::Compare(op, NodeIndex(0), NodeIndex(1))];
            let program =
                Program::new(inputs(&[dtype, dtype]), ops.clone(), NodeIndex(2), None).unwrap();
            agrees_in_both_loops(&engine, &program, &[a.clone(), b.clone()], elems);
            // The mask meets values of its own width, of 64 bits and of 8.
            for (other, at) in [(dtype, 3), (DType::U64, 3), (DType::I8, 3), (DType::Bool, 3)] {
                ops.truncate(3);
                ops.push(Op::Cast(other, NodeIndex(0)));
                ops.push(Op::Cast(other, NodeIndex(1)));
                ops.push(Op::Select {
                    condition: NodeIndex(2),
                    yes: NodeIndex(at),
                    no: NodeIndex(at + 1),
                });
                let program =
                    Program::new(inputs(&[dtype, dtype]), ops.clone(), NodeIndex(5), None).unwrap();
                agrees(&engine, &program, &[a.clone(), b.clone()], 0, elems);
            }
        }
    }
}

#[test]
fn every_cast_agrees() {
    let engine = engine();
    for from in DType::ALL.iter().copied() {
        let (a, _, elems) = pairs(from);
        for to in DType::ALL.iter().copied() {
            let ops = vec![Op::Input(0), Op::Cast(to, NodeIndex(0))];
            let program = Program::new(inputs(&[from]), ops, NodeIndex(1), None).unwrap();
            agrees_in_both_loops(&engine, &program, std::slice::from_ref(&a), elems);
            let ops = vec![Op::Input(0), Op::Reinterpret(to, NodeIndex(0))];
            if let Ok(program) = Program::new(inputs(&[from]), ops, NodeIndex(1), None) {
                agrees_in_both_loops(&engine, &program, std::slice::from_ref(&a), elems);
            }
        }
    }
}

#[test]
fn every_reduction_agrees_on_every_dtype_and_length() {
    let engine = engine();
    let mut draw = Draw(5);
    for dtype in DType::ALL.iter().copied() {
        for reduction in REDUCTIONS {
            let program =
                Program::new(inputs(&[dtype]), vec![Op::Input(0)], NodeIndex(0), Some(reduction));
            let program = program.unwrap();
            for elems in [0, 1, 2, 7, 15, 16, 17, 31, 33, 100, 1023, 16_384, 16_401, 131_072 + 5] {
                // Ordinary values, or NaN and infinities would hide every other mistake.
                let plain = operands::plain(dtype, elems, &mut draw);
                agrees(&engine, &program, &[plain], 0, elems);
                if elems < 200 {
                    agrees(&engine, &program, &[elements(dtype, elems, &mut draw)], 0, elems);
                }
            }
        }
    }
}

#[test]
fn the_index_counts_from_the_first_element_of_the_shard() {
    let engine = engine();
    let (parsed, _) = quadratic();
    for (first, elems) in [(0, 1), (3, 17), (1 << 40, 16_384 * 2 + 9), (u64::MAX - 40, 100)] {
        agrees(&engine, &parsed, &[], first, elems);
    }
}

/// `i*i + 3*i + 1` and its sum.
fn quadratic() -> (Program, Program) {
    let ops = vec![
        Op::Index,
        Op::Const(Scalar::i64(3)),
        Op::Const(Scalar::i64(1)),
        Op::Binary(BinaryOp::Mul, NodeIndex(0), NodeIndex(0)),
        Op::Binary(BinaryOp::Mul, NodeIndex(0), NodeIndex(1)),
        Op::Binary(BinaryOp::Add, NodeIndex(3), NodeIndex(4)),
        Op::Binary(BinaryOp::Add, NodeIndex(5), NodeIndex(2)),
    ];
    let fill = Program::new(Vec::new(), ops.clone(), NodeIndex(6), None).unwrap();
    let sum = Program::new(Vec::new(), ops, NodeIndex(6), Some(Reduction::Sum)).unwrap();
    (fill, sum)
}

#[test]
fn a_long_program_runs_four_elements_at_a_time_and_agrees() {
    let engine = engine();
    let mut draw = Draw(9);
    for reduction in [None, Some(Reduction::Sum), Some(Reduction::Min)] {
        for dtype in [DType::F64, DType::F32, DType::I64, DType::U16] {
            let mut ops = vec![Op::Input(0), Op::Input(1)];
            for step in 0..120u32 {
                let op = [BinaryOp::Add, BinaryOp::Mul, BinaryOp::Sub][step as usize % 3];
                ops.push(Op::Binary(op, NodeIndex(step), NodeIndex(step + 1)));
            }
            let program =
                Program::new(inputs(&[dtype, dtype]), ops, NodeIndex(121), reduction).unwrap();
            for elems in [3, 16, 70, 1029] {
                let bytes = [(); 2].map(|()| operands::plain(dtype, elems, &mut draw));
                agrees(&engine, &program, &bytes, 0, elems);
            }
        }
    }
}

#[test]
fn the_longest_program_that_exists_compiles_and_agrees() {
    let functions = [UnaryOp::Sin, UnaryOp::Exp, UnaryOp::Tanh, UnaryOp::Cos];
    let mut ops = vec![Op::Input(0)];
    let mut longest = None;
    for op in functions.into_iter().cycle() {
        let last = u32::try_from(ops.len()).unwrap();
        ops.push(Op::Unary(op, NodeIndex(last - 1)));
        match Program::new(inputs(&[DType::F64]), ops.clone(), NodeIndex(last), None) {
            Ok(program) => longest = Some(program),
            Err(_) => break,
        }
    }
    let program = longest.unwrap();
    assert!(expr::lower(&program).nodes().len() > limits::EXPR_LOWERED_NODES_MAX / 2);
    agrees(&engine(), &program, &[operands::plain(DType::F64, 21, &mut Draw(6))], 0, 21);
}

#[test]
fn an_array_can_be_read_and_written_in_place() {
    struct Shared(parking_lot::Mutex<Vec<u8>>);
    struct Writer(Arc<Shared>);
    impl TileSource for Shared {
        fn copy_to(&self, byte_offset: u64, dst: &mut [u8]) {
            let start = usize::try_from(byte_offset).unwrap();
            dst.copy_from_slice(&self.0.lock()[start..][..dst.len()]);
        }
    }
    impl TileSink for Writer {
        fn copy_from(&mut self, byte_offset: u64, src: &[u8]) {
            let start = usize::try_from(byte_offset).unwrap();
            self.0.0.lock()[start..][..src.len()].copy_from_slice(src);
        }
    }
    let elems = 40_000;
    let bytes = operands::plain(DType::I64, elems, &mut Draw(3));
    let ops = vec![
        Op::Input(0),
        Op::Const(Scalar::i64(7)),
        Op::Binary(BinaryOp::Mul, NodeIndex(0), NodeIndex(1)),
    ];
    let program = Program::new(inputs(&[DType::I64]), ops, NodeIndex(2), None).unwrap();
    let expected = expr::evaluate(&program, &[&bytes], 0, elems).unwrap();
    let shared = Arc::new(Shared(parking_lot::Mutex::new(bytes)));
    let mut writer = Writer(Arc::clone(&shared));
    let sinks: &mut [&mut dyn TileSink] = &mut [&mut writer];
    let task =
        ShardTask { first_index: 0, elems: elems as u64, inputs: &[&*shared], outputs: sinks };
    engine().expression(&program).unwrap().run_shard(task, &RunControl::default()).unwrap();
    assert_eq!(*shared.0.lock(), expected);
}

#[test]
fn the_same_program_is_compiled_once_and_billed_the_same() {
    let engine = engine();
    let (_, sum) = quadratic();
    let first = engine.expression(&sum).unwrap();
    assert!(Arc::ptr_eq(&first, &engine.expression(&sum).unwrap()));
    let run = || {
        let task = ShardTask { first_index: 5, elems: 100_000, inputs: &[], outputs: &mut [] };
        first.run_shard(task, &RunControl::default()).unwrap()
    };
    assert_eq!(run(), run());
    assert!(run().fuel >= 100_000);
}

#[test]
fn a_cancelled_or_late_run_stops_and_says_so() {
    let compiled = engine().expression(&quadratic().1).unwrap();
    let run = |control: &RunControl| {
        let task = ShardTask {
            first_index: 0,
            elems: limits::SHARD_ELEMS_MAX,
            inputs: &[],
            outputs: &mut [],
        };
        compiled.run_shard(task, control).unwrap_err()
    };
    let control = RunControl::default();
    control.cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(run(&control), ExecError::Cancelled { .. }));
    #[expect(clippy::disallowed_methods, reason = "a deadline is a wall-clock instant")]
    let deadline = Some(std::time::Instant::now());
    assert!(matches!(
        run(&RunControl { deadline, ..RunControl::default() }),
        ExecError::DeadlineExceeded { .. }
    ));
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let compiled = engine().expression(&quadratic().0).unwrap();
    let refused = |task: ShardTask<'_, '_>| {
        let error = compiled.run_shard(task, &RunControl::default()).unwrap_err();
        assert!(matches!(error, ExecError::TaskInvalid { .. }), "{error}");
    };
    refused(ShardTask { first_index: 0, elems: 1, inputs: &[], outputs: &mut [] });
    let mut sink = Sink::default();
    refused(ShardTask {
        first_index: 0,
        elems: limits::SHARD_ELEMS_MAX + 1,
        inputs: &[],
        outputs: &mut [&mut sink],
    });
    refused(ShardTask {
        first_index: 0,
        elems: 1,
        inputs: &[&Source(&[0])],
        outputs: &mut [&mut sink],
    });
}

/// A random well-typed program.
fn random_program(draw: &mut Draw) -> Program {
    let count = draw.below(4);
    let dtypes: Vec<DType> = (0..count).map(|_| draw.dtype()).collect();
    let mut ops: Vec<Op> =
        (0..count).map(|input| Op::Input(u16::try_from(input).unwrap())).collect();
    ops.push(Op::Index);
    let typed = |ops: &[Op]| {
        let root = NodeIndex(u32::try_from(ops.len() - 1).unwrap());
        Program::new(inputs(&dtypes), ops.to_vec(), root, None)
    };
    for _ in 0..2 + draw.below(24) {
        let mut pick = || NodeIndex(u32::try_from(draw.below(ops.len())).unwrap());
        let (a, b, c) = (pick(), pick(), pick());
        let dtype = draw.dtype();
        let op = match draw.below(12) {
            0 => Op::Const(operands::interesting(dtype)[draw.below(5)]),
            1 => Op::Unary(UNARY[draw.below(UNARY.len())], a),
            2 | 3 => Op::Cast(dtype, a),
            // Floats only as they were read: the bits of a computed NaN are not defined.
            4 if matches!(ops[a.0 as usize], Op::Input(_)) => Op::Reinterpret(dtype, a),
            5 => Op::Select { condition: a, yes: b, no: c },
            6 | 7 => Op::Compare(COMPARE[draw.below(6)], a, b),
            _ => Op::Binary(BINARY[draw.below(BINARY.len())], a, b),
        };
        ops.push(op);
        if typed(&ops).is_err() {
            ops.pop();
        }
    }
    let root = NodeIndex(u32::try_from(ops.len() - 1).unwrap());
    let reduction = [None, None, Some(REDUCTIONS[draw.below(4)])][draw.below(3)];
    Program::new(inputs(&dtypes), ops, root, reduction).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_programs_agree_with_the_interpreter(seed in any::<u64>(), small in 0usize..80, large in 0usize..4) {
        let engine = engine();
        let mut draw = Draw(seed);
        let program = random_program(&mut draw);
        let sizes = program.inputs().iter().map(|input| input.dtype.size());
        let tile = limits::TILE_BYTES / sizes.chain([program.output_dtype().size()]).max().unwrap_or(8);
        let lengths = [small, [tile - 1, tile, tile + 1, tile + 23][large]];
        for elems in lengths {
            let bytes: Vec<Vec<u8>> =
                program.inputs().iter().map(|input| elements(input.dtype, elems, &mut draw)).collect();
            agrees(&engine, &program, &bytes, draw.next() >> 20, elems);
        }
    }
}
