use proptest::prelude::*;

use super::*;
use crate::expr::{Input, NodeIndex, Op};

fn program(dtype: DType, reduction: Reduction) -> Program {
    let input = Input { name: "x".into(), dtype };
    Program::new(vec![input], vec![Op::Input(0)], NodeIndex(0), Some(reduction)).unwrap()
}

const ALL: [Reduction; 4] = [Reduction::Sum, Reduction::Prod, Reduction::Min, Reduction::Max];

/// The contract of the module docs, word by word, for float64.
fn by_the_book(values: &[f64], op: fn(f64, f64) -> f64, start: f64) -> f64 {
    let mut lanes = [start; 16];
    for (index, value) in values.iter().enumerate() {
        lanes[index % 16] = op(lanes[index % 16], *value);
    }
    for width in [8, 4, 2, 1] {
        for k in 0..width {
            lanes[k] = op(lanes[k], lanes[k + width]);
        }
    }
    lanes[0]
}

proptest! {
    #[test]
    fn a_shards_sum_has_the_bits_that_the_contract_gives(values in proptest::collection::vec(-1e3f64..1e3, 0..4000)) {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        for (reduction, op, start) in [
            (Reduction::Sum, (|a, b| a + b) as fn(f64, f64) -> f64, 0.0),
            (Reduction::Prod, |a, b| a * b, 1.0),
            (Reduction::Min, f64::min, f64::INFINITY),
            (Reduction::Max, f64::max, f64::NEG_INFINITY),
        ] {
            let got = reduce_shard(&program(DType::F64, reduction), &[&bytes], 0, values.len()).unwrap();
            let expected = by_the_book(&values, op, start);
            if expected.is_nan() {
                prop_assert_eq!(got.bits(), 0x7ff8_0000_0000_0000, "{:?}", reduction);
            } else {
                prop_assert_eq!(got.bits(), expected.to_bits(), "{:?}", reduction);
            }
        }
    }

    #[test]
    fn shards_combine_in_a_tree_whatever_order_they_come_in(values in proptest::collection::vec(-1e9f64..1e9, 1..40), turn in 0usize..40) {
        let mut partials: Vec<(ShardIndex, Scalar)> =
            (0..).map(ShardIndex).zip(values.iter().map(|v| Scalar::f64(*v))).collect();
        let mut level = values.clone();
        while level.len() > 1 {
            level = level.chunks(2).map(|pair| pair.iter().copied().reduce(|a, b| a + b).unwrap()).collect();
        }
        partials.rotate_left(turn % values.len());
        let got = combine(Reduction::Sum, DType::F64, &partials).unwrap().unwrap();
        prop_assert_eq!(got, Scalar::f64(level[0]));
    }

    #[test]
    fn integer_sums_do_not_depend_on_how_they_are_cut(values in proptest::collection::vec(any::<u32>(), 1..300), cut in 1usize..300) {
        let program = program(DType::U32, Reduction::Sum);
        let parts: Vec<_> = values
            .chunks(cut)
            .zip(0..)
            .map(|(part, shard)| {
                let bytes: Vec<u8> = part.iter().flat_map(|v| v.to_le_bytes()).collect();
                (ShardIndex(shard), reduce_shard(&program, &[&bytes], 0, part.len()).unwrap())
            })
            .collect();
        let total = combine(Reduction::Sum, DType::U32, &parts).unwrap().unwrap();
        let expected: u64 = values.iter().map(|v| u64::from(*v)).sum();
        prop_assert_eq!(finish(Reduction::Sum, DType::U32, total), Scalar::from_bits(DType::U64, expected));
    }
}

#[test]
fn an_identity_changes_no_element() {
    for reduction in ALL {
        for dtype in DType::ALL {
            let accumulator = reduction.accumulator_dtype(*dtype);
            let start = identity(reduction, *dtype);
            assert_eq!(start.dtype(), accumulator, "{reduction:?} {dtype}");
            for bits in [0, 1, 0x7f, 0x80, 0xff, 1 << 31, 1 << 62, 1 << 63, 0x3f80_0000] {
                let value = Scalar::from_bits(accumulator, bits);
                // 0 + -0 is 0, which is the same number.
                let kept = combine_two(reduction, start, value).unwrap();
                let same = kept == value || (kept.to_f64() == 0.0 && value.to_f64() == 0.0);
                assert!(same, "{reduction:?} of {dtype}: {start} with {value} gives {kept}");
            }
            let empty = reduce_shard(&program(*dtype, reduction), &[&[]], 0, 0).unwrap();
            assert_eq!(empty, start);
        }
    }
}

#[test]
fn of_nothing_sums_are_zero_products_one_and_extrema_missing() {
    let nothing = |reduction| combine(reduction, DType::F32, &[]).unwrap();
    assert_eq!(nothing(Reduction::Sum), Some(Scalar::f64(0.0)));
    assert_eq!(nothing(Reduction::Prod), Some(Scalar::f64(1.0)));
    assert_eq!(nothing(Reduction::Min), None);
    assert_eq!(nothing(Reduction::Max), None);
}

#[test]
fn float32_is_summed_in_float64_and_rounded_once() {
    let values = [16_777_216f32, 1.0, 1.0, 1.0, -16_777_216.0];
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let sum = reduce_shard(&program(DType::F32, Reduction::Sum), &[&bytes], 0, 5).unwrap();
    assert_eq!(sum, Scalar::f64(3.0));
    assert_eq!(finish(Reduction::Sum, DType::F32, sum), Scalar::f32(3.0));
    let overflow = Scalar::f64(1e300);
    assert_eq!(finish(Reduction::Sum, DType::F32, overflow), Scalar::f32(f32::INFINITY));
}

#[test]
fn nan_wins_and_is_canonical() {
    let values = [1.0, -f64::NAN, 3.0];
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    for reduction in ALL {
        let got = reduce_shard(&program(DType::F64, reduction), &[&bytes], 0, 3).unwrap();
        assert_eq!(got.bits(), 0x7ff8_0000_0000_0000, "{reduction:?}");
        let noisy = Scalar::from_bits(DType::F64, 0xfff8_0000_0000_0001);
        let alone = combine(reduction, DType::F64, &[(ShardIndex(4), noisy)]).unwrap().unwrap();
        assert_eq!(alone.bits(), 0x7ff8_0000_0000_0000, "{reduction:?}");
    }
}

#[test]
fn partial_results_that_do_not_fit_are_refused() {
    let one = (ShardIndex(1), Scalar::f64(1.0));
    let twice = combine(Reduction::Sum, DType::F64, &[one, one]).unwrap_err();
    assert_eq!(twice.code, ErrorCode::InvalidArgument);
    let foreign = combine(Reduction::Sum, DType::I8, &[one]).unwrap_err();
    assert_eq!(foreign.code, ErrorCode::DtypeMismatch);
    let plain = Program::new(Vec::new(), vec![Op::Index], NodeIndex(0), None).unwrap();
    assert_eq!(reduce_shard(&plain, &[], 0, 1).unwrap_err().code, ErrorCode::InvalidArgument);
}
