use proptest::prelude::*;

use super::*;
use crate::expr::{combine, evaluate, finish, reduce_shard};
use crate::{Scalar, ShardIndex};

fn inputs(list: &[(&str, DType)]) -> Vec<Input> {
    list.iter().map(|(name, dtype)| Input { name: (*name).to_owned(), dtype: *dtype }).collect()
}

/// The value of `text` over one element of each input.
fn value(text: &str, list: &[(&str, Scalar)]) -> Scalar {
    let declared: Vec<_> = list.iter().map(|(name, value)| (*name, value.dtype())).collect();
    let parsed = parse(text, &inputs(&declared)).unwrap_or_else(|failure| panic!("{failure}"));
    let bytes: Vec<Vec<u8>> =
        list.iter().map(|(_, v)| v.le_bytes()[..v.dtype().size()].to_vec()).collect();
    let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    let out = evaluate(&parsed.program, &slices, 7, 1).unwrap();
    Scalar::from_le_bytes(parsed.program.dtype(parsed.program.root()), &out).unwrap()
}

fn int(dtype: DType, value: i128) -> Scalar {
    Scalar::from_bits(dtype, u64::try_from(value & i128::from(u64::MAX)).unwrap())
}

#[test]
fn precedence_and_associativity_are_pythons() {
    let x = [("x", Scalar::i64(3))];
    for (text, expected) in [
        ("1 + 2 * x", 7),
        ("(1 + 2) * x", 9),
        ("10 - 4 - x", 3),
        ("-x ** 2", -9),
        ("(-x) ** 2", 9),
        ("x ** 2 ** 1", 9),
        ("~x + 1", -3),
        ("7 // 2 * x", 9),
        ("-7 // x", -3),
        ("-7 % x", 2),
        ("1 << x + 1", 16),
        ("x | 4 & 6 ^ 1", 7),
        ("x * -2", -6),
        ("i + x", 10),
        ("index() * 2", 14),
        ("+x - -x", 6),
        ("0x10 + 0b11 + 0o7 + 1_000", 1026),
        ("where(x > 2, 10, 20) + (x == 3)", 11),
        ("t = x + 1; u = t * t; u - t", 12),
        ("t = x + 1\n# a comment; with signs (\nt * (t +\n 1)\n", 20),
        ("min(x, 2) + max(x, 9) + minimum(x, 1) + maximum(x, 0)", 15),
        ("abs(-x) + round(x) + floor(x)", 9),
        ("int64(2.9) + int64(true)", 3),
        ("astype(x, uint8) + 1", 4),
    ] {
        assert_eq!(value(text, &x).to_i128(), expected, "{text}");
    }
    assert_eq!(value("x > 2 | 1", &x), Scalar::bool(false), "| binds tighter than >");
    assert_eq!(value("(x > 2) & ~(x > 5)", &x), Scalar::bool(true));
}

#[test]
fn literals_are_weak_and_results_have_numpys_dtypes() {
    let all = [
        ("b", DType::Bool),
        ("i8", DType::I8),
        ("u8", DType::U8),
        ("i32", DType::I32),
        ("i64", DType::I64),
        ("u64", DType::U64),
        ("f32", DType::F32),
        ("f64", DType::F64),
    ];
    for (text, expected) in [
        ("i8 + 1", DType::I8),
        ("1 - u8", DType::U8),
        ("b + 1", DType::I64),
        ("b + 1.0", DType::F64),
        ("i8 + 1.5", DType::F64),
        ("f32 + 1", DType::F32),
        ("f32 * 1.1", DType::F32),
        ("f32 * (1 + pi)", DType::F32),
        ("i8 / i8", DType::F64),
        ("f32 / f32", DType::F32),
        ("f32 / i8", DType::F32),
        ("f32 + i32", DType::F64),
        ("i64 + u64", DType::F64),
        ("b + i8", DType::I8),
        ("b + b", DType::Bool),
        ("b * b", DType::Bool),
        ("b // b", DType::I8),
        ("b / b", DType::F64),
        ("b ** 2", DType::I8),
        ("sqrt(i8)", DType::F64),
        ("sqrt(f32)", DType::F32),
        ("floor(i32)", DType::I32),
        ("i8 ** 3", DType::I8),
        ("f32 ** 0.5", DType::F32),
        ("f32 ** 2.5", DType::F32),
        ("i8 < 1000", DType::Bool),
        ("where(b, 1, 2)", DType::I64),
        ("where(b, f32, 2.5)", DType::F32),
        ("where(i8, i8, i32)", DType::I32),
        ("1", DType::I64),
        ("2 ** 63", DType::U64),
        ("1 / 2", DType::F64),
        ("2 ** -1", DType::F64),
        ("true", DType::Bool),
        ("i", DType::I64),
        ("u8 << 1", DType::U8),
    ] {
        let parsed = parse(text, &inputs(&all)).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(parsed.program.output_dtype(), expected, "{text}");
    }
}

#[test]
fn integers_compare_by_value_whatever_their_dtypes() {
    let big = int(DType::U64, i128::from(u64::MAX));
    let minus = Scalar::i64(-1);
    let cases = [
        ("a < b", true),
        ("a == b", false),
        ("a != b", true),
        ("b > a", true),
        ("b <= a", false),
        ("a >= b", false),
    ];
    for (text, expected) in cases {
        assert_eq!(value(text, &[("a", minus), ("b", big)]), Scalar::bool(expected), "{text}");
    }
    let equal = [("a", Scalar::i64(5)), ("b", int(DType::U64, 5))];
    assert_eq!(value("(a == b) & (b <= a) & ~(a < b)", &equal), Scalar::bool(true));
    let small = [("x", int(DType::U8, 200))];
    for (text, expected) in [
        ("x < 300", true),
        ("300 > x", true),
        ("x == -1", false),
        ("x >= -1", true),
        ("-1 != x", true),
        ("x > 256", false),
    ] {
        assert_eq!(value(text, &small), Scalar::bool(expected), "{text}");
    }
}

#[test]
fn integer_arithmetic_wraps_and_constants_fold() {
    assert_eq!(value("x + 100", &[("x", int(DType::I8, 100))]).to_i128(), -56);
    assert_eq!(value("x ** 8", &[("x", int(DType::U8, 3))]).to_i128(), 6561 % 256);
    let folded = parse("y = 2 * 3 + float32(1) * 4", &[]).unwrap();
    assert_eq!(folded.target.as_deref(), Some("y"));
    assert_eq!(folded.program.nodes().len(), 1);
    let shared = parse("sin(x) * sin(x) + sin(x)", &inputs(&[("x", DType::F64)])).unwrap();
    assert_eq!(shared.program.nodes().len(), 4, "x, sin, product, sum");
    let unused = parse("t = x * 2; u = t + 1; t", &inputs(&[("x", DType::F64)])).unwrap();
    assert_eq!(unused.program.nodes().len(), 3);
}

#[test]
fn reductions_stand_at_the_root() {
    let bytes: Vec<u8> = (1..=10i64).flat_map(i64::to_le_bytes).collect();
    for (text, expected) in [
        ("sum(x)", 55),
        ("s = sum(x * x);", 385),
        ("prod(x)", 3_628_800),
        ("min(x - 3)", -2),
        ("max((x) // (2))", 5),
        ("sum(min(x, 5))", 40),
        ("sum(x > 4)", 6),
    ] {
        let parsed = parse(text, &inputs(&[("x", DType::I64)])).unwrap();
        let reduction = parsed.program.reduction().unwrap();
        let element = parsed.program.dtype(parsed.program.root());
        let partial = reduce_shard(&parsed.program, &[&bytes], 0, 10).unwrap();
        let total = combine(reduction, element, &[(ShardIndex(0), partial)]).unwrap().unwrap();
        assert_eq!(finish(reduction, element, total).to_i128(), expected, "{text}");
    }
}

#[test]
fn mistakes_are_pointed_at() {
    let declared =
        inputs(&[("x", DType::F64), ("n", DType::I64), ("b", DType::Bool), ("u", DType::U8)]);
    for (text, place, word) in [
        ("sqrt(y) + 1", "y", "unknown name"),
        ("2 * sqr(x)", "sqr", "\"sqrt\""),
        ("mean(x)", "mean", "sum(x)"),
        ("sum(x) / 2", "sum(x)", "alone"),
        ("x +", "", "missing"),
        ("(x", "", "closing"),
        ("x )", ")", "does not belong"),
        ("x and b", "and", "&"),
        ("x = y = 2", "y", "unknown name"),
        ("n = 3 = x", "=", "=="),
        ("x < 1 < 2", "<", "chain"),
        ("n ** n", "**", "literal"),
        ("n ** 9", "**", "literal"),
        ("u + 256", "256", "uint8"),
        ("u - 1000", "1000", "uint8"),
        ("x & 1", "&", "bitwise"),
        ("-b", "-", "~"),
        ("b - b", "-", "^"),
        ("x[1:2]", "[", "whole arrays"),
        ("x; n", "x", "nowhere"),
        ("1 // 0", "//", "zero"),
        ("sqrt", "sqrt", "sqrt(...)"),
        ("sqrt(x, x)", "sqrt(x, x)", "one argument"),
        ("where(b, x)", "where(b, x)", "three"),
        ("astype(x, 'f4')", "'", "quotes"),
        ("astype(x, f4)", "f4", "dtype"),
        ("2x", "2x", "number"),
        ("1.2.3", "1.2.3", "number"),
        ("x ? 1", "?", "means nothing"),
        ("10 ** 50", "**", "held"),
        ("x\n+ y2", "x", "nowhere"),
        ("", "", "missing"),
        (" ; ", "", "missing"),
        ("x = ", "", "missing"),
    ] {
        let failure = parse(text, &declared).expect_err(text);
        assert_eq!(failure.code, ErrorCode::ExpressionInvalid, "{text}");
        let whole = failure.to_string();
        assert!(whole.contains(word), "{text}: {whole}");
        let mut lines = failure.message.lines().skip(1);
        let (line, carets) = (lines.next().unwrap(), lines.next().unwrap());
        if !place.is_empty() {
            let at = carets.find('^').unwrap();
            let under = &line[at..(at + carets.matches('^').count()).min(line.len())];
            assert!(under.starts_with(place), "{text}: points at {under:?}\n{whole}");
        }
    }
}

#[test]
fn nothing_grows_beyond_its_limit() {
    let declared = inputs(&[("x", DType::F64)]);
    let code = |text: String| parse(&text, &declared).unwrap_err().code;
    assert_eq!(code("(".repeat(5000)), ErrorCode::TooLarge);
    assert_eq!(code("-".repeat(5000)), ErrorCode::TooLarge);
    assert_eq!(code(format!("{}x", "x**".repeat(4000))), ErrorCode::TooLarge);
    assert_eq!(code("sqrt(".repeat(3000)), ErrorCode::TooLarge);
    assert_eq!(code(" ".repeat(limits::EXPR_TEXT_BYTES_MAX + 1)), ErrorCode::TooLarge);
    let many: Vec<String> = (0..1100).map(|k| format!("x*{k}.5")).collect();
    assert_eq!(code(many.join("+")), ErrorCode::TooLarge);
    let nested = format!("{}x{}", "(".repeat(100), ")".repeat(100));
    assert!(parse(&nested, &declared).is_ok());
    let chain = vec!["x"; 900].join(" + ");
    assert!(parse(&chain, &declared).is_ok());
    assert_eq!(parse("x", &vec![declared[0].clone(); 16]).unwrap_err().code, ErrorCode::TooLarge);
}

proptest! {
    #[test]
    fn noise_is_refused_with_a_place_or_makes_a_program(text in "[-+*/%&|^~<>=!(),;.# \\nxnbi0-9e]{0,60}") {
        let declared = inputs(&[("x", DType::F64), ("n", DType::I64), ("b", DType::Bool)]);
        if let Err(failure) = parse(&text, &declared) {
            prop_assert!(failure.message.contains('^'), "{}", failure);
        }
    }

    #[test]
    fn any_text_is_survived(text in "\\PC{0,40}") {
        let _ = parse(&text, &[]).is_ok();
    }

    #[test]
    fn integer_division_is_pythons(a in any::<i64>(), b in any::<i64>()) {
        let list = [("a", Scalar::i64(a)), ("b", Scalar::i64(b))];
        let (quotient, rest) = (value("a // b", &list), value("a % b", &list));
        if b == 0 {
            prop_assert_eq!((quotient, rest), (Scalar::i64(0), Scalar::i64(0)));
        } else {
            let (wide_a, wide_b) = (i128::from(a), i128::from(b));
            let floor = wide_a.div_euclid(wide_b) - i128::from(wide_b < 0 && wide_a.rem_euclid(wide_b) != 0);
            prop_assert_eq!(quotient, int(DType::I64, floor));
            prop_assert_eq!(rest.to_i128(), wide_a - floor * wide_b);
        }
    }
}
