//! WGSL text of single operations and of the entry points.

use holo_core::DType;
use holo_core::expr::{BinaryOp, CompareOp, Reduction, UnaryOp};

use super::carrier::Carrier;
use super::kernel::PARAMS_FIXED;
use crate::GpuError;

/// Invocations of a workgroup: what every adapter runs.
const GROUP_SIZE: usize = 256;
/// Elements that one invocation stores: four bytes are one word, so no two invocations write the same word.
pub(super) const ELEMENTS_PER_INVOCATION: usize = 4;
/// Elements that one invocation of a reduction combines.
pub(super) const SUMMANDS_PER_INVOCATION: usize = 16;
/// Elements of a workgroup that stores.
pub(super) const ELEMENTS_PER_GROUP: u64 = (GROUP_SIZE * ELEMENTS_PER_INVOCATION) as u64;
/// Elements of a workgroup that reduces.
pub(super) const SUMMANDS_PER_GROUP: u64 = (GROUP_SIZE * SUMMANDS_PER_INVOCATION) as u64;

/// The element `i` of an input.
pub(super) fn load(input: u16, dtype: DType) -> String {
    let base = format!("params[{}]", PARAMS_FIXED + usize::from(input));
    let byte = format!("data[{base} + (i >> 2u)]");
    let half = format!("data[{base} + (i >> 1u)]");
    match dtype {
        DType::Bool => format!("extractBits({byte}, (i & 3u) * 8u, 8u) != 0u"),
        DType::U8 => format!("extractBits({byte}, (i & 3u) * 8u, 8u)"),
        DType::I8 => format!("extractBits(bitcast<i32>({byte}), (i & 3u) * 8u, 8u)"),
        DType::U16 => format!("extractBits({half}, (i & 1u) * 16u, 16u)"),
        DType::I16 => format!("extractBits(bitcast<i32>({half}), (i & 1u) * 16u, 16u)"),
        DType::I32 => format!("bitcast<i32>(data[{base} + i])"),
        DType::U32 => format!("data[{base} + i]"),
        DType::F32 => format!("bitcast<f32>(data[{base} + i])"),
        DType::I64 | DType::U64 | DType::F64 => {
            format!("vec2<u32>(data[{base} + 2u * i], data[{base} + 2u * i + 1u])")
        }
    }
}

/// Bits of a dtype.
fn bits(dtype: DType) -> usize {
    8 * dtype.size()
}

/// Brings a result back into the range of a dtype smaller than its carrier; integers wrap.
fn wrapped(dtype: DType, value: String) -> String {
    if dtype.is_int() && dtype.size() < 4 {
        format!("extractBits({value}, 0u, {}u)", bits(dtype))
    } else {
        value
    }
}

/// One operand.
pub(super) fn unary(op: UnaryOp, dtype: DType, a: &str) -> Result<String, GpuError> {
    let carrier = Carrier::of(dtype)?;
    let value = match (op, carrier) {
        (UnaryOp::Neg, Carrier::Pair) => format!("pair_neg({a})"),
        (UnaryOp::Neg, Carrier::Unsigned) => format!("0u - {a}"),
        (UnaryOp::Neg, Carrier::Float) => format!("bitcast<f32>(bitcast<u32>({a}) ^ 0x80000000u)"),
        (UnaryOp::Neg, _) => format!("-{a}"),
        (UnaryOp::Abs, Carrier::Pair) if dtype.is_signed_int() => format!("pair_abs({a})"),
        (UnaryOp::Abs, Carrier::Signed) => format!("abs({a})"),
        (UnaryOp::Abs, Carrier::Float) => format!("float_of_bits(f32_magnitude_bits({a}))"),
        (UnaryOp::Abs, _) => a.to_owned(),
        (UnaryOp::Not, Carrier::Bool) => format!("!{a}"),
        (UnaryOp::Not, _) => format!("~{a}"),
        (UnaryOp::Sqrt, _) => format!("f32_sqrt({a})"),
        (UnaryOp::Floor, _) => format!("floor({a})"),
        (UnaryOp::Ceil, _) => format!("ceil({a})"),
        (UnaryOp::Trunc, _) => format!("trunc({a})"),
        (UnaryOp::Round, _) => format!("round({a})"),
        (UnaryOp::Exp, _) => format!("f32_exp({a})"),
        (UnaryOp::Log, _) => format!("f32_log({a})"),
        (UnaryOp::Sin, _) => format!("f32_sin({a})"),
        (UnaryOp::Cos, _) => format!("f32_cos({a})"),
        (UnaryOp::Tanh, _) => format!("f32_tanh({a})"),
    };
    Ok(wrapped(dtype, value))
}

/// Two operands of one dtype.
pub(super) fn binary(op: BinaryOp, dtype: DType, a: &str, b: &str) -> Result<String, GpuError> {
    let text = match Carrier::of(dtype)? {
        Carrier::Bool => binary_bool(op, a, b),
        Carrier::Pair => binary_pair(op, dtype, a, b),
        Carrier::Float => binary_float(op, a, b),
        Carrier::Signed => binary_word(op, "i32", dtype, a, b),
        Carrier::Unsigned => binary_word(op, "u32", dtype, a, b),
    };
    let Some(value) = text else {
        return Err(GpuError::Unsupported {
            what: format!("{op:?} is not defined for {dtype}"),
            help: "cast the operands to a dtype that has it".into(),
        });
    };
    // The smaller or larger of two is one of them; the identity of a reduction is outside the range of a small dtype.
    let in_range = matches!(op, BinaryOp::Min | BinaryOp::Max);
    Ok(if in_range { value } else { wrapped(dtype, value) })
}

/// `None` for what the IR does not define, here and below.
fn binary_bool(op: BinaryOp, a: &str, b: &str) -> Option<String> {
    Some(match op {
        BinaryOp::And | BinaryOp::Min => format!("{a} && {b}"),
        BinaryOp::Or | BinaryOp::Max => format!("{a} || {b}"),
        BinaryOp::Xor => format!("{a} != {b}"),
        _ => return None,
    })
}

fn binary_word(op: BinaryOp, carrier: &str, dtype: DType, a: &str, b: &str) -> Option<String> {
    let width = bits(dtype);
    Some(match op {
        BinaryOp::Add => format!("{a} + {b}"),
        BinaryOp::Sub => format!("{a} - {b}"),
        BinaryOp::Mul => format!("{a} * {b}"),
        BinaryOp::FloorDiv => format!("{carrier}_floor_div({a}, {b})"),
        BinaryOp::Div | BinaryOp::Pow => return None,
        BinaryOp::Rem => format!("{carrier}_rem({a}, {b})"),
        BinaryOp::Min => format!("min({a}, {b})"),
        BinaryOp::Max => format!("max({a}, {b})"),
        BinaryOp::And => format!("{a} & {b}"),
        BinaryOp::Or => format!("{a} | {b}"),
        BinaryOp::Xor => format!("{a} ^ {b}"),
        BinaryOp::Shl => format!("{carrier}_shl({a}, {b}, {width}u)"),
        BinaryOp::Shr => format!("{carrier}_shr({a}, {b}, {width}u)"),
    })
}

fn binary_pair(op: BinaryOp, dtype: DType, a: &str, b: &str) -> Option<String> {
    let kind = sign_name(dtype);
    Some(match op {
        BinaryOp::Add => format!("pair_add({a}, {b})"),
        BinaryOp::Sub => format!("pair_sub({a}, {b})"),
        BinaryOp::Mul => format!("pair_mul({a}, {b})"),
        BinaryOp::FloorDiv => format!("pair_floor_div_{kind}({a}, {b})"),
        BinaryOp::Div | BinaryOp::Pow => return None,
        BinaryOp::Rem => format!("pair_rem_{kind}({a}, {b})"),
        BinaryOp::Min => format!("select({a}, {b}, pair_lt_{kind}({b}, {a}))"),
        BinaryOp::Max => format!("select({a}, {b}, pair_lt_{kind}({a}, {b}))"),
        BinaryOp::And => format!("{a} & {b}"),
        BinaryOp::Or => format!("{a} | {b}"),
        BinaryOp::Xor => format!("{a} ^ {b}"),
        BinaryOp::Shl => format!("pair_shl({a}, {b})"),
        BinaryOp::Shr => format!("pair_shr_{kind}({a}, {b})"),
    })
}

fn binary_float(op: BinaryOp, a: &str, b: &str) -> Option<String> {
    Some(match op {
        BinaryOp::Add => format!("{a} + {b}"),
        BinaryOp::Sub => format!("{a} - {b}"),
        BinaryOp::Mul => format!("{a} * {b}"),
        BinaryOp::Div => format!("{a} / {b}"),
        BinaryOp::FloorDiv => format!("f32_floor_div({a}, {b})"),
        BinaryOp::Rem => format!("f32_rem({a}, {b})"),
        BinaryOp::Min => format!("f32_min({a}, {b})"),
        BinaryOp::Max => format!("f32_max({a}, {b})"),
        BinaryOp::Pow => format!("f32_pow({a}, {b})"),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr => {
            return None;
        }
    })
}

fn sign_name(dtype: DType) -> &'static str {
    if dtype.is_signed_int() { "signed" } else { "unsigned" }
}

/// A bool from two operands of one dtype.
pub(super) fn compare(op: CompareOp, dtype: DType, a: &str, b: &str) -> Result<String, GpuError> {
    let (a, b, equal, less) = match Carrier::of(dtype)? {
        Carrier::Float => {
            return Ok(match op {
                CompareOp::Eq => format!("f32_eq({a}, {b})"),
                CompareOp::Ne => format!("!f32_eq({a}, {b})"),
                CompareOp::Lt => format!("f32_lt({a}, {b})"),
                CompareOp::Le => format!("f32_le({a}, {b})"),
                CompareOp::Gt => format!("f32_lt({b}, {a})"),
                CompareOp::Ge => format!("f32_le({b}, {a})"),
            });
        }
        Carrier::Bool => (format!("u32({a})"), format!("u32({b})"), None, None),
        Carrier::Signed | Carrier::Unsigned => (a.to_owned(), b.to_owned(), None, None),
        Carrier::Pair => (
            a.to_owned(),
            b.to_owned(),
            Some("pair_eq".to_owned()),
            Some(format!("pair_lt_{}", sign_name(dtype))),
        ),
    };
    let eq = |a: &str, b: &str| match &equal {
        Some(function) => format!("{function}({a}, {b})"),
        None => format!("{a} == {b}"),
    };
    let lt = |a: &str, b: &str| match &less {
        Some(function) => format!("{function}({a}, {b})"),
        None => format!("{a} < {b}"),
    };
    Ok(match op {
        CompareOp::Eq => eq(&a, &b),
        CompareOp::Ne => format!("!({})", eq(&a, &b)),
        CompareOp::Lt => lt(&a, &b),
        CompareOp::Le => format!("!({})", lt(&b, &a)),
        CompareOp::Gt => lt(&b, &a),
        CompareOp::Ge => format!("!({})", lt(&a, &b)),
    })
}

/// NumPy's `astype`, with floats saturating.
pub(super) fn cast(from: DType, to: DType, a: &str) -> Result<String, GpuError> {
    let (source, target) = (Carrier::of(from)?, Carrier::of(to)?);
    let width = bits(to);
    Ok(match (source, target) {
        _ if from == to => a.to_owned(),
        (Carrier::Bool, Carrier::Bool) => a.to_owned(),
        (Carrier::Bool, Carrier::Signed) => format!("select(0, 1, {a})"),
        (Carrier::Bool, Carrier::Unsigned) => format!("select(0u, 1u, {a})"),
        (Carrier::Bool, Carrier::Pair) => format!("pair_of_u32(select(0u, 1u, {a}))"),
        (Carrier::Bool, Carrier::Float) => format!("select(0.0, 1.0, {a})"),
        (Carrier::Signed, Carrier::Bool) => format!("{a} != 0"),
        (Carrier::Unsigned, Carrier::Bool) => format!("{a} != 0u"),
        (Carrier::Pair, Carrier::Bool) => format!("({a}.x | {a}.y) != 0u"),
        (Carrier::Float, Carrier::Bool) => format!("f32_magnitude_bits({a}) != 0u"),
        (Carrier::Signed, Carrier::Signed) | (Carrier::Unsigned, Carrier::Unsigned) => {
            wrapped(to, a.to_owned())
        }
        (Carrier::Unsigned, Carrier::Signed) => wrapped(to, format!("bitcast<i32>({a})")),
        (Carrier::Signed, Carrier::Unsigned) => wrapped(to, format!("bitcast<u32>({a})")),
        (Carrier::Pair, Carrier::Signed) => wrapped(to, format!("bitcast<i32>({a}.x)")),
        (Carrier::Pair, Carrier::Unsigned) => wrapped(to, format!("{a}.x")),
        (Carrier::Signed, Carrier::Pair) => format!("pair_of_i32({a})"),
        (Carrier::Unsigned, Carrier::Pair) => format!("pair_of_u32({a})"),
        (Carrier::Pair, Carrier::Pair) => a.to_owned(),
        (Carrier::Signed, Carrier::Float) => format!("f32_of_i32({a})"),
        (Carrier::Unsigned, Carrier::Float) => format!("f32_of_u32({a})"),
        (Carrier::Pair, Carrier::Float) if from.is_signed_int() => format!("f32_of_i64({a})"),
        (Carrier::Pair, Carrier::Float) => format!("f32_of_u64({a})"),
        (Carrier::Float, Carrier::Signed) => format!("i32_of_f32({a}, {width}u)"),
        (Carrier::Float, Carrier::Unsigned) => format!("u32_of_f32({a}, {width}u)"),
        (Carrier::Float, Carrier::Pair) if to.is_signed_int() => format!("i64_of_f32({a})"),
        (Carrier::Float, Carrier::Pair) => format!("u64_of_f32({a})"),
        (Carrier::Float, Carrier::Float) => a.to_owned(),
    })
}

/// The same bits as another dtype of the same size.
pub(super) fn reinterpret(from: DType, to: DType, a: &str) -> Result<String, GpuError> {
    let (source, target) = (Carrier::of(from)?, Carrier::of(to)?);
    Ok(match target {
        _ if source == target => a.to_owned(),
        Carrier::Signed => wrapped(to, format!("bitcast<i32>({a})")),
        Carrier::Unsigned => wrapped(to, format!("bitcast<u32>({a})")),
        Carrier::Float => format!("bitcast<f32>({a})"),
        Carrier::Bool | Carrier::Pair => a.to_owned(),
    })
}

/// The entry point that stores elements, four per invocation.
pub(super) fn store_entry(dtype: DType) -> String {
    let store = match (dtype, dtype.size()) {
        (_, 8) => {
            "results[2u * i] = value.x;\n            results[2u * i + 1u] = value.y;".to_owned()
        }
        (DType::Bool, _) => "packed[0] |= select(0u, 1u, value) << (8u * k);".to_owned(),
        (_, 1) => "packed[0] |= (u32(value) & 0xffu) << (8u * k);".to_owned(),
        (_, 2) => "packed[k >> 1u] |= (u32(value) & 0xffffu) << (16u * (k & 1u));".to_owned(),
        (DType::U32, _) => "results[i] = value;".to_owned(),
        (DType::F32, _) => "results[i] = f32_canonical_bits(value);".to_owned(),
        _ => "results[i] = bitcast<u32>(value);".to_owned(),
    };
    let flush = match dtype.size() {
        1 => "\n    results[base >> 2u] = packed[0];",
        2 => {
            "\n    results[base >> 1u] = packed[0];\n    if (base + 2u < params[0]) {\n        \
             results[(base >> 1u) + 1u] = packed[1];\n    }"
        }
        _ => "",
    };
    let packed = if flush.is_empty() { "" } else { "\n    var packed = array<u32, 2>(0u, 0u);" };
    format!(
        "@compute @workgroup_size({GROUP_SIZE})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {{
    let base = (id.x + id.y * groups.x * {GROUP_SIZE}u) * {ELEMENTS_PER_INVOCATION}u;
    if (base >= params[0]) {{
        return;
    }}{packed}
    for (var k = 0u; k < {ELEMENTS_PER_INVOCATION}u; k++) {{
        let i = base + k;
        if (i < params[0]) {{
            let value = element(i);
            {store}
        }}
    }}{flush}
}}
"
    )
}

/// Carrier of a partial value.
pub(super) fn partial_carrier(reduction: Reduction, element: DType) -> Result<Carrier, GpuError> {
    let carrier = Carrier::of(element)?;
    Ok(match (reduction, carrier) {
        (_, Carrier::Float) => Carrier::Float,
        (Reduction::Sum | Reduction::Prod, _) => Carrier::Pair,
        (Reduction::Min | Reduction::Max, Carrier::Bool) => Carrier::Unsigned,
        (Reduction::Min | Reduction::Max, other) => other,
    })
}

/// The entry point that reduces 4,096 elements per workgroup: sixteen per invocation, then a tree over the lanes.
pub(super) fn reduce_entry(reduction: Reduction, element: DType) -> Result<String, GpuError> {
    let carrier = partial_carrier(reduction, element)?;
    let dtype = reduction.output_dtype(element);
    let summand = match (reduction, Carrier::of(element)?) {
        (Reduction::Min | Reduction::Max, Carrier::Bool) => "select(0u, 1u, element(i))".to_owned(),
        (Reduction::Min | Reduction::Max, _) => "element(i)".to_owned(),
        (Reduction::Sum | Reduction::Prod, Carrier::Float) => "element(i)".to_owned(),
        (Reduction::Sum | Reduction::Prod, _) => cast(element, dtype, "element(i)")?,
    };
    let identity = identity(reduction, dtype, carrier);
    let combine = match (reduction, carrier) {
        (Reduction::Sum, Carrier::Pair) => "pair_add(a, b)".to_owned(),
        (Reduction::Sum, _) => "a + b".to_owned(),
        (Reduction::Prod, _) => "pair_mul(a, b)".to_owned(),
        (Reduction::Min, _) if dtype == DType::Bool => "min(a, b)".to_owned(),
        (Reduction::Max, _) if dtype == DType::Bool => "max(a, b)".to_owned(),
        (Reduction::Min, _) => binary(BinaryOp::Min, dtype, "a", "b")?,
        (Reduction::Max, _) => binary(BinaryOp::Max, dtype, "a", "b")?,
    };
    let store = match carrier {
        Carrier::Pair => {
            "results[2u * group] = lanes[0].x;\n        results[2u * group + 1u] = lanes[0].y;"
                .to_owned()
        }
        other => format!("results[group] = {};", other.to_word("lanes[0]")),
    };
    let wgsl = carrier.wgsl();
    Ok(format!(
        "var<workgroup> lanes: array<{wgsl}, {GROUP_SIZE}>;

fn combine(a: {wgsl}, b: {wgsl}) -> {wgsl} {{
    return {combine};
}}

@compute @workgroup_size({GROUP_SIZE})
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {{
    let group = workgroup.x + workgroup.y * groups.x;
    var total = {identity};
    for (var k = 0u; k < {SUMMANDS_PER_INVOCATION}u; k++) {{
        let i = group * {SUMMANDS_PER_GROUP}u + k * {GROUP_SIZE}u + lane;
        if (i < params[0]) {{
            total = combine(total, {summand});
        }}
    }}
    lanes[lane] = total;
    workgroupBarrier();
    for (var half = {half}u; half > 0u; half >>= 1u) {{
        if (lane < half) {{
            lanes[lane] = combine(lanes[lane], lanes[lane + half]);
        }}
        workgroupBarrier();
    }}
    if (lane == 0u) {{
        {store}
    }}
}}
",
        half = GROUP_SIZE / 2
    ))
}

/// What leaves every value as it is. At least one element is real, so a bound of the carrier does for min and max.
fn identity(reduction: Reduction, dtype: DType, carrier: Carrier) -> &'static str {
    let signed = dtype.is_signed_int();
    match (reduction, carrier) {
        (Reduction::Sum, Carrier::Float) => "0.0",
        (Reduction::Sum, _) => "vec2<u32>(0u, 0u)",
        (Reduction::Prod, _) => "vec2<u32>(1u, 0u)",
        (Reduction::Min, Carrier::Float) => "float_of_bits(0x7f800000u)",
        (Reduction::Max, Carrier::Float) => "float_of_bits(0xff800000u)",
        (Reduction::Min, Carrier::Pair) if signed => "vec2<u32>(0xffffffffu, 0x7fffffffu)",
        (Reduction::Max, Carrier::Pair) if signed => "vec2<u32>(0u, 0x80000000u)",
        (Reduction::Min, Carrier::Pair) => "vec2<u32>(0xffffffffu, 0xffffffffu)",
        (Reduction::Max, Carrier::Pair) => "vec2<u32>(0u, 0u)",
        (Reduction::Min, Carrier::Signed) => "i32(2147483647)",
        (Reduction::Max, Carrier::Signed) => "i32(-2147483648)",
        (Reduction::Min, Carrier::Unsigned | Carrier::Bool) => "0xffffffffu",
        (Reduction::Max, Carrier::Unsigned | Carrier::Bool) => "0u",
    }
}
