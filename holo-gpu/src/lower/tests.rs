use holo_core::expr::{Input, NodeIndex, Op, Program, Reduction};
use holo_core::{DType, Scalar, limits};

use super::{fold_partials, lower_to_wgsl};
use crate::protocol::PAYLOAD_BYTES_MAX;

fn copies(dtypes: &[DType], reduction: Option<Reduction>) -> Program {
    let inputs = dtypes.iter().map(|dtype| Input { name: "x".into(), dtype: *dtype }).collect();
    let ops = (0..dtypes.len()).map(|input| Op::Input(u16::try_from(input).unwrap())).collect();
    Program::new(inputs, ops, NodeIndex(0), reduction).unwrap()
}

/// Every mix of dtypes and lengths: no element is lost or computed twice, and every launch fits its limits.
#[test]
fn launches_cover_every_element_once_and_fit_their_bindings() {
    let mixes: [&[DType]; 5] = [
        &[DType::U8],
        &[DType::F32, DType::F32],
        &[DType::I64],
        &[DType::Bool, DType::I16, DType::U64],
        &[DType::U64; limits::RUN_OPERANDS_MAX - 1],
    ];
    for dtypes in mixes {
        for reduction in [None, Some(Reduction::Max)] {
            let kernel = lower_to_wgsl(&copies(dtypes, reduction)).unwrap();
            for elems in [0, 1, 3, 4096, limits::SHARD_ELEMS_MAX, 3 * limits::SHARD_ELEMS_MAX + 1] {
                let mut next = 0;
                for chunk in kernel.chunks(1 << 40, elems).unwrap() {
                    assert_eq!(chunk.start, next);
                    assert_eq!(chunk.start % 4, 0);
                    next += chunk.elems;
                    assert!(chunk.data_bytes <= PAYLOAD_BYTES_MAX as u64, "{chunk:?}");
                    assert!(chunk.result_bytes <= PAYLOAD_BYTES_MAX as u64, "{chunk:?}");
                    assert!(chunk.groups.0 <= 65_535 && chunk.groups.1 <= 65_535, "{chunk:?}");
                    let first = u64::from(chunk.params[1]) | u64::from(chunk.params[2]) << 32;
                    assert_eq!(first, (1 << 40) + chunk.start);
                    let ends = chunk.inputs.iter().map(|(offset, bytes)| offset + bytes);
                    assert!(
                        ends.zip(chunk.inputs.iter().skip(1)).all(|(end, (next, _))| end <= *next)
                    );
                }
                assert_eq!(next, elems);
            }
        }
    }
}

#[test]
fn indexes_beyond_any_array_are_refused() {
    let kernel = lower_to_wgsl(&copies(&[DType::I32], None)).unwrap();
    assert!(kernel.chunks(u64::MAX, 1).is_err());
    assert!(kernel.chunks(limits::ARRAY_BYTES_MAX, 1).is_err());
}

fn folded(reduction: Reduction, element: DType, partials: &[Scalar]) -> Scalar {
    let bytes: Vec<u8> = partials
        .iter()
        .flat_map(|value| value.le_bytes()[..value.dtype().size()].to_vec())
        .collect();
    let words = partials[0].dtype().size() / 4;
    fold_partials(reduction, element, words, None, &bytes).unwrap()
}

#[test]
fn partial_sums_wrap_as_integers_and_add_up_as_float64() {
    let halves = [Scalar::i64(i64::MAX), Scalar::i64(2)];
    assert_eq!(folded(Reduction::Sum, DType::I32, &halves), Scalar::i64(i64::MIN + 1));
    let floats = [16_777_216.0, 1.0, 1.0].map(Scalar::f32);
    assert_eq!(folded(Reduction::Sum, DType::F32, &floats), Scalar::f64(16_777_218.0));
    let nan = [Scalar::f32(f32::from_bits(0xffc0_1234))];
    assert_eq!(folded(Reduction::Sum, DType::F32, &nan).bits(), 0x7ff8_0000_0000_0000);
}

#[test]
fn partial_extremes_know_nan_and_signed_zeros() {
    let zeros = [0.0, -0.0, 0.0].map(Scalar::f32);
    assert_eq!(folded(Reduction::Min, DType::F32, &zeros), Scalar::f32(-0.0));
    assert_eq!(folded(Reduction::Max, DType::F32, &[zeros[1], zeros[0]]), Scalar::f32(0.0));
    let with_nan = [Scalar::f32(1.0), Scalar::f32(-f32::NAN)];
    assert_eq!(folded(Reduction::Min, DType::F32, &with_nan).bits(), 0x7fc0_0000);
    // A small integer arrives sign-extended in a word.
    let words = [Scalar::from_bits(DType::I32, 0xffff_fffe), Scalar::from_bits(DType::I32, 1)];
    assert_eq!(folded(Reduction::Min, DType::I8, &words), Scalar::from_bits(DType::I8, 0xfe));
}

#[test]
fn an_accumulator_takes_part_in_the_next_launch() {
    let bytes = Scalar::i64(5).le_bytes();
    let next = fold_partials(Reduction::Sum, DType::I64, 2, Some(Scalar::i64(37)), &bytes);
    assert_eq!(next, Some(Scalar::i64(42)));
    assert_eq!(fold_partials(Reduction::Sum, DType::I64, 2, None, &[]), None);
}
