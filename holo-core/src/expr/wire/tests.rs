use proptest::prelude::*;

use super::*;
use crate::expr::parse;

fn declared() -> Vec<Input> {
    [("x", DType::F32), ("n", DType::I64), ("b", DType::Bool)]
        .map(|(name, dtype)| Input { name: name.into(), dtype })
        .into()
}

/// Texts that use every kind of node and every operation.
const TEXTS: [&str; 8] = [
    "sum(where(b, sqrt(x * x + 1), -x / 3))",
    "exp(x) + log(x) - sin(x) * cos(x) / tanh(x) ** 2.5",
    "(n // 3) % 7 << 2 >> 1 & 255 | 1 ^ ~n",
    "max(minimum(n, i) - maximum(n, 3))",
    "min(abs(x) + floor(x) + ceil(x) + trunc(x) + round(x))",
    "prod(uint8(n) * int16(3))",
    "(n == 1) | (n != 2) & (x < 1) ^ (x <= 2) | (x > 3) | ~(x >= 4)",
    "n // 1",
];

#[test]
fn programs_go_there_and_back() {
    for text in TEXTS {
        let program = parse(text, &declared()).unwrap().program;
        assert_eq!(Program::decode(&program.encode()).unwrap(), program, "{text}");
    }
    let ops = vec![Op::Input(0), Op::Reinterpret(DType::I32, NodeIndex(0))];
    let program = Program::new(declared(), ops, NodeIndex(1), None).unwrap();
    assert_eq!(Program::decode(&program.encode()).unwrap(), program);
}

#[test]
fn every_operation_has_a_number_of_its_own() {
    fn distinct<T: Copy>(table: &[(u32, T)]) -> usize {
        let numbers: std::collections::BTreeSet<u32> = table.iter().map(|(n, _)| *n).collect();
        assert!(!numbers.contains(&0));
        numbers.len()
    }
    assert_eq!(distinct(UNARY_OPS), UnaryOp::Tanh as usize + 1);
    assert_eq!(distinct(BINARY_OPS), BinaryOp::Shr as usize + 1);
    assert_eq!(distinct(COMPARE_OPS), CompareOp::Ge as usize + 1);
    assert_eq!(distinct(REDUCTIONS), Reduction::Max as usize + 1);
}

#[test]
fn versions_and_sizes_are_checked() {
    let body = |version, nodes| ProgramBody {
        version,
        inputs: Vec::new(),
        nodes: vec![NodeBody { kind: INDEX, ..NodeBody::default() }; nodes],
        root: 0,
        reduction: 0,
    };
    let code = |body: ProgramBody| Program::decode(&body.encode_to_vec()).map_err(|f| f.code);
    assert!(code(body(1, 1)).is_ok());
    assert_eq!(code(body(2, 1)), Err(ErrorCode::VersionMismatch));
    assert_eq!(code(body(1, limits::EXPR_NODES_MAX + 1)), Err(ErrorCode::TooLarge));
    assert_eq!(code(body(1, 0)), Err(ErrorCode::ExpressionInvalid));
    assert_eq!(code(ProgramBody { reduction: 9, ..body(1, 1) }), Err(ErrorCode::Malformed));
    let unknown = NodeBody { kind: 77, ..NodeBody::default() };
    assert_eq!(code(ProgramBody { nodes: vec![unknown], ..body(1, 0) }), Err(ErrorCode::Malformed));
    // A node that refers to itself would make an endless program.
    let selfish = NodeBody { kind: UNARY, code: 1, ..NodeBody::default() };
    assert_eq!(
        code(ProgramBody { nodes: vec![selfish], ..body(1, 0) }),
        Err(ErrorCode::ExpressionInvalid)
    );
}

proptest! {
    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Program::decode(&noise).is_ok();
    }

    #[test]
    fn a_flipped_byte_makes_another_valid_program_or_an_error(pick in 0usize..8, at in any::<proptest::sample::Index>(), flip in 1u8..) {
        let program = parse(TEXTS[pick], &declared()).unwrap().program;
        let mut bytes = program.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(other) = Program::decode(&bytes) {
            prop_assert_eq!(Program::decode(&other.encode()).unwrap(), other);
        }
    }
}
